//! Controllers of Pods.

use serde_json::Value;

use super::{Errors, immutable, is_set, label_selector, list, map, number_or_percent, pod, selects, text};
use crate::field::{FieldError, FieldPath};

const SPEC: FieldPath<'static> = FieldPath::new("spec");

/// Selector and template, which belong together.
fn selector_and_template(spec: &Value, always: bool, e: &mut Errors) {
    let path = SPEC.child("selector");
    let template = SPEC.child("template");
    let selector = &spec["selector"];
    let empty = map(selector, "matchLabels").is_none() && list(selector, "matchExpressions").is_empty();
    if !is_set(spec, "selector") {
        e.required(&path, "");
    } else if empty {
        e.invalid(
            &path,
            selector.clone(),
            "empty selector is invalid for deployment",
        );
    } else {
        label_selector(selector, &path, e);
    }
    let labels = map(&spec["template"]["metadata"], "labels");
    if !is_set(spec, "selector") || (!empty && !selects(selector, labels)) {
        let metadata = template.child("metadata");
        e.invalid(
            &metadata.child("labels"),
            labels.cloned().map_or(Value::Null, Value::Object),
            "`selector` does not match template `labels`",
        );
    }
    pod::template(&spec["template"], &template, e);
    if always {
        restarts(&spec["template"], &template, &["Always"], e);
    }
}

fn restarts(pod: &Value, path: &FieldPath<'_>, allowed: &[&str], e: &mut Errors) {
    let policy = text(&pod["spec"], "restartPolicy");
    if !policy.is_empty() && !allowed.contains(&policy) {
        let spec = path.child("spec");
        e.push(FieldError::not_supported(
            &spec.child("restartPolicy"),
            policy,
            allowed,
        ));
    }
}

pub(super) fn deployment(new: &Value, old: Option<&Value>, e: &mut Errors) {
    let spec = &new["spec"];
    for field in [
        "replicas",
        "minReadySeconds",
        "revisionHistoryLimit",
        "progressDeadlineSeconds",
    ] {
        e.not_negative(spec, field, &SPEC);
    }
    selector_and_template(spec, true, e);
    let path = SPEC.child("strategy");
    let strategy = &spec["strategy"];
    match text(strategy, "type") {
        "Recreate" if is_set(strategy, "rollingUpdate") => e.push(FieldError::forbidden(
            &path.child("rollingUpdate"),
            "may not be specified when strategy `type` is 'Recreate'",
        )),
        "RollingUpdate" => rolling(strategy, &path, e),
        _ => {}
    }
    e.one_of(strategy, "type", &path, &["Recreate", "RollingUpdate"]);
    let (deadline, ready) = (&spec["progressDeadlineSeconds"], &spec["minReadySeconds"]);
    if let Some(deadline) = deadline.as_i64()
        && deadline <= ready.as_i64().unwrap_or_default()
    {
        e.invalid(
            &SPEC.child("progressDeadlineSeconds"),
            deadline,
            "must be greater than minReadySeconds",
        );
    }
    immutable(new, old, &["spec", "selector"], e);
}

fn rolling(strategy: &Value, path: &FieldPath<'_>, e: &mut Errors) {
    let path = path.child("rollingUpdate");
    let rolling = &strategy["rollingUpdate"];
    for field in ["maxUnavailable", "maxSurge"] {
        number_or_percent(&rolling[field], &path.child(field), e);
    }
    let zero = |field: &str| rolling[field] == 0 || rolling[field] == "0%";
    if zero("maxUnavailable") && zero("maxSurge") {
        e.invalid(
            &path.child("maxUnavailable"),
            rolling["maxUnavailable"].clone(),
            "may not be 0 when `maxSurge` is 0",
        );
    }
}

pub(super) fn replica_set(new: &Value, old: Option<&Value>, e: &mut Errors) {
    for field in ["replicas", "minReadySeconds"] {
        e.not_negative(&new["spec"], field, &SPEC);
    }
    selector_and_template(&new["spec"], true, e);
    immutable(new, old, &["spec", "selector"], e);
}

pub(super) fn replication_controller(new: &Value, e: &mut Errors) {
    let spec = &new["spec"];
    e.not_negative(spec, "replicas", &SPEC);
    if map(spec, "selector").is_none() {
        e.required(&SPEC.child("selector"), "");
    }
    if !is_set(spec, "template") {
        e.required(&SPEC.child("template"), "");
        return;
    }
    let path = SPEC.child("template");
    pod::template(&spec["template"], &path, e);
    restarts(&spec["template"], &path, &["Always"], e);
}

pub(super) fn daemon_set(new: &Value, old: Option<&Value>, e: &mut Errors) {
    let spec = &new["spec"];
    selector_and_template(spec, true, e);
    e.not_negative(spec, "minReadySeconds", &SPEC);
    let path = SPEC.child("updateStrategy");
    e.one_of(
        &spec["updateStrategy"],
        "type",
        &path,
        &["RollingUpdate", "OnDelete"],
    );
    immutable(new, old, &["spec", "selector"], e);
}

/// The spec of a stateful set whose claims are volumes of its pods, as they will be.
fn with_claims(spec: &Value) -> std::borrow::Cow<'_, Value> {
    let claims = list(spec, "volumeClaimTemplates");
    let mut spec = std::borrow::Cow::Borrowed(spec);
    if claims.is_empty() {
        return spec;
    }
    let volumes: Vec<Value> = claims
        .iter()
        .map(|claim| text(&claim["metadata"], "name"))
        .map(|name| serde_json::json!({"name": name, "persistentVolumeClaim": {"claimName": name}}))
        .collect();
    if let Some(pod) = spec
        .to_mut()
        .pointer_mut("/template/spec")
        .and_then(Value::as_object_mut)
    {
        // A claim stands in the place of a volume of the same name.
        let declared = pod.entry("volumes").or_insert_with(|| Value::Array(Vec::new()));
        if let Some(declared) = declared.as_array_mut() {
            declared.retain(|v| volumes.iter().all(|claim| claim["name"] != v["name"]));
            declared.extend(volumes);
        }
    }
    spec
}

pub(super) fn stateful_set(new: &Value, old: Option<&Value>, e: &mut Errors) {
    let spec = &new["spec"];
    for field in ["replicas", "minReadySeconds"] {
        e.not_negative(spec, field, &SPEC);
    }
    let management = text(spec, "podManagementPolicy");
    if !matches!(management, "" | "OrderedReady" | "Parallel") {
        e.invalid(
            &SPEC.child("podManagementPolicy"),
            management,
            "must be 'OrderedReady' or 'Parallel'",
        );
    }
    let path = SPEC.child("updateStrategy");
    e.one_of(
        &spec["updateStrategy"],
        "type",
        &path,
        &["RollingUpdate", "OnDelete"],
    );
    selector_and_template(&with_claims(spec), true, e);
    if let Some(old) = old {
        let fixed = |object: &Value| {
            let mut spec = object["spec"].clone();
            if let Some(map) = spec.as_object_mut() {
                for field in [
                    "replicas",
                    "ordinals",
                    "template",
                    "updateStrategy",
                    "revisionHistoryLimit",
                    "persistentVolumeClaimRetentionPolicy",
                    "minReadySeconds",
                ] {
                    map.remove(field);
                }
            }
            spec
        };
        if fixed(new) != fixed(old) {
            e.push(FieldError::forbidden(
                &SPEC,
                "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', \
                 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
            ));
        }
    }
}

pub(super) fn job(new: &Value, old: Option<&Value>, e: &mut Errors) {
    let spec = &new["spec"];
    job_spec(spec, &SPEC, e);
    if is_set(spec, "selector") {
        let labels = map(&spec["template"]["metadata"], "labels");
        if !selects(&spec["selector"], labels) {
            let template = SPEC.child("template");
            let metadata = template.child("metadata");
            e.invalid(
                &metadata.child("labels"),
                labels.cloned().map_or(Value::Null, Value::Object),
                "`selector` does not match template `labels`",
            );
        }
    }
    immutable(new, old, &["spec", "selector"], e);
    immutable(new, old, &["spec", "completionMode"], e);
    immutable(new, old, &["spec", "podFailurePolicy"], e);
    // While a Job is suspended its scheduling directives may change; everything else of the template may not.
    let suspended = |job: &Value| job["spec"]["suspend"] == true && !is_set(&job["status"], "startTime");
    if old.is_some_and(|old| !suspended(old)) {
        immutable(new, old, &["spec", "template"], e);
    }
    if spec["completionMode"] != "Indexed" {
        immutable(new, old, &["spec", "completions"], e);
    }
}

fn job_spec(spec: &Value, path: &FieldPath<'_>, e: &mut Errors) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
    ] {
        e.not_negative(spec, field, path);
    }
    e.one_of(spec, "completionMode", path, &["NonIndexed", "Indexed"]);
    let template = path.child("template");
    pod::template(&spec["template"], &template, e);
    let policy = text(&spec["template"]["spec"], "restartPolicy");
    if policy == "Always" {
        let pod = template.child("spec");
        // The default is no choice for a Job.
        let message = FieldError::required(
            &pod.child("restartPolicy"),
            "valid values: \"OnFailure\", \"Never\"",
        );
        e.push(message);
    }
    if spec["completionMode"] == "Indexed" && !is_set(spec, "completions") {
        e.required(&path.child("completions"), "when completion mode is Indexed");
    }
}

pub(super) fn cron_job(new: &Value, e: &mut Errors) {
    let spec = &new["spec"];
    let name = text(&new["metadata"], "name");
    if name.len() > 52 {
        let metadata = FieldPath::new("metadata");
        e.invalid(
            &metadata.child("name"),
            name,
            "must be no more than 52 characters",
        );
    }
    let schedule = text(spec, "schedule");
    if schedule.is_empty() {
        e.required(&SPEC.child("schedule"), "");
    } else if !schedule.starts_with('@') && schedule.split_whitespace().count() != 5 {
        let found = schedule.split_whitespace().count();
        let fields = schedule.split_whitespace().collect::<Vec<_>>().join(" ");
        let detail = format!("expected exactly 5 fields, found {found}: [{fields}]");
        e.invalid(&SPEC.child("schedule"), schedule, &detail);
    }
    e.one_of(spec, "concurrencyPolicy", &SPEC, &["Allow", "Forbid", "Replace"]);
    for field in [
        "startingDeadlineSeconds",
        "successfulJobsHistoryLimit",
        "failedJobsHistoryLimit",
    ] {
        e.not_negative(spec, field, &SPEC);
    }
    let path = SPEC.child("jobTemplate");
    let job = &spec["jobTemplate"]["spec"];
    job_spec(job, &path.child("spec"), e);
    if is_set(job, "manualSelector") && job["manualSelector"] == true {
        let spec = path.child("spec");
        e.push(FieldError::not_supported(
            &spec.child("manualSelector"),
            true,
            &["nil", "false"],
        ));
    }
}
