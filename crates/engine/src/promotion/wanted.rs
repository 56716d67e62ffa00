//! Promotions that nobody made, and that should be.

use choreo_api::conditions::types;
use choreo_api::names;
use choreo_api::v1alpha1::{Promotion, common::ReleaseState};
use kube::ResourceExt as _;

use super::lane::{LaneKey, binding_of, members, place_of, promoted_by};
use super::{effective, paths};
use crate::{binding::Binding, world::World};

/// On a promotion that came of what somebody wrote into a binding: the binding's generation.
const ASKED_AT: &str = "openchoreo.dev/binding-generation";

/// Whether a binding says an artifact that it may not run, and nobody has asked for its promotion.
pub(super) fn wants(world: &World, binding: &Binding) -> bool {
    requested(world, binding).is_some()
}

fn requested(world: &World, binding: &Binding) -> Option<String> {
    let guard = paths::guard(world, binding.namespace(), &binding.owner, &binding.environment);
    if guard == paths::Guard::None || binding.state == ReleaseState::Undeploy {
        return None;
    }
    let artifact = binding.artifact.clone()?;
    let runs = effective::running(world, binding).as_deref() == Some(&artifact);
    if runs || effective::proven(world, binding, &artifact) {
        return None;
    }
    let mut all: Vec<&Promotion> = members(
        world,
        binding.namespace(),
        &binding.owner.component_name,
        &binding.track,
        &binding.environment,
    )
    .collect();
    all.sort_by_cached_key(|p| place_of(world, p));
    // A promotion has it say so, and takes it back if need be.
    let by = promoted_by(world, binding);
    let on_behalf = |p: &&Promotion| by.as_deref() == Some(&p.name_any()) && is_of(p, &artifact);
    let under_way = |p: &&Promotion| !super::is_over(p) && is_of(p, &artifact);
    if all.iter().any(|p| on_behalf(p) || under_way(p)) {
        return None;
    }
    // What was asked for in this way last is not asked for again before something else is written.
    let last = all.iter().rev().find(|p| p.spec.from_binding);
    let asked = last.filter(|p| is_of(p, &artifact)).is_some_and(|p| {
        let then = p
            .annotations()
            .get(ASKED_AT)
            .and_then(|text| text.parse::<i64>().ok());
        then.is_none_or(|then| binding.generation.unwrap_or_default() <= then)
    });
    (!asked).then_some(artifact)
}

/// Whether a promotion is of an artifact.
fn is_of(promotion: &Promotion, artifact: &str) -> bool {
    let settled = promotion.status.as_ref().and_then(|s| s.artifact.as_deref());
    promotion.spec.artifact_ref.as_deref() == Some(artifact) || settled == Some(artifact)
}

/// Promotions that nobody made, and that should be: of what somebody wrote into a guarded binding, and of what is promoted by
/// itself.
pub fn wanted(world: &World, key: &LaneKey) -> Vec<Promotion> {
    let mut all = Vec::new();
    let target = binding_of(
        world,
        &key.namespace,
        &key.component,
        &key.track,
        &key.environment,
    );
    if let Some(binding) = &target
        && let Some(artifact) = requested(world, binding)
    {
        let pipeline = paths::pipeline_of(world, &key.namespace, &binding.owner.project_name);
        let mut ways: Vec<&str> = pipeline
            .map(|p| {
                paths::ways_into(p, &key.environment)
                    .map(|way| way.source)
                    .collect()
            })
            .unwrap_or_default();
        // Of several ways the one is meant whose source runs the artifact.
        ways.sort_by_key(|source| {
            let there = binding_of(world, &key.namespace, &key.component, &key.track, source);
            there.is_none_or(|b| b.artifact.as_deref() != Some(&artifact))
        });
        let author = crate::AnyObject::meta(&match world.get_any(&binding.reference) {
            Some(object) => object,
            None => return all,
        })
        .annotations
        .as_ref()
        .and_then(|a| a.get(super::CHANGED_BY).cloned());
        if let Some(source) = ways.first() {
            let mut promotion = make(world, key, binding, source, &artifact);
            promotion.spec.from_binding = true;
            let generation = binding.generation.unwrap_or_default().to_string();
            promotion
                .annotations_mut()
                .insert(ASKED_AT.to_owned(), generation);
            promotion.spec.requested_by = author;
            promotion.spec.reason = Some(format!("the artifact was written into {}", binding.reference));
            all.push(promotion);
        }
    }
    all.extend(automatic(world, key));
    all
}

fn make(world: &World, key: &LaneKey, of: &Binding, source: &str, artifact: &str) -> Promotion {
    // Made twice by a crash it has the same name; asked for again later it has another one.
    let before = members(
        world,
        &key.namespace,
        &key.component,
        &key.track,
        &key.environment,
    )
    .filter(|p| is_of(p, artifact))
    .count();
    let (binding, again) = (key.binding(), before.to_string());
    let mut parts = vec![binding.as_str(), artifact];
    if before > 0 {
        parts.push(&again);
    }
    let name = names::k8s_name(names::LABEL_LIMIT, &parts).replace('.', "-");
    let mut promotion = Promotion::new(&name, choreo_api::v1alpha1::PromotionSpec::default());
    promotion.metadata.namespace = Some(key.namespace.clone());
    promotion.spec.owner = of.owner.clone();
    promotion.spec.track = Some(key.track.clone());
    promotion.spec.source_environment = Some(source.to_owned());
    promotion.spec.target_environment.clone_from(&key.environment);
    promotion.spec.artifact_ref = Some(artifact.to_owned());
    promotion
}

/// What is healthy in a source environment and promoted from there by itself, once for each artifact.
fn automatic(world: &World, key: &LaneKey) -> Vec<Promotion> {
    let component = world.get::<choreo_api::v1alpha1::Component>(&key.namespace, &key.component);
    let Some(project) = component.map(|c| c.spec.owner.project_name.clone()) else {
        return Vec::new();
    };
    let Some(pipeline) = paths::pipeline_of(world, &key.namespace, &project) else {
        return Vec::new();
    };
    let mut all = Vec::new();
    for way in paths::ways_into(pipeline, &key.environment).filter(|way| way.target.auto_promote) {
        let Some(source) = binding_of(world, &key.namespace, &key.component, &key.track, way.source) else {
            continue;
        };
        let Some(artifact) = effective::effective(world, &source).stable(&source) else {
            continue;
        };
        let healthy = source
            .conditions
            .iter()
            .any(|c| c.type_ == types::READY && c.is_true());
        let there = binding_of(
            world,
            &key.namespace,
            &key.component,
            &key.track,
            &key.environment,
        );
        let runs = there.as_ref().and_then(|b| b.artifact.clone());
        let mut promotion = make(world, key, &source, way.source, &artifact);
        // Once for each artifact, whatever became of it.
        let asked = members(
            world,
            &key.namespace,
            &key.component,
            &key.track,
            &key.environment,
        )
        .any(|p| is_of(p, &artifact));
        let rolls_in_source = members(world, &key.namespace, &key.component, &key.track, way.source)
            .any(|p| !super::is_over(p));
        if healthy && !asked && !rolls_in_source && runs.as_deref() != Some(&artifact) {
            promotion.spec.requested_by = Some(format!("pipeline:{}", pipeline.name_any()));
            promotion.spec.reason = Some(format!("autoPromote from {}", way.source));
            all.push(promotion);
        }
    }
    all
}
