//! The registry rows of a definition: one per served version.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{object, text, texts};
use crate::field::{FieldError, FieldPath};
use crate::registry::{
    ALL_VERBS, Column, Generation, LazySchema, ResourceInfo, SUBRESOURCE_VERBS, ScalePaths, SelectableField,
    Storage, Subresource,
};
use crate::schema::{Schema, Type};

/// A stored definition, read without the schemas of its versions, which are most of its text.
pub struct Definition<T> {
    text: Arc<T>,
    outline: Outline,
}

/// What a definition says besides its schemas.
#[derive(Deserialize)]
struct Outline {
    metadata: Name,
    #[serde(default)]
    spec: Option<OutlineSpec>,
    #[serde(default)]
    status: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Name {
    #[serde(default)]
    name: String,
    #[serde(default)]
    resource_version: String,
    #[serde(default)]
    deletion_timestamp: Option<String>,
}

impl Name {
    /// Revision of the definition; 0 for one that is not stored.
    fn revision(&self) -> u64 {
        self.resource_version.parse().unwrap_or_default()
    }
}

#[derive(Deserialize)]
struct OutlineSpec {
    #[serde(default)]
    group: String,
    #[serde(default)]
    names: Map<String, Value>,
    #[serde(default)]
    scope: String,
    #[serde(default)]
    versions: Vec<OutlineVersion>,
    #[serde(default)]
    conversion: Option<Value>,
}

impl OutlineSpec {
    /// The webhook that converts, where the definition has one.
    fn webhook(&self) -> Option<Value> {
        let conversion = self.conversion.as_ref()?;
        let webhook = conversion.get("webhook").filter(|w| w.is_object())?;
        (conversion.get("strategy").and_then(Value::as_str) == Some("Webhook")).then(|| webhook.clone())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OutlineVersion {
    name: String,
    #[serde(default)]
    served: bool,
    #[serde(default)]
    storage: bool,
    #[serde(default)]
    subresources: Option<Map<String, Value>>,
    #[serde(default)]
    additional_printer_columns: Option<Vec<Map<String, Value>>>,
    #[serde(default)]
    selectable_fields: Option<Vec<Map<String, Value>>>,
}

impl<T: AsRef<[u8]> + Send + Sync + 'static> Definition<T> {
    /// Reads the JSON text of a definition that was found valid when it was written.
    ///
    /// # Errors
    /// When the text is no definition.
    pub fn read(text: T) -> Result<Self, serde_json::Error> {
        let outline = serde_json::from_slice(text.as_ref())?;
        Ok(Self {
            text: Arc::new(text),
            outline,
        })
    }

    /// Name of the definition.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.outline.metadata.name
    }

    /// Group of the kind that it defines.
    #[must_use]
    pub fn group(&self) -> &str {
        self.outline.spec.as_ref().map_or("", |spec| &spec.group)
    }

    /// Plural of the kind that it defines.
    #[must_use]
    pub fn plural(&self) -> &str {
        self.outline
            .spec
            .as_ref()
            .map_or("", |spec| text(&spec.names, "plural"))
    }

    /// Whether its names were accepted, so that it is served.
    #[must_use]
    pub fn is_established(&self) -> bool {
        let conditions = self.outline.status.get("conditions").and_then(Value::as_array);
        conditions
            .into_iter()
            .flatten()
            .any(|c| c["type"] == "Established" && c["status"] == "True")
    }

    /// Makes its rows.
    ///
    /// Schemas stay text, shared with the stored object, until they are first used: of a thousand definitions in a cluster, few are
    /// used at a time.
    ///
    /// # Errors
    /// When the definition has no spec.
    pub fn rows(&self) -> Result<Vec<ResourceInfo>, Vec<FieldError>> {
        let Some(spec) = &self.outline.spec else {
            return Err(vec![FieldError::required(&FieldPath::new("spec"), "")]);
        };
        Ok(rows(spec, &self.outline.metadata, &self.text))
    }
}

fn rows<T: AsRef<[u8]> + Send + Sync + 'static>(
    spec: &OutlineSpec,
    metadata: &Name,
    source: &Arc<T>,
) -> Vec<ResourceInfo> {
    let empty = Map::new();
    let names = &spec.names;
    let stored = spec
        .versions
        .iter()
        .find(|version| version.storage)
        .map_or("", |version| &version.name);
    let kind = text(names, "kind");
    let or_else = |name: &str, other: String| {
        Some(text(names, name).to_owned())
            .filter(|n| !n.is_empty())
            .unwrap_or(other)
    };
    let conversion = spec.webhook().map(Arc::new);
    spec.versions
        .iter()
        .filter(|version| version.served)
        .map(|version| {
            let subresources = version.subresources.as_ref().unwrap_or(&empty);
            let status = subresources.get("status").is_some_and(|s| !s.is_null());
            let scale = object(subresources, "scale").map(|scale| ScalePaths {
                spec_replicas: text(scale, "specReplicasPath").to_owned(),
                status_replicas: text(scale, "statusReplicasPath").to_owned(),
                label_selector: Some(text(scale, "labelSelectorPath").to_owned()).filter(|p| !p.is_empty()),
            });
            ResourceInfo {
                group: spec.group.clone(),
                version: version.name.clone(),
                kind: kind.to_owned(),
                list_kind: or_else("listKind", format!("{kind}List")),
                plural: text(names, "plural").to_owned(),
                singular: or_else("singular", kind.to_lowercase()),
                short_names: owned(texts(names, "shortNames")),
                categories: owned(texts(names, "categories")),
                namespaced: spec.scope == "Namespaced",
                verbs: owned(ALL_VERBS.to_vec()),
                status,
                subresources: listed(kind, status, scale.is_some()),
                scale,
                columns: columns(version),
                selectable_fields: version
                    .selectable_fields
                    .iter()
                    .flatten()
                    .map(|f| SelectableField::direct(text(f, "jsonPath").trim_start_matches('.')))
                    .collect(),
                storage: Storage {
                    group: spec.group.clone(),
                    version: stored.to_owned(),
                    kind: kind.to_owned(),
                    plural: text(names, "plural").to_owned(),
                },
                is_crd: true,
                conversion: conversion.clone(),
                since: metadata.revision(),
                terminating: metadata.deletion_timestamp.is_some(),
                generation: if status {
                    Generation::Content
                } else {
                    Generation::All
                },
                schema: lazy_schema(&version.name, source),
                publish: None,
            }
        })
        .collect()
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

fn columns(version: &OutlineVersion) -> Vec<Column> {
    version
        .additional_printer_columns
        .iter()
        .flatten()
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

fn lazy_schema<T: AsRef<[u8]> + Send + Sync + 'static>(version: &str, source: &Arc<T>) -> LazySchema {
    let (version, source) = (version.to_owned(), Arc::clone(source));
    LazySchema::new(move || {
        let schema = schema_text((*source).as_ref(), &version)
            .and_then(|text| serde_json::from_str::<Value>(text).ok())
            .and_then(|json| Schema::from_json(&json).ok());
        // Without a schema nothing is known of the objects, and everything is kept.
        Arc::new(schema.unwrap_or_else(|| Schema {
            preserve_unknown: true,
            ..Schema::of(Type::Object)
        }))
    })
}

/// Finds the schema of one version in the text of a definition.
fn schema_text<'t>(definition: &'t [u8], version: &str) -> Option<&'t str> {
    #[derive(Deserialize)]
    struct Definition<'t> {
        #[serde(borrow)]
        spec: Spec<'t>,
    }
    #[derive(Deserialize)]
    struct Spec<'t> {
        #[serde(borrow)]
        versions: Vec<Version<'t>>,
    }
    #[derive(Deserialize)]
    struct Version<'t> {
        name: String,
        #[serde(borrow, default)]
        schema: Option<Validation<'t>>,
    }
    #[derive(Deserialize)]
    struct Validation<'t> {
        #[serde(borrow, default, rename = "openAPIV3Schema")]
        schema: Option<&'t RawValue>,
    }
    let definition: Definition<'t> = serde_json::from_slice(definition).ok()?;
    let version = definition.spec.versions.into_iter().find(|v| v.name == version)?;
    version.schema?.schema.map(RawValue::get)
}
