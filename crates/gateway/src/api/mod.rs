//! The kinds that the gateway follows, as far as it follows them.
//!
//! Every type refuses fields that it does not know: what the gateway does not implement must be reported with its path, and
//! must never be passed over as if it had been done.

pub(crate) mod envoy;
pub(crate) mod gateway;

use serde::de::DeserializeOwned;
use serde_json::Value;

/// Group of the Gateway API.
pub(crate) const GATEWAY_API: &str = "gateway.networking.k8s.io";
/// Group of Envoy Gateway.
pub(crate) const ENVOY_GATEWAY: &str = "gateway.envoyproxy.io";

/// Reads a part of an object.
///
/// # Errors
/// With the path of the field below `at` that is unknown or of another form.
pub(crate) fn read<T: DeserializeOwned>(value: &Value, at: &str) -> Result<T, String> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        let text = inner.to_string();
        let text = match text.split_once(", expected") {
            // Which fields there are is in the documentation; here it would only hide the one that matters.
            Some((first, _)) if first.starts_with("unknown field") => {
                format!("{first}: the gateway does not implement it")
            }
            Some((first, _)) if first.starts_with("unknown variant") => {
                format!("{first}: the gateway does not implement it")
            }
            _ => text,
        };
        match path.as_str() {
            "." | "?" => format!("{at}: {text}"),
            path => format!("{at}.{path}: {text}"),
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_implemented_is_reported_with_its_path() {
        let spec = json!({"jwt": {"providers": [{"name": "a", "remoteJWKS": {"uri": "http://a", "backendRefs": []}}]}});
        let error = read::<envoy::SecurityPolicySpec>(&spec, "spec").unwrap_err();
        assert!(error.starts_with("spec.jwt.providers[0].remoteJWKS"), "{error}");
        assert!(
            error.contains("`backendRefs`: the gateway does not implement it"),
            "{error}"
        );
    }
}
