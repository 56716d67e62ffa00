//! What is known about a schema's whole subtree, computed once, so that a check skips what cannot matter to it.

use std::sync::OnceLock;

use super::{Additional, ListType, Schema};

/// A cache of what a schema's subtree holds. It is empty in a new or cloned schema, and filled on first use.
///
/// A schema must not be changed after it was first used to check a value.
#[derive(Debug, Default)]
pub struct FactsCell(OnceLock<Facts>);

impl Clone for FactsCell {
    fn clone(&self) -> Self {
        Self::default()
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Facts {
    /// There are CEL rules.
    pub(crate) rules: bool,
    /// There are lists whose items must be unique.
    pub(crate) unique_lists: bool,
    /// There are embedded resources.
    pub(crate) embedded: bool,
}

impl Facts {
    fn or(self, other: Self) -> Self {
        Self {
            rules: self.rules || other.rules,
            unique_lists: self.unique_lists || other.unique_lists,
            embedded: self.embedded || other.embedded,
        }
    }
}

impl Schema {
    pub(crate) fn facts(&self) -> Facts {
        *self.facts.0.get_or_init(|| {
            let own = Facts {
                rules: !self.cel.is_empty(),
                unique_lists: matches!(self.list_type, Some(ListType::Set | ListType::Map(_))),
                embedded: self.embedded_resource,
            };
            let additional = match &self.additional {
                Additional::Schema(schema) => Some(schema),
                Additional::None | Additional::Any => None,
            };
            let facts = self
                .properties
                .values()
                .chain(additional)
                .chain(&self.items)
                .chain(&self.all_of)
                .fold(own, |facts, schema| facts.or(schema.facts()));
            // Built-in kinds have rules of their own for what must be unique.
            Facts {
                unique_lists: facts.unique_lists && self.definition.is_none(),
                ..facts
            }
        })
    }
}
