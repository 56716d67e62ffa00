//! What goes first: others wait for it before they begin something.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// The longest that anything waits for what goes first. It ends a wait that would starve, and bounds what a call that hangs holds up.
const LIMIT: Duration = Duration::from_secs(1);

/// How much there is that goes first. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Precedence(Arc<watch::Sender<usize>>);

impl Default for Precedence {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }
}

impl Precedence {
    pub(super) fn begin(&self) {
        self.0.send_if_modified(|count| {
            *count += 1;
            false
        });
    }

    pub(super) fn end(&self) {
        // Only the last one is worth waking anybody.
        self.0.send_if_modified(|count| {
            *count = count.saturating_sub(1);
            *count == 0
        });
    }

    /// Waits until nothing goes first, or for a second.
    pub async fn clear(&self) {
        let mut count = self.0.subscribe();
        let clear = count.wait_for(|count| *count == 0);
        // Whoever counts lives as long as this does.
        let _ = tokio::time::timeout(LIMIT, clear).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let precedence = Precedence::default();
        let waited = async || {
            let began = Instant::now();
            precedence.clear().await;
            began.elapsed()
        };
        assert_eq!(waited().await, Duration::ZERO);
        precedence.begin();
        precedence.begin();
        precedence.end();
        assert_eq!(waited().await, LIMIT);
        let other = precedence.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            other.end();
        });
        assert_eq!(waited().await, Duration::from_millis(5));
    }
}
