//! What the platform owns in every object: where it is, whose it is, which pods it selects, as whom they run.

use std::collections::{BTreeMap, BTreeSet};

use choreo_apimachinery::patch;
use serde_json::{Map, Value, json};

use super::{
    evaluate::{Made, failed},
    form,
};
use crate::{
    problem::Problems,
    render::{meta::is_reserved, registry},
};

/// What is added to objects that blueprints made.
#[derive(Debug, Clone)]
pub struct Adopter {
    /// The cell's namespace.
    pub namespace: String,
    /// Labels of every object and pod.
    pub labels: BTreeMap<String, String>,
    /// The labels by which the pods are selected.
    pub selector: BTreeMap<String, String>,
    /// What pods get.
    pub pods: PodDefaults,
    /// Whether nothing should run.
    pub suspended: bool,
}

/// What pods get.
#[derive(Debug, Clone, Default)]
pub struct PodDefaults {
    /// The service account as which they run; none of their own if absent.
    pub service_account: Option<String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// `imagePullSecrets`, unless they say others.
    pub pull_secrets: Vec<Value>,
    /// Volumes that containers may mount without declaring them.
    pub volumes: Vec<Value>,
}

/// Makes objects the platform's: says where they are and whose, and refuses what contradicts it. `of` is the blueprint.
///
/// # Errors
/// Everything that a blueprint says and that is not its to say.
pub fn adopt(of: &str, adopter: &Adopter, objects: &mut Vec<Made>) -> Result<(), Problems> {
    let mut problems = Problems::new();
    if adopter.suspended {
        // What scales would start again what rests.
        objects.retain(|o| o.kind() != "HorizontalPodAutoscaler" && o.kind() != "ScaledObject");
    }
    let mut seen = BTreeSet::new();
    for made in objects.iter_mut() {
        let identity = (
            made.api_version().to_owned(),
            made.kind().to_owned(),
            made.name().to_owned(),
        );
        let describe = format!("{of}: {} {:?}", made.kind(), made.name());
        if !seen.insert(identity) {
            problems.push(failed(
                &describe,
                "is made twice, or the platform makes it already: choose another name",
            ));
            continue;
        }
        let kind = made.kind().to_owned();
        let (platform, api_version) = (made.platform, made.api_version().to_owned());
        let Some(object) = made.object.as_object_mut() else {
            continue;
        };
        let mut refuse = |what: String| problems.push(failed(&describe, what));
        object.remove("status");
        place(object, adopter, &mut refuse);
        if form::selects_pods(&kind) {
            select(object, &adopter.selector, &mut refuse);
        }
        if kind == "Service" && api_version == "v1" {
            service(object, &adopter.selector, &mut refuse);
        }
        if let Some(pointer) = form::pod_template(&kind) {
            pod(&mut made.object, pointer, adopter, platform, &mut refuse);
        }
        if adopter.suspended {
            rest(&mut made.object, &kind);
        }
    }
    problems.or_ok(())
}

fn place(object: &mut Map<String, Value>, adopter: &Adopter, refuse: &mut impl FnMut(String)) {
    let metadata = object.entry("metadata").or_insert_with(|| json!({}));
    let Some(metadata) = metadata.as_object_mut() else {
        return;
    };
    match metadata.insert("namespace".to_owned(), json!(adopter.namespace)) {
        Some(Value::String(other)) if other != adopter.namespace => {
            refuse(format!(
                "metadata.namespace {other:?}: the platform places the object; remove it"
            ));
        }
        _ => {}
    }
    let found: Vec<String> = metadata
        .keys()
        .filter(|k| form::metadata_field(k).is_some())
        .cloned()
        .collect();
    for key in found {
        let why = form::metadata_field(&key).unwrap_or_default();
        refuse(format!("metadata.{key}: {why}"));
    }
    label(metadata, &adopter.labels, "metadata", refuse);
}

/// Adds labels; those of the platform may be there with the platform's values only.
fn label(
    metadata: &mut Map<String, Value>,
    labels: &BTreeMap<String, String>,
    field: &str,
    refuse: &mut impl FnMut(String),
) {
    let own = metadata.entry("labels").or_insert_with(|| json!({}));
    let Some(own) = own.as_object_mut() else { return };
    for (key, value) in own.iter() {
        let agrees = labels.get(key).map(String::as_str) == value.as_str();
        if is_reserved(key) && !agrees {
            refuse(format!("{field}.labels[{key}]: the platform sets it; remove it"));
        }
    }
    own.extend(labels.iter().map(|(k, v)| (k.clone(), json!(v))));
}

/// Sees to it that an object selects the component's own pods: all of them, or fewer.
fn select(
    object: &mut Map<String, Value>,
    selector: &BTreeMap<String, String>,
    refuse: &mut impl FnMut(String),
) {
    let spec = object.entry("spec").or_insert_with(|| json!({}));
    let Some(spec) = spec.as_object_mut() else { return };
    let own = spec.entry("selector").or_insert_with(|| json!({}));
    let Some(own) = own.as_object_mut() else { return };
    let labels = own.entry("matchLabels").or_insert_with(|| json!({}));
    narrow(labels, selector, "spec.selector.matchLabels", refuse);
}

fn narrow(
    labels: &mut Value,
    selector: &BTreeMap<String, String>,
    field: &str,
    refuse: &mut impl FnMut(String),
) {
    let Some(labels) = labels.as_object_mut() else {
        return;
    };
    for (key, value) in selector {
        match labels.insert(key.clone(), json!(value)) {
            Some(other) if other.as_str() != Some(value) => {
                refuse(format!(
                    "{field}[{key}]: only the component's own pods can be selected; remove it"
                ));
            }
            _ => {}
        }
    }
}

fn service(
    object: &mut Map<String, Value>,
    selector: &BTreeMap<String, String>,
    refuse: &mut impl FnMut(String),
) {
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    if spec.get("type").and_then(Value::as_str) == Some("ExternalName") || spec.contains_key("externalName") {
        refuse("spec.externalName: it would lead around the cell; declare an external connection".to_owned());
    }
    if spec.contains_key("externalIPs") {
        refuse("spec.externalIPs: they would lead around the gateway; remove them".to_owned());
    }
    let own = spec.entry("selector").or_insert_with(|| json!({}));
    narrow(own, selector, "spec.selector", refuse);
}

fn pod(
    object: &mut Value,
    pointer: &str,
    adopter: &Adopter,
    platform: bool,
    refuse: &mut impl FnMut(String),
) {
    let Some(template) = object.pointer_mut(pointer).and_then(Value::as_object_mut) else {
        return;
    };
    let defaults = &adopter.pods;
    let field = pointer.trim_start_matches('/').replace('/', ".");
    let metadata = template.entry("metadata").or_insert_with(|| json!({}));
    if let Some(metadata) = metadata.as_object_mut() {
        label(metadata, &adopter.labels, &format!("{field}.metadata"), refuse);
        if !defaults.annotations.is_empty() {
            let own = metadata.entry("annotations").or_insert_with(|| json!({}));
            if let Some(own) = own.as_object_mut() {
                own.extend(defaults.annotations.iter().map(|(k, v)| (k.clone(), json!(v))));
            }
        }
    }
    let Some(spec) = template.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    spec.remove("serviceAccount");
    if let Some(account) = &defaults.service_account {
        match spec.insert("serviceAccountName".to_owned(), json!(account)) {
            Some(other) if other.as_str() != Some(account) => {
                refuse(format!(
                    "{field}.spec.serviceAccountName: the platform gives each component its own; remove it"
                ));
            }
            _ => {}
        }
    }
    spec.entry("automountServiceAccountToken")
        .or_insert_with(|| json!(false));
    if !defaults.pull_secrets.is_empty() {
        spec.entry("imagePullSecrets")
            .or_insert_with(|| json!(defaults.pull_secrets));
    }
    if !platform {
        add_volumes(spec, &defaults.volumes);
        secure(spec);
        drop_empty(spec);
    }
}

/// Takes empty lists out, which an API server does not keep: they would look like drift for ever.
fn drop_empty(spec: &mut Map<String, Value>) {
    let is_empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
    spec.retain(|name, value| !(matches!(name.as_str(), "volumes" | "imagePullSecrets") && is_empty(value)));
    for list in ["containers", "initContainers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
            container.retain(|_, value| !is_empty(value));
        }
    }
}

/// Adds the volumes that containers mount and that the pod does not declare.
fn add_volumes(spec: &mut Map<String, Value>, known: &[Value]) {
    let name = |value: &Value| {
        value
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let mut mounted = BTreeSet::new();
    for list in ["containers", "initContainers"] {
        let containers = spec.get(list).and_then(Value::as_array);
        for mount in containers
            .into_iter()
            .flatten()
            .filter_map(|c| c.get("volumeMounts")?.as_array())
            .flatten()
        {
            mounted.insert(name(mount));
        }
    }
    let declared: BTreeSet<String> = spec
        .get("volumes")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(name)
        .collect();
    let missing: Vec<Value> = known
        .iter()
        .filter(|v| mounted.contains(&name(v)) && !declared.contains(&name(v)))
        .cloned()
        .collect();
    if missing.is_empty() {
        return;
    }
    if let Some(volumes) = spec.entry("volumes").or_insert_with(|| json!([])).as_array_mut() {
        volumes.extend(missing);
    }
}

/// What every pod gets unless it says otherwise, as built-in types have it.
fn secure(spec: &mut Map<String, Value>) {
    let names = |list: &str| -> Vec<Value> {
        let containers = spec.get(list).and_then(Value::as_array);
        let names = containers.into_iter().flatten().filter_map(|c| c.get("name"));
        names
            .map(|name| json!({"name": name, "securityContext": {"allowPrivilegeEscalation": false}}))
            .collect()
    };
    let mut base = json!({"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}});
    for list in ["containers", "initContainers"] {
        let names = names(list);
        if !names.is_empty()
            && let Some(base) = base.as_object_mut()
        {
            base.insert(list.to_owned(), Value::Array(names));
        }
    }
    let schema = registry::schema("", "v1", "Pod");
    if let Some(schema) = schema.at(&["spec"])
        && let Ok(Value::Object(merged)) = patch::strategic(schema, &base, &Value::Object(spec.clone()))
    {
        *spec = merged;
    }
}

/// Lets a workload rest.
fn rest(object: &mut Value, kind: &str) {
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    match kind {
        "Deployment" | "StatefulSet" | "ReplicaSet" => {
            spec.insert("replicas".to_owned(), json!(0));
        }
        "CronJob" | "Job" => {
            spec.insert("suspend".to_owned(), json!(true));
        }
        _ => {}
    }
}
