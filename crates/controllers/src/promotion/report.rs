//! The status of a promotion, for people and for the next look.

use std::collections::BTreeSet;

use choreo_api::conditions::{Condition, reasons, types};
use choreo_api::v1alpha1::{Decision, PromotionDecision, RecordedDecision};
use choreo_engine::World;
use choreo_engine::promotion::machine::{self, Active, Member, Phase, State, Verdict, Wait, active};
use choreo_engine::promotion::{self as engine, LaneKey, Waits as _};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

/// As many lines of a difference are kept.
const LINES: usize = 64;
/// As many decisions are kept. Each is an object of its own besides.
const DECISIONS: usize = 100;

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
    status.decisions = recorded(&member.facts.decisions)
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

/// Those of the decisions that the status keeps, in their order: the newest. The last word of each person goes before what they
/// said earlier, so that nobody can talk another one's out of it.
fn recorded(all: &[machine::Decision]) -> impl Iterator<Item = &machine::Decision> {
    let mut heard = BTreeSet::new();
    let mut newest: Vec<(bool, usize)> = (0..all.len())
        .rev()
        .map(|i| (!heard.insert(&*all[i].by), i))
        .collect();
    newest.sort_by_key(|(is_earlier, _)| *is_earlier);
    newest.truncate(DECISIONS);
    let mut kept: Vec<usize> = newest.into_iter().map(|(_, i)| i).collect();
    kept.sort_unstable();
    kept.into_iter().filter_map(|i| all.get(i))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn said(id: usize, by: &str) -> machine::Decision {
        machine::Decision {
            id: id.to_string().as_str().into(),
            by: by.into(),
            groups: Vec::new(),
            verdict: Verdict::Approve,
            at: 0,
            digest: "".into(),
            diff: "".into(),
            step: 0,
        }
    }

    #[test]
    fn the_last_word_of_each_person_is_kept_before_all_that_somebody_else_said() {
        let mut all = vec![said(0, "ann"), said(1, "bob"), said(2, "ann")];
        let ids = |all: &[machine::Decision]| recorded(all).map(|d| d.id.to_string()).collect::<Vec<_>>();
        assert_eq!(ids(&all), ["0", "1", "2"]);
        all.extend((3..1_000).map(|i| said(i, "mallory")));
        let kept = ids(&all);
        assert_eq!(kept.len(), DECISIONS);
        // What mallory repeated does not push out what others said last.
        assert_eq!(kept[..2], ["1", "2"]);
        assert_eq!(kept[2], "902");
        assert_eq!(kept.last().unwrap(), "999");
    }
}
