//! What is wrong with one version of a definition.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{flag, object, objects, text};
use crate::field::{FieldError, FieldPath};
use crate::schema::{Schema, Type};

const COLUMN_TYPES: &[&str] = &["integer", "number", "string", "boolean", "date"];

const COLUMN_FORMATS: &[&str] = &[
    "int32",
    "int64",
    "float",
    "double",
    "byte",
    "date",
    "date-time",
    "password",
];

/// How many fields a version may let selectors name.
const MAX_SELECTABLE_FIELDS: usize = 8;

/// Keywords that a schema's root may have when the status subresource is on.
const ROOT_KEYWORDS: &[&str] = &[
    "description",
    "type",
    "format",
    "title",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "uniqueItems",
    "multipleOf",
    "required",
    "items",
    "properties",
    "externalDocs",
    "example",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
];

/// What all versions have alike. The real server keeps that once, above the versions, and reports it there.
pub(super) struct Common {
    schema: bool,
    subresources: bool,
    columns: bool,
    selectable: bool,
}

impl Common {
    pub(super) fn of(versions: &[&Map<String, Value>]) -> Self {
        let alike = |field: &str| {
            let first = versions
                .first()
                .and_then(|v| v.get(field))
                .filter(|v| !v.is_null());
            first.is_some() && versions.iter().all(|v| v.get(field) == first)
        };
        Self {
            schema: alike("schema"),
            subresources: alike("subresources"),
            columns: alike("additionalPrinterColumns"),
            selectable: alike("selectableFields"),
        }
    }
}

/// Checks a version; `paths` are those of the spec and of the version.
pub(super) fn check_version(
    version: &Map<String, Value>,
    old: Option<&Map<String, Value>>,
    common: &Common,
    is_first: bool,
    paths: (&FieldPath<'_>, &FieldPath<'_>),
    errors: &mut Vec<FieldError>,
) {
    let (spec_path, path) = paths;
    // What is common to all versions is checked with the first.
    let place = |common: bool| if common { spec_path } else { path };
    let skip = |common: bool| common && !is_first;
    let warning = version.get("deprecationWarning").and_then(Value::as_str);
    let at = path.child("deprecationWarning");
    match warning {
        Some(_) if !flag(version, "deprecated") => {
            errors.push(FieldError::invalid(
                &at,
                warning,
                "can only be set for deprecated versions",
            ));
        }
        Some("") => errors.push(FieldError::invalid(&at, "", "must not be an empty string")),
        Some(long) if long.len() > 256 => {
            errors.push(FieldError::invalid(&at, long, "must be <= 256 characters long"));
        }
        _ => {}
    }
    if !skip(common.subresources) {
        check_subresources(version, &place(common.subresources).child("subresources"), errors);
    }
    if !skip(common.columns) {
        let at = place(common.columns).child("additionalPrinterColumns");
        for (i, column) in objects(version, "additionalPrinterColumns")
            .into_iter()
            .enumerate()
        {
            check_column(column, &at.index(i), errors);
        }
    }
    let json = object(version, "schema")
        .and_then(|s| s.get("openAPIV3Schema"))
        .filter(|s| !s.is_null());
    let Some(json) = json else {
        let at = path.child("schema");
        errors.push(FieldError::required(&at.child("openAPIV3Schema"), ""));
        return;
    };
    let at = if common.schema {
        spec_path.child("validation")
    } else {
        path.child("schema")
    };
    let at = at.child("openAPIV3Schema");
    let unchanged = old
        .and_then(|old| object(old, "schema"))
        .and_then(|s| s.get("openAPIV3Schema"))
        .is_some_and(|o| o == json);
    let schema = if unchanged || skip(common.schema) {
        Schema::from_json(json).ok()
    } else {
        let has_status =
            object(version, "subresources").is_some_and(|s| s.get("status").is_some_and(|s| !s.is_null()));
        if has_status {
            check_root(json, &at, errors);
        }
        match Schema::parse_crd_at(json, &at) {
            Ok(schema) => Some(schema),
            Err(problems) => {
                errors.extend(problems);
                None
            }
        }
    };
    if let Some(schema) = schema.filter(|_| !skip(common.selectable)) {
        check_selectable(
            version,
            &schema,
            &place(common.selectable).child("selectableFields"),
            errors,
        );
    }
}

/// With a status subresource, the spec and the status are checked apart, so that the root may not combine them.
fn check_root(schema: &Value, path: &FieldPath<'_>, errors: &mut Vec<FieldError>) {
    let Some(object) = schema.as_object() else { return };
    let unfit = object.iter().any(|(name, value)| {
        !value.is_null() && value != &Value::Bool(false) && !ROOT_KEYWORDS.contains(&name.as_str())
    });
    if unfit {
        let allowed = "[Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example XPreserveUnknownFields XValidations]";
        let why = format!(
            "only {allowed} fields are allowed at the root of the schema if the status subresource is enabled"
        );
        errors.push(FieldError::invalid(path, schema.clone(), why));
    }
}

fn simple_json_path(value: &str, path: &FieldPath<'_>, errors: &mut Vec<FieldError>) -> bool {
    if value.starts_with('.') {
        return true;
    }
    errors.push(FieldError::invalid(
        path,
        value,
        "must be a simple json path starting with .",
    ));
    false
}

fn check_subresources(version: &Map<String, Value>, path: &FieldPath<'_>, errors: &mut Vec<FieldError>) {
    let Some(scale) = object(version, "subresources").and_then(|s| object(s, "scale")) else {
        return;
    };
    let at = path.child("scale");
    for (field, prefixes, below) in [
        ("specReplicasPath", &[".spec."][..], ".spec"),
        ("statusReplicasPath", &[".status."][..], ".status"),
        (
            "labelSelectorPath",
            &[".spec.", ".status."][..],
            "either .spec or .status",
        ),
    ] {
        let value = text(scale, field);
        let at = at.child(field);
        if value.is_empty() {
            if field != "labelSelectorPath" {
                errors.push(FieldError::required(&at, ""));
            }
        } else if simple_json_path(value, &at, errors) && !prefixes.iter().any(|p| value.starts_with(p)) {
            errors.push(FieldError::invalid(
                &at,
                value,
                format!("should be a json path under {below}"),
            ));
        }
    }
}

fn check_column(column: &Map<String, Value>, path: &FieldPath<'_>, errors: &mut Vec<FieldError>) {
    if text(column, "name").is_empty() {
        errors.push(FieldError::required(&path.child("name"), ""));
    }
    let listed = |words: &[&str]| {
        let mut words = words.to_vec();
        words.sort_unstable();
        format!("must be one of {}", words.join(","))
    };
    let type_ = text(column, "type");
    if type_.is_empty() {
        errors.push(FieldError::required(&path.child("type"), listed(COLUMN_TYPES)));
    } else if !COLUMN_TYPES.contains(&type_) {
        errors.push(FieldError::invalid(
            &path.child("type"),
            type_,
            listed(COLUMN_TYPES),
        ));
    }
    let format = text(column, "format");
    if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
        errors.push(FieldError::invalid(
            &path.child("format"),
            format,
            listed(COLUMN_FORMATS),
        ));
    }
    let json_path = text(column, "jsonPath");
    if json_path.is_empty() {
        errors.push(FieldError::required(&path.child("JSONPath"), ""));
    } else {
        simple_json_path(json_path, &path.child("JSONPath"), errors);
    }
}

fn check_selectable(
    version: &Map<String, Value>,
    schema: &Schema,
    path: &FieldPath<'_>,
    errors: &mut Vec<FieldError>,
) {
    let mut seen = BTreeSet::new();
    for (i, field) in objects(version, "selectableFields").into_iter().enumerate() {
        let at = path.index(i);
        let at = at.child("jsonPath");
        let json_path = text(field, "jsonPath");
        if json_path.is_empty() {
            errors.push(FieldError::required(&at, ""));
            continue;
        }
        let found = match schema.field_path(json_path, false) {
            Ok((normalized, found)) => {
                if normalized == "metadata" || normalized.starts_with("metadata.") {
                    errors.push(FieldError::invalid(
                        &at,
                        json_path,
                        "must not point to fields in metadata",
                    ));
                }
                if !seen.insert(normalized) {
                    errors.push(FieldError::duplicate(&at, json_path));
                }
                found
            }
            Err(why) => {
                errors.push(FieldError::invalid(
                    &at,
                    json_path,
                    format!("is an invalid path: {why}"),
                ));
                continue;
            }
        };
        if !matches!(found.type_, Some(Type::String | Type::Boolean | Type::Integer)) {
            let why = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
            errors.push(FieldError::invalid(&at, json_path, why));
        }
    }
    if seen.len() > MAX_SELECTABLE_FIELDS {
        errors.push(FieldError::too_many(
            path,
            seen.len() as u64,
            MAX_SELECTABLE_FIELDS as u64,
        ));
    }
}
