//! PATCH of an object or of one of its subresources.

use axum::response::Response;
use choreo_apimachinery::field::{FieldError, FieldPath};
use choreo_apimachinery::status::{ApiError, Result};

use super::written;
use crate::dispatch::Context;
use crate::negotiate::{Body, Repeated};
use crate::request::{FieldValidation, PatchOptions};
use crate::verbs::{self, Patch, PatchKind, Subresource, Target};

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
    let (patch, repeated) = Patch::read(kind, &body.bytes)?;
    if options.field_validation == FieldValidation::Strict {
        refuse(kind, &repeated)?;
    }
    let mut outcome = verbs::patch(target, &context.info.name, part, patch, &options).await?;
    outcome.warn_repeated(&repeated, options.field_validation);
    written(context, answer, target, &outcome)
}

/// Strict validation takes no patch that says the same thing twice.
fn refuse(kind: PatchKind, repeated: &Repeated) -> Result<()> {
    if repeated.is_empty() {
        return Ok(());
    }
    let problems = repeated.problems(&[]).join(", ");
    if kind == PatchKind::Apply {
        return Err(ApiError::bad_request(format!(
            "error strict decoding YAML: {problems}"
        )));
    }
    let why = format!("strict decoding error: {problems}");
    let error = FieldError::invalid(&FieldPath::new("patch"), "", why);
    Err(ApiError::invalid("", "", "", &[error]))
}
