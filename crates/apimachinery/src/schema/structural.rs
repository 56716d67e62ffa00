//! What a custom resource definition's schema must be like: *structural*, and sound in its keywords and rules.
//!
//! Structural means: every field is typed where it is declared, and combinations such as `anyOf` only add constraints to
//! fields that are declared outside of them. Pruning, defaulting and server-side apply depend on it.

use std::sync::Arc;

use serde_json::Value;

use super::keywords::{keyword_values, keywords};
use super::{Additional, ListType, Schema, Type, rules};
use crate::field::{FieldError, FieldPath};

impl Schema {
    /// Reads the schema of a custom resource definition and checks that it is structural and sound.
    ///
    /// # Errors
    /// Everything that is wrong with it, with paths below `openAPIV3Schema`.
    pub fn parse_crd(json: &Value) -> Result<Self, Vec<FieldError>> {
        Self::parse_crd_at(json, &FieldPath::new("openAPIV3Schema"))
    }

    /// Like [`Schema::parse_crd`], for a schema found at `path`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse_crd_at(json: &Value, path: &FieldPath<'_>) -> Result<Self, Vec<FieldError>> {
        let mut errors = Vec::new();
        keywords(json, path, &mut errors);
        if !errors.is_empty() {
            return Err(errors);
        }
        let schema = Self::from_json(json).map_err(|why| {
            vec![FieldError::invalid(
                path,
                Value::Object(serde_json::Map::new()),
                why,
            )]
        })?;
        invariants(&schema, Level::Root, path, &mut errors);
        completeness(&schema, &schema, path, path, &mut errors);
        errors.sort_by_cached_key(ToString::to_string);
        if errors.is_empty() {
            defaults(&schema, path, false, &mut errors);
        }
        keyword_values(&schema, true, path, &mut errors);
        if errors.is_empty() {
            rules::check(&schema, path, &mut errors);
        }
        if errors.is_empty() {
            Ok(schema)
        } else {
            Err(errors)
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

fn invariants(schema: &Schema, level: Level, path: &FieldPath<'_>, errors: &mut Vec<FieldError>) {
    if schema.type_ == Some(Type::Array) && schema.items.is_none() {
        errors.push(FieldError::required(&path.child("items"), "must be specified"));
    }
    if let Some(items) = &schema.items {
        invariants(items, Level::Item, &path.child("items"), errors);
    }
    let properties = path.child("properties");
    for (name, property) in &schema.properties {
        invariants(property, Level::Field, &properties.key(name), errors);
    }
    if !matches!(schema.additional, Additional::None) && level == Level::Root {
        errors.push(FieldError::forbidden(
            &path.child("additionalProperties"),
            "must not be used at the root",
        ));
    }
    if let Additional::Schema(values) = &schema.additional {
        invariants(values, Level::Field, &path.child("additionalProperties"), errors);
    }
    if schema.int_or_string {
        for (name, set) in [
            ("x-kubernetes-preserve-unknown-fields", schema.preserve_unknown),
            ("x-kubernetes-embedded-resource", schema.embedded_resource),
        ] {
            if set {
                let why = "must be false if x-kubernetes-int-or-string is true";
                errors.push(FieldError::invalid(&path.child(name), true, why));
            }
        }
    }
    let skip_first_all_of = schema
        .all_of
        .first()
        .is_some_and(|first| is_int_or_string(&first.any_of));
    value_validations(
        schema,
        is_int_or_string(&schema.any_of),
        skip_first_all_of,
        level,
        path,
        errors,
    );

    let at = path.child("type");
    if schema.embedded_resource && schema.type_ != Some(Type::Object) {
        let why = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(match schema.type_ {
            None => FieldError::required(&at, why),
            Some(other) => FieldError::invalid(&at, other.as_str(), why),
        });
    } else if schema.type_.is_none() && !schema.int_or_string && !schema.preserve_unknown {
        let why = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.push(FieldError::required(&at, why));
    }
    if schema.embedded_resource && !matches!(schema.additional, Additional::None) {
        let why = "must not be used if x-kubernetes-embedded-resource is set";
        errors.push(FieldError::forbidden(&path.child("additionalProperties"), why));
    }
    if let Some(other) = schema
        .type_
        .filter(|t| level == Level::Root && *t != Type::Object)
    {
        errors.push(FieldError::invalid(
            &at,
            other.as_str(),
            "must be object at the root",
        ));
    }
    if level == Level::Root || schema.embedded_resource {
        for name in ["kind", "apiVersion"] {
            if let Some(field) = schema.properties.get(name)
                && field.type_ != Some(Type::String)
            {
                let type_ = field.type_.map_or("", Type::as_str);
                errors.push(FieldError::invalid(
                    &properties.key(name).child("type"),
                    type_,
                    "must be string",
                ));
            }
        }
        if let Some(metadata) = schema.properties.get("metadata") {
            metadata_invariants(metadata, level, &properties.key("metadata"), errors);
        }
    }
    if schema.embedded_resource && !schema.preserve_unknown && schema.properties.is_empty() {
        let why = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.push(FieldError::required(&properties, why));
    }
}

fn metadata_invariants(metadata: &Schema, level: Level, path: &FieldPath<'_>, errors: &mut Vec<FieldError>) {
    if metadata.type_ != Some(Type::Object) {
        let type_ = metadata.type_.map_or("", Type::as_str);
        errors.push(FieldError::invalid(&path.child("type"), type_, "must be object"));
    }
    if level == Level::Root {
        let only_names = metadata
            .properties
            .keys()
            .all(|k| matches!(k.as_str(), "name" | "generateName"));
        let plain = Schema {
            properties: std::collections::BTreeMap::new(),
            type_: None,
            default: None,
            ..metadata.clone()
        };
        let plain = Schema {
            description: None,
            ..plain
        };
        let nothing_else = plain.to_json().as_object().is_none_or(serde_json::Map::is_empty);
        if !only_names || !nothing_else {
            let why = "must not specify anything other than name and generateName, but metadata is implicitly specified";
            errors.push(FieldError::forbidden(path, why));
        }
    }
}

/// `anyOf: [{type: integer}, {type: string}]`, which may stand beside `x-kubernetes-int-or-string`.
fn is_int_or_string(any_of: &[Arc<Schema>]) -> bool {
    let [first, second] = any_of else { return false };
    let is = |schema: &Schema, type_: Type| {
        schema.type_ == Some(type_) && schema.to_json().as_object().is_some_and(|o| o.len() == 1)
    };
    is(first, Type::Integer) && is(second, Type::String)
}

fn value_validations(
    schema: &Schema,
    skip_any_of: bool,
    skip_first_all_of: bool,
    level: Level,
    path: &FieldPath<'_>,
    errors: &mut Vec<FieldError>,
) {
    if !skip_any_of {
        for (i, part) in schema.any_of.iter().enumerate() {
            nested(part, false, level, &path.child("anyOf").index(i), errors);
        }
    }
    for (i, part) in schema.all_of.iter().enumerate() {
        nested(
            part,
            skip_first_all_of && i == 0,
            level,
            &path.child("allOf").index(i),
            errors,
        );
    }
    for (i, part) in schema.one_of.iter().enumerate() {
        nested(part, false, level, &path.child("oneOf").index(i), errors);
    }
    if let Some(not) = &schema.not {
        nested(not, false, level, &path.child("not"), errors);
    }
    if let Some(pattern) = &schema.pattern
        && let Err(why) = choreo_cel::regex::compile(pattern)
    {
        let why = format!("must be a valid regular expression, but isn't: error parsing regexp: {why}");
        errors.push(FieldError::invalid(&path.child("pattern"), pattern.as_str(), why));
    }
}

/// A schema inside a combination may only constrain values.
fn nested(
    schema: &Schema,
    skip_any_of: bool,
    level: Level,
    path: &FieldPath<'_>,
    errors: &mut Vec<FieldError>,
) {
    value_validations(schema, skip_any_of, false, level, path, errors);
    if let Some(items) = &schema.items {
        nested(items, false, level, &path.child("items"), errors);
    }
    for (name, property) in &schema.properties {
        nested(
            property,
            false,
            Level::Field,
            &path.child("properties").key(name),
            errors,
        );
    }
    let list_keys = matches!(&schema.list_type, Some(ListType::Map(keys)) if !keys.is_empty());
    for (name, set, why) in [
        ("type", schema.type_.is_some(), "must be empty to be structural"),
        (
            "additionalProperties",
            !matches!(schema.additional, Additional::None),
            "must be undefined to be structural",
        ),
        (
            "default",
            schema.default.is_some(),
            "must be undefined to be structural",
        ),
        ("title", schema.title.is_some(), "must be empty to be structural"),
        (
            "description",
            schema.description.is_some(),
            "must be empty to be structural",
        ),
        ("nullable", schema.nullable, "must be false to be structural"),
        (
            "x-kubernetes-preserve-unknown-fields",
            schema.preserve_unknown,
            "must be false to be structural",
        ),
        (
            "x-kubernetes-embedded-resource",
            schema.embedded_resource,
            "must be false to be structural",
        ),
        (
            "x-kubernetes-int-or-string",
            schema.int_or_string,
            "must be false to be structural",
        ),
        (
            "x-kubernetes-list-map-keys",
            list_keys,
            "must be empty to be structural",
        ),
        (
            "x-kubernetes-list-type",
            schema.list_type.is_some(),
            "must be undefined to be structural",
        ),
        (
            "x-kubernetes-map-type",
            schema.map_type.is_some(),
            "must be undefined to be structural",
        ),
        (
            "x-kubernetes-validations",
            !schema.cel.is_empty(),
            "must be empty to be structural",
        ),
    ] {
        if set {
            errors.push(FieldError::forbidden(&path.child(name), why));
        }
    }
    if schema.properties.contains_key("metadata") {
        let at = path.child("properties");
        errors.push(FieldError::forbidden(
            &at.key("metadata"),
            "must not be specified in a nested context",
        ));
    }
}

/// Every field that a combination speaks of must be declared outside of it.
fn completeness(
    constraint: &Schema,
    declared: &Schema,
    declared_path: &FieldPath<'_>,
    path: &FieldPath<'_>,
    errors: &mut Vec<FieldError>,
) {
    let parts = [
        ("allOf", &constraint.all_of),
        ("anyOf", &constraint.any_of),
        ("oneOf", &constraint.one_of),
    ];
    if let Some(not) = &constraint.not {
        nested_completeness(not, Some(declared), declared_path, &path.child("not"), errors);
    }
    for (name, schemas) in parts {
        for (i, part) in schemas.iter().enumerate() {
            nested_completeness(
                part,
                Some(declared),
                declared_path,
                &path.child(name).index(i),
                errors,
            );
        }
    }
}

fn nested_completeness(
    constraint: &Schema,
    declared: Option<&Schema>,
    declared_path: &FieldPath<'_>,
    path: &FieldPath<'_>,
    errors: &mut Vec<FieldError>,
) {
    let Some(declared) = declared else {
        errors.push(FieldError::required(
            declared_path,
            format!("because it is defined in {path}"),
        ));
        return;
    };
    completeness(constraint, declared, declared_path, path, errors);
    if let Some(items) = &constraint.items {
        let at = declared_path.child("items");
        nested_completeness(
            items,
            declared.items.as_deref(),
            &at,
            &path.child("items"),
            errors,
        );
    }
    for (name, property) in &constraint.properties {
        let (at, of) = (declared_path.child("properties"), path.child("properties"));
        let (at, of) = (at.key(name), of.key(name));
        nested_completeness(
            property,
            declared.properties.get(name).map(AsRef::as_ref),
            &at,
            &of,
            errors,
        );
    }
}

/// Defaults must be values that the schema accepts and keeps whole.
fn defaults(schema: &Schema, path: &FieldPath<'_>, inside_meta: bool, errors: &mut Vec<FieldError>) {
    let inside_meta = inside_meta && !schema.embedded_resource;
    if let Some(default) = &schema.default {
        let at = path.child("default");
        let mut pruned = default.clone();
        let dropped = if schema.embedded_resource {
            schema.prune(&mut pruned)
        } else {
            schema.prune_part(&mut pruned, &FieldPath::ROOT)
        };
        if !dropped.is_empty() && !inside_meta {
            errors.push(FieldError::invalid(
                &at,
                default.clone(),
                "must not have unknown fields",
            ));
        }
        let wrong = schema.validate(default, &at);
        if wrong.is_empty() {
            errors.extend(schema.validate_cel(default, Some(default), &at));
        }
        errors.extend(wrong);
    }
    if let Some(items) = &schema.items {
        defaults(items, &path.child("items"), inside_meta, errors);
    }
    for (name, property) in &schema.properties {
        let is_meta = schema.embedded_resource && matches!(name.as_str(), "metadata" | "apiVersion" | "kind");
        defaults(
            property,
            &path.child("properties").key(name),
            inside_meta || is_meta,
            errors,
        );
    }
}
