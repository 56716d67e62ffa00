//! What only `restricted` does not let Pods do: have more rights than an ordinary user.

use serde_json::Value;

use super::baseline;
use super::checks::{Found, Violation, named, plural, quoted, setters, those};
use super::pod::{Pod, name, secured};

/// Sources of volumes that bring nothing from outside of the cluster's API, or are governed there.
const VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// The others, by which a volume is told of.
const OTHER_VOLUMES: [&str; 21] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
    "nfs",
    "iscsi",
    "glusterfs",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "fc",
    "azureFile",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "photonPersistentDisk",
    "portworxVolume",
    "scaleIO",
    "storageos",
];

pub(super) fn escalation(pod: &Pod<'_>) -> Option<Violation> {
    let containers = those(pod, |container| {
        secured(container, "allowPrivilegeEscalation").is_none_or(|may| *may == true)
    });
    if containers.is_empty() {
        return None;
    }
    Violation::new(
        "allowPrivilegeEscalation != false",
        format!(
            "{} must set securityContext.allowPrivilegeEscalation=false",
            named(&containers)
        ),
    )
}

pub(super) fn capabilities(pod: &Pod<'_>) -> Option<Violation> {
    let keeps = those(pod, |container| {
        let dropped = secured(container, "capabilities").and_then(|c| c["drop"].as_array());
        !dropped.is_some_and(|dropped| dropped.iter().any(|d| d == "ALL"))
    });
    let mut added = Found::new();
    let adds = those(pod, |container| {
        let more = baseline::adds(container, &["NET_BIND_SERVICE"]);
        added.extend(&more);
        !more.is_empty()
    });
    let mut details = Vec::new();
    if !keeps.is_empty() {
        details.push(format!(
            "{} must set securityContext.capabilities.drop=[\"ALL\"]",
            named(&keeps)
        ));
    }
    if !adds.is_empty() {
        details.push(format!(
            "{} must not include {} in securityContext.capabilities.add",
            named(&adds),
            quoted(added)
        ));
    }
    if details.is_empty() {
        return None;
    }
    Violation::new("unrestricted capabilities", details.join("; "))
}

pub(super) fn volumes(pod: &Pod<'_>) -> Option<Violation> {
    let has = |volume: &Value, source: &str| !volume[source].is_null();
    let bad: Vec<&Value> = pod
        .volumes()
        .filter(|volume| !VOLUMES.iter().any(|source| has(volume, source)))
        .collect();
    if bad.is_empty() {
        return None;
    }
    let source = |volume: &Value| {
        let source = OTHER_VOLUMES.iter().find(|source| has(volume, source));
        source.copied().unwrap_or("unknown")
    };
    let sources: Found<'_> = bad.iter().map(|volume| source(volume)).collect();
    Violation::new(
        "restricted volume types",
        format!(
            "{} {} {} {} {}",
            plural(bad.len(), "volume", "volumes"),
            quoted(bad.iter().map(|volume| name(volume))),
            plural(bad.len(), "uses", "use"),
            plural(sources.len(), "restricted volume type", "restricted volume types"),
            quoted(sources)
        ),
    )
}

pub(super) fn not_root(pod: &Pod<'_>) -> Option<Violation> {
    const REASON: &str = "runAsNonRoot != true";
    let says = |of| secured(of, "runAsNonRoot").and_then(Value::as_bool);
    let of_pod = says(pod.spec);
    let may = those(pod, |container| says(container) == Some(false));
    if let Some(who) = setters(of_pod == Some(false), &may) {
        return Violation::new(
            REASON,
            format!("{who} must not set securityContext.runAsNonRoot=false"),
        );
    }
    let silent = those(pod, |container| says(container).is_none());
    if of_pod == Some(true) || silent.is_empty() {
        return None;
    }
    Violation::new(
        REASON,
        format!(
            "pod or {} must set securityContext.runAsNonRoot=true",
            named(&silent)
        ),
    )
}

pub(super) fn not_user_zero(pod: &Pod<'_>) -> Option<Violation> {
    let is_zero = |of| secured(of, "runAsUser").and_then(Value::as_i64) == Some(0);
    let who = setters(is_zero(pod.spec), &those(pod, is_zero))?;
    Violation::new("runAsUser=0", format!("{who} must not set runAsUser=0"))
}

pub(super) fn seccomp(pod: &Pod<'_>) -> Option<Violation> {
    let bad = baseline::seccomp(pod);
    if bad.is_some() {
        return bad;
    }
    let says = |of| baseline::profile(of, "seccompProfile").is_some();
    let silent = those(pod, |container| !says(container));
    if says(pod.spec) || silent.is_empty() {
        return None;
    }
    Violation::new(
        "seccompProfile",
        format!(
            "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
            named(&silent)
        ),
    )
}
