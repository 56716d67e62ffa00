//! Reading request bodies.

use axum::body::Body as HttpBody;
use bytes::Bytes;
use choreo_apimachinery::status::{ApiError, Result};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::Value;

use super::{Codec, Repeated, header};

/// The largest body that is read, in bytes. The same as that of kube-apiserver.
pub const BODY_LIMIT: usize = 3 * 1024 * 1024;

/// A request's body with its content type, not yet decoded.
#[derive(Clone, Debug, Default)]
pub struct Body {
    /// What `Content-Type` said.
    pub content_type: String,
    /// The bytes.
    pub bytes: Bytes,
}

impl Body {
    /// Whether nothing was sent.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Decodes an object.
    ///
    /// # Errors
    /// 415 for an unknown content type, 400 for a malformed document or one that is no object.
    pub fn decode(&self) -> Result<Value> {
        let codec = Codec::for_content(&self.content_type)?;
        object(codec.decode(&self.bytes)?)
    }

    /// Decodes an object and notes the keys that it has more than once.
    ///
    /// # Errors
    /// As [`Body::decode`].
    pub fn decode_noting(&self) -> Result<(Value, Repeated)> {
        let codec = Codec::for_content(&self.content_type)?;
        let (value, repeated) = codec.decode_noting(&self.bytes)?;
        Ok((object(value)?, repeated))
    }

    /// Decodes an optional object, such as `DeleteOptions`.
    ///
    /// # Errors
    /// As [`Body::decode`].
    pub fn decode_optional(&self) -> Result<Option<Value>> {
        if self.is_empty() {
            Ok(None)
        } else {
            self.decode().map(Some)
        }
    }
}

fn object(value: Value) -> Result<Value> {
    if value.is_object() {
        return Ok(value);
    }
    Err(ApiError::bad_request(
        "couldn't get version/kind; json parse error: the body is not a JSON object",
    ))
}

/// Reads a body to its end.
///
/// # Errors
/// 413 when it is too large, 400 when the connection breaks.
pub async fn read_body(headers: &HeaderMap, body: HttpBody) -> Result<Body> {
    let bytes = Limited::new(body, BODY_LIMIT).collect().await.map_err(|e| {
        if e.is::<LengthLimitError>() {
            ApiError::too_large(&format!("limit is {BODY_LIMIT}"))
        } else {
            ApiError::bad_request(format!("the body could not be read: {e}"))
        }
    })?;
    Ok(Body {
        content_type: header(headers, CONTENT_TYPE.as_str()).to_owned(),
        bytes: bytes.to_bytes(),
    })
}
