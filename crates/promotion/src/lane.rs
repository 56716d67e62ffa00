//! A lane: who goes next, and who goes back.

use crate::approvals;
use crate::gates::{Progress, Round, earlier};
use crate::rollout::Rollout;
use crate::types::{
    Action, Active, Facts, Intent, Lane, Millis, Phase, Policy, Reason, Request, State, Target, Text, Wait,
    WaitKind, active,
};

/// A promotion to the lane's binding.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// What was asked for.
    pub request: Request,
    /// What the way there demands.
    pub policy: Policy,
    /// What is kept of it.
    pub state: State,
    /// What can be seen of its surroundings.
    pub facts: Facts,
}

/// What a step leads to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outcome {
    /// The members' states, in the members' order. Those that changed are to be written, in the order of [`Outcome::order`],
    /// before anything is done.
    pub states: Vec<State>,
    /// In which order states are written: what ends before what begins.
    pub order: Vec<usize>,
    /// What each member waits for; none for those that have ended.
    pub waits: Vec<Option<Wait>>,
    /// What is to be done, after the states are written.
    pub actions: Vec<Action>,
    /// When to look again, if nothing happens before.
    pub wake: Option<Millis>,
}

/// Where a promotion stands among the others of its lane: earlier ones are smaller. Whom nobody has looked at yet comes last, in the
/// order in which they came; the time of creation, which has seconds, decides only where the server does not say more.
pub fn place<'a>(request: &'a Request, state: &State) -> (u64, u64, Millis, &'a Text) {
    let unseen = state.order == 0 && !state.phase.is_final();
    let order = if unseen { u64::MAX } else { state.order };
    // Once it has a number, what the server says of it may change.
    let arrival = if state.order == 0 { request.arrival } else { 0 };
    (order, arrival, request.created, &request.id)
}

/// What goes past the queue: an emergency, and the way back to what was healthy.
fn is_urgent(member: &Member, state: &State) -> bool {
    state.bypass.is_some() || member.request.intent == Intent::Rollback && member.facts.proven
}

/// Whether it has to wait for the others of its set, however urgent it is. It stops nobody meanwhile.
fn is_held(member: &Member) -> bool {
    member.facts.set.is_some_and(|set| !set.may_start || set.broken)
}

/// Looks at a lane at a time.
pub fn step(lane: &Lane, now: Millis) -> Outcome {
    let mut order: Vec<usize> = (0..lane.members.len()).collect();
    order.sort_by(|a, b| {
        let key = |i: &usize| lane.members.get(*i).map(|m| place(&m.request, &m.state));
        key(a).cmp(&key(b))
    });
    let mut outcome = Outcome {
        states: lane.members.iter().map(|m| m.state.clone()).collect(),
        waits: vec![None; lane.members.len()],
        order: Vec::new(),
        ..Outcome::default()
    };
    let mut last = outcome
        .states
        .iter()
        .map(|state| state.order)
        .max()
        .unwrap_or_default();
    for &i in &order {
        let state = &mut outcome.states[i];
        if state.order == 0 && !state.phase.is_final() {
            last += 1;
            state.order = last;
        }
    }
    for &i in &order {
        look(lane, i, &mut outcome, now);
    }
    preempt(lane, &order, &mut outcome, now);
    supersede(lane, &order, &mut outcome, now);
    let mut rolling = order.clone();
    rolling.retain(|i| outcome.states[*i].phase == Phase::RollingOut);
    for &i in &rolling {
        let mut state = outcome.states[i].clone();
        let mut rollout = Rollout {
            member: &lane.members[i],
            target: &lane.target,
            stable: stable(lane, &outcome.states),
            written: lane.members.iter().any(|other| {
                other.request.written && other.request.artifact == lane.members[i].request.artifact
            }),
            now,
            actions: &mut outcome.actions,
            wake: &mut outcome.wake,
        };
        outcome.waits[i] = rollout.advance(&mut state);
        outcome.states[i] = state;
    }
    let mut active = order
        .iter()
        .copied()
        .find(|i| outcome.states[*i].phase == Phase::RollingOut);
    // What is urgent begins before what is newer.
    let mut queue: Vec<usize> = order.iter().rev().copied().collect();
    queue.sort_by_key(|i| !is_urgent(&lane.members[*i], &outcome.states[*i]));
    for i in queue {
        let phase = outcome.states[i].phase;
        if !phase.is_final() && phase != Phase::RollingOut {
            waiting(lane, i, active, &mut outcome, now);
            if outcome.states[i].phase == Phase::RollingOut {
                active = Some(i);
            }
        }
    }
    restore(lane, &order, &mut outcome);
    // What ends is written before what begins, or a crash in between would leave two.
    let (ended, others): (Vec<usize>, Vec<usize>) = order
        .into_iter()
        .partition(|i| outcome.states[*i].phase.is_final());
    outcome.order = ended.into_iter().chain(others).collect();
    outcome
}

/// What is true of a member by itself: whether it is let in at all, said no to, or let past everything.
fn look(lane: &Lane, i: usize, outcome: &mut Outcome, now: Millis) {
    let Member {
        request,
        policy,
        facts,
        ..
    } = &lane.members[i];
    let ran = running(lane, &outcome.states);
    let same = lane.members.iter().zip(&outcome.states).find(|(other, state)| {
        state.phase == Phase::RollingOut && other.request.artifact == request.artifact
    });
    let same = same.map(|(other, _)| &other.request.id);
    let state = &mut outcome.states[i];
    if state.phase.is_final() || state.phase == Phase::RollingOut {
        return;
    }
    // First of all: whatever comes of it, it is on record.
    if state.bypass.is_none() {
        state.bypass.clone_from(&facts.bypass);
    }
    // An emergency does not wait for the steps of the one that is under way.
    if let Some(other) = same.filter(|_| state.bypass.is_none()) {
        let message = format!("{} rolls it out already", &**other);
        state.end(Phase::Rejected, Reason::Superseded, &message, now);
        return;
    }
    if !state.accepted {
        if state.bypass.is_none()
            && let Some(refusal) = facts.refusals.first()
        {
            let message = format!("{}: {}", &*refusal.rule, &*refusal.message);
            state.end(Phase::Rejected, Reason::RuleBroken, &message, now);
            return;
        }
        state.accepted = true;
        state.digest = Some(Text::clone(&facts.digest));
        if request.written {
            state.previous.clone_from(&ran);
        }
    }
    if let Some(approvers) = &policy.approvers
        && let Some(by) = approvals::count(approvers, request, facts, now).rejected
    {
        state.end(
            Phase::Rejected,
            Reason::Rejected,
            &format!("{} said no", &*by),
            now,
        );
        return;
    }
    let stopped = facts
        .decisions
        .iter()
        .find(|d| d.verdict == crate::Verdict::Abort);
    if let Some(stop) = stopped {
        let message = format!("{} stopped it before it began", &*stop.by);
        state.end(Phase::Rejected, Reason::Aborted, &message, now);
        return;
    }
    let end = request.created + policy.patience;
    if end <= now {
        let message = "it waited for longer than it may; ask again";
        state.end(Phase::Rejected, Reason::Expired, message, now);
        return;
    }
    earlier(&mut outcome.wake, end);
}

/// The newest of those that go past the queue ends everything before it.
fn preempt(lane: &Lane, order: &[usize], outcome: &mut Outcome, now: Millis) {
    let waits = |s: &State| !s.phase.is_final() && s.phase != Phase::RollingOut;
    let urgent = order.iter().rposition(|i| {
        let state = &outcome.states[*i];
        let member = &lane.members[*i];
        waits(state) && is_urgent(member, state) && !is_held(member)
    });
    let Some(urgent) = urgent else { return };
    let by = &lane.members[order[urgent]].request.id;
    for (position, &i) in order.iter().enumerate() {
        let state = &mut outcome.states[i];
        if position == urgent || state.phase.is_final() {
            continue;
        }
        if state.phase == Phase::RollingOut {
            // Two emergencies: the newer one wins, and the older one is not begun again.
            let message = format!("{} goes first", &**by);
            state.end(Phase::RolledBack, Reason::Preempted, &message, now);
        } else if position < urgent {
            let message = format!("{} goes first", &**by);
            state.end(Phase::Rejected, Reason::Superseded, &message, now);
        }
    }
}

/// Of those that wait only the newest stays; each of them has its own checks to pass, so nothing is taken over.
fn supersede(lane: &Lane, order: &[usize], outcome: &mut Outcome, now: Millis) {
    let waits = |s: &State| !s.phase.is_final() && s.phase != Phase::RollingOut;
    let urgent = order.iter().any(|i| {
        let state = &outcome.states[*i];
        waits(state) && is_urgent(&lane.members[*i], state)
    });
    let Some(newest) = order.iter().rposition(|i| waits(&outcome.states[*i])) else {
        return;
    };
    if urgent {
        return;
    }
    let by = &lane.members[order[newest]].request.id;
    for &i in &order[..newest] {
        let state = &mut outcome.states[i];
        if waits(state) {
            let message = format!("{}, which is newer, took its place", &**by);
            state.end(Phase::Rejected, Reason::Superseded, &message, now);
        }
    }
}

/// What may run in a lane's target now: the states decide, whatever the binding says.
pub fn effective(lane: &Lane, states: &[State]) -> Active {
    let rolling = lane
        .members
        .iter()
        .zip(states)
        .filter(|(_, state)| state.phase == Phase::RollingOut)
        .find_map(|(member, state)| active(&member.request, state, &member.policy.strategy));
    rolling.unwrap_or_else(|| Active::One(stable(lane, states)))
}

/// What runs, if it may: what was taken back may run for a moment longer.
fn running(lane: &Lane, states: &[State]) -> Option<Text> {
    let running = &lane.target.running;
    let of_it = || {
        let all = lane.members.iter().zip(states);
        all.filter(|(member, _)| running.as_ref() == Some(&member.request.artifact))
    };
    let taken_back = of_it()
        .filter(|(_, state)| state.phase == Phase::RolledBack && state.reason != Reason::TakenOver)
        .max_by_key(|(member, state)| (state.ended, place(&member.request, state)));
    match taken_back {
        Some((_, state)) if !of_it().any(|(_, state)| state.released) => state.previous.clone(),
        _ => running.clone(),
    }
}

/// What the lane would go on with if nothing rolled out.
fn stable(lane: &Lane, states: &[State]) -> Option<Text> {
    let Target { artifact, by, .. } = &lane.target;
    let of = |id: &Text| lane.members.iter().position(|m| m.request.id == *id);
    if let Some(i) = by.as_ref().and_then(of) {
        let (member, state) = (&lane.members[i], &states[i]);
        let says_it = artifact.as_ref() == Some(&member.request.artifact);
        if says_it && state.released {
            return artifact.clone();
        }
        if says_it && !state.released && state.phase.is_final() {
            return state.previous.clone();
        }
    }
    // Somebody wrote it there: the newest promotion of it says whether it was let through.
    let newest = lane
        .members
        .iter()
        .zip(states)
        .filter(|(m, s)| {
            // One that was rolled out and taken back is the newest word on its artifact, too.
            let had_its_turn = s.released || m.request.written || s.phase == Phase::RolledBack;
            had_its_turn && artifact.as_ref() == Some(&m.request.artifact)
        })
        .max_by_key(|(member, state)| place(&member.request, state));
    match newest {
        Some((_, state)) if state.released => artifact.clone(),
        Some((_, state)) if state.accepted => state.previous.clone(),
        // Nobody has looked at it yet: what runs goes on.
        Some(_) => running(lane, states),
        None => artifact.clone(),
    }
}

/// A member that has not begun: what is in its way, or its beginning.
fn waiting(lane: &Lane, i: usize, active: Option<usize>, outcome: &mut Outcome, now: Millis) {
    let member = &lane.members[i];
    let Member {
        request,
        policy,
        facts,
        ..
    } = member;
    let mut state = outcome.states[i].clone();
    let urgent = is_urgent(member, &state);
    let mut waits = None;
    let mut say = |kind, message: String| {
        if waits.is_none() {
            waits = Some(Wait { kind, message });
        }
    };
    let mut phase = Phase::Verifying;
    let mut approved = Vec::new();
    if !urgent {
        for refusal in &facts.refusals {
            say(
                WaitKind::Rule,
                format!("{}: {}", &*refusal.rule, &*refusal.message),
            );
        }
        if state.digest.as_ref() != Some(&facts.digest) {
            say(
                WaitKind::Rule,
                "ArtifactChanged: the artifact is not the one that was asked for".to_owned(),
            );
        }
        if let Some(approvers) = &policy.approvers {
            let count = approvals::count(approvers, request, facts, now);
            if let Some(until) = count.until {
                earlier(&mut outcome.wake, until);
            }
            if count.approved.len() < approvers.minimum {
                phase = Phase::AwaitingApproval;
                let mut message = format!("{} of {} approvals", count.approved.len(), approvers.minimum);
                for (by, why) in &count.void {
                    message += &format!("; that of {} does not count: {why}", &**by);
                }
                say(WaitKind::Approval, message);
            }
            approved = count.approved;
        }
        let mut round = Round {
            promotion: &request.id,
            round: 0,
            facts,
            now,
            actions: &mut outcome.actions,
            wake: &mut outcome.wake,
        };
        match round.advance(&policy.gates, &mut state) {
            Progress::Passed => {}
            Progress::Waiting(what) => say(WaitKind::Gates, what),
            Progress::Failed(reason, message) => {
                state.end(Phase::Failed, reason, &message, now);
                outcome.states[i] = state;
                return;
            }
        }
        if let Some(freeze) = &facts.frozen {
            if let Some(until) = freeze.until {
                earlier(&mut outcome.wake, until);
            }
            say(WaitKind::Freeze, format!("freeze {:?} is on", &*freeze.name));
        }
    }
    if let Some(active) = active {
        let other = &lane.members[active].request.id;
        say(WaitKind::Queue, format!("{} rolls out", &**other));
    }
    if facts.set.is_some_and(|set| set.broken) {
        state.end(
            Phase::Rejected,
            Reason::SetFailed,
            "another promotion of its set failed",
            now,
        );
        outcome.states[i] = state;
        return;
    }
    // What could begin but for its set is told to the set by this.
    state.complete = waits.is_none();
    if facts.set.is_some_and(|set| !set.may_start) && waits.is_none() {
        waits = Some(Wait {
            kind: WaitKind::Set,
            message: "the others of its set cannot begin yet, or those that it connects to do not run yet"
                .to_owned(),
        });
    }
    if waits.is_some() {
        let message = waits.as_ref().map(|w| w.message.clone()).unwrap_or_default();
        state.enter(phase, Reason::None, &message, now);
        outcome.waits[i] = waits;
        outcome.states[i] = state;
        return;
    }
    state.complete = false;
    if !request.written {
        state.previous = stable(lane, &outcome.states);
    }
    state.approved_by = approved;
    state.released = true;
    state.started = Some(now);
    state.step = 0;
    state.step_since = now;
    state.enter(
        Phase::RollingOut,
        Reason::None,
        "everything that was asked for is there",
        now,
    );
    earlier(&mut outcome.wake, now);
    outcome.waits[i] = Some(Wait {
        kind: WaitKind::Health,
        message: "the rollout begins".to_owned(),
    });
    outcome.states[i] = state;
}

/// The binding goes back where its promotion was taken back, unless another one is on its way there.
fn restore(lane: &Lane, order: &[usize], outcome: &mut Outcome) {
    if outcome.states.iter().any(|s| s.phase == Phase::RollingOut) {
        return;
    }
    let Some(by) = &lane.target.by else { return };
    let Some(&i) = order.iter().find(|i| lane.members[**i].request.id == *by) else {
        return;
    };
    let (member, state) = (&lane.members[i], &outcome.states[i]);
    let says_it = lane.target.artifact.as_ref() == Some(&member.request.artifact);
    if says_it
        && state.phase == Phase::RolledBack
        && !member.request.written
        && state.previous != lane.target.artifact
    {
        outcome.actions.push(Action::SetTarget {
            promotion: Text::clone(&member.request.id),
            artifact: state.previous.clone(),
        });
    }
}
