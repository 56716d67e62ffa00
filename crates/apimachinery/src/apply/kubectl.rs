//! The way from `kubectl apply` to `kubectl apply --server-side`: fields that the client-side annotation names are its own.

use serde_json::Value;

use super::{managers::Identity, set::Set, view::View, walk};

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

fn last_applied(object: &Value) -> Option<&str> {
    object
        .get("metadata")?
        .get("annotations")?
        .get(LAST_APPLIED)?
        .as_str()
        .filter(|s| !s.is_empty())
}

/// The conflicts that remain when kubectl takes what it last applied on the client side; `None` if none does.
pub(super) fn not_from_last_applied(
    view: View<'_>,
    live: &Value,
    conflicts: Vec<(Identity, Set)>,
    manager: &str,
) -> Option<Vec<(Identity, Set)>> {
    let allowed = (manager == "kubectl").then(|| allowed(view, live)).flatten();
    let Some(allowed) = allowed else {
        return Some(conflicts);
    };
    let rest: Vec<_> = conflicts
        .into_iter()
        .map(|(identity, set)| (identity, set.difference(&allowed)))
        .filter(|(_, set)| !set.is_empty())
        .collect();
    (!rest.is_empty()).then_some(rest)
}

/// The fields that were last applied on the client side and still have that value.
fn allowed(view: View<'_>, live: &Value) -> Option<Set> {
    let last: Value = serde_json::from_str(last_applied(live)?).ok()?;
    if last.get("apiVersion") != live.get("apiVersion") {
        return None;
    }
    let fields = walk::fields(view, &last).ok()?;
    let change = walk::compare(view, Some(&last), Some(live)).ok()?;
    Some(
        fields
            .difference(&change.modified)
            .difference(&change.added)
            .difference(&change.removed),
    )
}

/// Keeps the client-side annotation in step, so that either way of applying can be used after the other. Whether it changed.
pub(super) fn sync_last_applied(merged: &mut Value, config: &Value, manager: &str) -> bool {
    if manager != "kubectl" || last_applied(merged).is_none() {
        return false;
    }
    let mut config = config.clone();
    if let Some(annotations) = config
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    {
        annotations.remove(LAST_APPLIED);
    }
    if let Some(annotations) = merged
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    {
        let now = Value::from(format!("{config}\n"));
        let before = annotations.insert(LAST_APPLIED.to_owned(), now.clone());
        return before != Some(now);
    }
    false
}
