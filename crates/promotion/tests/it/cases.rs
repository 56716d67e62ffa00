//! Rules one by one.

use choreo_promotion::*;

pub(crate) const SECOND: Millis = 1000;

pub(crate) fn member(id: &str, artifact: &str, created: Millis) -> Member {
    Member {
        request: Request {
            id: id.into(),
            author: "ann".into(),
            artifact: artifact.into(),
            intent: Intent::Promote,
            written: false,
            created,
            arrival: 0,
        },
        policy: Policy {
            approvers: None,
            gates: Vec::new(),
            strategy: Strategy::InPlace,
            rollback_on_failure: true,
            progress_deadline: 60 * SECOND,
            failure_grace: 0,
            patience: 600 * SECOND,
        },
        state: State::default(),
        facts: Facts {
            digest: artifact.into(),
            diff: "d".into(),
            healthy_since: Some(0),
            ..Facts::default()
        },
    }
}

pub(crate) fn lane(members: Vec<Member>) -> Lane {
    Lane {
        members,
        target: Target {
            artifact: Some("old".into()),
            running: Some("old".into()),
            health: Health::Ready,
            ..Target::default()
        },
    }
}

/// A step whose states are written.
pub(crate) fn go(lane: &mut Lane, now: Millis) -> Outcome {
    let outcome = step(lane, now);
    for (member, state) in lane.members.iter_mut().zip(&outcome.states) {
        member.state = state.clone();
    }
    outcome
}

/// The binding says what it was told, and it runs well.
pub(crate) fn obey(lane: &mut Lane, outcome: &Outcome) {
    for action in &outcome.actions {
        if let Action::SetTarget { promotion, artifact } = action {
            lane.target.artifact.clone_from(artifact);
            lane.target.by = Some(promotion.clone());
            lane.target.running.clone_from(artifact);
            lane.target.health = Health::Ready;
        }
    }
}

pub(crate) fn approve(by: &str, at: Millis) -> Decision {
    Decision {
        id: Text::default(),
        by: by.into(),
        groups: vec!["team".into()],
        verdict: Verdict::Approve,
        at,
        digest: "new".into(),
        diff: "d".into(),
        step: 0,
    }
}

pub(crate) fn waits(outcome: &Outcome, i: usize) -> &Wait {
    outcome.waits[i].as_ref().unwrap()
}

#[test]
fn without_demands_it_rolls_out_and_ends() {
    let mut lane = lane(vec![member("p", "new", 0)]);
    go(&mut lane, 1);
    assert_eq!(lane.members[0].state.phase, Phase::RollingOut);
    let outcome = go(&mut lane, 2);
    obey(&mut lane, &outcome);
    go(&mut lane, 3);
    let state = &lane.members[0].state;
    assert_eq!((state.phase, state.released), (Phase::Succeeded, true));
    assert_eq!(state.previous.as_deref(), Some("old"));
}

#[test]
fn two_of_three_approve_but_not_who_asked_and_not_for_ever() {
    let mut p = member("p", "new", 0);
    p.policy.approvers = Some(Approvers {
        minimum: 2,
        users: vec!["ann".into(), "bob".into()],
        groups: vec!["team".into()],
        not_author: true,
        valid_for: Some(60 * SECOND),
    });
    p.facts.decisions = vec![approve("ann", 1), approve("bob", 2)];
    let mut lane = lane(vec![p]);
    let outcome = go(&mut lane, 3);
    assert_eq!(waits(&outcome, 0).kind, WaitKind::Approval);
    assert_eq!(
        waits(&outcome, 0).message,
        "1 of 2 approvals; that of ann does not count: asked for it"
    );
    // The first has expired when the second comes.
    lane.members[0].facts.decisions.push(approve("cem", 70 * SECOND));
    let outcome = go(&mut lane, 71 * SECOND);
    assert_eq!(
        waits(&outcome, 0).message,
        "1 of 2 approvals; that of ann does not count: asked for it; that of bob does not count: approved too long ago"
    );
    lane.members[0].facts.decisions.push(approve("bob", 72 * SECOND));
    go(&mut lane, 73 * SECOND);
    let state = &lane.members[0].state;
    assert_eq!(state.phase, Phase::RollingOut);
    assert_eq!(state.approved_by, ["cem".into(), "bob".into()] as [Text; 2]);
}

#[test]
fn another_difference_voids_what_was_approved() {
    let mut p = member("p", "new", 0);
    p.policy.approvers = Some(Approvers {
        minimum: 1,
        ..Approvers::default()
    });
    p.facts.decisions = vec![approve("bob", 1)];
    p.facts.diff = "another".into();
    let mut lane = lane(vec![p]);
    let outcome = go(&mut lane, 2);
    assert!(
        waits(&outcome, 0)
            .message
            .contains("before the rendered difference changed")
    );
}

#[test]
fn a_gate_that_cannot_find_out_has_not_passed() {
    let mut p = member("p", "new", 0);
    p.policy.gates = vec![Gate {
        name: "smoke".into(),
        stage: 0,
        kind: GateKind::Check,
        timeout: 10 * SECOND,
        attempts: 2,
        interval: 5 * SECOND,
    }];
    let mut lane = lane(vec![p]);
    let run = |attempt| Action::Run {
        promotion: "p".into(),
        gate: "smoke".into(),
        round: 0,
        attempt,
    };
    assert_eq!(go(&mut lane, 0).actions, [run(1)]);
    // No answer: tried again after a while.
    let outcome = go(&mut lane, 10 * SECOND);
    assert_eq!((outcome.actions, outcome.wake), (vec![], Some(15 * SECOND)));
    assert_eq!(go(&mut lane, 15 * SECOND).actions, [run(2)]);
    lane.members[0].facts.reports.push(Report {
        name: "smoke".into(),
        round: 0,
        attempt: 2,
        finding: Finding::Inconclusive,
        message: "503".into(),
    });
    go(&mut lane, 16 * SECOND);
    let state = &lane.members[0].state;
    assert_eq!(
        (state.phase, state.reason),
        (Phase::Failed, Reason::GateInconclusive)
    );
    assert!(!state.released);
}

fn canary() -> Strategy {
    let step = |weight| Step {
        weight,
        pause: Pause::For(10 * SECOND),
        analysis: false,
    };
    Strategy::Steps(vec![step(10), step(50)], Vec::new())
}

#[test]
fn steps_end_with_the_new_one_in_the_old_ones_place_or_at_once_with_the_old_one() {
    let mut p = member("p", "new", 0);
    p.policy.strategy = canary();
    let mut lane = lane(vec![p]);
    go(&mut lane, 1);
    let two = |stable: &str, weight| Active::Two {
        stable: stable.into(),
        candidate: "new".into(),
        weight,
    };
    let now = |lane: &Lane| {
        let states: Vec<State> = lane.members.iter().map(|m| m.state.clone()).collect();
        effective(lane, &states)
    };
    assert_eq!(now(&lane), two("old", 10));
    lane.target.candidate = Some("new".into());
    lane.target.candidate_health = Health::Ready;
    let outcome = go(&mut lane, 2);
    assert_eq!(
        waits(&outcome, 0).message,
        "step 1 of 2 (10%): 10s of the pause are left"
    );
    go(&mut lane, 2 + 10 * SECOND);
    assert_eq!(now(&lane), two("old", 50));
    let mut aborted = lane.clone();
    go(&mut lane, 3 + 10 * SECOND);
    go(&mut lane, 3 + 20 * SECOND);
    assert_eq!(now(&lane), two("new", 100));
    let outcome = go(&mut lane, 4 + 20 * SECOND);
    obey(&mut lane, &outcome);
    go(&mut lane, 5 + 20 * SECOND);
    assert_eq!(now(&lane), Active::One(Some("new".into())));
    assert_eq!(lane.members[0].state.phase, Phase::Succeeded);

    let mut stop = approve("bob", 11 * SECOND);
    stop.verdict = Verdict::Abort;
    aborted.members[0].facts.decisions.push(stop);
    go(&mut aborted, 11 * SECOND);
    assert_eq!(now(&aborted), Active::One(Some("old".into())));
    let state = &aborted.members[0].state;
    assert_eq!((state.phase, state.reason), (Phase::RolledBack, Reason::Aborted));
}

#[test]
fn a_newer_one_waits_for_what_rolls_out_and_ends_what_waits() {
    let mut lane = lane(vec![member("p1", "a", 0)]);
    go(&mut lane, 1);
    lane.members.push(member("p2", "b", 2));
    let outcome = go(&mut lane, 2);
    assert_eq!(waits(&outcome, 1).kind, WaitKind::Queue);
    lane.members.push(member("p3", "c", 3));
    go(&mut lane, 3);
    let phases: Vec<(Phase, Reason)> = lane
        .members
        .iter()
        .map(|m| (m.state.phase, m.state.reason))
        .collect();
    assert_eq!(
        phases,
        [
            (Phase::RollingOut, Reason::None),
            (Phase::Rejected, Reason::Superseded),
            (Phase::Verifying, Reason::None)
        ]
    );
}

#[test]
fn a_rollback_waits_for_nobody() {
    let mut p = member("p1", "a", 0);
    p.policy.strategy = canary();
    let mut lane = lane(vec![p]);
    go(&mut lane, 1);
    let mut back = member("p2", "older", 2);
    back.request.intent = Intent::Rollback;
    back.facts.proven = true;
    back.facts.healthy_since = None;
    back.facts.frozen = Some(Freeze {
        name: "night".into(),
        until: None,
    });
    lane.members.push(back);
    let outcome = go(&mut lane, 2);
    assert_eq!(lane.members[0].state.reason, Reason::Preempted);
    assert_eq!(lane.members[1].state.phase, Phase::RollingOut);
    assert_eq!(lane.members[1].state.previous.as_deref(), Some("old"));
    // What ends is written first.
    assert_eq!(outcome.order, [0, 1]);
}

#[test]
fn a_rollback_does_not_wait_for_what_fails() {
    let mut p = member("p1", "a", 0);
    p.policy.failure_grace = 5 * SECOND;
    p.policy.rollback_on_failure = false;
    let mut lane = lane(vec![p]);
    go(&mut lane, SECOND);
    let outcome = go(&mut lane, SECOND);
    obey(&mut lane, &outcome);
    lane.target.health = Health::Failed;
    go(&mut lane, 2 * SECOND);
    assert_eq!(lane.members[0].state.phase, Phase::RollingOut);
    let mut back = member("p2", "old", 3 * SECOND);
    back.request.intent = Intent::Rollback;
    back.facts.proven = true;
    lane.members.push(back);
    // While it has not failed for long enough, the way back ends it; afterwards it has ended by itself.
    let mut late = lane.clone();
    for (lane, now, end) in [
        (&mut lane, 6, (Phase::RolledBack, Reason::Preempted)),
        (&mut late, 7, (Phase::Failed, Reason::Unhealthy)),
    ] {
        if end.1 == Reason::Unhealthy {
            let alone = lane.members.pop().unwrap();
            go(lane, now * SECOND);
            lane.members.push(alone);
        }
        go(lane, now * SECOND);
        let state = &lane.members[0].state;
        assert_eq!((state.phase, state.reason), end);
        assert_eq!(lane.members[1].state.phase, Phase::RollingOut);
        let states: Vec<State> = lane.members.iter().map(|m| m.state.clone()).collect();
        assert_eq!(effective(lane, &states), Active::One(Some("old".into())));
    }
}

#[test]
fn a_failure_brings_back_the_old_one_where_the_way_says_so() {
    for back in [true, false] {
        let mut p = member("p", "new", 0);
        p.policy.rollback_on_failure = back;
        let mut lane = lane(vec![p]);
        go(&mut lane, 1);
        let outcome = go(&mut lane, 2);
        obey(&mut lane, &outcome);
        lane.target.health = Health::Failed;
        let outcome = go(&mut lane, 3);
        let state = &lane.members[0].state;
        let phase = if back { Phase::RolledBack } else { Phase::Failed };
        assert_eq!((state.phase, state.released), (phase, !back));
        let restored = Action::SetTarget {
            promotion: "p".into(),
            artifact: Some("old".into()),
        };
        assert_eq!(outcome.actions.contains(&restored), back);
    }
}

#[test]
fn what_fails_for_a_moment_has_not_failed() {
    let mut lane = lane(vec![member("p", "new", 0)]);
    lane.members[0].policy.failure_grace = 5 * SECOND;
    go(&mut lane, SECOND);
    let outcome = go(&mut lane, SECOND);
    obey(&mut lane, &outcome);
    // What is seen is still of the revision before.
    lane.target.health = Health::Failed;
    let outcome = go(&mut lane, 2 * SECOND);
    assert_eq!(outcome.wake, Some(7 * SECOND));
    let mut lasting = lane.clone();
    lane.target.health = Health::Progressing;
    go(&mut lane, 6 * SECOND);
    lane.target.health = Health::Failed;
    go(&mut lane, 8 * SECOND);
    assert_eq!(lane.members[0].state.phase, Phase::RollingOut);
    go(&mut lasting, 7 * SECOND);
    assert_eq!(lasting.members[0].state.reason, Reason::Unhealthy);
}

#[test]
fn an_emergency_goes_past_everything_and_is_marked() {
    let mut p = member("p", "new", 0);
    p.policy.approvers = Some(Approvers {
        minimum: 3,
        ..Approvers::default()
    });
    p.facts.refusals = vec![Refusal {
        rule: "ArtifactNotHealthy".into(),
        message: "no".into(),
    }];
    p.facts.bypass = Some(Bypass {
        by: "root".into(),
        why: "it burns".into(),
        at: 0,
    });
    let mut lane = lane(vec![p]);
    go(&mut lane, 1);
    let state = &lane.members[0].state;
    assert_eq!(state.phase, Phase::RollingOut);
    assert_eq!(state.bypass.as_ref().map(|b| &*b.by), Some("root"));
}

#[test]
fn a_broken_rule_is_named() {
    let mut p = member("p", "new", 0);
    p.facts.refusals = vec![Refusal {
        rule: "EnvironmentSkipped".into(),
        message: "staging comes first".into(),
    }];
    let mut lane = lane(vec![p]);
    go(&mut lane, 1);
    let state = &lane.members[0].state;
    assert_eq!((state.phase, state.reason), (Phase::Rejected, Reason::RuleBroken));
    assert_eq!(&*state.log[0].message, "EnvironmentSkipped: staging comes first");
}

#[test]
fn of_one_second_the_one_that_came_later_is_the_newer_one_whatever_it_is_called() {
    let mut older = member("z", "a", 0);
    older.request.arrival = 7;
    let mut newer = member("a", "b", 0);
    newer.request.arrival = 12;
    let mut lane = lane(vec![newer, older]);
    lane.members.iter_mut().for_each(|m| {
        m.facts.frozen = Some(Freeze {
            name: "f".into(),
            until: None,
        });
    });
    go(&mut lane, 1);
    let [newer, older] = lane.members.as_slice() else {
        unreachable!()
    };
    assert_eq!((older.state.order, newer.state.order), (1, 2));
    assert_eq!(older.state.reason, Reason::Superseded);
    assert_eq!(newer.state.phase, Phase::Verifying);
    // What the server says of it later changes nothing any more, and neither does a clock that was put back.
    let mut third = member("m", "c", -5);
    third.request.arrival = 13;
    lane.members[0].request.arrival = 99;
    lane.members.push(third);
    go(&mut lane, 2);
    assert_eq!(lane.members[2].state.order, 3);
    assert_eq!(lane.members[0].state.reason, Reason::Superseded);
}

#[test]
fn what_one_promotion_was_refused_another_is_granted() {
    let mut refused = member("p1", "new", 0);
    refused.request.written = true;
    refused.policy.strategy = canary();
    let mut lane = lane(vec![refused]);
    // Somebody wrote it there.
    lane.target.artifact = Some("new".into());
    go(&mut lane, 1);
    lane.target.candidate = Some("new".into());
    lane.target.candidate_health = Health::Failed;
    go(&mut lane, 2);
    assert_eq!(lane.members[0].state.phase, Phase::RolledBack);
    lane.members.push(member("p2", "new", 3));
    go(&mut lane, 3);
    let outcome = go(&mut lane, 4);
    obey(&mut lane, &outcome);
    go(&mut lane, 5);
    assert_eq!(lane.members[1].state.phase, Phase::Succeeded);
    let states: Vec<State> = lane.members.iter().map(|m| m.state.clone()).collect();
    assert_eq!(effective(&lane, &states), Active::One(Some("new".into())));
}

#[test]
fn what_was_rolled_out_and_taken_back_is_the_newest_word_on_its_artifact() {
    // Somebody wrote it into a binding that ran nothing, and was not let through before something else was.
    let mut written = member("p1", "new", 0);
    written.request.written = true;
    written.policy.approvers = Some(Approvers {
        minimum: 1,
        ..Approvers::default()
    });
    let mut lane = lane(vec![written]);
    lane.target = Target {
        artifact: Some("new".into()),
        ..Target::default()
    };
    go(&mut lane, 1);
    lane.members.push(member("p2", "old", 2));
    go(&mut lane, 2);
    let outcome = go(&mut lane, 3);
    obey(&mut lane, &outcome);
    go(&mut lane, 4);
    let ends = |lane: &Lane| lane.members.iter().map(|m| m.state.phase).collect::<Vec<_>>();
    assert_eq!(ends(&lane), [Phase::Rejected, Phase::Succeeded]);
    // An emergency rolls it out, and it fails.
    let mut emergency = member("p3", "new", 5);
    emergency.facts.bypass = Some(Bypass {
        by: "root".into(),
        why: "it burns".into(),
        at: 5,
    });
    lane.members.push(emergency);
    go(&mut lane, 5);
    let outcome = go(&mut lane, 6);
    obey(&mut lane, &outcome);
    lane.target.health = Health::Failed;
    let outcome = go(&mut lane, 7);
    assert_eq!(lane.members[2].state.phase, Phase::RolledBack);
    obey(&mut lane, &outcome);
    // Whoever writes it there again does not let it run, and takes nothing away.
    lane.target.artifact = Some("new".into());
    lane.target.by = None;
    let states: Vec<State> = lane.members.iter().map(|m| m.state.clone()).collect();
    assert_eq!(effective(&lane, &states), Active::One(Some("old".into())));
}

/// A canary whose first step is on, at its second 2.
pub(crate) fn in_first_step() -> Lane {
    let mut p = member("p", "new", 0);
    p.policy.strategy = canary();
    let mut lane = lane(vec![p]);
    go(&mut lane, SECOND);
    lane.target.candidate = Some("new".into());
    lane.target.candidate_health = Health::Ready;
    go(&mut lane, 2 * SECOND);
    lane
}

#[test]
fn a_step_does_not_give_more_traffic_to_what_is_not_healthy_any_more() {
    let mut lane = in_first_step();
    lane.target.candidate_health = Health::Progressing;
    let outcome = go(&mut lane, 13 * SECOND);
    assert_eq!(
        waits(&outcome, 0).message,
        "step 1 of 2 (10%): the new revision is not healthy any more"
    );
    // It may get well again, and otherwise there is an end.
    assert_eq!(outcome.wake, Some((2 + 10 + 60) * SECOND));
    let mut well = lane.clone();
    well.target.candidate_health = Health::Ready;
    go(&mut well, 20 * SECOND);
    assert_eq!(well.members[0].state.step, 1);
    go(&mut lane, 72 * SECOND);
    let state = &lane.members[0].state;
    assert_eq!(
        (state.phase, state.reason),
        (Phase::RolledBack, Reason::DeadlineExceeded)
    );
}

#[test]
fn a_stop_counts_by_whatever_clock_it_was_said() {
    let mut lane = in_first_step();
    // The API server's clock is behind ours: by it the rollout has not begun yet.
    let mut stop = approve("bob", 0);
    stop.verdict = Verdict::Abort;
    lane.members[0].facts.decisions.push(stop);
    go(&mut lane, 3 * SECOND);
    assert_eq!(lane.members[0].state.reason, Reason::Aborted);
}

#[test]
fn who_asks_to_go_on_is_heard_by_whatever_clock() {
    let mut lane = in_first_step();
    let mut on = approve("bob", 0);
    on.verdict = Verdict::Resume;
    lane.members[0].facts.decisions.push(on);
    go(&mut lane, 3 * SECOND);
    assert_eq!(lane.members[0].state.step, 1);
    // Of another step it says nothing.
    go(&mut lane, 4 * SECOND);
    go(&mut lane, 5 * SECOND);
    assert_eq!(lane.members[0].state.step, 1);
}

#[test]
fn the_history_does_not_grow_for_ever() {
    let mut p = member("p", "new", 0);
    p.policy.patience = 1_000_000 * SECOND;
    p.policy.approvers = Some(Approvers {
        minimum: 1,
        valid_for: Some(SECOND),
        ..Approvers::default()
    });
    p.facts.frozen = Some(Freeze {
        name: "night".into(),
        until: None,
    });
    let mut lane = lane(vec![p]);
    for round in 0..200 {
        let now = round * 10 * SECOND;
        lane.members[0].facts.decisions = vec![approve("bob", now)];
        go(&mut lane, now);
        assert_eq!(lane.members[0].state.phase, Phase::Verifying);
        go(&mut lane, now + 5 * SECOND);
        assert_eq!(lane.members[0].state.phase, Phase::AwaitingApproval);
    }
    assert_eq!(lane.members[0].state.log.len(), 100);
    let now = 2_000 * SECOND;
    lane.members[0].facts.decisions = vec![approve("bob", now)];
    lane.members[0].facts.frozen = None;
    go(&mut lane, now);
    let log = &lane.members[0].state.log;
    assert_eq!((log.len(), log[100].phase), (101, Phase::RollingOut));
}
