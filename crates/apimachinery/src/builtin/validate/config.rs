//! ConfigMaps, Secrets, quotas.

use std::collections::BTreeSet;

use base64::Engine as _;
use serde_json::Value;

use super::{Errors, is_set, list, map, quantities, text};
use crate::{
    field::{FieldError, FieldPath},
    meta::names,
    quantity::{self, Quantity},
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

/// What a quota may count, apart from qualified names such as `count/deployments.apps`.
const COUNTED: [&str; 18] = [
    "configmaps",
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
    "requests.storage",
    "resourcequotas",
    "secrets",
    "services",
    "services.nodeports",
];

const SCOPES: [&str; 6] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
];

pub(super) fn quota(new: &Value, e: &mut Errors) {
    let path = FieldPath::new("spec");
    let spec = &new["spec"];
    if is_set(spec, "hard") {
        let at = path.child("hard");
        for name in map(spec, "hard").into_iter().flat_map(|hard| hard.keys()) {
            let counted = COUNTED.contains(&name.as_str())
                || name == "services.loadbalancers"
                || name.contains('/')
                || name.starts_with("hugepages-")
                || name.starts_with("requests.hugepages-");
            if !counted {
                let at = at.key(name);
                e.invalid(
                    &at,
                    name.as_str(),
                    "must be a standard resource type or fully qualified",
                );
                e.invalid(&at, name.as_str(), "must be a standard resource for quota");
            }
        }
        quantities(map(spec, "hard"), &at, e);
    }
    let scopes = list(spec, "scopes");
    let has = |scope: &str| scopes.iter().any(|s| s == scope);
    let at = path.child("scopes");
    if scopes
        .iter()
        .any(|s| !SCOPES.contains(&s.as_str().unwrap_or_default()))
    {
        e.invalid(&at, scopes.to_vec(), "unsupported scope");
    }
    if (has("Terminating") && has("NotTerminating")) || (has("BestEffort") && has("NotBestEffort")) {
        e.invalid(&at, scopes.to_vec(), "conflicting scopes");
    }
}

pub(super) fn limit_range(new: &Value, e: &mut Errors) {
    let path = FieldPath::new("spec");
    let path = path.child("limits");
    let mut seen = BTreeSet::new();
    for (index, limit) in list(&new["spec"], "limits").iter().enumerate() {
        let at = path.index(index);
        let kind = text(limit, "type");
        if !matches!(kind, "Container" | "Pod" | "PersistentVolumeClaim") && !kind.contains('/') {
            let why = "must be a standard limit type or fully qualified";
            e.invalid(&at.child("type"), kind, why);
        }
        if !seen.insert(kind) {
            e.push(FieldError::duplicate(&at.child("type"), kind));
        }
        if kind == "Pod" {
            for field in ["default", "defaultRequest"] {
                if map(limit, field).is_some() {
                    let why = "may not be specified when `type` is 'Pod'";
                    e.push(FieldError::forbidden(&at.child(field), why));
                }
            }
            continue;
        }
        let mut names = BTreeSet::new();
        for field in ["min", "max", "default", "defaultRequest"] {
            names.extend(map(limit, field).into_iter().flat_map(|amounts| amounts.keys()));
        }
        for name in names {
            bounds(limit, name, &at, e);
        }
    }
}

/// The amounts of one resource must not contradict each other.
fn bounds(limit: &Value, name: &str, at: &FieldPath<'_>, e: &mut Errors) {
    let amount = |field: &str| quantity::from_json(limit.get(field)?.get(name)?).ok();
    let (min, max) = (amount("min"), amount("max"));
    let (default, request) = (amount("default"), amount("defaultRequest"));
    let mut wrong = |field: &str, value: Quantity, why: String| {
        e.invalid(&at.child(field).key(name), value.to_string(), &why);
    };
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        wrong(
            "min",
            min,
            format!("min value {min} is greater than max value {max}"),
        );
    }
    if let (Some(min), Some(request)) = (min, request)
        && min > request
    {
        let why = format!("min value {min} is greater than default request value {request}");
        wrong("defaultRequest", request, why);
    }
    if let (Some(request), Some(max)) = (request, max)
        && request > max
    {
        let why = format!("default request value {request} is greater than max value {max}");
        wrong("defaultRequest", request, why);
    }
    if let (Some(request), Some(default)) = (request, default)
        && request > default
    {
        let why = format!("default request value {request} is greater than default limit value {default}");
        wrong("defaultRequest", request, why);
    }
    if let (Some(min), Some(default)) = (min, default)
        && min > default
    {
        let why = format!("min value {min} is greater than default value {default}");
        wrong("default", min, why);
    }
    // The value that is shown is the largest one, as kube-apiserver does.
    if let (Some(default), Some(max)) = (default, max)
        && default > max
    {
        let why = format!("default value {default} is greater than max value {max}");
        wrong("default", max, why);
    }
}
