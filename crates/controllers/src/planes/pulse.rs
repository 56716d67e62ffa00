//! When a plane's clusters are asked next whether they are there.
//!
//! Events tell first: a watch that breaks, a request that fails ([`super::plane::PlaneListener::look_again`]). What is here is for
//! a connection that stays open and silent, and for the return of a cluster that is gone.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;

use super::ConnectError;
use crate::runtime::{Backoff, Key, Next};

/// How often a cluster over the network is asked whether it is still there. Its watches tell sooner if the connection breaks; one
/// that is silent is only noticed so.
const PROBE: Duration = Duration::from_secs(2);
/// How soon one that does not answer is tried again: each plane for itself, so that many that went away together do not come back
/// together, and so soon that it is seen within seconds.
const RETRY: Backoff = Backoff {
    base: Duration::from_millis(500),
    cap: Duration::from_millis(3500),
    jitter: 0.4,
};

/// Counts the fruitless tries of every plane.
#[derive(Debug, Default)]
pub struct Pulse {
    failures: Mutex<BTreeMap<Key, u32>>,
}

impl Pulse {
    /// When to look at a plane again, after one look at its clusters: for each, whether it is reached over the network, and why not.
    pub fn next<'a>(
        &self,
        plane: &Key,
        outcomes: impl Iterator<Item = (bool, Option<&'a ConnectError>)>,
    ) -> Next {
        let (mut unreachable, mut answers) = (false, false);
        for (remote, error) in outcomes {
            unreachable |= matches!(error, Some(ConnectError::Unreachable(_)));
            answers |= remote && error.is_none();
        }
        let mut failures = self.failures.lock();
        if unreachable {
            let failures = failures.entry(plane.clone()).or_insert(0);
            *failures = failures.saturating_add(1);
            return Next::After(RETRY.delay(*failures));
        }
        failures.remove(plane);
        match answers {
            true => Next::After(PROBE),
            // A mistake in the spec or a missing Secret comes back as an event.
            false => Next::Settled,
        }
    }

    /// Forgets a plane.
    pub fn forget(&self, plane: &Key) {
        self.failures.lock().remove(plane);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_get_rarer_and_an_answer_ends_that() {
        let (pulse, key) = (Pulse::default(), Key::new("a", "b"));
        let gone = ConnectError::Unreachable("gone".to_owned());
        let wrong = ConnectError::Invalid("no Secret".to_owned());
        let wait =
            |outcomes: &[(bool, Option<&ConnectError>)]| match pulse.next(&key, outcomes.iter().copied()) {
                Next::After(wait) => Some(wait),
                Next::Settled | Next::FirstAfter(_) => None,
            };
        let first = wait(&[(true, Some(&gone))]).unwrap();
        assert!(first <= Duration::from_millis(500), "{first:?}");
        for _ in 0..9 {
            wait(&[(true, None), (true, Some(&gone))]);
        }
        let tenth = wait(&[(true, Some(&gone))]).unwrap();
        assert!(tenth > Duration::from_secs(2) && tenth <= RETRY.cap, "{tenth:?}");
        assert_eq!(wait(&[(true, None)]), Some(PROBE));
        assert!(wait(&[(true, Some(&gone))]).unwrap() <= Duration::from_millis(500));
        // One in this process is there, and a mistake waits for its author.
        assert_eq!(wait(&[(false, None)]), None);
        assert_eq!(wait(&[(true, Some(&wrong))]), None);
    }
}
