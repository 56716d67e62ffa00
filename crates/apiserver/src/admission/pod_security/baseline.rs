//! What even `baseline` does not let Pods do: reach around the container to the host.

use std::collections::BTreeSet;

use choreo_apimachinery::field::quote;
use serde_json::Value;

use super::checks::{Found, Violation, named, plural, quoted, setters, those};
use super::pod::{Pod, name, secured};
use super::policy::Version;
use crate::verbs::text;

/// What annotations of AppArmor profiles begin with; the name of the container follows.
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// The annotation of a Pod's seccomp profile.
const SECCOMP_OF_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
/// What annotations of containers' seccomp profiles begin with; the name of the container follows.
const SECCOMP_OF_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";

/// Capabilities that containers have anyway, or could have.
const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// SELinux types of ordinary containers, and since which version they are.
const SE_LINUX_TYPES: [(&str, i64); 5] = [
    ("", 0),
    ("container_t", 0),
    ("container_init_t", 0),
    ("container_kvm_t", 0),
    ("container_engine_t", 31),
];

/// Kernel parameters that a Pod has for itself, and since which version they count as such.
const SYSCTLS: [(&str, i64); 12] = [
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_wmem", 32),
];

/// Whether a value is in a table, as of a version.
fn knows(table: &[(&str, i64)], version: Version, value: &str) -> bool {
    table
        .iter()
        .any(|(known, since)| *known == value && version.has(*since))
}

/// Whether a profile of seccomp or AppArmor, by its type, is one that confines.
pub(super) fn confines(profile: &str) -> bool {
    matches!(profile, "RuntimeDefault" | "Localhost")
}

/// The type of a profile in a security context; none without a profile.
pub(super) fn profile<'a>(of: &'a Value, field: &str) -> Option<&'a str> {
    secured(of, field).map(|profile| text(profile, "/type"))
}

pub(super) fn app_armor(pod: &Pod<'_>) -> Option<Violation> {
    let mut values = Found::new();
    let mut loose = |of| {
        let bad = profile(of, "appArmorProfile").filter(|profile| !confines(profile));
        values.extend(bad);
        bad.is_some()
    };
    let of_pod = loose(pod.spec);
    let containers = those(pod, loose);
    let is_fine =
        |value: &str| value.is_empty() || value == "runtime/default" || value.starts_with("localhost/");
    let annotations = pod
        .annotations()
        .filter(|(key, value)| key.starts_with(APP_ARMOR) && !is_fine(value));
    let mut annotations: Vec<String> = annotations
        .map(|(key, value)| format!("{key}={}", quote(value)))
        .collect();
    annotations.sort();
    let mut who: Vec<String> = setters(of_pod, &containers).into_iter().collect();
    if !annotations.is_empty() {
        who.push(plural(annotations.len(), "annotation", "annotations").to_owned());
    }
    if who.is_empty() {
        return None;
    }
    let values: Vec<String> = values.into_iter().map(str::to_owned).chain(annotations).collect();
    Violation::new(
        plural(
            values.len(),
            "forbidden AppArmor profile",
            "forbidden AppArmor profiles",
        ),
        format!(
            "{} must not set AppArmor profile type to {}",
            who.join(" and "),
            quoted(values)
        ),
    )
}

/// Capabilities that a container adds and that are not among those that are allowed.
pub(super) fn adds<'a>(container: &'a Value, allowed: &[&str]) -> Vec<&'a str> {
    let added = secured(container, "capabilities").and_then(|c| c["add"].as_array());
    let added = added.into_iter().flatten().filter_map(Value::as_str);
    added.filter(|capability| !allowed.contains(capability)).collect()
}

pub(super) fn capabilities(pod: &Pod<'_>) -> Option<Violation> {
    let mut added = Found::new();
    let containers = those(pod, |container| {
        let more = adds(container, &CAPABILITIES);
        added.extend(&more);
        !more.is_empty()
    });
    if containers.is_empty() {
        return None;
    }
    Violation::new(
        "non-default capabilities",
        format!(
            "{} must not include {} in securityContext.capabilities.add",
            named(&containers),
            quoted(added)
        ),
    )
}

pub(super) fn host_namespaces(pod: &Pod<'_>) -> Option<Violation> {
    let shared = ["hostNetwork", "hostPID", "hostIPC"].into_iter();
    let shared = shared.filter(|field| pod.spec[field] == true);
    let shared: Vec<String> = shared.map(|field| format!("{field}=true")).collect();
    if shared.is_empty() {
        return None;
    }
    Violation::new("host namespaces", shared.join(", "))
}

pub(super) fn host_paths(pod: &Pod<'_>) -> Option<Violation> {
    let volumes = pod.volumes().filter(|volume| !volume["hostPath"].is_null());
    let volumes: Vec<&str> = volumes.map(name).collect();
    if volumes.is_empty() {
        return None;
    }
    let word = plural(volumes.len(), "volume", "volumes");
    Violation::new("hostPath volumes", format!("{word} {}", quoted(volumes)))
}

pub(super) fn host_ports(pod: &Pod<'_>) -> Option<Violation> {
    let mut ports = BTreeSet::new();
    let containers = those(pod, |container| {
        let all = container["ports"].as_array().into_iter().flatten();
        let taken = all.filter_map(|port| port["hostPort"].as_i64().filter(|port| *port != 0));
        let taken: Vec<String> = taken.map(|port| port.to_string()).collect();
        let takes = !taken.is_empty();
        ports.extend(taken);
        takes
    });
    if containers.is_empty() {
        return None;
    }
    let uses = plural(containers.len(), "uses", "use");
    let word = plural(ports.len(), "hostPort", "hostPorts");
    let ports: Vec<String> = ports.into_iter().collect();
    Violation::new(
        "hostPort",
        format!("{} {uses} {word} {}", named(&containers), ports.join(", ")),
    )
}

/// Handlers of a container that ask somebody.
const HANDLERS: [&str; 5] = [
    "/livenessProbe",
    "/readinessProbe",
    "/startupProbe",
    "/lifecycle/postStart",
    "/lifecycle/preStop",
];

/// The node asks: with a host it would ask anybody on behalf of whoever made the Pod.
pub(super) fn probed_hosts(pod: &Pod<'_>) -> Option<Violation> {
    let mut hosts = Found::new();
    let containers = those(pod, |container| {
        let handlers = HANDLERS.iter().filter_map(|path| container.pointer(path));
        let asked =
            handlers.flat_map(|handler| ["/httpGet/host", "/tcpSocket/host"].map(|at| text(handler, at)));
        let asked: Vec<&str> = asked.filter(|host| !host.is_empty()).collect();
        hosts.extend(&asked);
        !asked.is_empty()
    });
    if containers.is_empty() {
        return None;
    }
    // By name, unlike those of the other checks.
    let containers: Vec<&str> = Found::from_iter(containers).into_iter().collect();
    let uses = plural(containers.len(), "uses", "use");
    let word = plural(hosts.len(), "probe or lifecycle host", "probe or lifecycle hosts");
    Violation::new(
        "probe or lifecycle host",
        format!("{} {uses} {word} {}", named(&containers), quoted(hosts)),
    )
}

pub(super) fn privileged(pod: &Pod<'_>) -> Option<Violation> {
    let containers = those(pod, |container| {
        secured(container, "privileged").is_some_and(|is| *is == true)
    });
    if containers.is_empty() {
        return None;
    }
    Violation::new(
        "privileged",
        format!(
            "{} must not set securityContext.privileged=true",
            named(&containers)
        ),
    )
}

pub(super) fn proc_mount(pod: &Pod<'_>) -> Option<Violation> {
    let mut mounts = Found::new();
    let containers = those(pod, |container| {
        let mount = secured(container, "procMount").and_then(Value::as_str);
        let bad = mount.filter(|mount| *mount != "Default");
        mounts.extend(bad);
        bad.is_some()
    });
    if containers.is_empty() {
        return None;
    }
    Violation::new(
        "procMount",
        format!(
            "{} must not set securityContext.procMount to {}",
            named(&containers),
            quoted(mounts)
        ),
    )
}

pub(super) fn se_linux(pod: &Pod<'_>, version: Version) -> Option<Violation> {
    let mut types = Found::new();
    let (mut user, mut role) = (false, false);
    let mut special = |of| {
        let Some(options) = secured(of, "seLinuxOptions") else {
            return false;
        };
        let kind = text(options, "/type");
        let bad_type = !knows(&SE_LINUX_TYPES, version, kind);
        if bad_type {
            types.insert(kind);
        }
        let sets_user = !text(options, "/user").is_empty();
        let sets_role = !text(options, "/role").is_empty();
        user |= sets_user;
        role |= sets_role;
        bad_type || sets_user || sets_role
    };
    let of_pod = special(pod.spec);
    let containers = those(pod, special);
    let who = setters(of_pod, &containers)?;
    let mut what = Vec::new();
    if !types.is_empty() {
        what.push(format!(
            "{} {}",
            plural(types.len(), "type", "types"),
            quoted(types)
        ));
    }
    if user {
        what.push("user may not be set".to_owned());
    }
    if role {
        what.push("role may not be set".to_owned());
    }
    Violation::new(
        "seLinuxOptions",
        format!(
            "{who} set forbidden securityContext.seLinuxOptions: {}",
            what.join("; ")
        ),
    )
}

/// Before there were fields for it.
pub(super) fn seccomp_annotations(pod: &Pod<'_>) -> Option<Violation> {
    let is_fine = |value: &str| {
        matches!(value, "runtime/default" | "docker/default") || value.starts_with("localhost/")
    };
    let counts = |key: &str| {
        key == SECCOMP_OF_POD
            || key
                .strip_prefix(SECCOMP_OF_CONTAINER)
                .is_some_and(|of| pod.containers().any(|container| name(container) == of))
    };
    let bad = pod
        .annotations()
        .filter(|(key, value)| counts(key) && !is_fine(value));
    let bad: BTreeSet<String> = bad
        .map(|(key, value)| format!("{key}={}", quote(value)))
        .collect();
    if bad.is_empty() {
        return None;
    }
    let word = plural(bad.len(), "annotation", "annotations");
    let bad: Vec<String> = bad.into_iter().collect();
    Violation::new("seccompProfile", format!("forbidden {word} {}", bad.join(", ")))
}

/// Says who sets a seccomp profile that does not confine.
pub(super) fn seccomp(pod: &Pod<'_>) -> Option<Violation> {
    let mut values = Found::new();
    let mut loose = |of| {
        let bad = profile(of, "seccompProfile").filter(|profile| !confines(profile));
        values.extend(bad);
        bad.is_some()
    };
    let of_pod = loose(pod.spec);
    let containers = those(pod, loose);
    let who = setters(of_pod, &containers)?;
    Violation::new(
        "seccompProfile",
        format!(
            "{who} must not set securityContext.seccompProfile.type to {}",
            quoted(values)
        ),
    )
}

pub(super) fn sysctls(pod: &Pod<'_>, version: Version) -> Option<Violation> {
    let set = pod.secured("sysctls").and_then(Value::as_array);
    let set = set.into_iter().flatten().map(name);
    let bad: Vec<&str> = set.filter(|name| !knows(&SYSCTLS, version, name)).collect();
    if bad.is_empty() {
        return None;
    }
    Violation::new("forbidden sysctls", bad.join(", "))
}

pub(super) fn windows_host_process(pod: &Pod<'_>) -> Option<Violation> {
    let is_one = |of| secured(of, "windowsOptions").is_some_and(|options| options["hostProcess"] == true);
    let who = setters(is_one(pod.spec), &those(pod, is_one))?;
    Violation::new(
        "hostProcess",
        format!("{who} must not set securityContext.windowsOptions.hostProcess=true"),
    )
}
