//! Threads of their own for connections. A connection stays with one of them, and with it the connections to backends that it uses: nothing
//! is handed from thread to thread while a request is under way, each thread waits for its own sockets only, and what else the
//! process has to do (working out a table, say) keeps no request waiting.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Most threads, each with its own connections to every backend.
pub(crate) const MOST: usize = 4;

thread_local! {
    static INDEX: Cell<usize> = const { Cell::new(0) };
}

/// Which of the threads this is; 0 elsewhere.
pub(crate) fn index() -> usize {
    INDEX.get()
}

/// The threads. They end when this is dropped, with whatever they still do.
pub(crate) struct Workers {
    turn: Turn,
    _stop: DropGuard,
}

/// Hands connections out, one thread after the other. Clones do it together.
#[derive(Clone)]
pub(crate) struct Turn {
    handles: Arc<[Handle]>,
    next: Arc<AtomicUsize>,
}

impl Workers {
    /// As many as there are processors, but no more than [`MOST`].
    ///
    /// # Errors
    /// Those of the system, when it gives no thread.
    pub(crate) fn start() -> io::Result<Self> {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        let stop = CancellationToken::new();
        // Also those that have begun when the system gives no more.
        let guard = stop.clone().drop_guard();
        let mut handles = Vec::new();
        for i in 0..count.min(MOST) {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            handles.push(runtime.handle().clone());
            let stop = stop.clone();
            std::thread::Builder::new()
                .name(format!("gateway-{i}"))
                .spawn(move || {
                    INDEX.set(i);
                    runtime.block_on(stop.cancelled());
                })?;
        }
        Ok(Self {
            turn: Turn {
                handles: handles.into(),
                next: Arc::default(),
            },
            _stop: guard,
        })
    }

    pub(crate) fn turn(&self) -> Turn {
        self.turn.clone()
    }
}

impl Turn {
    /// The thread whose turn it is.
    pub(crate) fn next(&self) -> &Handle {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        &self.handles[next % self.handles.len()]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[tokio::test]
    async fn threads_take_turns_and_know_which_they_are() {
        let workers = Workers::start().unwrap();
        let turn = workers.turn();
        let mut found = Vec::new();
        for _ in 0..2 * turn.handles.len() {
            found.push(turn.next().spawn(async { index() }).await.unwrap());
        }
        let all: BTreeSet<usize> = found.iter().copied().collect();
        assert_eq!(all.len(), turn.handles.len(), "{found:?}");
        assert!(all.iter().all(|index| *index < MOST));
        // What they did ends with them.
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        turn.next().spawn(async move {
            std::future::pending::<()>().await;
            drop(sender);
        });
        drop(workers);
        assert!(receiver.await.is_err());
    }
}
