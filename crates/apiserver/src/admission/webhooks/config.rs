//! Reading webhook configurations.

use std::time::Duration;

use serde_json::Value;

use crate::admission::expressions::{Condition, conditions};
use crate::admission::matching::Matcher;
use crate::verbs::text;

/// One webhook.
#[derive(Clone, Debug)]
pub(super) struct Hook {
    pub(super) name: String,
    pub(super) client: Value,
    pub(super) matcher: Matcher,
    pub(super) conditions: Vec<Condition>,
    /// A webhook that cannot be asked counts as one that agrees.
    pub(super) ignores_failures: bool,
    /// It may not be asked about dry runs.
    pub(super) has_side_effects: bool,
    pub(super) timeout: Duration,
    /// The version of the review that it understands.
    pub(super) version: &'static str,
    /// It is asked again when the object is changed behind it.
    pub(super) again: bool,
}

/// The webhooks of a configuration.
pub(super) fn read(_name: &str, configuration: &Value) -> Vec<Hook> {
    let all = configuration.get("webhooks").and_then(Value::as_array);
    all.into_iter().flatten().map(hook).collect()
}

fn hook(spec: &Value) -> Hook {
    let versions = spec["admissionReviewVersions"].as_array();
    let mut versions = versions.into_iter().flatten().filter_map(Value::as_str);
    let version = versions.find_map(|version| match version {
        "v1" => Some("admission.k8s.io/v1"),
        "v1beta1" => Some("admission.k8s.io/v1beta1"),
        _ => None,
    });
    Hook {
        name: text(spec, "/name").to_owned(),
        client: spec["clientConfig"].clone(),
        matcher: Matcher::read(spec, "rules"),
        conditions: conditions(spec),
        ignores_failures: text(spec, "/failurePolicy") == "Ignore",
        has_side_effects: !matches!(text(spec, "/sideEffects"), "None" | "NoneOnDryRun"),
        timeout: Duration::from_secs(spec["timeoutSeconds"].as_u64().unwrap_or(10).clamp(1, 30)),
        version: version.unwrap_or("admission.k8s.io/v1"),
        again: text(spec, "/reinvocationPolicy") == "IfNeeded",
    }
}
