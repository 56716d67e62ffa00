//! Finds the rules that a user has, and asks them.

use choreo_apimachinery::selector::LabelSelector;
use choreo_store::{Key, Snapshot};
use serde::Deserialize;
use serde_json::Value;

use super::{Attributes, Rule};
use crate::user::{MASTERS, UserInfo};

pub(super) const CLUSTER_ROLES: &str = "rbac.authorization.k8s.io/clusterroles";
const ROLES: &str = "rbac.authorization.k8s.io/roles";
const CLUSTER_ROLE_BINDINGS: &str = "rbac.authorization.k8s.io/clusterrolebindings";
const ROLE_BINDINGS: &str = "rbac.authorization.k8s.io/rolebindings";

/// An answer, with the reason that a review gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    /// Whether it may be done.
    pub(crate) allowed: bool,
    /// Why; empty when there is nothing to say.
    pub(crate) reason: String,
}

/// A rule that a user has, and through what.
#[derive(Clone, Debug)]
pub(crate) struct Granted {
    /// The rule.
    pub(crate) rule: Rule,
    /// Binding, role and subject, in the words of a review's reason.
    pub(crate) by: String,
}

/// Whether a user may do something.
pub(crate) fn decide(snapshot: &Snapshot, user: &UserInfo, wanted: &Attributes) -> Decision {
    if user.is_in(MASTERS) {
        return Decision {
            allowed: true,
            reason: format!("the user is a member of {MASTERS}"),
        };
    }
    let mut missing = Vec::new();
    let found =
        rules(snapshot, user, &wanted.namespace, &mut missing).find(|granted| granted.rule.allows(wanted));
    match found {
        Some(granted) => Decision {
            allowed: true,
            reason: format!("RBAC: allowed by {}", granted.by),
        },
        None => Decision {
            allowed: false,
            reason: match missing.as_slice() {
                [] => String::new(),
                [one] => format!("RBAC: {one}"),
                many => format!("RBAC: [{}]", many.join(", ")),
            },
        },
    }
}

/// All rules that a user has in a namespace, those of the whole cluster included.
pub(crate) fn granted(snapshot: &Snapshot, user: &UserInfo, namespace: &str) -> Vec<Granted> {
    rules(snapshot, user, namespace, &mut Vec::new()).collect()
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Metadata {
    name: String,
    namespace: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Binding {
    metadata: Metadata,
    role_ref: RoleRef,
    subjects: Option<Vec<Subject>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RoleRef {
    kind: String,
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Subject {
    kind: String,
    name: String,
    namespace: String,
}

impl Subject {
    /// Whether the user is meant. A service account without a namespace is one of the binding's.
    fn is(&self, user: &UserInfo, of_binding: &str) -> bool {
        match self.kind.as_str() {
            "User" => self.name == user.name,
            "Group" => user.is_in(&self.name),
            "ServiceAccount" => {
                let namespace = if self.namespace.is_empty() {
                    of_binding
                } else {
                    &self.namespace
                };
                !namespace.is_empty()
                    && user.name == format!("system:serviceaccount:{namespace}:{}", self.name)
            }
            _ => false,
        }
    }

    fn describe(&self, of_binding: &str) -> String {
        if self.kind != "ServiceAccount" {
            return format!("{} {:?}", self.kind, self.name);
        }
        let namespace = if self.namespace.is_empty() {
            of_binding
        } else {
            &self.namespace
        };
        format!("ServiceAccount {:?}", format!("{}/{namespace}", self.name))
    }
}

fn read<T: for<'de> Deserialize<'de> + Default>(value: &Value) -> T {
    T::deserialize(value).unwrap_or_default()
}

fn rules<'a>(
    snapshot: &'a Snapshot,
    user: &'a UserInfo,
    namespace: &'a str,
    missing: &'a mut Vec<String>,
) -> impl Iterator<Item = Granted> + 'a {
    let of_cluster = snapshot.iter(CLUSTER_ROLE_BINDINGS, None, None);
    let in_namespace = (!namespace.is_empty())
        .then(|| snapshot.iter(ROLE_BINDINGS, Some(namespace), None))
        .into_iter()
        .flatten();
    of_cluster.chain(in_namespace).flat_map(move |object| {
        let binding: Binding = read(&object.value());
        let home = binding.metadata.namespace.as_str();
        let subject = binding
            .subjects
            .iter()
            .flatten()
            .find(|subject| subject.is(user, home));
        let Some(subject) = subject else {
            return Vec::new();
        };
        let (kind, name) = (binding.role_ref.kind.as_str(), binding.role_ref.name.as_str());
        let Some(rules) = role_rules(snapshot, kind, home, name) else {
            let resource = if kind == "Role" { "role" } else { "clusterrole" };
            missing.push(format!("{resource}.{} {name:?} not found", super::GROUP));
            return Vec::new();
        };
        let by = if home.is_empty() {
            format!("ClusterRoleBinding {:?}", binding.metadata.name)
        } else {
            format!("RoleBinding {:?}", format!("{}/{home}", binding.metadata.name))
        };
        let by = format!("{by} of {kind} {name:?} to {}", subject.describe(home));
        rules
            .into_iter()
            .map(|rule| Granted { rule, by: by.clone() })
            .collect()
    })
}

/// The rules of a role; of an aggregated ClusterRole, also those of the roles that it selects.
pub(super) fn role_rules(snapshot: &Snapshot, kind: &str, namespace: &str, name: &str) -> Option<Vec<Rule>> {
    let key = match kind {
        "Role" => Key::new(ROLES, namespace, name),
        "ClusterRole" => Key::new(CLUSTER_ROLES, "", name),
        _ => return None,
    };
    let role = snapshot.get(&key)?.value();
    let mut rules = rules_of(&role);
    let selectors = role
        .pointer("/aggregationRule/clusterRoleSelectors")
        .and_then(Value::as_array);
    for selector in selectors.into_iter().flatten() {
        let others = snapshot
            .iter(CLUSTER_ROLES, None, None)
            .map(|other| other.value());
        for other in others.filter(|other| is_selected(selector, other)) {
            rules.extend(rules_of(&other));
        }
    }
    Some(rules)
}

fn rules_of(role: &Value) -> Vec<Rule> {
    let rules = role.get("rules").and_then(Value::as_array);
    rules.into_iter().flatten().map(read).collect()
}

pub(super) fn is_selected(selector: &Value, role: &Value) -> bool {
    LabelSelector::from_object(Some(selector)).is_ok_and(|selector| selector.matches_object(role))
}
