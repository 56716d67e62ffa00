//! ExternalSecret: a Secret with made-up values.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::{condition, set_status};
use crate::{
    SIMULATED,
    core::{Action, Context, Name, Result, controller_of},
};

pub(super) async fn reconcile(context: &Context, external: &DynamicObject) -> Result<Action> {
    let name = Name::of(external);
    let text = |pointer: &str| {
        external
            .data
            .pointer(pointer)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    let secret_name = Name::new(&name.namespace, text("/spec/target/name").unwrap_or(&name.name));
    let problem = match context.world.secrets.get(&secret_name) {
        Some(secret)
            if controller_of(&secret.metadata).map(|owner| &owner.uid) != external.metadata.uid.as_ref() =>
        {
            Some(format!(
                "Secret {secret_name} is not owned by this ExternalSecret"
            ))
        }
        present => {
            let wanted = secret(external, &secret_name);
            match present {
                None => drop(context.create(&wanted).await?),
                Some(present) if present.data != wanted.data => {
                    let mut changed = (*present).clone();
                    changed.data = wanted.data;
                    context.replace(&changed).await?;
                }
                Some(_) => {}
            }
            None
        }
    };
    let before = external.data.pointer("/status/conditions");
    let ready = match &problem {
        None => condition(
            before,
            None,
            "Ready",
            true,
            "SecretSynced",
            "secret synced with simulated values",
        ),
        Some(problem) => condition(before, None, "Ready", false, "SecretSyncedError", problem),
    };
    // The definition of this condition has no generation.
    let ready = match ready {
        Value::Object(mut fields) => {
            fields.remove("observedGeneration");
            Value::Object(fields)
        }
        other => other,
    };
    let mut status = json!({"conditions": [ready]});
    if problem.is_none() {
        let since = status.pointer("/conditions/0/lastTransitionTime").cloned();
        let version = format!("{}-simulated", external.metadata.generation.unwrap_or(1));
        status["refreshTime"] = external
            .data
            .pointer("/status/refreshTime")
            .cloned()
            .or(since)
            .unwrap_or_default();
        status["syncedResourceVersion"] = version.into();
        status["binding"] = json!({"name": secret_name.name});
    }
    set_status(context, external, status).await
}

fn secret(external: &DynamicObject, name: &Name) -> Secret {
    let types = external.types.clone().unwrap_or_default();
    let entries = external
        .data
        .pointer("/spec/data")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let mut data: BTreeMap<String, ByteString> = entries
        .filter_map(|entry| {
            let key = entry["secretKey"].as_str()?;
            let remote = entry
                .pointer("/remoteRef/key")
                .and_then(Value::as_str)
                .unwrap_or(key);
            let property = entry.pointer("/remoteRef/property").and_then(Value::as_str);
            let value = property.map_or_else(
                || format!("simulated:{remote}"),
                |property| format!("simulated:{remote}#{property}"),
            );
            Some((key.to_owned(), ByteString(value.into_bytes())))
        })
        .collect();
    if external
        .data
        .pointer("/spec/dataFrom")
        .and_then(Value::as_array)
        .is_some_and(|sources| !sources.is_empty())
    {
        data.insert("simulated".into(), ByteString(b"true".to_vec()));
    }
    let template = |pointer: &str| {
        external
            .data
            .pointer(pointer)
            .and_then(|value| serde_json::from_value(value.clone()).ok())
    };
    let mut annotations: BTreeMap<String, String> =
        template("/spec/target/template/metadata/annotations").unwrap_or_default();
    annotations.insert(SIMULATED.into(), "true".into());
    Secret {
        metadata: ObjectMeta {
            name: Some(name.name.clone()),
            namespace: Some(name.namespace.clone()),
            labels: template("/spec/target/template/metadata/labels"),
            annotations: Some(annotations),
            owner_references: Some(vec![OwnerReference {
                api_version: types.api_version,
                kind: types.kind,
                name: external.metadata.name.clone().unwrap_or_default(),
                uid: external.metadata.uid.clone().unwrap_or_default(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]),
            ..ObjectMeta::default()
        },
        data: Some(data),
        type_: external
            .data
            .pointer("/spec/target/template/type")
            .and_then(Value::as_str)
            .map(str::to_owned),
        ..Secret::default()
    }
}
