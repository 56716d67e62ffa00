//! Columns and cells of built-in kinds that are no workloads.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::age::{age, since_text};
use super::{AGE, NAME, Printer, column, count, wide, workloads};

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
            service,
        ),
        ("", "Namespace") => printer(
            const { &[NAME, column("Status", "The status of the namespace"), AGE] },
            |o, now| vec![name(o), text(o, "/status/phase").into(), age(o, now)],
        ),
        ("", "ConfigMap") => printer(
            const { &[NAME, column("Data", "The number of entries."), AGE] },
            |o, now| {
                let entries = length(o, "/data") + length(o, "/binaryData");
                vec![name(o), entries.to_string().into(), age(o, now)]
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
                    length(o, "/data").to_string().into(),
                    age(o, now),
                ]
            },
        ),
        ("", "ServiceAccount") => printer(
            const { &[NAME, column("Secrets", "The number of secrets."), AGE] },
            |o, now| vec![name(o), length(o, "/secrets").to_string().into(), age(o, now)],
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
            event,
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
            node,
        ),
        ("", "Endpoints") => printer(
            const { &[NAME, column("Endpoints", "Addresses and ports."), AGE] },
            |o, now| vec![name(o), endpoints(o).into(), age(o, now)],
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
            endpoint_slice,
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
            persistent_volume,
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
            persistent_volume_claim,
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
            resource_quota,
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
            autoscaler,
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
            ingress,
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
            role_binding,
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
            signing_request,
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

fn load_balancer(object: &Value, width: usize) -> String {
    let mut points: Vec<&str> = list(object, "/status/loadBalancer/ingress")
        .iter()
        .map(|i| {
            Some(text(i, "/ip"))
                .filter(|ip| !ip.is_empty())
                .unwrap_or_else(|| text(i, "/hostname"))
        })
        .filter(|p| !p.is_empty())
        .collect();
    points.sort_unstable();
    points.dedup();
    let joined = points.join(",");
    match joined.get(..width.saturating_sub(3)) {
        Some(start) if joined.len() > width => format!("{start}..."),
        _ => joined,
    }
}

fn service(o: &Value, now: Timestamp) -> Vec<Value> {
    let type_ = text(o, "/spec/type");
    let external: Vec<&str> = list(o, "/spec/externalIPs")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let balancer = load_balancer(o, 16);
    let external = match type_ {
        "LoadBalancer" => {
            let points: Vec<&str> = Some(balancer.as_str())
                .filter(|b| !b.is_empty())
                .into_iter()
                .chain(external)
                .collect();
            if points.is_empty() {
                "<pending>".to_owned()
            } else {
                points.join(",")
            }
        }
        "ExternalName" => text(o, "/spec/externalName").to_owned(),
        "ClusterIP" | "NodePort" if external.is_empty() => "<none>".to_owned(),
        "ClusterIP" | "NodePort" => external.join(","),
        _ => "<unknown>".to_owned(),
    };
    let ports: Vec<String> = list(o, "/spec/ports")
        .iter()
        .map(|p| {
            let (port, node_port) = (number(p, "/port"), number(p, "/nodePort"));
            let protocol = Some(text(p, "/protocol"))
                .filter(|p| !p.is_empty())
                .unwrap_or("TCP");
            if node_port > 0 {
                format!("{port}:{node_port}/{protocol}")
            } else {
                format!("{port}/{protocol}")
            }
        })
        .collect();
    vec![
        name(o),
        type_.into(),
        or_none(text(o, "/spec/clusterIP")),
        external.into(),
        or_none(&ports.join(",")),
        age(o, now),
        labels(o.pointer("/spec/selector").and_then(Value::as_object)).into(),
    ]
}

fn event(o: &Value, now: Timestamp) -> Vec<Value> {
    let first_of = |paths: &[&str]| paths.iter().find_map(|p| o.pointer(p).and_then(Value::as_str));
    let involved = o
        .get("involvedObject")
        .or_else(|| o.get("regarding"))
        .cloned()
        .unwrap_or_default();
    let first = first_of(&["/firstTimestamp", "/deprecatedFirstTimestamp", "/eventTime"]);
    let last = first_of(&[
        "/series/lastObservedTime",
        "/lastTimestamp",
        "/deprecatedLastTimestamp",
    ])
    .or(first);
    let times = o
        .pointer("/series/count")
        .or_else(|| o.get("count"))
        .or_else(|| o.get("deprecatedCount"));
    let times = times.and_then(Value::as_i64).filter(|n| *n > 0).unwrap_or(1);
    let source = match (text(o, "/source/component"), text(o, "/source/host")) {
        ("", _) => text(o, "/reportingComponent").to_owned(),
        (component, "") => component.to_owned(),
        (component, host) => format!("{component}, {host}"),
    };
    let target = match text(&involved, "/name") {
        "" => text(&involved, "/kind").to_lowercase(),
        name => format!("{}/{name}", text(&involved, "/kind").to_lowercase()),
    };
    let message = Some(text(o, "/message"))
        .filter(|m| !m.is_empty())
        .unwrap_or_else(|| text(o, "/note"));
    vec![
        since_text(last, now).into(),
        text(o, "/type").into(),
        text(o, "/reason").into(),
        target.into(),
        text(&involved, "/fieldPath").into(),
        source.into(),
        message.trim().into(),
        since_text(first, now).into(),
        times.to_string().into(),
        name(o),
    ]
}

fn node(o: &Value, now: Timestamp) -> Vec<Value> {
    let ready = list(o, "/status/conditions")
        .iter()
        .find(|c| c["type"] == "Ready");
    let mut status = match ready {
        Some(c) if c["status"] == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if flag(o, "/spec/unschedulable") {
        status.push_str(",SchedulingDisabled");
    }
    let labels = o.pointer("/metadata/labels").and_then(Value::as_object);
    let roles: Vec<&str> = labels
        .into_iter()
        .flatten()
        .filter_map(
            |(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
                Some(role) => Some(role).filter(|r| !r.is_empty()),
                None if key == "kubernetes.io/role" => value.as_str().filter(|r| !r.is_empty()),
                None => None,
            },
        )
        .collect();
    let address = |type_: &str| {
        let found = list(o, "/status/addresses").iter().find(|a| a["type"] == type_);
        or_none(found.map_or("", |a| text(a, "/address")))
    };
    let unknown = |pointer: &str| -> Value {
        Some(text(o, pointer))
            .filter(|t| !t.is_empty())
            .unwrap_or("<unknown>")
            .into()
    };
    vec![
        name(o),
        status.into(),
        or_none(&roles.join(",")),
        age(o, now),
        text(o, "/status/nodeInfo/kubeletVersion").into(),
        address("InternalIP"),
        address("ExternalIP"),
        unknown("/status/nodeInfo/osImage"),
        unknown("/status/nodeInfo/kernelVersion"),
        unknown("/status/nodeInfo/containerRuntimeVersion"),
    ]
}

/// The first three of these, and how many more there are.
fn first_three(items: &[String]) -> String {
    match items {
        [] => "<none>".to_owned(),
        items if items.len() <= 3 => items.join(","),
        items => format!("{} + {} more...", items[..3].join(","), items.len() - 3),
    }
}

fn endpoints(o: &Value) -> String {
    let mut all = Vec::new();
    for subset in list(o, "/subsets") {
        for port in list(subset, "/ports") {
            for address in list(subset, "/addresses") {
                let ip = text(address, "/ip");
                let ip = if ip.contains(':') {
                    format!("[{ip}]")
                } else {
                    ip.to_owned()
                };
                all.push(format!("{ip}:{}", number(port, "/port")));
            }
        }
    }
    first_three(&all)
}

fn endpoint_slice(o: &Value, now: Timestamp) -> Vec<Value> {
    let ports: Vec<String> = list(o, "/ports")
        .iter()
        .map(
            |p| match (p.get("port").and_then(Value::as_i64), text(p, "/name")) {
                (Some(port), _) => port.to_string(),
                (None, "") => "*".to_owned(),
                (None, name) => name.to_owned(),
            },
        )
        .collect();
    let addresses: Vec<String> = list(o, "/endpoints")
        .iter()
        .flat_map(|e| list(e, "/addresses"))
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let unset = |text: String| {
        if text == "<none>" {
            "<unset>".to_owned()
        } else {
            text
        }
    };
    vec![
        name(o),
        text(o, "/addressType").into(),
        unset(first_three(&ports)).into(),
        unset(first_three(&addresses)).into(),
        age(o, now),
    ]
}

fn access_modes(o: &Value, pointer: &str) -> String {
    let modes: Vec<&str> = list(o, pointer).iter().filter_map(Value::as_str).collect();
    [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ]
    .into_iter()
    .filter(|(mode, _)| modes.contains(mode))
    .map(|(_, short)| short)
    .collect::<Vec<_>>()
    .join(",")
}

fn phase(o: &Value) -> Value {
    let deleting = o.pointer("/metadata/deletionTimestamp").is_some();
    if deleting {
        "Terminating"
    } else {
        text(o, "/status/phase")
    }
    .into()
}

fn unset(text: &str) -> Value {
    if text.is_empty() { "<unset>" } else { text }.into()
}

fn persistent_volume(o: &Value, now: Timestamp) -> Vec<Value> {
    let claim = match (
        text(o, "/spec/claimRef/namespace"),
        text(o, "/spec/claimRef/name"),
    ) {
        (_, "") => String::new(),
        (namespace, name) => format!("{namespace}/{name}"),
    };
    vec![
        name(o),
        text(o, "/spec/capacity/storage").into(),
        access_modes(o, "/spec/accessModes").into(),
        text(o, "/spec/persistentVolumeReclaimPolicy").into(),
        phase(o),
        claim.into(),
        text(o, "/spec/storageClassName").into(),
        unset(text(o, "/spec/volumeAttributesClassName")),
        text(o, "/status/reason").into(),
        age(o, now),
        unset(text(o, "/spec/volumeMode")),
    ]
}

fn persistent_volume_claim(o: &Value, now: Timestamp) -> Vec<Value> {
    let bound = !text(o, "/spec/volumeName").is_empty();
    let (capacity, modes) = if bound {
        (
            text(o, "/status/capacity/storage"),
            access_modes(o, "/status/accessModes"),
        )
    } else {
        ("", String::new())
    };
    vec![
        name(o),
        phase(o),
        text(o, "/spec/volumeName").into(),
        capacity.into(),
        modes.into(),
        text(o, "/spec/storageClassName").into(),
        unset(text(o, "/spec/volumeAttributesClassName")),
        age(o, now),
        unset(text(o, "/spec/volumeMode")),
    ]
}

fn resource_quota(o: &Value, now: Timestamp) -> Vec<Value> {
    let hard = o
        .pointer("/status/hard")
        .or_else(|| o.pointer("/spec/hard"))
        .and_then(Value::as_object);
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for (resource, allowed) in hard.into_iter().flatten() {
        let used = o
            .pointer("/status/used")
            .and_then(|u| u.get(resource))
            .map_or_else(|| "0".to_owned(), super::shown);
        let entry = format!("{resource}: {used}/{}", super::shown(allowed));
        if resource.starts_with("limits.") {
            limits.push(entry)
        } else {
            requests.push(entry)
        }
    }
    vec![
        name(o),
        requests.join(", ").into(),
        limits.join(", ").into(),
        age(o, now),
    ]
}

fn autoscaler(o: &Value, now: Timestamp) -> Vec<Value> {
    let current = list(o, "/status/currentMetrics");
    let mut targets: Vec<String> = list(o, "/spec/metrics")
        .iter()
        .enumerate()
        .map(|(i, metric)| metric_target(metric, current.get(i)))
        .collect();
    // The first version of the API knows CPU alone.
    if let Some(wanted) = o
        .pointer("/spec/targetCPUUtilizationPercentage")
        .and_then(Value::as_i64)
    {
        let now = o
            .pointer("/status/currentCPUUtilizationPercentage")
            .and_then(Value::as_i64);
        targets.push(format!(
            "cpu: {}/{wanted}%",
            now.map_or("<unknown>".to_owned(), |n| format!("{n}%"))
        ));
    }
    let shown = match targets.len() {
        0 => "<none>".to_owned(),
        n if n > 2 => format!("{} + {} more...", targets[..2].join(", "), n - 2),
        _ => targets.join(", "),
    };
    let least = o
        .pointer("/spec/minReplicas")
        .map_or_else(|| "<unset>".to_owned(), super::shown);
    vec![
        name(o),
        format!(
            "{}/{}",
            text(o, "/spec/scaleTargetRef/kind"),
            text(o, "/spec/scaleTargetRef/name")
        )
        .into(),
        shown.into(),
        least.into(),
        number(o, "/spec/maxReplicas").to_string().into(),
        number(o, "/status/currentReplicas").to_string().into(),
        age(o, now),
    ]
}

/// `cpu: 20%/80%`
fn metric_target(metric: &Value, current: Option<&Value>) -> String {
    let (field, label) = match text(metric, "/type") {
        "Resource" => ("resource", text(metric, "/resource/name")),
        "ContainerResource" => ("containerResource", text(metric, "/containerResource/name")),
        "Pods" => ("pods", ""),
        "Object" => ("object", ""),
        "External" => ("external", ""),
        _ => return "<unknown type>".to_owned(),
    };
    let target = &metric[field]["target"];
    let value = current.map_or(&Value::Null, |c| &c[field]["current"]);
    let percent = |v: &Value| v.as_i64().map(|n| format!("{n}%"));
    let shown = if let Some(wanted) = percent(&target["averageUtilization"]) {
        format!(
            "{}/{wanted}",
            percent(&value["averageUtilization"]).unwrap_or("<unknown>".to_owned())
        )
    } else {
        let (key, suffix) = if target["averageValue"].is_null() {
            ("value", "")
        } else {
            ("averageValue", " (avg)")
        };
        let suffix = if field == "external" || field == "object" {
            suffix
        } else {
            ""
        };
        let now = value[key].as_str().unwrap_or("<unknown>");
        format!("{now}/{}{suffix}", super::shown(&target[key]))
    };
    if label.is_empty() {
        shown
    } else {
        format!("{label}: {shown}")
    }
}

fn ingress(o: &Value, now: Timestamp) -> Vec<Value> {
    let class = Some(text(o, "/spec/ingressClassName"))
        .filter(|c| !c.is_empty())
        .unwrap_or_else(|| text(o, "/metadata/annotations/kubernetes.io~1ingress.class"));
    let rules = list(o, "/spec/rules");
    let hosts: Vec<&str> = rules
        .iter()
        .map(|r| text(r, "/host"))
        .filter(|h| !h.is_empty())
        .collect();
    let hosts = match hosts.len() {
        0 => "*".to_owned(),
        n if n > 3 => format!("{} + {} more...", hosts[..3].join(","), rules.len() - 3),
        _ => hosts.join(","),
    };
    let ports = if list(o, "/spec/tls").is_empty() {
        "80"
    } else {
        "80, 443"
    };
    vec![
        name(o),
        or_none(class),
        hosts.into(),
        load_balancer(o, 16).into(),
        ports.into(),
        age(o, now),
    ]
}

fn role_binding(o: &Value, now: Timestamp) -> Vec<Value> {
    let subjects = |kind: &str| -> Value {
        let names: Vec<String> = list(o, "/subjects")
            .iter()
            .filter(|s| s["kind"] == kind)
            .map(|s| {
                let name = text(s, "/name");
                if kind == "ServiceAccount" {
                    format!("{}/{name}", text(s, "/namespace"))
                } else {
                    name.to_owned()
                }
            })
            .collect();
        names.join(", ").into()
    };
    vec![
        name(o),
        format!("{}/{}", text(o, "/roleRef/kind"), text(o, "/roleRef/name")).into(),
        age(o, now),
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ]
}

fn signing_request(o: &Value, now: Timestamp) -> Vec<Value> {
    let has = |type_: &str| list(o, "/status/conditions").iter().any(|c| c["type"] == type_);
    let mut condition = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (_, true) => "Approved",
        _ => "Pending",
    }
    .to_owned();
    if has("Failed") {
        condition.push_str(",Failed");
    }
    if !text(o, "/status/certificate").is_empty() {
        condition.push_str(",Issued");
    }
    let requested = o.pointer("/spec/expirationSeconds").and_then(Value::as_i64);
    vec![
        name(o),
        age(o, now),
        or_none(text(o, "/spec/signerName")),
        text(o, "/spec/username").into(),
        requested.map_or_else(|| json!("<none>"), |s| super::human_duration(s).into()),
        condition.into(),
    ]
}
