//! `serviceaccounts/token`: a token for an account, which is answered and not kept.

use axum::response::Response;
use choreo_apimachinery::status::Result;
use http::StatusCode;

use crate::accounts;
use crate::admission::Review;
use crate::dispatch::Context;
use crate::negotiate::{Answer, Body, Transform};
use crate::request::CreateOptions;
use crate::respond;
use crate::verbs::Target;

/// Issues a token.
pub(super) async fn issue(context: &Context, target: &Target, body: &Body) -> Result<Response> {
    let answer = Answer {
        transform: Transform::None,
        ..context.negotiate(target, false)?
    };
    let options = CreateOptions::parse(&context.query, "CreateOptions")?;
    let name = context.info.name.as_str();
    let mut request = body.decode()?;
    accounts::check_kind(&request)?;
    let mut review = Review::of_document(target, ("token", name), &options, &mut request);
    review.mutate(&mut request).await?;
    let request = accounts::complete(target, name, &request)?;
    review.validate(Some(&request)).await?;
    let warnings = review.warnings;
    let answered = accounts::issue(target, request)?;
    respond::object(answer, StatusCode::CREATED, &answered, &warnings)
}
