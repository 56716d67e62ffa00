//! Reviews: questions in the form of objects that are answered and not kept.

use axum::response::Response;
use choreo_apimachinery::status::{ApiError, Result};
use http::StatusCode;
use serde_json::{Value, json};

use crate::dispatch::Context;
use crate::negotiate::{Answer, Transform};
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
    review["status"] = match info.plural.as_str() {
        "selfsubjectaccessreviews" => access(user.is_in(MASTERS)),
        "subjectaccessreviews" | "localsubjectaccessreviews" => {
            let groups = review.pointer("/spec/groups").and_then(Value::as_array);
            access(groups.into_iter().flatten().any(|g| g.as_str() == Some(MASTERS)))
        }
        "selfsubjectrulesreviews" => rules(user.is_in(MASTERS)),
        "selfsubjectreviews" => json!({"userInfo": user_info(user)}),
        "tokenreviews" => {
            json!({"authenticated": false, "user": {}, "error": "tokens are not reviewed by this server yet"})
        }
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

/// The one rule of the first cut; see [`crate::authz`].
fn access(allowed: bool) -> Value {
    if allowed {
        json!({"allowed": true, "reason": format!("the user is a member of {MASTERS}")})
    } else {
        json!({"allowed": false, "reason": format!("only members of {MASTERS} have access")})
    }
}

fn rules(allowed: bool) -> Value {
    if !allowed {
        return json!({"resourceRules": [], "nonResourceRules": [], "incomplete": false});
    }
    json!({
        "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        "incomplete": false,
    })
}

fn user_info(user: &UserInfo) -> Value {
    let mut info = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        info["uid"] = user.uid.as_str().into();
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}
