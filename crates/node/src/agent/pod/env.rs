//! Environment variables, arguments, and the fields of a Pod that they may name.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod, ResourceFieldSelector,
};

use crate::{
    agent::quantity,
    core::{Name, World},
};

/// What a container's variables are made from.
pub(super) struct Sources<'a> {
    pub(super) world: &'a World,
    pub(super) pod: &'a Pod,
    pub(super) pod_address: String,
    pub(super) host_address: &'a str,
    /// Processors and bytes of the node, which count where a container has no limit.
    pub(super) cpus: u64,
    pub(super) memory: u64,
}

/// Names and values, in order.
pub(super) type Variables = Vec<(String, String)>;

/// The variables of a container in the order in which they are said; the names that are no variables' are given apart.
///
/// # Errors
/// What is missing, in a kubelet's words.
pub(super) fn variables(
    sources: &Sources<'_>,
    container: &Container,
) -> Result<(Variables, Vec<String>), String> {
    let mut found = Variables::new();
    let mut invalid = Vec::new();
    let mut set = |name: String, value: String| {
        found.retain(|(known, _)| *known != name);
        found.push((name, value));
    };
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let entries = if let Some(source) = &from.config_map_ref {
            group(sources.config_map(&source.name)?, source.optional, || {
                format!("configmap {:?} not found", source.name)
            })?
        } else if let Some(source) = &from.secret_ref {
            group(sources.secret(&source.name)?, source.optional, || {
                format!("secret {:?} not found", source.name)
            })?
        } else {
            BTreeMap::new()
        };
        for (key, value) in entries {
            let name = format!("{prefix}{key}");
            match String::from_utf8(value) {
                Ok(value) if is_variable_name(&name) => set(name, value),
                _ => invalid.push(key),
            }
        }
    }
    let mut known: BTreeMap<String, String> = found.iter().cloned().collect();
    let mut all = found;
    for variable in container.env.iter().flatten() {
        let Some(value) = sources.value(container, variable, &known)? else {
            continue;
        };
        known.insert(variable.name.clone(), value.clone());
        all.retain(|(name, _)| *name != variable.name);
        all.push((variable.name.clone(), value));
    }
    Ok((all, invalid))
}

/// What any engine takes as a name of a variable: anything but `=` and nothing (KEP-4369).
fn is_variable_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=')
}

type Entries = BTreeMap<String, Vec<u8>>;

fn group(
    found: Option<Entries>,
    optional: Option<bool>,
    missing: impl FnOnce() -> String,
) -> Result<Entries, String> {
    match found {
        Some(entries) => Ok(entries),
        None if optional == Some(true) => Ok(Entries::new()),
        None => Err(missing()),
    }
}

impl Sources<'_> {
    fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// The contents of a ConfigMap of the Pod's namespace.
    pub(super) fn config_map(&self, name: &str) -> Result<Option<Entries>, String> {
        let found = self.world.config_maps.get(&Name::new(self.namespace(), name));
        Ok(found.map(|map| {
            let text = map.data.clone().unwrap_or_default().into_iter();
            let binary = map.binary_data.clone().unwrap_or_default().into_iter();
            text.map(|(key, value)| (key, value.into_bytes()))
                .chain(binary.map(|(key, value)| (key, value.0)))
                .collect()
        }))
    }

    /// The contents of a Secret of the Pod's namespace.
    pub(super) fn secret(&self, name: &str) -> Result<Option<Entries>, String> {
        let found = self.world.secrets.get(&Name::new(self.namespace(), name));
        Ok(found.map(|secret| {
            let data = secret.data.clone().unwrap_or_default().into_iter();
            data.map(|(key, value)| (key, value.0)).collect()
        }))
    }

    fn value(
        &self,
        container: &Container,
        variable: &EnvVar,
        known: &BTreeMap<String, String>,
    ) -> Result<Option<String>, String> {
        let Some(from) = &variable.value_from else {
            let text = variable.value.as_deref().unwrap_or_default();
            return Ok(Some(expand(text, known)));
        };
        self.value_from(container, from)
    }

    fn value_from(&self, container: &Container, from: &EnvVarSource) -> Result<Option<String>, String> {
        let of_key = |found: Option<Entries>, kind: &str, name: &str, key: &str, optional: Option<bool>| {
            let optional = optional == Some(true);
            match found.map(|entries| entries.get(key).cloned()) {
                Some(Some(value)) => Ok(Some(String::from_utf8_lossy(&value).into_owned())),
                _ if optional => Ok(None),
                Some(None) => Err(format!(
                    "couldn't find key {key} in {kind} {}/{name}",
                    self.namespace()
                )),
                None => Err(format!("{} {name:?} not found", kind.to_ascii_lowercase())),
            }
        };
        if let Some(key) = &from.config_map_key_ref {
            return of_key(
                self.config_map(&key.name)?,
                "ConfigMap",
                &key.name,
                &key.key,
                key.optional,
            );
        }
        if let Some(key) = &from.secret_key_ref {
            return of_key(
                self.secret(&key.name)?,
                "Secret",
                &key.name,
                &key.key,
                key.optional,
            );
        }
        if let Some(field) = &from.field_ref {
            return self.field(field).map(Some);
        }
        if let Some(resource) = &from.resource_field_ref {
            return self.resource(Some(container), resource).map(Some);
        }
        Err("a variable's `valueFrom` names no source that is known here".to_owned())
    }

    /// A field of the Pod, by its path.
    pub(super) fn field(&self, selector: &ObjectFieldSelector) -> Result<String, String> {
        let meta = &self.pod.metadata;
        let spec = self.pod.spec.as_ref();
        let text = |value: Option<&String>| value.cloned().unwrap_or_default();
        let path = selector.field_path.as_str();
        if let Some((field, key)) = path.strip_suffix("']").and_then(|path| path.split_once("['")) {
            let map = match field {
                "metadata.labels" => &meta.labels,
                "metadata.annotations" => &meta.annotations,
                _ => return Err(format!("unsupported fieldPath: {path}")),
            };
            return Ok(map
                .as_ref()
                .and_then(|map| map.get(key))
                .cloned()
                .unwrap_or_default());
        }
        let lines = |map: &Option<BTreeMap<String, String>>| {
            let lines = map
                .iter()
                .flatten()
                .map(|(key, value)| format!("{key}={value:?}"));
            lines.collect::<Vec<_>>().join("\n")
        };
        Ok(match path {
            "metadata.name" => text(meta.name.as_ref()),
            "metadata.namespace" => text(meta.namespace.as_ref()),
            "metadata.uid" => text(meta.uid.as_ref()),
            "metadata.labels" => lines(&meta.labels),
            "metadata.annotations" => lines(&meta.annotations),
            "spec.nodeName" => text(spec.and_then(|spec| spec.node_name.as_ref())),
            "spec.serviceAccountName" => text(spec.and_then(|spec| spec.service_account_name.as_ref())),
            "status.hostIP" | "status.hostIPs" => self.host_address.to_owned(),
            "status.podIP" | "status.podIPs" => self.pod_address.clone(),
            _ => return Err(format!("unsupported fieldPath: {path}")),
        })
    }

    /// An amount of a container's resources.
    pub(super) fn resource(
        &self,
        container: Option<&Container>,
        selector: &ResourceFieldSelector,
    ) -> Result<String, String> {
        let named = selector.container_name.as_deref().unwrap_or_default();
        let mut all = self.pod.spec.iter().flat_map(|spec| {
            let init = spec.init_containers.iter().flatten();
            spec.containers.iter().chain(init)
        });
        let container = match container {
            Some(container) if named.is_empty() || container.name == named => Some(container),
            _ => all.find(|container| container.name == named),
        };
        let container = container.ok_or_else(|| format!("container {named} not found"))?;
        let resources = container.resources.clone().unwrap_or_default();
        let path = selector.resource.as_str();
        let (kind, resource) = path
            .split_once('.')
            .ok_or_else(|| format!("unsupported container resource : {path}"))?;
        let amounts = match kind {
            "limits" => resources.limits,
            "requests" => resources.requests,
            _ => return Err(format!("unsupported container resource : {path}")),
        };
        let said = amounts.and_then(|amounts| amounts.get(resource).map(|quantity| quantity.0.clone()));
        let amount = match (said, kind, resource) {
            (Some(text), ..) => quantity::milli(&text).unwrap_or_default(),
            (None, "limits", "cpu") => i128::from(self.cpus) * 1000,
            (None, "limits", "memory") => i128::from(self.memory) * 1000,
            _ => 0,
        };
        let divisor = selector.divisor.as_ref().map(|divisor| divisor.0.as_str());
        let divisor = divisor
            .and_then(quantity::milli)
            .filter(|divisor| *divisor > 0)
            .unwrap_or(1000);
        Ok(((amount + divisor - 1) / divisor).to_string())
    }
}

/// Replaces `$(NAME)` by the value of a variable. `$$` is one `$`; what is not known stays as it is.
pub(super) fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(behind) = after.strip_prefix('$') {
            result.push('$');
            rest = behind;
        } else if let Some((name, behind)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match variables.get(name) {
                Some(value) => result.push_str(value),
                None => {
                    result.push_str("$(");
                    result.push_str(name);
                    result.push(')');
                }
            }
            rest = behind;
        } else {
            result.push('$');
            rest = after;
        }
    }
    result.push_str(rest);
    result
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn references_are_expanded_as_kubernetes_documents_it() {
        let known = [
            ("A".to_owned(), "1".to_owned()),
            ("B_C".to_owned(), "two".to_owned()),
        ]
        .into();
        for (text, expected) in [
            ("$(A)", "1"),
            ("x$(B_C)y$(A)", "xtwoy1"),
            ("$$(A)", "$(A)"),
            ("$(NOT)", "$(NOT)"),
            ("$A ${A} $", "$A ${A} $"),
            ("$(A", "$(A"),
        ] {
            assert_eq!(expand(text, &known), expected, "{text}");
        }
    }

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u", "labels": {"app": "x"}},
            "spec": {"nodeName": "choreo-local", "containers": [{
                "name": "main",
                "resources": {"limits": {"memory": "64Mi"}, "requests": {"cpu": "250m"}},
                "env": [
                    {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
                    {"name": "MEMORY", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
                    {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "requests.cpu"}}},
                    {"name": "ALL", "value": "$(NAME)-$(LABEL)"},
                    {"name": "MAYBE", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": true}}},
                ],
            }]},
        }))
        .unwrap()
    }

    fn sources<'a>(world: &'a World, pod: &'a Pod) -> Sources<'a> {
        Sources {
            world,
            pod,
            pod_address: "10.210.0.2".into(),
            host_address: "192.0.2.1",
            cpus: 2,
            memory: 1 << 30,
        }
    }

    #[test]
    fn variables_of_every_source() {
        let (world, pod) = (World::default(), pod());
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let (found, invalid) = variables(&sources(&world, &pod), container).unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(found, ["NAME=p", "LABEL=x", "MEMORY=64", "CPU=1", "ALL=p-x"]);
        assert!(invalid.is_empty());
    }

    #[test]
    fn what_is_missing_is_said() {
        let (world, mut pod) = (World::default(), pod());
        let container = &mut pod.spec.as_mut().unwrap().containers[0];
        container.env_from = Some(vec![
            serde_json::from_value(json!({"configMapRef": {"name": "settings"}})).unwrap(),
        ]);
        let container = container.clone();
        assert_eq!(
            variables(&sources(&world, &pod), &container).unwrap_err(),
            "configmap \"settings\" not found"
        );
    }
}
