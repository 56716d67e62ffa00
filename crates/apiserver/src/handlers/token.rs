//! `serviceaccounts/token`: a token for an account, which is answered and not kept.

use axum::response::Response;
use choreo_apimachinery::status::Result;
use http::StatusCode;

use crate::accounts;
use crate::dispatch::Context;
use crate::negotiate::{Answer, Body, Transform};
use crate::request::CreateOptions;
use crate::respond;
use crate::verbs::Target;

/// Issues a token.
pub(super) fn issue(context: &Context, target: &Target, body: &Body) -> Result<Response> {
    let answer = Answer {
        transform: Transform::None,
        ..context.negotiate(target, false)?
    };
    CreateOptions::parse(&context.query, "CreateOptions")?;
    let answered = accounts::request(target, &context.info.name, &body.decode()?)?;
    respond::object(answer, StatusCode::CREATED, &answered, &[])
}
