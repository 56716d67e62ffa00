//! What is wrong with a definition, in the real server's words.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::versions::{Common, check_version};
use super::{flag, object, objects, text, texts};
use crate::field::{FieldError, FieldPath};
use crate::meta::{names, validate_object_meta, validate_object_meta_update};

/// Checks a new definition, or with `old` a changed one.
///
/// Names that the server fills in ([`super::set_defaults`]) may be absent.
#[must_use]
pub fn validate(definition: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let empty = Map::new();
    let metadata = definition
        .get("metadata")
        .and_then(Value::as_object)
        .unwrap_or(&empty);
    let at = FieldPath::new("metadata");
    let spec_path = FieldPath::new("spec");
    let Some(spec) = definition.get("spec").and_then(Value::as_object) else {
        errors.push(FieldError::required(&spec_path, ""));
        return errors;
    };
    match old {
        None => {
            errors.extend(validate_object_meta(
                metadata,
                false,
                names::dns1123_subdomain,
                &at,
            ));
            let names = object(spec, "names").unwrap_or(&empty);
            let required = format!("{}.{}", text(names, "plural"), text(spec, "group"));
            let name = text(metadata, "name");
            if !name.is_empty() && name != required {
                let why = "must be spec.names.plural+\".\"+spec.group";
                errors.push(FieldError::invalid(&at.child("name"), name, why));
            }
        }
        Some(old) => {
            let old_metadata = old.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
            errors.extend(validate_object_meta_update(metadata, old_metadata, &at));
        }
    }
    let old_spec = old.and_then(|o| o.get("spec")).and_then(Value::as_object);
    check_spec(spec, old_spec, &spec_path, &mut errors);
    if let (Some(old), Some(old_spec)) = (old, old_spec) {
        immutable(spec, old_spec, is_established(old), &spec_path, &mut errors);
    }
    stored_versions(definition, spec, &mut errors);
    approval(metadata, spec, old, &mut errors);
    errors
}

fn is_established(definition: &Value) -> bool {
    let conditions = definition.pointer("/status/conditions").and_then(Value::as_array);
    conditions
        .into_iter()
        .flatten()
        .any(|c| c["type"] == "Established" && c["status"] == "True")
}

fn immutable(
    spec: &Map<String, Value>,
    old: &Map<String, Value>,
    established: bool,
    path: &FieldPath<'_>,
    errors: &mut Vec<FieldError>,
) {
    let empty = Map::new();
    let (names, old_names) = (
        object(spec, "names").unwrap_or(&empty),
        object(old, "names").unwrap_or(&empty),
    );
    let at = path.child("names");
    let mut check = |new: &str, old: &str, path: &FieldPath<'_>| {
        if new != old {
            errors.push(FieldError::invalid(path, new, "field is immutable"));
        }
    };
    if established {
        check(text(spec, "scope"), text(old, "scope"), &path.child("scope"));
        check(text(names, "kind"), text(old_names, "kind"), &at.child("kind"));
    }
    check(text(spec, "group"), text(old, "group"), &path.child("group"));
    check(
        text(names, "plural"),
        text(old_names, "plural"),
        &at.child("plural"),
    );
}

fn check_spec(
    spec: &Map<String, Value>,
    old: Option<&Map<String, Value>>,
    path: &FieldPath<'_>,
    errors: &mut Vec<FieldError>,
) {
    let group = text(spec, "group");
    let at = path.child("group");
    let problems = names::dns1123_subdomain(group);
    if group.is_empty() {
        errors.push(FieldError::required(&at, ""));
    } else if !problems.is_empty() {
        errors.push(FieldError::invalid(&at, group, problems.join(",")));
    } else if !group.contains('.') {
        errors.push(FieldError::invalid(
            &at,
            group,
            "should be a domain with at least one dot",
        ));
    }
    let scope = text(spec, "scope");
    let scopes = ["Cluster", "Namespaced"];
    if scope.is_empty() {
        errors.push(FieldError::required(&path.child("scope"), ""));
    } else if !scopes.contains(&scope) {
        errors.push(FieldError::not_supported(&path.child("scope"), scope, &scopes));
    }
    if flag(spec, "preserveUnknownFields") {
        let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.push(FieldError::invalid(
            &path.child("preserveUnknownFields"),
            true,
            why,
        ));
    }
    let empty = Map::new();
    check_names(
        object(spec, "names").unwrap_or(&empty),
        &path.child("names"),
        errors,
    );
    check_conversion(
        object(spec, "conversion").unwrap_or(&empty),
        &path.child("conversion"),
        errors,
    );

    let at = path.child("versions");
    let versions = objects(spec, "versions");
    let common = Common::of(&versions);
    let mut seen = BTreeSet::new();
    let mut repeated = false;
    for (i, version) in versions.iter().enumerate() {
        let name = text(version, "name");
        repeated |= !seen.insert(name);
        let at = at.index(i);
        let problems = names::dns1035_label(name);
        if !problems.is_empty() {
            errors.push(FieldError::invalid(&at.child("name"), name, problems.join(",")));
        }
        // A schema that has not changed was checked when it came.
        let old = old.and_then(|old| {
            objects(old, "versions")
                .into_iter()
                .find(|v| text(v, "name") == name)
        });
        check_version(version, old, &common, i == 0, (path, &at), errors);
    }
    let shown = || spec.get("versions").cloned().unwrap_or_default();
    if repeated {
        errors.push(FieldError::invalid(
            &at,
            shown(),
            "must contain unique version names",
        ));
    }
    if versions.iter().filter(|v| flag(v, "storage")).count() != 1 {
        let why = "must have exactly one version marked as storage version";
        errors.push(FieldError::invalid(&at, shown(), why));
    }
}

fn check_names(all: &Map<String, Value>, path: &FieldPath<'_>, errors: &mut Vec<FieldError>) {
    for (field, mixed_case) in [
        ("plural", false),
        ("singular", false),
        ("kind", true),
        ("listKind", true),
    ] {
        let name = text(all, field);
        let at = path.child(field);
        if name.is_empty() {
            if matches!(field, "plural" | "kind") {
                errors.push(FieldError::required(&at, ""));
            }
            continue;
        }
        let problems = names::dns1035_label(&if mixed_case {
            name.to_lowercase()
        } else {
            name.to_owned()
        });
        if !problems.is_empty() {
            let prefix = if mixed_case {
                "may have mixed case, but should otherwise match: "
            } else {
                ""
            };
            errors.push(FieldError::invalid(
                &at,
                name,
                format!("{prefix}{}", problems.join(",")),
            ));
        }
    }
    for field in ["shortNames", "categories"] {
        for (i, name) in texts(all, field).into_iter().enumerate() {
            let problems = names::dns1035_label(name);
            if !problems.is_empty() {
                errors.push(FieldError::invalid(
                    &path.child(field).index(i),
                    name,
                    problems.join(","),
                ));
            }
        }
    }
    let (kind, list_kind) = (text(all, "kind"), text(all, "listKind"));
    if !kind.is_empty() && kind == list_kind {
        let why = "kind and listKind may not be the same";
        errors.push(FieldError::invalid(&path.child("listKind"), list_kind, why));
    }
}

fn check_conversion(conversion: &Map<String, Value>, path: &FieldPath<'_>, errors: &mut Vec<FieldError>) {
    let strategy = text(conversion, "strategy");
    let strategies = ["None", "Webhook"];
    if !strategy.is_empty() && !strategies.contains(&strategy) {
        errors.push(FieldError::not_supported(
            &path.child("strategy"),
            strategy,
            &strategies,
        ));
    }
    let webhook = object(conversion, "webhook");
    let config_path = path.child("webhookClientConfig");
    if strategy != "Webhook" {
        if webhook.is_some_and(|w| w.contains_key("clientConfig")) {
            let why = "should not be set when strategy is not set to Webhook";
            errors.push(FieldError::forbidden(&config_path, why));
        }
        return;
    }
    match webhook.and_then(|w| object(w, "clientConfig")) {
        None => errors.push(FieldError::required(
            &config_path,
            "required when strategy is set to Webhook",
        )),
        Some(config) if config.contains_key("url") == config.contains_key("service") => {
            errors.push(FieldError::required(
                &config_path,
                "exactly one of url or service is required",
            ));
        }
        Some(_) => {}
    }
    let versions = webhook
        .map(|w| texts(w, "conversionReviewVersions"))
        .unwrap_or_default();
    let at = path.child("conversionReviewVersions");
    if versions.is_empty() {
        errors.push(FieldError::required(&at, ""));
    } else if !versions.iter().any(|v| matches!(*v, "v1" | "v1beta1")) {
        errors.push(FieldError::invalid(
            &at,
            versions,
            "must include at least one of v1, v1beta1",
        ));
    }
}

/// Versions that objects were stored in must stay until nothing is stored in them.
fn stored_versions(definition: &Value, spec: &Map<String, Value>, errors: &mut Vec<FieldError>) {
    let Some(stored) = definition
        .pointer("/status/storedVersions")
        .and_then(Value::as_array)
    else {
        return;
    };
    let versions = objects(spec, "versions");
    let path = FieldPath::new("status");
    let path = path.child("storedVersions");
    for (i, name) in stored.iter().filter_map(Value::as_str).enumerate() {
        if !versions.iter().any(|v| text(v, "name") == name) {
            let why = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
            );
            errors.push(FieldError::invalid(&path.index(i), name, why));
        }
    }
}

/// Groups of the Kubernetes community need a link to their approval.
fn approval(
    metadata: &Map<String, Value>,
    spec: &Map<String, Value>,
    old: Option<&Value>,
    errors: &mut Vec<FieldError>,
) {
    const ANNOTATION: &str = "api-approved.kubernetes.io";
    let group = text(spec, "group");
    let protected = ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|g| group == *g || group.ends_with(&format!(".{g}")));
    if !protected || old.is_some() {
        return;
    }
    let path = FieldPath::new("metadata");
    let path = path.child("annotations");
    let path = path.key(ANNOTATION);
    let approval = object(metadata, "annotations")
        .map(|a| text(a, ANNOTATION))
        .unwrap_or_default();
    if approval.is_empty() {
        let why = "protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111";
        errors.push(FieldError::required(&path, why));
    } else if !approval.starts_with("unapproved") && !approval.starts_with("http") {
        let why = "protected groups must have approval annotation \"api-approved.kubernetes.io\" with either a URL or a reason starting with \"unapproved\", see https://github.com/kubernetes/enhancements/pull/1111";
        errors.push(FieldError::invalid(&path, approval, why));
    }
}
