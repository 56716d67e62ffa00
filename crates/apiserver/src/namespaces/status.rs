//! The conditions of a namespace that is being removed. Types, reasons and texts are those of Kubernetes, which clients read.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::content::Remaining;
use crate::verbs::now;

/// Sets the conditions; their times change only with their status.
pub(super) fn set(namespace: &mut Value, remaining: &Remaining) {
    let Remaining {
        objects,
        finalizers,
        failures,
    } = remaining;
    let failed = (!failures.is_empty()).then(|| failures.join("; "));
    let left = (!objects.is_empty()).then(|| {
        let parts = list(objects, |resource, count| {
            format!("{resource} has {count} resource instances")
        });
        format!("Some resources are remaining: {parts}")
    });
    let held = (!finalizers.is_empty()).then(|| {
        let parts = list(finalizers, |finalizer, count| {
            format!("{finalizer} in {count} resource instances")
        });
        format!("Some content in the namespace has finalizers remaining: {parts}")
    });
    let wanted = [
        (
            "NamespaceDeletionDiscoveryFailure",
            None,
            "",
            "ResourcesDiscovered",
            "All resources successfully discovered",
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            None,
            "",
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        (
            "NamespaceDeletionContentFailure",
            failed,
            "ContentDeletionFailed",
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
        (
            "NamespaceContentRemaining",
            left,
            "SomeResourcesRemain",
            "ContentRemoved",
            "All content successfully removed",
        ),
        (
            "NamespaceFinalizersRemaining",
            held,
            "SomeFinalizersRemain",
            "ContentHasNoFinalizers",
            "All content-preserving finalizers finished",
        ),
    ];
    let before = namespace
        .pointer("/status/conditions")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let ours = |condition: &&Value| {
        wanted
            .iter()
            .any(|(kind, ..)| condition["type"].as_str() == Some(kind))
    };
    let mut conditions: Vec<Value> = before
        .iter()
        .filter(|condition| !ours(condition))
        .cloned()
        .collect();
    for (kind, problem, bad, good, all_well) in &wanted {
        let status = if problem.is_some() { "True" } else { "False" };
        let same = before
            .iter()
            .find(|found| found["type"] == **kind && found["status"] == status);
        let since = same.map_or_else(|| now().into(), |found| found["lastTransitionTime"].clone());
        conditions.push(json!({
            "type": kind,
            "status": status,
            "lastTransitionTime": since,
            "reason": if problem.is_some() { bad } else { good },
            "message": problem.as_deref().unwrap_or(all_well),
        }));
    }
    namespace["status"]["phase"] = "Terminating".into();
    namespace["status"]["conditions"] = conditions.into();
}

fn list(counts: &BTreeMap<String, usize>, part: impl Fn(&str, usize) -> String) -> String {
    counts
        .iter()
        .map(|(name, count)| part(name, *count))
        .collect::<Vec<_>>()
        .join(", ")
}
