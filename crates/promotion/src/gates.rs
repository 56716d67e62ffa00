//! Gates: stage by stage, at the same time within one, tried again where that is allowed.

use crate::types::{Action, Check, Facts, Finding, Gate, GateKind, Millis, Reason, State, Text};

/// Where the gates of a round stand.
pub(crate) enum Progress {
    Passed,
    Waiting(String),
    Failed(Reason, String),
}

/// What a look at a round leads to, besides the checks.
pub(crate) struct Round<'a> {
    pub(crate) promotion: &'a Text,
    pub(crate) round: u32,
    pub(crate) facts: &'a Facts,
    pub(crate) now: Millis,
    pub(crate) actions: &'a mut Vec<Action>,
    pub(crate) wake: &'a mut Option<Millis>,
}

pub(crate) fn earlier(wake: &mut Option<Millis>, at: Millis) {
    *wake = Some(wake.map_or(at, |known| known.min(at)));
}

/// The longest that gates can take, however they end.
pub(crate) fn longest(gates: &[Gate]) -> Millis {
    let of = |gate: &Gate| Millis::from(gate.attempts).saturating_mul(gate.timeout + gate.interval);
    // A century is for ever; beyond it sums of times would overflow.
    gates
        .iter()
        .map(of)
        .fold(0, Millis::saturating_add)
        .min(3_200_000_000_000)
}

impl Round<'_> {
    /// Takes the gates of the round as far as they go.
    pub(crate) fn advance(&mut self, gates: &[Gate], state: &mut State) -> Progress {
        let mut stages: Vec<u32> = gates.iter().map(|gate| gate.stage).collect();
        stages.sort_unstable();
        stages.dedup();
        for stage in stages {
            let mut waiting = Vec::new();
            for gate in gates.iter().filter(|gate| gate.stage == stage) {
                match self.gate(gate, state) {
                    Progress::Passed => {}
                    Progress::Waiting(what) => waiting.push(what),
                    failed @ Progress::Failed(..) => return failed,
                }
            }
            if !waiting.is_empty() {
                return Progress::Waiting(waiting.join("; "));
            }
        }
        Progress::Passed
    }

    fn gate(&mut self, gate: &Gate, state: &mut State) -> Progress {
        match gate.kind {
            GateKind::Soak(long) => match self.facts.healthy_since {
                Some(since) if since + long <= self.now => Progress::Passed,
                Some(since) => {
                    earlier(self.wake, since + long);
                    let left = (since + long - self.now + 999) / 1000;
                    Progress::Waiting(format!(
                        "gate {:?}: {left}s of health in the source environment are left",
                        &*gate.name
                    ))
                }
                None => Progress::Waiting(format!(
                    "gate {:?}: the artifact is not healthy in the source environment",
                    &*gate.name
                )),
            },
            GateKind::Check => self.check(gate, state),
        }
    }

    fn check(&mut self, gate: &Gate, state: &mut State) -> Progress {
        let known = |c: &Check| c.name == gate.name && c.round == self.round;
        let at = state.checks.iter().position(known).unwrap_or_else(|| {
            state.checks.push(Check {
                name: Text::clone(&gate.name),
                round: self.round,
                attempt: 1,
                started: self.now,
                finding: None,
                message: Text::default(),
            });
            state.checks.len() - 1
        });
        let Some(check) = state.checks.get_mut(at) else {
            return Progress::Waiting(String::new());
        };
        // A clock that was put back must not make it wait for ever.
        check.started = check.started.min(self.now + gate.interval);
        if check.finding.is_none() {
            let reported = self
                .facts
                .reports
                .iter()
                .rev()
                .find(|r| r.name == gate.name && r.round == self.round && r.attempt == check.attempt);
            let found = match reported {
                Some(report) => Some((report.finding, Text::clone(&report.message))),
                None if check.started + gate.timeout <= self.now => {
                    Some((Finding::Inconclusive, "no result in time".into()))
                }
                None => None,
            };
            match found {
                Some((Finding::Passed, message)) => {
                    check.finding = Some(Finding::Passed);
                    check.message = message;
                }
                Some((_, message)) if check.attempt < gate.attempts => {
                    check.attempt += 1;
                    check.started = self.now + gate.interval;
                    check.message = message;
                }
                Some((finding, message)) => {
                    check.finding = Some(finding);
                    check.message = message;
                }
                None => {}
            }
        }
        match check.finding {
            Some(Finding::Passed) => Progress::Passed,
            Some(finding) => {
                let (reason, word) = if finding == Finding::Failed {
                    (Reason::GateFailed, "did not pass")
                } else {
                    (Reason::GateInconclusive, "is inconclusive, which is not passed")
                };
                Progress::Failed(
                    reason,
                    format!("gate {:?} {word}: {}", &*gate.name, &*check.message),
                )
            }
            None if check.started > self.now => {
                earlier(self.wake, check.started);
                Progress::Waiting(format!(
                    "gate {:?} is tried again (attempt {} of {}): {}",
                    &*gate.name, check.attempt, gate.attempts, &*check.message
                ))
            }
            None => {
                earlier(self.wake, check.started + gate.timeout);
                self.actions.push(Action::Run {
                    promotion: Text::clone(self.promotion),
                    gate: Text::clone(&gate.name),
                    round: self.round,
                    attempt: check.attempt,
                });
                Progress::Waiting(format!(
                    "gate {:?} runs (attempt {} of {})",
                    &*gate.name, check.attempt, gate.attempts
                ))
            }
        }
    }
}
