//! The checks of the standards: what is checked as of which version, and what came of it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::pod::{Pod, name};
use super::policy::{Level, Standard, Version};
use super::{baseline, restricted};

/// What a check has against a Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Violation {
    /// In a word or two.
    reason: &'static str,
    /// Where, and what to do.
    detail: String,
}

impl Violation {
    pub(super) fn new(reason: &'static str, detail: String) -> Option<Violation> {
        Some(Violation { reason, detail })
    }
}

/// Looks at a Pod; none if there is nothing against it.
type Look = fn(&Pod<'_>) -> Option<Violation>;

/// One of the standards' rules.
struct Check {
    name: &'static str,
    /// How it looks at Pods, since which minor version. Later ones replace earlier ones.
    revisions: &'static [(i64, Look)],
    /// The name of a baseline check that this one makes superfluous.
    replaces: &'static str,
}

impl Check {
    /// The revision of a version; none where the check is not there yet.
    fn as_of(&self, version: Version) -> Option<Look> {
        let there = self.revisions.iter().rev();
        let mut there = there.filter(|(since, _)| version.has(*since));
        there.next().map(|(_, look)| *look)
    }
}

const fn check(name: &'static str, revisions: &'static [(i64, Look)]) -> Check {
    Check {
        name,
        revisions,
        replaces: "",
    }
}

const fn instead(replaces: &'static str, name: &'static str, revisions: &'static [(i64, Look)]) -> Check {
    Check {
        name,
        revisions,
        replaces,
    }
}

/// For `baseline` and `restricted`, in the order in which they are told of.
const BASELINE: [Check; 12] = [
    check("appArmorProfile", &[(0, baseline::app_armor)]),
    check("capabilities_baseline", &[(0, baseline::capabilities)]),
    check("hostNamespaces", &[(0, baseline::host_namespaces)]),
    check("hostPathVolumes", &[(0, baseline::host_paths)]),
    check("hostPorts", &[(0, baseline::host_ports)]),
    check("hostProbesAndHostLifecycle", &[(34, baseline::probed_hosts)]),
    check("privileged", &[(0, baseline::privileged)]),
    check(
        "procMount",
        &[
            (0, baseline::proc_mount),
            (35, |pod| unless_own_users(pod, baseline::proc_mount)),
        ],
    ),
    check(
        "seLinuxOptions",
        &[
            (0, |pod| baseline::se_linux(pod, Version::Minor(0))),
            (31, |pod| baseline::se_linux(pod, Version::Minor(31))),
        ],
    ),
    check(
        "seccompProfile_baseline",
        &[(0, baseline::seccomp_annotations), (19, baseline::seccomp)],
    ),
    check(
        "sysctls",
        &[
            (0, |pod| baseline::sysctls(pod, Version::Minor(0))),
            (27, |pod| baseline::sysctls(pod, Version::Minor(27))),
            (29, |pod| baseline::sysctls(pod, Version::Minor(29))),
            (32, |pod| baseline::sysctls(pod, Version::Minor(32))),
        ],
    ),
    check("windowsHostProcess", &[(0, baseline::windows_host_process)]),
];

/// For `restricted`, after the others.
const RESTRICTED: [Check; 7] = [
    check(
        "allowPrivilegeEscalation",
        &[
            (8, restricted::escalation),
            (25, |pod| unless_windows(pod, restricted::escalation)),
        ],
    ),
    instead(
        "capabilities_baseline",
        "capabilities_restricted",
        &[
            (22, restricted::capabilities),
            (25, |pod| unless_windows(pod, restricted::capabilities)),
        ],
    ),
    // Since the baseline makes an exception for Pods with users of their own.
    instead("procMount", "procMount_restricted", &[(35, baseline::proc_mount)]),
    instead(
        "hostPathVolumes",
        "restrictedVolumes",
        &[(0, restricted::volumes)],
    ),
    check(
        "runAsNonRoot",
        &[
            (0, restricted::not_root),
            (35, |pod| unless_own_users(pod, restricted::not_root)),
        ],
    ),
    check(
        "runAsUser",
        &[
            (23, restricted::not_user_zero),
            (35, |pod| unless_own_users(pod, restricted::not_user_zero)),
        ],
    ),
    instead(
        "seccompProfile_baseline",
        "seccompProfile_restricted",
        &[
            (19, restricted::seccomp),
            (25, |pod| unless_windows(pod, restricted::seccomp)),
        ],
    ),
];

/// What does not exist on Windows cannot be asked for there.
fn unless_windows(pod: &Pod<'_>, look: Look) -> Option<Violation> {
    if pod.is_windows() { None } else { look(pod) }
}

/// Who is root in the Pod alone may be.
fn unless_own_users(pod: &Pod<'_>, look: Look) -> Option<Violation> {
    if pod.has_own_users() { None } else { look(pod) }
}

/// All that there is against a Pod.
#[derive(Debug)]
pub(super) struct Violations(Vec<Violation>);

impl Violations {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The reasons alone, which Pods of a kind have in common.
    pub(super) fn reasons(&self) -> String {
        let reasons = self.0.iter().map(|v| v.reason);
        reasons.collect::<Vec<_>>().join(", ")
    }

    /// The reasons, each with where it is and what to do.
    pub(super) fn details(&self) -> String {
        let all = self.0.iter().map(|v| format!("{} ({})", v.reason, v.detail));
        all.collect::<Vec<_>>().join(", ")
    }
}

/// Holds a Pod against a standard.
pub(super) fn evaluate(standard: Standard, pod: &Pod<'_>) -> Violations {
    let Standard { level, version } = standard;
    let restricted: &[Check] = if level == Level::Restricted {
        &RESTRICTED
    } else {
        &[]
    };
    let baseline: &[Check] = if level == Level::Privileged {
        &[]
    } else {
        &BASELINE
    };
    let is_replaced = |check: &Check| {
        let mut by = restricted.iter().filter(|other| other.replaces == check.name);
        by.any(|other| other.as_of(version).is_some())
    };
    let all = baseline.iter().filter(|check| !is_replaced(check));
    let all = all
        .chain(restricted)
        .filter_map(|check| check.as_of(version)?(pod));
    Violations(all.collect())
}

/// `singular` for one, otherwise `plural`.
pub(super) fn plural<'a>(count: usize, singular: &'a str, plural: &'a str) -> &'a str {
    if count == 1 { singular } else { plural }
}

/// Texts in quotation marks, with commas between them.
pub(super) fn quoted<S: AsRef<str>>(texts: impl IntoIterator<Item = S>) -> String {
    let texts = texts.into_iter().map(|text| format!("\"{}\"", text.as_ref()));
    texts.collect::<Vec<_>>().join(", ")
}

/// Containers by name: `container "a"`, `containers "a", "b"`.
pub(super) fn named(containers: &[&str]) -> String {
    let word = plural(containers.len(), "container", "containers");
    format!("{word} {}", quoted(containers))
}

/// The names of the containers that something is the matter with.
pub(super) fn those<'a>(pod: &Pod<'a>, mut is: impl FnMut(&'a Value) -> bool) -> Vec<&'a str> {
    let all = pod.containers();
    all.filter(|container| is(container)).map(name).collect()
}

/// Who set something: the Pod, some of its containers, or both. None for nobody.
pub(super) fn setters(pod: bool, containers: &[&str]) -> Option<String> {
    match (pod, containers) {
        (false, []) => None,
        (true, []) => Some("pod".to_owned()),
        (false, some) => Some(named(some)),
        (true, some) => Some(format!("pod and {}", named(some))),
    }
}

/// Values that were found, each once and in order.
pub(super) type Found<'a> = BTreeSet<&'a str>;
