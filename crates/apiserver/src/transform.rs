//! Objects and lists as Tables or as metadata only.

use choreo_apimachinery::registry::ResourceInfo;
use choreo_apimachinery::status::{ApiError, Result};
use choreo_apimachinery::table::{self, IncludeObject};
use serde_json::{Value, json};

use crate::negotiate::Transform;
use crate::request::Query;
use crate::verbs::{Listed, View};

/// One object in another form.
///
/// # Errors
/// 400 for a wrong `includeObject`.
pub(crate) fn object(transform: Transform, info: &ResourceInfo, view: &View, query: &Query) -> Result<Value> {
    Ok(match transform {
        Transform::None => (*view.value()).clone(),
        Transform::Table(version) => {
            let value = view.value();
            let mut table = make_table(info, &[&value], query, version)?;
            if let Some(revision) = value.pointer("/metadata/resourceVersion") {
                table["metadata"]["resourceVersion"] = revision.clone();
            }
            table
        }
        Transform::Metadata(version) => metadata_only(view, version),
    })
}

/// A collection in another form.
///
/// # Errors
/// As [`object`].
pub(crate) fn list(
    transform: Transform,
    info: &ResourceInfo,
    listed: &Listed,
    query: &Query,
) -> Result<Value> {
    let metadata = list_metadata(listed);
    Ok(match transform {
        Transform::None => json!({
            "kind": info.list_kind, "apiVersion": info.api_version(), "metadata": metadata,
            "items": listed.items.iter().map(|view| (*view.value()).clone()).collect::<Vec<_>>(),
        }),
        Transform::Table(version) => {
            let values: Vec<_> = listed.items.iter().map(View::value).collect();
            let items: Vec<&Value> = values.iter().map(|v| &**v).collect();
            let mut table = make_table(info, &items, query, version)?;
            table["metadata"] = metadata;
            table
        }
        Transform::Metadata(version) => json!({
            "kind": "PartialObjectMetadataList", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": metadata,
            "items": listed.items.iter().map(|view| metadata_only(view, version)).collect::<Vec<_>>(),
        }),
    })
}

/// The metadata of a list.
pub(crate) fn list_metadata(listed: &Listed) -> Value {
    let mut metadata = json!({"resourceVersion": listed.revision.to_string()});
    if !listed.continue_token.is_empty() {
        metadata["continue"] = listed.continue_token.as_str().into();
    }
    if let Some(remaining) = listed.remaining {
        metadata["remainingItemCount"] = remaining.into();
    }
    metadata
}

fn metadata_only(view: &View, version: &str) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": view.metadata()})
}

fn make_table(info: &ResourceInfo, items: &[&Value], query: &Query, version: &str) -> Result<Value> {
    let include = match query.get("includeObject").unwrap_or_default() {
        "" | "Metadata" => IncludeObject::Metadata,
        "None" => IncludeObject::None,
        "Object" => IncludeObject::Object,
        other => {
            return Err(ApiError::bad_request(format!(
                "includeObject: unknown value {other:?}, use None, Metadata or Object"
            )));
        }
    };
    let mut table = table::table(info, items, include, jiff::Timestamp::now());
    table["apiVersion"] = format!("meta.k8s.io/{version}").into();
    Ok(table)
}
