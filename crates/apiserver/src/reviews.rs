//! Reviews: questions in the form of objects that are answered and not kept.

use axum::response::Response;
use choreo_apimachinery::field::{FieldError, FieldPath};
use choreo_apimachinery::registry::ResourceInfo;
use choreo_apimachinery::status::{ApiError, Result};
use choreo_store::Snapshot;
use http::StatusCode;
use serde_json::{Value, json};

use crate::dispatch::Context;
use crate::negotiate::{Answer, Transform};
use crate::rbac::{self, Attributes, Decision, Rule};
use crate::respond;
use crate::user::{MASTERS, UserInfo};
use crate::verbs::Target;

/// Answers a review.
///
/// # Errors
/// 405 for a kind that is no review.
pub(crate) fn answer(
    context: &Context,
    target: &Target,
    answer: Answer,
    mut review: Value,
) -> Result<Response> {
    let info = &target.resource;
    review["kind"] = info.kind.as_str().into();
    review["apiVersion"] = info.api_version().into();
    if !review["metadata"].is_object() {
        review["metadata"] = json!({});
    }
    let user = &context.user;
    let snapshot = context.cluster.store().snapshot();
    let decide = |user: &UserInfo, wanted: &Attributes| access(&rbac::decide(&snapshot, user, wanted));
    review["status"] = match info.plural.as_str() {
        "selfsubjectaccessreviews" => decide(user, &attributes(info, &review)?),
        "subjectaccessreviews" | "localsubjectaccessreviews" => {
            let wanted = attributes(info, &review)?;
            if info.namespaced && wanted.namespace != target.namespace {
                let path = FieldPath::ROOT;
                let (spec, attributes) = (path.child("spec"), "resourceAttributes");
                let error = FieldError::invalid(
                    &spec.child(attributes).child("namespace"),
                    wanted.namespace,
                    "must match metadata.namespace",
                );
                return Err(ApiError::invalid(&info.group, &info.kind, "", &[error]));
            }
            decide(&subject(info, &review)?, &wanted)
        }
        "selfsubjectrulesreviews" => {
            let namespace = review
                .pointer("/spec/namespace")
                .and_then(Value::as_str)
                .unwrap_or_default();
            if namespace.is_empty() {
                return Err(ApiError::bad_request("no namespace on request"));
            }
            rules(&snapshot, user, namespace)
        }
        "selfsubjectreviews" => json!({"userInfo": user_info(user)}),
        "tokenreviews" => token(context, &review)?,
        _ => {
            return Err(ApiError::method_not_supported(
                &info.group,
                &info.plural,
                "create",
            ));
        }
    };
    let answer = Answer {
        transform: Transform::None,
        ..answer
    };
    respond::object(answer, StatusCode::CREATED, &review, &[])
}

fn access(decision: &Decision) -> Value {
    let mut status = json!({"allowed": decision.allowed});
    if !decision.reason.is_empty() {
        status["reason"] = decision.reason.as_str().into();
    }
    status
}

/// What a review asks about.
fn attributes(info: &ResourceInfo, review: &Value) -> Result<Attributes> {
    let spec = &review["spec"];
    let text = |object: &Value, field: &str| object[field].as_str().unwrap_or_default().to_owned();
    match (&spec["resourceAttributes"], &spec["nonResourceAttributes"]) {
        (resource @ Value::Object(_), Value::Null) => Ok(Attributes {
            verb: text(resource, "verb"),
            group: text(resource, "group"),
            resource: text(resource, "resource"),
            subresource: text(resource, "subresource"),
            namespace: text(resource, "namespace"),
            name: text(resource, "name"),
            path: None,
        }),
        (Value::Null, path @ Value::Object(_)) => Ok(Attributes {
            verb: text(path, "verb"),
            path: Some(text(path, "path")),
            ..Attributes::default()
        }),
        _ => {
            let error = FieldError::invalid(
                &FieldPath::ROOT.child("spec").child("resourceAttributes"),
                spec["resourceAttributes"].clone(),
                "exactly one of nonResourceAttributes or resourceAttributes must be specified",
            );
            Err(ApiError::invalid(&info.group, &info.kind, "", &[error]))
        }
    }
}

/// About whom a review asks.
fn subject(info: &ResourceInfo, review: &Value) -> Result<UserInfo> {
    let spec = &review["spec"];
    let texts = |value: &Value| -> Vec<String> {
        let items = value.as_array().into_iter().flatten();
        items.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let user = UserInfo {
        name: spec["user"].as_str().unwrap_or_default().to_owned(),
        uid: spec["uid"].as_str().unwrap_or_default().to_owned(),
        groups: texts(&spec["groups"]),
        ..UserInfo::default()
    };
    if user.name.is_empty() && user.groups.is_empty() {
        let error = FieldError::invalid(
            &FieldPath::ROOT.child("spec").child("user"),
            user.name,
            "at least one of user or group must be specified",
        );
        return Err(ApiError::invalid(&info.group, &info.kind, "", &[error]));
    }
    Ok(user)
}

/// Every rule that the user has in a namespace.
fn rules(snapshot: &Snapshot, user: &UserInfo, namespace: &str) -> Value {
    if user.is_in(MASTERS) {
        return json!({
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
            "incomplete": false,
        });
    }
    let granted = rbac::granted(snapshot, user, namespace);
    let (paths, resources): (Vec<&Rule>, Vec<&Rule>) = granted
        .iter()
        .map(|granted| &granted.rule)
        .partition(|rule| !rule.non_resource_urls.is_empty());
    json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false})
}

/// Whose token a review asks about.
fn token(context: &Context, review: &Value) -> Result<Value> {
    let token = review
        .pointer("/spec/token")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if token.is_empty() {
        let why = "token is required for TokenReview in authentication";
        return Err(ApiError::bad_request(why));
    }
    let audiences: Vec<String> = review
        .pointer("/spec/audiences")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    Ok(match context.server.review(&context.cluster, token, &audiences) {
        Ok(verified) => json!({
            "authenticated": true,
            "user": user_info(&verified.user),
            "audiences": verified.audiences,
        }),
        Err(None) => json!({"user": {}, "error": "invalid bearer token"}),
        Err(Some(why)) => json!({"user": {}, "error": format!("[invalid bearer token, {why}]")}),
    })
}

/// A user as the API shows one.
pub(crate) fn user_info(user: &UserInfo) -> Value {
    let mut info = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        info["uid"] = user.uid.as_str().into();
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}
