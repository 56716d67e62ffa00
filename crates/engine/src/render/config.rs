//! What a workload reads: ConfigMaps for plain values and files, secrets from the data plane's store.

use std::collections::BTreeMap;

use choreo_api::{
    conditions::reasons,
    v1alpha1::{SecretStoreKind, common::ValueSource},
};
use serde_json::{Map, Value, json};

use super::{Input, meta::Meta};
use crate::{
    hash,
    problem::{Problem, Problems},
    resolve::configuration::Setting,
};

/// Secrets are read again this often. External Secrets' own default.
const REFRESH_INTERVAL: &str = "1h0m0s";

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
            match external_secret(input, meta, &name, &by, &secret) {
                Ok(object) => objects.push(object),
                Err(problem) => problems.push(problem),
            }
        }
    }
    let mut files = Map::new();
    for (container, spec) in &input.workload.containers {
        for file in &spec.file_mounts {
            if let Some(content) = &file.value {
                files.insert(file_key(container, &file.mount_path), json!(content));
            }
        }
    }
    if !files.is_empty() {
        let mut object = meta.declared("v1", "ConfigMap", &files_object(meta), "workload fileMounts");
        object.insert("data".to_owned(), Value::Object(files));
        objects.push(Value::Object(object));
    }
    problems.or_ok(objects)
}

fn external_secret(
    input: &Input<'_>,
    meta: &Meta,
    name: &str,
    by: &str,
    keys: &BTreeMap<&str, &str>,
) -> Result<Value, Problem> {
    let plane = &input.place.plane;
    let Some(store) = &plane.secret_store else {
        let key = keys.keys().next().copied().unwrap_or_default();
        return Err(Problem::error(
            reasons::INVALID,
            format!(
                "{by} key {key:?} is a vaultKey, but DataPlane {:?} has no spec.secretStoreRef: name the store that secrets come from",
                plane.name
            ),
        ));
    };
    let kind = match store.kind {
        SecretStoreKind::ClusterSecretStore => "ClusterSecretStore",
        SecretStoreKind::SecretStore => "SecretStore",
        SecretStoreKind::SecretProviderClass => {
            return Err(Problem::error(
                reasons::NOT_SUPPORTED,
                format!(
                    "{by} has a vaultKey, and DataPlane {:?} spec.secretStoreRef.kind is SecretProviderClass, which is not supported yet: use a ClusterSecretStore",
                    plane.name
                ),
            ));
        }
    };
    let data: Vec<Value> = keys
        .iter()
        .map(|(key, vault)| json!({"secretKey": key, "remoteRef": {"key": vault}}))
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

/// One key of a ConfigMap or a Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    /// Whether it is a Secret.
    pub(super) secret: bool,
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
            name: secret.name.clone(),
            key: secret.key.clone(),
        });
    }
    let group = from.configuration_group_ref.as_ref()?;
    let setting = input.configuration.get(&group.name)?.get(&group.key)?;
    let secret = matches!(setting, Setting::VaultKey(_));
    Some(Source {
        secret,
        name: group_object(meta, &group.name),
        key: group.key.clone(),
    })
}

/// A hash over everything that the pods read when they start.
pub(super) fn configuration_hash(input: &Input<'_>) -> String {
    let files: Vec<Value> = input
        .workload
        .containers
        .iter()
        .flat_map(|(name, c)| {
            c.file_mounts
                .iter()
                .map(move |f| json!([name, f.mount_path, f.value]))
        })
        .collect();
    hash::sha256_value(&json!({"configuration": input.configuration, "files": files}))
}
