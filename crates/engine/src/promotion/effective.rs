//! What a binding runs: what it says, or what the promotions to it let it run.

use choreo_api::v1alpha1::{
    Deployment, HeaderMatch, Release, RolloutType, TargetEnvironment, common::TypedRef,
};
use choreo_api::{conditions::reasons, names};
use choreo_promotion::{Active, Lane, Member, Phase, State, Text};

use super::{lane, members, paths};
use crate::{binding::Binding, problem::Problem, revision, world::World};

/// On a workload that runs beside the stable one: the artifact that it is made of.
pub const CANDIDATE: &str = "openchoreo.dev/candidate";

/// Two revisions, side by side.
#[derive(Debug, Clone, PartialEq)]
pub struct Side {
    /// The old artifact.
    pub stable: String,
    /// The new artifact.
    pub candidate: String,
    /// The new one's share of the traffic, in percent.
    pub weight: u8,
    /// Requests with this header go to the new one.
    pub testers: Option<HeaderMatch>,
    /// Whether the new one has an address of its own.
    pub preview: bool,
}

/// What a binding runs.
#[derive(Debug, Clone, PartialEq)]
pub enum Effective {
    /// What it says.
    AsWritten,
    /// One artifact, or nothing, and why that is not what it says.
    Only {
        /// The artifact.
        artifact: Option<String>,
        /// Why.
        why: Option<Problem>,
    },
    /// Two artifacts.
    Two(Box<Side>),
    /// What runs, untouched, and why.
    Hold(Problem),
}

/// The workload's name of the revision that runs beside the stable one.
pub fn candidate_name(component: &str, track: &str) -> String {
    names::workload(component, &candidate_track(track))
}

/// Under this track the objects of the revision beside the stable one have names and selectors of their own.
pub(crate) fn candidate_track(track: &str) -> String {
    if crate::world::is_default_track(track) {
        "canary".to_owned()
    } else {
        format!("{track}-canary")
    }
}

/// The artifact that a binding's release was rendered from.
pub(crate) fn running(world: &World, binding: &Binding) -> Option<String> {
    let release = world.get::<Release>(binding.namespace(), &names::release(binding.name()))?;
    let deployment = release.spec.deployment_ref.as_deref()?;
    let deployment = world.get::<Deployment>(binding.namespace(), deployment)?;
    let of_this = TypedRef {
        kind: binding.reference.kind.as_str().to_owned(),
        name: binding.name().to_owned(),
    };
    let is_its = deployment.spec.binding_ref.as_ref() == Some(&of_this);
    deployment.spec.deployment_artifact_ref.clone().filter(|_| is_its)
}

/// Whether an artifact was healthy in the binding's environment at any time.
pub(crate) fn proven(world: &World, binding: &Binding, artifact: &str) -> bool {
    revision::history(world, &binding.reference).iter().any(|d| {
        d.spec.deployment_artifact_ref.as_deref() == Some(artifact)
            && d.status.as_ref().is_some_and(|s| s.proven)
    })
}

/// What a binding runs.
pub fn effective(world: &World, binding: &Binding) -> Effective {
    if world.supposes_promoted() {
        return Effective::AsWritten;
    }
    let component = &binding.owner.component_name;
    let mut all = members(
        world,
        binding.namespace(),
        component,
        &binding.track,
        &binding.environment,
    )
    .peekable();
    let guard = paths::guard(world, binding.namespace(), &binding.owner, &binding.environment);
    if all.peek().is_none() && guard == paths::Guard::None {
        return Effective::AsWritten;
    }
    let members: Vec<Member> = all
        .filter_map(|promotion| lane::bare_member(world, binding.namespace(), promotion))
        .collect();
    let states: Vec<State> = members.iter().map(|m| m.state.clone()).collect();
    let runs = running(world, binding);
    let lane = Lane {
        target: lane::target_of(world, Some(binding)),
        members,
    };
    let says = binding.artifact.clone();
    let rolling = lane.members.iter().find(|m| m.state.phase == Phase::RollingOut);
    let artifact = match choreo_promotion::effective(&lane, &states) {
        Active::Two {
            stable,
            candidate,
            weight,
        } => {
            let strategy = rolling
                .and_then(|m| strategy_of(world, binding, &m.request.id))
                .and_then(|target| target.strategy.as_ref());
            let testers = strategy.and_then(|strategy| strategy.testers.clone());
            return Effective::Two(Box::new(Side {
                stable: stable.to_string(),
                candidate: candidate.to_string(),
                weight,
                testers,
                preview: strategy.is_some_and(|s| s.type_ == RolloutType::BlueGreen),
            }));
        }
        Active::One(artifact) => artifact.map(|artifact| artifact.to_string()),
    };
    if rolling.is_some() {
        return only(says.as_deref(), artifact, None);
    }
    let told = |artifact: &str| {
        Problem::waiting(
            reasons::AWAITING_PROMOTION,
            format!(
                "artifact {artifact} was not promoted to environment {:?}, which takes only what was: {}",
                binding.environment,
                newest(&lane, artifact)
            ),
        )
    };
    if guard == paths::Guard::Promotions {
        let Some(wanted) = &artifact else {
            if says.is_some() {
                return Effective::Hold(told(says.as_deref().unwrap_or_default()));
            }
            return Effective::Hold(Problem::waiting(
                reasons::AWAITING_PROMOTION,
                format!(
                    "environment {:?} takes only artifacts that were promoted to it: `choreo promote {component} --to {}` asks for it",
                    binding.environment, binding.environment
                ),
            ));
        };
        let released = |m: &Member| m.state.released && *m.request.artifact == **wanted;
        let may = lane.members.iter().any(released)
            || runs.as_ref() == Some(wanted)
            || proven(world, binding, wanted);
        if !may {
            return match runs {
                Some(runs) => only(says.as_deref(), Some(runs), Some(told(wanted))),
                None => Effective::Hold(told(wanted)),
            };
        }
    }
    let why = (artifact != says).then(|| says.as_deref().map(told)).flatten();
    only(says.as_deref(), artifact, why)
}

fn only(says: Option<&str>, artifact: Option<String>, why: Option<Problem>) -> Effective {
    if artifact.as_deref() == says {
        return Effective::AsWritten;
    }
    Effective::Only { artifact, why }
}

/// How the newest promotion of an artifact stands, for people.
fn newest(lane: &Lane, artifact: &str) -> String {
    let of_it = lane.members.iter().filter(|m| *m.request.artifact == *artifact);
    match of_it.max_by_key(|m| choreo_promotion::place(&m.request, &m.state)) {
        Some(member) => {
            let message = member.state.log.last().map(|entry| entry.message.to_string());
            format!(
                "Promotion {:?}: {}",
                &*member.request.id,
                message.unwrap_or_default()
            )
        }
        None => "no promotion of it was asked for yet".to_owned(),
    }
}

/// The way that a promotion takes.
pub(crate) fn strategy_of<'a>(
    world: &'a World,
    binding: &'a Binding,
    promotion: &Text,
) -> Option<&'a TargetEnvironment> {
    let promotion = world.get::<choreo_api::v1alpha1::Promotion>(binding.namespace(), promotion)?;
    let pipeline = paths::pipeline_of(world, binding.namespace(), &binding.owner.project_name)?;
    let source = promotion.spec.source_environment.as_deref()?;
    paths::way(pipeline, source, &binding.environment).map(|way| way.target)
}
