//! The status of a promotion, for people and for the next look.

use choreo_api::conditions::{Condition, reasons, types};
use choreo_api::v1alpha1::{Decision, PromotionDecision, RecordedDecision};
use choreo_engine::World;
use choreo_engine::promotion::machine::{Active, Member, Phase, State, Verdict, Wait, active};
use choreo_engine::promotion::{self as engine, LaneKey, Waits as _};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

/// As many lines of a difference are kept.
const LINES: usize = 64;

pub(super) fn status(
    world: &World,
    key: &LaneKey,
    member: &Member,
    state: &State,
    wait: Option<&Wait>,
) -> Value {
    let name = member.request.id.to_string();
    let Some(promotion) = world.get::<choreo_api::v1alpha1::Promotion>(&key.namespace, &name) else {
        return json!({});
    };
    let weight = match active(&member.request, state, &member.policy.strategy) {
        Some(Active::Two { weight, .. }) => Some(weight),
        _ => None,
    };
    let mut status = engine::status(state, weight, wait);
    if let (Some(rollout), Phase::RollingOut) = (&mut status.rollout, state.phase) {
        rollout.preview = engine::preview_addresses(world, key);
    }
    let before = promotion.status.clone().unwrap_or_default();
    let artifact = member.request.artifact.to_string();
    status.artifact = Some(artifact).filter(|a| !a.is_empty());
    status.requested_by.clone_from(&promotion.spec.requested_by);
    status.diff = Some(member.facts.diff.to_string()).filter(|d| !d.is_empty());
    status.changes = if before.diff == status.diff {
        before.changes
    } else {
        let mut lines =
            engine::preview(world, &key.namespace, &promotion.spec, status.artifact.as_deref()).lines();
        let more = lines.len().saturating_sub(LINES);
        lines.truncate(LINES);
        if more > 0 {
            lines.push(format!("... and {more} more"));
        }
        lines
    };
    for gate in &mut status.gates {
        let round = u32::try_from(gate.round).unwrap_or_default();
        let attempt = u32::try_from(gate.attempt).unwrap_or_default();
        let found = engine::gate_for(world, &key.namespace, promotion, &gate.name, round);
        gate.log = found.and_then(|found| match (&found.job, &found.webhook) {
            (Some(_), _) => Some(engine::log_of(&name, &gate.name, round, attempt)),
            (None, Some(hook)) => Some(hook.url.clone()),
            _ => found.metric.and_then(|metric| metric.address),
        });
    }
    status.decisions = member
        .facts
        .decisions
        .iter()
        .map(|d| RecordedDecision {
            name: Some(d.id.to_string()),
            user: d.by.to_string(),
            decision: match d.verdict {
                Verdict::Approve => Decision::Approved,
                Verdict::Reject => Decision::Rejected,
                Verdict::Withdraw => Decision::Withdrawn,
                Verdict::Abort => Decision::Aborted,
                Verdict::Resume => Decision::Resumed,
            },
            time: Timestamp::from_millisecond(d.at).ok().map(Time),
            comment: world
                .get::<PromotionDecision>(&key.namespace, &d.id)
                .and_then(|d| d.spec.comment.clone()),
        })
        .collect();
    status.observed_generation = promotion.metadata.generation;
    status.conditions = vec![ready(state, wait).observed(promotion.metadata.generation)];
    serde_json::to_value(status).unwrap_or_default()
}

fn ready(state: &State, wait: Option<&Wait>) -> Condition {
    let last = state
        .log
        .last()
        .map(|entry| entry.message.to_string())
        .unwrap_or_default();
    match (state.phase, wait) {
        (Phase::Succeeded, _) => Condition::new(types::READY, true, "Succeeded", last),
        (phase, _) if phase.is_final() => Condition::not_ready(format!("{phase:?}"), last),
        (_, Some(wait)) => Condition::not_ready(wait.kind.word(), wait.message.clone()),
        (_, None) => Condition::not_ready(reasons::PROGRESSING, last),
    }
}
