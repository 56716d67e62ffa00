//! A simulation: random events in random order, facts that arrive late, twice or not at all, clocks that jump, crashes between
//! any two writes. After each write what may run is compared with what an observer, who counts for themselves, would allow.
//!
//! `CHOREO_SIMULATION_RUNS` says how many schedules are tried, `CHOREO_SIMULATION_SEED` replays one. Lanes that are a set together are
//! in `sets.rs`.

mod observer;
mod sets;

use choreo_promotion::*;

const RUNS: u64 = 1_000_000;
const EVENTS: u64 = 28;
const SECOND: Millis = 1000;
const ARTIFACTS: [&str; 4] = ["v0", "v1", "v2", "v3"];
const PEOPLE: [&str; 4] = ["ann", "bob", "cem", "eve"];
const DIFFS: [&str; 2] = ["d1", "d2"];

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.roll() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }
}

struct Sim {
    dice: Dice,
    seed: u64,
    now: Millis,
    policy: Policy,
    /// As it is: facts are those that nobody may have seen yet, states those that are written.
    lane: Lane,
    /// As it was seen last.
    seen: Lane,
    /// Gates that were asked for: whose, which, round, attempt.
    running: Vec<(usize, Text, u32, u32)>,
    /// Whether each member's release was right by our own count.
    licensed: Vec<bool>,
    /// Artifacts that were healthy here.
    proven: Vec<Text>,
    made: usize,
    texts: Texts,
}

struct Texts {
    artifacts: Vec<Text>,
    people: Vec<Text>,
    diffs: Vec<Text>,
    ids: Vec<Text>,
}

impl Texts {
    fn new() -> Self {
        let all = |words: &[&str]| words.iter().map(|word| Text::from(*word)).collect();
        Self {
            artifacts: all(&ARTIFACTS),
            people: all(&PEOPLE),
            diffs: all(&DIFFS),
            ids: (0..8).map(|i| Text::from(format!("p{i}"))).collect(),
        }
    }
}

fn gate(name: &str, stage: u32, kind: GateKind) -> Gate {
    Gate {
        name: name.into(),
        stage,
        kind,
        timeout: 30 * SECOND,
        attempts: 2,
        interval: 5 * SECOND,
    }
}

fn policy(dice: &mut Dice, texts: &Texts) -> Policy {
    let approvers = (!dice.one_in(4)).then(|| Approvers {
        minimum: if dice.one_in(2) { 2 } else { 1 },
        users: texts.people[..3].to_vec(),
        groups: Vec::new(),
        not_author: dice.one_in(2),
        valid_for: dice.one_in(2).then_some(60 * SECOND),
    });
    let mut gates = Vec::new();
    if dice.one_in(2) {
        gates.push(gate("soak", 0, GateKind::Soak(10 * SECOND)));
    }
    if dice.one_in(2) {
        gates.push(gate("job", 0, GateKind::Check));
    }
    if dice.one_in(2) {
        gates.push(gate("smoke", 1, GateKind::Check));
    }
    let strategy = if dice.one_in(2) {
        Strategy::InPlace
    } else {
        let step = |weight, pause, analysis| Step {
            weight,
            pause,
            analysis,
        };
        let analysis = vec![gate("errors", 0, GateKind::Check)];
        if dice.one_in(3) {
            Strategy::Steps(
                vec![
                    step(0, Pause::UntilTold, true),
                    step(100, Pause::For(5 * SECOND), false),
                ],
                analysis,
            )
        } else {
            Strategy::Steps(
                vec![
                    step(10, Pause::For(5 * SECOND), true),
                    step(50, Pause::For(0), true),
                ],
                analysis,
            )
        }
    };
    Policy {
        approvers,
        gates,
        strategy,
        rollback_on_failure: dice.one_in(2),
        progress_deadline: 60 * SECOND,
        failure_grace: if dice.one_in(2) { 0 } else { 5 * SECOND },
        patience: 600 * SECOND,
    }
}

impl Sim {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let texts = Texts::new();
        let policy = policy(&mut dice, &texts);
        let first = (!dice.one_in(5)).then(|| texts.artifacts[0].clone());
        let target = Target {
            artifact: first.clone(),
            running: first.clone(),
            health: Health::Ready,
            ..Target::default()
        };
        let lane = Lane {
            members: Vec::new(),
            target,
        };
        Self {
            dice,
            seed,
            now: 1_000_000,
            policy,
            seen: lane.clone(),
            lane,
            running: Vec::new(),
            licensed: Vec::new(),
            proven: first.into_iter().collect(),
            made: 0,
            texts,
        }
    }

    #[track_caller]
    fn fail(&self, why: &str) -> ! {
        panic!(
            "{why}\nreplay with CHOREO_SIMULATION_SEED={}\n{:#?}",
            self.seed, self.lane
        );
    }

    fn run(mut self) -> u64 {
        for _ in 0..EVENTS {
            self.event();
            if !self.dice.one_in(3) {
                self.look();
                let crash = if self.dice.one_in(4) {
                    self.dice.below(4)
                } else {
                    u64::MAX
                };
                self.step(crash);
            }
        }
        self.settle();
        self.made as u64
    }

    fn event(&mut self) {
        match self.dice.below(24) {
            0..=2 => self.request(),
            3..=8 => self.decide(),
            9 if self.dice.one_in(4) => self.bypass(),
            9 | 10 => self.diff(),
            11 => self.source(),
            12..=15 => self.report(),
            16..=18 => self.data_plane(false),
            19 if self.dice.one_in(3) => self.take_over(),
            19 | 20 => self.freeze(),
            21 => self.rules(),
            _ => self.clock(),
        }
    }

    fn request(&mut self) {
        if self.made >= self.texts.ids.len() {
            return;
        }
        let rollback = self.dice.one_in(4);
        let artifact = if rollback && !self.proven.is_empty() {
            self.dice.of(&self.proven).clone()
        } else {
            self.dice.of(&self.texts.artifacts).clone()
        };
        let written = !rollback && self.dice.one_in(5);
        let id = self.texts.ids[self.made].clone();
        let intent = if rollback {
            Intent::Rollback
        } else {
            Intent::Promote
        };
        self.ask(id, artifact, intent, written);
    }

    /// Somebody asks for an artifact.
    fn ask(&mut self, id: Text, artifact: Text, intent: Intent, written: bool) {
        let author = self.dice.of(&self.texts.people).clone();
        let facts = Facts {
            digest: artifact.clone(),
            diff: self.texts.diffs[0].clone(),
            healthy_since: (!self.dice.one_in(4)).then_some(self.now - 20 * SECOND),
            proven: self.proven.contains(&artifact),
            ..Facts::default()
        };
        if written {
            // Let in by admission: it is a request, and nothing is rolled out because of it.
            self.lane.target.artifact = Some(artifact.clone());
            self.lane.target.by = None;
        }
        let member = Member {
            request: Request {
                id,
                author,
                artifact,
                intent,
                written,
                created: self.now,
                arrival: self.made as u64 + 1,
            },
            policy: self.policy.clone(),
            state: State::default(),
            facts,
        };
        self.made += 1;
        self.lane.members.push(member);
        self.licensed.push(false);
    }

    fn anybody(&mut self) -> Option<usize> {
        let n = self.lane.members.len() as u64;
        (n > 0).then(|| {
            usize::try_from(if self.dice.one_in(3) {
                self.dice.below(n)
            } else {
                n - 1
            })
            .unwrap()
        })
    }

    fn decide(&mut self) {
        let Some(i) = self.anybody() else { return };
        let verdict = match self.dice.below(20) {
            0..=13 => Verdict::Approve,
            14 => Verdict::Reject,
            15 => Verdict::Withdraw,
            16 => Verdict::Abort,
            _ => Verdict::Resume,
        };
        let by = self.dice.of(&self.texts.people).clone();
        let diff = self.dice.of(&self.texts.diffs[..]).clone();
        let stray = self.dice.one_in(8);
        let step = self.lane.members[i].state.step;
        let facts = &mut self.lane.members[i].facts;
        let digest = if stray {
            "other".into()
        } else {
            facts.digest.clone()
        };
        let diff = if stray { diff } else { facts.diff.clone() };
        facts.decisions.push(Decision {
            id: Text::default(),
            by,
            groups: Vec::new(),
            verdict,
            at: self.now,
            digest,
            diff,
            step,
        });
    }

    fn bypass(&mut self) {
        let Some(i) = self.anybody() else { return };
        let by = self.dice.of(&self.texts.people).clone();
        // The first one counts; it cannot be changed.
        if self.lane.members[i].facts.bypass.is_some() {
            return;
        }
        self.lane.members[i].facts.bypass = Some(Bypass {
            by,
            why: "it burns".into(),
            at: self.now,
        });
    }

    fn diff(&mut self) {
        if let Some(i) = self.anybody() {
            self.lane.members[i].facts.diff = self.dice.of(&self.texts.diffs).clone();
        }
    }

    fn source(&mut self) {
        if let Some(i) = self.anybody() {
            let healthy = self.dice.one_in(2).then_some(self.now);
            self.lane.members[i].facts.healthy_since = healthy;
        }
    }

    fn report(&mut self) {
        if self.running.is_empty() {
            return;
        }
        let (i, name, round, attempt) = self.dice.of(&self.running).clone();
        let finding = match self.dice.below(8) {
            0 => Finding::Failed,
            1 => Finding::Inconclusive,
            _ => Finding::Passed,
        };
        let reports = &mut self.lane.members[i].facts.reports;
        // A run has one result, however often it is told.
        let known = reports
            .iter()
            .find(|r| r.name == name && r.round == round && r.attempt == attempt)
            .map(|r| r.finding);
        reports.push(Report {
            name,
            round,
            attempt,
            finding: known.unwrap_or(finding),
            message: Text::default(),
        });
    }

    /// The data plane does what it is told, sooner or later, well or not.
    fn data_plane(&mut self, kindly: bool) {
        let states: Vec<State> = self.lane.members.iter().map(|m| m.state.clone()).collect();
        let (stable, candidate) = match effective(&self.lane, &states) {
            Active::One(artifact) => (artifact, None),
            Active::Two {
                stable, candidate, ..
            } => (Some(stable), Some(candidate)),
        };
        let stuck = self.seed.is_multiple_of(3);
        let mut health = |kindly: bool| match self.dice.below(6) {
            // Some data planes never get anything done: the deadline must.
            _ if kindly && stuck => Health::Progressing,
            _ if kindly => Health::Ready,
            0 => Health::Failed,
            1 => Health::Progressing,
            _ => Health::Ready,
        };
        let target = &mut self.lane.target;
        target.running = stable;
        target.health = health(kindly);
        target.candidate_health = health(kindly);
        target.candidate = candidate;
        if target.health == Health::Ready
            && let Some(artifact) = target.running.clone()
            && !self.proven.contains(&artifact)
        {
            self.proven.push(artifact);
        }
    }

    /// Somebody writes an artifact that was healthy here before into the binding, which needs nobody's leave.
    fn take_over(&mut self) {
        if !self.proven.is_empty() {
            self.lane.target.artifact = Some(self.dice.of(&self.proven).clone());
            self.lane.target.by = None;
        }
    }

    fn freeze(&mut self) {
        if let Some(i) = self.anybody() {
            let facts = &mut self.lane.members[i].facts;
            facts.frozen = match facts.frozen {
                Some(_) => None,
                None => Some(Freeze {
                    name: "night".into(),
                    until: Some(self.now + 30 * SECOND),
                }),
            };
        }
    }

    fn rules(&mut self) {
        if let Some(i) = self.anybody() {
            let broken = Refusal {
                rule: "ArtifactNotHealthy".into(),
                message: "no".into(),
            };
            let facts = &mut self.lane.members[i].facts;
            if facts.refusals.is_empty() {
                facts.refusals.push(broken);
            } else {
                facts.refusals.clear();
            }
        }
    }

    fn clock(&mut self) {
        self.now = match self.dice.below(12) {
            0 => self.now - 40 * SECOND,
            1 => self.now + 300 * SECOND,
            _ => self.now + i64::try_from(self.dice.below(20)).unwrap() * SECOND,
        };
    }

    /// What is seen: some of what has happened. States are always seen, since nobody else writes them.
    fn look(&mut self) {
        let all = self.dice.one_in(2);
        for i in 0..self.lane.members.len() {
            if i >= self.seen.members.len() {
                self.seen.members.push(self.lane.members[i].clone());
            } else if all || self.dice.one_in(2) {
                self.seen.members[i].facts = self.lane.members[i].facts.clone();
            }
            self.seen.members[i].state = self.lane.members[i].state.clone();
        }
        if all || self.dice.one_in(2) {
            self.seen.target = self.lane.target.clone();
        }
    }

    /// One step, which a crash ends after so many writes.
    fn step(&mut self, mut writes: u64) {
        let outcome = step(&self.seen, self.now);
        for i in outcome.order {
            if outcome.states[i] == self.seen.members[i].state {
                continue;
            }
            if writes == 0 {
                return;
            }
            writes -= 1;
            self.write(i, &outcome.states[i]);
        }
        for action in outcome.actions {
            if writes == 0 {
                return;
            }
            writes -= 1;
            match action {
                Action::Run {
                    promotion,
                    gate,
                    round,
                    attempt,
                } => {
                    let i = self.member(&promotion);
                    self.running.push((i, gate, round, attempt));
                }
                Action::SetTarget { promotion, artifact } => {
                    self.lane.target.artifact = artifact;
                    self.lane.target.by = Some(promotion);
                    self.check();
                }
            }
        }
    }

    fn member(&self, id: &Text) -> usize {
        self.lane
            .members
            .iter()
            .position(|m| m.request.id == *id)
            .unwrap()
    }

    /// Quiet: everything is seen, people and gates answer, and time goes on. Everything must end.
    fn settle(&mut self) {
        for _ in 0..60 {
            self.quiet();
            if self.is_over() {
                break;
            }
            self.now += 30 * SECOND;
        }
        self.ended();
    }

    fn is_over(&self) -> bool {
        self.lane.members.iter().all(|m| m.state.phase.is_final())
    }

    fn quiet(&mut self) {
        for member in &mut self.lane.members {
            member.facts.frozen = None;
        }
        for _ in 0..2 {
            self.report();
        }
        self.data_plane(true);
        self.seen = self.lane.clone();
        self.step(u64::MAX);
    }

    /// What must be true in the end.
    fn ended(&mut self) {
        for _ in 0..2 {
            self.seen = self.lane.clone();
            self.step(u64::MAX);
        }
        if self.lane.members.iter().any(|m| !m.state.phase.is_final()) {
            self.fail("a promotion does not end");
        }
        if self.lane.members.len() != self.made || self.lane.members.iter().any(|m| m.state.log.is_empty()) {
            self.fail("a promotion was lost");
        }
        // The binding has followed the states, but for what somebody else writes there.
        let target = &self.lane.target;
        let by = target.by.as_ref().map(|by| &self.lane.members[self.member(by)]);
        if let Some(by) = by
            && by.state.phase == Phase::RolledBack
            && !by.request.written
            && by.state.previous != target.artifact
            && target.artifact.as_ref() == Some(&by.request.artifact)
        {
            self.fail("the binding was not brought back");
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Tries that many schedules, on all processors. `one` runs the schedule of a seed and says how many promotions there were in it.
fn all_schedules(runs: u64, one: impl Fn(u64) -> u64 + Sync) {
    let one = &one;
    if let Some(seed) = number("CHOREO_SIMULATION_SEED") {
        one(seed);
        return;
    }
    let runs = number("CHOREO_SIMULATION_RUNS").unwrap_or(runs);
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let began = std::time::Instant::now();
    let promotions: u64 = std::thread::scope(|scope| {
        let parts: Vec<_> = (0..threads)
            .map(|part| {
                scope.spawn(move || {
                    (part..runs)
                        .step_by(usize::try_from(threads).unwrap())
                        .map(one)
                        .sum::<u64>()
                })
            })
            .collect();
        parts
            .into_iter()
            .map(|part| {
                part.join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .sum()
    });
    eprintln!(
        "{runs} schedules (seeds 0 to {}) of {promotions} promotions in {:?}",
        runs - 1,
        began.elapsed()
    );
    assert!(promotions > runs, "hardly anything was promoted");
}

#[test]
fn whatever_happens_nothing_runs_that_may_not() {
    all_schedules(RUNS, |seed| Sim::new(seed).run());
}
