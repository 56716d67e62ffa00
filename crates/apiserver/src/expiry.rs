//! Events are kept for an hour, as in a real cluster: they are many, and nobody deletes them. Documents that nobody asks for
//! are kept for a minute.

use std::sync::Arc;
use std::time::Duration;

use choreo_store::{Object, Write};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;

/// How long an event is kept after it last happened.
const KEPT: SignedDuration = SignedDuration::from_hours(1);

/// How often events are looked through.
const EVERY: Duration = Duration::from_secs(60);

/// Events that are deleted in one commit at most.
const BATCH: usize = 500;

/// Works until `shutdown`.
pub(crate) async fn run(cluster: Arc<Cluster>, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {
                cluster.served().forget();
                sweep(&cluster, Timestamp::now()).await;
            }
        }
    }
}

/// Deletes the events that are over at the given time.
async fn sweep(cluster: &Cluster, now: Timestamp) {
    let snapshot = cluster.store().snapshot();
    let over: Vec<Write> = snapshot
        .iter("events", None, None)
        .filter(|event| is_over(event, now))
        .map(|event| Write::Delete {
            key: event.key().clone(),
            expect: event.revision(),
        })
        .take(BATCH)
        .collect();
    drop(snapshot);
    for write in over {
        // One that has happened again meanwhile stays; anything else is tried again at the next sweep.
        if let Err(error) = cluster.store().write(write).await {
            tracing::debug!("an event was not removed: {error}");
        }
    }
}

fn is_over(event: &Object, now: Timestamp) -> bool {
    let event = event.value();
    let times = [
        "/series/lastObservedTime",
        "/lastTimestamp",
        "/eventTime",
        "/metadata/creationTimestamp",
    ];
    let last = times
        .iter()
        .filter_map(|t| {
            event
                .pointer(t)
                .and_then(Value::as_str)?
                .parse::<Timestamp>()
                .ok()
        })
        .max();
    last.is_some_and(|last| now.duration_since(last) > KEPT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use choreo_store::{Key, Store};
    use serde_json::json;

    #[tokio::test]
    async fn old_events_go_and_repeated_ones_stay() {
        let store = Store::in_memory();
        let cluster =
            Cluster::open("c", store.cluster("c"), crate::cluster::Settings::plain(), None).unwrap();
        let write = |name: &str, last: &str| Write::Create {
            key: Key::new("events", "default", name),
            value: json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}, "lastTimestamp": last}),
        };
        cluster
            .store()
            .write(write("old", "2026-01-01T00:00:10Z"))
            .await
            .unwrap();
        cluster
            .store()
            .write(write("again", "2026-01-01T01:30:00Z"))
            .await
            .unwrap();
        sweep(&cluster, "2026-01-01T02:00:00Z".parse().unwrap()).await;
        let left: Vec<String> = cluster
            .store()
            .snapshot()
            .iter("events", None, None)
            .map(|e| e.key().name().to_owned())
            .collect();
        assert_eq!(left, ["again"]);
    }
}
