//! The registry rows of a definition: one per served version.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{flag, object, objects, text, texts};
use crate::field::{FieldError, FieldPath};
use crate::registry::{
    ALL_VERBS, Column, Generation, LazySchema, ResourceInfo, SUBRESOURCE_VERBS, ScalePaths, SelectableField,
    Storage, Subresource,
};
use crate::schema::{Schema, Type};

/// Makes the rows of a definition that was found valid when it was written.
///
/// Schemas are kept as text until they are first used: of a thousand definitions in a cluster, few are used at a time.
///
/// # Errors
/// When the definition has no spec.
pub fn rows(definition: &Value) -> Result<Vec<ResourceInfo>, Vec<FieldError>> {
    let Some(spec) = definition.get("spec").and_then(Value::as_object) else {
        return Err(vec![FieldError::required(&FieldPath::new("spec"), "")]);
    };
    let empty = Map::new();
    let names = object(spec, "names").unwrap_or(&empty);
    let versions = objects(spec, "versions");
    let stored = versions
        .iter()
        .find(|v| flag(v, "storage"))
        .map_or("", |v| text(v, "name"));
    let kind = text(names, "kind");
    let or_else = |name: &str, other: String| {
        Some(text(names, name).to_owned())
            .filter(|n| !n.is_empty())
            .unwrap_or(other)
    };
    let rows = versions
        .iter()
        .filter(|version| flag(version, "served"))
        .map(|version| {
            let subresources = object(version, "subresources").unwrap_or(&empty);
            let status = subresources.get("status").is_some_and(|s| !s.is_null());
            let scale = object(subresources, "scale").map(|scale| ScalePaths {
                spec_replicas: text(scale, "specReplicasPath").to_owned(),
                status_replicas: text(scale, "statusReplicasPath").to_owned(),
                label_selector: Some(text(scale, "labelSelectorPath").to_owned()).filter(|p| !p.is_empty()),
            });
            ResourceInfo {
                group: text(spec, "group").to_owned(),
                version: text(version, "name").to_owned(),
                kind: kind.to_owned(),
                list_kind: or_else("listKind", format!("{kind}List")),
                plural: text(names, "plural").to_owned(),
                singular: or_else("singular", kind.to_lowercase()),
                short_names: owned(texts(names, "shortNames")),
                categories: owned(texts(names, "categories")),
                namespaced: text(spec, "scope") == "Namespaced",
                verbs: owned(ALL_VERBS.to_vec()),
                status,
                subresources: listed(kind, status, scale.is_some()),
                scale,
                columns: columns(version),
                selectable_fields: objects(version, "selectableFields")
                    .into_iter()
                    .map(|f| SelectableField::direct(text(f, "jsonPath").trim_start_matches('.')))
                    .collect(),
                storage: Storage {
                    group: text(spec, "group").to_owned(),
                    version: stored.to_owned(),
                    kind: kind.to_owned(),
                    plural: text(names, "plural").to_owned(),
                },
                is_crd: true,
                generation: if status {
                    Generation::Content
                } else {
                    Generation::All
                },
                schema: lazy_schema(object(version, "schema").and_then(|s| s.get("openAPIV3Schema"))),
                publish: None,
            }
        });
    Ok(rows.collect())
}

fn owned(texts: Vec<&str>) -> Vec<String> {
    texts.into_iter().map(str::to_owned).collect()
}

fn listed(kind: &str, status: bool, scale: bool) -> Vec<Subresource> {
    let verbs = owned(SUBRESOURCE_VERBS.to_vec());
    let mut subresources = Vec::new();
    if scale {
        subresources.push(Subresource {
            name: "scale".to_owned(),
            group: "autoscaling".to_owned(),
            version: "v1".to_owned(),
            kind: "Scale".to_owned(),
            verbs: verbs.clone(),
        });
    }
    if status {
        subresources.push(Subresource {
            name: "status".to_owned(),
            group: String::new(),
            version: String::new(),
            kind: kind.to_owned(),
            verbs,
        });
    }
    subresources
}

fn columns(version: &Map<String, Value>) -> Vec<Column> {
    objects(version, "additionalPrinterColumns")
        .into_iter()
        .map(|column| Column {
            name: text(column, "name").to_owned(),
            type_: text(column, "type").to_owned(),
            format: text(column, "format").to_owned(),
            description: text(column, "description").to_owned(),
            priority: column
                .get("priority")
                .and_then(Value::as_i64)
                .and_then(|p| i32::try_from(p).ok())
                .unwrap_or(0),
            json_path: text(column, "jsonPath").to_owned(),
        })
        .collect()
}

fn lazy_schema(json: Option<&Value>) -> LazySchema {
    let source = json.map(Value::to_string);
    LazySchema::new(move || {
        let schema = source
            .as_deref()
            .and_then(|s| serde_json::from_str::<Value>(s).ok())
            .and_then(|json| Schema::from_json(&json).ok());
        // Without a schema nothing is known of the objects, and everything is kept.
        Arc::new(schema.unwrap_or_else(|| Schema {
            preserve_unknown: true,
            ..Schema::of(Type::Object)
        }))
    })
}
