//! DELETE of an object or a collection.

use axum::response::Response;
use choreo_apimachinery::status::Result;
use http::StatusCode;

use super::{list, object};
use crate::dispatch::Context;
use crate::negotiate::{Body, Transform};
use crate::request::{DeleteOptions, ListOptions};
use crate::respond;
use crate::verbs::{self, Filter, Target};

/// Deletes an object.
pub(super) async fn delete(context: &Context, target: &Target, body: &Body) -> Result<Response> {
    let answer = context.negotiate(target, false)?;
    let options = DeleteOptions::parse(&context.query, body.decode_optional()?.as_ref())?;
    let deleted = verbs::delete(target, &context.info.name, &options).await?;
    if let Some(status) = deleted.body(target) {
        let answer = crate::negotiate::Answer {
            transform: Transform::None,
            ..answer
        };
        return respond::object(answer, StatusCode::OK, &status, &deleted.warnings);
    }
    // Who asked for dependents not to be orphaned, in the old way, is told that it is not done yet.
    let status = if !deleted.gone && options.orphan_dependents == Some(false) {
        StatusCode::ACCEPTED
    } else {
        StatusCode::OK
    };
    object(
        answer,
        status,
        target,
        &deleted.view,
        &deleted.warnings,
        &context.query,
    )
}

/// Deletes the selected objects of a collection.
pub(super) async fn delete_collection(context: &Context, target: &Target, body: &Body) -> Result<Response> {
    let answer = context.negotiate(target, true)?;
    let list_options = ListOptions::parse(&context.query, false)?;
    let options = DeleteOptions::parse(&context.query, body.decode_optional()?.as_ref())?;
    let filter = Filter::parse(
        &target.resource,
        &list_options.label_selector,
        &list_options.field_selector,
    )?;
    let listed = verbs::delete_collection(target, &list_options, &filter, &options).await?;
    list::listed_as(context, answer, target, listed).await
}
