//! Two or three lanes whose promotions are one set: each is looked at by itself, with what was true of the others a while ago. All end
//! well or none does, and none begins before those that it needs.

use choreo_promotion::*;

use super::{Dice, SECOND, Sim, all_schedules};

const RUNS: u64 = 100_000;
const EVENTS: u64 = 100;

/// A lane, with the promotion in it that is of the set once somebody has asked for it.
struct Part {
    sim: Sim,
    member: Option<usize>,
    id: Text,
    /// The parts that it connects to.
    needs: Vec<usize>,
    /// The set as it was when this was looked at last, if nothing has been done about that yet.
    looked: Option<Vec<Peer>>,
}

struct Set {
    dice: Dice,
    parts: Vec<Part>,
}

impl Part {
    fn state(&self) -> Option<&State> {
        Some(&self.sim.lane.members[self.member?].state)
    }

    fn ended_well(&self) -> bool {
        self.state().is_some_and(|state| state.phase == Phase::Succeeded)
    }

    fn ended_badly(&self) -> bool {
        self.state()
            .is_some_and(|state| state.phase.is_final() && state.phase != Phase::Succeeded)
    }
}

impl Set {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let many = if dice.one_in(3) { 3 } else { 2 };
        // Who leads is not who comes first.
        let first = dice.below(many);
        let parts = (0..many)
            .map(|i| {
                let mut sim = Sim::new(dice.roll());
                sim.seed = seed;
                // With all that a way can demand hardly any set would come to the part where its members wait for each other.
                if dice.one_in(2) {
                    sim.policy.approvers = None;
                }
                if dice.one_in(2) {
                    sim.policy.gates.clear();
                }
                let needs = (0..many).filter(|other| *other != i && dice.one_in(3));
                Part {
                    sim,
                    member: None,
                    id: Text::from(format!("s{}", (i + first) % many)),
                    needs: needs.filter_map(|other| usize::try_from(other).ok()).collect(),
                    looked: None,
                }
            })
            .collect();
        Self { dice, parts }
    }

    /// What is true of the set at this moment, for one of its parts.
    fn facts(&self, i: usize) -> Option<SetFacts> {
        SetFacts::of(&self.parts[i].id, &self.peers(i), self.parts.len())
    }

    fn peers(&self, i: usize) -> Vec<Peer> {
        let peer = |(j, part): (usize, &Part)| {
            let member = &part.sim.lane.members[part.member?];
            let mut decisions = member.facts.decisions.iter();
            let stopped = decisions.any(|d| d.verdict == Verdict::Abort);
            let mut peer = Peer::new(&part.id, &member.state, stopped);
            peer.needed = self.needs(i, j);
            Some(peer)
        };
        self.parts.iter().enumerate().filter_map(peer).collect()
    }

    fn needs(&self, i: usize, j: usize) -> bool {
        self.parts[i].needs.contains(&j) && !self.parts[j].needs.contains(&i)
    }

    fn run(mut self) -> u64 {
        for _ in 0..EVENTS {
            self.event();
        }
        self.settle();
        self.parts.iter().map(|part| part.sim.made as u64).sum()
    }

    fn event(&mut self) {
        let i = usize::try_from(self.dice.below(self.parts.len() as u64)).unwrap();
        let what = self.dice.below(40);
        let crash = if self.dice.one_in(4) {
            self.dice.below(4)
        } else {
            u64::MAX
        };
        let part = &mut self.parts[i];
        match what {
            0..=2 => self.ask(i),
            // Somebody asks for something else, which is no part of the set.
            3 if part.sim.made < 4 => {
                let artifact = part.sim.dice.of(&part.sim.texts.artifacts).clone();
                let id = Text::from(format!("other{}", part.sim.made));
                part.sim.ask(id, artifact, Intent::Promote, false);
            }
            3..=7 => part.sim.decide(),
            8 => part.sim.diff(),
            9 => part.sim.source(),
            10..=12 => part.sim.report(),
            13..=16 => part.sim.data_plane(false),
            17 => part.sim.freeze(),
            18 => part.sim.rules(),
            19 | 20 => {
                part.sim.clock();
                let now = part.sim.now;
                self.parts.iter_mut().for_each(|part| part.sim.now = now);
            }
            21..=24 => self.look(i),
            25..=28 => self.step(i, crash),
            _ => {
                self.look(i);
                self.step(i, crash);
            }
        }
    }

    fn ask(&mut self, i: usize) {
        let part = &mut self.parts[i];
        if part.member.is_some() {
            return;
        }
        part.member = Some(part.sim.lane.members.len());
        let artifact = part.sim.dice.of(&part.sim.texts.artifacts[1..]).clone();
        part.sim.ask(part.id.clone(), artifact, Intent::Promote, false);
    }

    fn look(&mut self, i: usize) {
        let (facts, peers) = (self.facts(i), self.peers(i));
        let part = &mut self.parts[i];
        part.sim.look();
        if let Some(member) = part.member {
            part.sim.seen.members[member].facts.set = facts;
        }
        part.looked = Some(peers);
    }

    /// What the last look led to. The others may have gone on since.
    fn step(&mut self, i: usize, crash: u64) {
        let part = &mut self.parts[i];
        let Some(peers) = part.looked.take() else {
            return;
        };
        let begun = |part: &Part| part.state().is_some_and(|state| state.started.is_some());
        let before = begun(part);
        part.sim.step(crash);
        if begun(part) && !before && !peers.iter().all(|peer| peer.began || peer.complete) {
            self.fail("a part of the set began, and not all could");
        }
        self.check(i);
    }

    #[track_caller]
    fn fail(&self, why: &str) -> ! {
        let lanes: Vec<&Lane> = self.parts.iter().map(|part| &part.sim.lane).collect();
        panic!(
            "{why}\nreplay with CHOREO_SIMULATION_SEED={}\n{lanes:#?}",
            self.parts[0].sim.seed
        );
    }

    fn check(&self, i: usize) {
        let well = self.parts.iter().any(Part::ended_well);
        if well && self.parts.iter().any(Part::ended_badly) {
            self.fail("a part of the set ended well, and another one did not");
        }
        if well
            && self
                .parts
                .iter()
                .any(|part| part.state().is_none_or(|s| s.started.is_none()))
        {
            self.fail("a part of the set ended well before another one had begun");
        }
        // By our own count, and of what is written: neither is ever taken back.
        let begun = |part: &Part| part.state().is_some_and(|state| state.started.is_some());
        let part = &self.parts[i];
        if begun(part) {
            if self.parts.iter().any(|other| other.member.is_none()) {
                self.fail("a part of the set began, and not all were there");
            }
            for (j, other) in self.parts.iter().enumerate() {
                let through = other.state().is_some_and(|s| s.started.is_some() && s.complete);
                if self.needs(i, j) && !through && !other.ended_badly() {
                    self.fail("a part of the set began before one that it connects to was through");
                }
            }
        }
    }

    fn settle(&mut self) {
        for i in 0..self.parts.len() {
            self.ask(i);
        }
        for _ in 0..90 {
            for i in 0..self.parts.len() {
                self.told(i);
                self.parts[i].sim.quiet();
                self.check(i);
            }
            if self.parts.iter().all(|part| part.sim.is_over()) {
                break;
            }
            self.parts.iter_mut().for_each(|part| part.sim.now += 30 * SECOND);
        }
        for i in 0..self.parts.len() {
            self.told(i);
            self.parts[i].sim.ended();
        }
        if self.parts.iter().any(Part::ended_well) != self.parts.iter().all(Part::ended_well) {
            self.fail("not all of the set came to the same end");
        }
    }

    fn told(&mut self, i: usize) {
        let facts = self.facts(i);
        let part = &mut self.parts[i];
        if let Some(member) = part.member {
            part.sim.lane.members[member].facts.set = facts;
        }
    }
}

#[test]
fn whatever_happens_a_set_has_one_end() {
    all_schedules(RUNS, |seed| Set::new(seed).run());
}
