//! `pods/eviction`: deletion of a Pod that respects disruption budgets.

use axum::response::Response;
use choreo_apimachinery::selector::LabelSelector;
use choreo_apimachinery::status::{ApiError, Result, StatusCause};
use choreo_store::Object;
use http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;

use super::other;
use crate::admission::Review;
use crate::dispatch::Context;
use crate::negotiate::{Answer, Body, Transform};
use crate::request::{CreateOptions, DeleteOptions};
use crate::respond;
use crate::user::UserInfo;
use crate::verbs::{self, Change, Subresource, Target, modify, now, text};

/// Evicts a Pod.
pub(super) async fn evict(context: &Context, target: &Target, body: &Body) -> Result<Response> {
    let answer = Answer {
        transform: Transform::None,
        ..context.negotiate(target, false)?
    };
    let options = CreateOptions::parse(&context.query, "CreateOptions")?;
    let name = context.info.name.as_str();
    let mut eviction = body.decode()?;
    let mut review = Review::of_document(target, ("eviction", name), &options, &mut eviction);
    review.mutate(&mut eviction).await?;
    let given = text(&eviction, "/metadata/name");
    if !given.is_empty() && given != name {
        return Err(ApiError::bad_request(
            "name in URL does not match name in Eviction object",
        ));
    }
    let mut delete = DeleteOptions::parse(&context.query, eviction.get("deleteOptions"))?;
    review.validate(Some(&eviction)).await?;
    let warnings = review.warnings;
    delete.dry_run |= options.dry_run;
    let pod = target.get(name).await?.value();
    // What does not run, or goes already, disrupts nothing.
    let idle = matches!(text(&pod, "/status/phase"), "Succeeded" | "Failed" | "Pending");
    if !idle && !verbs::is_deleting(&pod) {
        take_from_budget(context, target, &pod, delete.dry_run).await?;
    }
    // Whoever judges deletions has been asked about the eviction, as by kube-apiserver.
    verbs::delete(&target.admitted(), name, &delete).await?;
    let status =
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    respond::object(answer, StatusCode::CREATED, &status, &warnings)
}

/// Writes the eviction down in the budget that selects the Pod.
///
/// # Errors
/// 429 when it allows no disruption now, 500 when two budgets select the Pod.
async fn take_from_budget(context: &Context, target: &Target, pod: &Value, dry_run: bool) -> Result<()> {
    let info = other(context, ("policy", "v1", "poddisruptionbudgets"))?;
    let snapshot = target.cluster.store().snapshot();
    let selects = |budget: &&Arc<Object>| {
        let selector = budget.value().pointer("/spec/selector").cloned();
        LabelSelector::from_object(selector.as_ref()).is_ok_and(|s| s.matches_object(pod))
    };
    let found: Vec<String> = snapshot
        .iter(&info.storage_resource(), Some(&target.namespace), None)
        .filter(selects)
        .map(|budget| budget.key().name().to_owned())
        .collect();
    drop(snapshot);
    let name = match found.as_slice() {
        [] => return Ok(()),
        [one] => one,
        _ => {
            return Err(ApiError::internal(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            ));
        }
    };
    let user = UserInfo::system("eviction");
    let budgets = Target::of(&target.cluster, &info, &target.namespace, &user, "eviction");
    let change = Change {
        dry_run,
        ..Change::own(name, Subresource::Status)
    };
    let evicted = text(pod, "/metadata/name");
    // Two evictions at once: the second one is computed anew from what the first one left.
    modify(&budgets, &change, |budget| {
        let mut budget = budget.cloned().ok_or_else(|| budgets.not_found(name))?;
        if is_ready(pod) || !goes_freely(&budget) {
            take(&mut budget, evicted)?;
        }
        Ok(budget)
    })
    .await
    .map(|_| ())
}

fn number(budget: &Value, field: &str) -> i64 {
    budget["status"][field].as_i64().unwrap_or_default()
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    conditions
        .into_iter()
        .flatten()
        .any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// Whether a Pod that is not ready may go without being counted.
fn goes_freely(budget: &Value) -> bool {
    let enough = number(budget, "currentHealthy") >= number(budget, "desiredHealthy")
        && number(budget, "desiredHealthy") > 0;
    text(budget, "/spec/unhealthyPodEvictionPolicy") == "AlwaysAllow" || enough
}

/// Takes one disruption from a budget, and notes for which Pod.
fn take(budget: &mut Value, pod: &str) -> Result<()> {
    let name = text(budget, "/metadata/name").to_owned();
    let generation = budget.pointer("/metadata/generation").and_then(Value::as_i64);
    if number(budget, "observedGeneration") < generation.unwrap_or_default() {
        let why = format!("The disruption budget {name} is still being processed by the server.");
        return Err(refusal(10, why));
    }
    let allowed = number(budget, "disruptionsAllowed");
    if allowed <= 0 {
        let why = format!(
            "The disruption budget {name} needs {} healthy pods and has {} currently",
            number(budget, "desiredHealthy"),
            number(budget, "currentHealthy")
        );
        return Err(refusal(0, why));
    }
    budget["status"]["disruptionsAllowed"] = (allowed - 1).into();
    budget["status"]["disruptedPods"][pod] = now().into();
    Ok(())
}

fn refusal(retry: u32, why: String) -> ApiError {
    let mut error = ApiError::too_many_requests(
        "Cannot evict pod as it would violate the pod's disruption budget.",
        retry,
    );
    error.details.get_or_insert_default().causes.push(StatusCause {
        cause: "DisruptionBudget".to_owned(),
        message: why,
        field: String::new(),
    });
    error
}
