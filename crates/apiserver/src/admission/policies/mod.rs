//! Admission policies: rules in CEL that judge writes (`ValidatingAdmissionPolicy`) or change them
//! (`MutatingAdmissionPolicy`), bound by bindings, with parameters from other objects.
//!
//! ```text
//!  for each policy whose constraints match, for each of its bindings that matches, for each of the binding's parameters:
//!      matchConditions hold? ─▶ variables ─▶ validations: deny, warn, audit
//!                                        └─▶ mutations: applied one after the other
//! ```

mod mutating;
mod params;
mod read;
mod status;
mod validating;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use choreo_cel::Bindings;
use choreo_store::Snapshot;
use serde_json::Value;

use super::chain::Review;
use super::expressions::{BUDGET, Scope, evaluate};
use super::registered::Registered;
use read::{Binding, Policy, Sourced};
pub(crate) use status::run;

const GROUP: &str = "admissionregistration.k8s.io";

/// ValidatingAdmissionPolicies, as the store knows them.
const VALIDATING: &str = "admissionregistration.k8s.io/validatingadmissionpolicies";

/// The policies of a logical cluster.
pub(super) struct Policies {
    validating: Registered<Policy>,
    validating_bindings: Registered<Binding>,
    mutating: Registered<Policy>,
    mutating_bindings: Registered<Binding>,
}

/// What is remembered between the two rounds of mutating policies.
#[derive(Default)]
pub(super) struct Rounds {
    second: bool,
    asked: BTreeSet<String>,
    again: BTreeSet<String>,
}

impl Rounds {
    /// Begins the second round: somebody else has changed the object behind all of them.
    pub(super) fn begin_second(&mut self) {
        self.second = true;
        self.again.append(&mut self.asked);
    }
}

impl Policies {
    pub(super) fn new() -> Policies {
        Policies {
            validating: Registered::new(VALIDATING, read::policy),
            validating_bindings: Registered::new(
                "admissionregistration.k8s.io/validatingadmissionpolicybindings",
                read::binding,
            ),
            mutating: Registered::new(
                "admissionregistration.k8s.io/mutatingadmissionpolicies",
                read::policy,
            ),
            mutating_bindings: Registered::new(
                "admissionregistration.k8s.io/mutatingadmissionpolicybindings",
                read::binding,
            ),
        }
    }
}

/// A policy by its name, with its bindings by theirs.
type Bound = (String, Arc<Policy>, Vec<(String, Arc<Binding>)>);

/// Policies with their bindings, those that have any.
fn bound(policies: &Registered<Policy>, bindings: &Registered<Binding>, snapshot: &Snapshot) -> Vec<Bound> {
    let policies = policies.all(snapshot);
    if policies.is_empty() {
        return Vec::new();
    }
    let mut by_policy: BTreeMap<String, Vec<(String, Arc<Binding>)>> = BTreeMap::new();
    for (name, binding) in bindings.all(snapshot) {
        by_policy
            .entry(binding.policy.clone())
            .or_default()
            .push((name, binding));
    }
    policies
        .into_iter()
        .filter_map(|(name, policy)| {
            let bindings = by_policy.remove(&name)?;
            Some((name, policy, bindings))
        })
        .collect()
}

/// The variables of a policy over a scope, and what went wrong with those that have no value.
struct Computed<'s> {
    bindings: Bindings<'s>,
    failed: BTreeMap<String, String>,
    spent: u64,
}

impl<'s> Computed<'s> {
    fn new(policy: &'s Policy, scope: &'s Scope<'_>) -> Computed<'s> {
        let mut computed = Computed {
            bindings: scope.bindings(),
            failed: BTreeMap::new(),
            spent: 0,
        };
        computed.bindings.bind_empty("variables");
        for (name, variable) in &policy.variables {
            let outcome = match &variable.program {
                Err(error) => Err(format!("compilation failed: {error}")),
                Ok(program) => {
                    let left = BUDGET.saturating_sub(computed.spent);
                    match computed.bindings.compute("variables", name, program, left) {
                        Ok(cost) => {
                            computed.spent += cost;
                            Ok(())
                        }
                        Err((error, cost)) => {
                            computed.spent += cost;
                            Err(computed.explain(error.message))
                        }
                    }
                }
            };
            if let Err(why) = outcome {
                computed.failed.insert(name.clone(), why);
            }
        }
        computed
    }

    /// The value of an expression.
    ///
    /// # Errors
    /// Why it has none; when that is because of a variable, why that has none.
    fn value(&mut self, expression: &Sourced) -> Result<Value, String> {
        evaluate(&expression.program, &self.bindings, &mut self.spent).map_err(|why| self.explain(why))
    }

    fn explain(&self, why: String) -> String {
        let failed = why
            .strip_prefix("no such key: ")
            .and_then(|name| Some((name, self.failed.get(name)?)));
        match failed {
            Some((name, because)) => {
                format!("composited variable {name:?} fails to evaluate: {because}")
            }
            None => why,
        }
    }
}

/// What an expression that could not be evaluated is reported as.
fn resulted(expression: &Sourced, why: &str) -> String {
    format!("expression '{}' resulted in error: {why}", expression.source)
}

/// Whether policies have anything to say about the write.
fn concerns(review: &Review<'_>) -> bool {
    !super::matching::is_exempt(&review.target.resource)
}
