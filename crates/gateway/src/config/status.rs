//! What the gateway says about the objects that it follows.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::object::{Kind, Name};
use super::world::Written;
use crate::api::GATEWAY_API;

/// Name under which statuses are written, which is also the `controllerName` of the classes that are followed.
pub const CONTROLLER: &str = "openchoreo.dev/local-gateway";

/// Who wrote statuses before there was a real gateway. What it said is not true, and goes.
const PREDECESSOR: &str = "openchoreo.dev/simulated-gateway";

/// A condition, without what only the moment decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) kind: &'static str,
    pub(crate) holds: bool,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Condition {
    pub(crate) fn new(
        kind: &'static str,
        holds: bool,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            holds,
            reason,
            message: message.into(),
        }
    }
}

/// The status of one object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// Of a GatewayClass, a Backend or an HTTPRouteFilter.
    Conditions(Vec<Condition>),
    Gateway {
        addresses: Vec<String>,
        conditions: Vec<Condition>,
        listeners: Vec<ListenerStatus>,
    },
    /// Of a route: one for each parent.
    Parents(Vec<(Value, Vec<Condition>)>),
    /// Of a policy: one for each Gateway.
    Ancestors(Vec<(Name, Vec<Condition>)>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ListenerStatus {
    pub(crate) name: String,
    pub(crate) attached: usize,
    pub(crate) kinds: Vec<Kind>,
    pub(crate) conditions: Vec<Condition>,
}

impl Verdict {
    /// The status that should be there, given the one that is: times of conditions stay while they hold, and so do the entries of
    /// other controllers.
    pub(crate) fn status(&self, written: &Written, now: Timestamp) -> Value {
        let conditions = |list: &[Condition], before: Option<&Value>| -> Value {
            list.iter()
                .map(|condition| render(condition, before, written.generation, now))
                .collect()
        };
        let current = &written.status;
        match self {
            Self::Conditions(list) => json!({"conditions": conditions(list, current.get("conditions"))}),
            Self::Gateway {
                addresses,
                conditions: list,
                listeners,
            } => {
                let known = current.get("listeners").and_then(Value::as_array);
                let of = |name: &str| {
                    let mut listeners = known.into_iter().flatten();
                    listeners
                        .find(|listener| listener["name"] == name)
                        .and_then(|listener| listener.get("conditions"))
                };
                let listeners: Vec<Value> = listeners
                    .iter()
                    .map(|listener| {
                        let kinds = listener
                            .kinds
                            .iter()
                            .map(|kind| json!({"group": kind.group(), "kind": kind.as_str()}));
                        json!({
                            "name": listener.name,
                            "attachedRoutes": listener.attached,
                            "supportedKinds": kinds.collect::<Vec<_>>(),
                            "conditions": conditions(&listener.conditions, of(&listener.name)),
                        })
                    })
                    .collect();
                let addresses: Vec<Value> = addresses
                    .iter()
                    .map(|value| json!({"type": "IPAddress", "value": value}))
                    .collect();
                json!({
                    "addresses": addresses,
                    "conditions": conditions(list, current.get("conditions")),
                    "listeners": listeners,
                })
            }
            Self::Parents(parents) => {
                let (ours, mut entries) = split(current.get("parents"));
                for (parent, list) in parents {
                    let before = ours.iter().find(|entry| entry["parentRef"] == *parent);
                    let list = conditions(list, before.and_then(|entry| entry.get("conditions")));
                    entries
                        .push(json!({"parentRef": parent, "controllerName": CONTROLLER, "conditions": list}));
                }
                json!({"parents": entries})
            }
            Self::Ancestors(ancestors) => {
                let (ours, mut entries) = split(current.get("ancestors"));
                for (gateway, list) in ancestors {
                    let reference = json!({
                        "group": GATEWAY_API, "kind": "Gateway", "namespace": &*gateway.namespace, "name": &*gateway.name,
                    });
                    let before = ours.iter().find(|entry| entry["ancestorRef"] == reference);
                    let list = conditions(list, before.and_then(|entry| entry.get("conditions")));
                    entries.push(
                        json!({"ancestorRef": reference, "controllerName": CONTROLLER, "conditions": list}),
                    );
                }
                json!({"ancestors": entries})
            }
        }
    }

    /// Whether there is nothing to say, so that no status has to be written where there is none.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Conditions(list) => list.is_empty(),
            Self::Gateway { .. } => false,
            Self::Parents(list) => list.is_empty(),
            Self::Ancestors(list) => list.is_empty(),
        }
    }
}

fn split(entries: Option<&Value>) -> (Vec<Value>, Vec<Value>) {
    let entries = entries.and_then(Value::as_array).cloned().unwrap_or_default();
    entries
        .into_iter()
        .filter(|entry| entry["controllerName"] != PREDECESSOR)
        .partition(|entry| entry["controllerName"] == CONTROLLER)
}

fn render(condition: &Condition, before: Option<&Value>, generation: i64, now: Timestamp) -> Value {
    let status = if condition.holds { "True" } else { "False" };
    let known = before.and_then(Value::as_array).into_iter().flatten();
    let since = known
        .filter(|known| known["type"] == condition.kind && known["status"] == status)
        .find_map(|known| known.get("lastTransitionTime").cloned());
    // Times of Kubernetes have whole seconds.
    let now = || Value::String(now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    Value::Object(Map::from_iter([
        ("type".to_owned(), json!(condition.kind)),
        ("status".to_owned(), json!(status)),
        ("reason".to_owned(), json!(condition.reason)),
        ("message".to_owned(), json!(condition.message)),
        ("observedGeneration".to_owned(), json!(generation)),
        ("lastTransitionTime".to_owned(), since.unwrap_or_else(now)),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(status: Value) -> Written {
        Written {
            uid: String::new(),
            version: 1,
            generation: 3,
            status,
        }
    }

    #[test]
    fn times_stay_while_a_condition_holds_and_others_entries_stay() {
        let parent = json!({"name": "public"});
        let verdict = |holds| {
            Verdict::Parents(vec![(
                parent.clone(),
                vec![Condition::new("Accepted", holds, "Accepted", "")],
            )])
        };
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let other =
            json!({"parentRef": {"name": "x"}, "controllerName": "example.com/other", "conditions": []});
        let first = verdict(true).status(&written(json!({"parents": [other]})), at("2026-11-01T10:00:00Z"));
        assert_eq!(first["parents"][0], other);
        let second = verdict(true).status(&written(first.clone()), at("2026-11-01T11:00:00Z"));
        assert_eq!(first, second);
        let third = verdict(false).status(&written(second), at("2026-11-01T12:00:00Z"));
        assert_eq!(
            third["parents"][1]["conditions"][0]["lastTransitionTime"],
            "2026-11-01T12:00:00Z"
        );
    }
}
