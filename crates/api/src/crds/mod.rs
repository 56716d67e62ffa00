//! Custom resource definitions, generated from the types.
//!
//! What every kind has in common is added here and not repeated on each type: the columns `READY`, `REASON` and
//! `AGE`, and bounds. A real API server estimates the cost of every CEL rule from the largest object that the schema
//! allows, so that every text, list and map in a spec has an upper bound, its own or a general one.

mod aliases;
mod finish;

use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

pub use aliases::{ALIAS_GROUP, ALIAS_KINDS, ALIAS_VERSIONS, alias_crds, alias_plural};

use crate::v1alpha1::*;

macro_rules! definitions {
    ($($kind:ident),* $(,)?) => {
        vec![$(finish::finish($kind::crd())),*]
    };
}

/// Made once: generating schemas from types is the most expensive thing that a start of the program does.
static CRDS: LazyLock<Vec<CustomResourceDefinition>> = LazyLock::new(|| {
    let mut crds: Vec<CustomResourceDefinition> = crate::for_each_kind!(definitions);
    crds.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    crds
});

/// The definitions of all kinds of `openchoreo.dev`, ordered by name.
pub fn crds() -> Vec<CustomResourceDefinition> {
    CRDS.clone()
}
