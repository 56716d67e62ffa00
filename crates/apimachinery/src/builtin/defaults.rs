//! Defaults of built-in kinds: a table by type (`defaults.txt`), and code for those that depend on other fields.

use std::{collections::BTreeMap, sync::OnceLock};

use serde_json::{Map, Value, json};

use super::{lists::full_name, schemas::QUANTITY};
use crate::{
    quantity,
    registry::ResourceInfo,
    schema::{Additional, Schema},
};

struct Default {
    path: Vec<&'static str>,
    only_if_parent: bool,
    value: Value,
}

fn table() -> &'static BTreeMap<String, Vec<Default>> {
    static TABLE: OnceLock<BTreeMap<String, Vec<Default>>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut table = BTreeMap::<String, Vec<Default>>::new();
        let mut current = String::new();
        for line in include_str!("defaults.txt").lines() {
            if line.starts_with('#') || line.is_empty() {
                continue;
            }
            let Some(row) = line.strip_prefix("  ") else {
                current = full_name(line);
                continue;
            };
            let (path, value) = row.split_once(' ').unwrap_or((row, "null"));
            let (path, only_if_parent) = match path.strip_suffix('?') {
                Some(path) => (path, true),
                None => (path, false),
            };
            let value = serde_json::from_str(value).unwrap_or(Value::Null);
            debug_assert!(!value.is_null(), "malformed default {line}");
            table.entry(current.clone()).or_default().push(Default {
                path: path.split('.').collect(),
                only_if_parent,
                value,
            });
        }
        table
    })
}

/// Names of all types that the table has defaults for.
#[cfg(test)]
pub(super) fn types() -> Vec<(String, Vec<String>)> {
    table()
        .iter()
        .map(|(name, rows)| (name.clone(), rows.iter().map(|r| r.path.join(".")).collect()))
        .collect()
}

/// Fills in what kube-apiserver fills in when an object of a built-in kind is decoded. Doing it again changes nothing.
pub fn default(info: &ResourceInfo, object: &mut Value) {
    let schema = info.schema();
    for section in ["spec", "status"] {
        // Structs that are always there have defaults even when the client left them out.
        if schema
            .properties
            .get(section)
            .and_then(|s| s.definition.as_ref())
            .is_some_and(|name| table().contains_key(name))
            && let Some(object) = object.as_object_mut()
        {
            object.entry(section).or_insert_with(|| Value::Object(Map::new()));
        }
    }
    walk(&schema, object);
}

fn walk(schema: &Schema, value: &mut Value) {
    if is_quantity(schema) {
        canonical(value);
        return;
    }
    match value {
        Value::Object(map) => {
            if let Some(definition) = schema.definition.as_deref() {
                for default in table().get(definition).into_iter().flatten() {
                    set(map, default);
                }
                dependent(definition, map);
            }
            if schema.preserve_unknown {
                return;
            }
            if let Additional::Schema(values) = &schema.additional {
                if values.definition.is_some() || !values.properties.is_empty() {
                    map.values_mut().for_each(|value| walk(values, value));
                }
                return;
            }
            for (name, value) in map.iter_mut() {
                if let Some(property) = schema.properties.get(name)
                    && (value.is_object() || value.is_array() || is_quantity(property))
                {
                    walk(property, value);
                }
            }
        }
        Value::Array(list) => {
            if let Some(items) = &schema.items {
                list.iter_mut().for_each(|value| walk(items, value));
            }
        }
        _ => {}
    }
}

fn is_quantity(schema: &Schema) -> bool {
    schema.definition.as_deref() == Some(QUANTITY)
}

/// Amounts are kept in one spelling: `0.5` and `500m` are the same.
fn canonical(value: &mut Value) {
    if let Ok(quantity) = quantity::from_json(value) {
        *value = quantity.to_string().into();
    }
}

fn set(map: &mut Map<String, Value>, default: &Default) {
    let Some((last, parents)) = default.path.split_last() else {
        return;
    };
    let mut at = map;
    for parent in parents {
        if default.only_if_parent && !at.contains_key(*parent) {
            return;
        }
        let below = at.entry(*parent).or_insert_with(|| Value::Object(Map::new()));
        match below.as_object_mut() {
            Some(below) => at = below,
            None => return,
        }
    }
    absent(at, last, || default.value.clone());
}

fn absent(map: &mut Map<String, Value>, field: &str, value: impl FnOnce() -> Value) {
    if map.get(field).is_none_or(Value::is_null) {
        map.insert(field.to_owned(), value());
    }
}

fn text<'m>(map: &'m Map<String, Value>, field: &str) -> &'m str {
    map.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn is_empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::String(s)) => s.is_empty(),
        Some(Value::Array(l)) => l.is_empty(),
        Some(Value::Object(m)) => m.is_empty(),
        Some(Value::Number(n)) => n.as_i64() == Some(0),
        Some(Value::Bool(_)) => false,
    }
}

/// Defaults that depend on other fields of the same type.
fn dependent(definition: &str, map: &mut Map<String, Value>) {
    let short = definition.strip_prefix("io.k8s.api.").unwrap_or(definition);
    match short {
        "core.v1.Container" | "core.v1.EphemeralContainer" => container(map),
        "core.v1.PodSpec" => pod_spec(map),
        "core.v1.Pod" => pod(map),
        "core.v1.Volume" if map.keys().all(|k| k == "name") => {
            map.insert("emptyDir".into(), json!({}));
        }
        "core.v1.ServiceSpec" => service(map),
        "core.v1.Secret" => secret(map),
        "core.v1.Namespace" => namespace(map),
        "core.v1.ReplicationController" => replication_controller(map),
        "core.v1.LimitRangeItem" => limit_range(map),
        "core.v1.NodeStatus" if is_empty(map.get("allocatable")) => {
            if let Some(capacity) = map.get("capacity").cloned() {
                map.insert("allocatable".into(), capacity);
            }
        }
        "apps.v1.Deployment" => rolling(
            map,
            "strategy",
            json!({"maxSurge": "25%", "maxUnavailable": "25%"}),
        ),
        "apps.v1.DaemonSet" => rolling(map, "updateStrategy", json!({"maxSurge": 0, "maxUnavailable": 1})),
        "apps.v1.StatefulSet" => {
            rolling(map, "updateStrategy", json!({"partition": 0}));
            claim_templates(map);
        }
        "batch.v1.Job" => job(map),
        "autoscaling.v2.HorizontalPodAutoscaler" => autoscaler(map),
        "flowcontrol.v1.FlowSchemaSpec" => where_zero(map, &[("matchingPrecedence", 1000)]),
        "flowcontrol.v1.QueuingConfiguration" => {
            where_zero(map, &[("handSize", 8), ("queues", 64), ("queueLengthLimit", 50)])
        }
        "networking.v1.NetworkPolicySpec" if is_empty(map.get("policyTypes")) => {
            let egress = map.get("egress").is_some_and(|e| !is_empty(Some(e)));
            let types = if egress {
                json!(["Ingress", "Egress"])
            } else {
                json!(["Ingress"])
            };
            map.insert("policyTypes".into(), types);
        }
        "rbac.v1.Subject" => {
            let group = match text(map, "kind") {
                "User" | "Group" => "rbac.authorization.k8s.io",
                _ => return,
            };
            if text(map, "apiGroup").is_empty() {
                map.insert("apiGroup".into(), group.into());
            }
        }
        _ if definition.ends_with("apiextensions.v1.CustomResourceDefinition") => {
            custom_resource_definition(map);
        }
        _ => {}
    }
}

/// Numbers of which zero means that nobody has said anything.
fn where_zero(map: &mut Map<String, Value>, defaults: &[(&str, i32)]) {
    for (field, value) in defaults {
        if is_empty(map.get(*field)) {
            map.insert((*field).to_owned(), (*value).into());
        }
    }
}

fn container(map: &mut Map<String, Value>) {
    if text(map, "imagePullPolicy").is_empty() {
        let policy = if tag(text(map, "image")) == Some("latest") {
            "Always"
        } else {
            "IfNotPresent"
        };
        map.insert("imagePullPolicy".into(), policy.into());
    }
}

/// The tag of an image reference: `latest` if it has neither tag nor digest.
fn tag(image: &str) -> Option<&str> {
    let (name, digest) = image.split_once('@').map_or((image, None), |(n, d)| (n, Some(d)));
    let last = name.rsplit('/').next().unwrap_or(name);
    match (last.split_once(':'), digest) {
        (Some((_, tag)), _) => Some(tag),
        (None, Some(_)) => None,
        (None, None) => Some("latest"),
    }
}

fn containers_mut(spec: &mut Map<String, Value>) -> impl Iterator<Item = &mut Map<String, Value>> {
    spec.iter_mut()
        .filter(|(name, _)| matches!(name.as_str(), "containers" | "initContainers"))
        .flat_map(|(_, list)| list.as_array_mut().into_iter().flatten())
        .filter_map(Value::as_object_mut)
}

fn pod_spec(map: &mut Map<String, Value>) {
    // The deprecated name of the field is kept in step with the present one.
    let account = match (text(map, "serviceAccountName"), text(map, "serviceAccount")) {
        ("", "") => None,
        ("", old) => Some(old.to_owned()),
        (new, _) => Some(new.to_owned()),
    };
    if let Some(account) = account {
        map.insert("serviceAccountName".into(), account.as_str().into());
        map.insert("serviceAccount".into(), account.into());
    }
    if map.get("hostNetwork") == Some(&Value::Bool(true)) {
        for container in containers_mut(map) {
            let ports = container.get_mut("ports").and_then(Value::as_array_mut);
            for port in ports.into_iter().flatten().filter_map(Value::as_object_mut) {
                if is_empty(port.get("hostPort"))
                    && let Some(number) = port.get("containerPort").cloned()
                {
                    port.insert("hostPort".into(), number);
                }
            }
        }
    }
}

fn pod(map: &mut Map<String, Value>) {
    let Some(spec) = map.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    absent(spec, "enableServiceLinks", || true.into());
    for container in containers_mut(spec) {
        requests_from_limits(container);
    }
}

/// What is limited and not requested is requested.
fn requests_from_limits(container: &mut Map<String, Value>) {
    let Some(resources) = container.get_mut("resources").and_then(Value::as_object_mut) else {
        return;
    };
    let Some(limits) = resources
        .get("limits")
        .and_then(Value::as_object)
        .filter(|l| !l.is_empty())
        .cloned()
    else {
        return;
    };
    absent(resources, "requests", || json!({}));
    if let Some(requests) = resources.get_mut("requests").and_then(Value::as_object_mut) {
        for (name, limit) in limits {
            requests.entry(name).or_insert(limit);
        }
    }
}

fn service(map: &mut Map<String, Value>) {
    let type_ = text(map, "type").to_owned();
    if text(map, "sessionAffinity") == "ClientIP" {
        let config = map.entry("sessionAffinityConfig").or_insert_with(|| json!({}));
        if config
            .pointer("/clientIP/timeoutSeconds")
            .is_none_or(Value::is_null)
        {
            *config = json!({"clientIP": {"timeoutSeconds": 10_800}});
        }
    } else {
        map.remove("sessionAffinityConfig");
    }
    for port in map
        .get_mut("ports")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        let Some(port) = port.as_object_mut() else {
            continue;
        };
        if is_empty(port.get("targetPort"))
            && let Some(number) = port.get("port").cloned()
        {
            port.insert("targetPort".into(), number);
        }
    }
    if matches!(type_.as_str(), "ClusterIP" | "NodePort" | "LoadBalancer") {
        absent(map, "internalTrafficPolicy", || "Cluster".into());
    }
    if matches!(type_.as_str(), "NodePort" | "LoadBalancer") {
        absent(map, "externalTrafficPolicy", || "Cluster".into());
    }
    if type_ == "LoadBalancer" {
        absent(map, "allocateLoadBalancerNodePorts", || true.into());
    }
}

/// `stringData` is written only: it goes into `data`.
fn secret(map: &mut Map<String, Value>) {
    let Some(Value::Object(plain)) = map.remove("stringData") else {
        return;
    };
    if plain.is_empty() {
        return;
    }
    let data = map.entry("data").or_insert_with(|| json!({}));
    if data.is_null() {
        *data = json!({});
    }
    if let Some(data) = data.as_object_mut() {
        for (key, value) in plain {
            if let Value::String(text) = value {
                use base64::Engine as _;
                let encoded = base64::engine::general_purpose::STANDARD.encode(text);
                data.insert(key, encoded.into());
            }
        }
    }
}

fn namespace(map: &mut Map<String, Value>) {
    let Some(metadata) = map.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    let name = text(metadata, "name").to_owned();
    if name.is_empty() {
        return;
    }
    let labels = metadata.entry("labels").or_insert_with(|| json!({}));
    if let Some(labels) = labels.as_object_mut() {
        labels.insert("kubernetes.io/metadata.name".into(), name.into());
    }
}

fn replication_controller(map: &mut Map<String, Value>) {
    let labels = map
        .get("spec")
        .and_then(|s| s.pointer("/template/metadata/labels"))
        .filter(|l| !is_empty(Some(l)))
        .cloned();
    let Some(labels) = labels else { return };
    if let Some(spec) = map.get_mut("spec").and_then(Value::as_object_mut)
        && is_empty(spec.get("selector"))
    {
        spec.insert("selector".into(), labels.clone());
    }
    if let Some(metadata) = map.entry("metadata").or_insert_with(|| json!({})).as_object_mut()
        && is_empty(metadata.get("labels"))
    {
        metadata.insert("labels".into(), labels);
    }
}

fn limit_range(map: &mut Map<String, Value>) {
    if text(map, "type") != "Container" {
        return;
    }
    let merged = |map: &mut Map<String, Value>, field: &str, from: &str| {
        let Some(from) = map.get(from).and_then(Value::as_object).cloned() else {
            return;
        };
        if let Some(into) = map.entry(field).or_insert_with(|| json!({})).as_object_mut() {
            for (name, value) in from {
                into.entry(name).or_insert(value);
            }
        }
    };
    merged(map, "default", "max");
    merged(map, "defaultRequest", "default");
    merged(map, "defaultRequest", "min");
}

/// Parameters of a rolling update, of which each has its own default.
fn rolling(map: &mut Map<String, Value>, field: &str, parameters: Value) {
    let strategy = map
        .get_mut("spec")
        .and_then(|s| s.get_mut(field))
        .and_then(Value::as_object_mut);
    let Some(strategy) = strategy.filter(|s| text(s, "type") == "RollingUpdate") else {
        return;
    };
    absent(strategy, "rollingUpdate", || json!({}));
    if let (Some(rolling), Value::Object(parameters)) = (
        strategy.get_mut("rollingUpdate").and_then(Value::as_object_mut),
        parameters,
    ) {
        for (name, value) in parameters {
            absent(rolling, &name, || value);
        }
    }
}

/// Claim templates are whole objects.
fn claim_templates(map: &mut Map<String, Value>) {
    let templates = map
        .get_mut("spec")
        .and_then(|s| s.get_mut("volumeClaimTemplates"))
        .and_then(Value::as_array_mut);
    for template in templates.into_iter().flatten().filter_map(Value::as_object_mut) {
        absent(template, "apiVersion", || "v1".into());
        absent(template, "kind", || "PersistentVolumeClaim".into());
    }
}

fn job(map: &mut Map<String, Value>) {
    let labels = map
        .get("spec")
        .and_then(|s| s.pointer("/template/metadata/labels"))
        .cloned();
    if let Some(spec) = map.get_mut("spec").and_then(Value::as_object_mut) {
        if !spec.contains_key("completions") && !spec.contains_key("parallelism") {
            spec.insert("completions".into(), 1.into());
        }
        absent(spec, "parallelism", || 1.into());
        let policy = if spec.contains_key("podFailurePolicy") {
            "Failed"
        } else {
            "TerminatingOrFailed"
        };
        absent(spec, "podReplacementPolicy", || policy.into());
        if spec.contains_key("backoffLimitPerIndex") && spec.get("backoffLimit") == Some(&6.into()) {
            spec.insert("backoffLimit".into(), i32::MAX.into());
        }
    }
    if let Some(labels) = labels.filter(|l| !is_empty(Some(l)))
        && let Some(metadata) = map.entry("metadata").or_insert_with(|| json!({})).as_object_mut()
        && is_empty(metadata.get("labels"))
    {
        metadata.insert("labels".into(), labels);
    }
}

fn autoscaler(map: &mut Map<String, Value>) {
    let Some(spec) = map.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    if is_empty(spec.get("metrics")) {
        spec.insert(
            "metrics".into(),
            json!([{"type": "Resource", "resource": {
                "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80},
            }}]),
        );
    }
    let Some(behavior) = spec.get_mut("behavior").and_then(Value::as_object_mut) else {
        return;
    };
    let policy = |type_: &str, value: i64| json!({"type": type_, "value": value, "periodSeconds": 15});
    let rules = [
        (
            "scaleUp",
            json!({"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [policy("Pods", 4), policy("Percent", 100)]}),
        ),
        (
            "scaleDown",
            json!({"selectPolicy": "Max", "policies": [policy("Percent", 100)]}),
        ),
    ];
    for (name, defaults) in rules {
        absent(behavior, name, || json!({}));
        if let (Some(rule), Value::Object(defaults)) =
            (behavior.get_mut(name).and_then(Value::as_object_mut), defaults)
        {
            for (field, value) in defaults {
                absent(rule, &field, || value);
            }
        }
    }
}

fn custom_resource_definition(map: &mut Map<String, Value>) {
    let names = map
        .get_mut("spec")
        .and_then(|s| s.get_mut("names"))
        .and_then(Value::as_object_mut);
    let Some(names) = names else { return };
    let kind = text(names, "kind").to_owned();
    if kind.is_empty() {
        return;
    }
    if text(names, "singular").is_empty() {
        names.insert("singular".into(), kind.to_lowercase().into());
    }
    if text(names, "listKind").is_empty() {
        names.insert("listKind".into(), format!("{kind}List").into());
    }
}
