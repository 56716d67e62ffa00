//! `MutatingAdmissionPolicy`.

use choreo_apimachinery::apply::overlay;
use choreo_apimachinery::registry::ResourceInfo;
use choreo_apimachinery::status::{ApiError, Reason, Result, StatusCause};
use serde_json::Value;

use super::params::{self, Missing};
use super::read::{Mutation, Policy};
use super::{Computed, Policies, Rounds, bound, concerns, resulted};
use crate::admission::Operation;
use crate::admission::chain::Review;
use crate::admission::expressions::{Scope, hold};
use crate::admission::webhooks::request_value;
use crate::verbs::to_version;

impl Policies {
    /// Lets all policies that the write is for change the object. Says whether one did.
    ///
    /// # Errors
    /// What could not be evaluated or applied, of a policy that fails then.
    pub(in crate::admission) fn mutate(
        &self,
        review: &Review<'_>,
        object: &mut Value,
        rounds: &mut Rounds,
    ) -> Result<bool> {
        if !concerns(review) || matches!(review.operation, Operation::Delete | Operation::Connect) {
            return Ok(false);
        }
        let snapshot = review.target.cluster.store().snapshot();
        let mut any = false;
        for (name, policy, bindings) in bound(&self.mutating, &self.mutating_bindings, &snapshot) {
            let Some(info) = policy.matcher.matches(review, &snapshot, Some(object), false) else {
                continue;
            };
            for (binding_name, binding) in &bindings {
                let matches = binding
                    .matcher
                    .as_ref()
                    .is_none_or(|m| m.matches(review, &snapshot, Some(object), true).is_some());
                let id = format!("{name}/{binding_name}");
                if !matches || (rounds.second && !rounds.again.contains(&id)) {
                    continue;
                }
                let params = match params::find(review, &snapshot, &policy, binding) {
                    Ok(params) => params,
                    Err(_) if policy.ignores_failures => continue,
                    Err(Missing::Policy(why) | Missing::Binding(why)) => {
                        return Err(refusal(review, &name, binding_name, &why));
                    }
                };
                let mut changed = false;
                for param in params {
                    let before = object.clone();
                    let outcome = run(review, &snapshot, &policy, &info, param, object);
                    if let Err(why) = outcome {
                        *object = before;
                        if !policy.ignores_failures {
                            return Err(refusal(review, &name, binding_name, &why));
                        }
                        tracing::warn!(policy = %name, "was not applied: {why}");
                        continue;
                    }
                    if *object != before {
                        *object = review.decode(object.take())?;
                        changed |= *object != before;
                    }
                }
                if changed {
                    any = true;
                    rounds.again.append(&mut rounds.asked);
                }
                if policy.again {
                    rounds.asked.insert(id);
                }
            }
        }
        // Those behind whose back another policy changed the object have one more look.
        if any && !rounds.second && !rounds.again.is_empty() {
            let mut second = Rounds {
                second: true,
                again: std::mem::take(&mut rounds.again),
                ..Rounds::default()
            };
            self.mutate(review, object, &mut second)?;
        }
        Ok(any)
    }
}

/// Applies the mutations of a policy, with one parameter.
fn run(
    review: &Review<'_>,
    snapshot: &choreo_store::Snapshot,
    policy: &Policy,
    info: &ResourceInfo,
    param: Option<Value>,
    object: &mut Value,
) -> std::result::Result<(), String> {
    let own = &review.target.resource;
    let converts = !review.shows_as_is(info);
    let as_seen = |value: &Value| {
        if converts {
            to_version(info, value.clone())
        } else {
            value.clone()
        }
    };
    let mut current = as_seen(object);
    let old = review.old.map(as_seen);
    let request = request_value(review, info);
    let mut scope = Scope::new(review, snapshot, Some(&current), old.as_ref(), request);
    if let Some(param) = param {
        scope.set_params(Some(param));
    }
    if !hold(&policy.conditions, &scope)? {
        return Ok(());
    }
    for mutation in &policy.mutations {
        scope.set_object(&current);
        let mut computed = Computed::new(policy, &scope);
        let (Mutation::Apply(expression) | Mutation::Patch(expression)) = mutation;
        let value = computed
            .value(expression)
            .map_err(|why| resulted(expression, &why))?;
        current = match mutation {
            Mutation::Apply(_) => {
                overlay(info, &current, &value).map_err(|why| format!("error applying patch: {why}"))?
            }
            Mutation::Patch(_) => patched(&current, &value)?,
        };
    }
    *object = if converts {
        to_version(own, current)
    } else {
        current
    };
    Ok(())
}

/// The object after a JSON patch. One whose `test` does not hold changes nothing.
fn patched(object: &Value, patch: &Value) -> std::result::Result<Value, String> {
    let mut current = object.clone();
    for step in patch.as_array().into_iter().flatten() {
        let bytes = Value::Array(vec![step.clone()]).to_string();
        match choreo_apimachinery::patch::json(&current, bytes.as_bytes()) {
            Ok(next) => current = next,
            Err(_) if step["op"] == "test" => return Ok(object.clone()),
            Err(error) => {
                let cause = error.details.and_then(|d| d.causes.into_iter().next());
                let why = cause.map_or(error.message, |cause| cause.message);
                return Err(format!("JSON Patch: {why}"));
            }
        }
    }
    Ok(current)
}

fn refusal(review: &Review<'_>, policy: &str, binding: &str, why: &str) -> ApiError {
    let info = &review.target.resource;
    let text = format!("policy '{policy}' with binding '{binding}' denied request: {why}");
    let mut error = ApiError::forbidden(&info.group, &info.plural, review.name, &text);
    error.message.clone_from(&text);
    error.reason = Reason::Invalid;
    error.details.get_or_insert_default().causes.push(StatusCause {
        message: text,
        ..StatusCause::default()
    });
    error
}
