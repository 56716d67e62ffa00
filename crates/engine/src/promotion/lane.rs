//! From objects to a lane, and from an object to the lanes that it concerns.

use std::collections::{BTreeMap, BTreeSet};

use choreo_api::conditions::types;
use choreo_api::names;
use choreo_api::v1alpha1::{
    Decision, DeployableArtifact, Deployment, Environment, HealthStatus, Promotion, PromotionBypass,
    PromotionDecision, Release, common::ReleaseState,
};
use choreo_promotion::{
    self as machine, Bypass, Facts, Finding, Health, Intent, Lane, Member, Millis, Report, Request, Target,
    Text, Verdict,
};
use kube::ResourceExt as _;

use super::{PROMOTED_BY, effective, freeze, jobs, paths, policy, preview, record, refuse, sets, wanted};
use crate::{
    binding::{self, Binding},
    render::Family,
    revision,
    world::{Kind, ObjectRef, World},
};

/// What names a lane: the binding that its promotions lead to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneKey {
    /// The organization.
    pub namespace: String,
    /// The component.
    pub component: String,
    /// The track.
    pub track: String,
    /// The environment.
    pub environment: String,
}

impl LaneKey {
    /// The lane of a promotion.
    pub fn of(promotion: &Promotion) -> Self {
        Self {
            namespace: promotion.namespace().unwrap_or_default(),
            component: promotion.spec.owner.component_name.clone(),
            track: promotion.spec.track().to_owned(),
            environment: promotion.spec.target_environment.clone(),
        }
    }

    /// The lane of a binding.
    pub fn of_binding(binding: &Binding) -> Self {
        Self {
            namespace: binding.namespace().to_owned(),
            component: binding.owner.component_name.clone(),
            track: binding.track.clone(),
            environment: binding.environment.clone(),
        }
    }

    /// Name of the binding.
    pub fn binding(&self) -> String {
        names::binding(&self.component, &self.track, &self.environment)
    }
}

impl std::fmt::Display for LaneKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.binding())
    }
}

/// What gates reported that no object tells of: by promotion, gate, round and attempt.
pub type Reports = BTreeMap<(String, String, u32, u32), (Finding, String)>;

/// The promotions of a lane.
pub fn members<'a>(
    world: &'a World,
    namespace: &str,
    component: &str,
    track: &'a str,
    environment: &'a str,
) -> impl Iterator<Item = &'a Promotion> + use<'a> {
    let component = ObjectRef::new(Kind::Component, namespace, component);
    let all: Vec<&Promotion> = world
        .referring::<Promotion>(&component)
        .map(AsRef::as_ref)
        .filter(|p| p.spec.track() == track && p.spec.target_environment == environment)
        .filter(|p| p.metadata.deletion_timestamp.is_none())
        .collect();
    all.into_iter()
}

/// Where a promotion stands among the others of its lane, for sorting: earlier ones are smaller.
pub fn place_of(world: &World, promotion: &Promotion) -> (u64, u64, Millis, String) {
    let request = Request {
        id: Text::from(promotion.name_any().as_str()),
        created: created(promotion),
        arrival: arrival(world, promotion),
        ..Request::default()
    };
    let (order, arrival, created, id) = machine::place(&request, &record::restore(promotion));
    (order, arrival, created, id.to_string())
}

fn created(promotion: &Promotion) -> Millis {
    let created = promotion.metadata.creation_timestamp.as_ref();
    created.map(|t| t.0.as_millisecond()).unwrap_or_default()
}

pub(super) fn arrival(world: &World, promotion: &Promotion) -> u64 {
    let namespace = promotion.namespace().unwrap_or_default();
    world.arrival(&ObjectRef::new(Kind::Promotion, namespace, promotion.name_any()))
}

/// The lanes that an object of the world concerns.
pub fn lanes_of(world: &World, reference: &ObjectRef) -> BTreeSet<LaneKey> {
    let namespace = reference.key.namespace.as_str();
    let name = reference.key.name.as_str();
    let mut lanes = BTreeSet::new();
    let of_component = |component: &str| -> Vec<LaneKey> {
        let component = ObjectRef::new(Kind::Component, namespace, component);
        let open = world.referring::<Promotion>(&component);
        open.filter(|p| !super::is_over(p))
            .map(|p| LaneKey::of(p))
            .collect()
    };
    match reference.kind {
        Kind::Promotion => {
            if let Some(promotion) = world.get::<Promotion>(namespace, name) {
                lanes.insert(LaneKey::of(promotion));
                // What has come here for good may go on by itself.
                let spec = &promotion.spec;
                let (component, target) = (&spec.owner.component_name, &spec.target_environment);
                let here = binding_of(world, namespace, component, spec.track(), target);
                lanes.extend(here.iter().flat_map(|binding| beyond(world, binding)));
                if promotion.spec.set.is_some() {
                    let same = |p: &&std::sync::Arc<Promotion>| sets::same_set(p, promotion);
                    let all = world.in_namespace::<Promotion>(namespace).filter(same);
                    lanes.extend(all.map(|p| LaneKey::of(p)));
                }
            }
        }
        Kind::PromotionDecision | Kind::PromotionBypass => {
            let promotion = match world.get_any(reference) {
                Some(crate::AnyObject::PromotionDecision(o)) => o.spec.promotion_ref.clone(),
                Some(crate::AnyObject::PromotionBypass(o)) => o.spec.promotion_ref.clone(),
                _ => return lanes,
            };
            if let Some(promotion) = world.get::<Promotion>(namespace, &promotion) {
                lanes.insert(LaneKey::of(promotion));
            }
        }
        Kind::Environment | Kind::DeploymentPipeline | Kind::Project => {
            let open = world.in_namespace::<Promotion>(namespace);
            lanes.extend(open.filter(|p| !super::is_over(p)).map(|p| LaneKey::of(p)));
            // A way that promotes by itself may have come.
            if reference.kind == Kind::DeploymentPipeline {
                for binding in bindings_in(world, namespace) {
                    lanes.extend(beyond(world, &binding));
                }
            }
        }
        Kind::Release => {
            let Some(release) = world.get::<Release>(namespace, name) else {
                return lanes;
            };
            if let Some(promotion) = release.labels().get(super::GATE_OF)
                && let Some(promotion) = world.get::<Promotion>(namespace, promotion)
            {
                lanes.insert(LaneKey::of(promotion));
            } else if let Some(component) = &release.spec.owner.component_name {
                lanes.extend(of_component(component));
            }
        }
        Kind::Deployment => {
            if let Some(deployment) = world.get::<Deployment>(namespace, name)
                && let Some(owner) = &deployment.spec.owner
            {
                lanes.extend(of_component(&owner.component_name));
            }
        }
        kind if binding::KINDS.contains(&kind) => {
            if let Some(binding) = Binding::find(world, reference) {
                lanes.extend(of_component(&binding.owner.component_name));
                lanes.extend(beyond(world, &binding));
                if wanted::wants(world, &binding) {
                    lanes.insert(LaneKey::of_binding(&binding));
                }
            }
        }
        _ => {}
    }
    lanes
}

fn bindings_in(world: &World, namespace: &str) -> Vec<Binding> {
    let all = world.iter().filter(|o| {
        binding::KINDS.contains(&o.reference().kind) && o.meta().namespace.as_deref() == Some(namespace)
    });
    all.filter_map(|object| Binding::of(world, &object)).collect()
}

/// The lanes that a binding's artifact is promoted to by itself.
fn beyond(world: &World, binding: &Binding) -> Vec<LaneKey> {
    let Some(pipeline) = paths::pipeline_of(world, binding.namespace(), &binding.owner.project_name) else {
        return Vec::new();
    };
    let from_here = pipeline
        .spec
        .promotion_paths
        .iter()
        .filter(|path| path.source_environment_ref == binding.environment);
    from_here
        .flat_map(|path| &path.target_environment_refs)
        .filter(|target| target.auto_promote)
        .map(|target| LaneKey {
            environment: target.name.clone(),
            ..LaneKey::of_binding(binding)
        })
        .collect()
}

/// The binding of a component in an environment.
pub(super) fn binding_of(
    world: &World,
    namespace: &str,
    component: &str,
    track: &str,
    environment: &str,
) -> Option<Binding> {
    let name = names::binding(component, track, environment);
    let mut all = binding::KINDS
        .into_iter()
        .filter_map(|kind| Binding::find(world, &ObjectRef::new(kind, namespace, name.clone())));
    all.find(|b| b.owner.component_name == component && b.environment == environment)
}

/// The promotion that had a binding say its artifact.
pub(super) fn promoted_by(world: &World, binding: &Binding) -> Option<String> {
    let object = world.get_any(&binding.reference)?;
    object.meta().annotations.as_ref()?.get(PROMOTED_BY).cloned()
}

/// What can be seen of a lane's target.
pub(super) fn target_of(world: &World, binding: Option<&Binding>) -> Target {
    let Some(binding) = binding else {
        return Target::default();
    };
    let by = promoted_by(world, binding);
    let undeployed = binding.state == ReleaseState::Undeploy;
    let mut target = Target {
        artifact: binding
            .artifact
            .as_deref()
            .filter(|_| !undeployed)
            .map(Text::from),
        by: by.as_deref().map(Text::from),
        running: effective::running(world, binding).as_deref().map(Text::from),
        ..Target::default()
    };
    let Some(release) = world.get::<Release>(binding.namespace(), &names::release(binding.name())) else {
        return target;
    };
    let beside = effective::candidate_name(&binding.owner.component_name, &binding.track);
    // What cannot be read is not known to be well.
    let Ok(resources) = release.spec.resources.open() else {
        return target;
    };
    target.candidate = resources.iter().find_map(|r| {
        let artifact = r
            .object
            .pointer("/metadata/annotations")?
            .get(effective::CANDIDATE)?;
        artifact.as_str().map(Text::from)
    });
    let Some(status) = &release.status else {
        return target;
    };
    if status.observed_generation != release.metadata.generation {
        return target;
    }
    let mut health = Some(Health::Ready);
    let mut candidate = None;
    let worse = |a: Option<Health>, b: Health| match (a, b) {
        (Some(Health::Failed), _) | (_, Health::Failed) => Some(Health::Failed),
        (Some(Health::Progressing), _) | (_, Health::Progressing) => Some(Health::Progressing),
        _ => Some(Health::Ready),
    };
    for resource in resources.iter() {
        let known = status.resources.iter().find(|r| r.id == resource.id);
        let this = match known.map(|r| r.health_status) {
            Some(HealthStatus::Healthy | HealthStatus::Suspended) => Health::Ready,
            Some(HealthStatus::Degraded) => Health::Failed,
            _ => Health::Progressing,
        };
        let name = resource.object.pointer("/metadata/name").and_then(|n| n.as_str());
        if name.is_some_and(|name| name == beside || name.starts_with(&format!("{beside}-"))) {
            candidate = worse(candidate, this);
        } else {
            health = worse(health, this);
        }
    }
    let applied = status
        .conditions
        .iter()
        .any(|c| c.type_ == types::APPLIED && c.is_true());
    target.health = health.filter(|_| applied).unwrap_or_default();
    target.candidate_health = candidate.filter(|_| applied).unwrap_or_default();
    target
}

/// The artifact that a promotion is of: the one that it has settled on, or names, or means.
pub(super) fn artifact_of(world: &World, namespace: &str, promotion: &Promotion) -> Option<String> {
    let spec = &promotion.spec;
    let settled = promotion.status.as_ref().and_then(|s| s.artifact.clone());
    if let Some(artifact) = settled.or_else(|| spec.artifact_ref.clone()) {
        return Some(artifact);
    }
    let component = &spec.owner.component_name;
    if let Some(source) = &spec.source_environment {
        let binding = binding_of(world, namespace, component, spec.track(), source)?;
        return effective::effective(world, &binding).stable(&binding);
    }
    let target = binding_of(
        world,
        namespace,
        component,
        spec.track(),
        &spec.target_environment,
    )?;
    let current = target.revision.unwrap_or(i64::MAX);
    revision::rollback_target(world, &target.reference, current, spec.rollback_to)?
        .spec
        .deployment_artifact_ref
        .clone()
}

/// A promotion without its surroundings.
pub(super) fn bare_member(world: &World, namespace: &str, promotion: &Promotion) -> Option<Member> {
    let spec = &promotion.spec;
    let artifact = artifact_of(world, namespace, promotion);
    // The way back to what was healthy here before demands nothing.
    let demands_nothing = spec.is_rollback()
        && artifact.as_deref().is_some_and(|artifact| {
            let (component, target) = (&spec.owner.component_name, &spec.target_environment);
            let binding = binding_of(world, namespace, component, spec.track(), target);
            binding.is_some_and(|binding| effective::proven(world, &binding, artifact))
        });
    let way = paths::way_of(world, namespace, spec).filter(|_| !demands_nothing);
    let kept = artifact
        .as_deref()
        .and_then(|name| world.get::<DeployableArtifact>(namespace, name));
    let steps = kept.is_some_and(|a| Family::of(&a.spec) == Family::LongRunning);
    Some(Member {
        request: Request {
            id: Text::from(promotion.name_any().as_str()),
            author: Text::from(spec.requested_by.as_deref().unwrap_or_default()),
            artifact: Text::from(artifact.as_deref().unwrap_or_default()),
            intent: if spec.is_rollback() {
                Intent::Rollback
            } else {
                Intent::Promote
            },
            written: spec.from_binding,
            created: created(promotion),
            arrival: arrival(world, promotion),
        },
        policy: policy::policy(way.map(|way| way.target), steps),
        state: record::restore(promotion),
        facts: Facts::default(),
    })
}

/// A lane as it is now.
pub fn lane(world: &World, key: &LaneKey, reports: &Reports, now: Millis) -> Lane {
    let binding = binding_of(
        world,
        &key.namespace,
        &key.component,
        &key.track,
        &key.environment,
    );
    let all = members(
        world,
        &key.namespace,
        &key.component,
        &key.track,
        &key.environment,
    );
    let members = all
        .filter_map(|promotion| {
            let mut member = bare_member(world, &key.namespace, promotion)?;
            if !member.state.phase.is_final() {
                member.facts = facts(world, key, promotion, &member, binding.as_ref(), reports, now);
            }
            Some(member)
        })
        .collect();
    Lane {
        members,
        target: target_of(world, binding.as_ref()),
    }
}

fn facts(
    world: &World,
    key: &LaneKey,
    promotion: &Promotion,
    member: &Member,
    binding: Option<&Binding>,
    reports: &Reports,
    now: Millis,
) -> Facts {
    let namespace = key.namespace.as_str();
    let spec = &promotion.spec;
    let artifact = Some(&*member.request.artifact).filter(|a| !a.is_empty());
    let kept = artifact.and_then(|name| world.get::<DeployableArtifact>(namespace, name));
    let digest = kept
        .and_then(|a| a.spec.digest.clone())
        .unwrap_or_else(|| artifact.unwrap_or_default().to_owned());
    let reference = ObjectRef::new(Kind::Promotion, namespace, promotion.name_any());
    // Once it rolls out, the difference is what was approved.
    let diff = if member.state.started.is_some() {
        promotion
            .status
            .as_ref()
            .and_then(|s| s.diff.clone())
            .unwrap_or_default()
    } else {
        preview::preview(world, namespace, spec, artifact).digest
    };
    let environment = world.get::<Environment>(namespace, &key.environment);
    let mut refusals = refuse::refusals(world, namespace, spec, artifact);
    refusals.extend(sets::full(world, namespace, promotion));
    Facts {
        digest: Text::from(digest.as_str()),
        diff: Text::from(diff.as_str()),
        refusals,
        healthy_since: paths::way_of(world, namespace, spec)
            .and_then(|way| healthy_since(world, key, way.source, artifact?)),
        decisions: decisions(world, &reference),
        bypass: bypass(world, &reference),
        reports: gate_reports(world, namespace, promotion, member, reports),
        frozen: environment.and_then(|e| freeze::active(e, now)),
        proven: artifact
            .zip(binding)
            .is_some_and(|(artifact, binding)| effective::proven(world, binding, artifact)),
        set: sets::facts(world, promotion),
    }
}

/// Since when an artifact has been healthy in an environment.
fn healthy_since(world: &World, key: &LaneKey, source: &str, artifact: &str) -> Option<Millis> {
    let binding = binding_of(world, &key.namespace, &key.component, &key.track, source)?;
    if effective::running(world, &binding).as_deref() != Some(artifact) {
        return None;
    }
    let ready = binding
        .conditions
        .iter()
        .find(|c| c.type_ == types::READY && c.is_true())?;
    let ready = ready.last_transition_time.as_ref()?.0.as_millisecond();
    // A revision that replaced another one without a break is healthy for as long as it is there.
    let since = revision::history(world, &binding.reference)
        .into_iter()
        .find(|d| d.spec.revision == binding.revision)
        .and_then(|d| {
            d.status
                .as_ref()?
                .conditions
                .iter()
                .find(|c| c.type_ == types::READY)
        })
        .filter(|c| c.is_true())
        .and_then(|c| c.last_transition_time.as_ref())
        .map(|t| t.0.as_millisecond());
    since.map(|since| since.max(ready))
}

/// Whether a decision was about another promotion of this name, which is gone: it was there before this one. Nobody's word counts
/// twice.
pub fn is_of_another(world: &World, promotion: &ObjectRef, decision: &PromotionDecision) -> bool {
    let of = world.get::<Promotion>(&promotion.key.namespace, &promotion.key.name);
    let made = of.and_then(|p| p.metadata.creation_timestamp.as_ref());
    let said = decision.metadata.creation_timestamp.as_ref();
    made.zip(said).is_some_and(|(made, said)| said.0 < made.0)
}

pub(super) fn decisions(world: &World, promotion: &ObjectRef) -> Vec<machine::Decision> {
    let mut all: Vec<&PromotionDecision> = world
        .referring::<PromotionDecision>(promotion)
        .map(AsRef::as_ref)
        .filter(|d| d.metadata.deletion_timestamp.is_none() && !is_of_another(world, promotion, d))
        .collect();
    // Times have seconds. What is on record has its place; the rest comes after it, as it came.
    let recorded = world.get::<Promotion>(&promotion.key.namespace, &promotion.key.name);
    let recorded = recorded
        .and_then(|p| p.status.as_ref())
        .map(|s| s.decisions.as_slice());
    let place = |name: &str| {
        let mut names = recorded.unwrap_or_default().iter().map(|d| d.name.as_deref());
        names.position(|known| known == Some(name)).unwrap_or(usize::MAX)
    };
    all.sort_by_cached_key(|d| {
        let name = d.name_any();
        let reference = ObjectRef::new(Kind::PromotionDecision, &promotion.key.namespace, &name);
        let at = d.metadata.creation_timestamp.as_ref().map(|t| t.0);
        (place(&name), world.arrival(&reference), at, name)
    });
    all.into_iter()
        .map(|d| machine::Decision {
            id: Text::from(d.name_any().as_str()),
            by: Text::from(d.spec.user.as_deref().unwrap_or_default()),
            groups: d.spec.groups.iter().map(|g| Text::from(g.as_str())).collect(),
            verdict: match d.spec.decision {
                Decision::Approved => Verdict::Approve,
                Decision::Rejected => Verdict::Reject,
                Decision::Withdrawn => Verdict::Withdraw,
                Decision::Aborted => Verdict::Abort,
                Decision::Resumed => Verdict::Resume,
            },
            at: d
                .metadata
                .creation_timestamp
                .as_ref()
                .map(|t| t.0.as_millisecond())
                .unwrap_or_default(),
            digest: Text::from(d.spec.digest.as_deref().unwrap_or_default()),
            diff: Text::from(d.spec.diff.as_deref().unwrap_or_default()),
            step: d
                .spec
                .step
                .and_then(|s| u32::try_from(s).ok())
                .unwrap_or_default(),
        })
        // Nobody is nobody's word.
        .filter(|d| !d.by.is_empty())
        .collect()
}

pub(super) fn bypass(world: &World, promotion: &ObjectRef) -> Option<Bypass> {
    let mut all: Vec<&PromotionBypass> = world
        .referring::<PromotionBypass>(promotion)
        .map(AsRef::as_ref)
        .filter(|b| b.metadata.deletion_timestamp.is_none() && b.spec.user.is_some())
        .collect();
    all.sort_by_key(|b| (b.metadata.creation_timestamp.as_ref().map(|t| t.0), b.name_any()));
    all.first().map(|b| Bypass {
        by: Text::from(b.spec.user.as_deref().unwrap_or_default()),
        why: Text::from(b.spec.reason.as_str()),
        at: b
            .metadata
            .creation_timestamp
            .as_ref()
            .map(|t| t.0.as_millisecond())
            .unwrap_or_default(),
    })
}

/// What gates have reported: by their Jobs' releases, by rules that are worked out here, and by whoever asks servers.
fn gate_reports(
    world: &World,
    namespace: &str,
    promotion: &Promotion,
    member: &Member,
    reports: &Reports,
) -> Vec<Report> {
    let mut all = Vec::new();
    let name = promotion.name_any();
    for check in member.state.checks.iter().filter(|c| c.finding.is_none()) {
        let key = (name.clone(), check.name.to_string(), check.round, check.attempt);
        let found = jobs::report(world, namespace, promotion, check)
            .or_else(|| preview::rule_report(world, namespace, promotion, &member.request.artifact, check))
            .or_else(|| reports.get(&key).cloned());
        if let Some((finding, message)) = found {
            all.push(Report {
                name: Text::clone(&check.name),
                round: check.round,
                attempt: check.attempt,
                finding,
                message: Text::from(message.as_str()),
            });
        }
    }
    all
}
