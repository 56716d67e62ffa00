//! The question and the answer of a webhook: `AdmissionReview`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use choreo_apimachinery::registry::ResourceInfo;
use choreo_apimachinery::status::{ApiError, Reason, Result, StatusDetails};
use choreo_store::Snapshot;
use serde_json::{Map, Value, json};

use super::config::Hook;
use crate::admission::chain::Review;
use crate::cluster::Cluster;
use crate::reviews::user_info;
use crate::verbs::text;

/// A question, without the version that a webhook wants it in.
pub(super) struct Question {
    uid: String,
    request: Value,
}

/// What a webhook that agrees has said.
pub(super) struct Agreed {
    pub(super) warnings: Vec<String>,
    /// A JSON patch.
    pub(super) patch: Option<Vec<u8>>,
}

/// The request as expressions and webhooks see it, but for the objects.
pub(crate) fn request_value(review: &Review<'_>, info: &ResourceInfo) -> Value {
    let own = &review.target.resource;
    let kind = |info: &ResourceInfo| match review.spoken() {
        Some(spoken) => json!({"group": spoken.group, "version": spoken.version, "kind": spoken.kind}),
        None => json!({"group": info.group, "version": info.version, "kind": info.kind}),
    };
    let resource =
        |info: &ResourceInfo| json!({"group": info.group, "version": info.version, "resource": info.plural});
    let mut request = Map::new();
    let mut put = |field: &str, value: Value| {
        request.insert(field.to_owned(), value);
    };
    put("kind", kind(info));
    put("resource", resource(info));
    put("requestKind", kind(own));
    put("requestResource", resource(own));
    for (field, text) in [
        ("subResource", review.subresource),
        ("requestSubResource", review.subresource),
        ("name", review.name),
        ("namespace", review.namespace()),
    ] {
        if !text.is_empty() {
            put(field, text.into());
        }
    }
    put("operation", review.operation.as_str().into());
    put("userInfo", user_info(&review.target.user));
    put("dryRun", review.dry_run.into());
    put("options", review.options());
    Value::Object(request)
}

impl Question {
    pub(super) fn new(
        review: &Review<'_>,
        info: &ResourceInfo,
        object: Option<&Value>,
        old: Option<&Value>,
    ) -> Question {
        let uid = uuid::Uuid::new_v4().to_string();
        let mut request = request_value(review, info);
        request["uid"] = uid.as_str().into();
        request["object"] = object.cloned().unwrap_or_default();
        request["oldObject"] = old.cloned().unwrap_or_default();
        Question { uid, request }
    }
}

/// Asks a webhook. None when it could not be asked and that does not matter.
///
/// # Errors
/// Why it refuses, or why it could not be asked.
pub(super) async fn ask(
    cluster: &Cluster,
    snapshot: &Snapshot,
    hook: &Hook,
    question: Question,
) -> Result<Option<Agreed>> {
    let outcome = match exchange(cluster, snapshot, hook, &question).await {
        Ok(response) => agreed(hook, &question.uid, &response),
        Err(why) => Err(Failure::Call(format!("failed to call webhook: {why}"))),
    };
    match outcome {
        Ok(agreed) => Ok(Some(agreed)),
        Err(Failure::Refused(error)) => Err(error),
        Err(Failure::Call(why)) => {
            let why = format!("failed calling webhook {:?}: {why}", hook.name);
            if hook.ignores_failures {
                tracing::warn!("{why}; it goes on without, since the webhook's failurePolicy is Ignore");
                return Ok(None);
            }
            Err(ApiError::internal(why))
        }
    }
}

enum Failure {
    /// It could not be asked, or its answer makes no sense.
    Call(String),
    /// It refuses.
    Refused(ApiError),
}

async fn exchange(
    cluster: &Cluster,
    snapshot: &Snapshot,
    hook: &Hook,
    question: &Question,
) -> std::result::Result<Value, String> {
    let review = json!({"kind": "AdmissionReview", "apiVersion": hook.version, "request": question.request});
    let called = cluster
        .callouts
        .call(snapshot, &hook.client, &review, hook.timeout);
    called.await.map_err(|error| error.to_string())
}

fn agreed(hook: &Hook, uid: &str, review: &Value) -> std::result::Result<Agreed, Failure> {
    let wrong = |why: String| Err(Failure::Call(format!("received invalid webhook response: {why}")));
    let version = text(review, "/apiVersion");
    if text(review, "/kind") != "AdmissionReview" || version != hook.version {
        return wrong(format!(
            "expected webhook response of {}, Kind=AdmissionReview, got {version}, Kind={}",
            hook.version,
            text(review, "/kind")
        ));
    }
    let Some(response) = review.get("response").filter(|r| r.is_object()) else {
        return Err(Failure::Call("webhook response was absent".to_owned()));
    };
    let given = text(response, "/uid");
    // The older version of the review does not have to repeat it.
    if given != uid && !(hook.version.ends_with("beta1") && given.is_empty()) {
        return wrong(format!("expected response.uid={uid:?}, got {given:?}"));
    }
    let texts = |field: &str| -> Vec<String> {
        let all = response[field].as_array().into_iter().flatten();
        all.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    if response["allowed"].as_bool() != Some(true) {
        return Err(Failure::Refused(refusal(&hook.name, &response["status"])));
    }
    let patch = text(response, "/patch");
    let kind = text(response, "/patchType");
    let patch = match (patch.is_empty(), kind) {
        (true, "") => None,
        (true, _) => return wrong("webhook returned response.patchType but not response.patch".to_owned()),
        (false, "") => return wrong("webhook returned response.patch but not response.patchType".to_owned()),
        (false, "JSONPatch") => match STANDARD.decode(patch) {
            Ok(patch) => Some(patch),
            Err(_) => return wrong("response.patch is not base64".to_owned()),
        },
        (false, other) => return wrong(format!("invalid response.patchType of {other:?}")),
    };
    Ok(Agreed {
        warnings: texts("warnings"),
        patch,
    })
}

/// What a client is told of a refusal: what the webhook says, under its name.
fn refusal(name: &str, status: &Value) -> ApiError {
    let by = format!("admission webhook {name:?} denied the request");
    let (message, reason) = (text(status, "/message"), text(status, "/reason"));
    let message = if !message.is_empty() {
        format!("{by}: {message}")
    } else if !reason.is_empty() {
        format!("{by}: {reason}")
    } else {
        format!("{by} without explanation")
    };
    let code = status["code"].as_u64().and_then(|code| u16::try_from(code).ok());
    let details = status.get("details").filter(|d| d.is_object());
    ApiError {
        // A refusal is none with a code of success.
        code: code.filter(|code| (400..600).contains(code)).unwrap_or(400),
        reason: serde_json::from_value(reason.into()).unwrap_or(Reason::Other(reason.to_owned())),
        message,
        details: details
            .and_then(|d| serde_json::from_value::<StatusDetails>(d.clone()).ok())
            .map(Box::new),
        list_continue: None,
    }
}
