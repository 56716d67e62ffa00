//! Revisions: one numbered `Deployment` for each distinct combination of artifact, overrides and resolved configuration.
//!
//! Going back to a combination that ran before gives its old number again rather than a copy of it, so the history is
//! free of doubles; the binding's status says which one is current. The numbers stay out of everything that is applied
//! to a data plane: what is rendered depends on the inputs alone and not on what was there before.

use std::collections::BTreeMap;

use choreo_api::names;
use choreo_api::v1alpha1::{
    Deployment, RawObject,
    common::{Overrides, TypedRef},
};
use kube::ResourceExt as _;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    binding::Binding,
    hash,
    resolve::configuration::Configuration,
    world::{Kind, ObjectRef, World},
};

/// How many revisions a binding keeps beside the current one, if none of them says another number.
pub const HISTORY_LIMIT: usize = 10;

/// What makes a revision distinct.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Identity<'a> {
    content: &'a str,
    overrides: &'a Overrides,
    configuration: &'a Configuration,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment_configs: Option<&'a Value>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    trait_environment_configs: &'a BTreeMap<String, RawObject>,
    /// Only where it is not what the artifact says anyway.
    #[serde(skip_serializing_if = "Option::is_none")]
    api_class: Option<&'a str>,
}

/// The hash that identifies a revision.
///
/// # Errors
/// When the inputs cannot be represented as JSON.
pub fn identity(
    content_digest: &str,
    binding: &Binding,
    configuration: &Configuration,
) -> Result<String, serde_json::Error> {
    hash::sha256(&Identity {
        content: content_digest,
        overrides: &binding.overrides,
        configuration,
        environment_configs: binding.environment_configs.as_ref(),
        trait_environment_configs: &binding.trait_environment_configs,
        api_class: binding.api_class.as_deref(),
    })
}

/// The revision that a binding's inputs amount to, and what becomes of the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// Its number; the first is 1.
    pub number: i64,
    /// The name of its `Deployment`.
    pub name: String,
    /// Old revisions beyond the history limit.
    pub prune: Vec<ObjectRef>,
}

/// Finds or allots the revision with this identity.
pub fn allot(world: &World, binding: &Binding, identity: &str) -> Revision {
    let existing = history(world, &binding.reference);
    let of_same = existing
        .iter()
        .find(|d| d.spec.configuration_hash.as_deref() == Some(identity));
    let number = of_same.map_or_else(
        || existing.last().map_or(0, |d| number_of(d)) + 1,
        |d| number_of(d),
    );
    let old: Vec<&Deployment> = existing
        .iter()
        .copied()
        .filter(|d| number_of(d) != number)
        .collect();
    let limit = existing
        .iter()
        .rev()
        .find_map(|d| d.spec.revision_history_limit)
        .map_or(HISTORY_LIMIT, |limit| usize::try_from(limit).unwrap_or_default());
    let excess = old.len().saturating_sub(limit);
    let prune = old
        .iter()
        .take(excess)
        .map(|d| ObjectRef::new(Kind::Deployment, binding.namespace(), d.name_any()))
        .collect();
    Revision {
        number,
        name: names::deployment(binding.name(), number),
        prune,
    }
}

/// The revisions of a binding, oldest first.
pub fn history<'a>(world: &'a World, binding: &ObjectRef) -> Vec<&'a Deployment> {
    let mut all: Vec<&Deployment> = world
        .referring::<Deployment>(binding)
        .map(AsRef::as_ref)
        .collect();
    all.retain(|d| d.spec.revision.is_some());
    all.sort_by_key(|d| number_of(d));
    all
}

fn number_of(deployment: &Deployment) -> i64 {
    deployment.spec.revision.unwrap_or(0)
}

/// The revision to go back to: the newest before the current one that has an artifact, or the one with the wanted number.
pub fn rollback_target<'a>(
    world: &'a World,
    binding: &ObjectRef,
    current: i64,
    wanted: Option<i64>,
) -> Option<&'a Deployment> {
    let candidates = history(world, binding)
        .into_iter()
        .rev()
        .filter(|d| d.spec.deployment_artifact_ref.is_some());
    match wanted {
        Some(number) => candidates.into_iter().find(|d| number_of(d) == number),
        None => candidates.into_iter().find(|d| number_of(d) < current),
    }
}

/// The `Deployment` object of a revision.
pub fn object(binding: &Binding, revision: &Revision, identity: &str, labels: &Value) -> Value {
    let mut spec = json!({
        "owner": binding.owner,
        "environment": binding.environment,
        "track": binding.track,
        "bindingRef": TypedRef { kind: binding.reference.kind.as_str().to_owned(), name: binding.name().to_owned() },
        "revision": revision.number,
        "configurationHash": identity,
    });
    if let Some(spec) = spec.as_object_mut() {
        if let Some(artifact) = &binding.artifact {
            spec.insert("deploymentArtifactRef".to_owned(), json!(artifact));
        }
        if !binding.overrides.is_empty() {
            spec.insert("overrides".to_owned(), json!(binding.overrides));
        }
        if let Some(configs) = &binding.environment_configs {
            spec.insert("environmentConfigs".to_owned(), configs.clone());
        }
        if !binding.trait_environment_configs.is_empty() {
            let configs = json!(binding.trait_environment_configs);
            spec.insert("traitEnvironmentConfigs".to_owned(), configs);
        }
    }
    json!({
        "apiVersion": Kind::Deployment.api_version(),
        "kind": "Deployment",
        "metadata": {"name": revision.name, "namespace": binding.namespace(), "labels": labels},
        "spec": spec,
    })
}
