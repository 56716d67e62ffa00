//! The circuit breaker of one rule's backends (`BackendTrafficPolicy.circuitBreaker`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::api::envoy::CircuitBreaker;

/// Envoy Gateway's value for what a policy does not say.
const DEFAULT: u32 = 1024;

/// Limits, and what is under way.
#[derive(Debug)]
pub(crate) struct Limits {
    pub(crate) settings: CircuitBreaker,
    connections: Arc<Semaphore>,
    pending: Counter,
    requests: Counter,
    retries: Counter,
}

#[derive(Debug)]
struct Counter {
    now: Arc<AtomicU32>,
    most: u32,
}

/// Something under way that is counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Counted(Arc<AtomicU32>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Counter {
    fn new(most: Option<u32>) -> Self {
        Self {
            now: Arc::default(),
            most: most.unwrap_or(DEFAULT),
        }
    }

    fn enter(&self) -> Option<Counted> {
        let before = self.now.fetch_add(1, Ordering::AcqRel);
        let entered = Counted(Arc::clone(&self.now));
        (before < self.most).then_some(entered)
    }
}

/// A limit is reached: the request is refused instead of being queued.
#[derive(Debug)]
pub(crate) struct Overflow;

impl Limits {
    pub(crate) fn new(settings: CircuitBreaker) -> Self {
        Self {
            connections: Arc::new(Semaphore::new(
                settings.max_connections.unwrap_or(DEFAULT) as usize
            )),
            pending: Counter::new(settings.max_pending_requests),
            requests: Counter::new(settings.max_parallel_requests),
            retries: Counter::new(settings.max_parallel_retries),
            settings,
        }
    }

    /// A request begins.
    pub(crate) fn request(&self) -> Result<Counted, Overflow> {
        self.requests.enter().ok_or(Overflow)
    }

    /// A retry begins.
    pub(crate) fn retry(&self) -> Result<Counted, Overflow> {
        self.retries.enter().ok_or(Overflow)
    }

    /// Waits for a connection to be free, among as many others as may wait.
    pub(crate) async fn connection(&self) -> Result<OwnedSemaphorePermit, Overflow> {
        if let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() {
            return Ok(permit);
        }
        let _waiting = self.pending.enter().ok_or(Overflow)?;
        Arc::clone(&self.connections)
            .acquire_owned()
            .await
            .map_err(|_| Overflow)
    }

    /// A connection, or nothing if none is free.
    pub(crate) fn try_connection(&self) -> Result<OwnedSemaphorePermit, Overflow> {
        Arc::clone(&self.connections)
            .try_acquire_owned()
            .map_err(|_| Overflow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_then_the_queue_then_overflow() {
        let limits = Arc::new(Limits::new(CircuitBreaker {
            max_connections: Some(1),
            max_pending_requests: Some(1),
            ..CircuitBreaker::default()
        }));
        let first = limits.connection().await.unwrap();
        let mut waiting = Box::pin(limits.connection());
        assert!(futures::poll!(&mut waiting).is_pending());
        assert!(limits.connection().await.is_err());
        drop(first);
        assert!(waiting.await.is_ok());
    }

    #[test]
    fn what_ends_is_no_longer_counted() {
        let limits = Limits::new(CircuitBreaker {
            max_parallel_requests: Some(1),
            ..CircuitBreaker::default()
        });
        let first = limits.request().unwrap();
        assert!(limits.request().is_err());
        drop(first);
        assert!(limits.request().is_ok());
    }
}
