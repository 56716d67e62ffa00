//! The built-in kinds of Kubernetes: rows, schemas, and what is special about each kind, as data.
//!
//! | Question | Where |
//! | --- | --- |
//! | which kinds are there | `rows.rs` |
//! | how do their lists merge | `lists.txt` |
//! | what is filled in | `defaults.txt`, `defaults.rs` |
//! | which empty lists are kept | `empty.rs` |
//! | what may a client set | `strategy.rs`, `parts.rs`, `allocate.rs` |
//! | what must hold | `validate/` |
//! | what does the server itself make for flow control | `flow.rs` |
//! | how do two versions of a kind relate | `convert.rs` |
//! | what may expressions of policies name | `expressions.rs` |
//!
//! A write goes: schema, [`default`], [`prepare_create`] or [`prepare_update`], [`allocate`] for Services, [`validate`].

mod allocate;
mod convert;
mod defaults;
mod empty;
mod expressions;
pub mod flow;
mod lists;
mod parts;
mod rows;
pub(crate) mod schemas;
mod strategy;
mod validate;

pub use self::{
    allocate::{Allocator, allocate},
    convert::convert,
    defaults::default,
    empty::drop_empty,
    expressions::expression_warnings,
    schemas::spoken,
    strategy::{prepare_create, prepare_update},
    validate::validate,
};

use crate::registry::ResourceInfo;

/// A new set of rows for all built-in kinds. [`crate::registry::Registry::builtin`] has them made already.
#[must_use]
pub fn rows() -> Vec<ResourceInfo> {
    rows::rows()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use std::collections::BTreeMap;

    use super::{lists, rows};
    use crate::{registry::Registry, schema::ListType};

    /// The table names nothing that the served kinds do not have: a typing error there would silently lose a merge rule.
    #[test]
    fn every_row_of_the_table_of_lists_has_its_field() {
        let mut definitions = BTreeMap::new();
        for row in rows() {
            (row.publish.unwrap())(&mut definitions);
        }
        let mut missing = Vec::new();
        for (name, row) in lists::table() {
            let Some(definition) = definitions.get(name) else {
                missing.push(name.clone());
                continue;
            };
            for (field, words) in &row.fields {
                assert!(!words.is_empty(), "{name}.{field} says nothing");
                if definition.pointer(&format!("/properties/{field}")).is_none() {
                    missing.push(format!("{name}.{field}"));
                }
            }
        }
        assert!(missing.is_empty(), "not served: {missing:?}");
    }

    #[test]
    fn every_default_has_its_field() {
        let mut definitions = BTreeMap::new();
        for row in rows() {
            (row.publish.unwrap())(&mut definitions);
        }
        for (name, paths) in super::defaults::types() {
            for path in paths {
                let mut at = definitions.get(&name).unwrap_or_else(|| panic!("no type {name}"));
                for field in path.split('.') {
                    if let Some(reference) = at.pointer("/allOf/0/$ref").or(at.get("$ref")) {
                        let target = reference.as_str().unwrap().rsplit('/').next().unwrap();
                        at = &definitions[target];
                    }
                    at = at
                        .pointer(&format!("/properties/{field}"))
                        .unwrap_or_else(|| panic!("no {field} in {name}"));
                }
            }
        }
    }

    #[test]
    fn schemas_carry_the_semantics_of_lists() {
        let registry = Registry::builtin();
        let schema = registry.lookup("apps", "v1", "deployments").unwrap().schema();
        let pod = schema.at(&["spec", "template", "spec"]).unwrap();
        let containers = pod.at(&["containers"]).unwrap();
        assert_eq!(containers.list_type, Some(ListType::Map(vec!["name".into()])));
        assert_eq!(containers.patch_merge_key.as_deref(), Some("name"));
        let ports = containers.items.as_ref().unwrap().at(&["ports"]).unwrap();
        assert_eq!(
            ports.list_type,
            Some(ListType::Map(vec!["containerPort".into(), "protocol".into()]))
        );
        assert_eq!(
            ports.items.as_ref().unwrap().at(&["protocol"]).unwrap().default,
            Some("TCP".into())
        );
    }

    #[test]
    fn schemas_share_their_definitions() {
        let registry = Registry::builtin();
        let deployment = registry.lookup("apps", "v1", "deployments").unwrap().schema();
        let job = registry.lookup("batch", "v1", "jobs").unwrap().schema();
        let template = |schema: &crate::schema::Schema| {
            std::ptr::from_ref(schema.at(&["spec", "template", "spec"]).unwrap())
        };
        assert_eq!(template(&deployment), template(&job));
    }

    #[test]
    fn every_schema_can_be_built() {
        for row in Registry::builtin().resources() {
            let schema = row.schema();
            assert!(schema.properties.contains_key("kind"), "{}", row.kind);
            assert!(schema.definition.is_some(), "{}", row.kind);
        }
    }
}
