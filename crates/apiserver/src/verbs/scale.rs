//! The `scale` subresource: a number of replicas, wherever the kind keeps it.

use choreo_apimachinery::registry::ScalePaths;
use choreo_apimachinery::selector::LabelSelector;
use choreo_apimachinery::status::{ApiError, Result};
use serde_json::{Value, json};

use super::update::{Change, modify};
use super::{PatchKind, Subresource, Target, View, Written, patch, text};
use crate::request::{PatchOptions, UpdateOptions};

/// The `autoscaling/v1` `Scale` of an object.
///
/// # Errors
/// 404 when the resource has no such subresource.
pub fn scale_of(target: &Target, object: &Value) -> Result<Value> {
    let paths = paths(target)?;
    let metadata = &object["metadata"];
    let mut scale = json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {"name": metadata["name"]},
        "spec": {},
        "status": {"replicas": number(object, &paths.status_replicas).unwrap_or_default()},
    });
    for field in ["namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = metadata.get(field) {
            scale["metadata"][field] = value.clone();
        }
    }
    if let Some(replicas) = number(object, &paths.spec_replicas) {
        scale["spec"]["replicas"] = replicas.into();
    }
    if let Some(selector) = paths.label_selector.as_deref().and_then(|path| at(object, path)) {
        let selector = match selector {
            Value::String(text) => text.clone(),
            Value::Object(map) if map.contains_key("matchLabels") || map.contains_key("matchExpressions") => {
                LabelSelector::from_object(Some(selector))
                    .map(|s| s.to_string())
                    .unwrap_or_default()
            }
            Value::Object(map) => map
                .iter()
                .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
                .collect::<Vec<_>>()
                .join(","),
            _ => String::new(),
        };
        scale["status"]["selector"] = selector.into();
    }
    Ok(scale)
}

/// Replaces an object's `Scale`.
///
/// # Errors
/// As [`super::update()`].
pub async fn update_scale(
    target: &Target,
    name: &str,
    body: &Value,
    options: &UpdateOptions,
) -> Result<Written> {
    write(target, name, &Options::from(options), |_| Ok(body.clone())).await
}

/// Patches an object's `Scale`.
///
/// # Errors
/// As [`patch::patch()`].
pub async fn patch_scale(
    target: &Target,
    name: &str,
    kind: PatchKind,
    bytes: &[u8],
    options: &PatchOptions,
) -> Result<Written> {
    let own = Options {
        dry_run: options.dry_run,
        field_manager: options.field_manager.clone(),
    };
    write(target, name, &own, |scale| match kind {
        // A Scale has two levels of plain fields: applying is merging.
        PatchKind::Merge | PatchKind::Strategic | PatchKind::Apply => patch::merge(scale, bytes, kind),
        PatchKind::Json => patch::json(scale, bytes),
    })
    .await
}

struct Options {
    dry_run: bool,
    field_manager: Option<String>,
}

impl From<&UpdateOptions> for Options {
    fn from(options: &UpdateOptions) -> Options {
        Options {
            dry_run: options.dry_run,
            field_manager: options.field_manager.clone(),
        }
    }
}

async fn write(
    target: &Target,
    name: &str,
    options: &Options,
    make: impl Fn(&Value) -> Result<Value>,
) -> Result<Written> {
    let change = Change {
        field_manager: options.field_manager.as_deref(),
        dry_run: options.dry_run,
        ..Change::own(name, Subresource::Scale)
    };
    let mut written = modify(target, &change, |object| {
        let object = object.ok_or_else(|| target.not_found(name))?;
        let scale = make(&scale_of(target, object)?)?;
        apply(target, object, &scale, name)
    })
    .await?;
    let object = written.view.value();
    written.view = View::Made(scale_of(target, &object)?.into(), written.view.revision());
    Ok(written)
}

/// The object with the replicas of a `Scale`.
///
/// # Errors
/// 400 for the Scale of another object, 422 for one that cannot be.
pub(super) fn apply(target: &Target, object: &Value, scale: &Value, name: &str) -> Result<Value> {
    let paths = paths(target)?;
    let given = text(scale, "/metadata/name");
    if !given.is_empty() && given != name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({name})"
        )));
    }
    let replicas = scale
        .pointer("/spec/replicas")
        .and_then(Value::as_i64)
        .unwrap_or_default();
    if replicas < 0 {
        use choreo_apimachinery::field::{FieldError, FieldPath};
        let spec = FieldPath::new("spec");
        let error = FieldError::invalid(
            &spec.child("replicas"),
            replicas,
            "must be greater than or equal to 0",
        );
        return Err(ApiError::invalid("autoscaling", "Scale", name, &[error]));
    }
    let mut object = object.clone();
    let version = text(scale, "/metadata/resourceVersion").to_owned();
    if !version.is_empty() {
        super::metadata_mut(&mut object).insert("resourceVersion".to_owned(), version.into());
    }
    let mut at = &mut object;
    let steps: Vec<&str> = steps(&paths.spec_replicas).collect();
    for (index, step) in steps.iter().enumerate() {
        if !at.is_object() {
            *at = json!({});
        }
        if index + 1 == steps.len() {
            at[*step] = replicas.into();
            break;
        }
        at = &mut at[*step];
    }
    Ok(object)
}

fn paths(target: &Target) -> Result<&ScalePaths> {
    target
        .resource
        .scale
        .as_ref()
        .ok_or_else(ApiError::no_such_resource)
}

fn steps(path: &str) -> impl Iterator<Item = &str> {
    path.split('.').filter(|s| !s.is_empty())
}

fn at<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    steps(path).try_fold(object, |value, step| value.get(step))
}

fn number(object: &Value, path: &str) -> Option<i64> {
    at(object, path)?.as_i64()
}
