//! `ValidatingAdmissionPolicy`.

use choreo_apimachinery::status::{ApiError, Reason, Result, StatusCause};
use serde_json::{Value, json};

use super::params::{self, Missing};
use super::read::{Binding, Policy, Validation};
use super::{Computed, Policies, bound, concerns, resulted};
use crate::admission::chain::Review;
use crate::admission::expressions::{Scope, hold};
use crate::admission::webhooks::request_value;
use crate::verbs::to_version;

/// Longest message that an expression may make.
const MESSAGE_LIMIT: usize = 5 << 10;

/// The annotation of audit events that lists what policies with the action `Audit` found.
const FAILURES: &str = "validation.policy.admission.k8s.io/validation_failure";

/// A rule that a write breaks.
struct Broken {
    policy: String,
    /// Empty when the policy itself is at fault.
    binding: String,
    message: String,
    reason: String,
}

impl Broken {
    fn text(&self) -> String {
        if self.binding.is_empty() {
            format!(
                "ValidatingAdmissionPolicy '{}' denied request: {}",
                self.policy, self.message
            )
        } else {
            format!(
                "ValidatingAdmissionPolicy '{}' with binding '{}' denied request: {}",
                self.policy, self.binding, self.message
            )
        }
    }
}

impl Policies {
    /// Evaluates all policies that the write is for.
    ///
    /// # Errors
    /// The first rule that is broken, of a binding that denies.
    pub(in crate::admission) fn validate(
        &self,
        review: &mut Review<'_>,
        object: Option<&Value>,
    ) -> Result<()> {
        if !concerns(review) {
            return Ok(());
        }
        let snapshot = review.target.cluster.store().snapshot();
        let mut denied: Option<Broken> = None;
        let mut failures = Vec::new();
        for (name, policy, bindings) in bound(&self.validating, &self.validating_bindings, &snapshot) {
            let Some(info) = policy.matcher.matches(review, &snapshot, object, false) else {
                continue;
            };
            let converted = |value: Option<&Value>| value.map(|value| to_version(&info, value.clone()));
            let (shown, old) = if review.shows_as_is(&info) {
                (object.cloned(), review.old.cloned())
            } else {
                (converted(object), converted(review.old))
            };
            for (binding_name, binding) in &bindings {
                let matches = binding
                    .matcher
                    .as_ref()
                    .is_none_or(|m| m.matches(review, &snapshot, object, true).is_some());
                if !matches {
                    continue;
                }
                let broken = |binding: &str, message: String, reason: &str| Broken {
                    policy: name.clone(),
                    binding: binding.to_owned(),
                    message,
                    reason: reason.to_owned(),
                };
                let params = match params::find(review, &snapshot, &policy, binding) {
                    Ok(params) => params,
                    Err(_) if policy.ignores_failures => continue,
                    // What is set up wrongly denies, whatever the binding's actions are.
                    Err(Missing::Policy(why)) => {
                        denied = denied.or_else(|| Some(broken("", why, "")));
                        continue;
                    }
                    Err(Missing::Binding(why)) => {
                        denied = denied.or_else(|| Some(broken(binding_name, why, "")));
                        continue;
                    }
                };
                for param in params {
                    let request = request_value(review, &info);
                    let mut scope = Scope::new(review, &snapshot, shown.as_ref(), old.as_ref(), request);
                    if let Some(param) = param {
                        scope.set_params(Some(param));
                    }
                    let outcome = evaluate(&policy, &scope);
                    for (key, value) in outcome.annotations {
                        review.annotations.insert(format!("{name}/{key}"), value);
                    }
                    for (index, message, reason) in outcome.broken {
                        let broken = broken(binding_name, message, &reason);
                        if binding.warn {
                            review.warnings.push(format!(
                                "Validation failed for ValidatingAdmissionPolicy '{name}' with binding '{binding_name}': {}",
                                broken.message
                            ));
                        }
                        if binding.audit {
                            failures.push(failure(&broken, index, binding));
                        }
                        if binding.deny {
                            denied = denied.or(Some(broken));
                        }
                    }
                }
            }
        }
        if !failures.is_empty() {
            let all = Value::Array(failures).to_string();
            review.annotations.insert(FAILURES.to_owned(), all);
        }
        denied.map_or(Ok(()), |broken| Err(refusal(review, &broken)))
    }
}

/// What a policy says about a write.
#[derive(Default)]
struct Outcome {
    /// Index of the rule, message, reason.
    broken: Vec<(usize, String, String)>,
    annotations: Vec<(String, String)>,
}

fn evaluate(policy: &Policy, scope: &Scope<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    match hold(&policy.conditions, scope) {
        Ok(true) => {}
        Ok(false) => return outcome,
        Err(why) => {
            if !policy.ignores_failures {
                outcome.broken.push((0, why, String::new()));
            }
            return outcome;
        }
    }
    let mut computed = Computed::new(policy, scope);
    for (index, validation) in policy.validations.iter().enumerate() {
        match computed.value(&validation.expression) {
            Ok(Value::Bool(true)) => {}
            Ok(_) => {
                let message = message(validation, &mut computed);
                outcome.broken.push((index, message, validation.reason.clone()));
            }
            Err(_) if policy.ignores_failures => {}
            Err(why) => {
                let why = resulted(&validation.expression, &why);
                outcome.broken.push((index, why, validation.reason.clone()));
            }
        }
    }
    for (key, expression) in &policy.annotations {
        match computed.value(expression) {
            Ok(Value::String(text)) if !text.trim().is_empty() => {
                outcome.annotations.push((key.clone(), text.trim().to_owned()));
            }
            Ok(_) => {}
            Err(_) if policy.ignores_failures => {}
            Err(why) => outcome
                .broken
                .push((0, resulted(expression, &why), String::new())),
        }
    }
    outcome
}

/// What is said of a broken rule: what its expression makes, or its message, or the rule itself.
fn message(validation: &Validation, computed: &mut Computed<'_>) -> String {
    if let Some(expression) = &validation.message_expression {
        match computed.value(expression) {
            Ok(Value::String(text))
                if !text.trim().is_empty() && text.len() <= MESSAGE_LIMIT && !text.contains('\n') =>
            {
                return text.trim().to_owned();
            }
            Ok(_) => tracing::debug!("a messageExpression gave no usable message"),
            Err(why) => tracing::debug!("a messageExpression could not be evaluated: {why}"),
        }
    }
    if validation.message.is_empty() {
        format!("failed expression: {}", validation.expression.source)
    } else {
        validation.message.clone()
    }
}

fn failure(broken: &Broken, index: usize, binding: &Binding) -> Value {
    let mut actions = Vec::new();
    for (does, action) in [
        (binding.deny, "Deny"),
        (binding.warn, "Warn"),
        (binding.audit, "Audit"),
    ] {
        if does {
            actions.push(action);
        }
    }
    json!({
        "message": broken.message,
        "policy": broken.policy,
        "binding": broken.binding,
        "expressionIndex": index,
        "validationActions": actions,
    })
}

fn refusal(review: &Review<'_>, broken: &Broken) -> ApiError {
    let info = &review.target.resource;
    let text = broken.text();
    let mut error = ApiError::forbidden(&info.group, &info.plural, review.name, &text);
    (error.code, error.reason) = match broken.reason.as_str() {
        "Forbidden" => (403, Reason::Forbidden),
        "Unauthorized" => (401, Reason::Unauthorized),
        "RequestEntityTooLarge" => (413, Reason::RequestEntityTooLarge),
        _ => (422, Reason::Invalid),
    };
    error.details.get_or_insert_default().causes.push(StatusCause {
        message: text,
        ..StatusCause::default()
    });
    error
}
