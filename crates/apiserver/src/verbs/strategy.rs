//! What the server decides about an object when it is written: who may set status, when the generation counts up.

use choreo_apimachinery::builtin;
use choreo_apimachinery::field::{FieldError, FieldErrorKind, FieldPath};
use choreo_apimachinery::registry::{Generation, ResourceInfo};
use choreo_apimachinery::status::{ApiError, Result};
use serde_json::Value;

use super::{Subresource, Target, certificates, metadata, metadata_mut, text};

/// Prepares a new object.
pub(super) fn prepare_create(target: &Target, object: &mut Value) {
    let info = &*target.resource;
    if info.is_crd {
        if info.status
            && let Some(map) = object.as_object_mut()
        {
            map.remove("status");
        }
    } else {
        builtin::prepare_create(info, object);
        if certificates::are(info) {
            certificates::prepare_create(&target.user, object);
        }
    }
    if info.generation != Generation::None {
        metadata_mut(object).insert("generation".to_owned(), 1.into());
    }
}

/// Prepares a changed object: what the subresource does not speak of stays as it was, the generation counts up if need be.
pub(super) fn prepare_update(info: &ResourceInfo, subresource: Subresource, old: &Value, new: &mut Value) {
    match subresource {
        Subresource::Main if info.status => copy(old, new, "status"),
        Subresource::Main => {}
        Subresource::Status => {
            restore(old, new, &["status", "metadata"]);
            restore_metadata(old, new);
        }
        Subresource::Finalize => {
            let finalizers = new.pointer("/spec/finalizers").cloned();
            *new = old.clone();
            if !new["spec"].is_object() {
                new["spec"] = Value::Object(serde_json::Map::new());
            }
            if let Some(spec) = new["spec"].as_object_mut() {
                match finalizers {
                    Some(finalizers) if finalizers.as_array().is_none_or(|f| !f.is_empty()) => {
                        spec.insert("finalizers".to_owned(), finalizers)
                    }
                    _ => spec.remove("finalizers"),
                };
            }
        }
        // `kubectl debug` and `kubectl patch --subresource resize` speak of containers, and not of the rest of a Pod.
        Subresource::Other("ephemeralcontainers" | "resize") => restore_metadata(old, new),
        Subresource::Scale | Subresource::Binding | Subresource::Other(_) => {}
    }
    if !info.is_crd {
        builtin::prepare_update(info, subresource.name(), old, new);
        if certificates::are(info) {
            certificates::prepare_update(subresource.name(), old, new);
        }
    }
    if changed(info.generation, old, new) {
        let generation = old
            .pointer("/metadata/generation")
            .and_then(Value::as_i64)
            .unwrap_or_default();
        metadata_mut(new).insert("generation".to_owned(), (generation + 1).into());
    }
}

fn changed(rule: Generation, old: &Value, new: &Value) -> bool {
    let differs_but = |ignored: &[&str]| !fields_but(old, ignored).eq(fields_but(new, ignored));
    match rule {
        Generation::None | Generation::Fixed => false,
        Generation::Spec => old.get("spec") != new.get("spec"),
        Generation::Content => differs_but(&["metadata", "status", "apiVersion", "kind"]),
        Generation::All => differs_but(&["metadata", "apiVersion", "kind"]),
    }
}

fn fields_but<'v>(value: &'v Value, ignored: &[&str]) -> impl Iterator<Item = (&'v String, &'v Value)> {
    let all = value.as_object().into_iter().flatten();
    all.filter(|(key, _)| !ignored.contains(&key.as_str()))
}

/// Makes the metadata as they were, but for who manages which field.
fn restore_metadata(old: &Value, new: &mut Value) {
    let metadata = metadata_mut(new);
    let managed = metadata.remove_entry("managedFields");
    let was = old.get("metadata").and_then(Value::as_object);
    let kept = was.into_iter().flatten();
    // Those of the object are often most of its metadata.
    let kept = kept.filter(|(name, _)| managed.is_none() || *name != "managedFields");
    *metadata = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
    metadata.extend(managed);
}

/// Makes every field as it was, but for `others`. What is as it was is not copied, and that is nearly everything.
fn restore(old: &Value, new: &mut Value, others: &[&str]) {
    let (Some(was), Some(is)) = (old.as_object(), new.as_object_mut()) else {
        new.clone_from(old);
        return;
    };
    is.retain(|field, _| others.contains(&field.as_str()) || was.contains_key(field));
    for (field, value) in was {
        if !others.contains(&field.as_str()) && is.get(field) != Some(value) {
            is.insert(field.clone(), value.clone());
        }
    }
}

fn copy(from: &Value, to: &mut Value, field: &str) {
    if from.get(field) != to.get(field) {
        put(to, field, from.get(field).cloned());
    }
}

fn put(object: &mut Value, field: &str, value: Option<Value>) {
    if let Some(map) = object.as_object_mut() {
        match value {
            Some(value) => map.insert(field.to_owned(), value),
            None => map.remove(field),
        };
    }
}

/// Checks a new or changed object against everything that is known about its kind.
///
/// # Errors
/// 422 listing what is wrong.
pub(super) fn validate(
    target: &Target,
    subresource: Subresource,
    name: &str,
    new: &Value,
    old: Option<&Value>,
) -> Result<()> {
    let info = &*target.resource;
    let mut errors = metadata::validate(info, new, old);
    let schema = info.schema();
    if info.is_crd {
        errors.extend(schema.check(new, old, &FieldPath::ROOT));
    } else {
        let broken = match old {
            Some(old) => schema.validate_update(new, old, &FieldPath::ROOT),
            None => schema.validate(new, &FieldPath::ROOT),
        };
        errors.extend(of_built_in(info, broken)?);
        errors.extend(builtin::validate(info, subresource.name(), new, old));
        if certificates::are(info) {
            errors.extend(certificates::validate(subresource.name(), new, old));
        }
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(invalid(info, name, new, &errors))
    }
}

/// What the schema of a built-in kind says is seen as upstream sees it: a value of the wrong type cannot be decoded at all, and
/// what is required is for the kind's own rules to say.
fn of_built_in(info: &ResourceInfo, mut broken: Vec<FieldError>) -> Result<Vec<FieldError>> {
    if let Some(wrong) = broken.iter().find(|e| e.kind == FieldErrorKind::TypeInvalid) {
        let found = match wrong
            .bad_value
            .as_ref()
            .and_then(Value::as_str)
            .unwrap_or_default()
        {
            "integer" => "number",
            "boolean" => "bool",
            other => other,
        };
        let wanted = wrong
            .detail
            .split("must be of type ")
            .nth(1)
            .and_then(|t| t.split(':').next())
            .unwrap_or("another type");
        let wanted = match wanted {
            "integer" => "int32",
            "boolean" => "bool",
            other => other,
        };
        let kind = &info.kind;
        let part = if wrong.path.starts_with("spec.") {
            "Spec"
        } else {
            ""
        };
        return Err(ApiError::bad_request(format!(
            "{kind} in version {:?} cannot be handled as a {kind}: json: cannot unmarshal {found} into Go struct field \
             {kind}{part}.{} of type {wanted}",
            info.version, wrong.path
        )));
    }
    broken.retain(|e| e.kind != FieldErrorKind::Required);
    Ok(broken)
}

fn invalid(info: &ResourceInfo, name: &str, object: &Value, errors: &[FieldError]) -> ApiError {
    let name = if name.is_empty() {
        text(object, "/metadata/name")
    } else {
        name
    };
    ApiError::invalid(&info.group, &info.kind, name, errors)
}
