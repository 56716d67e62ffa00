//! ConfigMaps, Secrets, quotas.

use base64::Engine as _;
use serde_json::Value;

use super::{Errors, is_set, map, quantities, text};
use crate::{
    field::{FieldError, FieldPath},
    meta::names,
};

/// Most bytes of all values together.
const MAX_SIZE: u64 = 1024 * 1024;

fn keys(object: &Value, field: &str, e: &mut Errors) -> u64 {
    let path = FieldPath::new(field);
    let mut size = 0;
    for (key, value) in map(object, field).into_iter().flatten() {
        e.all(&path.key(key), key, names::config_key(key));
        size += value.as_str().map_or(0, str::len) as u64;
    }
    size
}

fn frozen(new: &Value, old: Option<&Value>, fields: &[&str], e: &mut Errors) {
    let Some(old) = old.filter(|old| old["immutable"] == true) else {
        return;
    };
    const FROZEN: &str = "field is immutable when `immutable` is set";
    if new["immutable"] != true {
        e.push(FieldError::forbidden(&FieldPath::new("immutable"), FROZEN));
    }
    for field in fields {
        if map(new, field) != map(old, field) {
            e.push(FieldError::forbidden(&FieldPath::new(field), FROZEN));
        }
    }
}

pub(super) fn config_map(new: &Value, old: Option<&Value>, e: &mut Errors) {
    let size = keys(new, "data", e) + keys(new, "binaryData", e);
    let binary = map(new, "binaryData");
    for key in map(new, "data").into_iter().flatten().map(|(key, _)| key) {
        if binary.is_some_and(|binary| binary.contains_key(key)) {
            let path = FieldPath::new("data");
            e.invalid(&path.key(key), "duplicate of key present in binaryData", "");
        }
    }
    if size > MAX_SIZE {
        e.push(FieldError::too_long(&FieldPath::ROOT, MAX_SIZE));
    }
    frozen(new, old, &["data", "binaryData"], e);
}

pub(super) fn secret(new: &Value, old: Option<&Value>, e: &mut Errors) {
    let size = keys(new, "data", e);
    if size / 4 * 3 > MAX_SIZE {
        e.push(FieldError::too_long(&FieldPath::new("data"), MAX_SIZE));
    }
    let data = FieldPath::new("data");
    let needs = |key: &str, e: &mut Errors| {
        if !map(new, "data").is_some_and(|data| data.contains_key(key)) {
            e.required(&data.key(key), "");
        }
    };
    match text(new, "type") {
        "kubernetes.io/tls" => {
            needs("tls.crt", e);
            needs("tls.key", e);
        }
        "kubernetes.io/dockerconfigjson" => {
            needs(".dockerconfigjson", e);
            let bytes = new["data"][".dockerconfigjson"]
                .as_str()
                .and_then(|text| base64::engine::general_purpose::STANDARD.decode(text).ok());
            if bytes.is_some_and(|bytes| serde_json::from_slice::<Value>(&bytes).is_err()) {
                e.invalid(
                    &data.key(".dockerconfigjson"),
                    "<secret contents redacted>",
                    "invalid character",
                );
            }
        }
        "kubernetes.io/ssh-auth" => needs("ssh-privatekey", e),
        "kubernetes.io/basic-auth" => {
            let data = map(new, "data");
            if !data.is_some_and(|d| d.contains_key("username") || d.contains_key("password")) {
                needs("username", e);
                needs("password", e);
            }
        }
        "kubernetes.io/service-account-token" => {
            let annotation = "kubernetes.io/service-account.name";
            if text(&new["metadata"]["annotations"], annotation).is_empty() {
                let metadata = FieldPath::new("metadata");
                let annotations = metadata.child("annotations");
                e.required(&annotations.key(annotation), "");
            }
        }
        _ => {}
    }
    frozen(new, old, &["data"], e);
    super::immutable(new, old, &["type"], e);
}

pub(super) fn quota(new: &Value, e: &mut Errors) {
    let path = FieldPath::new("spec");
    if is_set(&new["spec"], "hard") {
        quantities(map(&new["spec"], "hard"), &path.child("hard"), e);
    }
}
