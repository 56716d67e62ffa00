//! POST to a collection.

use axum::response::Response;
use choreo_apimachinery::status::{ApiError, Result};

use super::written;
use crate::dispatch::Context;
use crate::negotiate::Body;
use crate::request::CreateOptions;
use crate::reviews;
use crate::verbs::{self, Target};

/// Creates an object. Reviews are answered and not kept.
pub(super) async fn create(context: &Context, target: &Target, body: &Body) -> Result<Response> {
    let answer = context.negotiate(target, false)?;
    let options = CreateOptions::parse(&context.query, "CreateOptions")?;
    let (document, repeated) = body.decode_noting()?;
    if !target.resource.stored() {
        return reviews::answer(context, target, answer, document);
    }
    let kind = document
        .get("kind")
        .and_then(serde_json::Value::as_str)
        .unwrap_or_default();
    if kind == target.resource.list_kind && kind != target.resource.kind {
        return Err(ApiError::bad_request(format!(
            "a {kind} cannot be created as a whole; create its items one by one"
        )));
    }
    verbs::check_repeated(target, &document, &repeated, options.field_validation)?;
    let mut outcome = verbs::create(target, document, &options).await?;
    outcome.warn_repeated(&repeated, options.field_validation);
    written(context, answer, target, &outcome)
}
