//! Schemas: what an object of a kind looks like, and what follows from it.
//!
//! One type, [`Schema`], serves built-in kinds (made from published OpenAPI) and custom resources (made from a
//! definition's `openAPIV3Schema`). A schema is a tree without cycles: recursive built-in types end in
//! [`Schema::preserve_unknown`].

mod cel;
mod correlate;
mod defaults;
mod embedded;
mod facts;
mod formats;
mod json;
mod keywords;
mod prune;
mod rules;
mod shape;
mod structural;
mod unique;
mod validate;

pub use cel::CompiledRule;
pub use facts::FactsCell;
pub use prune::unknown_field_message;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

/// The JSON type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Type {
    /// A map with declared properties, or free keys.
    Object,
    /// A list.
    Array,
    /// A text.
    String,
    /// A whole number.
    Integer,
    /// Any number.
    Number,
    /// `true` or `false`.
    Boolean,
}

impl Type {
    /// The name as written in a schema.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }

    /// The type of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "object" => Self::Object,
            "array" => Self::Array,
            "string" => Self::String,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            _ => return None,
        })
    }
}

/// `additionalProperties`: what keys beyond the declared ones hold.
#[derive(Clone, Debug, Default)]
pub enum Additional {
    /// Not said: no further keys are known.
    #[default]
    None,
    /// `true`: any key with any value.
    Any,
    /// Any key, with values of this schema.
    Schema(Arc<Schema>),
}

impl Additional {
    /// The schema of the values, if there is one.
    #[must_use]
    pub fn schema(&self) -> Option<&Arc<Schema>> {
        match self {
            Self::Schema(schema) => Some(schema),
            Self::None | Self::Any => None,
        }
    }
}

/// `x-kubernetes-list-type`: how lists are merged and what must be unique in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    /// Replaced as a whole.
    #[default]
    Atomic,
    /// Items are unique scalars.
    Set,
    /// Items are objects, unique by the values of these keys.
    Map(Vec<String>),
}

/// `x-kubernetes-map-type`: how objects are merged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MapType {
    /// Field by field.
    #[default]
    Granular,
    /// As a whole.
    Atomic,
}

/// One entry of `x-kubernetes-validations`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// The CEL expression; it must give `true`.
    pub rule: String,
    /// What a failing value is told.
    pub message: Option<String>,
    /// CEL that gives the message; wins over `message` unless it fails.
    pub message_expression: Option<String>,
    /// `FieldValueInvalid` (the default), `FieldValueForbidden`, `FieldValueRequired` or `FieldValueDuplicate`.
    pub reason: Option<String>,
    /// Path of the field to report, relative to where the rule stands, such as `.spec.name`.
    pub field_path: Option<String>,
    /// Whether a rule over `oldSelf` also runs when there is no old value.
    pub optional_old_self: Option<bool>,
    /// The compiled rule; leave it to its default.
    pub compiled: CompiledRule,
}

/// What a value must look like, how it merges, and which rules it obeys.
///
/// Fields have the meaning of the keyword of the same name in OpenAPI v3 or of the `x-kubernetes-` extension.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    /// `type`; absent for [`Schema::int_or_string`] and for values of any type.
    pub type_: Option<Type>,
    /// Whether `null` is a value.
    pub nullable: bool,
    /// `format`, such as `date-time` or `int32`.
    pub format: Option<String>,
    /// `title`.
    pub title: Option<String>,
    /// `description`.
    pub description: Option<String>,
    /// The value that an absent property gets.
    pub default: Option<Value>,
    /// An example; carried along, never used.
    pub example: Option<Value>,
    /// `externalDocs`; carried along, never used.
    pub external_docs: Option<Value>,
    /// Declared properties of an object.
    pub properties: BTreeMap<String, Arc<Schema>>,
    /// `additionalProperties`.
    pub additional: Additional,
    /// Schema of a list's items.
    pub items: Option<Arc<Schema>>,
    /// Properties that must be there.
    pub required: Vec<String>,
    /// `enum`: the values allowed; empty for no restriction.
    pub enum_values: Vec<Value>,
    /// Least number.
    pub minimum: Option<f64>,
    /// Largest number.
    pub maximum: Option<f64>,
    /// Whether the minimum itself is excluded.
    pub exclusive_minimum: bool,
    /// Whether the maximum itself is excluded.
    pub exclusive_maximum: bool,
    /// The number must be a multiple of this.
    pub multiple_of: Option<f64>,
    /// Least number of characters.
    pub min_length: Option<u64>,
    /// Largest number of characters.
    pub max_length: Option<u64>,
    /// Least number of list items.
    pub min_items: Option<u64>,
    /// Largest number of list items.
    pub max_items: Option<u64>,
    /// Least number of an object's keys.
    pub min_properties: Option<u64>,
    /// Largest number of an object's keys.
    pub max_properties: Option<u64>,
    /// Whether list items must differ.
    pub unique_items: bool,
    /// Regular expression (RE2) that a string must match somewhere.
    pub pattern: Option<String>,
    /// Schemas that must all hold.
    pub all_of: Vec<Arc<Schema>>,
    /// Schemas of which at least one must hold.
    pub any_of: Vec<Arc<Schema>>,
    /// Schemas of which exactly one must hold.
    pub one_of: Vec<Arc<Schema>>,
    /// A schema that must not hold.
    pub not: Option<Arc<Schema>>,
    /// `x-kubernetes-preserve-unknown-fields`: undeclared keys are kept.
    pub preserve_unknown: bool,
    /// `x-kubernetes-embedded-resource`: the object has `apiVersion`, `kind` and `metadata`.
    pub embedded_resource: bool,
    /// `x-kubernetes-int-or-string`, or the format `int-or-string` of built-in kinds.
    pub int_or_string: bool,
    /// `x-kubernetes-list-type` with its keys; absent means atomic.
    pub list_type: Option<ListType>,
    /// `x-kubernetes-map-type`; absent means granular.
    pub map_type: Option<MapType>,
    /// `x-kubernetes-patch-strategy` of a list of a built-in kind, such as `merge` or `merge,retainKeys`.
    pub patch_strategy: Option<String>,
    /// `x-kubernetes-patch-merge-key`.
    pub patch_merge_key: Option<String>,
    /// `x-kubernetes-validations`.
    pub cel: Vec<Rule>,
    /// Name of the published definition that this is a copy of, such as `io.k8s.api.core.v1.PodSpec`.
    pub definition: Option<String>,
    /// What was found out about the schema; leave it to its default.
    pub facts: FactsCell,
}

impl Schema {
    /// A schema of this type and nothing else.
    #[must_use]
    pub fn of(type_: Type) -> Self {
        Self {
            type_: Some(type_),
            ..Self::default()
        }
    }

    /// The schema of a map from free keys to `values`.
    #[must_use]
    pub fn map_of(values: Self) -> Self {
        Self {
            additional: Additional::Schema(Arc::new(values)),
            ..Self::of(Type::Object)
        }
    }

    /// The schema of a list of `items`.
    #[must_use]
    pub fn list_of(items: Self) -> Self {
        Self {
            items: Some(Arc::new(items)),
            ..Self::of(Type::Array)
        }
    }

    /// A schema that any value satisfies and that keeps everything.
    #[must_use]
    pub fn anything() -> Self {
        Self {
            preserve_unknown: true,
            ..Self::default()
        }
    }

    /// The schema of the property or free key `name`, if it is known.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&Arc<Self>> {
        self.properties.get(name).or_else(|| self.additional.schema())
    }

    /// The schema found by following properties, such as `["spec", "template"]`. List items are not entered.
    #[must_use]
    pub fn at(&self, path: &[&str]) -> Option<&Self> {
        let mut at = self;
        for name in path {
            at = at.property(name)?;
        }
        Some(at)
    }
}
