//! What a Pod's annotations tell the simulator to do with it.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::Pod;

use super::{BEHAVIOR, CONTAINER, DELAY};

/// Delay of `slow-start` if none is given.
const SLOW: Duration = Duration::from_secs(10);

/// How the containers of a Pod behave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Behavior {
    /// They run, are ready, and complete after the delay if they are of a Job.
    Healthy {
        delay: Duration,
    },
    CrashLoop,
    ImagePullError,
    SlowStart {
        delay: Duration,
    },
    NotReady,
}

impl Behavior {
    /// Of one container of a Pod. An unknown word counts as healthy; the second value then says so.
    pub(crate) fn of(pod: &Pod, container: &str) -> (Self, Option<String>) {
        let none = BTreeMap::new();
        let annotations = pod.metadata.annotations.as_ref().unwrap_or(&none);
        let delay = annotations.get(DELAY).map(|text| duration(text));
        let healthy = Behavior::Healthy {
            delay: delay.flatten().unwrap_or_default(),
        };
        let bad_delay = match (annotations.get(DELAY), delay) {
            (Some(text), Some(None)) => Some(format!(
                "annotation {DELAY}: {text:?} is no duration such as 500ms, 30s or 2m"
            )),
            _ => None,
        };
        if annotations.get(CONTAINER).is_some_and(|only| only != container) {
            return (healthy, bad_delay);
        }
        let behavior = match annotations.get(BEHAVIOR).map(String::as_str) {
            None | Some("") => healthy,
            Some("crash-loop") => Behavior::CrashLoop,
            Some("image-pull-error") => Behavior::ImagePullError,
            Some("slow-start") => Behavior::SlowStart {
                delay: delay.flatten().unwrap_or(SLOW),
            },
            Some("not-ready") => Behavior::NotReady,
            Some(other) => {
                let known = "crash-loop, image-pull-error, slow-start, not-ready";
                return (
                    healthy,
                    Some(format!(
                        "annotation {BEHAVIOR}: {other:?} is unknown, known are {known}"
                    )),
                );
            }
        };
        (behavior, bad_delay)
    }
}

/// `500ms`, `30s`, `2m`, `1h`, or a number of seconds.
fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let number: f64 = number.parse().ok()?;
    let seconds = match unit {
        "ms" => number / 1000.0,
        "" | "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    fn pod(annotations: &[(&str, &str)]) -> Pod {
        let annotations = annotations
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        Pod {
            metadata: ObjectMeta {
                annotations: Some(annotations),
                ..ObjectMeta::default()
            },
            ..Pod::default()
        }
    }

    #[test]
    fn durations() {
        for (text, expected) in [
            ("500ms", Some(500)),
            ("30s", Some(30_000)),
            ("1.5m", Some(90_000)),
            ("2", Some(2000)),
            ("1h", Some(3_600_000)),
            ("soon", None),
            ("-1s", None),
            ("1d", None),
        ] {
            assert_eq!(duration(text), expected.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn annotations_choose_the_behavior() {
        let healthy = Behavior::Healthy {
            delay: Duration::ZERO,
        };
        assert_eq!(Behavior::of(&pod(&[]), "a"), (healthy.clone(), None));
        assert_eq!(
            Behavior::of(&pod(&[(BEHAVIOR, "crash-loop")]), "a").0,
            Behavior::CrashLoop
        );
        assert_eq!(
            Behavior::of(&pod(&[(BEHAVIOR, "crash-loop"), (CONTAINER, "b")]), "a").0,
            healthy
        );
        let slow = Behavior::of(&pod(&[(BEHAVIOR, "slow-start"), (DELAY, "3s")]), "a").0;
        assert_eq!(
            slow,
            Behavior::SlowStart {
                delay: Duration::from_secs(3)
            }
        );
        assert!(
            Behavior::of(&pod(&[(BEHAVIOR, "explode")]), "a")
                .1
                .unwrap()
                .contains("explode")
        );
        assert!(
            Behavior::of(&pod(&[(DELAY, "soon")]), "a")
                .1
                .unwrap()
                .contains("soon")
        );
    }
}
