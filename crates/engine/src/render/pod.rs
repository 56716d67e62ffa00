//! The pod of a component: all its containers, what they read, and how they are checked.

use std::collections::BTreeMap;

use choreo_api::labels::annotations::CONFIGURATION_HASH;
use choreo_api::v1alpha1::{
    Container, MAIN_CONTAINER,
    common::{EnvVar, Probes},
};
use serde_json::{Map, Value, json};

use super::{
    Input,
    config::{self, Source},
    meta::Meta,
    service,
};

/// The generated part of a pod template.
pub(super) fn template(input: &Input<'_>, meta: &Meta, class_probes: Option<&Probes>) -> Value {
    let mut volumes: BTreeMap<String, Value> = BTreeMap::new();
    let main = main_container(input);
    let containers: Vec<Value> = input
        .workload
        .containers
        .iter()
        .map(|(name, spec)| {
            container(
                input,
                meta,
                name,
                spec,
                main == Some(name),
                class_probes,
                &mut volumes,
            )
        })
        .collect();
    let mut spec = Map::new();
    spec.insert("serviceAccountName".to_owned(), json!(meta.name));
    spec.insert("automountServiceAccountToken".to_owned(), json!(false));
    if let Some(secret) = pull_secret(input) {
        spec.insert("imagePullSecrets".to_owned(), json!([{"name": secret}]));
    }
    spec.insert("containers".to_owned(), json!(containers));
    if !volumes.is_empty() {
        spec.insert(
            "volumes".to_owned(),
            json!(volumes.into_values().collect::<Vec<_>>()),
        );
    }
    let mut metadata = json!({"labels": meta.labels});
    let reads = !input.configuration.is_empty()
        || input
            .workload
            .containers
            .values()
            .any(|c| !c.file_mounts.is_empty());
    if reads && let Some(metadata) = metadata.as_object_mut() {
        metadata.insert(
            "annotations".to_owned(),
            json!({CONFIGURATION_HASH: config::configuration_hash(input)}),
        );
    }
    json!({"metadata": metadata, "spec": spec})
}

/// What every pod gets unless its class says otherwise. `runAsNonRoot` and dropped capabilities are left to the class: many
/// images start as root, and would not start at all.
pub(super) fn defaults(containers: &[String]) -> Value {
    let containers: Vec<Value> = containers
        .iter()
        .map(|name| json!({"name": name, "securityContext": {"allowPrivilegeEscalation": false}}))
        .collect();
    json!({"spec": {"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}, "containers": containers}})
}

/// The container that is the component itself: `main`, or else the first.
pub(super) fn main_container<'a>(input: &'a Input<'_>) -> Option<&'a String> {
    let containers = &input.workload.containers;
    containers
        .get_key_value(MAIN_CONTAINER)
        .or_else(|| containers.iter().next())
        .map(|(name, _)| name)
}

/// The registry's credentials, when an image comes from it.
fn pull_secret<'a>(input: &'a Input<'_>) -> Option<&'a str> {
    let registry = input.place.plane.registry.as_ref()?;
    let from_it = input
        .workload
        .containers
        .values()
        .any(|c| c.image.starts_with(&registry.prefix));
    registry.secret_ref.as_deref().filter(|_| from_it)
}

fn container(
    input: &Input<'_>,
    meta: &Meta,
    name: &str,
    spec: &Container,
    is_main: bool,
    class_probes: Option<&Probes>,
    volumes: &mut BTreeMap<String, Value>,
) -> Value {
    // Exhaustive on purpose: a field that is added to the type must be rendered, or left out knowingly, here.
    let Container {
        image,
        command,
        args,
        env: _,
        env_from: _,
        file_mounts: _,
        resources,
        probes,
    } = spec;
    let mut out = Map::new();
    out.insert("name".to_owned(), json!(name));
    out.insert("image".to_owned(), json!(image));
    let mut list = |key: &str, values: Vec<Value>| {
        if !values.is_empty() {
            out.insert(key.to_owned(), Value::Array(values));
        }
    };
    list("command", command.iter().map(|c| json!(c)).collect());
    list("args", args.iter().map(|a| json!(a)).collect());
    list("env", env(input, meta, spec));
    list("envFrom", env_from(input, meta, spec));
    list("volumeMounts", volume_mounts(input, meta, name, spec, volumes));
    if is_main {
        list("ports", service::container_ports(input));
    }
    if !resources.is_empty() {
        out.insert("resources".to_owned(), json!(resources));
    }
    let fallback = class_probes.filter(|_| is_main);
    let probe = |get: fn(&Probes) -> &Option<Value>| {
        probes
            .as_ref()
            .and_then(|p| get(p).clone())
            .or_else(|| fallback.and_then(|p| get(p).clone()))
    };
    for (key, value) in [
        ("readinessProbe", probe(|p| &p.readiness_probe)),
        ("livenessProbe", probe(|p| &p.liveness_probe)),
        ("startupProbe", probe(|p| &p.startup_probe)),
    ] {
        if let Some(value) = value {
            out.insert(key.to_owned(), value);
        }
    }
    Value::Object(out)
}

fn env(input: &Input<'_>, meta: &Meta, spec: &Container) -> Vec<Value> {
    let own = spec.env.iter().filter_map(|var| env_var(input, meta, var));
    let injected = input
        .connections
        .variables
        .iter()
        .map(|v| json!({"name": v.name, "value": v.value}));
    own.chain(injected).collect()
}

fn env_var(input: &Input<'_>, meta: &Meta, var: &EnvVar) -> Option<Value> {
    let Some(from) = &var.value_from else {
        return Some(json!({"name": var.key, "value": var.value.as_deref().unwrap_or_default()}));
    };
    let Source { secret, name, key } = config::source_of(input, meta, from)?;
    let kind = if secret { "secretKeyRef" } else { "configMapKeyRef" };
    Some(json!({"name": var.key, "valueFrom": {kind: {"name": name, "key": key}}}))
}

fn env_from(input: &Input<'_>, meta: &Meta, spec: &Container) -> Vec<Value> {
    use crate::resolve::configuration::Setting;
    let mut out = Vec::new();
    for source in &spec.env_from {
        if let Some(secret) = &source.secret_ref {
            out.push(json!({"secretRef": {"name": secret.name}}));
        }
        let Some(group) = &source.configuration_group_ref else {
            continue;
        };
        let settings = input.configuration.get(&group.name);
        let has = |secret: bool| {
            settings.is_some_and(|s| s.values().any(|v| matches!(v, Setting::VaultKey(_)) == secret))
        };
        let name = config::group_object(meta, &group.name);
        if has(false) {
            out.push(json!({"configMapRef": {"name": name}}));
        }
        if has(true) {
            out.push(json!({"secretRef": {"name": name}}));
        }
    }
    out
}

fn volume_mounts(
    input: &Input<'_>,
    meta: &Meta,
    container: &str,
    spec: &Container,
    volumes: &mut BTreeMap<String, Value>,
) -> Vec<Value> {
    let mut mounts = Vec::new();
    for file in &spec.file_mounts {
        let source = match &file.value_from {
            Some(from) => config::source_of(input, meta, from),
            None => Some(Source {
                secret: false,
                name: config::files_object(meta),
                key: config::file_key(container, &file.mount_path),
            }),
        };
        let Some(Source { secret, name, key }) = source else {
            continue;
        };
        let volume = volume_name(secret, &name);
        let object = if secret {
            json!({"secretName": name})
        } else {
            json!({"name": name})
        };
        let kind = if secret { "secret" } else { "configMap" };
        volumes.insert(volume.clone(), json!({"name": volume, kind: object}));
        mounts.push(json!({"name": volume, "mountPath": file.mount_path, "subPath": key, "readOnly": true}));
    }
    mounts
}

fn volume_name(secret: bool, object: &str) -> String {
    let kind = if secret { "secret" } else { "config" };
    choreo_api::names::k8s_name(choreo_api::names::LABEL_LIMIT, &[kind, object]).replace('.', "-")
}
