//! The pod of a component: all its containers, what they read, and how they are checked.

use std::collections::BTreeMap;

use choreo_api::labels::annotations::{CONFIGURATION_HASH, RESTARTED_AT};
use choreo_api::v1alpha1::{
    Container, InitContainer, MAIN_CONTAINER,
    common::{EnvVar, Probes},
};
use serde_json::{Map, Value, json};

use super::{
    Input,
    config::{self, Source},
    meta::Meta,
    service,
};
use crate::problem::Problems;

/// The generated part of a pod template.
///
/// # Errors
/// What no pod can be made of.
pub(super) fn template(
    input: &Input<'_>,
    meta: &Meta,
    class_probes: Option<&Probes>,
) -> Result<Value, Problems> {
    check(input)?;
    let mut volumes = Volumes::default();
    let main = main_container(input);
    let containers: Vec<Value> = input
        .workload
        .containers
        .iter()
        .map(|(name, spec)| {
            let is_main = main == Some(name);
            container(input, meta, name, spec, is_main, class_probes, &mut volumes)
        })
        .collect();
    let init: Vec<Value> = input
        .workload
        .init_containers
        .iter()
        .map(|init| init_container(input, meta, init, &mut volumes))
        .collect();
    let mut spec = Map::new();
    spec.insert("serviceAccountName".to_owned(), json!(meta.name));
    let secrets = pull_secrets(input);
    if !secrets.is_empty() {
        spec.insert("imagePullSecrets".to_owned(), json!(secrets));
    }
    if !init.is_empty() {
        spec.insert("initContainers".to_owned(), json!(init));
    }
    spec.insert("containers".to_owned(), json!(containers));
    let volumes = volumes.into_list();
    if !volumes.is_empty() {
        spec.insert("volumes".to_owned(), json!(volumes));
    }
    let mut metadata = json!({"labels": meta.labels});
    let reads = !input.configuration.is_empty()
        || input
            .workload
            .all_containers()
            .any(|(.., c)| !c.file_mounts.is_empty());
    let mut annotations = Map::new();
    if reads {
        let hash = config::configuration_hash(input);
        annotations.insert(CONFIGURATION_HASH.to_owned(), json!(hash));
    }
    if let Some(time) = &input.overrides.restarted_at {
        annotations.insert(RESTARTED_AT.to_owned(), json!(time));
    }
    if !annotations.is_empty() {
        metadata["annotations"] = Value::Object(annotations);
    }
    Ok(json!({"metadata": metadata, "spec": spec}))
}

/// What Kubernetes would refuse, said in the developer's words.
fn check(input: &Input<'_>) -> Result<(), Problems> {
    let mut problems = Problems::new();
    for init in &input.workload.init_containers {
        let InitContainer {
            name,
            restart_policy,
            container,
        } = init;
        let field = format!("workload initContainers[{name}]");
        if input.workload.containers.contains_key(name) {
            problems.invalid(format!(
                "{field}: containers has one of this name, too: rename one of them"
            ));
        }
        if restart_policy.is_none() && container.probes.is_some() {
            problems.invalid(format!(
                "{field}.probes: a container that ends before the others start cannot be probed: remove them, or make it a sidecar with restartPolicy Always"
            ));
        }
    }
    problems.or_ok(())
}

/// What every pod gets unless its class says otherwise: what the profile `restricted` of Kubernetes' pod security
/// standards asks for.
pub(super) fn defaults(containers: &[String], init: &[String], spread: Vec<Value>) -> Value {
    let secured = |names: &[String]| -> Vec<Value> {
        let context = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
        names
            .iter()
            .map(|name| json!({"name": name, "securityContext": context}))
            .collect()
    };
    let mut spec = json!({
        "automountServiceAccountToken": false,
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": secured(containers),
    });
    if let Some(spec) = spec.as_object_mut() {
        if !init.is_empty() {
            spec.insert("initContainers".to_owned(), json!(secured(init)));
        }
        if !spread.is_empty() {
            spec.insert("topologySpreadConstraints".to_owned(), Value::Array(spread));
        }
    }
    json!({"spec": spec})
}

/// The container that is the component itself: `main`, or else the first.
pub(super) fn main_container<'a>(input: &'a Input<'_>) -> Option<&'a String> {
    let containers = &input.workload.containers;
    containers
        .get_key_value(MAIN_CONTAINER)
        .or_else(|| containers.iter().next())
        .map(|(name, _)| name)
}

/// The credentials for registries: the workload's own, and those of the data plane's registry when an image comes from it.
fn pull_secrets(input: &Input<'_>) -> Vec<Value> {
    let mut names: Vec<&str> = input
        .workload
        .image_pull_secrets
        .iter()
        .map(String::as_str)
        .collect();
    if let Some(registry) = &input.place.plane.registry
        && let Some(secret) = &registry.secret_ref
        && !names.contains(&secret.as_str())
        && input
            .workload
            .all_containers()
            .any(|(.., c)| is_from(&c.image, &registry.prefix))
    {
        names.push(secret);
    }
    names.into_iter().map(|name| json!({"name": name})).collect()
}

/// Whether an image comes from a registry: its name goes on after the prefix with a part of its own.
fn is_from(image: &str, prefix: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    image
        .strip_prefix(prefix)
        .is_some_and(|rest| rest.starts_with(['/', ':', '@']))
}

fn init_container(input: &Input<'_>, meta: &Meta, init: &InitContainer, volumes: &mut Volumes) -> Value {
    let mut out = container(input, meta, &init.name, &init.container, false, None, volumes);
    if let (Some(policy), Some(out)) = (init.restart_policy, out.as_object_mut()) {
        out.insert("restartPolicy".to_owned(), json!(policy));
    }
    out
}

/// The volumes of a pod, by name.
#[derive(Debug, Default)]
struct Volumes(BTreeMap<String, Value>);

impl Volumes {
    fn into_list(self) -> Vec<Value> {
        self.0.into_values().collect()
    }

    /// The volume of an object, and whether it is one of its entries or the whole of it that is mounted.
    fn add(&mut self, kind: VolumeKind, object: &str) -> String {
        let (prefix, source) = match kind {
            VolumeKind::ConfigMap => ("config", json!({"configMap": {"name": object}})),
            VolumeKind::Secret => ("secret", json!({"secret": {"secretName": object}})),
            VolumeKind::SecretProvider => (
                "store",
                json!({"csi": {
                    "driver": "secrets-store.csi.k8s.io",
                    "readOnly": true,
                    "volumeAttributes": {"secretProviderClass": object},
                }}),
            ),
        };
        let name =
            choreo_api::names::k8s_name(choreo_api::names::LABEL_LIMIT, &[prefix, object]).replace('.', "-");
        let mut volume = source;
        if let Some(volume) = volume.as_object_mut() {
            volume.insert("name".to_owned(), json!(name));
        }
        self.0.insert(name.clone(), volume);
        name
    }
}

/// Where the content of a volume comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum VolumeKind {
    ConfigMap,
    Secret,
    /// The Secrets Store CSI driver.
    SecretProvider,
}

fn container(
    input: &Input<'_>,
    meta: &Meta,
    name: &str,
    spec: &Container,
    is_main: bool,
    class_probes: Option<&Probes>,
    volumes: &mut Volumes,
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
    let mut mounts = volume_mounts(input, meta, name, spec, volumes);
    if is_main {
        mounts.extend(store_mounts(input, meta, volumes));
        list("ports", service::container_ports(input));
    }
    list("volumeMounts", mounts);
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
    let injected = input.connections.variables.iter().map(|v| match &v.secret {
        Some((name, key)) => {
            json!({"name": v.name, "valueFrom": {"secretKeyRef": {"name": name, "key": key}}})
        }
        None => json!({"name": v.name, "value": v.value}),
    });
    own.chain(injected).collect()
}

fn env_var(input: &Input<'_>, meta: &Meta, var: &EnvVar) -> Option<Value> {
    let Some(from) = &var.value_from else {
        return Some(json!({"name": var.key, "value": var.value.as_deref().unwrap_or_default()}));
    };
    let Source {
        secret, name, key, ..
    } = config::source_of(input, meta, from)?;
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
    volumes: &mut Volumes,
) -> Vec<Value> {
    let mut mounts = Vec::new();
    for file in &spec.file_mounts {
        let source = match &file.value_from {
            Some(from) => config::source_of(input, meta, from),
            None => Some(Source {
                secret: false,
                of_group: false,
                name: config::files_object(meta),
                key: config::file_key(container, &file.mount_path),
            }),
        };
        let Some(source) = source else {
            continue;
        };
        let kind = match (source.secret, source.of_group) {
            (false, _) => VolumeKind::ConfigMap,
            // The driver's own volume has the file at once; the Secret that it makes comes after the pod.
            (true, true) if config::has_driver(input) => VolumeKind::SecretProvider,
            (true, _) => VolumeKind::Secret,
        };
        let volume = volumes.add(kind, &source.name);
        mounts.push(json!({
            "name": volume,
            "mountPath": file.mount_path,
            "subPath": source.key,
            "readOnly": true,
        }));
    }
    mounts
}

/// The Secrets Store CSI driver makes a Secret once a pod mounts the volume: for variables somebody has to.
fn store_mounts(input: &Input<'_>, meta: &Meta, volumes: &mut Volumes) -> Vec<Value> {
    if !config::has_driver(input) {
        return Vec::new();
    }
    config::secret_groups(input)
        .map(|group| {
            let object = config::group_object(meta, group);
            let volume = volumes.add(VolumeKind::SecretProvider, &object);
            json!({"name": volume, "mountPath": format!("/mnt/secrets-store/{object}"), "readOnly": true})
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::is_from;

    #[test]
    fn an_image_is_from_a_registry_when_its_name_goes_on_after_the_prefix() {
        assert!(is_from("registry.example.com/app:1", "registry.example.com"));
        assert!(is_from(
            "registry.example.com/acme/app",
            "registry.example.com/acme/"
        ));
        assert!(is_from(
            "registry.example.com/acme@sha256:00",
            "registry.example.com/acme"
        ));
        assert!(!is_from(
            "registry.example.com.evil.org/app",
            "registry.example.com"
        ));
        assert!(!is_from(
            "registry.example.com/acme-2/app",
            "registry.example.com/acme"
        ));
    }
}
