//! The status of a definition: which names it got, and whether it is served.

use choreo_apimachinery::registry::Registry;
use serde_json::{Map, Value, json};

use crate::verbs::{now, text};

/// Works the status out from the spec, the status before and what is served already.
pub(super) fn compute(registry: &Registry, old: Option<&Value>, definition: &mut Value) {
    let before = old.and_then(|old| old.get("status")).cloned();
    if !definition["status"].is_object() {
        definition["status"] = before.unwrap_or_else(|| json!({}));
    }
    remember_storage_version(definition);
    let conflicts = conflicts(registry, definition);
    if conflicts.is_empty() {
        let mut names = definition["spec"]["names"].clone();
        if let Some(names) = names.as_object_mut() {
            names.retain(|_, v| !v.is_null());
        }
        definition["status"]["acceptedNames"] = names;
        set(
            definition,
            "NamesAccepted",
            true,
            "NoConflicts",
            "no conflicts found",
        );
        set(
            definition,
            "Established",
            true,
            "InitialNamesAccepted",
            "the initial names have been accepted",
        );
    } else {
        if !definition["status"]["acceptedNames"].is_object() {
            definition["status"]["acceptedNames"] = json!({"kind": "", "plural": ""});
        }
        let (reason, message) = &conflicts[0];
        set(definition, "NamesAccepted", false, reason, message);
        if !is_true(definition, "Established") {
            set(
                definition,
                "Established",
                false,
                "NotAccepted",
                "not all names are accepted",
            );
        }
    }
}

/// A version that objects may be stored in stays in `storedVersions` until somebody says that they have been migrated.
fn remember_storage_version(definition: &mut Value) {
    let versions = definition.pointer("/spec/versions").and_then(Value::as_array);
    let storage = versions
        .into_iter()
        .flatten()
        .find(|v| v["storage"] == true)
        .map(|v| v["name"].clone());
    let Some(storage) = storage else { return };
    let stored = &mut definition["status"]["storedVersions"];
    match stored.as_array_mut() {
        Some(stored) if stored.contains(&storage) => {}
        Some(stored) => stored.push(storage),
        None => *stored = json!([storage]),
    }
}

/// Names of the definition that another resource of the same group has already: reason and message.
fn conflicts(registry: &Registry, definition: &Value) -> Vec<(String, String)> {
    let group = text(definition, "/spec/group");
    let names = &definition["spec"]["names"];
    let name = |field: &str| names[field].as_str().unwrap_or_default().to_owned();
    let plural = name("plural");
    let others: Vec<_> = registry
        .group(group)
        .into_iter()
        .flat_map(|g| g.versions())
        .flat_map(|v| v.resources())
        .filter(|r| r.plural != plural || !r.is_crd)
        .collect();
    let taken_name = |wanted: &str| {
        others
            .iter()
            .any(|r| r.plural == wanted || r.singular == wanted || r.short_names.iter().any(|s| s == wanted))
    };
    let taken_kind = |wanted: &str| others.iter().any(|r| r.kind == wanted || r.list_kind == wanted);
    let mut found = Vec::new();
    let mut check = |taken: bool, reason: &str, value: &str| {
        if taken {
            found.push((reason.to_owned(), format!("{value:?} is already in use")));
        }
    };
    check(taken_name(&plural), "PluralConflict", &plural);
    let singular = name("singular");
    check(
        !singular.is_empty() && taken_name(&singular),
        "SingularConflict",
        &singular,
    );
    for short in names["shortNames"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        check(taken_name(short), "ShortNamesConflict", short);
    }
    check(taken_kind(&name("kind")), "KindConflict", &name("kind"));
    let list_kind = name("listKind");
    check(
        !list_kind.is_empty() && taken_kind(&list_kind),
        "ListKindConflict",
        &list_kind,
    );
    found
}

/// Whether a condition is true.
pub(super) fn is_true(definition: &Value, kind: &str) -> bool {
    let conditions = definition.pointer("/status/conditions").and_then(Value::as_array);
    conditions
        .into_iter()
        .flatten()
        .any(|c| c["type"] == kind && c["status"] == "True")
}

/// Sets a condition; its time changes only with its status.
pub(super) fn set(definition: &mut Value, kind: &str, status: bool, reason: &str, message: &str) {
    let status = if status { "True" } else { "False" };
    if !definition["status"].is_object() {
        definition["status"] = Value::Object(Map::new());
    }
    if !definition["status"]["conditions"].is_array() {
        definition["status"]["conditions"] = json!([]);
    }
    let Some(conditions) = definition["status"]["conditions"].as_array_mut() else {
        return;
    };
    let mut condition = json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now()});
    match conditions.iter_mut().find(|c| c["type"] == kind) {
        Some(present) => {
            if present["status"] == status {
                condition["lastTransitionTime"] = present["lastTransitionTime"].clone();
            }
            *present = condition;
        }
        None => conditions.push(condition),
    }
}
