//! Nobody grants more than they hold.
//!
//! Who writes a role must hold every right in it, or the verb `escalate` on the role; who writes a binding must hold every
//! right of the role that it names, or the verb `bind` on that role.

use choreo_apimachinery::status::{ApiError, Result};
use serde_json::Value;

use super::authorizer::role_rules;
use super::{Attributes, GROUP, Granted, Rule, decide, granted};
use crate::admission::Operation;
use crate::user::MASTERS;
use crate::verbs::Target;

/// Refuses roles and bindings that give more than the writer has.
///
/// # Errors
/// 403 with every right that is not held; 404 for a binding of a role that is not there.
pub(crate) fn admit(
    target: &Target,
    operation: Operation,
    name: &str,
    old: Option<&Value>,
    object: Option<&Value>,
) -> Result<()> {
    let info = &target.resource;
    if info.group != GROUP || operation == Operation::Delete || target.user.is_in(MASTERS) {
        return Ok(());
    }
    let Some(object) = object else { return Ok(()) };
    let same = |pointer: &str| old.is_some_and(|old| old.pointer(pointer) == object.pointer(pointer));
    let snapshot = target.cluster.store().snapshot();
    let (plural, namespace) = (info.plural.as_str(), target.namespace.as_str());
    let may = |verb: &str, resource: &str, name: &str| {
        let wanted = Attributes::on(verb, GROUP, resource, namespace, name);
        decide(&snapshot, &target.user, &wanted).allowed
    };
    let wanted: Vec<Rule> = match plural {
        "roles" | "clusterroles" => {
            if (same("/rules") && same("/aggregationRule")) || may("escalate", plural, name) {
                return Ok(());
            }
            let aggregates = object.get("aggregationRule").is_some_and(|rule| !rule.is_null());
            // What an aggregated role will hold is not for its writer to say, so it takes all rights.
            if aggregates && !same("/aggregationRule") {
                vec![everything()]
            } else {
                let rules = object.get("rules").and_then(Value::as_array);
                let read = |rule: &Value| serde_json::from_value(rule.clone()).ok();
                rules.into_iter().flatten().filter_map(read).collect()
            }
        }
        "rolebindings" | "clusterrolebindings" => {
            if same("/roleRef") && same("/subjects") {
                return Ok(());
            }
            let text = |pointer: &str| {
                object
                    .pointer(pointer)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
            };
            let (kind, role) = (text("/roleRef/kind"), text("/roleRef/name"));
            let resource = if kind == "Role" { "roles" } else { "clusterroles" };
            if may("bind", resource, role) {
                return Ok(());
            }
            match role_rules(&snapshot, kind, namespace, role) {
                Some(rules) => rules,
                None => return Err(ApiError::not_found(GROUP, resource, role)),
            }
        }
        _ => return Ok(()),
    };
    let lacking = lacking(&granted(&snapshot, &target.user, namespace), &wanted);
    if lacking.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = lacking.iter().map(ToString::to_string).collect();
    let groups: Vec<String> = target
        .user
        .groups
        .iter()
        .map(|group| format!("{group:?}"))
        .collect();
    let why = format!(
        "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
        target.user.name,
        groups.join(" "),
        list.join("\n")
    );
    Err(ApiError::forbidden(GROUP, plural, name, &why))
}

fn everything() -> Rule {
    let all = || vec!["*".to_owned()];
    Rule {
        verbs: all(),
        api_groups: all(),
        resources: all(),
        ..Rule::default()
    }
}

/// What of the wanted rules is covered by none of those that are held.
fn lacking(held: &[Granted], wanted: &[Rule]) -> Vec<Rule> {
    wanted
        .iter()
        .flat_map(Rule::atoms)
        .filter(|atom| !held.iter().any(|granted| granted.rule.covers(atom)))
        .collect()
}
