//! PodSecurity: the Pod Security Standards, as labels of namespaces ask for them.
//!
//! `pod-security.kubernetes.io/enforce` refuses Pods, `audit` and `warn` only tell of them, and of objects with a Pod template as
//! well: there nothing is refused, so that it is the Pods which fail and not what makes them. Without labels nothing is checked.

mod baseline;
mod checks;
mod namespace;
mod pod;
mod policy;
mod restricted;
#[cfg(test)]
mod tests;

use choreo_apimachinery::status::{ApiError, Result};
use choreo_store::Key;
use serde_json::Value;

use super::Operation;
use super::chain::Review;
use checks::{Violations, evaluate};
use pod::Pod;
use policy::{Policy, Standard};

/// What annotations of the audit begin with, like the labels.
const PREFIX: &str = "pod-security.kubernetes.io/";

/// Subresources of Pods by which nothing changes that the standards are about.
const HARMLESS: [&str; 8] = [
    "exec",
    "attach",
    "binding",
    "eviction",
    "log",
    "portforward",
    "proxy",
    "status",
];

/// Where the objects of a resource have a Pod, or the template of Pods: the path to what has its metadata and spec.
fn place(group: &str, plural: &str) -> Option<&'static str> {
    Some(match (group, plural) {
        ("", "pods") => "",
        ("", "podtemplates") => "/template",
        ("", "replicationcontrollers") | ("batch", "jobs") => "/spec/template",
        ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets") => "/spec/template",
        ("batch", "cronjobs") => "/spec/jobTemplate/spec/template",
        _ => return None,
    })
}

/// Judges Pods by the policy of their namespace, objects with templates too, and namespaces by their labels.
///
/// # Errors
/// 403 for a Pod that breaks the standard which its namespace enforces, 422 for labels of a namespace that make no sense.
pub(super) fn validate(review: &mut Review<'_>, object: Option<&Value>) -> Result<()> {
    let Some(object) = object else { return Ok(()) };
    if !matches!(review.operation, Operation::Create | Operation::Update) {
        return Ok(());
    }
    let info = &review.target.resource;
    if info.group.is_empty() && info.plural == "namespaces" {
        return namespace::validate(review, object);
    }
    let Some(place) = place(&info.group, &info.plural) else {
        return Ok(());
    };
    let is_pod = place.is_empty();
    let passes = if is_pod {
        HARMLESS.contains(&review.subresource)
    } else {
        !review.subresource.is_empty()
    };
    if passes {
        return Ok(());
    }
    let store = review.target.cluster.store();
    let name = review.target.namespace.as_str();
    let Some(namespace) = store.get(&Key::new("namespaces", "", name)) else {
        // Nobody can tell what would be enforced.
        let why = format!("failed to lookup namespace \"{name}\"");
        return if is_pod {
            Err(ApiError::internal(why))
        } else {
            Ok(())
        };
    };
    let (policy, wrong) = Policy::read(&namespace.value()["metadata"]["labels"]);
    if wrong.is_empty() && policy.is_silent(is_pod) {
        if is_pod {
            note(review, "enforce-policy", || Standard::PRIVILEGED.to_string());
        }
        return Ok(());
    }
    let Some(pod) = Pod::at(object, place) else {
        return Ok(());
    };
    if is_pod
        && let Some(old) = review.old.and_then(|old| Pod::at(old, place))
        && !pod.differs(&old)
    {
        return Ok(());
    }
    if !wrong.is_empty() {
        let all = wrong.iter().map(ToString::to_string).collect::<Vec<_>>();
        note(review, "error", || match all.as_slice() {
            [one] => format!("Failed to parse policy: {one}"),
            many => format!("Failed to parse policy: [{}]", many.join(", ")),
        });
    }
    judge(review, &policy, &pod, is_pod)
}

/// What the policy makes of a Pod; `enforced` if it can be refused.
fn judge(review: &mut Review<'_>, policy: &Policy, pod: &Pod<'_>, enforced: bool) -> Result<()> {
    let said = |standard: &Standard, found: &Violations| {
        format!("violate PodSecurity \"{standard}\": {}", found.details())
    };
    let mut refused = None;
    if enforced {
        note(review, "enforce-policy", || policy.enforce.to_string());
        let found = evaluate(policy.enforce, pod);
        if !found.is_empty() {
            // "violates", where the other two say that it would.
            let said = said(&policy.enforce, &found);
            refused = Some(said.replacen("violate", "violates", 1));
        }
    }
    let found = evaluate(policy.audit, pod);
    if !found.is_empty() {
        note(review, "audit-violations", || {
            format!("would {}", said(&policy.audit, &found))
        });
    }
    if let Some(why) = refused {
        let info = &review.target.resource;
        return Err(ApiError::forbidden(&info.group, &info.plural, review.name, &why));
    }
    let found = evaluate(policy.warn, pod);
    if !found.is_empty() {
        let warning = format!("would {}", said(&policy.warn, &found));
        review.warnings.push(warning);
    }
    Ok(())
}

/// Tells the audit, if there is one. At once: whoever is refused gets no further.
fn note(review: &Review<'_>, key: &str, value: impl FnOnce() -> String) {
    if let Some(notes) = &review.target.notes {
        notes.annotate(&format!("{PREFIX}{key}"), &value());
    }
}
