//! Custom resource definitions, generated from the types.
//!
//! What every kind has in common is added here and not repeated on each type: the columns `READY`, `REASON` and
//! `AGE`, and bounds. A real API server estimates the cost of every CEL rule from the largest object that the schema
//! allows, so that every text, list and map in a spec has an upper bound, its own or a general one.
//!
//! Generating them takes longer than everything else that a start of the program does. So the program carries the result,
//! from the files in `definitions/` of this crate; a test holds the files to the types.

mod aliases;
mod finish;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

pub use aliases::{ALIAS_GROUP, ALIAS_KINDS, ALIAS_VERSIONS, alias_crds, alias_plural};

use crate::v1alpha1::*;

/// The definition of one kind, as the program carries it.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// Name of the definition: `<plural>.<group>`.
    pub name: &'static str,
    /// The kind.
    pub kind: &'static str,
    /// SHA-256 digest of `json`, in hexadecimal. Worked out when the program is built: to look at megabytes of text at each start,
    /// only to find that it is installed already, would keep them in memory.
    pub digest: &'static str,
    /// The CustomResourceDefinition as JSON.
    pub json: &'static str,
}

const DEFINITIONS: &[Definition] = include!(concat!(env!("OUT_DIR"), "/definitions.rs"));

/// The definitions of all kinds of `openchoreo.dev`, ordered by name.
pub fn definitions() -> &'static [Definition] {
    DEFINITIONS
}

macro_rules! generated {
    ($($kind:ident),* $(,)?) => {
        vec![$(finish::finish($kind::crd())),*]
    };
}

/// The definitions of all kinds of `openchoreo.dev`, ordered by name, made anew from the types. Expensive: what runs uses
/// [`definitions`].
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut crds: Vec<CustomResourceDefinition> = crate::for_each_kind!(generated);
    crds.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    crds
}
