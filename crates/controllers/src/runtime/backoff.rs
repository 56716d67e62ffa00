//! How long to wait before trying a key again.

use std::time::Duration;

/// Exponential back-off with jitter, bounded at both ends.
///
/// The first retries come quickly, because most failures in a control loop are races (a conflict, a cache that is a
/// moment behind); a failure that stays is retried at the cap. Jitter keeps keys that failed together, for example
/// because their data plane went away, from coming back together.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// Wait after the first failure.
    pub base: Duration,
    /// Longest wait.
    pub cap: Duration,
    /// Part of the wait that is random: 0.0 (none) to 1.0.
    pub jitter: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(10),
            cap: Duration::from_secs(30),
            jitter: 0.3,
        }
    }
}

impl Backoff {
    /// Wait before the retry that follows failure number `failures` (1 = the first one).
    pub fn delay(&self, failures: u32) -> Duration {
        self.delay_with(failures, rand::random::<f64>())
    }

    /// As [`Backoff::delay`] with the random number given; `random` is in `0.0..1.0`.
    pub fn delay_with(&self, failures: u32, random: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        let full = self.base.saturating_mul(1 << doublings).min(self.cap);
        full.mul_f64(1.0 - self.jitter * random.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_cap_and_jitter_only_shortens() {
        let backoff = Backoff {
            base: Duration::from_millis(10),
            cap: Duration::from_secs(1),
            jitter: 0.5,
        };
        let millis = |failures, random| backoff.delay_with(failures, random).as_millis();
        assert_eq!(millis(1, 0.0), 10);
        assert_eq!(millis(2, 0.0), 20);
        assert_eq!(millis(5, 0.0), 160);
        assert_eq!(millis(40, 0.0), 1000);
        assert_eq!(millis(40, 1.0), 500);
    }
}
