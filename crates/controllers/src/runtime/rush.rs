//! What cannot wait, in all queues together: what can wait lets it go before.

use std::sync::Arc;

use tokio::sync::watch;

/// How many keys are ready that cannot wait, in all queues that share it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Rush(Arc<watch::Sender<usize>>);

impl Default for Rush {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }
}

impl Rush {
    /// One queue has `now` such keys, and had `before`.
    pub(super) fn change(&self, before: usize, now: usize) {
        if before == now {
            return;
        }
        self.0.send_if_modified(|count| {
            *count = (*count + now).saturating_sub(before);
            // Only the end is worth waking anybody.
            *count == 0
        });
    }

    /// Whether there are any.
    pub(super) fn is_on(&self) -> bool {
        *self.0.borrow() > 0
    }

    /// Waits until there are none. Counts from when it is made, and not from when it is first polled.
    pub(super) fn over(&self) -> impl Future<Output = ()> + use<> {
        let mut count = self.0.subscribe();
        async move {
            // Whoever counts lives as long as the queue that waits.
            let _ = count.wait_for(|count| *count == 0).await;
        }
    }
}
