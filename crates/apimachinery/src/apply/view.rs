//! How a value is to be merged, seen through its schema.

use std::sync::{Arc, OnceLock};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::set;
use crate::{
    builtin::schemas,
    schema::{Additional, ListType, MapType, Schema, Type},
};

/// What is known about a place in an object.
#[derive(Clone, Copy, Debug)]
pub(super) enum View<'s> {
    /// The schema of the place.
    Schema(&'s Schema),
    /// A whole object: it has `apiVersion`, `kind` and `metadata` besides what the schema says.
    Object(&'s Schema),
    /// Nothing: maps are merged key by key, everything else is replaced.
    Unknown,
}

/// How the value at a place is merged.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape<'s> {
    /// Replaced as a whole.
    Leaf,
    /// A map that is merged key by key.
    Map(View<'s>),
    /// A list whose elements have an identity.
    List(Elements<'s>),
}

/// What is known about the elements of a keyed list or a set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Elements<'s> {
    /// Fields that identify an element; none for a set.
    keys: &'s [String],
    /// The elements.
    pub(super) view: View<'s>,
}

/// A place below a map.
#[derive(Clone, Copy, Debug)]
pub(super) enum Child<'s> {
    /// A declared field.
    Field(View<'s>),
    /// A free key.
    Key(View<'s>),
    /// Neither: the schema does not allow it.
    Undeclared,
}

impl<'s> Child<'s> {
    pub(super) fn view(self) -> View<'s> {
        match self {
            Child::Field(view) | Child::Key(view) => view,
            Child::Undeclared => View::Unknown,
        }
    }
}

fn object_meta() -> &'static Schema {
    static META: OnceLock<Arc<Schema>> = OnceLock::new();
    META.get_or_init(schemas::of::<ObjectMeta>)
}

fn text() -> &'static Schema {
    static TEXT: OnceLock<Schema> = OnceLock::new();
    TEXT.get_or_init(|| Schema::of(Type::String))
}

impl<'s> View<'s> {
    fn of(schema: &'s Schema) -> Self {
        if schema.embedded_resource {
            View::Object(schema)
        } else {
            View::Schema(schema)
        }
    }

    fn schema(self) -> Option<&'s Schema> {
        match self {
            View::Schema(schema) | View::Object(schema) => Some(schema),
            View::Unknown => None,
        }
    }

    /// The place of a field or key below this one.
    pub(super) fn child(self, name: &str) -> Child<'s> {
        let Some(schema) = self.schema() else {
            return Child::Key(View::Unknown);
        };
        if matches!(self, View::Object(_)) {
            match name {
                "apiVersion" | "kind" => return Child::Field(View::Schema(text())),
                "metadata" if schema.properties.get(name).is_none_or(|m| m.definition.is_none()) => {
                    return Child::Field(View::Schema(object_meta()));
                }
                _ => {}
            }
        }
        if let Some(property) = schema.properties.get(name) {
            return Child::Field(View::of(property));
        }
        match &schema.additional {
            Additional::Schema(values) => Child::Key(View::of(values)),
            Additional::Any => Child::Key(View::Unknown),
            Additional::None if schema.preserve_unknown => Child::Key(View::Unknown),
            // A value of any type, or an object about which nothing is said.
            Additional::None if schema.type_.is_none() || schema.properties.is_empty() => {
                Child::Key(View::Unknown)
            }
            Additional::None => Child::Undeclared,
        }
    }

    /// How `value` is merged here.
    pub(super) fn shape(self, value: &Value) -> Shape<'s> {
        match value {
            Value::Object(_) => match self.schema() {
                Some(schema) if schema.map_type == Some(MapType::Atomic) => Shape::Leaf,
                _ => Shape::Map(self),
            },
            Value::Array(_) => self.elements().map_or(Shape::Leaf, Shape::List),
            _ => Shape::Leaf,
        }
    }

    /// The elements, if this is a list in which elements have an identity.
    pub(super) fn elements(self) -> Option<Elements<'s>> {
        let schema = self.schema()?;
        let keys: &[String] = match &schema.list_type {
            Some(ListType::Map(keys)) => keys,
            Some(ListType::Set) => &[],
            Some(ListType::Atomic) | None => return None,
        };
        Some(Elements {
            keys,
            view: self.items(),
        })
    }

    /// The elements of a list of any type.
    pub(super) fn items(self) -> View<'s> {
        let items = self.schema().and_then(|schema| schema.items.as_deref());
        items.map_or(View::Unknown, View::of)
    }

    /// Whether the place is merged as a whole, whatever its value.
    pub(super) fn atomic(self) -> bool {
        self.schema().is_some_and(|schema| match schema.type_ {
            Some(Type::Array) => self.elements().is_none(),
            Some(Type::Object) => schema.map_type == Some(MapType::Atomic),
            _ => false,
        })
    }

    /// What the schema expects, if `value` is something else.
    pub(super) fn mismatch(self, value: &Value) -> Option<&'static str> {
        let schema = self.schema()?;
        if value.is_null() || schema.int_or_string {
            return None;
        }
        let (ok, expected) = match schema.type_? {
            Type::Object => (value.is_object(), "map"),
            Type::Array => (value.is_array(), "list"),
            Type::String => (value.is_string(), "string"),
            Type::Boolean => (value.is_boolean(), "boolean"),
            Type::Integer | Type::Number => (value.is_number(), "numeric (int or float)"),
        };
        (!ok).then_some(expected)
    }
}

impl Elements<'_> {
    /// The step to an element.
    pub(super) fn step(&self, element: &Value) -> Result<set::Step, String> {
        if self.keys.is_empty() {
            return match element {
                Value::Object(_) => {
                    Err("associative list without keys has an element that's a map type".to_owned())
                }
                Value::Array(_) => Err("not supported: associative list with lists as elements".to_owned()),
                Value::Null => {
                    Err("associative list without keys has an element that's an explicit null".to_owned())
                }
                scalar => Ok(set::value(scalar)),
            };
        }
        let Value::Object(fields) = element else {
            let what = if element.is_null() {
                "a null element"
            } else {
                "non-map elements"
            };
            return Err(format!("associative list with keys may not have {what}"));
        };
        let mut keys: Vec<(&str, &Value)> = Vec::with_capacity(self.keys.len());
        for key in self.keys {
            let value = fields.get(key).or_else(|| {
                let field = self.view.schema().and_then(|s| s.properties.get(key));
                field.and_then(|f| f.default.as_ref())
            });
            if let Some(value) = value {
                keys.push((key, value));
            }
        }
        if keys.is_empty() {
            let names: Vec<String> = self.keys.iter().map(|k| format!("{k:?}")).collect();
            return Err(format!(
                "associative list with keys has an element that omits all key fields [{}] (and doesn't have default \
                 values for any key fields)",
                names.join(" ")
            ));
        }
        keys.sort_unstable_by_key(|(name, _)| *name);
        Ok(set::key(keys))
    }
}
