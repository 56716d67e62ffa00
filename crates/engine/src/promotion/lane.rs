//! From objects to a lane, and from an object to the lanes that it concerns.

use std::collections::{BTreeMap, BTreeSet};

use choreo_api::conditions::types;
use choreo_api::names;
use choreo_api::v1alpha1::{
    Decision, DeployableArtifact, Deployment, Environment, HealthStatus, Promotion, PromotionBypass,
    PromotionDecision, Release, common::ReleaseState,
};
use choreo_promotion::{
    self as machine, Bypass, Facts, Finding, Health, Intent, Lane, Member, Millis, Report, Request, SetFacts,
    Target, Text, Verdict,
};
use kube::ResourceExt as _;

use super::{PROMOTED_BY, effective, freeze, jobs, paths, policy, preview, record, refuse};
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
                if let Some(set) = &promotion.spec.set {
                    let same = |p: &&std::sync::Arc<Promotion>| p.spec.set.as_ref() == Some(set);
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
                if wants(world, &binding) {
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

/// Whether a binding says an artifact that it may not run, and nobody has asked for its promotion.
fn wants(world: &World, binding: &Binding) -> bool {
    requested(world, binding).is_some()
}

fn requested(world: &World, binding: &Binding) -> Option<String> {
    let guard = paths::guard(world, binding.namespace(), &binding.owner, &binding.environment);
    if guard == paths::Guard::None || binding.state == ReleaseState::Undeploy {
        return None;
    }
    let artifact = binding.artifact.clone()?;
    let known = members(
        world,
        binding.namespace(),
        &binding.owner.component_name,
        &binding.track,
        &binding.environment,
    )
    .any(|p| {
        let status = p.status.as_ref();
        p.spec.artifact_ref.as_deref() == Some(&artifact)
            || status.is_some_and(|s| s.artifact.as_deref() == Some(&artifact))
    });
    let runs = effective::running(world, binding).as_deref() == Some(&artifact);
    (!known && !runs && !effective::proven(world, binding, &artifact)).then_some(artifact)
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
            let mut promotion = make(key, binding, source, &artifact);
            promotion.spec.from_binding = true;
            promotion.spec.requested_by = author;
            promotion.spec.reason = Some(format!("the artifact was written into {}", binding.reference));
            all.push(promotion);
        }
    }
    all.extend(automatic(world, key));
    all
}

fn make(key: &LaneKey, of: &Binding, source: &str, artifact: &str) -> Promotion {
    let name = names::k8s_name(names::LABEL_LIMIT, &[&key.binding(), artifact]).replace('.', "-");
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
        let mut promotion = make(key, &source, way.source, &artifact);
        // Once for each artifact, whatever became of it.
        let asked = members(
            world,
            &key.namespace,
            &key.component,
            &key.track,
            &key.environment,
        )
        .any(|p| p.spec.artifact_ref.as_deref() == Some(&artifact));
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

/// What can be seen of a lane's target.
pub(super) fn target_of(world: &World, binding: Option<&Binding>) -> Target {
    let Some(binding) = binding else {
        return Target::default();
    };
    let by = world
        .get_any(&binding.reference)
        .and_then(|o| o.meta().annotations.as_ref()?.get(PROMOTED_BY).cloned());
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
fn artifact_of(world: &World, namespace: &str, promotion: &Promotion) -> Option<String> {
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
    let way = paths::pipeline_of(world, namespace, &spec.owner.project_name)
        .zip(spec.source_environment.as_deref())
        .and_then(|(pipeline, source)| paths::way(pipeline, source, &spec.target_environment));
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
            created: promotion
                .metadata
                .creation_timestamp
                .as_ref()
                .map(|t| t.0.as_millisecond())
                .unwrap_or_default(),
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
    Facts {
        digest: Text::from(digest.as_str()),
        diff: Text::from(diff.as_str()),
        refusals: refuse::refusals(world, namespace, spec, artifact),
        healthy_since: spec
            .source_environment
            .as_deref()
            .and_then(|source| healthy_since(world, key, source, artifact?)),
        decisions: decisions(world, &reference),
        bypass: bypass(world, &reference),
        reports: gate_reports(world, namespace, promotion, member, reports),
        frozen: environment.and_then(|e| freeze::active(e, now)),
        proven: artifact
            .zip(binding)
            .is_some_and(|(artifact, binding)| effective::proven(world, binding, artifact)),
        set: set(world, promotion),
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

fn decisions(world: &World, promotion: &ObjectRef) -> Vec<machine::Decision> {
    let mut all: Vec<&PromotionDecision> = world
        .referring::<PromotionDecision>(promotion)
        .map(AsRef::as_ref)
        .filter(|d| d.metadata.deletion_timestamp.is_none())
        .collect();
    all.sort_by_key(|d| (d.metadata.creation_timestamp.as_ref().map(|t| t.0), d.name_any()));
    all.into_iter()
        .map(|d| machine::Decision {
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

fn bypass(world: &World, promotion: &ObjectRef) -> Option<Bypass> {
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

/// How the others of a promotion's set are doing.
fn set(world: &World, promotion: &Promotion) -> Option<SetFacts> {
    let set = promotion.spec.set.as_ref()?;
    let namespace = promotion.namespace().unwrap_or_default();
    let all: Vec<&Promotion> = world
        .in_namespace::<Promotion>(&namespace)
        .map(AsRef::as_ref)
        .filter(|p| p.spec.set.as_ref() == Some(set))
        .collect();
    let there = i32::try_from(all.len()).unwrap_or(i32::MAX) >= set.members;
    let status = |p: &Promotion| p.status.clone().unwrap_or_default();
    let complete = |p: &Promotion| status(p).rollout.is_some_and(|r| r.complete);
    let broken = all.iter().any(|p| {
        let phase = status(p).phase.unwrap_or_default();
        phase.is_final() && phase != choreo_api::v1alpha1::PromotionPhase::Succeeded
    });
    let began = |p: &Promotion| status(p).start_time.is_some();
    let runs = |p: &Promotion| began(p) && complete(p);
    let needs = connected(world, &namespace, promotion);
    let needed = |p: &&&Promotion| {
        needs.contains(&p.spec.owner.component_name) && !needs_back(world, &namespace, p, promotion)
    };
    Some(SetFacts {
        may_start: there
            && all.iter().all(|p| began(p) || complete(p))
            && all.iter().filter(needed).all(|p| runs(p)),
        may_finish: there
            && all
                .iter()
                .all(|p| p.name_any() == promotion.name_any() || runs(p)),
        broken,
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
