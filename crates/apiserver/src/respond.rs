//! From what a handler has to an HTTP response.

use std::convert::Infallible;
use std::io::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use choreo_apimachinery::status::{ApiError, Result};
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, VARY, WARNING};
use http::{HeaderValue, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use serde::Serialize;

use crate::negotiate::{Answer, Codec};

/// Bodies from this size on are compressed for clients that take it. The same as kube-apiserver's.
const GZIP_FROM: usize = 128 * 1024;

/// A response with an encoded object.
///
/// # Errors
/// 500 when the value cannot be encoded.
pub(crate) fn object<T: Serialize + ?Sized>(
    answer: Answer,
    status: StatusCode,
    value: &T,
    warnings: &[String],
) -> Result<Response> {
    let bytes = answer.codec.encode(value, answer.pretty)?;
    Ok(bytes_response(answer, status, bytes.into(), warnings))
}

/// A response with an object that is encoded as JSON already; it is decoded again only if something else is wanted.
///
/// # Errors
/// 500 when the value cannot be encoded.
pub(crate) fn json(answer: Answer, status: StatusCode, json: Bytes, warnings: &[String]) -> Result<Response> {
    if answer.codec == Codec::Json && !answer.pretty {
        return Ok(bytes_response(answer, status, json, warnings));
    }
    let value: serde_json::Value = serde_json::from_slice(&json).map_err(ApiError::internal)?;
    object(answer, status, &value, warnings)
}

/// As [`json`], of JSON that is in pieces.
pub(crate) fn json_in_parts(answer: Answer, status: StatusCode, parts: Vec<Bytes>) -> Result<Response> {
    if answer.codec == Codec::Json && !answer.pretty {
        return Ok(parts_response(answer, status, parts));
    }
    json(answer, status, parts.concat().into(), &[])
}

/// A response with bytes in the negotiated encoding.
pub(crate) fn bytes_response(
    answer: Answer,
    status: StatusCode,
    bytes: Bytes,
    warnings: &[String],
) -> Response {
    let mut response = head(answer, status);
    let headers = response.headers_mut();
    for warning in warnings {
        if let Ok(value) = HeaderValue::from_str(&format!("299 - {}", quoted(warning))) {
            headers.append(WARNING, value);
        }
    }
    let body = if answer.gzip && bytes.len() >= GZIP_FROM {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        gzip(&bytes)
    } else {
        bytes
    };
    *response.body_mut() = Body::from(body);
    response
}

/// A response with bytes in the negotiated encoding that are not in one piece.
pub(crate) fn parts_response(answer: Answer, status: StatusCode, parts: Vec<Bytes>) -> Response {
    let left = parts.iter().map(|part| part.len() as u64).sum();
    if answer.gzip && left >= GZIP_FROM as u64 {
        return bytes_response(answer, status, parts.concat().into(), &[]);
    }
    let mut response = head(answer, status);
    *response.body_mut() = Body::new(Parts {
        parts: parts.into_iter(),
        left,
    });
    response
}

fn head(answer: Answer, status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(answer.codec.media_type()));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// A body of several pieces, whose length is known all the same.
struct Parts {
    parts: std::vec::IntoIter<Bytes>,
    /// Bytes that are still to come.
    left: u64,
}

impl HttpBody for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Infallible>>> {
        let part = self.parts.find(|part| !part.is_empty());
        self.left -= part.as_ref().map_or(0, |part| part.len() as u64);
        Poll::Ready(part.map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// A response with an error's `Status`.
pub(crate) fn error(answer: Answer, error: &ApiError) -> Response {
    let status = StatusCode::from_u16(error.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let answer = Answer {
        transform: crate::negotiate::Transform::None,
        ..answer
    };
    let bytes = answer.codec.encode(error, answer.pretty).unwrap_or_default();
    let mut response = bytes_response(answer, status, bytes.into(), &[]);
    if let Some(seconds) = error
        .details
        .as_ref()
        .map(|d| d.retry_after_seconds)
        .filter(|s| *s > 0)
    {
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// A plain text response.
pub(crate) fn text(status: StatusCode, text: impl Into<String>) -> Response {
    let mut response = Response::new(Body::from(text.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

/// What is said of a path that leads nowhere.
pub(crate) fn page_not_found() -> Response {
    text(StatusCode::NOT_FOUND, "404 page not found\n")
}

fn gzip(bytes: &[u8]) -> Bytes {
    // The level of kube-apiserver: most of the gain for little time.
    let mut encoder =
        flate2::write::GzEncoder::new(Vec::with_capacity(bytes.len() / 6), flate2::Compression::new(1));
    // Writing to memory cannot fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default().into()
}

/// A quoted string of an HTTP header: no control characters, quotes escaped.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars().filter(|c| !c.is_control()) {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn parts_are_one_body_of_a_known_length() {
        let parts = || {
            ["a", "", "bc", ""]
                .map(|part| Bytes::from_static(part.as_bytes()))
                .to_vec()
        };
        let response = parts_response(Answer::JSON, StatusCode::OK, parts());
        assert_eq!(response.body().size_hint().exact(), Some(3));
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "abc");
        // What is left is known on the way, too.
        let mut body = parts_response(Answer::JSON, StatusCode::OK, parts()).into_body();
        for (part, left) in [("a", 2), ("bc", 0)] {
            assert!(!body.is_end_stream());
            let frame = body.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), part);
            assert_eq!(body.size_hint().exact(), Some(left));
        }
        assert!(body.is_end_stream());
        let nothing = parts_response(Answer::JSON, StatusCode::OK, Vec::new());
        assert!(nothing.body().is_end_stream());
    }

    #[tokio::test]
    async fn large_parts_are_compressed_for_who_takes_it() {
        let parts = vec![Bytes::from("x".repeat(GZIP_FROM)), Bytes::from_static(b"y")];
        let taking = Answer {
            gzip: true,
            ..Answer::JSON
        };
        let response = parts_response(taking, StatusCode::OK, parts.clone());
        assert_eq!(response.headers()[CONTENT_ENCODING], "gzip");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let mut text = Vec::new();
        flate2::read::GzDecoder::new(&body[..])
            .read_to_end(&mut text)
            .unwrap();
        assert_eq!(text, parts.concat());
    }
}
