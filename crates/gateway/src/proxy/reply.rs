//! Answers that are the gateway's own.

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::body::AnswerBody;
use crate::policy::Refusal;

pub(crate) type Answer = Response<AnswerBody>;

/// Whether a request is one of gRPC, whose answers say in `grpc-status` what others say in the status.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|kind| {
            kind == "application/grpc"
                || kind.starts_with("application/grpc+")
                || kind.starts_with("application/grpc;")
        })
}

/// The status of gRPC for one of HTTP (the gRPC project's table, as Envoy follows it).
fn grpc_status(status: StatusCode) -> u8 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}

/// An answer with a text.
pub(crate) fn text(grpc: bool, status: StatusCode, body: &str) -> Answer {
    let mut answer = Response::new(AnswerBody::empty());
    let headers = answer.headers_mut();
    if grpc {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from(u16::from(grpc_status(status))));
        // Percent-encoding of what is no visible ASCII (gRPC over HTTP/2, Status-Message).
        let message: String = body
            .chars()
            .map(|c| {
                if c.is_ascii_graphic() && c != '%' || c == ' ' {
                    c
                } else {
                    '?'
                }
            })
            .collect();
        if let Ok(value) = HeaderValue::from_str(&message) {
            headers.insert("grpc-message", value);
        }
        return answer;
    }
    *answer.status_mut() = status;
    if !body.is_empty() {
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        *answer.body_mut() = AnswerBody::full(body.to_owned().into());
    }
    answer
}

/// What a policy refuses a request with.
pub(crate) fn refusal(grpc: bool, refusal: &Refusal) -> Answer {
    let mut answer = text(grpc, refusal.status, &refusal.body);
    for (name, value) in &refusal.headers {
        answer.headers_mut().insert(name, value.clone());
    }
    answer
}

/// Why no backend answered.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No endpoint is ready.
    NoEndpoint,
    /// None accepted a connection.
    Connect(std::io::Error),
    /// Pods cannot be reached at all, and this is why.
    Unreachable(String),
    /// The connection was cut before an answer came.
    Reset(String),
    /// A limit of the circuit breaker is reached.
    Overflow,
    /// The whole request took too long.
    Timeout,
    /// One attempt did.
    AttemptTimeout,
    /// Too much of the request came too late.
    RequestTimeout,
    /// The backend is not one.
    Unresolved,
}

impl Failure {
    /// What is logged of it.
    pub(crate) fn detail(&self) -> &str {
        match self {
            Self::NoEndpoint => "no endpoint is ready",
            Self::Connect(_) => "no endpoint accepts connections",
            Self::Unreachable(why) | Self::Reset(why) => why,
            Self::Overflow => "the circuit breaker is open",
            Self::Timeout => "the request took too long",
            Self::AttemptTimeout => "the last attempt took too long",
            Self::RequestTimeout => "the client was too slow",
            Self::Unresolved => "the backend cannot be resolved",
        }
    }

    pub(crate) fn answer(&self, grpc: bool) -> Answer {
        let upstream = |why: &str| {
            format!("upstream connect error or disconnect/reset before headers. reset reason: {why}")
        };
        let unavailable = StatusCode::SERVICE_UNAVAILABLE;
        match self {
            Self::NoEndpoint => text(grpc, unavailable, "no healthy upstream"),
            // What the system says names addresses of pods, which are nobody's business out there.
            Self::Connect(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                text(grpc, unavailable, &upstream("connection timeout"))
            }
            Self::Connect(_) => text(grpc, unavailable, &upstream("remote connection failure")),
            Self::Unreachable(why) => text(grpc, unavailable, why),
            Self::Reset(_) => text(grpc, unavailable, &upstream("connection termination")),
            Self::Overflow => {
                let mut answer = text(grpc, unavailable, &upstream("overflow"));
                answer
                    .headers_mut()
                    .insert("x-envoy-overloaded", HeaderValue::from_static("true"));
                answer
            }
            Self::Timeout | Self::AttemptTimeout => {
                text(grpc, StatusCode::GATEWAY_TIMEOUT, "upstream request timeout")
            }
            Self::RequestTimeout => text(grpc, StatusCode::REQUEST_TIMEOUT, "request timeout"),
            Self::Unresolved => text(grpc, StatusCode::INTERNAL_SERVER_ERROR, ""),
        }
    }
}
