//! Promotions that are one: all of them end well, or none does.

use std::collections::BTreeSet;

use choreo_api::v1alpha1::{DeployableArtifact, Promotion};
use choreo_promotion::{Peer, Refusal, SetFacts, Text, Verdict};
use kube::ResourceExt as _;

use super::lane::{arrival, artifact_of, bypass, decisions};
use super::record;
use crate::problem::quoted_list;
use crate::world::{Kind, ObjectRef, World};

/// As many members of a set are named as a person reads.
const NAMED: usize = 5;

/// Whether two promotions are of one set: of one project, and asked for by the same person, so that nobody gets into another's.
pub(super) fn same_set(a: &Promotion, b: &Promotion) -> bool {
    a.spec.set.is_some()
        && a.spec.set == b.spec.set
        && a.spec.owner.project_name == b.spec.owner.project_name
        && a.spec.requested_by == b.spec.requested_by
}

/// The promotions of a promotion's set: as many as it says. Whoever was let in stays in, before all who went past the rules; of the
/// others those are that the server took in first, so that whoever sees a later one knows of those before it, too.
fn members<'a>(world: &'a World, namespace: &'a str, promotion: &Promotion) -> Vec<&'a Promotion> {
    let all = world.in_namespace::<Promotion>(namespace).map(AsRef::as_ref);
    let mut all: Vec<&Promotion> = all.filter(|p| same_set(p, promotion)).collect();
    all.sort_by_cached_key(|p| {
        let accepted = p.status.as_ref().is_some_and(|s| s.accepted);
        (
            !accepted,
            is_past_rules(world, p),
            arrival(world, p),
            p.name_any(),
        )
    });
    all.truncate(size_of(promotion));
    all
}

/// Whether somebody has it go past the rules.
fn is_past_rules(world: &World, promotion: &Promotion) -> bool {
    let on_record = promotion.status.as_ref().is_some_and(|s| s.bypass.is_some());
    let namespace = promotion.namespace().unwrap_or_default();
    on_record
        || bypass(
            world,
            &ObjectRef::new(Kind::Promotion, namespace, promotion.name_any()),
        )
        .is_some()
}

fn size_of(promotion: &Promotion) -> usize {
    let size = promotion.spec.set.as_ref().map(|set| set.members);
    size.and_then(|members| usize::try_from(members).ok())
        .unwrap_or_default()
}

/// Why a promotion cannot be of its set: that has all its members. It may be one of the world, or one that is yet to be.
pub(crate) fn full(world: &World, namespace: &str, promotion: &Promotion) -> Option<Refusal> {
    let set = promotion.spec.set.as_ref()?;
    let name = promotion.name_any();
    let members = members(world, namespace, promotion);
    let is_in = members.iter().any(|p| p.name_any() == name);
    if is_in || members.len() < size_of(promotion) {
        return None;
    }
    let all: Vec<String> = members.iter().map(|p| p.name_any()).collect();
    Some(Refusal {
        rule: Text::from("SetFull"),
        message: Text::from(
            format!(
                "set {:?} has all its {} members already: {}; give the set another name",
                set.name,
                set.members,
                quoted_list(all.iter().map(String::as_str).take(NAMED))
            )
            .as_str(),
        ),
    })
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
    promotion.spec.set.as_ref()?;
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
    let facts = SetFacts::of(&promotion.name_any(), &peers, size_of(promotion));
    match facts {
        // An emergency concerns itself alone.
        None if is_past_rules(world, promotion) => None,
        // One too many is refused; should it have got past that, it goes nowhere by itself.
        None => Some(SetFacts {
            broken: true,
            ..SetFacts::default()
        }),
        facts => facts,
    }
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
