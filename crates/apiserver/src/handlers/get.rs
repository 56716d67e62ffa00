//! GET of one object.

use axum::response::Response;
use choreo_apimachinery::status::Result;
use http::StatusCode;

use super::object;
use crate::dispatch::Context;
use crate::request::GetOptions;
use crate::verbs::{Target, require_revision};

/// Answers with an object, as it is now: the newest state is never older than what a client may ask for.
pub(super) async fn get(context: &Context, target: &Target) -> Result<Response> {
    let answer = context.negotiate(target, false)?;
    let options = GetOptions::parse(&context.query);
    require_revision(target, options.resource_version.as_deref())?;
    let view = target.get(&context.info.name).await?;
    object(answer, StatusCode::OK, target, &view, &[], &context.query)
}
