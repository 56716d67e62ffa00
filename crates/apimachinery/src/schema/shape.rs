//! Schemas as the type system of CEL rules.

use std::sync::LazyLock;

use choreo_cel::shape::{Kind, ListSemantics, Shape};

use super::{Additional, ListType, Schema, Type};

/// The largest request, by which the sizes of unbounded values are estimated.
const REQUEST_SIZE: u64 = 3 << 20;

static TEXT: LazyLock<Schema> = LazyLock::new(|| Schema {
    max_length: Some(253),
    ..Schema::of(Type::String)
});

/// What rules see of `metadata`: the name alone, since the rest may change without the schema's knowledge.
static METADATA: LazyLock<Schema> = LazyLock::new(|| Schema {
    properties: ["name", "generateName"]
        .map(|n| (n.to_owned(), std::sync::Arc::new(TEXT.clone())))
        .into(),
    ..Schema::of(Type::Object)
});

fn meta_field(name: &str) -> Option<&'static dyn Shape> {
    match name {
        "apiVersion" | "kind" => Some(&*TEXT),
        "metadata" => Some(&*METADATA),
        _ => None,
    }
}

/// The schema of a whole resource, which has `apiVersion`, `kind` and `metadata` whether or not it says so.
pub(crate) struct Root<'s>(pub(crate) &'s Schema);

impl Shape for Root<'_> {
    fn kind(&self) -> Kind {
        match self.0.kind() {
            Kind::Map => Kind::Object,
            kind => kind,
        }
    }

    fn field(&self, name: &str) -> Option<&dyn Shape> {
        meta_field(name).or_else(|| self.0.field(name))
    }

    fn element(&self) -> Option<&dyn Shape> {
        self.0.element()
    }

    fn max_size(&self) -> Option<u64> {
        self.0.max_size()
    }
}

impl Shape for Schema {
    fn kind(&self) -> Kind {
        match self.type_ {
            None => Kind::Dyn,
            Some(Type::Boolean) => Kind::Bool,
            Some(Type::Integer) => Kind::Int,
            Some(Type::Number) => Kind::Double,
            Some(Type::Array) => Kind::List,
            Some(Type::String) => match self.format.as_deref() {
                Some("date" | "date-time") => Kind::Timestamp,
                Some("duration") => Kind::Duration,
                Some("byte") => Kind::Bytes,
                _ => Kind::String,
            },
            Some(Type::Object) => match self.additional {
                Additional::Schema(_) | Additional::Any => Kind::Map,
                Additional::None if self.preserve_unknown => Kind::Dyn,
                Additional::None => Kind::Object,
            },
        }
    }

    fn field(&self, name: &str) -> Option<&dyn Shape> {
        if self.embedded_resource
            && let Some(field) = meta_field(name)
        {
            return Some(field);
        }
        self.properties.get(name).map(|s| s.as_ref() as &dyn Shape)
    }

    fn element(&self) -> Option<&dyn Shape> {
        self.items
            .as_ref()
            .or(self.additional.schema())
            .map(|s| s.as_ref() as &dyn Shape)
    }

    fn is_declared(&self) -> bool {
        match self.type_ {
            None => self.int_or_string,
            Some(Type::Array) => self.items.as_ref().is_some_and(|items| items.is_declared()),
            Some(Type::Object) => self.additional.schema().is_none_or(|values| values.is_declared()),
            Some(_) => true,
        }
    }

    fn is_closed(&self) -> bool {
        // What else an object may hold is nothing that rules could know of.
        self.type_ == Some(Type::Object) && matches!(self.additional, Additional::None)
    }

    fn list_semantics(&self) -> ListSemantics<'_> {
        match &self.list_type {
            None | Some(ListType::Atomic) => ListSemantics::Atomic,
            Some(ListType::Set) => ListSemantics::Set,
            Some(ListType::Map(keys)) => ListSemantics::Map(keys),
        }
    }

    fn max_size(&self) -> Option<u64> {
        match self.type_ {
            Some(Type::Array) => {
                let item = self.items.as_ref().map_or(1, |i| i.least_size());
                Some(self.max_items.unwrap_or(REQUEST_SIZE / (item + 1)))
            }
            Some(Type::Object) => match &self.additional {
                Additional::Schema(values) => {
                    // An entry has at least a key of one letter in quotes, a colon and a comma.
                    Some(
                        self.max_properties
                            .unwrap_or(REQUEST_SIZE / (values.least_size() + 6)),
                    )
                }
                Additional::Any => Some(self.max_properties.unwrap_or(REQUEST_SIZE / 7)),
                Additional::None => Some(1),
            },
            Some(Type::String) => {
                let longest = self
                    .enum_values
                    .iter()
                    .filter_map(|v| v.as_str())
                    .map(str::len)
                    .max();
                // A character is up to four bytes long.
                Some(match (longest, self.max_length, self.format.as_deref()) {
                    (Some(longest), _, _) => longest as u64,
                    (None, Some(max), _) => max.saturating_mul(4),
                    (None, None, Some("date" | "date-time" | "duration")) => 32,
                    _ => REQUEST_SIZE,
                })
            }
            Some(_) => Some(1),
            None if self.int_or_string => Some(self.max_length.map_or(REQUEST_SIZE, |m| m.saturating_mul(4))),
            None => None,
        }
    }
}

impl Schema {
    /// The fewest bytes that a value takes as JSON.
    pub(crate) fn least_size(&self) -> u64 {
        if !self.enum_values.is_empty() {
            return self
                .enum_values
                .iter()
                .map(|v| v.to_string().len() as u64)
                .min()
                .unwrap_or(1);
        }
        match self.type_ {
            Some(Type::Object) => {
                let required = self
                    .required
                    .iter()
                    .filter_map(|name| Some((name, self.properties.get(name)?)));
                2 + required
                    .filter(|(_, property)| property.default.is_none())
                    // Quotes, a colon, and a comma.
                    .map(|(name, property)| name.len() as u64 + property.least_size() + 4)
                    .sum::<u64>()
            }
            Some(Type::Array) => {
                let item = self.items.as_ref().map_or(1, |i| i.least_size());
                2 + self.min_items.unwrap_or_default() * (item + 1)
            }
            Some(Type::String) => 2 + self.min_length.unwrap_or_default(),
            Some(Type::Boolean) => 4,
            Some(Type::Integer | Type::Number) | None => 1,
        }
    }

    /// How often a value of this schema can be in one object, at most, in a place that bounds say nothing of.
    pub(crate) fn most_in_request(&self) -> u64 {
        REQUEST_SIZE / (self.least_size() + 1)
    }
}
