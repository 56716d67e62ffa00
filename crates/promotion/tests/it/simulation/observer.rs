//! The observer, who counts for themselves: what each write may say, and what may run after it.

use choreo_promotion::*;

use super::Sim;

impl Sim {
    /// A state is written: what it says must be right.
    pub(super) fn write(&mut self, i: usize, state: &State) {
        let before = std::mem::replace(&mut self.lane.members[i].state, state.clone());
        let seen = self.seen.members[i].clone();
        if state.released && !before.released {
            if !self.may_release(&seen, state) {
                self.fail(&format!(
                    "{} was released, and should not have been",
                    seen.request.id
                ));
            }
            self.licensed[i] = true;
        }
        // To the others of its set this says that it could begin.
        if state.complete && state.started.is_none() && !before.complete && !self.may_release(&seen, state) {
            self.fail("it says that it could begin, and could not");
        }
        if state.order == 0 || before.order != 0 && before.order != state.order {
            self.fail("it has no place among the others, or another one than before");
        }
        if state.reason == Reason::Superseded && before.reason != Reason::Superseded {
            // By one that came later, or goes past the queue, or rolls out the same.
            let by = self.seen.members.iter().enumerate().any(|(j, other)| {
                j > i
                    || j != i
                        && (other.state.phase == Phase::RollingOut
                            && other.request.artifact == seen.request.artifact
                            || other.facts.bypass.is_some()
                            || other.request.intent == Intent::Rollback)
            });
            if !by {
                self.fail("nothing newer took its place");
            }
        }
        // Whoever was seen to go past everything while it could still matter is on record from then on, whatever comes of it.
        let could_matter = !before.phase.is_final() && before.phase != Phase::RollingOut;
        if could_matter && state.bypass.is_none() && seen.facts.bypass.is_some() {
            self.fail("somebody went past everything, and nothing says so");
        }
        if before.phase.is_final() && before != *state {
            self.fail("what has ended was changed");
        }
        if state.phase == Phase::Succeeded && before.phase != Phase::Succeeded {
            let states: Vec<State> = self.lane.members.iter().map(|m| m.state.clone()).collect();
            let lane = Lane {
                target: self.seen.target.clone(),
                ..self.lane.clone()
            };
            if effective(&lane, &states) != Active::One(Some(seen.request.artifact)) {
                self.fail("what was promoted does not run");
            }
        }
        if !state.log.starts_with(&before.log) {
            self.fail("history was lost");
        }
        if before.bypass.is_some() && state.bypass != before.bypass {
            self.fail("an emergency was forgotten");
        }
        if state.phase == Phase::RolledBack && before.phase == Phase::RollingOut {
            if state.released {
                self.fail("what was taken back may still run");
            }
            if state.reason != Reason::TakenOver && state.reason != Reason::Preempted {
                let states: Vec<State> = self.lane.members.iter().map(|m| m.state.clone()).collect();
                // What was seen of the target is as old as the step.
                let lane = Lane {
                    target: self.seen.target.clone(),
                    ..self.lane.clone()
                };
                if effective(&lane, &states) != Active::One(before.previous) {
                    self.fail("the end of a rollout did not bring back what ran before");
                }
            }
        }
        self.check();
    }

    /// Our own count, from what was seen: every rule anew, and nothing of the state but its checks' attempts.
    fn may_release(&self, member: &Member, state: &State) -> bool {
        let Member {
            request,
            policy,
            facts,
            ..
        } = member;
        // Going past everything leaves its mark in the very state that makes use of it, and names who did.
        if let Some(mark) = &state.bypass {
            let name = |m: &&Member| m.request.id == request.id;
            let real = self
                .lane
                .members
                .iter()
                .find(name)
                .and_then(|m| m.facts.bypass.as_ref());
            return real.is_some_and(|real| (&real.by, &real.why) == (&mark.by, &mark.why));
        }
        if request.intent == Intent::Rollback && facts.proven {
            return true;
        }
        if !facts.refusals.is_empty() || facts.frozen.is_some() {
            return false;
        }
        if let Some(approvers) = &policy.approvers {
            let mut yes = 0;
            for person in &approvers.users {
                let theirs = facts.decisions.iter().enumerate().filter(|(_, d)| {
                    d.by == *person
                        && matches!(d.verdict, Verdict::Approve | Verdict::Reject | Verdict::Withdraw)
                });
                let Some((_, last)) = theirs.max_by_key(|(j, _)| *j) else {
                    continue;
                };
                let fresh = approvers.valid_for.is_none_or(|valid| last.at + valid > self.now);
                let stranger = !approvers.not_author || *person != request.author;
                if last.verdict == Verdict::Approve
                    && last.digest == facts.digest
                    && last.diff == facts.diff
                    && fresh
                    && stranger
                {
                    yes += 1;
                }
                if last.verdict == Verdict::Reject && stranger {
                    return false;
                }
            }
            if yes < approvers.minimum {
                return false;
            }
        }
        policy.gates.iter().all(|gate| match gate.kind {
            GateKind::Soak(long) => facts.healthy_since.is_some_and(|since| since + long <= self.now),
            GateKind::Check => facts
                .reports
                .iter()
                .any(|r| r.name == gate.name && r.round == 0 && r.finding == Finding::Passed),
        })
    }

    /// What must hold after every write.
    pub(super) fn check(&self) {
        let rolling = || {
            self.lane
                .members
                .iter()
                .filter(|m| m.state.phase == Phase::RollingOut)
        };
        if rolling().count() > 1 {
            self.fail("two promotions roll out at the same time");
        }
        let states: Vec<State> = self.lane.members.iter().map(|m| m.state.clone()).collect();
        let runs = match effective(&self.lane, &states) {
            Active::One(artifact) => vec![artifact],
            Active::Two {
                stable, candidate, ..
            } => {
                if !rolling().any(|m| matches!(m.policy.strategy, Strategy::Steps(..))) {
                    self.fail("two revisions are active, and nothing goes in steps");
                }
                vec![Some(stable), Some(candidate)]
            }
        };
        for artifact in runs.into_iter().flatten() {
            let of_right = self
                .lane
                .members
                .iter()
                .zip(&self.licensed)
                .any(|(member, licensed)| *licensed && member.request.artifact == artifact);
            if !of_right && !self.proven.contains(&artifact) {
                self.fail(&format!("{artifact} runs without having been let in"));
            }
        }
    }
}
