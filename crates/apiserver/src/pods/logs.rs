//! `pods/log`.

use axum::body::Body;
use axum::response::Response;
use choreo_apimachinery::field::{FieldError, FieldPath};
use choreo_apimachinery::status::{ApiError, Result};
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde_json::Value;

use super::container;
use crate::dispatch::Context;
use crate::request::{Query, Verb};
use crate::verbs::text;
use choreo_pod_access::{LogQuery, LogSource, PodAccess};

/// Answers with a container's log, as it comes.
///
/// # Errors
/// 400 without a container that has one, 422 for options that make no sense.
pub(super) async fn answer(context: &Context, pod: &Value, access: &dyn PodAccess) -> Result<Response> {
    if context.info.verb != Verb::Get {
        return Err(ApiError::method_not_allowed());
    }
    let name = text(pod, "/metadata/name");
    let mut query = options(&context.query, name, jiff::Timestamp::now())?;
    let chosen = container::choose(pod, context.query.text("container"))?;
    let body = if container::is_placed(pod) {
        container::check_logs(pod, &chosen, query.previous)?;
        query.container = Some(chosen);
        let log = access.logs(&context.info.namespace, name, query).await;
        Body::from_stream(log.map_err(|error| super::access::refused(&error))?)
    } else {
        // A Pod that is on no node has written nothing.
        Body::empty()
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    Ok(response)
}

/// Reads `PodLogOptions` of `core/v1`, but for the container.
fn options(query: &Query, pod: &str, now: jiff::Timestamp) -> Result<LogQuery> {
    let mut errors = Vec::new();
    let field = FieldPath::new;
    let at_least = |name: &'static str, least: i64, errors: &mut Vec<FieldError>| -> Result<Option<i64>> {
        let number = query.number(name)?;
        if let Some(number) = number.filter(|number| *number < least) {
            let why = format!("must be greater than or equal to {least}");
            errors.push(FieldError::invalid(&field(name), number, &why));
        }
        Ok(number)
    };
    let tail = at_least("tailLines", 0, &mut errors)?;
    let limit = at_least("limitBytes", 1, &mut errors)?;
    let seconds = at_least("sinceSeconds", 1, &mut errors)?;
    let time = match query.text("sinceTime") {
        None => None,
        Some(time) => Some(time.parse::<jiff::Timestamp>().map_err(|_| {
            ApiError::bad_request(format!("sinceTime: {time:?} is no time as RFC 3339 writes it"))
        })?),
    };
    if seconds.is_some() && time.is_some() {
        let why = "at most one of `sinceTime` or `sinceSeconds` may be specified";
        errors.push(FieldError::forbidden(&FieldPath::ROOT, why));
    }
    let stream = match query.text("stream").unwrap_or("All") {
        "All" => LogSource::All,
        "Stdout" => LogSource::Stdout,
        "Stderr" => LogSource::Stderr,
        other => {
            let known = ["All", "Stderr", "Stdout"];
            errors.push(FieldError::not_supported(&field("stream"), other, &known));
            LogSource::All
        }
    };
    if stream != LogSource::All && tail.is_some() {
        let why = "`tailLines` and specific `stream` are mutually exclusive for now";
        errors.push(FieldError::forbidden(&FieldPath::ROOT, why));
    }
    if !errors.is_empty() {
        return Err(ApiError::invalid("", "PodLogOptions", pod, &errors));
    }
    let before = seconds.and_then(|seconds| now.checked_sub(jiff::SignedDuration::from_secs(seconds)).ok());
    let positive = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok());
    Ok(LogQuery {
        container: None,
        follow: query.flag("follow"),
        previous: query.flag("previous"),
        stream,
        since: time.or(before),
        tail_lines: positive(tail),
        timestamps: query.flag("timestamps"),
        limit_bytes: positive(limit),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> std::result::Result<LogQuery, String> {
        let now = "2026-01-01T00:10:00Z".parse().unwrap();
        options(&Query::parse(query), "p", now).map_err(|error| format!("{}: {}", error.code, error.message))
    }

    #[test]
    fn options_of_logs() {
        let since = |time: &str| Some(time.parse().unwrap());
        for (query, expected) in [
            ("", LogQuery::default()),
            (
                "follow=true&timestamps=1&previous=false&tailLines=0&limitBytes=7",
                LogQuery {
                    follow: true,
                    timestamps: true,
                    tail_lines: Some(0),
                    limit_bytes: Some(7),
                    ..LogQuery::default()
                },
            ),
            (
                "sinceSeconds=60",
                LogQuery {
                    since: since("2026-01-01T00:09:00Z"),
                    ..LogQuery::default()
                },
            ),
            (
                "stream=Stderr",
                LogQuery {
                    stream: LogSource::Stderr,
                    ..LogQuery::default()
                },
            ),
            (
                "sinceTime=2025-12-31T00:00:00Z&stream=All",
                LogQuery {
                    since: since("2025-12-31T00:00:00Z"),
                    ..LogQuery::default()
                },
            ),
        ] {
            assert_eq!(read(query), Ok(expected), "{query}");
        }
        for (query, part) in [
            (
                "tailLines=-1",
                "422: PodLogOptions \"p\" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0",
            ),
            ("limitBytes=0", "limitBytes: Invalid value: 0"),
            ("sinceSeconds=0", "sinceSeconds: Invalid value: 0"),
            (
                "sinceSeconds=1&sinceTime=2025-12-31T00:00:00Z",
                "at most one of `sinceTime` or `sinceSeconds` may be specified",
            ),
            (
                "stream=stderr",
                "stream: Unsupported value: \"stderr\": supported values: \"All\", \"Stderr\", \"Stdout\"",
            ),
            (
                "stream=Stderr&tailLines=1",
                "`tailLines` and specific `stream` are mutually exclusive for now",
            ),
            ("sinceTime=yesterday", "400: sinceTime: \"yesterday\" is no time"),
            ("tailLines=many", "400: "),
        ] {
            let said = read(query).unwrap_err();
            assert!(said.contains(part), "{query}: {said}");
        }
    }
}
