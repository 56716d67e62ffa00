//! Columns and cells of built-in kinds that are no workloads.

use serde_json::{Map, Value};

use super::age::age;
use super::{AGE, NAME, Printer, cluster, column, count, network, storage, wide, workloads};

/// How objects of a built-in kind are printed.
pub(crate) fn printer(group: &str, kind: &str) -> Printer {
    let printer = |columns, cells| Printer { columns, cells };
    match (group, kind) {
        ("", "Pod") => workloads::POD,
        ("apps", "Deployment") => workloads::DEPLOYMENT,
        ("apps", "ReplicaSet") | ("", "ReplicationController") => workloads::REPLICA_SET,
        ("apps", "StatefulSet") => workloads::STATEFUL_SET,
        ("apps", "DaemonSet") => workloads::DAEMON_SET,
        ("batch", "Job") => workloads::JOB,
        ("batch", "CronJob") => workloads::CRON_JOB,
        ("", "Service") => printer(
            const {
                &[
                    NAME,
                    column("Type", "How the service is exposed."),
                    column("Cluster-IP", "The address of the service within the cluster."),
                    column("External-IP", "Addresses outside of the cluster."),
                    column("Port(s)", "The ports that are exposed."),
                    AGE,
                    wide("Selector", "Labels of the pods that traffic goes to."),
                ]
            },
            network::service,
        ),
        ("", "Namespace") => printer(
            const { &[NAME, column("Status", "The status of the namespace"), AGE] },
            |o, now| vec![name(o), text(o, "/status/phase").into(), age(o, now)],
        ),
        ("", "ConfigMap") => printer(
            const { &[NAME, column("Data", "The number of entries."), AGE] },
            |o, now| {
                let entries = length(o, "/data") + length(o, "/binaryData");
                vec![name(o), entries.into(), age(o, now)]
            },
        ),
        ("", "Secret") => printer(
            const {
                &[
                    NAME,
                    column("Type", "What the secret is for."),
                    column("Data", "The number of entries."),
                    AGE,
                ]
            },
            |o, now| {
                vec![
                    name(o),
                    text(o, "/type").into(),
                    length(o, "/data").into(),
                    age(o, now),
                ]
            },
        ),
        ("" | "events.k8s.io", "Event") => printer(
            const {
                &[
                    column("Last Seen", "When the event was seen last."),
                    column("Type", "Normal or Warning."),
                    column("Reason", "Why it happened."),
                    column("Object", "What it happened to."),
                    wide("Subobject", "Which part of the object."),
                    wide("Source", "Who reported it."),
                    column("Message", "What happened."),
                    wide("First Seen", "When the event was seen first."),
                    wide("Count", "How often it was seen."),
                    super::Heading { priority: 1, ..NAME },
                ]
            },
            cluster::event,
        ),
        ("", "Node") => printer(
            const {
                &[
                    NAME,
                    column("Status", "The status of the node"),
                    column("Roles", "The roles of the node"),
                    AGE,
                    column("Version", "The kubelet's version."),
                    wide("Internal-IP", "Address within the cluster."),
                    wide("External-IP", "Address outside of the cluster."),
                    wide("OS-Image", "The operating system."),
                    wide("Kernel-Version", "The kernel's version."),
                    wide("Container-Runtime", "The container runtime and its version."),
                ]
            },
            cluster::node,
        ),
        ("", "Endpoints") => printer(
            const { &[NAME, column("Endpoints", "Addresses and ports."), AGE] },
            |o, now| vec![name(o), network::endpoints(o).into(), age(o, now)],
        ),
        ("discovery.k8s.io", "EndpointSlice") => printer(
            const {
                &[
                    NAME,
                    column("AddressType", "The type of the addresses."),
                    column("Ports", "The ports."),
                    column("Endpoints", "The addresses."),
                    AGE,
                ]
            },
            network::endpoint_slice,
        ),
        ("", "PersistentVolume") => printer(
            const {
                &[
                    NAME,
                    column("Capacity", "The size of the volume."),
                    column("Access Modes", "How the volume can be mounted."),
                    column("Reclaim Policy", "What happens to a released volume."),
                    column("Status", "The volume's phase."),
                    column("Claim", "The claim that it is bound to."),
                    column("StorageClass", "StorageClass of the pv"),
                    column("VolumeAttributesClass", "VolumeAttributesClass of the pv"),
                    column("Reason", "Why it is in its phase."),
                    AGE,
                    wide("VolumeMode", "Filesystem or block device."),
                ]
            },
            storage::persistent_volume,
        ),
        ("", "PersistentVolumeClaim") => printer(
            const {
                &[
                    NAME,
                    column("Status", "The claim's phase."),
                    column("Volume", "The volume that it is bound to."),
                    column("Capacity", "The size of the volume."),
                    column("Access Modes", "How the volume can be mounted."),
                    column("StorageClass", "StorageClass of the pvc"),
                    column("VolumeAttributesClass", "VolumeAttributesClass of the pvc"),
                    AGE,
                    wide("VolumeMode", "Filesystem or block device."),
                ]
            },
            storage::persistent_volume_claim,
        ),
        ("", "ResourceQuota") => printer(
            const {
                &[
                    NAME,
                    column("Request", "Used and allowed requests."),
                    column("Limit", "Used and allowed limits."),
                    AGE,
                ]
            },
            storage::resource_quota,
        ),
        ("autoscaling", "HorizontalPodAutoscaler") => printer(
            const {
                &[
                    NAME,
                    column("Reference", "What is scaled."),
                    column("Targets", "Current and wanted values of the metrics."),
                    column("MinPods", "Fewest replicas."),
                    column("MaxPods", "Most replicas."),
                    column("Replicas", "Current replicas."),
                    AGE,
                ]
            },
            cluster::autoscaler,
        ),
        ("policy", "PodDisruptionBudget") => printer(
            const {
                &[
                    NAME,
                    column(
                        "Min Available",
                        "The minimum number of pods that must be available.",
                    ),
                    column(
                        "Max Unavailable",
                        "The maximum number of pods that may be unavailable.",
                    ),
                    count(
                        "Allowed Disruptions",
                        "Calculated number of pods that may be disrupted at this time.",
                    ),
                    AGE,
                ]
            },
            |o, now| {
                let or_none = |path| o.pointer(path).map_or_else(|| "N/A".to_owned(), super::shown);
                vec![
                    name(o),
                    or_none("/spec/minAvailable").into(),
                    or_none("/spec/maxUnavailable").into(),
                    number(o, "/status/disruptionsAllowed").into(),
                    age(o, now),
                ]
            },
        ),
        ("networking.k8s.io", "Ingress") => printer(
            const {
                &[
                    NAME,
                    column(
                        "Class",
                        "The name of the IngressClass resource that should be used for additional configuration",
                    ),
                    column(
                        "Hosts",
                        "Hosts that incoming requests are matched against before the ingress rule",
                    ),
                    column(
                        "Address",
                        "Address is a list containing ingress points for the load-balancer",
                    ),
                    column("Ports", "Ports of TLS configurations that open"),
                    AGE,
                ]
            },
            network::ingress,
        ),
        ("networking.k8s.io", "IngressClass") => printer(
            const {
                &[
                    NAME,
                    column(
                        "Controller",
                        "Controller that is responsible for handling this class",
                    ),
                    column(
                        "Parameters",
                        "A reference to a resource with additional parameters",
                    ),
                    AGE,
                ]
            },
            |o, now| {
                let parameters = o.pointer("/spec/parameters").map_or_else(
                    || "<none>".to_owned(),
                    |p| {
                        let kind = text(p, "/kind");
                        let group = text(p, "/apiGroup");
                        let kind = if group.is_empty() {
                            kind.to_owned()
                        } else {
                            format!("{kind}.{group}")
                        };
                        format!("{kind}/{}", text(p, "/name"))
                    },
                );
                vec![
                    name(o),
                    text(o, "/spec/controller").into(),
                    parameters.into(),
                    age(o, now),
                ]
            },
        ),
        ("networking.k8s.io", "NetworkPolicy") => printer(
            const {
                &[
                    NAME,
                    column("Pod-Selector", "The pods that the policy is for."),
                    AGE,
                ]
            },
            |o, now| {
                vec![
                    name(o),
                    selector(o.pointer("/spec/podSelector")).into(),
                    age(o, now),
                ]
            },
        ),
        ("rbac.authorization.k8s.io", "Role" | "ClusterRole")
        | ("apiextensions.k8s.io", "CustomResourceDefinition")
        | ("", "LimitRange") => printer(
            const {
                &[
                    NAME,
                    super::Heading {
                        type_: "date",
                        ..column("Created At", "When the object was created.")
                    },
                ]
            },
            |o, _| {
                vec![
                    name(o),
                    o.pointer("/metadata/creationTimestamp")
                        .cloned()
                        .unwrap_or_default(),
                ]
            },
        ),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => printer(
            const {
                &[
                    NAME,
                    column("Role", "The role that is granted."),
                    AGE,
                    wide("Users", "Users in the roleBinding"),
                    wide("Groups", "Groups in the roleBinding"),
                    wide("ServiceAccounts", "ServiceAccounts in the roleBinding"),
                ]
            },
            cluster::role_binding,
        ),
        ("coordination.k8s.io", "Lease") => printer(
            const { &[NAME, column("Holder", "Who holds the lease."), AGE] },
            |o, now| vec![name(o), text(o, "/spec/holderIdentity").into(), age(o, now)],
        ),
        ("storage.k8s.io", "StorageClass") => printer(
            const {
                &[
                    NAME,
                    column("Provisioner", "Who makes the volumes."),
                    column("ReclaimPolicy", "What happens to a released volume."),
                    column("VolumeBindingMode", "When a volume is made."),
                    column("AllowVolumeExpansion", "Whether volumes can grow."),
                    AGE,
                ]
            },
            |o, now| {
                let is_default = text(
                    o,
                    "/metadata/annotations/storageclass.kubernetes.io~1is-default-class",
                ) == "true";
                let shown = text(o, "/metadata/name");
                let shown = if is_default {
                    format!("{shown} (default)")
                } else {
                    shown.to_owned()
                };
                let or = |path, default: &str| {
                    Some(text(o, path))
                        .filter(|t| !t.is_empty())
                        .unwrap_or(default)
                        .to_owned()
                };
                vec![
                    shown.into(),
                    text(o, "/provisioner").into(),
                    or("/reclaimPolicy", "Delete").into(),
                    or("/volumeBindingMode", "Immediate").into(),
                    flag(o, "/allowVolumeExpansion").into(),
                    age(o, now),
                ]
            },
        ),
        ("scheduling.k8s.io", "PriorityClass") => printer(
            const {
                &[
                    NAME,
                    count("Value", "The priority."),
                    super::Heading {
                        type_: "boolean",
                        ..column("Global-Default", "Whether pods without a class get this one.")
                    },
                    AGE,
                    column("PreemptionPolicy", "Whether pods of lower priority make way."),
                ]
            },
            |o, now| {
                vec![
                    name(o),
                    number(o, "/value").into(),
                    flag(o, "/globalDefault").into(),
                    age(o, now),
                    text(o, "/preemptionPolicy").into(),
                ]
            },
        ),
        ("flowcontrol.apiserver.k8s.io", "FlowSchema") => printer(
            const {
                &[
                    NAME,
                    column(
                        "PriorityLevel",
                        "The priority level that requests are worked on at.",
                    ),
                    column(
                        "MatchingPrecedence",
                        "Which one is chosen of those that match: the lowest.",
                    ),
                    column("DistinguisherMethod", "What tells the flows of requests apart."),
                    AGE,
                    column(
                        "MissingPL",
                        "references a broken or non-existent PriorityLevelConfiguration",
                    ),
                ]
            },
            cluster::flow_schema,
        ),
        ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration") => printer(
            const {
                &[
                    NAME,
                    column("Type", "Whether requests are limited at all."),
                    column(
                        "NominalConcurrencyShares",
                        "The level's shares of the server's seats.",
                    ),
                    column("Queues", "How many queues there are."),
                    column("HandSize", "How many queues a flow is dealt."),
                    column("QueueLengthLimit", "How many requests wait in a queue at most."),
                    AGE,
                ]
            },
            cluster::priority_level,
        ),
        ("node.k8s.io", "RuntimeClass") => printer(
            const {
                &[
                    NAME,
                    column("Handler", "The configuration of the container runtime."),
                    AGE,
                ]
            },
            |o, now| vec![name(o), text(o, "/handler").into(), age(o, now)],
        ),
        ("apps", "ControllerRevision") => printer(
            const {
                &[
                    NAME,
                    column("Controller", "Controller of the object"),
                    column("Revision", "The revision's number."),
                    AGE,
                ]
            },
            |o, now| {
                let owners = o.pointer("/metadata/ownerReferences").and_then(Value::as_array);
                let owner = owners.into_iter().flatten().find(|r| flag(r, "/controller"));
                let owner = owner.map_or_else(
                    || "<none>".to_owned(),
                    |r| {
                        let group = text(r, "/apiVersion").split_once('/').map_or("", |(g, _)| g);
                        let kind = text(r, "/kind").to_lowercase();
                        let kind = if group.is_empty() {
                            kind
                        } else {
                            format!("{kind}.{group}")
                        };
                        format!("{kind}/{}", text(r, "/name"))
                    },
                );
                vec![name(o), owner.into(), number(o, "/revision").into(), age(o, now)]
            },
        ),
        ("certificates.k8s.io", "CertificateSigningRequest") => printer(
            const {
                &[
                    NAME,
                    AGE,
                    column("SignerName", "Who is to sign."),
                    column("Requestor", "Who asks."),
                    column("RequestedDuration", "How long the certificate is to be valid."),
                    column("Condition", "What became of the request."),
                ]
            },
            cluster::signing_request,
        ),
        (
            "admissionregistration.k8s.io",
            "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration",
        ) => printer(
            const { &[NAME, count("Webhooks", "The number of webhooks."), AGE] },
            |o, now| vec![name(o), length(o, "/webhooks").into(), age(o, now)],
        ),
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy") => printer(
            const {
                &[
                    NAME,
                    count("Validations", "The number of validations."),
                    column("ParamKind", "The kind of the parameters."),
                    AGE,
                ]
            },
            |o, now| {
                let kind = o.pointer("/spec/paramKind").map_or_else(
                    || "<unset>".to_owned(),
                    |p| format!("{}/{}", text(p, "/apiVersion"), text(p, "/kind")),
                );
                vec![
                    name(o),
                    length(o, "/spec/validations").into(),
                    kind.into(),
                    age(o, now),
                ]
            },
        ),
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding") => printer(
            const {
                &[
                    NAME,
                    column("PolicyName", "The policy that is bound."),
                    column("ParamRef", "The parameters."),
                    AGE,
                ]
            },
            |o, now| {
                let param = o.pointer("/spec/paramRef").map_or_else(
                    || "<unset>".to_owned(),
                    |p| match (text(p, "/namespace"), text(p, "/name")) {
                        (_, "") => "*".to_owned(),
                        ("", name) => name.to_owned(),
                        (namespace, name) => format!("{namespace}/{name}"),
                    },
                );
                vec![
                    name(o),
                    text(o, "/spec/policyName").into(),
                    param.into(),
                    age(o, now),
                ]
            },
        ),
        ("", "PodTemplate") => workloads::POD_TEMPLATE,
        _ => printer(const { &[NAME, AGE] }, |o, now| vec![name(o), age(o, now)]),
    }
}

pub(super) fn name(object: &Value) -> Value {
    object.pointer("/metadata/name").cloned().unwrap_or_default()
}

pub(super) fn text<'v>(object: &'v Value, pointer: &str) -> &'v str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

pub(super) fn number(object: &Value, pointer: &str) -> i64 {
    object
        .pointer(pointer)
        .and_then(Value::as_i64)
        .unwrap_or_default()
}

pub(super) fn flag(object: &Value, pointer: &str) -> bool {
    object
        .pointer(pointer)
        .and_then(Value::as_bool)
        .unwrap_or_default()
}

pub(super) fn list<'v>(object: &'v Value, pointer: &str) -> &'v [Value] {
    object
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn length(object: &Value, pointer: &str) -> usize {
    match object.pointer(pointer) {
        Some(Value::Array(items)) => items.len(),
        Some(Value::Object(map)) => map.len(),
        _ => 0,
    }
}

/// The text, or `<none>`.
pub(super) fn or_none(text: &str) -> Value {
    if text.is_empty() { "<none>" } else { text }.into()
}

/// A map of labels as `a=b,c=d`.
pub(super) fn labels(map: Option<&Map<String, Value>>) -> String {
    let pairs: Vec<String> = map
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
        .collect();
    if pairs.is_empty() {
        "<none>".to_owned()
    } else {
        pairs.join(",")
    }
}

/// A label selector as one writes it on the command line.
pub(super) fn selector(selector: Option<&Value>) -> String {
    match crate::selector::LabelSelector::from_object(selector) {
        Ok(parsed) if selector.is_some() && !parsed.requirements().is_empty() => parsed.to_string(),
        Ok(_) => "<none>".to_owned(),
        Err(_) => "<error>".to_owned(),
    }
}
