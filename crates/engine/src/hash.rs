//! Content hashes: SHA-256 over canonical JSON.
//!
//! Canonical means: object keys in byte order, no insignificant white space, numbers as `serde_json` prints them. The
//! workspace never enables `serde_json/preserve_order`, so a `Value` is in canonical order by construction.

use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// A value's canonical JSON.
///
/// # Errors
/// When the value cannot be represented as JSON (a map whose keys are no strings).
pub fn canonical(value: &impl Serialize) -> Result<String, serde_json::Error> {
    // Through `Value`, so that struct fields are sorted like map keys: moving a field in a type must not change a hash.
    Ok(serde_json::to_value(value)?.to_string())
}

/// The SHA-256 of a value's canonical JSON, as 64 lower-case hexadecimal digits.
///
/// # Errors
/// When the value cannot be represented as JSON.
pub fn sha256(value: &impl Serialize) -> Result<String, serde_json::Error> {
    Ok(hex::encode(Sha256::digest(canonical(value)?.as_bytes())))
}

/// The SHA-256 of a JSON value in canonical form, as 64 lower-case hexadecimal digits.
pub fn sha256_value(value: &serde_json::Value) -> String {
    // `Value` implements `Display` as compact JSON and, unlike `to_vec`, cannot fail.
    hex::encode(Sha256::digest(value.to_string().as_bytes()))
}

/// The first `n` digits of a hexadecimal hash (all of it when it is shorter).
pub fn short(hash: &str, n: usize) -> &str {
    hash.get(..n).unwrap_or(hash)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{sha256_value, short};

    #[test]
    fn key_order_does_not_matter() {
        let a: serde_json::Value = serde_json::from_str(r#"{"b":1,"a":{"y":2,"x":[1,2]}}"#).unwrap();
        let b: serde_json::Value = serde_json::from_str(r#"{ "a": {"x": [1, 2], "y": 2}, "b": 1 }"#).unwrap();
        assert_eq!(sha256_value(&a), sha256_value(&b));
    }

    #[test]
    fn is_the_sha256_of_the_compact_text() {
        // printf '{}' | sha256sum
        assert_eq!(
            sha256_value(&json!({})),
            "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
        );
        assert_eq!(short("44136fa355b3", 8), "44136fa3");
        assert_eq!(short("44", 8), "44");
    }

    #[test]
    fn list_order_matters() {
        assert_ne!(sha256_value(&json!([1, 2])), sha256_value(&json!([2, 1])));
    }
}
