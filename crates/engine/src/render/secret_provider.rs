//! Secret values through the Secrets Store CSI driver: a SecretProviderClass, in the words of each provider.
//!
//! The driver writes each value into the pod's volume under its key, and, because variables need one, makes a Secret of all
//! of them.

use std::collections::BTreeMap;

use choreo_api::{
    conditions::reasons,
    v1alpha1::{SecretProviderName, SecretStoreRef},
};
use serde_json::{Map, Value, json};

use crate::problem::Problem;

/// A key of a secret store: `path`, or `path#field` for one field of what is there.
pub(super) fn split(vault_key: &str) -> (&str, Option<&str>) {
    match vault_key.rsplit_once('#') {
        Some((path, field)) if !path.is_empty() && !field.is_empty() => (path, Some(field)),
        _ => (vault_key, None),
    }
}

/// The spec of a SecretProviderClass for some keys, which also makes a Secret of the same name.
///
/// # Errors
/// When the data plane does not say which provider it has, or a key is not of its form.
pub(super) fn spec(
    plane: &str,
    store: &SecretStoreRef,
    secret: &str,
    keys: &BTreeMap<&str, &str>,
) -> Result<Value, Problem> {
    let invalid = |message: String| Problem::error(reasons::INVALID, message);
    let Some(provider) = &store.provider else {
        return Err(invalid(format!(
            "DataPlane {plane:?} spec.secretStoreRef.provider: not given; a store of kind SecretProviderClass needs to know what gets the values: vault, aws, azure or gcp, with its parameters"
        )));
    };
    let mut objects = Vec::new();
    for (key, vault_key) in keys {
        let (path, field) = split(vault_key);
        objects.push(match provider.name {
            SecretProviderName::Vault => {
                let Some(field) = field else {
                    return Err(invalid(format!(
                        "key {key:?}, vaultKey {vault_key:?}: with the provider vault a key is path#field; add the field"
                    )));
                };
                json!({"objectName": key, "secretPath": path, "secretKey": field})
            }
            SecretProviderName::Aws => match field {
                None => json!({"objectName": path, "objectType": "secretsmanager", "objectAlias": key}),
                Some(field) => json!({
                    "objectName": path,
                    "objectType": "secretsmanager",
                    "jmesPath": [{"path": field, "objectAlias": key}],
                }),
            },
            SecretProviderName::Azure => {
                json!({"objectName": path, "objectType": "secret", "objectAlias": key})
            }
            SecretProviderName::Gcp => json!({"resourceName": path, "path": key}),
        });
    }
    let mut parameters: Map<String, Value> = provider
        .parameters
        .iter()
        .map(|(key, value)| (key.clone(), json!(value)))
        .collect();
    let (name, text) = match provider.name {
        // Azure's provider takes a list of texts, each an object.
        SecretProviderName::Azure => {
            let texts: Vec<Value> = objects.iter().map(|o| json!(o.to_string())).collect();
            ("objects", json!({"array": texts}).to_string())
        }
        SecretProviderName::Gcp => ("secrets", Value::Array(objects).to_string()),
        SecretProviderName::Vault | SecretProviderName::Aws => ("objects", Value::Array(objects).to_string()),
    };
    // Every JSON text is a YAML text, which is what the providers read.
    parameters.insert(name.to_owned(), json!(text));
    let data: Vec<Value> = keys
        .keys()
        .map(|key| json!({"objectName": key, "key": key}))
        .collect();
    Ok(json!({
        "provider": provider.name,
        "parameters": parameters,
        "secretObjects": [{"secretName": secret, "type": "Opaque", "data": data}],
    }))
}
