//! What of a Pod is refused, and what is passed over.

use k8s_openapi::api::core::v1::{Container, Pod};

/// Capabilities that a container may ask for: those of Kubernetes' baseline (Pod Security Standards), and three that stay within a
/// container. Others open ways out of it, or out of its cell.
const ALLOWED: [&str; 16] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
    "SYS_NICE",
    "SYS_PTRACE",
];

/// The capabilities that a container asks for, without their prefix.
fn capabilities(container: &Container) -> impl Iterator<Item = &str> {
    let context = container.security_context.as_ref();
    let asked = context.and_then(|context| context.capabilities.as_ref()?.add.as_ref());
    let names = asked.into_iter().flatten();
    names.map(|name| name.strip_prefix("CAP_").unwrap_or(name))
}

/// Whether a text is a label of DNS (RFC 1123), as names in a Pod must be.
fn is_label(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(is_inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn not_a_label(field: &str, name: &str) -> String {
    format!("{field}: {name:?} is not a name of at most 63 lower-case letters, digits and `-` (RFC 1123)")
}

/// What of a Pod the local data plane refuses, in words, or `None`.
pub(super) fn refusal(pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let host = [
        (spec.host_network, "hostNetwork"),
        (spec.host_pid, "hostPID"),
        (spec.host_ipc, "hostIPC"),
    ];
    if let Some((_, field)) = host.iter().find(|(value, _)| *value == Some(true)) {
        return Some(format!(
            "spec.{field} is refused by the local data plane: Pods get nothing of this machine's own"
        ));
    }
    // They become names of files here.
    for (i, volume) in spec.volumes.iter().flatten().enumerate() {
        if !is_label(&volume.name) {
            return Some(not_a_label(&format!("spec.volumes[{i}].name"), &volume.name));
        }
    }
    let lists = [
        ("containers", spec.containers.as_slice()),
        (
            "initContainers",
            spec.init_containers.as_deref().unwrap_or_default(),
        ),
    ];
    for (list, containers) in lists {
        for (i, container) in containers.iter().enumerate() {
            if !is_label(&container.name) {
                return Some(not_a_label(&format!("spec.{list}[{i}].name"), &container.name));
            }
        }
    }
    let all = lists.into_iter().flat_map(|(_, containers)| containers);
    for container in all {
        let name = &container.name;
        let context = container.security_context.as_ref();
        if let Some(name) = capabilities(container).find(|name| !ALLOWED.contains(name)) {
            return Some(format!(
                "container {:?}: securityContext.capabilities.add: {name} is refused by the local data plane: with it a container could leave \
                 its cell or reach this machine. Allowed are {}",
                container.name,
                ALLOWED.join(", ")
            ));
        }
        if context.and_then(|context| context.privileged) == Some(true) {
            return Some(format!(
                "container {name:?}: securityContext.privileged is refused by the local data plane"
            ));
        }
        if container.volume_devices.iter().flatten().next().is_some() {
            return Some(format!(
                "container {name:?}: volumeDevices are not supported by the local data plane"
            ));
        }
        let seccomp = context.and_then(|context| context.seccomp_profile.as_ref());
        if seccomp.is_some_and(|profile| profile.type_ == "Localhost") {
            return Some(format!(
                "container {name:?}: a seccomp profile of type Localhost is not supported by the local data plane"
            ));
        }
    }
    None
}

/// Fields that are passed over, each with what happens instead.
pub(super) fn ignored(pod: &Pod) -> Vec<String> {
    let mut all = Vec::new();
    let Some(spec) = &pod.spec else { return all };
    for container in &spec.containers {
        if container
            .ports
            .iter()
            .flatten()
            .any(|port| port.host_port.is_some_and(|port| port > 0))
        {
            all.push(format!(
                "container {:?}: hostPort is not opened on this machine; use a Service, a route or `kubectl port-forward`",
                container.name
            ));
        }
    }
    if spec.ephemeral_containers.iter().flatten().next().is_some() {
        all.push(
            "ephemeral containers are not supported by the local data plane, and are not started".to_owned(),
        );
    }
    if matches!(
        spec.dns_policy.as_deref(),
        Some("Default" | "ClusterFirstWithHostNet")
    ) {
        all.push("dnsPolicy: the cell's DNS server is used whatever it says, unless it is None".to_owned());
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn refused(spec: &Value) -> Option<String> {
        let pod = json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u"}, "spec": spec});
        refusal(&serde_json::from_value(pod).unwrap())
    }

    fn with(context: &Value) -> Value {
        json!({"containers": [{"name": "main", "securityContext": context}]})
    }

    #[test]
    fn what_is_of_this_machine_is_refused() {
        let container = json!([{"name": "main"}]);
        assert_eq!(refused(&json!({"containers": container})), None);
        let host = refused(&json!({"containers": container, "hostNetwork": true})).unwrap();
        assert!(host.contains("spec.hostNetwork"), "{host}");
        assert!(
            refused(&with(&json!({"privileged": true})))
                .unwrap()
                .contains("privileged")
        );
    }

    #[test]
    fn names_do_not_become_other_paths() {
        for name in ["../../etc", "/etc", "..", "", "a/b", "UPPER", "-a"] {
            let volume =
                json!({"containers": [{"name": "main"}], "volumes": [{"name": name, "emptyDir": {}}]});
            let message = refused(&volume).unwrap();
            assert!(message.contains("spec.volumes[0].name"), "{message}");
            let container = json!({"containers": [{"name": name}]});
            assert!(
                refused(&container).unwrap().contains("spec.containers[0].name"),
                "{name}"
            );
            let init = json!({"containers": [{"name": "main"}], "initContainers": [{"name": name}]});
            assert!(
                refused(&init).unwrap().contains("spec.initContainers[0].name"),
                "{name}"
            );
        }
    }

    #[test]
    fn capabilities_that_lead_out_are_refused() {
        let add = |names: Value| refused(&with(&json!({"capabilities": {"add": names}})));
        assert_eq!(add(json!(["NET_BIND_SERVICE", "CAP_CHOWN"])), None);
        for name in [
            "SYS_ADMIN",
            "CAP_NET_ADMIN",
            "NET_RAW",
            "DAC_READ_SEARCH",
            "ALL",
            "all",
            "SYS_MODULE",
        ] {
            let message = add(json!([name])).unwrap();
            assert!(message.contains("capabilities.add"), "{name}: {message}");
        }
    }
}
