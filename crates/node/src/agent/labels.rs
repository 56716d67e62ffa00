//! How what the agent makes is known again: by labels, which say whose it is.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;

/// The installation that made it: several may share an engine.
pub(crate) const INSTANCE: &str = "choreo.dev/instance";
/// What it is for: see the values of [`Role`].
pub(crate) const ROLE: &str = "choreo.dev/role";
/// How often the container had been restarted when this one was made.
pub(crate) const ATTEMPT: &str = "choreo.dev/attempt";
/// The image as the Pod names it.
pub(crate) const IMAGE: &str = "choreo.dev/image";
/// The namespace that a cell's network and relay belong to.
pub(crate) const CELL: &str = "choreo.dev/cell";

/// As container runtimes of Kubernetes name them.
pub(crate) const POD_NAME: &str = "io.kubernetes.pod.name";
pub(crate) const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub(crate) const POD_UID: &str = "io.kubernetes.pod.uid";
pub(crate) const CONTAINER: &str = "io.kubernetes.container.name";

/// The name that stands for a Pod's sandbox where containers are named.
pub(crate) const SANDBOX: &str = "POD";

/// What a container is for.
pub(crate) struct Role;

impl Role {
    pub(crate) const SANDBOX: &'static str = "sandbox";
    pub(crate) const CONTAINER: &'static str = "container";
    pub(crate) const RELAY: &'static str = "relay";
    pub(crate) const HELPER: &'static str = "helper";
}

pub(crate) type Labels = BTreeMap<String, String>;

/// The filter that finds what an installation made.
pub(crate) fn filter(instance: &str) -> String {
    format!("{INSTANCE}={instance}")
}

pub(crate) fn of_pod(instance: &str, pod: &Pod, container: &str, attempt: u32, role: &str) -> Labels {
    let meta = &pod.metadata;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    [
        (INSTANCE, instance.to_owned()),
        (ROLE, role.to_owned()),
        (POD_NAME, text(&meta.name)),
        (POD_NAMESPACE, text(&meta.namespace)),
        (POD_UID, text(&meta.uid)),
        (CONTAINER, container.to_owned()),
        (ATTEMPT, attempt.to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// A name that nobody else has, and that says what it is in `podman ps`.
pub(crate) fn container_name(instance: &str, pod: &Pod, container: &str, attempt: u32) -> String {
    let meta = &pod.metadata;
    let uid = meta.uid.as_deref().unwrap_or_default();
    format!(
        "choreo-{}_{container}_{}_{}_{}_{attempt}",
        short(instance),
        meta.name.as_deref().unwrap_or_default(),
        meta.namespace.as_deref().unwrap_or_default(),
        short(uid),
    )
}

/// The first part of an id: enough to tell a few apart.
pub(crate) fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}
