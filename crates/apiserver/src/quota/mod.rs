//! ResourceQuota: how much of what a namespace may have.
//!
//! Whether a write fits is decided from the objects themselves, not from a count that is kept beside them: writes that count
//! go one after the other in a namespace with a quota, and so the sum is right whatever happened before. The controller only
//! writes down what is used.

mod controller;
pub(crate) mod resources;
mod scopes;
mod usage;

use std::collections::{BTreeMap, BTreeSet};

use choreo_apimachinery::quantity::{self, Quantity};
use choreo_apimachinery::status::{ApiError, Result};
use choreo_store::Snapshot;
use serde_json::Value;
use tokio::sync::OwnedMutexGuard;

use crate::admission::{Operation, Review};
use crate::verbs::text;
pub(crate) use controller::run;

const RESOURCE: &str = "resourcequotas";

/// Amounts by name.
type Amounts = BTreeMap<String, Quantity>;

/// Checks that a write fits into the quotas of its namespace. What is returned must be kept until it is carried out.
///
/// # Errors
/// 403 naming the quota that it does not fit into, or that cannot tell.
pub(crate) async fn admit(
    review: &Review<'_>,
    object: Option<&Value>,
) -> Result<Option<OwnedMutexGuard<()>>> {
    let target = review.target;
    let info = &target.resource;
    let Some(object) = object else { return Ok(None) };
    // What is in a Pod may be resized.
    let counts = review.subresource.is_empty() || review.subresource == "resize";
    if !info.namespaced || !counts || review.operation == Operation::Delete {
        return Ok(None);
    }
    let store = target.cluster.store();
    let namespace = target.namespace.as_str();
    if store.count(RESOURCE) == 0 || quotas(&store.snapshot(), namespace).is_empty() {
        return Ok(None);
    }
    let asked = usage::of(&info.group, &info.plural, object);
    let before = review.old.map(|old| usage::of(&info.group, &info.plural, old));
    let mut more = Amounts::new();
    for (name, amount) in asked {
        let had = before.as_ref().and_then(|before| before.get(&name)).copied();
        let Some(delta) = had.map_or(Some(amount), |had| amount.checked_sub(had)) else {
            continue;
        };
        if delta.sign() > 0 {
            more.insert(name, delta);
        }
    }
    if more.is_empty() {
        return Ok(None);
    }
    let guard = target.cluster.quota.clone().lock_owned().await;
    let snapshot = store.snapshot();
    for quota in quotas(&snapshot, namespace) {
        if scopes::matches(&quota, &info.group, &info.plural, object) {
            check(review, &snapshot, &quota, object, &more)?;
        }
    }
    Ok(Some(guard))
}

fn quotas(snapshot: &Snapshot, namespace: &str) -> Vec<std::sync::Arc<Value>> {
    let all = snapshot.iter(RESOURCE, Some(namespace), None);
    all.map(|quota| quota.value()).collect()
}

/// What a quota grants.
fn hard(quota: &Value) -> Amounts {
    let hard = quota.pointer("/spec/hard").and_then(Value::as_object);
    hard.into_iter()
        .flatten()
        .filter_map(|(name, amount)| Some((name.clone(), quantity::from_json(amount).ok()?)))
        .collect()
}

fn check(
    review: &Review<'_>,
    snapshot: &Snapshot,
    quota: &Value,
    object: &Value,
    more: &Amounts,
) -> Result<()> {
    let info = &review.target.resource;
    let name = text(quota, "/metadata/name");
    let hard = hard(quota);
    let refuse = |why: String| Err(ApiError::forbidden(&info.group, &info.plural, review.name, &why));
    if info.group.is_empty() && info.plural == "pods" && review.operation == Operation::Create {
        let missing = resources::unsaid(object, &hard);
        if !missing.is_empty() {
            let all: Vec<String> = missing
                .into_iter()
                .map(|(resource, containers)| format!("{resource} for: {}", containers.join(",")))
                .collect();
            return refuse(format!("failed quota: {name}: must specify {}", all.join("; ")));
        }
    }
    let concerned: BTreeSet<&str> = hard
        .keys()
        .map(String::as_str)
        .filter(|name| more.contains_key(*name))
        .collect();
    if concerned.is_empty() {
        return Ok(());
    }
    let used = usage::in_namespace(snapshot, quota, &review.target.namespace, &concerned);
    let mut exceeded = Vec::new();
    for resource in concerned {
        let zero = Quantity::from_integer(0);
        let (limit, delta) = (hard[resource], more[resource]);
        let used = used.get(resource).copied().unwrap_or(zero);
        if used.checked_add(delta).is_none_or(|sum| sum > limit) {
            exceeded.push((resource, delta, used, limit));
        }
    }
    if exceeded.is_empty() {
        return Ok(());
    }
    let list = |amount: fn(&(&str, Quantity, Quantity, Quantity)) -> Quantity| {
        let all: Vec<String> = exceeded
            .iter()
            .map(|e| format!("{}={}", e.0, amount(e)))
            .collect();
        all.join(",")
    };
    refuse(format!(
        "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
        list(|e| e.1),
        list(|e| e.2),
        list(|e| e.3)
    ))
}
