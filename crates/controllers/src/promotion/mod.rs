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
use choreo_api::v1alpha1::{Promotion, PromotionDecision};
use choreo_engine::World;
use choreo_engine::promotion::machine::{self, Action, Finding, Member, Millis, Phase, State, Wait};
use choreo_engine::promotion::{self as engine, LaneKey, Reports};
use choreo_engine::world::{Kind, ObjectRef as EngineRef, complete};
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

/// How soon an action is tried again that somebody has to make possible first: permissions and quotas change without a word.
const REFUSED_AGAIN: Duration = Duration::from_secs(5);

/// What servers answered about a lane's promotions, and which are being asked. It is lost with the process, and asked for again.
#[derive(Default)]
struct Asked {
    running: BTreeSet<Attempt>,
    answered: BTreeMap<LaneKey, BTreeMap<Attempt, (Finding, String)>>,
}

/// A server is being asked, until this is dropped.
struct Asking {
    asked: Arc<Mutex<Asked>>,
    attempt: Attempt,
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.asked.lock().running.remove(&self.attempt);
    }
}

/// What came of an action.
enum Done {
    Well,
    /// The lane is to be looked at again after this time.
    Again(Duration),
    /// It cannot be done before somebody changes something.
    Refused(String),
}

/// See the module's documentation.
pub struct Promotions {
    context: Arc<Context>,
    queue: Queue<LaneKey>,
    manager: String,
    asked: Arc<Mutex<Asked>>,
    /// Why what the promotions of a lane need cannot be done, by promotion.
    troubles: Mutex<BTreeMap<LaneKey, BTreeMap<String, String>>>,
}

/// The lanes that a change concerns.
pub fn affected_by(before: &ControlSnapshot, after: &ControlSnapshot, change: &Change) -> BTreeSet<LaneKey> {
    let Some(reference) = engine_ref(&change.object) else {
        return BTreeSet::new();
    };
    let mut lanes = engine::lanes_of(&after.view.world, &reference);
    // What is gone concerned the lanes that it was seen to concern.
    if !after.view.world.contains(&reference) {
        lanes.extend(engine::lanes_of(&before.view.world, &reference));
    }
    lanes
}

/// Whether a change is somebody's word (a way back, say) or the end of a gate: what becomes of that is told before rollouts go on.
pub fn goes_first(change: &Change) -> bool {
    let Some(after) = &change.after else {
        return false;
    };
    match engine_ref(&change.object).map(|object| object.kind) {
        Some(Kind::Promotion | Kind::PromotionDecision | Kind::PromotionBypass) => change.before.is_none(),
        Some(Kind::Release) => after.labels().contains_key(engine::GATE_OF),
        _ => false,
    }
}

/// The lanes that there are.
pub fn all(snapshot: &ControlSnapshot) -> BTreeSet<LaneKey> {
    let world = &snapshot.view.world;
    let kinds = |kind: Kind| kind == Kind::Promotion || choreo_engine::binding::KINDS.contains(&kind);
    world
        .references()
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
            troubles: Mutex::default(),
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

    /// Removes the oldest of those that have ended. What went past everything stays, and what others of its set still look at.
    async fn prune(&self, snapshot: &ControlSnapshot, key: &LaneKey) -> Result<(), Retry> {
        let world = &snapshot.view.world;
        let component = || world.get::<choreo_api::v1alpha1::Component>(&key.namespace, &key.component);
        // Its pipeline says how many stay: nothing goes while that cannot be read.
        let Ok(component) = complete(component) else {
            return Ok(());
        };
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
        // The others of a set do what became of the one that leads it: it must not be gone before they have heard.
        over.retain(|p| engine::is_settled(world, p));
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

    /// What came of something that was done; what may pass by itself is tried again.
    fn done(&self, done: Result<(), Failure>, what: &str, key: &LaneKey) -> Result<Done, Retry> {
        match done {
            Ok(()) | Err(Failure::Terminating(_)) => Ok(Done::Well),
            Err(failure @ (Failure::Rejected(_) | Failure::Foreign(_) | Failure::FieldsOwned(_))) => {
                tracing::warn!(lane = %key, %failure, "cannot {what}");
                Ok(Done::Refused(format!("cannot {what}: {failure}")))
            }
            Err(failure) => Err(failure.while_doing(&format!("{what} of {key}"))),
        }
    }

    async fn act(&self, snapshot: &ControlSnapshot, key: &LaneKey, action: &Action) -> Result<Done, Retry> {
        let world = &snapshot.view.world;
        match action {
            Action::Run {
                promotion,
                gate,
                round,
                attempt,
            } => {
                let Some(object) = world.get::<Promotion>(&key.namespace, promotion) else {
                    return Ok(Done::Well);
                };
                if let Some(release) = engine::gate_release(world, object, gate, *round, *attempt) {
                    let release = match release {
                        Ok(release) => release,
                        Err(problems) => {
                            let why = problems.message();
                            return Ok(Done::Refused(format!(
                                "the job of gate {gate:?} has no cell: {why}"
                            )));
                        }
                    };
                    let made = children::apply(&self.context, &self.manager, snapshot, &release).await;
                    return self.done(made, &format!("run the job of gate {gate:?}"), key);
                }
                let Some(found) = engine::gate_for(world, &key.namespace, object, gate, *round) else {
                    return Ok(Done::Well);
                };
                if found.rule.is_some() {
                    // It is worked out with the next look.
                    return Ok(Done::Again(Duration::from_millis(1)));
                }
                let attempt = (uid_of(object), gate.to_string(), *round, *attempt);
                let question = probe::question(world, key, object, &found);
                self.ask(key, attempt, question);
                Ok(Done::Well)
            }
            Action::SetTarget { promotion, artifact } => {
                let Some(object) = world.get::<Promotion>(&key.namespace, promotion) else {
                    return Ok(Done::Well);
                };
                let set = binding::set(&self.context, world, key, object, artifact.as_deref()).await;
                self.done(set, "change the binding", key)
            }
        }
    }

    /// Asks a server, unless it is being asked.
    fn ask(&self, key: &LaneKey, attempt: Attempt, question: Result<probe::Question, String>) {
        {
            let mut asked = self.asked.lock();
            let answered = asked
                .answered
                .get(key)
                .is_some_and(|of| of.contains_key(&attempt));
            if answered || !asked.running.insert(attempt.clone()) {
                return;
            }
        }
        let asking = Asking {
            asked: Arc::clone(&self.asked),
            attempt,
        };
        let (queue, key) = (self.queue.clone(), key.clone());
        let client = self.context.control.client().clone();
        tokio::spawn(async move {
            let answer = match question {
                Ok(question) => question.ask(&client, &key.namespace).await,
                Err(why) => (Finding::Inconclusive, why),
            };
            {
                let mut asked = asking.asked.lock();
                let of_lane = asked.answered.entry(key.clone()).or_default();
                of_lane.insert(asking.attempt.clone(), answer);
            }
            queue.add_first(key);
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
        let Some(answered) = asked.answered.get(key) else {
            return Reports::new();
        };
        let named = |promotion: &Promotion| (uid_of(promotion), promotion.name_any());
        let names: BTreeMap<String, String> =
            engine::members(world, namespace, component, track, environment)
                .map(named)
                .collect();
        answered
            .iter()
            .filter_map(|((uid, gate, round, attempt), answer)| {
                let name = names.get(uid)?.clone();
                Some(((name, gate.clone(), *round, *attempt), answer.clone()))
            })
            .collect()
    }

    /// Forgets what servers answered about a lane, but for attempts that are still open.
    fn forget(&self, world: &World, key: &LaneKey, members: &[Member], states: &[State]) {
        let mut asked = self.asked.lock();
        let Some(answered) = asked.answered.get_mut(key) else {
            return;
        };
        let uid = |member: &Member| {
            world
                .get::<Promotion>(&key.namespace, &member.request.id)
                .map(|p| uid_of(p))
        };
        let going_on = members
            .iter()
            .zip(states)
            .filter(|(_, state)| !state.phase.is_final());
        let open: BTreeSet<Attempt> = going_on
            .filter_map(|(member, state)| Some((uid(member)?, state)))
            .flat_map(|(uid, state)| {
                let open = state.checks.iter().filter(|check| check.finding.is_none());
                open.map(move |check| (uid.clone(), check.name.to_string(), check.round, check.attempt))
            })
            .collect();
        answered.retain(|attempt, _| open.contains(attempt));
        if answered.is_empty() {
            asked.answered.remove(key);
        }
    }

    /// Says with what a promotion waits for why that does not come.
    fn explain(&self, key: &LaneKey, members: &[Member], waits: &mut [Option<Wait>]) {
        let troubles = self.troubles.lock();
        let Some(troubles) = troubles.get(key) else {
            return;
        };
        for (member, wait) in members.iter().zip(waits) {
            if let (Some(why), Some(wait)) = (troubles.get(&*member.request.id), wait) {
                wait.message = format!("{}: {why}", wait.message);
            }
        }
    }

    /// Keeps why actions could not be done. True if that is news.
    fn remember(&self, key: &LaneKey, found: &BTreeMap<String, String>) -> bool {
        let mut troubles = self.troubles.lock();
        let before = if found.is_empty() {
            troubles.remove(key).unwrap_or_default()
        } else {
            troubles.insert(key.clone(), found.clone()).unwrap_or_default()
        };
        before != *found
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
            self.forget(world, key, &[], &[]);
            self.remember(key, &BTreeMap::new());
            return Ok(Next::Settled);
        }
        let mut outcome = machine::step(&lane, now);
        self.explain(key, &lane.members, &mut outcome.waits);
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
            self.context.report_next(NAME, &live, status).await?;
            self.tell(&live, member, state);
        }
        self.forget(world, key, &lane.members, &outcome.states);
        let mut soon: Option<Duration> = None;
        let mut refused = BTreeMap::new();
        // What is to be done is of the states that are written now.
        let fresh = self.context.snapshot();
        for action in &outcome.actions {
            let wait = match self.act(&fresh, key, action).await? {
                Done::Well => continue,
                Done::Again(wait) => wait,
                Done::Refused(why) => {
                    let (Action::Run { promotion, .. } | Action::SetTarget { promotion, .. }) = action;
                    refused.insert(promotion.to_string(), why);
                    REFUSED_AGAIN
                }
            };
            soon = Some(soon.map_or(wait, |soon| soon.min(wait)));
        }
        if self.remember(key, &refused) {
            soon = Some(Duration::from_millis(1));
        }
        if outcome.states.iter().any(|state| state.phase.is_final()) {
            self.prune(&fresh, key).await?;
        }
        if outcome.wake.is_some_and(|at| at <= now) {
            // It goes on at once, as with the first write of a rollout: that waits its turn.
            return Ok(Next::After(Duration::from_millis(1)));
        }
        let until = outcome.wake.map(|at| {
            let left = u64::try_from(at - now).unwrap_or_default();
            Duration::from_millis(left)
        });
        Ok(match (soon, until) {
            // The end of a soak, of a pause or of an approval is told as soon as what people say.
            (None, Some(end)) => Next::FirstAfter(end),
            (Some(soon), Some(end)) if end <= soon => Next::FirstAfter(end),
            (Some(soon), _) => Next::After(soon),
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
    let decision = snapshot
        .view
        .world
        .get::<PromotionDecision>(&namespace, &live.name_any());
    let about = EngineRef::new(Kind::Promotion, &namespace, promotion);
    if decision.is_some_and(|decision| engine::is_of_another(&snapshot.view.world, &about, decision)) {
        return Err(format!(
            "it was written before Promotion {promotion:?} was made, about another one of that name, and does not count: write it again"
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
