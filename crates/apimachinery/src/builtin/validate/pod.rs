//! Pods and pod templates.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    Errors, is_set, label_selector, labels, list, map, pod_changes, port_name, port_number, port_or_name,
    quantities, text,
};
use crate::{
    field::{FieldError, FieldPath},
    meta::names,
};

pub(super) fn pod(subresource: &str, new: &Value, old: Option<&Value>, e: &mut Errors) {
    let path = FieldPath::new("spec");
    spec(&new["spec"], &path, e);
    match old {
        None => pod_changes::created(new, e),
        Some(old) => pod_changes::changed(subresource, new, old, e),
    }
}

pub(super) fn template(template: &Value, path: &FieldPath<'_>, e: &mut Errors) {
    let metadata = path.child("metadata");
    labels(map(&template["metadata"], "labels"), &metadata.child("labels"), e);
    spec(&template["spec"], &path.child("spec"), e);
}

pub(super) fn spec(spec: &Value, path: &FieldPath<'_>, e: &mut Errors) {
    let volumes = volumes(spec, path, e);
    let mut taken = BTreeSet::new();
    if list(spec, "containers").is_empty() {
        e.required(&path.child("containers"), "");
    }
    for field in ["initContainers", "containers"] {
        let at = path.child(field);
        for (index, one) in list(spec, field).iter().enumerate() {
            let at = at.index(index);
            container(one, &at, &volumes, e);
            let name = text(one, "name");
            if !name.is_empty() && !taken.insert(name) {
                e.push(FieldError::duplicate(&at.child("name"), name));
            }
        }
    }
    let ephemeral = path.child("ephemeralContainers");
    for (index, one) in list(spec, "ephemeralContainers").iter().enumerate() {
        container(one, &ephemeral.index(index), &volumes, e);
    }
    pod_changes::ephemeral(spec, path, e);
    e.one_of(spec, "restartPolicy", path, &["Always", "OnFailure", "Never"]);
    e.one_of(
        spec,
        "dnsPolicy",
        path,
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
    );
    e.one_of(spec, "preemptionPolicy", path, &["PreemptLowerPriority", "Never"]);
    if let Some(grace) = spec.get("terminationGracePeriodSeconds").and_then(Value::as_i64)
        && grace < 0
    {
        e.invalid(
            &path.child("terminationGracePeriodSeconds"),
            grace,
            "must be greater than or equal to 0",
        );
    }
    if let Some(deadline) = spec.get("activeDeadlineSeconds").and_then(Value::as_i64)
        && deadline < 1
    {
        e.invalid(
            &path.child("activeDeadlineSeconds"),
            deadline,
            "must be between 1 and 2147483647, inclusive",
        );
    }
    labels(map(spec, "nodeSelector"), &path.child("nodeSelector"), e);
    for field in ["serviceAccountName", "nodeName"] {
        let name = text(spec, field);
        if !name.is_empty() {
            e.all(&path.child(field), name, names::dns1123_subdomain(name));
        }
    }
    for field in ["hostname", "subdomain"] {
        let name = text(spec, field);
        if !name.is_empty() {
            e.all(&path.child(field), name, names::dns1123_label(name));
        }
    }
    spread_constraints(spec, path, e);
    tolerations(spec, path, e);
}

fn tolerations(spec: &Value, path: &FieldPath<'_>, e: &mut Errors) {
    let tolerations = path.child("tolerations");
    for (index, toleration) in list(spec, "tolerations").iter().enumerate() {
        let at = tolerations.index(index);
        e.one_of(
            toleration,
            "effect",
            &at,
            &["NoSchedule", "PreferNoSchedule", "NoExecute", ""],
        );
        let (key, operator) = (text(toleration, "key"), text(toleration, "operator"));
        if !key.is_empty() {
            e.all(&at.child("key"), key, names::qualified_name(key));
        } else if operator != "Exists" {
            e.invalid(
                &at.child("operator"),
                operator,
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            );
        }
        if operator == "Exists" && !text(toleration, "value").is_empty() {
            e.invalid(
                &at.child("operator"),
                toleration.clone(),
                "value must be empty when `operator` is 'Exists'",
            );
        }
    }
}

fn spread_constraints(spec: &Value, path: &FieldPath<'_>, e: &mut Errors) {
    let constraints = path.child("topologySpreadConstraints");
    for (index, constraint) in list(spec, "topologySpreadConstraints").iter().enumerate() {
        let at = constraints.index(index);
        if constraint
            .get("maxSkew")
            .and_then(Value::as_i64)
            .unwrap_or_default()
            <= 0
        {
            e.invalid(
                &at.child("maxSkew"),
                constraint["maxSkew"].clone(),
                "must be greater than zero",
            );
        }
        if text(constraint, "topologyKey").is_empty() {
            e.required(&at.child("topologyKey"), "can not be empty");
        }
        e.one_of(
            constraint,
            "whenUnsatisfiable",
            &at,
            &["DoNotSchedule", "ScheduleAnyway"],
        );
        if is_set(constraint, "labelSelector") {
            label_selector(&constraint["labelSelector"], &at.child("labelSelector"), e);
        }
    }
}

/// Checks volumes and gives their names.
fn volumes<'v>(spec: &'v Value, path: &FieldPath<'_>, e: &mut Errors) -> BTreeSet<&'v str> {
    let volumes = path.child("volumes");
    let mut taken = BTreeSet::new();
    for (index, volume) in list(spec, "volumes").iter().enumerate() {
        let at = volumes.index(index);
        let name = text(volume, "name");
        if name.is_empty() {
            e.required(&at.child("name"), "");
        } else {
            e.all(&at.child("name"), name, names::dns1123_label(name));
            if !taken.insert(name) {
                e.push(FieldError::duplicate(&at.child("name"), name));
            }
        }
        let sources: Vec<&String> = volume
            .as_object()
            .into_iter()
            .flatten()
            .map(|(k, _)| k)
            .filter(|k| *k != "name")
            .collect();
        for extra in sources.iter().skip(1) {
            e.push(FieldError::forbidden(
                &at.child(extra),
                "may not specify more than 1 volume type",
            ));
        }
        if is_set(volume, "configMap") && text(&volume["configMap"], "name").is_empty() {
            let source = at.child("configMap");
            e.required(&source.child("name"), "");
        }
        if is_set(volume, "secret") && text(&volume["secret"], "secretName").is_empty() {
            let source = at.child("secret");
            e.required(&source.child("secretName"), "");
        }
        if is_set(volume, "persistentVolumeClaim")
            && text(&volume["persistentVolumeClaim"], "claimName").is_empty()
        {
            let source = at.child("persistentVolumeClaim");
            e.required(&source.child("claimName"), "");
        }
        if is_set(volume, "hostPath") && text(&volume["hostPath"], "path").is_empty() {
            let source = at.child("hostPath");
            e.required(&source.child("path"), "");
        }
    }
    taken
}

fn container(container: &Value, path: &FieldPath<'_>, volumes: &BTreeSet<&str>, e: &mut Errors) {
    let name = text(container, "name");
    if name.is_empty() {
        e.required(&path.child("name"), "");
    } else {
        e.all(&path.child("name"), name, names::dns1123_label(name));
    }
    let image = text(container, "image");
    if image.is_empty() {
        e.required(&path.child("image"), "");
    } else if image.trim() != image {
        e.invalid(
            &path.child("image"),
            image,
            "must not have leading or trailing whitespace",
        );
    }
    e.one_of(
        container,
        "imagePullPolicy",
        path,
        &["Always", "IfNotPresent", "Never"],
    );
    e.one_of(
        container,
        "terminationMessagePolicy",
        path,
        &["FallbackToLogsOnError", "File"],
    );
    ports(container, path, e);
    environment(container, path, e);
    mounts(container, path, volumes, e);
    resources(&container["resources"], &path.child("resources"), e);
    for field in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if is_set(container, field) {
            probe(&container[field], &path.child(field), field, e);
        }
    }
    let lifecycle = path.child("lifecycle");
    for field in ["postStart", "preStop"] {
        if is_set(&container["lifecycle"], field) {
            handler(&container["lifecycle"][field], &lifecycle.child(field), e);
        }
    }
}

fn ports(container: &Value, path: &FieldPath<'_>, e: &mut Errors) {
    let ports = path.child("ports");
    let mut taken = BTreeSet::new();
    for (index, port) in list(container, "ports").iter().enumerate() {
        let at = ports.index(index);
        let name = text(port, "name");
        if !name.is_empty() {
            let wrong = port_name(name);
            if wrong.is_empty() && !taken.insert(name) {
                e.push(FieldError::duplicate(&at.child("name"), name));
            }
            e.all(&at.child("name"), name, wrong);
        }
        match port
            .get("containerPort")
            .and_then(Value::as_i64)
            .unwrap_or_default()
        {
            0 => e.required(&at.child("containerPort"), ""),
            number => port_number(number, &at.child("containerPort"), e),
        }
        if let Some(number) = port.get("hostPort").and_then(Value::as_i64).filter(|n| *n != 0) {
            port_number(number, &at.child("hostPort"), e);
        }
        e.one_of(port, "protocol", &at, &["SCTP", "TCP", "UDP"]);
    }
}

fn environment(container: &Value, path: &FieldPath<'_>, e: &mut Errors) {
    let env = path.child("env");
    for (index, variable) in list(container, "env").iter().enumerate() {
        let at = env.index(index);
        let name = text(variable, "name");
        if name.is_empty() {
            e.required(&at.child("name"), "");
        } else if name.contains('=') || !name.bytes().all(|b| (0x20..0x7f).contains(&b)) {
            e.invalid(
                &at.child("name"),
                name,
                "a valid environment variable name must consist only of printable ASCII characters other than '='",
            );
        }
        if !is_set(variable, "valueFrom") {
            continue;
        }
        let source = &variable["valueFrom"];
        let at = at.child("valueFrom");
        if !text(variable, "value").is_empty() {
            e.invalid(&at, "", "may not be specified when `value` is not empty");
        }
        match source.as_object().map_or(0, serde_json::Map::len) {
            0 => e.invalid(
                &at,
                "",
                "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
            ),
            1 => {}
            _ => e.invalid(&at, "", "may not have more than one field specified at a time"),
        }
        for field in ["configMapKeyRef", "secretKeyRef"] {
            if is_set(source, field) {
                let at = at.child(field);
                for part in ["name", "key"] {
                    if text(&source[field], part).is_empty() {
                        e.required(&at.child(part), "");
                    }
                }
            }
        }
    }
}

fn mounts(container: &Value, path: &FieldPath<'_>, volumes: &BTreeSet<&str>, e: &mut Errors) {
    let mounts = path.child("volumeMounts");
    let mut taken = BTreeSet::new();
    for (index, mount) in list(container, "volumeMounts").iter().enumerate() {
        let at = mounts.index(index);
        let name = text(mount, "name");
        if name.is_empty() {
            e.required(&at.child("name"), "");
        } else if !volumes.contains(name) {
            e.push(FieldError::not_found(&at.child("name"), name));
        }
        let place = text(mount, "mountPath");
        if place.is_empty() {
            e.required(&at.child("mountPath"), "");
        } else if !taken.insert(place) {
            e.invalid(&at.child("mountPath"), place, "must be unique");
        }
    }
}

fn resources(resources: &Value, path: &FieldPath<'_>, e: &mut Errors) {
    quantities(map(resources, "limits"), &path.child("limits"), e);
    quantities(map(resources, "requests"), &path.child("requests"), e);
}

fn probe(probe: &Value, path: &FieldPath<'_>, kind: &str, e: &mut Errors) {
    handler(probe, path, e);
    for field in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        e.not_negative(probe, field, path);
    }
    if kind != "readinessProbe"
        && let Some(threshold) = probe.get("successThreshold").and_then(Value::as_i64)
        && threshold != 1
    {
        e.invalid(&path.child("successThreshold"), threshold, "must be 1");
    }
}

fn handler(handler: &Value, path: &FieldPath<'_>, e: &mut Errors) {
    let kinds: Vec<&str> = ["exec", "httpGet", "tcpSocket", "grpc", "sleep"]
        .into_iter()
        .filter(|kind| is_set(handler, kind))
        .collect();
    if kinds.is_empty() {
        e.required(path, "must specify a handler type");
    }
    for extra in kinds.iter().skip(1) {
        e.push(FieldError::forbidden(
            &path.child(extra),
            "may not specify more than 1 handler type",
        ));
    }
    for kind in ["httpGet", "tcpSocket"] {
        if is_set(handler, kind) {
            let at = path.child(kind);
            port_or_name(
                handler[kind].get("port").unwrap_or(&json!(0)),
                &at.child("port"),
                e,
            );
        }
    }
    if is_set(handler, "exec") && list(&handler["exec"], "command").is_empty() {
        let at = path.child("exec");
        e.required(&at.child("command"), "");
    }
}
