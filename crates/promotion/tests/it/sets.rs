//! Sets, rule by rule.

use choreo_promotion::*;

use crate::cases::{SECOND, approve, go, in_first_step, lane, member, obey, waits};

#[test]
fn a_set_begins_and_ends_as_one() {
    let mut p = member("p", "new", 0);
    let set = |may_start, may_finish, broken| {
        Some(SetFacts {
            leads: true,
            may_start,
            may_finish,
            broken,
        })
    };
    p.facts.set = set(false, false, false);
    let mut lane = lane(vec![p]);
    let outcome = go(&mut lane, 1);
    assert_eq!(waits(&outcome, 0).kind, WaitKind::Set);
    assert!(lane.members[0].state.complete);
    lane.members[0].facts.set = set(true, false, false);
    go(&mut lane, 2);
    let outcome = go(&mut lane, 3);
    obey(&mut lane, &outcome);
    let outcome = go(&mut lane, 4);
    assert_eq!(waits(&outcome, 0).kind, WaitKind::Set);
    let mut other = lane.clone();
    lane.members[0].facts.set = set(true, true, false);
    go(&mut lane, 5);
    assert_eq!(lane.members[0].state.phase, Phase::Succeeded);
    other.members[0].facts.set = set(true, false, true);
    go(&mut other, 5);
    assert_eq!(other.members[0].state.phase, Phase::RolledBack);
}

/// The facts of a set's members, worked out from their states: the first leads.
fn set_facts(lanes: &mut [Lane; 2]) {
    let states = [0, 1].map(|i: usize| lanes[i].members[0].state.clone());
    let ended = |s: &State| s.phase.is_final() && s.phase != Phase::Succeeded;
    let runs = |s: &State| s.started.is_some() && s.complete;
    let aborted = lanes[1].members[0]
        .facts
        .decisions
        .iter()
        .any(|d| d.verdict == Verdict::Abort);
    for (i, lane) in lanes.iter_mut().enumerate() {
        let leads = i == 0;
        let promised = !leads && runs(&states[1]);
        lane.members[0].facts.set = Some(SetFacts {
            leads,
            may_start: states.iter().all(|s| s.started.is_some() || s.complete),
            may_finish: if leads {
                runs(&states[1])
            } else {
                states[0].phase == Phase::Succeeded
            },
            broken: if promised {
                ended(&states[0])
            } else {
                states.iter().any(ended) || leads && aborted
            },
        });
    }
}

/// Two lanes whose promotions run, and wait for each other.
fn set_of_two() -> [Lane; 2] {
    let mut lanes = [
        lane(vec![member("p1", "new", 0)]),
        lane(vec![member("p2", "new", 0)]),
    ];
    for now in 1..6 {
        set_facts(&mut lanes);
        for lane in &mut lanes {
            let outcome = go(lane, now);
            obey(lane, &outcome);
        }
    }
    lanes
}

#[test]
fn a_member_that_is_done_keeps_its_promise_and_follows_the_one_that_leads() {
    let phases = |lanes: &[Lane; 2]| [0, 1].map(|i: usize| lanes[i].members[0].state.phase);
    let mut good = set_of_two();
    set_facts(&mut good);
    good.iter_mut().for_each(|lane| drop(go(lane, 6)));
    set_facts(&mut good);
    // It fails just when the other one has ended well because of it: it is as if it had failed afterwards.
    good[1].target.health = Health::Failed;
    good.iter_mut().for_each(|lane| drop(go(lane, 7)));
    assert_eq!(phases(&good), [Phase::Succeeded, Phase::Succeeded]);

    // Stopped before the one that leads has decided: all go back, and the one that was stopped not before the others may.
    let mut stopped = [
        lane(vec![member("p1", "new", 0)]),
        lane(vec![member("p2", "new", 0)]),
    ];
    for now in 1..6 {
        set_facts(&mut stopped);
        for (i, lane) in stopped.iter_mut().enumerate() {
            let outcome = go(lane, now);
            // The one that leads is not well yet.
            if i == 1 {
                obey(lane, &outcome);
            }
        }
    }
    assert_eq!(phases(&stopped), [Phase::RollingOut, Phase::RollingOut]);
    let mut stop = approve("bob", 5);
    stop.verdict = Verdict::Abort;
    stopped[1].members[0].facts.decisions.push(stop);
    set_facts(&mut stopped);
    drop(go(&mut stopped[1], 7));
    assert_eq!(phases(&stopped), [Phase::RollingOut, Phase::RollingOut]);
    drop(go(&mut stopped[0], 8));
    set_facts(&mut stopped);
    drop(go(&mut stopped[1], 9));
    assert_eq!(phases(&stopped), [Phase::RolledBack, Phase::RolledBack]);
}

#[test]
fn an_emergency_that_waits_for_its_set_stops_nobody_meanwhile() {
    let mut lane = in_first_step();
    let mut urgent = member("q", "other", 3);
    urgent.facts.bypass = Some(Bypass {
        by: "root".into(),
        why: "it burns".into(),
        at: 3,
    });
    let set = |may_start| {
        Some(SetFacts {
            leads: true,
            may_start,
            may_finish: false,
            broken: false,
        })
    };
    urgent.facts.set = set(false);
    lane.members.push(urgent);
    let outcome = go(&mut lane, 3 * SECOND);
    assert_eq!(lane.members[0].state.phase, Phase::RollingOut);
    assert_eq!(waits(&outcome, 1).kind, WaitKind::Queue);
    lane.members[1].facts.set = set(true);
    go(&mut lane, 4 * SECOND);
    assert_eq!(lane.members[0].state.reason, Reason::Preempted);
    assert_eq!(lane.members[1].state.phase, Phase::RollingOut);
}
