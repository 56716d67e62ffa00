//! The time of day. What waits for days and hours (the end of a certificate, the patience with a cluster that is gone) asks this
//! clock, so that a test can move it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::time::Instant;

/// The time of day; the machine's unless it is made to be moved.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// How far it is ahead of the machine's.
    ahead: Option<watch::Receiver<SignedDuration>>,
}

/// Moves a [`Clock`], and all clones of it.
#[derive(Debug)]
pub struct Hand(watch::Sender<SignedDuration>);

impl Clock {
    /// A clock that is ahead of the machine's (behind it, if negative), and what moves it.
    pub fn movable(ahead: SignedDuration) -> (Self, Hand) {
        let (hand, ahead) = watch::channel(ahead);
        (Self { ahead: Some(ahead) }, Hand(hand))
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        match &self.ahead {
            None => now,
            Some(ahead) => now.checked_add(*ahead.borrow()).unwrap_or(now),
        }
    }

    /// Waits until so much time has passed on this clock.
    pub async fn sleep(&self, wait: Duration) {
        let Some(ahead) = &self.ahead else {
            return tokio::time::sleep(wait).await;
        };
        let mut ahead = ahead.clone();
        let (began, before) = (Instant::now(), *ahead.borrow_and_update());
        loop {
            let moved = ahead.borrow_and_update().saturating_sub(before);
            let moved = Duration::try_from(moved).unwrap_or(Duration::ZERO);
            let passed = began.elapsed().saturating_add(moved);
            let Some(rest) = wait.checked_sub(passed).filter(|rest| !rest.is_zero()) else {
                return;
            };
            let moves_on = tokio::select! {
                () = tokio::time::sleep(rest) => true,
                changed = ahead.changed() => changed.is_ok(),
            };
            if !moves_on {
                // Nobody moves it any more.
                return tokio::time::sleep(rest).await;
            }
        }
    }
}

impl Hand {
    /// Moves the clock on.
    pub fn forward(&self, by: SignedDuration) {
        self.0.send_modify(|ahead| *ahead = ahead.saturating_add(by));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_moved_clock_wakes_those_who_have_waited_long_enough() {
        let (clock, hand) = Clock::movable(SignedDuration::from_hours(-10));
        assert!(clock.now() < Timestamp::now() - SignedDuration::from_hours(9));
        let long = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep(Duration::from_secs(7200)).await }
        });
        let began = Instant::now();
        tokio::task::yield_now().await;
        hand.forward(SignedDuration::from_hours(1));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!long.is_finished(), "an hour is not two");
        hand.forward(SignedDuration::from_hours(1));
        long.await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        // What is left passes as it always does.
        let rest = clock.sleep(Duration::from_secs(5));
        rest.await;
        assert!(began.elapsed() >= Duration::from_secs(5));
    }
}
