//! A rollout: until the new revision is healthy, step by step where the way says so.

use crate::gates::{Progress, Round, earlier, longest};
use crate::lane::Member;
use crate::types::{
    Action, Health, Millis, Pause, Phase, Reason, State, Strategy, Target, Text, Verdict, Wait, WaitKind,
    steps,
};

/// What may be done while a promotion rolls out.
pub(crate) struct Rollout<'a> {
    pub(crate) member: &'a Member,
    pub(crate) target: &'a Target,
    /// What would run if nothing rolled out.
    pub(crate) stable: Option<Text>,
    /// Whether somebody wrote the artifact into the binding before, and was not let through.
    pub(crate) written: bool,
    pub(crate) now: Millis,
    pub(crate) actions: &'a mut Vec<Action>,
    pub(crate) wake: &'a mut Option<Millis>,
}

fn wait(kind: WaitKind, message: impl Into<String>) -> Option<Wait> {
    Some(Wait {
        kind,
        message: message.into(),
    })
}

/// Whether a member of a set has said that it is done, and now does what the one that leads the set does.
fn promised(state: &State, set: Option<crate::SetFacts>) -> bool {
    state.complete && set.is_some_and(|set| !set.leads)
}

impl Rollout<'_> {
    /// Takes it as far as it goes; what it then waits for.
    pub(crate) fn advance(&mut self, state: &mut State) -> Option<Wait> {
        let Member {
            request,
            policy,
            facts,
            ..
        } = self.member;
        let ours = self.target.artifact.as_ref() == Some(&request.artifact);
        let told = ours && self.target.by.as_ref() == Some(&request.id);
        let taken = if state.applied {
            !told
        } else {
            // The binding is told by whom it is told what, at once: what is there without that was written by somebody else.
            let by_hand =
                ours && !told && !self.written && state.previous.as_ref() != Some(&request.artifact);
            by_hand || !ours && self.stable != state.previous
        };
        state.applied |= told;
        if taken {
            let message = "somebody changed what the binding runs";
            state.end(Phase::RolledBack, Reason::TakenOver, message, self.now);
            return None;
        }
        // Whenever it was said, and by whichever clock: whoever stopped it before it began was heard too late.
        if !promised(state, facts.set)
            && let Some(abort) = facts.decisions.iter().find(|d| d.verdict == Verdict::Abort)
        {
            return self.back(state, Reason::Aborted, &format!("{} stopped it", &*abort.by));
        }
        if facts.set.is_some_and(|set| set.broken) {
            return self.back(state, Reason::SetFailed, "another promotion of its set failed");
        }
        let steps = steps(request, state, &policy.strategy);
        let at = usize::try_from(state.step).unwrap_or(usize::MAX);
        match steps.get(at).copied() {
            Some(step) => self.step(state, step, steps.len()),
            None => self.whole(state),
        }
    }

    /// One step: healthy, then the pause, then the analysis.
    fn step(&mut self, state: &mut State, step: crate::Step, steps: usize) -> Option<Wait> {
        let Member {
            request,
            policy,
            facts,
            ..
        } = self.member;
        let shown = format!("step {} of {steps} ({}%)", state.step + 1, step.weight);
        // A clock that was put back must not make it wait for ever.
        state.step_since = state.step_since.min(self.now);
        let health = if self.target.candidate.as_ref() == Some(&request.artifact) {
            self.target.candidate_health
        } else {
            Health::Progressing
        };
        if let Some(over) = self.fails(state, health) {
            let message = format!("{shown}: the new revision fails");
            return if over {
                self.back(state, Reason::Unhealthy, &message)
            } else {
                wait(WaitKind::Health, message)
            };
        }
        match (health, state.step_ready) {
            (Health::Ready, None) => state.step_ready = Some(self.now),
            (Health::Progressing, None) => {
                let deadline = state.step_since + policy.progress_deadline;
                if deadline <= self.now {
                    let message = format!("{shown}: the new revision was not healthy in time");
                    return self.back(state, Reason::DeadlineExceeded, &message);
                }
                earlier(self.wake, deadline);
                return wait(
                    WaitKind::Health,
                    format!("{shown}: the new revision is on its way"),
                );
            }
            _ => {}
        }
        let ready = state.step_ready.unwrap_or(self.now).min(self.now);
        let resumed = facts
            .decisions
            .iter()
            .find(|d| d.verdict == Verdict::Resume && d.step == state.step)
            .map(|d| d.at);
        match step.pause {
            Pause::For(long) if ready + long > self.now && resumed.is_none() => {
                earlier(self.wake, ready + long);
                let left = (ready + long - self.now + 999) / 1000;
                return wait(WaitKind::Pause, format!("{shown}: {left}s of the pause are left"));
            }
            Pause::UntilTold if resumed.is_none() => {
                let end = ready + policy.patience;
                if end <= self.now {
                    let message = format!("{shown}: nobody said to go on");
                    return self.back(state, Reason::Expired, &message);
                }
                earlier(self.wake, end);
                return wait(WaitKind::Resume, format!("{shown}: somebody has to say to go on"));
            }
            _ => {}
        }
        if step.analysis
            && let Strategy::Steps(_, analysis) = &policy.strategy
        {
            let mut round = Round {
                promotion: &request.id,
                round: state.step + 1,
                facts,
                now: self.now,
                actions: self.actions,
                wake: self.wake,
            };
            match round.advance(analysis, state) {
                Progress::Passed => {}
                Progress::Waiting(what) => return wait(WaitKind::Gates, format!("{shown}: {what}")),
                Progress::Failed(reason, message) => {
                    return self.back(state, reason, &format!("{shown}: {message}"));
                }
            }
        }
        // More traffic comes to what is healthy now, and not to what was so once.
        if health != Health::Ready {
            let paused = match step.pause {
                Pause::For(long) => ready + long,
                Pause::UntilTold => resumed.unwrap_or(ready).max(ready),
            };
            let analysis = match &policy.strategy {
                Strategy::Steps(_, analysis) if step.analysis => longest(analysis),
                _ => 0,
            };
            let end = paused.min(self.now) + analysis + policy.progress_deadline;
            let message = format!("{shown}: the new revision is not healthy any more");
            if end <= self.now {
                return self.back(state, Reason::DeadlineExceeded, &message);
            }
            earlier(self.wake, end);
            return wait(WaitKind::Health, message);
        }
        state.step += 1;
        state.step_since = self.now;
        state.step_ready = None;
        // The next step is a state of its own, which is written before anything is done about it.
        earlier(self.wake, self.now);
        wait(WaitKind::Health, format!("{shown} is done"))
    }

    /// The target as a whole.
    fn whole(&mut self, state: &mut State) -> Option<Wait> {
        let Member {
            request,
            policy,
            facts,
            ..
        } = self.member;
        state.step_since = state.step_since.min(self.now);
        if self.target.artifact.as_ref() != Some(&request.artifact)
            || self.target.by.as_ref() != Some(&request.id)
        {
            self.actions.push(Action::SetTarget {
                promotion: Text::clone(&request.id),
                artifact: Some(Text::clone(&request.artifact)),
            });
        }
        let health = if state.applied && self.target.running.as_ref() == Some(&request.artifact) {
            self.target.health
        } else {
            Health::Progressing
        };
        // A promise is kept: the set may have ended well because of it.
        let kept = promised(state, facts.set);
        if health == Health::Ready || kept {
            if facts.set.is_none_or(|set| set.may_finish) {
                state.complete = true;
                let message = format!("{} runs", &*request.artifact);
                state.end(Phase::Succeeded, Reason::None, &message, self.now);
                return None;
            }
            if kept {
                return wait(WaitKind::Set, "it runs; the others of its set do not yet");
            }
            state.complete = true;
            let end = state.step_since + policy.patience;
            if end <= self.now {
                return self.back(
                    state,
                    Reason::Expired,
                    "the others of its set did not come that far in time",
                );
            }
            earlier(self.wake, end);
            return wait(WaitKind::Set, "it runs; the others of its set do not yet");
        }
        let deadline = state.step_since + policy.progress_deadline;
        let failed = match self.fails(state, health) {
            Some(true) => Some((Reason::Unhealthy, "the new revision fails")),
            Some(false) => return wait(WaitKind::Health, "the new revision fails"),
            None if deadline <= self.now => Some((
                Reason::DeadlineExceeded,
                "the new revision was not healthy in time",
            )),
            _ => None,
        };
        let Some((reason, message)) = failed else {
            earlier(self.wake, deadline);
            return wait(WaitKind::Health, "the new revision is on its way");
        };
        let stepped = !steps(request, state, &policy.strategy).is_empty();
        if policy.rollback_on_failure || stepped || facts.set.is_some() {
            return self.back(state, reason, message);
        }
        state.end(Phase::Failed, reason, message, self.now);
        None
    }

    /// Whether the new revision fails, and has done so for long enough.
    fn fails(&mut self, state: &mut State, health: Health) -> Option<bool> {
        if health != Health::Failed {
            state.failing = None;
            return None;
        }
        // A clock that was put back must not make it wait for ever.
        let since = state.failing.map_or(self.now, |since| since.min(self.now));
        state.failing = Some(since);
        let end = since + self.member.policy.failure_grace;
        if end > self.now {
            earlier(self.wake, end);
        }
        Some(end <= self.now)
    }

    /// Back to what ran before, at once: the state says so, and the binding follows.
    fn back(&mut self, state: &mut State, reason: Reason, message: &str) -> Option<Wait> {
        let back = match &state.previous {
            Some(previous) => format!("{message}; back to {}", &**previous),
            None => format!("{message}; nothing ran before"),
        };
        state.end(Phase::RolledBack, reason, &back, self.now);
        None
    }
}
