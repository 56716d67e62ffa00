//! PUT of an object or of one of its subresources.

use axum::response::Response;
use choreo_apimachinery::status::Result;

use super::written;
use crate::dispatch::Context;
use crate::negotiate::Body;
use crate::request::UpdateOptions;
use crate::verbs::{self, Subresource, Target};

/// Replaces an object or a part of it.
pub(super) async fn update(
    context: &Context,
    target: &Target,
    part: Subresource,
    body: &Body,
) -> Result<Response> {
    let answer = context.negotiate(target, false)?;
    let options = UpdateOptions::parse(&context.query, "UpdateOptions")?;
    let (document, repeated) = body.decode_noting()?;
    verbs::check_repeated(target, &document, &repeated, options.field_validation)?;
    let mut outcome = verbs::update(target, &context.info.name, part, &document, &options).await?;
    outcome.warn_repeated(&repeated, options.field_validation);
    written(context, answer, target, &outcome)
}
