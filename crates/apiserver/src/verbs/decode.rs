//! From a client's document to an object of a kind: version and kind, unknown fields, defaults.

use choreo_apimachinery::builtin;
use choreo_apimachinery::field::quote;
use choreo_apimachinery::registry::ResourceInfo;
use choreo_apimachinery::status::{ApiError, Result};
use serde_json::Value;

use super::{Target, metadata};
use crate::negotiate::Repeated;
use crate::request::FieldValidation;

/// Unknown fields that are named at most; the same number as upstream.
const MOST_WARNINGS: usize = 32;

/// Makes an object of the target's kind from a document: checks `apiVersion` and `kind`, drops what the schema does not know,
/// sets defaults. Gives the object and warnings.
///
/// # Errors
/// 400 for another kind or version, for a malformed field, and for unknown fields under strict validation.
pub(super) fn decode(
    target: &Target,
    object: Value,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>)> {
    let (mut object, warnings) = prune(target, object, validation)?;
    target.resource.schema().apply_defaults(&mut object);
    if !target.resource.is_crd {
        builtin::default(&target.resource, &mut object);
    }
    Ok((object, warnings))
}

/// What admission has made of an object, as if a client had sent it: pruned, with defaults.
///
/// # Errors
/// As [`decode`].
pub(crate) fn admitted(target: &Target, object: Value) -> Result<Value> {
    decode(target, object, FieldValidation::Ignore).map(|(object, _)| object)
}

/// The same without defaults.
///
/// # Errors
/// As [`decode`].
pub(super) fn prune(
    target: &Target,
    mut object: Value,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>)> {
    let info = &*target.resource;
    set_type(target, &mut object)?;
    let mut unknown = metadata::clean(info, &mut object)?;
    if !info.is_crd && info.kind != "ControllerRevision" {
        drop_nulls(&mut object);
    }
    // Metadata is the same for all kinds and has been seen to; schemas of custom resources say nothing about it.
    let schema = info.schema();
    let kept = object.as_object_mut().and_then(|map| map.remove("metadata"));
    unknown.extend(schema.prune(&mut object));
    if !info.is_crd {
        builtin::drop_empty(&schema, &mut object);
    }
    if let (Some(map), Some(kept)) = (object.as_object_mut(), kept) {
        map.insert("metadata".to_owned(), kept);
    }
    let warnings = report(info, unknown, validation)?;
    Ok((object, warnings))
}

/// Refuses a document with keys that it has more than once, if validation is strict; together with those that are unknown.
///
/// # Errors
/// 400 naming all of them.
pub(crate) fn check_repeated(
    target: &Target,
    document: &Value,
    repeated: &Repeated,
    validation: FieldValidation,
) -> Result<()> {
    if repeated.is_empty() || validation != FieldValidation::Strict {
        return Ok(());
    }
    let (_, unknown) = prune(target, document.clone(), FieldValidation::Warn)?;
    let mut problems = repeated.problems(&unknown);
    problems.extend(unknown);
    let info = &target.resource;
    Err(ApiError::strict_decoding(&info.kind, &info.version, &problems))
}

fn report(info: &ResourceInfo, mut unknown: Vec<String>, validation: FieldValidation) -> Result<Vec<String>> {
    if unknown.is_empty() || validation == FieldValidation::Ignore {
        return Ok(Vec::new());
    }
    unknown.truncate(MOST_WARNINGS);
    let texts: Vec<String> = unknown
        .iter()
        .map(|path| format!("unknown field {}", quote(path.trim_start_matches('.'))))
        .collect();
    if validation == FieldValidation::Strict {
        return Err(ApiError::strict_decoding(&info.kind, &info.version, &texts));
    }
    Ok(texts)
}

/// Sets `apiVersion` and `kind` where they are missing.
fn set_type(target: &Target, object: &mut Value) -> Result<()> {
    let info = &*target.resource;
    let wanted = info.api_version();
    let Value::Object(map) = object else {
        return Err(ApiError::bad_request(
            "couldn't get version/kind; json parse error: the body is not a JSON object",
        ));
    };
    let given = |field: &str| {
        map.get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let (version, kind) = (given("apiVersion"), given("kind"));
    let (version, kind) = (
        if version.is_empty() {
            wanted.as_str()
        } else {
            version.as_str()
        },
        if kind.is_empty() {
            info.kind.as_str()
        } else {
            kind.as_str()
        },
    );
    if version != wanted || kind != info.kind {
        let known = target
            .cluster
            .served()
            .registry()
            .by_api_version(version, kind)
            .is_some();
        let short = version.rsplit('/').next().unwrap_or_default();
        return Err(ApiError::bad_request(if version == wanted || !known {
            let why = if known {
                let package = if info.group.is_empty() {
                    "core"
                } else {
                    info.group.split('.').next().unwrap_or_default()
                };
                format!(
                    "converting ({short}.{kind}) to ({package}.{}): unknown conversion",
                    info.kind
                )
            } else {
                format!(
                    "no kind {} is registered for version {}",
                    quote(kind),
                    quote(version)
                )
            };
            format!(
                "{kind} in version {} cannot be handled as a {}: {why}",
                quote(short),
                info.kind
            )
        } else {
            format!(
                "the API version in the data ({version}) does not match the expected API version ({wanted})"
            )
        }));
    }
    map.insert("apiVersion".to_owned(), wanted.into());
    map.insert("kind".to_owned(), info.kind.as_str().into());
    Ok(())
}

/// Removes members that are null: in a typed object they are the same as missing.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}
