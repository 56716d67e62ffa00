//! Promotions that are one: all of them end well, or none does.

use std::collections::BTreeSet;

use choreo_api::v1alpha1::{DeployableArtifact, Promotion};
use choreo_promotion::{Peer, SetFacts, Text, Verdict};
use kube::ResourceExt as _;

use super::lane::{artifact_of, decisions};
use super::record;
use crate::world::{Kind, ObjectRef, World};

/// Whether two promotions are of one set: of one project, and asked for by the same person, so that nobody gets into another's.
pub(super) fn same_set(a: &Promotion, b: &Promotion) -> bool {
    a.spec.set.is_some()
        && a.spec.set == b.spec.set
        && a.spec.owner.project_name == b.spec.owner.project_name
        && a.spec.requested_by == b.spec.requested_by
}

/// The promotions of a promotion's set, itself among them.
fn members<'a>(world: &'a World, namespace: &'a str, promotion: &Promotion) -> Vec<&'a Promotion> {
    let all = world.in_namespace::<Promotion>(namespace).map(AsRef::as_ref);
    all.filter(|p| same_set(p, promotion)).collect()
}

/// Whether nobody needs to know any more how a promotion ended: it is of no set, or all of its set have ended.
pub fn is_settled(world: &World, promotion: &Promotion) -> bool {
    let namespace = promotion.namespace().unwrap_or_default();
    promotion.spec.set.is_none()
        || members(world, &namespace, promotion)
            .into_iter()
            .all(super::is_over)
}

/// How the others of a promotion's set are doing.
pub(super) fn facts(world: &World, promotion: &Promotion) -> Option<SetFacts> {
    let set = promotion.spec.set.as_ref()?;
    let namespace = promotion.namespace().unwrap_or_default();
    let needs = connected(world, &namespace, promotion);
    let peer = |p: &Promotion| {
        let status = p.status.as_ref();
        let reference = ObjectRef::new(Kind::Promotion, &namespace, p.name_any());
        Peer {
            id: Text::from(p.name_any().as_str()),
            phase: record::phase_of(p),
            began: status.is_some_and(|s| s.start_time.is_some()),
            complete: status
                .and_then(|s| s.rollout.as_ref())
                .is_some_and(|rollout| rollout.complete),
            stopped: decisions(world, &reference)
                .iter()
                .any(|d| d.verdict == Verdict::Abort),
            needed: needs.contains(&p.spec.owner.component_name)
                && !needs_back(world, &namespace, p, promotion),
        }
    };
    let peers: Vec<Peer> = members(world, &namespace, promotion)
        .into_iter()
        .map(peer)
        .collect();
    SetFacts::of(
        &promotion.name_any(),
        &peers,
        usize::try_from(set.members).unwrap_or_default(),
    )
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
