//! What a namespace asks for with its labels.

use std::fmt;

use choreo_apimachinery::field::{FieldError, FieldPath};
use serde_json::Value;

/// How much Pods may do; later levels allow less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    fn read(text: &str) -> Option<Level> {
        Some(match text {
            "privileged" => Level::Privileged,
            "baseline" => Level::Baseline,
            "restricted" => Level::Restricted,
            _ => return None,
        })
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        })
    }
}

/// As of which Kubernetes the standard is meant; the newest one comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    /// `v1.` and this number.
    Minor(i64),
    /// The newest that this server knows.
    Latest,
}

impl Version {
    fn read(text: &str) -> Option<Version> {
        if text == "latest" {
            return Some(Version::Latest);
        }
        let digits = text.strip_prefix("v1.")?;
        let plain = digits == "0" || (!digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit()));
        let minor = digits.parse().ok().filter(|_| plain)?;
        Some(Version::Minor(minor))
    }

    /// Whether what came with a minor version is in this one.
    pub(super) fn has(self, since: i64) -> bool {
        self >= Version::Minor(since)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Version::Minor(minor) => write!(f, "v1.{minor}"),
            Version::Latest => f.write_str("latest"),
        }
    }
}

/// A level as of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standard {
    pub(super) level: Level,
    pub(super) version: Version,
}

impl Standard {
    /// Everything is allowed: what counts where nothing is said.
    pub(super) const PRIVILEGED: Standard = Standard {
        level: Level::Privileged,
        version: Version::Latest,
    };
}

impl fmt::Display for Standard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.level, self.version)
    }
}

/// What is asked for in each mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) enforce: Standard,
    pub(super) audit: Standard,
    pub(super) warn: Standard,
}

impl Policy {
    /// Whether nothing can come of looking at a Pod, or at a template.
    pub(super) fn is_silent(&self, is_pod: bool) -> bool {
        let told = self.audit.level.max(self.warn.level);
        let most = if is_pod {
            told.max(self.enforce.level)
        } else {
            told
        };
        most == Level::Privileged
    }

    /// Reads the labels of a namespace. What makes no sense is told, and counts as what is safe: the newest restricted standard
    /// is enforced, and nothing is told of.
    pub(super) fn read(labels: &Value) -> (Policy, Vec<FieldError>) {
        let mut policy = Policy {
            enforce: Standard::PRIVILEGED,
            audit: Standard::PRIVILEGED,
            warn: Standard::PRIVILEGED,
        };
        let mut wrong = Vec::new();
        if labels.as_object().is_none_or(serde_json::Map::is_empty) {
            return (policy, wrong);
        }
        let enforces = read_mode(labels, &MODES[0], &mut policy.enforce, &mut wrong);
        read_mode(labels, &MODES[1], &mut policy.audit, &mut wrong);
        read_mode(labels, &MODES[2], &mut policy.warn, &mut wrong);
        // Who enforces is told about templates as well, unless they say how they want it.
        let [_, _, warn] = &MODES;
        if enforces && labels.get(warn.level).is_none() && policy.enforce.level > policy.warn.level {
            policy.warn.level = policy.enforce.level;
            if labels.get(warn.version).is_none() {
                policy.warn.version = policy.enforce.version;
            }
        }
        (policy, wrong)
    }
}

/// The labels of a mode, and the level that a mistake counts as.
struct Mode {
    level: &'static str,
    version: &'static str,
    mistaken: Level,
}

const MODES: [Mode; 3] = [
    Mode {
        level: "pod-security.kubernetes.io/enforce",
        version: "pod-security.kubernetes.io/enforce-version",
        mistaken: Level::Restricted,
    },
    Mode {
        level: "pod-security.kubernetes.io/audit",
        version: "pod-security.kubernetes.io/audit-version",
        mistaken: Level::Privileged,
    },
    Mode {
        level: "pod-security.kubernetes.io/warn",
        version: "pod-security.kubernetes.io/warn-version",
        mistaken: Level::Privileged,
    },
];

/// Reads the labels of a mode. Says whether they have a level.
fn read_mode(labels: &Value, mode: &Mode, into: &mut Standard, wrong: &mut Vec<FieldError>) -> bool {
    let path = FieldPath::new("metadata");
    let path = path.child("labels");
    let mut wrong_at = |label: &str, value: &str, why: &str| {
        wrong.push(FieldError::invalid(&path.key(label), value, why));
    };
    let mut says = false;
    if let Some(text) = labels.get(mode.level).and_then(Value::as_str) {
        let level = Level::read(text);
        says = level.is_some();
        into.level = level.unwrap_or(mode.mistaken);
        if !says {
            wrong_at(
                mode.level,
                text,
                "must be one of privileged, baseline, restricted",
            );
        }
    }
    if let Some(text) = labels.get(mode.version).and_then(Value::as_str) {
        let version = Version::read(text);
        into.version = version.unwrap_or(Version::Latest);
        if version.is_none() {
            wrong_at(mode.version, text, "must be \"latest\" or \"v1.x\"");
        }
    }
    says
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(labels: &[(&str, &str)]) -> (String, Vec<String>) {
        let labels = labels
            .iter()
            .map(|(k, v)| (format!("pod-security.kubernetes.io/{k}"), json!(v)));
        let (policy, wrong) = Policy::read(&Value::Object(labels.collect()));
        let policy = format!("{} {} {}", policy.enforce, policy.audit, policy.warn);
        (policy, wrong.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn without_labels_everything_is_allowed() {
        let all = "privileged:latest privileged:latest privileged:latest";
        assert_eq!(read(&[]), (all.to_owned(), Vec::new()));
        let (policy, _) = Policy::read(&Value::Null);
        assert!(policy.is_silent(true) && policy.is_silent(false));
    }

    #[test]
    fn who_enforces_is_warned_unless_it_is_said_otherwise() {
        let policy = |labels| read(labels).0;
        assert_eq!(
            policy(&[("enforce", "baseline"), ("enforce-version", "v1.24")]),
            "baseline:v1.24 privileged:latest baseline:v1.24"
        );
        assert_eq!(
            policy(&[
                ("enforce", "baseline"),
                ("enforce-version", "v1.24"),
                ("warn-version", "v1.30")
            ]),
            "baseline:v1.24 privileged:latest baseline:v1.30"
        );
        assert_eq!(
            policy(&[
                ("enforce", "restricted"),
                ("warn", "privileged"),
                ("audit", "baseline")
            ]),
            "restricted:latest baseline:latest privileged:latest"
        );
        let enforced = Policy::read(
            &json!({"pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/warn": "privileged"}),
        );
        assert!(!enforced.0.is_silent(true) && enforced.0.is_silent(false));
    }

    #[test]
    fn mistakes_are_told_and_count_as_what_is_safe() {
        let (policy, wrong) = read(&[
            ("enforce", "strict"),
            ("enforce-version", "v1.01"),
            ("audit", "all"),
            ("warn", ""),
            ("warn-version", "1.20"),
        ]);
        assert_eq!(policy, "restricted:latest privileged:latest privileged:latest");
        let at = |label: &str, value: &str, why: &str| {
            format!("metadata.labels[pod-security.kubernetes.io/{label}]: Invalid value: \"{value}\": {why}")
        };
        let levels = "must be one of privileged, baseline, restricted";
        let versions = "must be \"latest\" or \"v1.x\"";
        assert_eq!(
            wrong,
            [
                at("enforce", "strict", levels),
                at("enforce-version", "v1.01", versions),
                at("audit", "all", levels),
                at("warn", "", levels),
                at("warn-version", "1.20", versions),
            ]
        );
    }

    #[test]
    fn versions_are_those_of_kubernetes() {
        for good in ["latest", "v1.0", "v1.9", "v1.35", "v1.9223372036854775807"] {
            assert_eq!(Version::read(good).map(|v| v.to_string()), Some(good.to_owned()));
        }
        for bad in [
            "",
            "Latest",
            "v1",
            "v1.",
            "v1.x",
            "v1.+3",
            "v1.00",
            "v2.3",
            "v1.9223372036854775808",
        ] {
            assert_eq!(Version::read(bad), None, "{bad}");
        }
        assert!(Version::Latest.has(35) && Version::Minor(35).has(35) && !Version::Minor(34).has(35));
    }
}
