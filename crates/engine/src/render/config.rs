//! What a workload reads: ConfigMaps for plain values and files, secrets from the data plane's store.

use std::collections::BTreeMap;

use choreo_api::{
    conditions::reasons,
    v1alpha1::{SecretStoreKind, SecretStoreRef, common::ValueSource},
};
use serde_json::{Map, Value, json};

use super::{Input, meta::Meta, secret_provider};
use crate::{
    hash,
    problem::{Problem, Problems},
    resolve::configuration::Setting,
};

/// Secrets are read again this often. External Secrets' own default.
const REFRESH_INTERVAL: &str = "1h0m0s";

/// What fits into a ConfigMap, in bytes. From its validation in Kubernetes.
const CONFIG_MAP_LIMIT: usize = 1 << 20;

/// The name of the ConfigMap and of the Secret that hold what a component uses of a group.
pub(super) fn group_object(meta: &Meta, group: &str) -> String {
    meta.derived(&["config", group])
}

/// The name of the ConfigMap with the files that are written in place.
pub(super) fn files_object(meta: &Meta) -> String {
    meta.derived(&["files"])
}

/// The key of an inline file in that ConfigMap.
pub(super) fn file_key(container: &str, mount_path: &str) -> String {
    let digest = hash::sha256_value(&json!([container, mount_path]));
    format!("{container}-{}", hash::short(&digest, 8))
}

pub(super) fn render(input: &Input<'_>, meta: &Meta) -> Result<Vec<Value>, Problems> {
    let mut problems = Problems::new();
    let mut objects = Vec::new();
    for (group, settings) in input.configuration {
        let mut plain = Map::new();
        let mut secret: BTreeMap<&str, &str> = BTreeMap::new();
        for (key, setting) in settings {
            match setting {
                Setting::Value(value) => {
                    plain.insert(key.clone(), json!(value));
                }
                Setting::VaultKey(vault_key) => {
                    secret.insert(key, vault_key);
                }
            }
        }
        let by = format!("ConfigurationGroup {group:?}");
        let name = group_object(meta, group);
        if !plain.is_empty() {
            let mut object = meta.declared("v1", "ConfigMap", &name, &by);
            object.insert("data".to_owned(), Value::Object(plain));
            objects.push(Value::Object(object));
        }
        if !secret.is_empty() {
            match secret_object(input, meta, &name, &by, &secret) {
                Ok(object) => objects.push(object),
                Err(problem) => problems.push(problem),
            }
        }
    }
    let mut files = Map::new();
    for (_, container, spec) in input.workload.all_containers() {
        for file in &spec.file_mounts {
            if let Some(content) = &file.value {
                files.insert(file_key(container, &file.mount_path), json!(content));
            }
        }
    }
    let size: usize = files.values().filter_map(Value::as_str).map(str::len).sum();
    if size > CONFIG_MAP_LIMIT {
        problems.invalid(format!(
            "workload fileMounts: all files together have {size} bytes, and a ConfigMap holds {CONFIG_MAP_LIMIT} at most: make them smaller, or build them into the image"
        ));
    }
    if !files.is_empty() {
        let mut object = meta.declared("v1", "ConfigMap", &files_object(meta), "workload fileMounts");
        object.insert("data".to_owned(), Value::Object(files));
        objects.push(Value::Object(object));
    }
    problems.or_ok(objects)
}

/// The data plane's store of secrets.
fn store<'a>(input: &'a Input<'_>, by: &str, key: &str) -> Result<&'a SecretStoreRef, Problem> {
    let plane = &input.place.plane;
    plane.secret_store.as_ref().ok_or_else(|| {
        Problem::error(
            reasons::INVALID,
            format!(
                "{by} key {key:?} is a vaultKey, but DataPlane {:?} has no spec.secretStoreRef: name the store that secrets come from",
                plane.name
            ),
        )
    })
}

/// The object that gets secret values into the cell, by the data plane's kind of store.
fn secret_object(
    input: &Input<'_>,
    meta: &Meta,
    name: &str,
    by: &str,
    keys: &BTreeMap<&str, &str>,
) -> Result<Value, Problem> {
    let store = store(input, by, keys.keys().next().copied().unwrap_or_default())?;
    let kind = match store.kind {
        SecretStoreKind::ClusterSecretStore => "ClusterSecretStore",
        SecretStoreKind::SecretStore => "SecretStore",
        SecretStoreKind::SecretProviderClass => {
            let mut object = meta.declared("secrets-store.csi.x-k8s.io/v1", "SecretProviderClass", name, by);
            let spec = secret_provider::spec(&input.place.plane.name, store, name, keys)?;
            object.insert("spec".to_owned(), spec);
            return Ok(Value::Object(object));
        }
    };
    if input.place.plane.external_secrets == Some(false) {
        return Err(Problem::error(
            reasons::INVALID,
            format!(
                "{by} has a vaultKey, but DataPlane {:?} has no External Secrets Operator (its feature externalSecrets is false): install it, or give spec.secretStoreRef of kind SecretProviderClass",
                input.place.plane.name
            ),
        ));
    }
    let data: Vec<Value> = keys
        .iter()
        .map(|(key, vault)| {
            let mut remote = Map::new();
            let (path, property) = secret_provider::split(vault);
            remote.insert("key".to_owned(), json!(path));
            if let Some(property) = property {
                remote.insert("property".to_owned(), json!(property));
            }
            json!({"secretKey": key, "remoteRef": remote})
        })
        .collect();
    let mut object = meta.declared("external-secrets.io/v1", "ExternalSecret", name, by);
    object.insert(
        "spec".to_owned(),
        json!({
            "refreshInterval": REFRESH_INTERVAL,
            "secretStoreRef": {"kind": kind, "name": store.name},
            "target": {"name": name, "creationPolicy": "Owner"},
            "data": data,
        }),
    );
    Ok(Value::Object(object))
}

/// Whether secret values come through the Secrets Store CSI driver.
pub(super) fn has_driver(input: &Input<'_>) -> bool {
    let store = input.place.plane.secret_store.as_ref();
    store.is_some_and(|s| s.kind == SecretStoreKind::SecretProviderClass)
}

/// The groups that the component uses secret values of.
pub(super) fn secret_groups<'a>(input: &'a Input<'_>) -> impl Iterator<Item = &'a str> {
    input
        .configuration
        .iter()
        .filter(|(_, settings)| settings.values().any(|s| matches!(s, Setting::VaultKey(_))))
        .map(|(group, _)| group.as_str())
}

/// One key of a ConfigMap or a Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    /// Whether it is a Secret.
    pub(super) secret: bool,
    /// Whether it is made of a configuration group.
    pub(super) of_group: bool,
    /// The object's name.
    pub(super) name: String,
    /// The key in it.
    pub(super) key: String,
}

/// Where a value that is not written in place is in the cell. `None` when it was not resolved, which is reported elsewhere.
pub(super) fn source_of(input: &Input<'_>, meta: &Meta, from: &ValueSource) -> Option<Source> {
    if let Some(secret) = &from.secret_ref {
        return Some(Source {
            secret: true,
            of_group: false,
            name: secret.name.clone(),
            key: secret.key.clone(),
        });
    }
    let group = from.configuration_group_ref.as_ref()?;
    let setting = input.configuration.get(&group.name)?.get(&group.key)?;
    let secret = matches!(setting, Setting::VaultKey(_));
    Some(Source {
        secret,
        of_group: true,
        name: group_object(meta, &group.name),
        key: group.key.clone(),
    })
}

/// A hash over everything that the pods read when they start.
pub(super) fn configuration_hash(input: &Input<'_>) -> String {
    let files: Vec<Value> = input
        .workload
        .all_containers()
        .flat_map(|(_, name, c)| {
            c.file_mounts
                .iter()
                .map(move |f| json!([name, f.mount_path, f.value]))
        })
        .collect();
    hash::sha256_value(&json!({"configuration": input.configuration, "files": files}))
}
