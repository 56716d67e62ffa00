//! What is kept of a promotion: from the state machine into the object's status, and back without loss.

use choreo_api::v1alpha1::{
    GateResult, GateVerdict, Promotion, PromotionEvent, PromotionPhase, PromotionStatus, RecordedBypass,
    RolloutProgress,
};
use choreo_promotion::{
    self as machine, Bypass, Check, Entry, Finding, Millis, Phase, Reason, State, Text, Wait, WaitKind,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The words for reasons.
const REASONS: [(Reason, &str); 14] = [
    (Reason::None, ""),
    (Reason::RuleBroken, "RuleBroken"),
    (Reason::Rejected, "Rejected"),
    (Reason::Superseded, "Superseded"),
    (Reason::Expired, "Expired"),
    (Reason::GateFailed, "GateFailed"),
    (Reason::GateInconclusive, "GateInconclusive"),
    (Reason::Unhealthy, "Unhealthy"),
    (Reason::DeadlineExceeded, "DeadlineExceeded"),
    (Reason::Aborted, "Aborted"),
    (Reason::Preempted, "Preempted"),
    (Reason::TakenOver, "TakenOver"),
    (Reason::SetFailed, "SetFailed"),
    // A word that this version does not know.
    (Reason::None, "Unknown"),
];

const PHASES: [(Phase, PromotionPhase); 8] = [
    (Phase::Pending, PromotionPhase::Pending),
    (Phase::AwaitingApproval, PromotionPhase::AwaitingApproval),
    (Phase::Verifying, PromotionPhase::Verifying),
    (Phase::RollingOut, PromotionPhase::RollingOut),
    (Phase::Succeeded, PromotionPhase::Succeeded),
    (Phase::Rejected, PromotionPhase::Rejected),
    (Phase::Failed, PromotionPhase::Failed),
    (Phase::RolledBack, PromotionPhase::RolledBack),
];

/// A word for what is waited for.
pub trait Waits {
    /// The word.
    fn word(&self) -> &'static str;
}

impl Waits for WaitKind {
    fn word(&self) -> &'static str {
        match self {
            Self::Rule => "RuleBroken",
            Self::Approval => "AwaitingApproval",
            Self::Gates => "Verifying",
            Self::Freeze => "Frozen",
            Self::Queue => "Queued",
            Self::Set => "AwaitingSet",
            Self::Health => "RollingOut",
            Self::Pause => "Paused",
            Self::Resume => "AwaitingResume",
        }
    }
}

fn phase(phase: PromotionPhase) -> Phase {
    let found = PHASES.iter().find(|(_, of_api)| *of_api == phase);
    found.map(|(phase, _)| *phase).unwrap_or_default()
}

fn api_phase(phase: Phase) -> PromotionPhase {
    let found = PHASES.iter().find(|(own, _)| *own == phase);
    found.map(|(_, of_api)| *of_api).unwrap_or_default()
}

fn reason(reason: Reason) -> Option<String> {
    let found = REASONS.iter().find(|(known, _)| *known == reason);
    found
        .map(|(_, word)| (*word).to_owned())
        .filter(|word| !word.is_empty())
}

fn millis(time: Option<&Time>) -> Option<Millis> {
    time.map(|time| time.0.as_millisecond())
}

fn time(millis: Millis) -> Option<Time> {
    Timestamp::from_millisecond(millis).ok().map(Time)
}

fn text(text: &str) -> Text {
    Text::from(text)
}

fn count(number: i32) -> u32 {
    u32::try_from(number).unwrap_or_default()
}

fn number(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// How far a promotion has come.
pub(super) fn phase_of(promotion: &Promotion) -> Phase {
    phase(
        promotion
            .status
            .as_ref()
            .and_then(|s| s.phase)
            .unwrap_or_default(),
    )
}

/// The state that a promotion's status says.
pub fn restore(promotion: &Promotion) -> State {
    let Some(status) = &promotion.status else {
        return State::default();
    };
    let rollout = status.rollout.clone().unwrap_or_default();
    let word = status.reason.as_deref().unwrap_or_default();
    State {
        order: status
            .order
            .and_then(|order| u64::try_from(order).ok())
            .unwrap_or_default(),
        phase: phase(status.phase.unwrap_or_default()),
        reason: REASONS
            .iter()
            .find(|(_, known)| *known == word)
            .map(|(reason, _)| *reason)
            .unwrap_or_default(),
        accepted: status.accepted,
        digest: status.digest.as_deref().map(text),
        previous: status.previous_artifact.as_deref().map(text),
        released: status.released,
        applied: rollout.applied,
        complete: rollout.complete,
        step: count(rollout.step),
        step_since: millis(rollout.since.as_ref()).unwrap_or_default(),
        step_ready: millis(rollout.ready.as_ref()),
        failing: millis(rollout.failing.as_ref()),
        started: millis(status.start_time.as_ref()),
        ended: millis(status.completion_time.as_ref()),
        bypass: status.bypass.as_ref().map(|bypass| Bypass {
            by: text(&bypass.user),
            why: text(&bypass.reason),
            at: millis(bypass.time.as_ref()).unwrap_or_default(),
        }),
        approved_by: status.approved_by.iter().map(|by| text(by)).collect(),
        checks: status.gates.iter().map(check).collect(),
        log: status
            .history
            .iter()
            .map(|event| Entry {
                at: millis(event.time.as_ref()).unwrap_or_default(),
                phase: phase(event.phase),
                message: text(&event.message),
            })
            .collect(),
    }
}

fn check(gate: &GateResult) -> Check {
    Check {
        name: text(&gate.name),
        round: count(gate.round),
        attempt: count(gate.attempt),
        started: millis(gate.start_time.as_ref()).unwrap_or_default(),
        finding: gate.result.map(|result| match result {
            GateVerdict::Passed => Finding::Passed,
            GateVerdict::Failed => Finding::Failed,
            GateVerdict::Inconclusive => Finding::Inconclusive,
        }),
        message: text(gate.message.as_deref().unwrap_or_default()),
    }
}

/// The status that says a state, but for what only the surroundings know: conditions, decisions, the difference and logs.
pub fn status(state: &State, weight: Option<u8>, wait: Option<&Wait>) -> PromotionStatus {
    let log = |check: &Check| GateResult {
        name: check.name.to_string(),
        round: number(check.round),
        attempt: number(check.attempt),
        start_time: time(check.started),
        result: check.finding.map(|finding| match finding {
            Finding::Passed => GateVerdict::Passed,
            Finding::Failed => GateVerdict::Failed,
            Finding::Inconclusive => GateVerdict::Inconclusive,
        }),
        message: Some(check.message.to_string()).filter(|m| !m.is_empty()),
        log: None,
    };
    let rolls = state.started.is_some() || state.complete;
    PromotionStatus {
        order: i64::try_from(state.order).ok().filter(|order| *order > 0),
        phase: Some(api_phase(state.phase)),
        reason: reason(state.reason),
        waits_for: wait.map(|wait| wait.message.clone()),
        accepted: state.accepted,
        released: state.released,
        digest: state.digest.as_ref().map(ToString::to_string),
        previous_artifact: state.previous.as_ref().map(ToString::to_string),
        approved_by: state.approved_by.iter().map(ToString::to_string).collect(),
        bypass: state.bypass.as_ref().map(|bypass| RecordedBypass {
            user: bypass.by.to_string(),
            reason: bypass.why.to_string(),
            time: time(bypass.at),
        }),
        gates: state.checks.iter().map(log).collect(),
        rollout: rolls.then(|| RolloutProgress {
            step: number(state.step),
            weight: weight.map(i32::from),
            preview: Vec::new(),
            since: Some(state.step_since)
                .filter(|_| state.started.is_some())
                .and_then(time),
            ready: state.step_ready.and_then(time),
            failing: state.failing.and_then(time),
            applied: state.applied,
            complete: state.complete,
        }),
        history: state
            .log
            .iter()
            .map(|entry: &machine::Entry| PromotionEvent {
                time: time(entry.at),
                phase: api_phase(entry.phase),
                message: entry.message.to_string(),
            })
            .collect(),
        start_time: state.started.and_then(time),
        completion_time: state.ended.and_then(time),
        ..PromotionStatus::default()
    }
}
