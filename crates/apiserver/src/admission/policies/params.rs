//! The parameters of a policy: objects of the kind that it names, which a binding chooses.

use choreo_store::{Key, Snapshot};
use serde_json::Value;

use super::read::{Binding, Policy};
use crate::admission::chain::Review;
use crate::verbs::to_version;

/// Why there are no parameters.
pub(super) enum Missing {
    /// The policy's fault: no binding can help.
    Policy(String),
    /// The binding's fault.
    Binding(String),
}

/// What a policy is evaluated with: once for each. None is a policy without parameters, null one whose binding gives none.
pub(super) fn find(
    review: &Review<'_>,
    snapshot: &Snapshot,
    policy: &Policy,
    binding: &Binding,
) -> Result<Vec<Option<Value>>, Missing> {
    let Some((version, kind)) = &policy.param_kind else {
        return Ok(vec![None]);
    };
    let served = review.target.cluster.served();
    let Some(info) = served.registry().by_api_version(version, kind) else {
        return Err(Missing::Policy(format!(
            "failed to configure policy: failed to find resource referenced by paramKind: '{version}, Kind={kind}'"
        )));
    };
    let Some(reference) = &binding.params else {
        return Ok(vec![Some(Value::Null)]);
    };
    let fault = |why: &str| Missing::Binding(format!("failed to configure binding: {why}"));
    let namespace = match (info.namespaced, reference.namespace.is_empty()) {
        (true, false) => reference.namespace.as_str(),
        (true, true) if review.namespace().is_empty() => {
            return Err(fault(
                "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources",
            ));
        }
        (true, true) => review.namespace(),
        (false, false) => {
            return Err(fault(
                "paramRef.namespace must not be provided for a cluster-scoped `paramKind`",
            ));
        }
        (false, true) => "",
    };
    let resource = info.storage_resource();
    let mut found: Vec<Value> = Vec::new();
    match &reference.selector {
        None => {
            let object = snapshot.get(&Key::new(&resource, namespace, &reference.name));
            found.extend(object.map(|object| (*object.value()).clone()));
        }
        Some(selector) => {
            let scope = info.namespaced.then_some(namespace);
            let all = snapshot.iter(&resource, scope, None).map(|object| object.value());
            found.extend(
                all.filter(|object| selector.matches_object(object))
                    .map(|o| (*o).clone()),
            );
        }
    }
    if found.is_empty() && !reference.allows_none {
        return Err(fault(
            "no params found for policy binding with `Deny` parameterNotFoundAction",
        ));
    }
    Ok(found
        .into_iter()
        .map(|object| Some(to_version(info, object)))
        .collect())
}
