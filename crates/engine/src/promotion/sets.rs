//! Promotions that are one: all of them end well, or none does.

use std::collections::BTreeSet;

use choreo_api::v1alpha1::{DeployableArtifact, Promotion, PromotionPhase};
use choreo_promotion::{SetFacts, Verdict};
use kube::ResourceExt as _;

use super::lane::{artifact_of, decisions};
use crate::world::{Kind, ObjectRef, World};

/// Whether two promotions are of one set: of one project, and asked for by the same person, so that nobody gets into another's.
pub(super) fn same_set(a: &Promotion, b: &Promotion) -> bool {
    a.spec.set.is_some()
        && a.spec.set == b.spec.set
        && a.spec.owner.project_name == b.spec.owner.project_name
        && a.spec.requested_by == b.spec.requested_by
}

/// How the others of a promotion's set are doing. The first by name leads it: see [`SetFacts::leads`].
pub(super) fn facts(world: &World, promotion: &Promotion) -> Option<SetFacts> {
    let set = promotion.spec.set.as_ref()?;
    let namespace = promotion.namespace().unwrap_or_default();
    let all: Vec<&Promotion> = world
        .in_namespace::<Promotion>(&namespace)
        .map(AsRef::as_ref)
        .filter(|p| same_set(p, promotion))
        .collect();
    let there = i32::try_from(all.len()).unwrap_or(i32::MAX) >= set.members;
    let phase = |p: &Promotion| p.status.as_ref().and_then(|s| s.phase).unwrap_or_default();
    let complete = |p: &Promotion| {
        let rollout = p.status.as_ref().and_then(|s| s.rollout.as_ref());
        rollout.is_some_and(|rollout| rollout.complete)
    };
    let failed = |p: &Promotion| phase(p).is_final() && phase(p) != PromotionPhase::Succeeded;
    let began = |p: &Promotion| p.status.as_ref().is_some_and(|s| s.start_time.is_some());
    let runs = |p: &Promotion| began(p) && complete(p);
    let leader = all.iter().min_by_key(|p| p.name_any())?;
    let leads = leader.name_any() == promotion.name_any();
    let needs = connected(world, &namespace, promotion);
    let needed = |p: &&&Promotion| {
        needs.contains(&p.spec.owner.component_name) && !needs_back(world, &namespace, p, promotion)
    };
    // Whoever has promised cannot stop by itself: the one that leads hears of it and does.
    let stopped = |p: &Promotion| {
        let reference = ObjectRef::new(Kind::Promotion, &namespace, p.name_any());
        decisions(world, &reference)
            .iter()
            .any(|d| d.verdict == Verdict::Abort)
    };
    Some(SetFacts {
        leads,
        may_start: there
            && all.iter().all(|p| began(p) || complete(p))
            && all.iter().filter(needed).all(|p| runs(p)),
        may_finish: if leads {
            there
                && all
                    .iter()
                    .all(|p| p.name_any() == promotion.name_any() || runs(p))
        } else {
            phase(leader) == PromotionPhase::Succeeded
        },
        broken: if leads {
            all.iter().any(|p| failed(p) || stopped(p))
        } else if runs(promotion) {
            failed(leader)
        } else {
            all.iter().any(|p| failed(p))
        },
    })
}

/// The components that a promotion's artifact connects to.
fn connected(world: &World, namespace: &str, promotion: &Promotion) -> BTreeSet<String> {
    let artifact = artifact_of(world, namespace, promotion);
    let kept = artifact.and_then(|name| world.get::<DeployableArtifact>(namespace, &name).cloned());
    let workload = kept.as_ref().and_then(|a| a.spec.workload.as_ref());
    let connections = workload.into_iter().flat_map(|w| w.connections.values());
    connections
        .filter_map(crate::world::target_component)
        .map(str::to_owned)
        .collect()
}

/// Whether two components connect to each other: neither can be first then, and neither waits.
fn needs_back(world: &World, namespace: &str, other: &Promotion, promotion: &Promotion) -> bool {
    connected(world, namespace, other).contains(&promotion.spec.owner.component_name)
}
