//! Admission webhooks: somebody else's servers that change or judge writes.
//!
//! Mutating webhooks are asked one after the other, by the names of their configurations; each sees what the one before made.
//! One with `reinvocationPolicy: IfNeeded` is asked once more when the object was changed behind it. Validating webhooks are
//! asked all at once.

mod call;
mod config;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use choreo_apimachinery::registry::ResourceInfo;
use choreo_apimachinery::status::{ApiError, Result};
use choreo_store::Snapshot;
use serde_json::Value;

pub(super) use call::request_value;
use config::Hook;

use super::chain::Review;
use super::expressions::{Scope, hold};
use super::matching::is_exempt;
use super::registered::Registered;
use crate::audit::Part;
use crate::verbs::to_version;

/// The webhooks of a logical cluster.
pub(super) struct Webhooks {
    mutating: Registered<Vec<Hook>>,
    validating: Registered<Vec<Hook>>,
}

/// What is remembered between the two rounds of mutating webhooks.
#[derive(Default)]
pub(super) struct Rounds {
    second: bool,
    /// Those that may be asked again, and were asked.
    asked: BTreeSet<String>,
    /// Those of them that must be, since the object was changed behind them.
    again: BTreeSet<String>,
    /// The object as the last one left it.
    last: Option<Value>,
    /// Whether any changed the object: then everything that changes objects has another look.
    pub(super) changed: bool,
}

impl Rounds {
    /// Begins the second round with the object as the steps in process have left it.
    pub(super) fn begin_second(&mut self, object: &Value) {
        self.second = true;
        if self.last.as_ref().is_some_and(|last| last != object) {
            self.again.append(&mut self.asked);
        }
    }

    fn is_asked(&self, id: &str) -> bool {
        !self.second || self.again.contains(id)
    }

    fn after(&mut self, id: String, hook: &Hook, changed: bool) {
        if changed {
            self.again.append(&mut self.asked);
            self.changed = true;
        }
        if hook.again {
            self.asked.insert(id);
        }
    }
}

impl Webhooks {
    pub(super) fn new() -> Webhooks {
        Webhooks {
            mutating: Registered::new(
                "admissionregistration.k8s.io/mutatingwebhookconfigurations",
                config::read,
            ),
            validating: Registered::new(
                "admissionregistration.k8s.io/validatingwebhookconfigurations",
                config::read,
            ),
        }
    }

    /// Asks the mutating webhooks. `object` is none for a deletion, which they may refuse.
    ///
    /// # Errors
    /// Why the write is refused.
    pub(super) async fn mutate(
        &self,
        review: &mut Review<'_>,
        mut object: Option<&mut Value>,
        rounds: &mut Rounds,
    ) -> Result<bool> {
        let snapshot = review.target.cluster.store().snapshot();
        let configurations = self.mutating.all(&snapshot);
        if configurations.is_empty() || is_exempt(&review.target.resource) {
            return Ok(false);
        }
        let mut any = false;
        for (configuration, hooks) in configurations {
            for (index, hook) in hooks.iter().enumerate() {
                let id = format!("{configuration}/{index}/{}", hook.name);
                if !rounds.is_asked(&id) {
                    continue;
                }
                let Some(asked) = prepare(review, &snapshot, hook, object.as_deref())? else {
                    continue;
                };
                let asks = Instant::now();
                let answer = call::ask(&review.target.cluster, &snapshot, hook, asked.body).await;
                took(review, Part::MutatingWebhooks, asks);
                let Some(answer) = answer? else { continue };
                review.warnings.extend(answer.warnings);
                let mut changed = false;
                if let Some(patch) = answer.patch {
                    let Some(object) = object.as_deref_mut() else {
                        let why = format!(
                            "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
                            hook.name
                        );
                        return Err(ApiError::internal(why));
                    };
                    changed = apply(review, &asked.info, object, &patch)?;
                }
                any |= changed;
                rounds.after(id, hook, changed);
            }
        }
        rounds.last = object.map(|object| object.clone());
        Ok(any)
    }

    /// Asks the validating webhooks, all at once. The first refusal, in the order of the webhooks, counts.
    ///
    /// # Errors
    /// Why the write is refused.
    pub(super) async fn validate(&self, review: &mut Review<'_>, object: Option<&Value>) -> Result<()> {
        let snapshot = review.target.cluster.store().snapshot();
        let configurations = self.validating.all(&snapshot);
        if configurations.is_empty() || is_exempt(&review.target.resource) {
            return Ok(());
        }
        let cluster = &review.target.cluster;
        let mut calls = Vec::new();
        for (_, hooks) in &configurations {
            for hook in hooks.iter() {
                if let Some(asked) = prepare(review, &snapshot, hook, object)? {
                    calls.push(call::ask(cluster, &snapshot, hook, asked.body));
                }
            }
        }
        let asks = Instant::now();
        let answers = futures::future::join_all(calls).await;
        took(review, Part::ValidatingWebhooks, asks);
        let mut refusal = None;
        for answer in answers {
            match answer {
                Ok(Some(answer)) => review.warnings.extend(answer.warnings),
                Ok(None) => {}
                Err(error) => refusal = refusal.or(Some(error)),
            }
        }
        refusal.map_or(Ok(()), Err)
    }
}

/// Notes for the audit how long webhooks took.
fn took(review: &Review<'_>, part: Part, since: Instant) {
    if let Some(notes) = &review.target.notes {
        notes.took(part, since.elapsed());
    }
}

/// A webhook's question, ready to be sent.
struct Asked {
    /// The version of the resource that the webhook wants to see.
    info: Arc<ResourceInfo>,
    body: call::Question,
}

/// What a webhook is to be asked; none when the write is not for it.
fn prepare(
    review: &Review<'_>,
    snapshot: &Snapshot,
    hook: &Hook,
    object: Option<&Value>,
) -> Result<Option<Asked>> {
    let Some(info) = hook.matcher.matches(review, snapshot, object, false) else {
        return Ok(None);
    };
    let own = review.shows_as_is(&info);
    let converted = |value: Option<&Value>| value.map(|value| to_version(&info, value.clone()));
    let (made, old);
    let (object, old) = if own {
        (object, review.old)
    } else {
        (made, old) = (converted(object), converted(review.old));
        (made.as_ref(), old.as_ref())
    };
    if !hook.conditions.is_empty() {
        let request = request_value(review, &info);
        let scope = Scope::new(review, snapshot, object, old, request);
        match hold(&hook.conditions, &scope) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(why) if hook.ignores_failures => {
                tracing::warn!(webhook = %hook.name, "conditions could not be evaluated: {why}");
                return Ok(None);
            }
            Err(why) => {
                let info = &review.target.resource;
                return Err(ApiError::forbidden(&info.group, &info.plural, review.name, &why));
            }
        }
    }
    if review.dry_run && hook.has_side_effects {
        let why = format!("admission webhook {:?} does not support dry run", hook.name);
        return Err(ApiError::bad_request(why));
    }
    let body = call::Question::new(review, &info, object, old);
    Ok(Some(Asked { info, body }))
}

/// Applies a webhook's patch. Says whether it changed anything.
fn apply(review: &Review<'_>, info: &ResourceInfo, object: &mut Value, patch: &[u8]) -> Result<bool> {
    let own = &review.target.resource;
    let as_is = review.shows_as_is(info);
    let before = if as_is {
        object.clone()
    } else {
        to_version(info, object.clone())
    };
    let patched = choreo_apimachinery::patch::json(&before, patch).map_err(|error| {
        let cause = error.details.and_then(|d| d.causes.into_iter().next());
        ApiError::internal(cause.map_or(error.message, |cause| cause.message))
    })?;
    if patched == before {
        return Ok(false);
    }
    let patched = if as_is { patched } else { to_version(own, patched) };
    *object = review.decode(patched)?;
    Ok(true)
}
