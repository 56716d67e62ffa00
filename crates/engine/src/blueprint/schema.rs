//! Parameters: what a blueprint declares of them, and what a user gave.

use std::sync::Arc;

use choreo_apimachinery::{
    field::FieldPath,
    schema::{Additional, Schema, Type as JsonType},
};
use choreo_cel::typing::{Field, Object, Type, closest};
use serde_json::{Map, Value, json};

use crate::problem::Problems;

/// A declared set of parameters.
#[derive(Debug, Clone)]
pub struct Declared {
    schema: Schema,
    /// The type that expressions see.
    pub type_: Type,
}

impl Default for Declared {
    /// No parameters.
    fn default() -> Self {
        Self {
            schema: Schema::of(JsonType::Object),
            type_: Type::object([]),
        }
    }
}

/// Reads an OpenAPI v3 schema of parameters, found at `field`. None given means that there are no parameters.
///
/// # Errors
/// Everything that is wrong with the schema.
pub fn declared(json: Option<&Value>, field: &str) -> Result<Declared, Problems> {
    let Some(json) = json else {
        return Ok(Declared::default());
    };
    let mut json = json.clone();
    // What holds parameters is an object, whether or not it says so.
    if let Some(object) = json.as_object_mut() {
        object.entry("type").or_insert_with(|| json!("object"));
    }
    // One level down: the fields `kind` and `metadata` of a whole definition mean something, parameters of that name do not.
    let whole = json!({"type": "object", "properties": {"schema": json}});
    let above = format!("{field}.properties[schema]");
    let read = Schema::parse_crd_at(&whole, &FieldPath::new(field)).map_err(|errors| {
        let mut problems = Problems::new();
        for error in errors {
            problems.invalid(error.to_string().replacen(&above, field, 1));
        }
        problems
    })?;
    let schema = read.at(&["schema"]).cloned().unwrap_or_default();
    let type_ = type_of(&schema);
    Ok(Declared { schema, type_ })
}

impl Declared {
    /// What was given, with defaults, as the schema wants it.
    ///
    /// # Errors
    /// Everything that the schema does not allow. `field` is where it was given.
    pub fn settle(&self, given: Option<&Value>, field: &str) -> Result<Value, Problems> {
        let mut problems = Problems::new();
        let mut value = match given {
            None | Some(Value::Null) => Value::Object(Map::new()),
            Some(value) => value.clone(),
        };
        let path = FieldPath::new(field);
        for unknown in self.schema.prune_part(&mut value.clone(), &path) {
            let relative = unknown.strip_prefix(field).unwrap_or(&unknown);
            let close = relative
                .strip_prefix('.')
                .filter(|name| !name.contains(['.', '[']))
                .and_then(|name| closest(name, self.schema.properties.keys().map(String::as_str)));
            let known: Vec<&str> = self.schema.properties.keys().map(String::as_str).collect();
            let help = match close {
                Some(close) => format!("; did you mean {close:?}?"),
                None if relative.matches('.').count() > 1 || known.len() > 12 => String::new(),
                None if known.is_empty() => "; there are none".to_owned(),
                None => format!("; there is {}", known.join(", ")),
            };
            problems.invalid(format!("{unknown}: unknown parameter{help}"));
        }
        self.schema.apply_defaults(&mut value);
        for error in self.schema.check(&value, None, &path) {
            problems.invalid(error.to_string());
        }
        problems.or_ok(value)
    }
}

/// The type of the values of a schema, after defaults: a property is there when it is required or has a default.
pub(super) fn type_of(schema: &Schema) -> Type {
    if schema.nullable {
        return Type::Dyn;
    }
    match schema.type_ {
        None => Type::Dyn,
        Some(JsonType::Boolean) => Type::Bool,
        Some(JsonType::Integer) => Type::Int,
        Some(JsonType::Number) => Type::Double,
        Some(JsonType::String) => Type::String,
        Some(JsonType::Array) => Type::list(schema.items.as_deref().map_or(Type::Dyn, type_of)),
        Some(JsonType::Object) => {
            let fields: std::collections::BTreeMap<String, Field> = schema
                .properties
                .iter()
                .map(|(name, property)| {
                    let field = Field {
                        type_: type_of(property),
                        optional: property.default.is_none() && !schema.required.contains(name),
                    };
                    (name.clone(), field)
                })
                .collect();
            match &schema.additional {
                Additional::Schema(values) if fields.is_empty() => Type::map(type_of(values)),
                Additional::Any if fields.is_empty() => Type::map(Type::Dyn),
                Additional::None if fields.is_empty() && schema.preserve_unknown => Type::Dyn,
                additional => Type::Object(Arc::new(Object {
                    fields,
                    open: schema.preserve_unknown || !matches!(additional, Additional::None),
                })),
            }
        }
    }
}
