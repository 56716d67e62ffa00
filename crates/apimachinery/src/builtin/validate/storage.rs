//! Volumes, claims and their classes.

use serde_json::Value;

use super::{Errors, list, map, quantities, text};
use crate::field::{FieldError, FieldPath};

const SPEC: FieldPath<'static> = FieldPath::new("spec");
/// Fields of a volume that do not say where its data is.
const COMMON: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];
const MODES: [&str; 4] = [
    "ReadOnlyMany",
    "ReadWriteMany",
    "ReadWriteOnce",
    "ReadWriteOncePod",
];

fn access_modes(spec: &Value, needed: &str, e: &mut Errors) {
    let path = SPEC.child("accessModes");
    if list(spec, "accessModes").is_empty() {
        e.required(&path, needed);
    }
    for mode in list(spec, "accessModes") {
        if !mode.as_str().is_some_and(|mode| MODES.contains(&mode)) {
            e.push(FieldError::not_supported(&path, mode.clone(), &MODES));
        }
    }
}

pub(super) fn claim(new: &Value, old: Option<&Value>, e: &mut Errors) {
    let spec = &new["spec"];
    access_modes(spec, "at least 1 access mode is required", e);
    let resources = SPEC.child("resources");
    let requests = resources.child("requests");
    let wanted = map(&spec["resources"], "requests");
    if !wanted.is_some_and(|wanted| wanted.contains_key("storage")) {
        e.required(&resources.key("storage"), "");
    }
    quantities(wanted, &requests, e);
    if let Some(old) = old {
        let fixed = |claim: &Value| {
            let mut spec = claim["spec"].clone();
            if let Some(map) = spec.as_object_mut() {
                map.remove("resources");
                map.remove("volumeAttributesClassName");
                // The volume and, by default, the class are filled in once.
                for field in ["volumeName", "storageClassName"] {
                    if text(&old["spec"], field).is_empty() {
                        map.remove(field);
                    }
                }
            }
            spec
        };
        if fixed(new) != fixed(old) {
            e.push(FieldError::forbidden(
                &SPEC,
                "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
            ));
        }
    }
}

pub(super) fn volume(new: &Value, e: &mut Errors) {
    let spec = &new["spec"];
    access_modes(spec, "", e);
    if !spec
        .as_object()
        .is_some_and(|s| s.keys().any(|k| !COMMON.contains(&k.as_str())))
    {
        e.required(&SPEC, "must specify a volume type");
    }
    match map(spec, "capacity") {
        None => e.required(&SPEC.child("capacity"), ""),
        capacity => quantities(capacity, &SPEC.child("capacity"), e),
    }
    e.one_of(
        spec,
        "persistentVolumeReclaimPolicy",
        &SPEC,
        &["Delete", "Recycle", "Retain"],
    );
}

pub(super) fn class(new: &Value, old: Option<&Value>, e: &mut Errors) {
    let path = FieldPath::new("provisioner");
    if text(new, "provisioner").is_empty() {
        e.required(&path, "");
    }
    e.one_of(new, "reclaimPolicy", &FieldPath::ROOT, &["Delete", "Retain"]);
    e.one_of(
        new,
        "volumeBindingMode",
        &FieldPath::ROOT,
        &["Immediate", "WaitForFirstConsumer"],
    );
    let Some(old) = old else { return };
    for field in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
        if new[field] != old[field] {
            e.push(FieldError::forbidden(
                &FieldPath::new(field),
                format!("updates to {field} are forbidden."),
            ));
        }
    }
}
