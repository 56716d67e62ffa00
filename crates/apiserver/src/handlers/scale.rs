//! The `scale` subresource.

use axum::response::Response;
use choreo_apimachinery::status::{ApiError, Result};
use http::StatusCode;

use crate::dispatch::Context;
use crate::negotiate::{Answer, Body, Transform};
use crate::request::{PatchOptions, UpdateOptions, Verb};
use crate::respond;
use crate::verbs::{self, PatchKind, Target};

/// Reads or writes an object's `Scale`.
pub(super) async fn scale(context: &Context, target: &Target, body: &Body) -> Result<Response> {
    let answer = Answer {
        transform: Transform::None,
        ..context.negotiate(target, false)?
    };
    let name = &context.info.name;
    match context.info.verb {
        Verb::Get => {
            let view = target.get(name).await?;
            respond::object(
                answer,
                StatusCode::OK,
                &verbs::scale_of(target, &view.value())?,
                &[],
            )
        }
        Verb::Update => {
            let options = UpdateOptions::parse(&context.query, "UpdateOptions")?;
            let outcome = verbs::update_scale(target, name, &body.decode()?, &options).await?;
            respond::json(answer, StatusCode::OK, outcome.view.json(), &outcome.warnings)
        }
        Verb::Patch => {
            let kind = PatchKind::parse(&body.content_type, false)?;
            let options = PatchOptions::parse(&context.query, kind == PatchKind::Apply)?;
            let outcome = verbs::patch_scale(target, name, kind, &body.bytes, &options).await?;
            respond::json(answer, StatusCode::OK, outcome.view.json(), &outcome.warnings)
        }
        _ => Err(ApiError::method_not_allowed()),
    }
}
