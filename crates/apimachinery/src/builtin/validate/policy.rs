//! Access, limits and the like.

use serde_json::Value;

use super::{Errors, immutable, is_set, label_selector, list, number_or_percent, text};
use crate::{
    field::{FieldError, FieldPath},
    meta::names,
    registry::ResourceInfo,
};

const SPEC: FieldPath<'static> = FieldPath::new("spec");

pub(super) fn role(info: &ResourceInfo, new: &Value, e: &mut Errors) {
    let path = FieldPath::new("rules");
    for (index, rule) in list(new, "rules").iter().enumerate() {
        let at = path.index(index);
        if list(rule, "verbs").is_empty() {
            e.required(&at.child("verbs"), "verbs must contain at least one value");
        }
        if list(rule, "nonResourceURLs").is_empty() {
            if list(rule, "apiGroups").is_empty() {
                e.required(
                    &at.child("apiGroups"),
                    "resource rules must supply at least one api group",
                );
            }
            if list(rule, "resources").is_empty() {
                e.required(
                    &at.child("resources"),
                    "resource rules must supply at least one resource",
                );
            }
        } else if info.namespaced {
            e.invalid(
                &at.child("nonResourceURLs"),
                rule["nonResourceURLs"].clone(),
                "namespaced rules cannot apply to non-resource URLs",
            );
        }
    }
}

pub(super) fn role_binding(info: &ResourceInfo, new: &Value, old: Option<&Value>, e: &mut Errors) {
    let path = FieldPath::new("roleRef");
    let reference = &new["roleRef"];
    let kinds: &[&str] = if info.namespaced {
        &["Role", "ClusterRole"]
    } else {
        &["ClusterRole"]
    };
    if text(reference, "apiGroup") != "rbac.authorization.k8s.io" {
        e.push(FieldError::not_supported(
            &path.child("apiGroup"),
            text(reference, "apiGroup"),
            &["rbac.authorization.k8s.io"],
        ));
    }
    if !kinds.contains(&text(reference, "kind")) {
        e.push(FieldError::not_supported(
            &path.child("kind"),
            text(reference, "kind"),
            kinds,
        ));
    }
    let name = text(reference, "name");
    if name.is_empty() {
        e.required(&path.child("name"), "");
    } else {
        e.all(&path.child("name"), name, names::path_segment(name));
    }
    let subjects = FieldPath::new("subjects");
    for (index, subject) in list(new, "subjects").iter().enumerate() {
        let at = subjects.index(index);
        if text(subject, "name").is_empty() {
            e.required(&at.child("name"), "");
        }
        match text(subject, "kind") {
            "ServiceAccount" => {
                let name = text(subject, "name");
                if !name.is_empty() {
                    e.all(&at.child("name"), name, names::dns1123_subdomain(name));
                }
                if text(subject, "namespace").is_empty() && !info.namespaced {
                    e.required(&at.child("namespace"), "");
                }
            }
            "User" | "Group" => {
                if text(subject, "apiGroup") != "rbac.authorization.k8s.io" {
                    e.push(FieldError::not_supported(
                        &at.child("apiGroup"),
                        text(subject, "apiGroup"),
                        &["rbac.authorization.k8s.io"],
                    ));
                }
            }
            other => e.push(FieldError::not_supported(
                &at.child("kind"),
                other,
                &["ServiceAccount", "User", "Group"],
            )),
        }
    }
    if let Some(old) = old
        && old["roleRef"] != *reference
    {
        e.invalid(&path, reference.clone(), "cannot change roleRef");
    }
}

pub(super) fn autoscaler(new: &Value, e: &mut Errors) {
    let spec = &new["spec"];
    let (least, most) = (
        spec["minReplicas"].as_i64(),
        spec["maxReplicas"].as_i64().unwrap_or_default(),
    );
    if let Some(least) = least
        && least < 1
    {
        e.invalid(
            &SPEC.child("minReplicas"),
            least,
            "must be greater than or equal to 1",
        );
    }
    if most < 1 {
        e.required(&SPEC.child("maxReplicas"), "must be set and greater than 0");
    }
    let outside = list(spec, "metrics")
        .iter()
        .any(|m| matches!(text(m, "type"), "Object" | "External"));
    if least == Some(0) && !outside {
        e.push(FieldError::forbidden(
            &SPEC.child("metrics"),
            "must specify at least one Object or External metric to support scaling to zero replicas",
        ));
    }
    if let Some(least) = least
        && most < least
    {
        e.invalid(
            &SPEC.child("maxReplicas"),
            most,
            "must be greater than or equal to `minReplicas`",
        );
    }
    let target = SPEC.child("scaleTargetRef");
    for field in ["kind", "name"] {
        if text(&spec["scaleTargetRef"], field).is_empty() {
            e.required(&target.child(field), "");
        }
    }
}

pub(super) fn disruption_budget(new: &Value, e: &mut Errors) {
    let spec = &new["spec"];
    if is_set(spec, "minAvailable") && is_set(spec, "maxUnavailable") {
        e.invalid(
            &SPEC,
            Value::Null,
            "minAvailable and maxUnavailable cannot be both set",
        );
    }
    for field in ["minAvailable", "maxUnavailable"] {
        number_or_percent(&spec[field], &SPEC.child(field), e);
    }
    label_selector(&spec["selector"], &SPEC.child("selector"), e);
}

pub(super) fn lease(new: &Value, e: &mut Errors) {
    let spec = &new["spec"];
    if let Some(seconds) = spec.get("leaseDurationSeconds").and_then(Value::as_i64)
        && seconds <= 0
    {
        e.invalid(
            &SPEC.child("leaseDurationSeconds"),
            seconds,
            "must be greater than 0",
        );
    }
    e.not_negative(spec, "leaseTransitions", &SPEC);
}

pub(super) fn priority_class(new: &Value, old: Option<&Value>, e: &mut Errors) {
    let (name, value) = (
        text(&new["metadata"], "name"),
        new["value"].as_i64().unwrap_or_default(),
    );
    if name.starts_with("system-") && !matches!(name, "system-node-critical" | "system-cluster-critical") {
        let metadata = FieldPath::new("metadata");
        e.push(FieldError::forbidden(
            &metadata.child("name"),
            format!("priority class names with 'system-' prefix are reserved for system use only. error: \"{name}\" is not a known system priority class"),
        ));
    } else if !name.starts_with("system-") && value > 1_000_000_000 {
        e.push(FieldError::forbidden(
            &FieldPath::new("value"),
            "maximum allowed value of a user defined priority is 1000000000",
        ));
    }
    if let Some(old) = old
        && old["value"].as_i64().unwrap_or_default() != value
    {
        e.push(FieldError::forbidden(
            &FieldPath::new("value"),
            "may not be changed in an update.",
        ));
    }
    immutable(new, old, &["preemptionPolicy"], e);
}

pub(super) fn runtime_class(new: &Value, old: Option<&Value>, e: &mut Errors) {
    let handler = text(new, "handler");
    e.all(&FieldPath::new("handler"), handler, names::dns1123_label(handler));
    immutable(new, old, &["handler"], e);
}
