//! The CEL expressions of webhooks and policies: their variables, and who answers `authorizer`.

use std::sync::Arc;

use choreo_cel::{
    AccessCheck, AccessDecision, Authorizer, Bindings, CompileError, EvalError, Library, Limits, Program,
};
use choreo_store::Snapshot;
use serde_json::{Value, json};

use super::chain::Review;
use super::matching::namespace_of;
use crate::rbac::{self, Attributes};
use crate::user::UserInfo;
use crate::verbs::text;

/// What an expression of admission may be and cost, as in kube-apiserver.
pub(super) fn limits() -> Limits {
    Limits {
        length: 16 << 10,
        library: Library::Admission,
        ..Limits::default()
    }
}

/// What all expressions of one webhook, or of one policy, may cost together.
pub(super) const BUDGET: u64 = 10_000_000;

/// An expression; one that cannot be compiled fails whenever it is asked.
pub(super) type Expression = Result<Arc<Program>, CompileError>;

pub(super) fn compile(source: &str) -> Expression {
    Program::compile(source, &limits())
}

/// The values of the variables.
pub(super) struct Scope<'r> {
    object: Value,
    old: Value,
    request: Value,
    namespace: Value,
    params: Option<Value>,
    authorizer: Rights<'r>,
    check: AccessCheck,
}

/// Answers `authorizer` from roles and bindings.
struct Rights<'r> {
    snapshot: &'r Snapshot,
    user: &'r UserInfo,
}

impl Authorizer for Rights<'_> {
    fn decide(&self, check: &AccessCheck) -> AccessDecision {
        let account;
        let user = match &check.service_account {
            None => self.user,
            Some((namespace, name)) => {
                account = UserInfo::new(
                    format!("system:serviceaccount:{namespace}:{name}"),
                    [
                        "system:serviceaccounts".to_owned(),
                        format!("system:serviceaccounts:{namespace}"),
                    ],
                );
                &account
            }
        };
        let wanted = Attributes {
            verb: check.verb.clone(),
            group: check.group.clone(),
            resource: check.resource.clone(),
            subresource: check.subresource.clone(),
            namespace: check.namespace.clone(),
            name: check.name.clone(),
            path: check.path.clone(),
        };
        let decision = rbac::decide(self.snapshot, user, &wanted);
        AccessDecision {
            allowed: decision.allowed,
            reason: decision.reason,
            error: String::new(),
        }
    }
}

impl<'r> Scope<'r> {
    /// The variables of a write: `object`, `oldObject`, `request`, `namespaceObject`, `authorizer`.
    pub(super) fn new(
        review: &'r Review<'_>,
        snapshot: &'r Snapshot,
        object: Option<&Value>,
        old: Option<&Value>,
        request: Value,
    ) -> Scope<'r> {
        let info = &review.target.resource;
        Scope {
            namespace: namespace_of(review, snapshot, object).map_or(Value::Null, |n| shown(&n)),
            object: object.cloned().unwrap_or_default(),
            old: old.cloned().unwrap_or_default(),
            request,
            params: None,
            authorizer: Rights {
                snapshot,
                user: &review.target.user,
            },
            check: AccessCheck {
                path: None,
                verb: String::new(),
                group: info.group.clone(),
                resource: info.plural.clone(),
                subresource: review.subresource.to_owned(),
                namespace: review.namespace().to_owned(),
                name: review.name.to_owned(),
                service_account: None,
            },
        }
    }

    /// Sets `params`, which is null for a policy that found none.
    pub(super) fn set_params(&mut self, params: Option<Value>) {
        self.params = Some(params.unwrap_or_default());
    }

    /// Puts another object in place.
    pub(super) fn set_object(&mut self, object: &Value) {
        self.object = object.clone();
    }

    /// The variables, ready for an evaluation.
    pub(super) fn bindings(&self) -> Bindings<'_> {
        let mut bindings = Bindings::new();
        bindings
            .bind("object", &self.object)
            .bind("oldObject", &self.old)
            .bind("request", &self.request)
            .bind("namespaceObject", &self.namespace)
            .bind_authorizer("authorizer", &self.authorizer, self.check.clone());
        if let Some(params) = &self.params {
            bindings.bind("params", params);
        }
        bindings
    }
}

/// What expressions see of a Namespace.
fn shown(namespace: &Value) -> Value {
    let mut shown = json!({
        "kind": "Namespace",
        "apiVersion": "v1",
        "metadata": namespace["metadata"],
        "spec": namespace.get("spec").cloned().unwrap_or_else(|| json!({})),
        "status": namespace.get("status").cloned().unwrap_or_else(|| json!({})),
    });
    if let Some(metadata) = shown["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    shown
}

/// A condition under which a webhook or policy is asked at all.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    source: String,
    program: Expression,
}

/// The conditions of `matchConditions`.
pub(super) fn conditions(spec: &Value) -> Vec<Condition> {
    let all = spec.get("matchConditions").and_then(Value::as_array);
    all.into_iter()
        .flatten()
        .map(|condition| {
            let source = text(condition, "/expression").trim().to_owned();
            Condition {
                program: compile(&source),
                source,
            }
        })
        .collect()
}

/// Whether all conditions hold. One that does not hold decides, whatever the others say.
///
/// # Errors
/// What went wrong with those that could not be evaluated.
pub(super) fn hold(conditions: &[Condition], scope: &Scope<'_>) -> Result<bool, String> {
    if conditions.is_empty() {
        return Ok(true);
    }
    let bindings = scope.bindings();
    let mut errors = Vec::new();
    for condition in conditions {
        match evaluate(&condition.program, &bindings, &mut 0) {
            Ok(Value::Bool(true)) => {}
            Ok(Value::Bool(false)) => return Ok(false),
            Ok(_) => errors.push(format!(
                "expression '{}' does not evaluate to a bool",
                condition.source
            )),
            Err(why) => errors.push(format!(
                "expression '{}' resulted in error: {why}",
                condition.source
            )),
        }
    }
    match errors.as_slice() {
        [] => Ok(true),
        [one] => Err(one.clone()),
        many => Err(format!("[{}]", many.join(", "))),
    }
}

/// Evaluates an expression; what it costs is added up.
///
/// # Errors
/// What went wrong, compilation included.
pub(super) fn evaluate(
    program: &Expression,
    bindings: &Bindings<'_>,
    spent: &mut u64,
) -> Result<Value, String> {
    let program = program
        .as_ref()
        .map_err(|error| format!("compilation failed: {error}"))?;
    let left = BUDGET.saturating_sub(*spent).min(limits().cost);
    match program.eval_within(bindings, left) {
        Ok(outcome) => {
            *spent += outcome.cost;
            Ok(outcome.value)
        }
        Err((EvalError { message, .. }, cost)) => {
            *spent += cost;
            Err(message)
        }
    }
}
