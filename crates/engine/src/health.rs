//! Health: what a live object's own status says about it.
//!
//! The rules are data (`health/rules.json`): for each kind an ordered list, of which the first that matches decides. To
//! teach the platform a kind, add an entry there, or to the `healthRules` of a DataPlane; nothing else changes. A kind without rules is judged by the standard
//! conditions that it has (`Ready`, `Available`, ... as in KEP-1623 and kstatus), and is healthy by existing when it has none.
//!
//! A release is as healthy as its worst object ([`worst`]). A workload that still rolls out while one of its pods cannot
//! start is worse than its own status says ([`Health::with_pods`]): the crash is known minutes before the deadline passes.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, LazyLock},
};

use choreo_api::v1alpha1::HealthRules;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

mod paths;

use paths::{first_text, lookup, matches, render};

/// How well an object is, from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum State {
    /// It does what it should.
    Healthy,
    /// It is stopped on purpose.
    Suspended,
    /// It is on its way.
    Progressing,
    /// Nobody can tell.
    Unknown,
    /// It should be there and is not.
    Missing,
    /// It failed, or it serves worse than it should.
    Degraded,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Healthy => "Healthy",
            Self::Suspended => "Suspended",
            Self::Progressing => "Progressing",
            Self::Unknown => "Unknown",
            Self::Missing => "Missing",
            Self::Degraded => "Degraded",
        })
    }
}

/// The judgement of one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// How well it is.
    pub state: State,
    /// One word for machines.
    pub reason: String,
    /// One line for people.
    pub message: String,
}

impl Health {
    /// A judgement.
    pub fn new(state: State, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            state,
            reason: reason.into(),
            message: message.into(),
        }
    }

    /// The judgement of an object that should be there and is not.
    pub fn missing() -> Self {
        Self::new(State::Missing, "Missing", "the object is not in the cluster")
    }

    /// Whether the pods of a workload may say more than it does itself: while it progresses, and where all that it says is that none
    /// of them is available.
    pub fn is_explained_by_pods(&self) -> bool {
        self.state == State::Progressing || (self.state == State::Degraded && self.reason == "Unavailable")
    }

    /// Takes the pods of a workload into account: while the workload is progressing, a degraded pod decides.
    #[must_use]
    pub fn with_pods<'a>(self, pods: impl IntoIterator<Item = &'a Value>) -> Self {
        if !self.is_explained_by_pods() {
            return self;
        }
        let failed = pods.into_iter().find_map(|pod| {
            let health = assess(pod);
            (health.state == State::Degraded).then(|| {
                let name = pod
                    .pointer("/metadata/name")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                Self::new(
                    State::Degraded,
                    health.reason,
                    format!("pod {name}: {}", health.message),
                )
            })
        });
        failed.unwrap_or(self)
    }
}

/// The worst of several judgements, the first one among equals; `None` for none.
pub fn worst<'a, T>(all: impl IntoIterator<Item = (T, &'a Health)>) -> Option<(T, &'a Health)> {
    let mut found: Option<(T, &Health)> = None;
    for (key, health) in all {
        if found.as_ref().is_none_or(|(_, w)| health.state > w.state) {
            found = Some((key, health));
        }
    }
    found
}

/// Judges a live object by the built-in rules.
pub fn assess(object: &Value) -> Health {
    RULES.assess(object)
}

static RULES: LazyLock<Rules> = LazyLock::new(|| {
    // A malformed file is caught by the test below; shipped code degrades to the standard conditions rather than panic.
    Rules::parse(include_str!("health/rules.json")).unwrap_or_default()
});

/// A set of health rules by kind. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// What a data plane says comes before what the platform knows.
    layers: Vec<Arc<Layer>>,
}

#[derive(Debug, Default)]
struct Layer {
    exact: BTreeMap<(String, String), KindRules>,
    by_suffix: Vec<KindRules>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct KindRules {
    #[serde(default)]
    group: String,
    /// The kind, or `*Suffix` for every kind of the group that ends so.
    kind: String,
    #[serde(default = "default_conditions")]
    conditions: String,
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    #[serde(default)]
    when: Vec<Test>,
    state: State,
    /// Taken from the condition that matched when absent.
    reason: Option<String>,
    message: Option<String>,
}

/// One test; all of a rule's tests must hold.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Test {
    /// `status.observedGeneration` is behind `metadata.generation`.
    Stale { stale: bool },
    /// A condition of this type has this status (and reason).
    Condition {
        condition: String,
        status: String,
        reason: Option<String>,
    },
    /// The value equals this one.
    Is { path: String, is: Value },
    /// One of the values is in this list.
    In {
        path: String,
        /// `in` is a word of CEL, which the definition of data planes is checked with.
        #[serde(alias = "oneOf")]
        r#in: Vec<Value>,
    },
    /// The value is there at all.
    Present { path: String, present: bool },
    /// The number (0 when absent) is less than the other path's.
    Less { path: String, less: String },
    /// The value differs from the other path's.
    Differs { path: String, differs: String },
}

fn default_conditions() -> String {
    "status.conditions".to_owned()
}

impl Rules {
    /// Parses a list of rules by kind.
    ///
    /// # Errors
    /// When the text is not of the form of `health/rules.json`.
    pub fn parse(json: &str) -> Result<Self, serde_json::Error> {
        Ok(Self::of(serde_json::from_str(json)?))
    }

    /// The rules that the platform knows.
    pub fn builtin() -> Self {
        RULES.clone()
    }

    /// The rules that a data plane says, before those that the platform knows.
    ///
    /// # Errors
    /// When they are not of the form of rules.
    pub fn with(own: &[HealthRules]) -> Result<Self, serde_json::Error> {
        let mut rules = Self::builtin();
        if !own.is_empty() {
            let own = Self::of(serde_json::from_value(serde_json::to_value(own)?)?);
            rules.layers.splice(0..0, own.layers);
        }
        Ok(rules)
    }

    fn of(kinds: Vec<KindRules>) -> Self {
        let mut layer = Layer::default();
        for kind in kinds {
            if kind.kind.starts_with('*') {
                layer.by_suffix.push(kind);
            } else {
                layer.exact.insert((kind.group.clone(), kind.kind.clone()), kind);
            }
        }
        Self {
            layers: vec![Arc::new(layer)],
        }
    }

    /// Judges a live object.
    pub fn assess(&self, object: &Value) -> Health {
        if object.pointer("/metadata/deletionTimestamp").is_some() {
            return Health::new(State::Progressing, "Terminating", "the object is being deleted");
        }
        let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
        let api_version = object
            .get("apiVersion")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let rules = self.of_kind(group, kind);
        rules.map_or_else(|| by_standard_conditions(object), |rules| rules.assess(object))
    }

    /// Whether there are rules for a kind.
    pub fn has(&self, group: &str, kind: &str) -> bool {
        self.of_kind(group, kind).is_some()
    }

    fn of_kind(&self, group: &str, kind: &str) -> Option<&KindRules> {
        let suffix =
            |r: &&KindRules| r.group == group && r.kind.strip_prefix('*').is_some_and(|s| kind.ends_with(s));
        let key = (group.to_owned(), kind.to_owned());
        self.layers.iter().find_map(|layer| {
            layer
                .exact
                .get(&key)
                .or_else(|| layer.by_suffix.iter().find(suffix))
        })
    }
}

impl KindRules {
    fn assess(&self, object: &Value) -> Health {
        for rule in &self.rules {
            let mut condition = None;
            if rule
                .when
                .iter()
                .all(|test| test.holds(object, &self.conditions, &mut condition))
            {
                let from_condition = |field: &str| {
                    condition
                        .and_then(|c| c.get(field))
                        .and_then(Value::as_str)
                        .unwrap_or_default()
                        .to_owned()
                };
                let text = |given: &Option<String>, field| {
                    given
                        .as_ref()
                        .map_or_else(|| from_condition(field), |template| render(template, object))
                };
                return Health::new(
                    rule.state,
                    text(&rule.reason, "reason"),
                    text(&rule.message, "message"),
                );
            }
        }
        by_standard_conditions(object)
    }
}

impl Test {
    fn holds<'a>(&self, object: &'a Value, conditions: &str, found: &mut Option<&'a Value>) -> bool {
        match self {
            Self::Stale { stale } => is_stale(object) == *stale,
            Self::Condition {
                condition,
                status,
                reason,
            } => {
                let is_it = |c: &&Value| {
                    let text = |field: &str| c.get(field).and_then(Value::as_str).unwrap_or_default();
                    text("type") == condition
                        && text("status") == status
                        && reason.as_ref().is_none_or(|r| r == text("reason"))
                };
                let mut lists = Vec::new();
                matches(object, conditions, &mut lists);
                let hit = lists
                    .into_iter()
                    .filter_map(Value::as_array)
                    .flatten()
                    .find(is_it);
                if hit.is_some() && found.is_none() {
                    *found = hit;
                }
                hit.is_some()
            }
            Self::Is { path, is } => lookup(object, path).is_some_and(|v| *v == *is),
            Self::In { path, r#in } => {
                let mut values = Vec::new();
                matches(object, path, &mut values);
                values.iter().any(|v| r#in.contains(v))
            }
            Self::Present { path, present } => lookup(object, path).is_some() == *present,
            Self::Less { path, less } => number(object, path) < number(object, less),
            Self::Differs { path, differs } => first_text(object, path) != first_text(object, differs),
        }
    }
}

fn number(object: &Value, path: &str) -> i64 {
    lookup(object, path).and_then(|v| v.as_i64()).unwrap_or(0)
}

/// Whether the object's controller has not yet seen its newest version. Objects whose status has no observedGeneration are not stale.
fn is_stale(object: &Value) -> bool {
    let generation = object
        .pointer("/metadata/generation")
        .and_then(Value::as_i64)
        .unwrap_or(0);
    let observed = object
        .pointer("/status/observedGeneration")
        .and_then(Value::as_i64);
    observed.unwrap_or(0) < generation
}

/// The conditions that mean the same for every kind that has them, in the order in which they decide.
const STANDARD: &[(&str, &str, State)] = &[
    ("Stalled", "True", State::Degraded),
    ("Failed", "True", State::Degraded),
    ("Degraded", "True", State::Degraded),
    ("Accepted", "False", State::Degraded),
    ("Reconciling", "True", State::Progressing),
    ("Ready", "True", State::Healthy),
    ("Ready", "False", State::Progressing),
    ("Ready", "Unknown", State::Progressing),
    ("Available", "True", State::Healthy),
    ("Available", "False", State::Progressing),
    ("Programmed", "True", State::Healthy),
    ("Programmed", "False", State::Progressing),
    ("Established", "True", State::Healthy),
    ("Accepted", "True", State::Healthy),
    ("Progressing", "True", State::Progressing),
];

fn by_standard_conditions(object: &Value) -> Health {
    let observed = object.pointer("/status/observedGeneration").is_some();
    if observed && is_stale(object) {
        return Health::new(
            State::Progressing,
            "NotObserved",
            "the newest version is not yet observed",
        );
    }
    let empty = Vec::new();
    let conditions = object
        .pointer("/status/conditions")
        .and_then(Value::as_array)
        .unwrap_or(&empty);
    for (type_, status, state) in STANDARD {
        let text = |c: &Value, field: &str| {
            c.get(field)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        if let Some(c) = conditions
            .iter()
            .find(|c| text(c, "type") == *type_ && text(c, "status") == *status)
        {
            let reason = text(c, "reason");
            let reason = if reason.is_empty() {
                (*type_).to_owned()
            } else {
                reason
            };
            return Health::new(*state, reason, text(c, "message"));
        }
    }
    Health::new(State::Healthy, "Exists", "the object exists")
}

/// What the status of a live object says beside its health that is worth keeping in the release: when a task ran.
pub fn facts(object: &Value) -> Option<Value> {
    let fields: &[&str] = match (object.get("apiVersion")?.as_str()?, object.get("kind")?.as_str()?) {
        ("batch/v1", "CronJob") => &["lastScheduleTime", "lastSuccessfulTime"],
        ("batch/v1", "Job") => &["startTime", "completionTime"],
        _ => return None,
    };
    let status = object.get("status")?.as_object()?;
    let facts: Map<String, Value> = fields
        .iter()
        .filter_map(|field| {
            Some((
                (*field).to_owned(),
                status.get(*field).filter(|v| v.is_string())?.clone(),
            ))
        })
        .collect();
    (!facts.is_empty()).then_some(Value::Object(facts))
}

#[cfg(test)]
mod tests;
