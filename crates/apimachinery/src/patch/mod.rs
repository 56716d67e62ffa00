//! The three patch formats that are plain functions of document and patch.
//!
//! | Format | Media type | Function |
//! | --- | --- | --- |
//! | JSON patch, RFC 6902 | `application/json-patch+json` | [`json`] |
//! | merge patch, RFC 7386 | `application/merge-patch+json` | [`merge`] |
//! | strategic merge patch | `application/strategic-merge-patch+json` | [`strategic`] |
//!
//! Server-side apply is a matter of its own: [`crate::apply`].

mod rfc6902;
mod smp;

use serde_json::Value;

pub use self::{rfc6902::json, smp::strategic};
use crate::status::{ApiError, Reason, StatusCause, StatusDetails};

/// Applies a merge patch (RFC 7386): objects merge, `null` removes, everything else replaces.
#[must_use]
pub fn merge(doc: &Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else {
        return patch.clone();
    };
    let mut merged = match doc {
        Value::Object(map) => map.clone(),
        _ => serde_json::Map::new(),
    };
    for (key, value) in patch {
        if value.is_null() {
            merged.remove(key);
        } else {
            let below = merged.get(key).unwrap_or(&Value::Null);
            let below = merge(below, value);
            merged.insert(key.clone(), below);
        }
    }
    Value::Object(merged)
}

/// Reads the body of a merge patch or a strategic merge patch, which must be an object.
///
/// # Errors
/// 400 if the body is no JSON object.
pub fn parse_object(body: &[u8]) -> Result<Value, ApiError> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|e| ApiError::bad_request(format!("error decoding patch: {e}")))?;
    if value.is_object() {
        Ok(value)
    } else {
        Err(not_an_object(&value))
    }
}

fn not_an_object(value: &Value) -> ApiError {
    let kind = match value {
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Number(_) => "number",
        Value::Bool(_) => "bool",
        Value::Null | Value::Object(_) => "null",
    };
    ApiError::bad_request(format!(
        "error decoding patch: json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"
    ))
}

/// A well-formed patch that does not fit the object. kube-apiserver keeps the reason to itself; here it is the cause.
fn unprocessable(why: impl Into<String>) -> ApiError {
    ApiError {
        code: 422,
        reason: Reason::Invalid,
        message: "the server rejected our request due to an error in our request".to_owned(),
        list_continue: None,
        details: Some(Box::new(StatusDetails {
            causes: vec![StatusCause {
                message: why.into(),
                ..StatusCause::default()
            }],
            ..StatusDetails::default()
        })),
    }
}
