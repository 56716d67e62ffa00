//! What people are told of denied connections: enough, and no more.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::agent::Runtime;

/// A denied connection is told at most this often for a Pod and a destination.
const TOLD: Duration = Duration::from_secs(60);
/// Destinations of one Pod that are told of within that time.
const MOST_TOLD: usize = 20;

/// What has been told of denied connections, and when.
#[derive(Default)]
pub(crate) struct Told(Mutex<BTreeMap<(String, String), Instant>>);

impl Told {
    fn is_news(&self, pod: &str, what: &str) -> bool {
        let now = Instant::now();
        let mut told = self.0.lock();
        told.retain(|_, time| now.duration_since(*time) < TOLD);
        // Somebody who tries name after name is not told of each.
        if told
            .range((pod.to_owned(), String::new())..)
            .take_while(|((of, _), _)| of == pod)
            .count()
            >= MOST_TOLD
        {
            return false;
        }
        let key = (pod.to_owned(), what.to_owned());
        let news = !told.contains_key(&key);
        if news {
            told.insert(key, now);
        }
        news
    }
}

pub(super) fn deny(runtime: &Runtime, pod: &Pod, what: &str, why: &str) {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    runtime.denied.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    if runtime.told.is_news(uid, what) {
        let message = format!(
            "denied to reach {what}: {why}. Declare a connection to it in the Workload, or add a policy that allows it"
        );
        runtime
            .context
            .recorder
            .warning(pod, "choreo-relay", "ConnectionDenied", message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denied_connection_is_told_once_in_a_while() {
        let told = Told::default();
        assert!(told.is_news("a", "x:443"));
        assert!(!told.is_news("a", "x:443"));
        assert!(told.is_news("b", "x:443"));
        assert!(told.is_news("a", "y:443"));
    }

    #[test]
    fn a_pod_that_tries_everything_is_not_told_of_everything() {
        let told = Told::default();
        let told_of = (0..1000)
            .filter(|i| told.is_news("a", &format!("{i}.example.com:443")))
            .count();
        assert_eq!(told_of, MOST_TOLD);
        assert!(told.is_news("b", "x:443"));
    }
}
