//! `pods/eviction`: deletion of a Pod that respects disruption budgets.

use axum::response::Response;
use choreo_apimachinery::selector::LabelSelector;
use choreo_apimachinery::status::{ApiError, Result, StatusCause};
use choreo_store::Object;
use http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;

use super::other;
use crate::dispatch::Context;
use crate::negotiate::{Answer, Body, Transform};
use crate::request::{CreateOptions, DeleteOptions};
use crate::respond;
use crate::verbs::{self, Target, text};

/// Evicts a Pod.
pub(super) async fn evict(context: &Context, target: &Target, body: &Body) -> Result<Response> {
    let answer = Answer {
        transform: Transform::None,
        ..context.negotiate(target, false)?
    };
    let options = CreateOptions::parse(&context.query, "CreateOptions")?;
    let name = context.info.name.as_str();
    let eviction = body.decode()?;
    let mut delete = DeleteOptions::parse(&context.query, eviction.get("deleteOptions"))?;
    delete.dry_run |= options.dry_run;
    let pod = target.get(name).await?.value();
    if !matches!(text(&pod, "/status/phase"), "Succeeded" | "Failed" | "Pending") {
        check_budgets(context, target, &pod)?;
    }
    verbs::delete(target, name, &delete).await?;
    let status =
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    respond::object(answer, StatusCode::CREATED, &status, &[])
}

/// 429 when a budget that selects the Pod allows no disruption now, 500 when two of them do.
fn check_budgets(context: &Context, target: &Target, pod: &Value) -> Result<()> {
    let budgets = other(context, ("policy", "v1", "poddisruptionbudgets"))?;
    let snapshot = target.cluster.store().snapshot();
    let selects = |budget: &&Arc<Object>| {
        let selector = budget.value().pointer("/spec/selector").cloned();
        LabelSelector::from_object(selector.as_ref()).is_ok_and(|s| s.matches_object(pod))
    };
    let found: Vec<_> = snapshot
        .iter(&budgets.storage_resource(), Some(&target.namespace), None)
        .filter(selects)
        .collect();
    match found.as_slice() {
        [] => Ok(()),
        [budget] => {
            let budget = budget.value();
            let allowed = budget
                .pointer("/status/disruptionsAllowed")
                .and_then(Value::as_i64)
                .unwrap_or_default();
            if allowed > 0 {
                return Ok(());
            }
            let name = text(&budget, "/metadata/name");
            let mut error = ApiError::too_many_requests(
                "Cannot evict pod as it would violate the pod's disruption budget.",
                0,
            );
            error.details.get_or_insert_default().causes.push(StatusCause {
                cause: "DisruptionBudget".to_owned(),
                message: format!(
                    "The disruption budget {name} needs {} healthy pods and has {} currently",
                    budget
                        .pointer("/status/desiredHealthy")
                        .and_then(Value::as_i64)
                        .unwrap_or_default(),
                    budget
                        .pointer("/status/currentHealthy")
                        .and_then(Value::as_i64)
                        .unwrap_or_default()
                ),
                field: String::new(),
            });
            Err(error)
        }
        _ => Err(ApiError::internal(
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
        )),
    }
}
