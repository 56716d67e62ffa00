//! `pods/binding`: a scheduler says which node runs a Pod.

use axum::response::Response;
use choreo_apimachinery::field::{FieldError, FieldPath};
use choreo_apimachinery::status::{ApiError, Result};
use http::StatusCode;
use serde_json::{Value, json};

use crate::admission::Review;
use crate::dispatch::Context;
use crate::negotiate::{Answer, Body, Transform};
use crate::request::CreateOptions;
use crate::respond;
use crate::verbs::{Change, Subresource, Target, modify, now, text};

/// Binds a Pod to a node.
pub(super) async fn bind(context: &Context, target: &Target, body: &Body) -> Result<Response> {
    let answer = Answer {
        transform: Transform::None,
        ..context.negotiate(target, false)?
    };
    let options = CreateOptions::parse(&context.query, "CreateOptions")?;
    let name = context.info.name.as_str();
    let mut binding = body.decode()?;
    let mut review = Review::of_document(target, ("binding", name), &options, &mut binding);
    review.mutate(&mut binding).await?;
    let node = text(&binding, "/target/name").to_owned();
    if node.is_empty() {
        let path = FieldPath::new("target");
        return Err(ApiError::invalid(
            "",
            "Binding",
            name,
            &[FieldError::required(&path.child("name"), "")],
        ));
    }
    review.validate(Some(&binding)).await?;
    let warnings = review.warnings;
    let target = &target.admitted();
    let change = Change::asked(name, Subresource::Binding, &options);
    modify(target, &change, |pod| {
        let mut pod = pod.cloned().ok_or_else(|| target.not_found(name))?;
        let refuse = |why: &str| Err(ApiError::conflict("", "pods/binding", name, why));
        if crate::verbs::is_deleting(&pod) {
            return refuse(&format!(
                "pod {name} is being deleted, cannot be assigned to a host"
            ));
        }
        let present = text(&pod, "/spec/nodeName");
        if !present.is_empty() {
            return refuse(&format!("pod {name} is already assigned to node {present:?}"));
        }
        pod["spec"]["nodeName"] = node.as_str().into();
        for field in ["labels", "annotations"] {
            let given = binding
                .pointer(&format!("/metadata/{field}"))
                .and_then(Value::as_object);
            for (key, value) in given.into_iter().flatten() {
                pod["metadata"][field][key] = value.clone();
            }
        }
        scheduled(&mut pod);
        Ok(pod)
    })
    .await?;
    let status =
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    respond::object(answer, StatusCode::CREATED, &status, &warnings)
}

/// Sets the condition `PodScheduled`.
fn scheduled(pod: &mut Value) {
    let condition =
        json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now()});
    if !pod["status"].is_object() {
        pod["status"] = json!({});
    }
    let conditions = &mut pod["status"]["conditions"];
    match conditions.as_array_mut() {
        Some(all) => match all.iter_mut().find(|c| c["type"] == "PodScheduled") {
            Some(present) => *present = condition,
            None => all.push(condition),
        },
        None => *conditions = json!([condition]),
    }
}
