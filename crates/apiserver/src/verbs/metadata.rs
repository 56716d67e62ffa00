//! What every object has: `metadata`. Cleaned when it comes in, filled in by the server, and checked.

use choreo_apimachinery::field::{FieldError, FieldPath};
use choreo_apimachinery::meta::names;
use choreo_apimachinery::registry::ResourceInfo;
use choreo_apimachinery::status::{ApiError, Result};
use serde_json::{Map, Value};

use super::{Target, is_deleting, metadata_mut, now, text};

/// Bytes that all annotations of an object may have together.
const ANNOTATIONS_LIMIT: usize = 256 * 1024;

/// Longest part of a generated name that comes from `metadata.generateName`.
const GENERATE_PREFIX: usize = 58;

/// What a field of `metadata` holds.
enum Shape {
    Text,
    Number,
    Texts,
    TextMap,
    Objects,
}

fn shape(field: &str) -> Option<Shape> {
    Some(match field {
        "name" | "generateName" | "namespace" | "selfLink" | "uid" | "resourceVersion"
        | "creationTimestamp" | "deletionTimestamp" => Shape::Text,
        "generation" | "deletionGracePeriodSeconds" => Shape::Number,
        "labels" | "annotations" => Shape::TextMap,
        "finalizers" => Shape::Texts,
        "ownerReferences" | "managedFields" => Shape::Objects,
        _ => return None,
    })
}

/// Drops what `metadata` does not know and what is null. Gives the paths of unknown fields.
///
/// # Errors
/// 400 for a field of the wrong type.
pub(super) fn clean(info: &ResourceInfo, object: &mut Value) -> Result<Vec<String>> {
    let mut unknown = Vec::new();
    let Some(metadata) = object.get_mut("metadata") else {
        return Ok(unknown);
    };
    if metadata.is_null() {
        *metadata = Value::Object(Map::new());
    }
    let Value::Object(map) = metadata else {
        return Err(mistyped(info, "metadata", metadata, "ObjectMeta"));
    };
    map.retain(|_, value| !value.is_null());
    let mut dropped = Vec::new();
    for (field, value) in map.iter_mut() {
        let Some(shape) = shape(field) else {
            unknown.push(format!("metadata.{field}"));
            dropped.push(field.clone());
            continue;
        };
        let path = format!("metadata.{field}");
        match shape {
            Shape::Text if value.is_string() => {}
            Shape::Text => return Err(mistyped(info, &path, value, "string")),
            Shape::Number if value.is_i64() || value.is_u64() => {}
            Shape::Number => return Err(mistyped(info, &path, value, "int64")),
            Shape::TextMap => {
                let Value::Object(entries) = value else {
                    return Err(mistyped(info, &path, value, "map[string]string"));
                };
                entries
                    .values_mut()
                    .filter(|v| v.is_null())
                    .for_each(|v| *v = "".into());
                if let Some(wrong) = entries.values().find(|v| !v.is_string()) {
                    return Err(mistyped(info, &path, wrong, "string"));
                }
                if entries.is_empty() {
                    dropped.push(field.clone());
                }
            }
            Shape::Texts | Shape::Objects => {
                let is_texts = matches!(shape, Shape::Texts);
                let Value::Array(items) = value else {
                    return Err(mistyped(
                        info,
                        &path,
                        value,
                        if is_texts { "[]string" } else { "[]object" },
                    ));
                };
                let fits = |item: &Value| {
                    if is_texts {
                        item.is_string()
                    } else {
                        item.is_object()
                    }
                };
                if let Some(wrong) = items.iter().find(|item| !fits(item)) {
                    return Err(mistyped(
                        info,
                        &path,
                        wrong,
                        if is_texts { "string" } else { "object" },
                    ));
                }
                // `managedFields: []` and `[{}]` are a request to forget them, which the field manager answers.
                if items.is_empty() && field != "managedFields" {
                    dropped.push(field.clone());
                }
            }
        }
    }
    for field in dropped {
        map.remove(&field);
    }
    Ok(unknown)
}

/// 400 for a value that has not the type of its field.
pub(super) fn mistyped(info: &ResourceInfo, path: &str, value: &Value, wanted: &str) -> ApiError {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let kind = &info.kind;
    ApiError::bad_request(format!(
        "{kind} in version {:?} cannot be handled as a {kind}: json: cannot unmarshal {found} into Go struct field \
         ObjectMeta.{path} of type {wanted}",
        info.version
    ))
}

/// Makes the body's namespace and the path's agree.
///
/// # Errors
/// 400 when they differ.
pub(super) fn set_namespace(target: &Target, object: &mut Value) -> Result<()> {
    let metadata = metadata_mut(object);
    let given = metadata
        .get("namespace")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if !target.resource.namespaced {
        if !given.is_empty() {
            metadata.remove("namespace");
        }
        return Ok(());
    }
    if given.is_empty() {
        metadata.insert("namespace".to_owned(), target.namespace.as_str().into());
    } else if given != target.namespace {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

/// Fills in what the server decides about a new object.
pub(super) fn fill_new(object: &mut Value) {
    let metadata = metadata_mut(object);
    for field in [
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "resourceVersion",
        "generation",
    ] {
        metadata.remove(field);
    }
    metadata.insert("uid".to_owned(), new_uid().into());
    metadata.insert("creationTimestamp".to_owned(), now().into());
}

/// A random UUID. From this thread's generator, which is a cryptographic one: the kernel's takes a call for each.
fn new_uid() -> String {
    uuid::Builder::from_random_bytes(rand::random())
        .into_uuid()
        .to_string()
}

/// A name from `metadata.generateName`: the prefix and five random characters, of an alphabet without vowels.
pub(crate) fn generate_name(prefix: &str) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut end = prefix.len().min(GENERATE_PREFIX);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    let mut name = prefix[..end].to_owned();
    name.extend(
        uuid::Uuid::new_v4().as_bytes()[..5]
            .iter()
            .map(|b| ALPHABET[*b as usize % ALPHABET.len()] as char),
    );
    name
}

/// Carries over from the old object what an update cannot change.
///
/// # Errors
/// 409 when the body is about another object of the same name.
pub(super) fn carry_over(target: &Target, name: &str, old: &Value, new: &mut Value) -> Result<()> {
    let old_uid = text(old, "/metadata/uid").to_owned();
    let metadata = metadata_mut(new);
    if let Some(uid) = metadata.get("uid").and_then(Value::as_str)
        && !uid.is_empty()
        && uid != old_uid
    {
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {old_uid}");
        return Err(ApiError::conflict(
            &target.resource.group,
            &target.resource.plural,
            name,
            &why,
        ));
    }
    for field in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "generateName",
        "resourceVersion",
        "selfLink",
    ] {
        match old.get("metadata").and_then(|m| m.get(field)) {
            Some(value) => metadata.insert(field.to_owned(), value.clone()),
            None => metadata.remove(field),
        };
    }
    Ok(())
}

/// Checks the metadata of a new or changed object.
pub(super) fn validate(info: &ResourceInfo, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let root = FieldPath::new("metadata");
    let empty = Map::new();
    let metadata = new.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
    if old.is_none() {
        validate_name(info, metadata, &root, &mut errors);
    }
    if let Some(labels) = metadata.get("labels").and_then(Value::as_object) {
        let path = root.child("labels");
        for (key, value) in labels {
            let wrong = names::qualified_name(key).into_iter();
            errors.extend(wrong.map(|why| FieldError::invalid(&path, key.as_str(), why)));
            let value = value.as_str().unwrap_or_default();
            errors.extend(
                names::label_value(value)
                    .into_iter()
                    .map(|why| FieldError::invalid(&path, value, why)),
            );
        }
    }
    if let Some(annotations) = metadata.get("annotations").and_then(Value::as_object) {
        let path = root.child("annotations");
        let mut size = 0;
        for (key, value) in annotations {
            let wrong = names::qualified_name(&key.to_lowercase()).into_iter();
            errors.extend(wrong.map(|why| FieldError::invalid(&path, key.as_str(), why)));
            size += key.len() + value.as_str().map_or(0, str::len);
        }
        if size > ANNOTATIONS_LIMIT {
            errors.push(FieldError::too_long(&path, ANNOTATIONS_LIMIT as u64));
        }
    }
    validate_owners(metadata, &root, &mut errors);
    validate_finalizers(metadata, old, &root, &mut errors);
    errors
}

fn validate_name(
    info: &ResourceInfo,
    metadata: &Map<String, Value>,
    root: &FieldPath<'_>,
    errors: &mut Vec<FieldError>,
) {
    let name = metadata.get("name").and_then(Value::as_str).unwrap_or_default();
    let path = root.child("name");
    if name.is_empty() {
        errors.push(FieldError::required(&path, "name or generateName is required"));
        return;
    }
    let wrong = match (info.group.as_str(), info.plural.as_str()) {
        ("", "namespaces") => names::dns1123_label(name),
        ("", "services") => names::dns1035_label(name),
        ("rbac.authorization.k8s.io", _) => names::path_segment(name),
        _ => names::dns1123_subdomain(name),
    };
    errors.extend(wrong.into_iter().map(|why| FieldError::invalid(&path, name, why)));
}

fn validate_owners(metadata: &Map<String, Value>, root: &FieldPath<'_>, errors: &mut Vec<FieldError>) {
    let Some(owners) = metadata.get("ownerReferences").and_then(Value::as_array) else {
        return;
    };
    let path = root.child("ownerReferences");
    let mut controller: Option<&str> = None;
    for owner in owners {
        for (field, what) in [
            ("apiVersion", "version"),
            ("kind", "kind"),
            ("name", "name"),
            ("uid", "uid"),
        ] {
            if owner
                .get(field)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .is_empty()
            {
                errors.push(FieldError::invalid(
                    &path.child(field),
                    "",
                    format!("{what} must not be empty"),
                ));
            }
        }
        if owner.get("controller").and_then(Value::as_bool) == Some(true) {
            let name = owner.get("name").and_then(Value::as_str).unwrap_or_default();
            match controller {
                None => controller = Some(name),
                Some(first) => errors.push(FieldError::invalid(
                    &path,
                    Value::Array(owners.clone()),
                    format!("Only one reference can have Controller set to true. Found \"true\" in references for {first} and {name}"),
                )),
            }
        }
    }
}

fn validate_finalizers(
    metadata: &Map<String, Value>,
    old: Option<&Value>,
    root: &FieldPath<'_>,
    errors: &mut Vec<FieldError>,
) {
    let texts = |value: Option<&Value>| -> Vec<String> {
        value
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect()
    };
    let path = root.child("finalizers");
    let finalizers = texts(metadata.get("finalizers"));
    for (index, finalizer) in finalizers.iter().enumerate() {
        let wrong = names::qualified_name(finalizer).into_iter();
        errors.extend(wrong.map(|why| FieldError::invalid(&path.index(index), finalizer.as_str(), why)));
    }
    if let Some(old) = old
        && is_deleting(old)
    {
        let before = texts(old.pointer("/metadata/finalizers"));
        let added: Vec<String> = finalizers
            .into_iter()
            .filter(|f| !before.contains(f))
            .map(|f| format!("{f:?}"))
            .collect();
        if !added.is_empty() {
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                added.join(", ")
            );
            errors.push(FieldError::forbidden(&path, detail));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_keep_the_prefix() {
        let name = generate_name("web-");
        assert!(name.starts_with("web-") && name.len() == 9, "{name}");
        assert_eq!(generate_name(&"x".repeat(100)).len(), 63);
    }
}
