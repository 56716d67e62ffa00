//! The promotion controller: sees to it that what the state machine ([`choreo_engine::promotion`]) says is done.
//!
//! ```text
//!   lane      pure: the promotions to one binding, what was decided about them, how source and target are doing
//!   step      pure: what each of them is now, what is to be done, when to look again
//!   record    statuses, those that end before those that begin
//!   act       Jobs of gates as releases, questions to servers, the binding
//! ```
//!
//! What may run is decided by the statuses alone, which the plan of the binding reads: a crash after any of these writes costs
//! time and nothing else. Nothing is polled; a time that is waited for is a timer.

mod access;
mod binding;
mod probe;
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::write::events::Weight;
use choreo_api::labels;
use choreo_api::v1alpha1::Promotion;
use choreo_engine::promotion::machine::{self, Action, Finding, Member, Millis, Phase, State};
use choreo_engine::promotion::{self as engine, LaneKey, Reports};
use choreo_engine::world::Kind;
use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::core::DynamicObject;
use parking_lot::Mutex;

use crate::context::Context;
use crate::flow::children;
use crate::runtime::{Change, Next, ObjectRef, Queue, Reconcile, Retry};
use crate::view::{ControlSnapshot, engine_ref};
use crate::write::Failure;

/// Name of the controller.
pub const NAME: &str = "promotion";

/// How many promotions that have ended are kept of a lane, if its way does not say.
const HISTORY: usize = 20;

/// An attempt at a gate: uid of the promotion (names come again, and other organizations have the same), gate, round, attempt.
type Attempt = (String, String, u32, u32);

/// What servers answered, and which are being asked. It is lost with the process, and asked for again.
#[derive(Default)]
pub(crate) struct Asked {
    running: BTreeSet<Attempt>,
    answered: BTreeMap<Attempt, (Finding, String)>,
}

/// See the module's documentation.
pub struct Promotions {
    context: Arc<Context>,
    queue: Queue<LaneKey>,
    manager: String,
    asked: Arc<Mutex<Asked>>,
}

/// The lanes that a change concerns.
pub fn affected_by(before: &ControlSnapshot, after: &ControlSnapshot, change: &Change) -> BTreeSet<LaneKey> {
    let Some(reference) = engine_ref(&change.object) else {
        return BTreeSet::new();
    };
    let mut lanes = engine::lanes_of(&after.view.world, &reference);
    // What is gone concerned the lanes that it was seen to concern.
    if after.view.world.get_any(&reference).is_none() {
        lanes.extend(engine::lanes_of(&before.view.world, &reference));
    }
    lanes
}

/// The lanes that there are.
pub fn all(snapshot: &ControlSnapshot) -> BTreeSet<LaneKey> {
    let world = &snapshot.view.world;
    let kinds = |kind: Kind| kind == Kind::Promotion || choreo_engine::binding::KINDS.contains(&kind);
    world
        .iter()
        .map(|object| object.reference())
        .filter(|reference| kinds(reference.kind))
        .flat_map(|reference| engine::lanes_of(world, &reference))
        .collect()
}

pub(crate) fn address(namespace: &str, name: &str) -> ObjectRef {
    ObjectRef::new(labels::GROUP, Kind::Promotion.as_str(), namespace, name)
}

fn now() -> Millis {
    Timestamp::now().as_millisecond()
}

impl Promotions {
    /// A controller over `context`, which looks at a lane again through `queue` when a server has answered.
    pub fn new(context: Arc<Context>, queue: Queue<LaneKey>) -> Self {
        Self {
            context,
            queue,
            manager: labels::field_manager(NAME),
            asked: Arc::default(),
        }
    }

    fn failed(&self, failure: Failure, what: &str, key: &LaneKey) -> Result<(), Retry> {
        match failure {
            Failure::Terminating(_) => Ok(()),
            failure => Err(failure.while_doing(&format!("{what} of {key}"))),
        }
    }

    /// Makes the promotions that nobody made, and that should be. True if there were any.
    async fn make(&self, snapshot: &ControlSnapshot, key: &LaneKey) -> Result<bool, Retry> {
        let wanted = engine::wanted(&snapshot.view.world, key);
        for promotion in &wanted {
            let made = async {
                let resource = self.context.resource(&address("", "").kind)?;
                let mut object = serde_json::to_value(promotion).unwrap_or_default();
                if let Some(object) = object.as_object_mut() {
                    object.remove("status");
                }
                self.context
                    .control
                    .apply(resource, &self.manager, &object, true)
                    .await
            };
            if let Err(failure) = made.await {
                self.failed(failure, "make the promotion", key)?;
            }
        }
        Ok(!wanted.is_empty())
    }

    /// Removes the oldest of those that have ended. What went past everything stays.
    async fn prune(&self, snapshot: &ControlSnapshot, key: &LaneKey) -> Result<(), Retry> {
        let world = &snapshot.view.world;
        let component = world.get::<choreo_api::v1alpha1::Component>(&key.namespace, &key.component);
        let pipeline =
            component.and_then(|c| engine::pipeline_of(world, &key.namespace, &c.spec.owner.project_name));
        let limit = pipeline
            .and_then(|p| engine::ways_into(p, &key.environment).find_map(|way| way.target.history_limit))
            .and_then(|limit| usize::try_from(limit).ok())
            .unwrap_or(HISTORY);
        let all = engine::members(
            world,
            &key.namespace,
            &key.component,
            &key.track,
            &key.environment,
        );
        let bypassed = |p: &Promotion| p.status.as_ref().is_some_and(|s| s.bypass.is_some());
        let mut over: Vec<&Promotion> = all.filter(|p| engine::is_over(p) && !bypassed(p)).collect();
        over.sort_by_cached_key(|p| engine::place_of(world, p));
        let excess = over.len().saturating_sub(limit);
        for old in over.into_iter().take(excess) {
            let object = address(&key.namespace, &old.name_any());
            let removed = async {
                let resource = self.context.resource(&object.kind)?;
                self.context
                    .control
                    .delete(resource, &object, old.metadata.uid.clone())
                    .await
            };
            if let Err(failure) = removed.await {
                self.failed(failure, "remove an old promotion", key)?;
            }
        }
        Ok(())
    }

    async fn act(
        &self,
        snapshot: &ControlSnapshot,
        key: &LaneKey,
        action: &Action,
    ) -> Result<Option<Duration>, Retry> {
        let world = &snapshot.view.world;
        match action {
            Action::Run {
                promotion,
                gate,
                round,
                attempt,
            } => {
                let Some(object) = world.get::<Promotion>(&key.namespace, promotion) else {
                    return Ok(None);
                };
                if let Some(release) = engine::gate_release(world, object, gate, *round, *attempt) {
                    let Ok(release) = release else {
                        // No cell to run it in: its time-out says so.
                        return Ok(None);
                    };
                    let made = children::apply(&self.context, &self.manager, snapshot, &release).await;
                    if let Err(failure) = made {
                        self.failed(failure, "run a gate", key)?;
                    }
                    return Ok(None);
                }
                let Some(found) = engine::gate_for(world, &key.namespace, object, gate, *round) else {
                    return Ok(None);
                };
                if found.rule.is_some() {
                    // It is worked out with the next look.
                    return Ok(Some(Duration::from_millis(1)));
                }
                let attempt = (uid_of(object), gate.to_string(), *round, *attempt);
                let question = probe::question(world, key, object, &found);
                self.ask(key, attempt, question);
                Ok(None)
            }
            Action::SetTarget { promotion, artifact } => {
                let Some(object) = world.get::<Promotion>(&key.namespace, promotion) else {
                    return Ok(None);
                };
                let set = binding::set(&self.context, world, key, object, artifact.as_deref()).await;
                if let Err(failure) = set {
                    self.failed(failure, "change the binding", key)?;
                }
                Ok(None)
            }
        }
    }

    /// Asks a server, unless it is being asked.
    fn ask(&self, key: &LaneKey, attempt: Attempt, question: Result<probe::Question, String>) {
        {
            let mut asked = self.asked.lock();
            if asked.answered.contains_key(&attempt) || !asked.running.insert(attempt.clone()) {
                return;
            }
        }
        let (asked, queue, key) = (Arc::clone(&self.asked), self.queue.clone(), key.clone());
        let client = self.context.control.client().clone();
        tokio::spawn(async move {
            let answer = match question {
                Ok(question) => question.ask(&client, &key.namespace).await,
                Err(why) => (Finding::Inconclusive, why),
            };
            {
                let mut asked = asked.lock();
                asked.running.remove(&attempt);
                asked.answered.insert(attempt, answer);
            }
            queue.add(key);
        });
    }

    /// Tells of what has happened to a promotion, for those who look at events.
    fn tell(&self, live: &DynamicObject, member: &Member, state: &State) {
        let phase = |phase: Phase| format!("{phase:?}");
        for entry in state.log.iter().skip(member.state.log.len()) {
            let type_ = match entry.phase {
                Phase::Rejected | Phase::Failed | Phase::RolledBack => Weight::Warning,
                _ => Weight::Normal,
            };
            self.context
                .events
                .record(live, type_, NAME, &phase(entry.phase), &entry.message);
        }
        if let (Some(mark), None) = (&state.bypass, &member.state.bypass) {
            let note = format!(
                "{} goes past rules, approvals, gates and freezes: {}",
                &*mark.by, &*mark.why
            );
            self.context
                .events
                .record(live, Weight::Warning, NAME, "Bypassed", &note);
        }
    }

    /// What servers answered about a lane's promotions, and nobody has made use of yet.
    fn reports(&self, snapshot: &ControlSnapshot, key: &LaneKey) -> Reports {
        let world = &snapshot.view.world;
        let LaneKey {
            namespace,
            component,
            track,
            environment,
        } = key;
        let asked = self.asked.lock();
        let mut reports = Reports::new();
        for promotion in engine::members(world, namespace, component, track, environment) {
            let uid = uid_of(promotion);
            let first = (uid.clone(), String::new(), 0, 0);
            let of_it = asked
                .answered
                .range(first..)
                .take_while(|((of, ..), _)| *of == uid);
            reports.extend(of_it.map(|((_, gate, round, attempt), answer)| {
                (
                    (promotion.name_any(), gate.clone(), *round, *attempt),
                    answer.clone(),
                )
            }));
        }
        reports
    }

    /// Forgets what servers answered, but for attempts of this promotion that are still open.
    fn forget(&self, promotion: &Promotion, state: &State) {
        let uid = uid_of(promotion);
        let open = |(_, gate, round, attempt): &Attempt| {
            !state.phase.is_final()
                && state.checks.iter().any(|check| {
                    *check.name == **gate
                        && (check.round, check.attempt) == (*round, *attempt)
                        && check.finding.is_none()
                })
        };
        let first = (uid.clone(), String::new(), 0, 0);
        let mut asked = self.asked.lock();
        let of_it = asked.answered.range(first..).map(|(attempt, _)| attempt);
        let settled: Vec<Attempt> = of_it
            .take_while(|(of, ..)| *of == uid)
            .filter(|attempt| !open(attempt))
            .cloned()
            .collect();
        for attempt in settled {
            asked.answered.remove(&attempt);
        }
    }
}

fn uid_of(promotion: &Promotion) -> String {
    promotion.metadata.uid.clone().unwrap_or_default()
}

impl Reconcile for Promotions {
    type Key = LaneKey;

    fn name(&self) -> &'static str {
        NAME
    }

    async fn reconcile(&self, key: &LaneKey) -> Result<Next, Retry> {
        let snapshot = self.context.snapshot();
        if self.make(&snapshot, key).await? {
            return Ok(Next::After(Duration::from_millis(1)));
        }
        let world = &snapshot.view.world;
        let now = now();
        let reports = self.reports(&snapshot, key);
        let lane = engine::lane(world, key, &reports, now);
        if lane.members.is_empty() {
            return Ok(Next::Settled);
        }
        let outcome = machine::step(&lane, now);
        for i in outcome.order.iter().copied() {
            let (member, state) = (&lane.members[i], &outcome.states[i]);
            if member.state.phase.is_final() {
                continue;
            }
            let name = member.request.id.to_string();
            let Some(live) = snapshot.get(&address(&key.namespace, &name)) else {
                continue;
            };
            let status = report::status(world, key, member, state, outcome.waits[i].as_ref());
            self.context.report(NAME, &live, status).await?;
            self.tell(&live, member, state);
            if let Some(promotion) = world.get::<Promotion>(&key.namespace, &name) {
                self.forget(promotion, state);
            }
        }
        let mut soon: Option<Duration> = None;
        // What is to be done is of the states that are written now.
        let fresh = self.context.snapshot();
        for action in &outcome.actions {
            if let Some(wait) = self.act(&fresh, key, action).await? {
                soon = Some(wait);
            }
        }
        if outcome.states.iter().any(|state| state.phase.is_final()) {
            self.prune(&fresh, key).await?;
        }
        let until = outcome.wake.map(|at| {
            let left = u64::try_from(at - now).unwrap_or_default();
            Duration::from_millis(left.max(1))
        });
        Ok(match (soon, until) {
            (Some(a), Some(b)) => Next::After(a.min(b)),
            (Some(wait), None) | (None, Some(wait)) => Next::After(wait),
            (None, None) => Next::Settled,
        })
    }
}

/// What a decision or an emergency that somebody wrote amounts to.
pub fn about(snapshot: &ControlSnapshot, live: &DynamicObject) -> Result<String, String> {
    let namespace = live.namespace().unwrap_or_default();
    let spec = &live.data["spec"];
    let promotion = spec["promotionRef"].as_str().unwrap_or_default();
    let by = spec["user"].as_str();
    if snapshot
        .view
        .world
        .get::<Promotion>(&namespace, promotion)
        .is_none()
    {
        return Err(format!(
            "Promotion {promotion:?} not found in namespace {namespace:?}: correct spec.promotionRef"
        ));
    }
    match by {
        Some(by) => Ok(format!(
            "recorded for {by}; Promotion {promotion:?} says what it amounts to"
        )),
        None => Err(
            "nobody is known to have written it: it must be written through the platform's admission"
                .to_owned(),
        ),
    }
}
