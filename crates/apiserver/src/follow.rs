//! How the server's own controllers follow what is stored.
//!
//! A controller is a *round*: it takes a snapshot, watches from there and works on what the watch tells. A round that falls
//! behind is begun again; the end of the store, or of the server, ends it.

use std::convert::Infallible;

use choreo_store::{Event, RevisionError, Watch, WatchError};
use tokio_util::sync::CancellationToken;

/// Why a round ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The store was closed.
    Closed,
    /// Changes have been missed, so what is there has to be looked at anew.
    Behind,
}

impl From<WatchError> for Ended {
    fn from(error: WatchError) -> Ended {
        match error {
            WatchError::Closed => Ended::Closed,
            WatchError::Lagged { .. } => Ended::Behind,
        }
    }
}

impl From<RevisionError> for Ended {
    fn from(_: RevisionError) -> Ended {
        Ended::Behind
    }
}

/// What a round gives: it ends with a reason only.
pub(crate) type Round = Result<Infallible, Ended>;

/// Does rounds until `shutdown`, or until the store is closed.
pub(crate) async fn rounds<F>(shutdown: CancellationToken, mut round: impl FnMut() -> F)
where
    F: Future<Output = Round> + Send,
{
    let work = async {
        loop {
            match round().await {
                Ok(never) => match never {},
                Err(Ended::Closed) => return,
                Err(Ended::Behind) => {}
            }
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = work => {}
    }
}

/// Waits for a change, and takes those that are there with it: what a burst brings about is worked out once.
///
/// # Errors
/// Those of the watch.
pub(crate) async fn burst(watch: &mut Watch, mut each: impl FnMut(&Event)) -> Result<(), Ended> {
    each(&*watch.next().await?);
    while let Some(event) = watch.try_next()? {
        each(&event);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use choreo_store::{Key, Store, Write};
    use serde_json::json;
    use std::cell::Cell;

    fn create(name: &str) -> Write {
        Write::Create {
            key: Key::new("things", "", name),
            value: json!({"metadata": {"name": name}}),
        }
    }

    #[tokio::test]
    async fn a_burst_is_taken_at_once() {
        let store = Store::in_memory();
        let cluster = store.cluster("c");
        let mut watch = cluster.watch(None, None, cluster.revision()).unwrap();
        for name in ["a", "b", "c"] {
            cluster.write(create(name)).await.unwrap();
        }
        let mut seen = Vec::new();
        burst(&mut watch, |event| {
            seen.push(event.object.key().name().to_owned())
        })
        .await
        .unwrap();
        assert_eq!(seen, ["a", "b", "c"]);
    }

    #[tokio::test]
    async fn rounds_begin_again_until_the_store_ends() {
        let done = Cell::new(0);
        let round = || {
            done.set(done.get() + 1);
            let ended = if done.get() < 3 {
                Ended::Behind
            } else {
                Ended::Closed
            };
            std::future::ready(Err(ended))
        };
        rounds(CancellationToken::new(), round).await;
        assert_eq!(done.get(), 3);
    }

    #[tokio::test]
    async fn the_end_of_the_server_ends_a_round() {
        let shutdown = CancellationToken::new();
        shutdown.cancel();
        rounds(shutdown, std::future::pending).await;
    }
}
