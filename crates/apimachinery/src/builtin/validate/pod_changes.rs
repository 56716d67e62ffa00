//! What of a Pod may change, and by which subresource.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Errors, list, map, text};
use crate::builtin::strategy::quality_of_service;
use crate::field::{FieldError, FieldPath};

const CONTAINERS: [&str; 2] = ["containers", "initContainers"];
/// Marks what a kubelet tells of Pods that it has from a file.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Checks a new Pod for what only changes may bring.
pub(super) fn created(pod: &Value, e: &mut Errors) {
    let path = FieldPath::new("spec");
    let spec = &pod["spec"];
    if !list(spec, "ephemeralContainers").is_empty() {
        e.push(FieldError::forbidden(
            &path.child("ephemeralContainers"),
            "cannot be set on create",
        ));
    }
    if !list(spec, "schedulingGates").is_empty() && !text(spec, "nodeName").is_empty() {
        e.push(FieldError::forbidden(
            &path.child("nodeName"),
            "cannot be set until all schedulingGates have been cleared",
        ));
    }
}

/// Checks a changed Pod against what it was.
pub(super) fn changed(subresource: &str, new: &Value, old: &Value, e: &mut Errors) {
    let is_static = map(&old["metadata"], "annotations").is_some_and(|all| all.contains_key(MIRROR));
    match subresource {
        "ephemeralcontainers" if is_static => e.push(FieldError::forbidden(
            &FieldPath::ROOT,
            "static pods do not support ephemeral containers",
        )),
        "ephemeralcontainers" => debugged(&new["spec"], &old["spec"], e),
        "resize" if is_static => {
            e.push(FieldError::forbidden(
                &FieldPath::ROOT,
                "static pods cannot be resized",
            ));
        }
        "resize" => resized(new, old, e),
        // What these write has been decided where they are answered.
        "binding" | "status" => {}
        _ => updated(&new["spec"], &old["spec"], e),
    }
}

/// Containers for debugging come, and stay as they came.
fn debugged(new: &Value, old: &Value, e: &mut Errors) {
    let path = FieldPath::new("spec");
    let path = path.child("ephemeralContainers");
    for was in list(old, "ephemeralContainers") {
        let name = text(was, "name");
        let is = list(new, "ephemeralContainers")
            .iter()
            .find(|one| text(one, "name") == name);
        let what = match is {
            None => "removed",
            Some(is) if is != was => "changed",
            Some(_) => continue,
        };
        e.push(FieldError::forbidden(
            &path,
            format!("existing ephemeral containers \"{name}\" may not be {what}\n"),
        ));
    }
}

/// Containers for debugging, which are nobody's to rely on.
pub(super) fn ephemeral(spec: &Value, path: &FieldPath<'_>, e: &mut Errors) {
    let mut taken: BTreeSet<&str> = BTreeSet::new();
    for field in CONTAINERS {
        taken.extend(list(spec, field).iter().map(|one| text(one, "name")));
    }
    let others = taken.clone();
    let path = path.child("ephemeralContainers");
    for (index, container) in list(spec, "ephemeralContainers").iter().enumerate() {
        let at = path.index(index);
        let name = text(container, "name");
        if !name.is_empty() && !taken.insert(name) {
            e.push(FieldError::duplicate(&at.child("name"), name));
        }
        let target = text(container, "targetContainerName");
        if !target.is_empty() && !others.contains(target) {
            e.push(FieldError::not_found(&at.child("targetContainerName"), target));
        }
        let fields = [
            "ports",
            "resources",
            "livenessProbe",
            "readinessProbe",
            "startupProbe",
            "lifecycle",
            "resizePolicy",
            "restartPolicy",
        ];
        for field in fields {
            if container.get(field).is_some_and(|value| !is_empty(value)) {
                e.push(FieldError::forbidden(
                    &at.child(field),
                    "cannot be set for an Ephemeral Container",
                ));
            }
        }
        let mounts = at.child("volumeMounts");
        for (index, mount) in list(container, "volumeMounts").iter().enumerate() {
            for field in ["subPath", "subPathExpr"] {
                if !text(mount, field).is_empty() {
                    e.push(FieldError::forbidden(
                        &mounts.index(index).child(field),
                        "cannot be set for an Ephemeral Container",
                    ));
                }
            }
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

fn updated(new: &Value, old: &Value, e: &mut Errors) {
    let path = FieldPath::new("spec");
    for field in CONTAINERS {
        if list(new, field).len() != list(old, field).len() {
            return e.push(FieldError::forbidden(
                &path.child(field),
                "pod updates may not add or remove containers",
            ));
        }
    }
    if !deadline(new, old, &path, e) {
        return;
    }
    let tolerations = |spec: &Value| -> Vec<Value> {
        let mut all = list(spec, "tolerations").to_vec();
        for one in all.iter_mut().filter_map(Value::as_object_mut) {
            one.remove("tolerationSeconds");
        }
        all
    };
    let tolerated = tolerations(new);
    if tolerations(old).iter().any(|was| !tolerated.contains(was)) {
        e.push(FieldError::forbidden(
            &path.child("tolerations"),
            "existing toleration can not be modified except its tolerationSeconds",
        ));
    }
    let gates = path.child("schedulingGates");
    let were: BTreeSet<&str> = list(old, "schedulingGates")
        .iter()
        .map(|gate| text(gate, "name"))
        .collect();
    for (index, gate) in list(new, "schedulingGates").iter().enumerate() {
        let name = text(gate, "name");
        if !were.contains(name) {
            e.push(FieldError::forbidden(
                &gates.index(index).child("name"),
                format!("only deletion is allowed, but found new scheduling gate '{name}'"),
            ));
        }
    }
    let is_gated = !were.is_empty();
    if is_gated {
        placed(new, old, &path, e);
    }
    if frozen(new, is_gated) != frozen(old, is_gated) {
        e.push(FieldError::forbidden(
            &path,
            "pod updates may not change fields other than \
             `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only \
             additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
             previously negative)",
        ));
    }
}

/// A deadline comes, or comes nearer. Whether there is more to say.
fn deadline(new: &Value, old: &Value, path: &FieldPath<'_>, e: &mut Errors) -> bool {
    const FIELD: &str = "activeDeadlineSeconds";
    let seconds = |spec: &Value| spec.get(FIELD).and_then(Value::as_i64);
    match (seconds(old), seconds(new)) {
        (Some(was), Some(is)) if was < is => {
            e.invalid(
                &path.child(FIELD),
                is,
                "must be less than or equal to previous value",
            );
            false
        }
        (Some(_), None) => {
            let why = "must not update from a positive integer to nil value";
            e.invalid(&path.child(FIELD), Value::Null, why);
            true
        }
        _ => true,
    }
}

/// A Pod that waits for its gates may still be told more closely where to go.
fn placed(new: &Value, old: &Value, path: &FieldPath<'_>, e: &mut Errors) {
    const ADDITIONS: &str = "only additions are allowed (no mutations or deletions)";
    let selector = |spec: &Value| map(spec, "nodeSelector").cloned().unwrap_or_default();
    let (was, is) = (selector(old), selector(new));
    if was.iter().any(|(key, value)| is.get(key) != Some(value)) {
        e.invalid(&path.child("nodeSelector"), Value::Object(is), ADDITIONS);
    }
    let terms = |spec: &Value| -> Vec<Value> {
        let found = spec.pointer(
            "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms",
        );
        found.and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let (were, are) = (terms(old), terms(new));
    if were.is_empty() {
        return;
    }
    let affinity = path.child("affinity");
    let affinity = affinity.child("nodeAffinity");
    let required = affinity.child("requiredDuringSchedulingIgnoredDuringExecution");
    let at = required.child("nodeSelectorTerms");
    if were.len() != are.len() {
        let why = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        return e.invalid(&at, Value::Array(are), why);
    }
    for (index, (was, is)) in were.iter().zip(&are).enumerate() {
        let kept = ["matchExpressions", "matchFields"].iter().all(|field| {
            let now = list(is, field);
            now.len() >= list(was, field).len() && list(was, field).iter().zip(now).all(|(was, is)| was == is)
        });
        if !kept {
            e.invalid(&at.index(index), is.clone(), ADDITIONS);
        }
    }
}

/// What of a Pod's spec stays as it was created.
fn frozen(spec: &Value, is_gated: bool) -> Value {
    let mut spec = spec.clone();
    let Some(map) = spec.as_object_mut() else {
        return spec;
    };
    for field in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        map.remove(field);
    }
    if is_gated {
        map.remove("nodeSelector");
        let affinity = map.get_mut("affinity").and_then(Value::as_object_mut);
        let is_empty = affinity.is_some_and(|affinity| {
            affinity.remove("nodeAffinity");
            affinity.is_empty()
        });
        if is_empty {
            map.remove("affinity");
        }
    }
    for field in CONTAINERS {
        let containers = map.get_mut(field).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
            container.remove("image");
        }
    }
    spec
}

fn resized(new: &Value, old: &Value, e: &mut Errors) {
    let path = FieldPath::new("spec");
    let was = match old.pointer("/status/qosClass").and_then(Value::as_str) {
        Some(class) => class,
        None => quality_of_service(old),
    };
    if was != quality_of_service(new) {
        e.invalid(
            &path,
            text(&new["status"], "qosClass"),
            "Pod QOS Class may not change as a result of resizing",
        );
    }
    let running = list(&old["status"], "containerStatuses")
        .iter()
        .find(|status| status.pointer("/state/running").is_some());
    if running.is_some_and(|status| status.get("resources").is_none()) {
        e.push(FieldError::forbidden(
            &path,
            "Pod running on node without support for resize",
        ));
    }
    if !same_containers(&new["spec"], &old["spec"], &path, e) {
        return;
    }
    for field in CONTAINERS {
        let at = path.child(field);
        for (index, (is, was)) in pairs(&new["spec"], &old["spec"], field).enumerate() {
            let at = at.index(index);
            lost(&is["resources"], &was["resources"], &at.child("resources"), e);
        }
    }
    lost(
        &new["spec"]["resources"],
        &old["spec"]["resources"],
        &path.child("resources"),
        e,
    );
    let mut changed = new["spec"].clone();
    let as_before = |resources: &mut Value, was: &Value| {
        for part in ["requests", "limits"] {
            for name in ["cpu", "memory"] {
                let before = was.get(part).and_then(|amounts| amounts.get(name));
                let amounts = resources.get_mut(part).and_then(Value::as_object_mut);
                match (amounts, before) {
                    (Some(amounts), Some(before)) => {
                        amounts.insert(name.to_owned(), before.clone());
                    }
                    (Some(amounts), None) => {
                        amounts.remove(name);
                    }
                    (None, _) => {}
                }
            }
        }
    };
    for field in CONTAINERS {
        let containers = changed.get_mut(field).and_then(Value::as_array_mut);
        for (container, was) in containers.into_iter().flatten().zip(list(&old["spec"], field)) {
            as_before(&mut container["resources"], &was["resources"]);
        }
    }
    as_before(&mut changed["resources"], &old["spec"]["resources"]);
    if without_empty(changed) != without_empty(old["spec"].clone()) {
        e.push(FieldError::forbidden(
            &path,
            "only cpu and memory resources are mutable",
        ));
    }
}

/// Drops what says nothing, such as resources without amounts.
fn without_empty(mut value: Value) -> Value {
    match &mut value {
        Value::Object(map) => {
            for (_, child) in map.iter_mut() {
                *child = without_empty(child.take());
            }
            map.retain(|_, child| !child.is_null());
            if map.is_empty() {
                return Value::Null;
            }
        }
        Value::Array(list) => {
            for child in list.iter_mut() {
                // An entry that says nothing is an entry all the same.
                let kept = without_empty(child.take());
                *child = if kept.is_null() { json!({}) } else { kept };
            }
            if list.is_empty() {
                return Value::Null;
            }
        }
        _ => {}
    }
    value
}

fn pairs<'v>(new: &'v Value, old: &'v Value, field: &str) -> impl Iterator<Item = (&'v Value, &'v Value)> {
    list(new, field).iter().zip(list(old, field))
}

fn same_containers(new: &Value, old: &Value, path: &FieldPath<'_>, e: &mut Errors) -> bool {
    let mut same = true;
    for field in CONTAINERS {
        let at = path.child(field);
        if list(new, field).len() != list(old, field).len() {
            let why = format!("{field} may not be added or removed on resize");
            e.push(FieldError::forbidden(&at, why));
            same = false;
            continue;
        }
        for (index, (is, was)) in pairs(new, old, field).enumerate() {
            if is["name"] != was["name"] {
                let why = format!("{field} may not be renamed or reordered on resize");
                e.push(FieldError::forbidden(&at.index(index).child("name"), why));
                same = false;
            }
        }
    }
    same
}

/// What is asked for may be more or less, but not left open again.
fn lost(new: &Value, old: &Value, path: &FieldPath<'_>, e: &mut Errors) {
    for part in ["requests", "limits"] {
        let now = map(new, part);
        let is_lost = |name: &String| now.is_none_or(|now| !now.contains_key(name));
        if map(old, part).is_some_and(|were| were.keys().any(is_lost)) {
            let why = format!("resource {part} cannot be removed");
            e.push(FieldError::forbidden(&path.child(part), why));
        }
    }
}
