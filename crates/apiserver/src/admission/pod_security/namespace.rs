//! The labels of a namespace that is written, and the Pods that a stricter policy finds there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use choreo_apimachinery::status::{ApiError, Result};
use choreo_store::Snapshot;
use serde_json::Value;

use super::checks::evaluate;
use super::pod::Pod;
use super::policy::{Level, Policy, Standard};
use crate::admission::chain::Review;
use crate::verbs::text;

/// So many Pods are looked at.
const MOST: usize = 3000;
/// For so long.
const LONGEST: Duration = Duration::from_secs(1);

/// Judges the labels, and warns of Pods that are there and would not be let in any more.
///
/// # Errors
/// 422 for labels that make no sense and did not say the same before.
pub(super) fn validate(review: &mut Review<'_>, object: &Value) -> Result<()> {
    if !review.subresource.is_empty() {
        return Ok(());
    }
    let (policy, wrong) = Policy::read(&object["metadata"]["labels"]);
    let before = review.old.map(|old| Policy::read(&old["metadata"]["labels"]));
    if !wrong.is_empty() && before.as_ref().is_none_or(|(_, before)| *before != wrong) {
        return Err(ApiError::invalid("", "Namespace", review.name, &wrong));
    }
    let Some((before, _)) = before else {
        return Ok(());
    };
    let (new, old) = (policy.enforce, before.enforce);
    let looser = new.version == old.version && new.level <= old.level;
    if new == old || new.level == Level::Privileged || looser {
        return Ok(());
    }
    let snapshot = review.target.cluster.store().snapshot();
    let found = violations(&snapshot, review.name, new, (MOST, LONGEST));
    review.warnings.extend(found);
    Ok(())
}

/// Warnings of the Pods of a namespace that break a standard; those for the same reasons are told of together.
fn violations(
    snapshot: &Snapshot,
    namespace: &str,
    standard: Standard,
    (most, longest): (usize, Duration),
) -> Vec<String> {
    let until = Instant::now() + longest;
    let pods = different_first(
        snapshot
            .iter("pods", Some(namespace), None)
            .map(|pod| pod.value()),
    );
    let mut checked = 0;
    let mut found: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for object in pods.iter().take(most) {
        checked += 1;
        if let Some(pod) = Pod::at(object, "") {
            let violations = evaluate(standard, &pod);
            if !violations.is_empty() {
                let same = found.entry(violations.reasons()).or_default();
                same.insert(text(object, "/metadata/name"));
            }
        }
        if Instant::now() > until {
            break;
        }
    }
    let mut warnings = Vec::new();
    if checked < pods.len() {
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {checked} of {} existing pods",
            pods.len()
        ));
    }
    if !found.is_empty() {
        warnings.push(format!(
            "existing pods in namespace \"{namespace}\" violate the new PodSecurity enforce level \"{standard}\""
        ));
    }
    let mut each: Vec<String> = found
        .iter()
        .filter_map(|(reasons, pods)| {
            let first = pods.first()?;
            Some(match pods.len() {
                1 => format!("{first}: {reasons}"),
                2 => format!("{first} (and 1 other pod): {reasons}"),
                many => format!("{first} (and {} other pods): {reasons}", many - 1),
            })
        })
        .collect();
    each.sort();
    warnings.extend(each);
    warnings
}

/// One Pod of each controller comes first: the others will be like it.
fn different_first(pods: impl Iterator<Item = Arc<Value>>) -> Vec<Arc<Value>> {
    let mut controllers = BTreeSet::new();
    let (mut first, more): (Vec<_>, Vec<_>) = pods.partition(|pod| {
        let owners = pod["metadata"]["ownerReferences"].as_array();
        let mut owners = owners.into_iter().flatten();
        let controller = owners.find(|owner| owner["controller"] == true);
        controller.is_none_or(|owner| controllers.insert(text(owner, "/uid").to_owned()))
    });
    first.extend(more);
    first
}
