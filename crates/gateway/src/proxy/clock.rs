//! The time that a request may take. It runs from the moment that the client's request has come completely, as Envoy counts it: an
//! upload takes as long as it takes, and a stream that the client keeps open is not cut.

use std::sync::{Arc, OnceLock};
use std::task::Context;
use std::time::Duration;

use futures::task::AtomicWaker;
use tokio::sync::Notify;
use tokio::time::Instant;

/// A limit that begins to count once.
#[derive(Debug)]
pub(crate) struct Clock {
    limit: Duration,
    began: OnceLock<Instant>,
    /// Whoever waits for the head of the answer.
    waiting: Notify,
    /// Whoever reads its body.
    reading: AtomicWaker,
}

impl Clock {
    /// One that waits for [`Self::begin`].
    pub(crate) fn new(limit: Duration) -> Arc<Self> {
        Arc::new(Self {
            limit,
            began: OnceLock::new(),
            waiting: Notify::new(),
            reading: AtomicWaker::new(),
        })
    }

    /// The request has come completely. Only the first call counts.
    pub(crate) fn begin(&self) {
        if self.began.set(Instant::now()).is_ok() {
            self.waiting.notify_one();
            self.reading.wake();
        }
    }

    fn end(&self) -> Option<Instant> {
        self.began.get().map(|began| *began + self.limit)
    }

    /// Waits until the time is over.
    pub(crate) async fn over(&self) {
        loop {
            match self.end() {
                Some(end) => return tokio::time::sleep_until(end).await,
                None => self.waiting.notified().await,
            }
        }
    }

    /// When the time is over, if it has begun; else the task is woken when it does.
    pub(crate) fn poll_end(&self, context: &Context<'_>) -> Option<Instant> {
        if let Some(end) = self.end() {
            return Some(end);
        }
        self.reading.register(context.waker());
        // It may have begun between the two.
        self.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_runs_from_the_end_of_the_request() {
        let clock = Clock::new(Duration::from_secs(1));
        let mut over = Box::pin(clock.over());
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(futures::poll!(&mut over).is_pending());
        clock.begin();
        tokio::time::advance(Duration::from_millis(900)).await;
        clock.begin();
        assert!(futures::poll!(&mut over).is_pending());
        tokio::time::advance(Duration::from_millis(200)).await;
        assert!(futures::poll!(&mut over).is_ready());
    }
}
