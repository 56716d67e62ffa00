//! PATCH of an object or of one of its subresources.

use axum::response::Response;
use choreo_apimachinery::status::Result;

use super::written;
use crate::dispatch::Context;
use crate::negotiate::Body;
use crate::request::PatchOptions;
use crate::verbs::{self, PatchKind, Subresource, Target};

/// Changes an object or a part of it.
pub(super) async fn patch(
    context: &Context,
    target: &Target,
    part: Subresource,
    body: &Body,
) -> Result<Response> {
    let kind = PatchKind::parse(&body.content_type, target.resource.is_crd)?;
    let answer = context.negotiate(target, false)?;
    let options = PatchOptions::parse(&context.query, kind == PatchKind::Apply)?;
    let outcome = verbs::patch(target, &context.info.name, part, kind, &body.bytes, &options).await?;
    written(context, answer, target, &outcome)
}
