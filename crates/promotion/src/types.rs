//! What a promotion is made of.

use std::sync::Arc;

/// Milliseconds since 1970. Time is an input.
pub type Millis = i64;

/// A text that is cheap to copy.
pub type Text = Arc<str>;

/// What somebody wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Intent {
    /// The next artifact.
    #[default]
    Promote,
    /// An artifact that ran here before.
    Rollback,
}

/// What was asked for. It never changes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Request {
    /// Name of the promotion.
    pub id: Text,
    /// Who asked; empty if that is not known.
    pub author: Text,
    /// The artifact.
    pub artifact: Text,
    /// What for.
    pub intent: Intent,
    /// Whether the target says the artifact already, because it is there that somebody asked.
    pub written: bool,
    /// When.
    pub created: Millis,
    /// A number that the server gave it when it came: what came later has a larger one. It may grow while nobody has looked at the
    /// promotion, and means nothing afterwards; 0 if there is none.
    pub arrival: u64,
}

/// Who has to approve.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Approvers {
    /// How many.
    pub minimum: usize,
    /// Users who may. With neither users nor groups, everybody.
    pub users: Vec<Text>,
    /// Groups whose members may.
    pub groups: Vec<Text>,
    /// Whether the one who asked may not.
    pub not_author: bool,
    /// For how long an approval counts.
    pub valid_for: Option<Millis>,
}

/// What a gate looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateKind {
    /// Health in the source environment for this long, without a break until the release.
    Soak(Millis),
    /// Something that is done elsewhere, and reported.
    Check,
}

/// A gate.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    /// Its name.
    pub name: Text,
    /// Gates of a stage run at the same time, stages one after the other.
    pub stage: u32,
    /// What it looks at.
    pub kind: GateKind,
    /// How long one attempt may take.
    pub timeout: Millis,
    /// How often it is tried.
    pub attempts: u32,
    /// How long to wait before another attempt.
    pub interval: Millis,
}

/// How long a step lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// For this long.
    For(Millis),
    /// Until somebody says so.
    UntilTold,
}

/// A step of a rollout in steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Share of the traffic for the new one, in percent.
    pub weight: u8,
    /// How long it lasts.
    pub pause: Pause,
    /// Whether the analysis has to pass before the next step.
    pub analysis: bool,
}

/// How the new replaces the old.
#[derive(Debug, Clone, PartialEq)]
pub enum Strategy {
    /// In its place.
    InPlace,
    /// Beside it, step by step, with gates in between.
    Steps(Vec<Step>, Vec<Gate>),
}

/// What the way into the environment demands.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Who has to approve.
    pub approvers: Option<Approvers>,
    /// What has to pass before the rollout.
    pub gates: Vec<Gate>,
    /// How the new replaces the old.
    pub strategy: Strategy,
    /// Whether a rollout in place is undone when it fails. One in steps always is.
    pub rollback_on_failure: bool,
    /// How long a rollout, or one of its steps, may take to be healthy.
    pub progress_deadline: Millis,
    /// For how long the new revision has to fail before that ends the rollout: what is seen in the first moments may still be of the
    /// revision before it.
    pub failure_grace: Millis,
    /// How long a promotion may wait, and how long a step may wait for somebody.
    pub patience: Millis,
}

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// Not looked at yet.
    #[default]
    Pending,
    /// Somebody has to approve.
    AwaitingApproval,
    /// Gates run, or something else is in the way.
    Verifying,
    /// It is being rolled out.
    RollingOut,
    /// It runs.
    Succeeded,
    /// Somebody, or a rule, said no.
    Rejected,
    /// It did not work.
    Failed,
    /// It did not work, and the target is back at what it was.
    RolledBack,
}

impl Phase {
    /// Whether nothing will happen any more.
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Self::Succeeded | Self::Rejected | Self::Failed | Self::RolledBack
        )
    }
}

/// Why it is where it is, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reason {
    /// It goes its way.
    #[default]
    None,
    /// A rule of the platform forbids it.
    RuleBroken,
    /// Somebody who may approve said no.
    Rejected,
    /// A newer one took its place while it waited.
    Superseded,
    /// It waited for longer than it may.
    Expired,
    /// A gate did not pass.
    GateFailed,
    /// A gate could not find out.
    GateInconclusive,
    /// The new revision failed.
    Unhealthy,
    /// The new revision was not healthy in time.
    DeadlineExceeded,
    /// Somebody stopped it.
    Aborted,
    /// A rollback or an emergency took its place.
    Preempted,
    /// Somebody changed the target meanwhile.
    TakenOver,
    /// Another one of its set failed.
    SetFailed,
}

/// Somebody went past everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bypass {
    /// Who.
    pub by: Text,
    /// Why.
    pub why: Text,
    /// When.
    pub at: Millis,
}

/// What a gate found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// All is well.
    Passed,
    /// It is not.
    Failed,
    /// It could not be found out.
    Inconclusive,
}

/// A gate that runs or ran.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// The gate's name.
    pub name: Text,
    /// 0 before the rollout, then the number of the step.
    pub round: u32,
    /// Which attempt; the first is 1.
    pub attempt: u32,
    /// When the attempt begins or began.
    pub started: Millis,
    /// What came of it, once that is settled.
    pub finding: Option<Finding>,
    /// What it said.
    pub message: Text,
}

/// An entry of the history.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// When.
    pub at: Millis,
    /// The phase that began.
    pub phase: Phase,
    /// Why.
    pub message: Text,
}

/// What is kept of a promotion.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct State {
    /// Its place among all promotions of its lane, from 1 on: given when it is first looked at, and never changed. 0 before that.
    pub order: u64,
    /// How far it has come.
    pub phase: Phase,
    /// Why.
    pub reason: Reason,
    /// Whether no rule forbade it when it was first looked at.
    pub accepted: bool,
    /// Digest of the artifact.
    pub digest: Option<Text>,
    /// What ran before.
    pub previous: Option<Text>,
    /// Whether the artifact may run in the target.
    pub released: bool,
    /// Whether the target was seen to be told so.
    pub applied: bool,
    /// Whether nothing but the others of its set is waited for.
    pub complete: bool,
    /// The step that it is at.
    pub step: u32,
    /// When the step began.
    pub step_since: Millis,
    /// When the new revision was first healthy in this step.
    pub step_ready: Option<Millis>,
    /// Since when the new revision fails; none while it does not.
    pub failing: Option<Millis>,
    /// When the rollout began.
    pub started: Option<Millis>,
    /// When it ended.
    pub ended: Option<Millis>,
    /// Who went past everything.
    pub bypass: Option<Bypass>,
    /// Whose approvals it was released upon.
    pub approved_by: Vec<Text>,
    /// Its gates.
    pub checks: Vec<Check>,
    /// What has happened.
    pub log: Vec<Entry>,
}

/// As many entries the history has before coming and going between phases in which it waits is no longer worth one: approvals that
/// expire and are given again must not let it grow for ever. What it waits for now is told anyway.
const ENTRIES: usize = 100;

impl State {
    pub(crate) fn enter(&mut self, phase: Phase, reason: Reason, message: &str, now: Millis) {
        if self.phase == phase && self.reason == reason {
            return;
        }
        let waits = |phase: Phase| !phase.is_final() && phase != Phase::RollingOut;
        let coming_and_going = waits(self.phase) && waits(phase);
        self.phase = phase;
        self.reason = reason;
        if phase.is_final() {
            self.ended = Some(now);
        }
        if coming_and_going && self.log.len() >= ENTRIES {
            return;
        }
        self.log.push(Entry {
            at: now,
            phase,
            message: message.into(),
        });
    }

    pub(crate) fn end(&mut self, phase: Phase, reason: Reason, message: &str, now: Millis) {
        // What waited was not released, and what is taken back is not any more. Only what stays as it is keeps its leave.
        if phase != Phase::Succeeded && phase != Phase::Failed {
            self.released = false;
        }
        self.enter(phase, reason, message, now);
    }
}

/// What somebody decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Approve,
    /// No.
    Reject,
    /// What I said before no longer counts.
    Withdraw,
    /// Stop, and go back.
    Abort,
    /// Go on with the next step.
    Resume,
}

/// A decision, as the API knows who made it.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// What it is called.
    pub id: Text,
    /// Who.
    pub by: Text,
    /// Their groups.
    pub groups: Vec<Text>,
    /// What.
    pub verdict: Verdict,
    /// When.
    pub at: Millis,
    /// Digest of the artifact that it is about.
    pub digest: Text,
    /// Digest of the difference that they saw.
    pub diff: Text,
    /// The step that they go on from.
    pub step: u32,
}

/// A rule that is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Name of the rule.
    pub rule: Text,
    /// What is wrong and what to do.
    pub message: Text,
}

/// What a gate reported.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The gate's name.
    pub name: Text,
    /// The round.
    pub round: u32,
    /// The attempt.
    pub attempt: u32,
    /// What it found.
    pub finding: Finding,
    /// What it said.
    pub message: Text,
}

/// A freeze that is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freeze {
    /// What it is called.
    pub name: Text,
    /// When it ends, as far as that is known.
    pub until: Option<Millis>,
}

/// How the others of a set are doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SetFacts {
    /// Whether this one says how the set ends. There is one that does, and the others follow it: whoever is complete has
    /// promised to, and can no longer go back for a reason of its own.
    pub leads: bool,
    /// All of them could begin, and those that this one connects to are complete.
    pub may_start: bool,
    /// For the one that leads: all of them are complete. For the others: it has ended well.
    pub may_finish: bool,
    /// The set has failed: for those that have promised nothing yet because any of them failed, for the others because the one
    /// that leads did.
    pub broken: bool,
}

/// What can be seen of a promotion's surroundings.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Facts {
    /// Digest of the artifact.
    pub digest: Text,
    /// Digest of the difference that the promotion would make.
    pub diff: Text,
    /// Rules that are broken.
    pub refusals: Vec<Refusal>,
    /// Since when the artifact has been healthy in the source environment.
    pub healthy_since: Option<Millis>,
    /// What people decided, in order.
    pub decisions: Vec<Decision>,
    /// Somebody goes past everything.
    pub bypass: Option<Bypass>,
    /// What gates reported.
    pub reports: Vec<Report>,
    /// A freeze of the target environment.
    pub frozen: Option<Freeze>,
    /// Whether the artifact was healthy here before.
    pub proven: bool,
    /// How the others of its set are doing.
    pub set: Option<SetFacts>,
}

/// How a revision is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Health {
    /// On its way, or not known.
    #[default]
    Progressing,
    /// Healthy.
    Ready,
    /// Failing.
    Failed,
}

/// What can be seen of the target.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Target {
    /// The artifact that the binding says.
    pub artifact: Option<Text>,
    /// The promotion that had the binding say so.
    pub by: Option<Text>,
    /// The artifact that is rolled out.
    pub running: Option<Text>,
    /// How that is doing.
    pub health: Health,
    /// The artifact that is rolled out beside it.
    pub candidate: Option<Text>,
    /// How that is doing.
    pub candidate_health: Health,
}

/// All promotions to one binding.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Lane {
    /// The promotions, those that have ended among them.
    pub members: Vec<crate::Member>,
    /// The target.
    pub target: Target,
}

/// What kind of thing is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitKind {
    /// A rule that is broken at the moment.
    Rule,
    /// People.
    Approval,
    /// Gates.
    Gates,
    /// The end of a freeze.
    Freeze,
    /// Another promotion.
    Queue,
    /// The others of its set.
    Set,
    /// The new revision's health.
    Health,
    /// The end of a pause.
    Pause,
    /// Somebody who says to go on.
    Resume,
}

/// What a promotion waits for.
#[derive(Debug, Clone, PartialEq)]
pub struct Wait {
    /// What kind of thing.
    pub kind: WaitKind,
    /// What, for people.
    pub message: String,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Run a gate, unless it runs already.
    Run {
        /// The promotion.
        promotion: Text,
        /// The gate.
        gate: Text,
        /// The round.
        round: u32,
        /// The attempt.
        attempt: u32,
    },
    /// Have the binding say an artifact, or nothing.
    SetTarget {
        /// On whose behalf.
        promotion: Text,
        /// The artifact.
        artifact: Option<Text>,
    },
}

/// What may run in the target because of a promotion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Active {
    /// One artifact, or nothing.
    One(Option<Text>),
    /// Two, side by side.
    Two {
        /// The old one, which has the rest of the traffic.
        stable: Text,
        /// The new one.
        candidate: Text,
        /// Its share of the traffic, in percent.
        weight: u8,
    },
}

/// The steps of a promotion: a way back takes none, and neither does what has nothing beside which it could run.
pub(crate) fn steps<'a>(request: &Request, state: &State, strategy: &'a Strategy) -> &'a [Step] {
    match strategy {
        Strategy::Steps(steps, _) if request.intent == Intent::Promote && state.previous.is_some() => steps,
        _ => &[],
    }
}

/// What may run because of a promotion that rolls out or has ended; `None` if it says nothing about that.
pub fn active(request: &Request, state: &State, strategy: &Strategy) -> Option<Active> {
    match state.phase {
        Phase::RollingOut => {
            let new = Text::clone(&request.artifact);
            let steps = steps(request, state, strategy);
            let at = usize::try_from(state.step).unwrap_or(usize::MAX);
            Some(match (steps.get(at), &state.previous) {
                (Some(step), Some(stable)) => Active::Two {
                    stable: Text::clone(stable),
                    candidate: new,
                    weight: step.weight.min(100),
                },
                // The new one takes the old one's place while it still has all the traffic beside it.
                _ if !steps.is_empty() && !state.complete => Active::Two {
                    stable: Text::clone(&new),
                    candidate: new,
                    weight: 100,
                },
                _ => Active::One(Some(new)),
            })
        }
        Phase::Succeeded => Some(Active::One(Some(Text::clone(&request.artifact)))),
        Phase::Failed if state.released => Some(Active::One(Some(Text::clone(&request.artifact)))),
        Phase::RolledBack => Some(Active::One(state.previous.clone())),
        _ => None,
    }
}
