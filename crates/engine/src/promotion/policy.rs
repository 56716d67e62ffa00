//! What a way into an environment demands, as the state machine takes it.

use choreo_api::v1alpha1::{Gate, RolloutType, TargetEnvironment};
use choreo_promotion as machine;
use machine::{Approvers, GateKind, Millis, Pause, Policy, Step, Strategy, Text};

const SECOND: Millis = 1000;
const MINUTE: Millis = 60 * SECOND;
/// How long a promotion may wait, if nobody says otherwise.
const PATIENCE: Millis = 7 * 24 * 60 * MINUTE;
/// How long a new revision may take to be healthy, if nobody says otherwise.
const PROGRESS_DEADLINE: Millis = 10 * MINUTE;
/// For how long a new revision has to fail: a Deployment says of the pods of the revision before what they could not do, until it
/// has got rid of them.
const FAILURE_GRACE: Millis = 5 * SECOND;
/// How long an attempt at a gate may take, if nobody says otherwise.
const GATE_TIMEOUT: Millis = 5 * MINUTE;
/// How long to wait before another attempt, if nobody says otherwise.
const RETRY_AFTER: Millis = 10 * SECOND;
/// How long the old revision stays after a switch, if nobody says otherwise.
const SCALE_DOWN_DELAY: Millis = 30 * SECOND;

/// A duration such as `1m30s` in milliseconds. The schema has checked its form; what is too large is as long as can be.
pub fn milliseconds(text: &str) -> Millis {
    let mut total = 0.0_f64;
    let mut rest = text;
    while let Some(end) = rest.find(|c: char| !c.is_ascii_digit() && c != '.') {
        let (number, tail) = rest.split_at(end);
        let end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let factor = match unit {
            "ms" => 1.0,
            "s" => 1e3,
            "m" => 6e4,
            _ => 3.6e6,
        };
        total += number.parse::<f64>().unwrap_or_default() * factor;
        rest = tail;
    }
    // A century is for ever; beyond it sums of times would overflow.
    #[expect(clippy::cast_possible_truncation, reason = "bounded just here")]
    let total = total.min(3.2e12) as Millis;
    total
}

fn or(text: Option<&String>, otherwise: Millis) -> Millis {
    text.map_or(otherwise, |text| milliseconds(text))
}

fn gate(gate: &Gate) -> machine::Gate {
    machine::Gate {
        name: Text::from(gate.name.as_str()),
        stage: u32::try_from(gate.stage.unwrap_or_default()).unwrap_or_default(),
        kind: match &gate.healthy_for {
            Some(long) => GateKind::Soak(milliseconds(long)),
            None => GateKind::Check,
        },
        timeout: or(gate.timeout.as_ref(), GATE_TIMEOUT).max(SECOND),
        attempts: 1 + u32::try_from(gate.retries.unwrap_or_default()).unwrap_or_default(),
        interval: or(gate.retry_after.as_ref(), RETRY_AFTER),
    }
}

fn texts(all: &[String]) -> Vec<Text> {
    all.iter().map(|text| Text::from(text.as_str())).collect()
}

/// What the way demands. `None` stands for a way without demands, as the way back has; `steps` says whether two revisions of the
/// component can be told apart by the gateway.
pub fn policy(target: Option<&TargetEnvironment>, steps: bool) -> Policy {
    let Some(target) = target else {
        return Policy {
            approvers: None,
            gates: Vec::new(),
            strategy: Strategy::InPlace,
            rollback_on_failure: false,
            progress_deadline: PROGRESS_DEADLINE,
            failure_grace: FAILURE_GRACE,
            patience: PATIENCE,
        };
    };
    let approvals = target.approvals.clone().unwrap_or_default();
    let approvers = target.needs_approval().then(|| Approvers {
        minimum: usize::try_from(approvals.minimum.unwrap_or(1))
            .unwrap_or(1)
            .max(1),
        users: texts(&approvals.users),
        groups: texts(&approvals.groups),
        not_author: approvals.not_author,
        valid_for: approvals.valid_for.as_deref().map(milliseconds),
    });
    let strategy = target.strategy.as_ref();
    Policy {
        approvers,
        gates: target.gates.iter().map(gate).collect(),
        strategy: if steps {
            in_steps(target)
        } else {
            Strategy::InPlace
        },
        rollback_on_failure: strategy.is_some_and(|s| s.rollback_on_failure),
        progress_deadline: or(
            strategy.and_then(|s| s.progress_deadline.as_ref()),
            PROGRESS_DEADLINE,
        ),
        failure_grace: FAILURE_GRACE,
        patience: or(target.expires_after.as_ref(), PATIENCE),
    }
}

fn in_steps(target: &TargetEnvironment) -> Strategy {
    let Some(strategy) = &target.strategy else {
        return Strategy::InPlace;
    };
    let analysis: Vec<machine::Gate> = strategy.analysis.iter().map(gate).collect();
    let analyzed = !analysis.is_empty();
    match strategy.type_ {
        RolloutType::RollingUpdate | RolloutType::AllAtOnce => Strategy::InPlace,
        RolloutType::Canary => {
            let step = |weight: i32, pause| Step {
                weight: u8::try_from(weight.clamp(0, 100)).unwrap_or(100),
                pause,
                analysis: analyzed,
            };
            let steps = strategy.steps.iter().map(|s| {
                let pause = s
                    .pause
                    .as_deref()
                    .map_or(Pause::UntilTold, |p| Pause::For(milliseconds(p)));
                step(s.weight, pause)
            });
            let mut steps: Vec<Step> = steps.collect();
            if steps.is_empty() {
                steps = [20, 50].map(|weight| step(weight, Pause::For(MINUTE))).to_vec();
            }
            Strategy::Steps(steps, analysis)
        }
        RolloutType::BlueGreen => {
            let preview = Step {
                weight: 0,
                pause: if strategy.auto_switch {
                    Pause::For(0)
                } else {
                    Pause::UntilTold
                },
                analysis: analyzed,
            };
            let switched = Step {
                weight: 100,
                pause: Pause::For(or(strategy.scale_down_delay.as_ref(), SCALE_DOWN_DELAY)),
                analysis: false,
            };
            Strategy::Steps(vec![preview, switched], analysis)
        }
    }
}

/// The gate of a way with this name.
pub fn gate_of<'a>(target: &'a TargetEnvironment, name: &str) -> Option<&'a Gate> {
    target.gates.iter().find(|gate| gate.name == name)
}

/// The analysis of a way with this name.
pub fn analysis_of<'a>(target: &'a TargetEnvironment, name: &str) -> Option<&'a Gate> {
    let strategy = target.strategy.as_ref()?;
    strategy.analysis.iter().find(|gate| gate.name == name)
}
