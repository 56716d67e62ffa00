//! Rules of built-in kinds that a schema does not say: what must be there, what belongs together, what may not change.
//!
//! One file per family of kinds. The schema has been checked before, so values have their types.

mod admission;
mod config;
mod flow;
mod network;
mod pod;
mod pod_changes;
mod policy;
mod storage;
mod workload;

use serde_json::{Map, Value};

use crate::{
    field::{FieldError, FieldPath},
    meta::names,
    registry::ResourceInfo,
};

/// Checks a new object, or one that was changed by a subresource (empty for the object itself) against what it was.
#[must_use]
pub fn validate(info: &ResourceInfo, subresource: &str, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Errors(Vec::new());
    let e = &mut errors;
    match (info.group.as_str(), info.kind.as_str()) {
        ("", "Pod") => pod::pod(subresource, new, old, e),
        ("", "PodTemplate") => pod::template(&new["template"], &FieldPath::new("template"), e),
        ("", "Service") => network::service(new, old, e),
        ("", "ConfigMap") => config::config_map(new, old, e),
        ("", "Secret") => config::secret(new, old, e),
        ("", "PersistentVolumeClaim") => storage::claim(new, old, e),
        ("", "PersistentVolume") => storage::volume(new, e),
        ("", "ResourceQuota") => config::quota(new, e),
        ("", "LimitRange") => config::limit_range(new, e),
        ("", "ReplicationController") => workload::replication_controller(new, e),
        ("apps", "Deployment") => workload::deployment(new, old, e),
        ("apps", "ReplicaSet") => workload::replica_set(new, old, e),
        ("apps", "StatefulSet") => workload::stateful_set(new, old, e),
        ("apps", "DaemonSet") => workload::daemon_set(new, old, e),
        ("apps", "ControllerRevision") => immutable(new, old, &["data"], e),
        ("batch", "Job") => workload::job(new, old, e),
        ("batch", "CronJob") => workload::cron_job(new, e),
        ("autoscaling", "HorizontalPodAutoscaler") => policy::autoscaler(new, e),
        ("policy", "PodDisruptionBudget") => policy::disruption_budget(new, e),
        ("networking.k8s.io", "Ingress") => network::ingress(new, e),
        ("networking.k8s.io", "NetworkPolicy") => network::network_policy(new, e),
        ("networking.k8s.io", "IngressClass") => immutable(new, old, &["spec", "controller"], e),
        ("discovery.k8s.io", "EndpointSlice") => network::endpoint_slice(new, old, e),
        ("rbac.authorization.k8s.io", "Role" | "ClusterRole") => policy::role(info, new, e),
        ("rbac.authorization.k8s.io", _) => policy::role_binding(info, new, old, e),
        ("coordination.k8s.io", "Lease") => policy::lease(new, e),
        ("scheduling.k8s.io", "PriorityClass") => policy::priority_class(new, old, e),
        ("storage.k8s.io", "StorageClass") => storage::class(new, old, e),
        ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration") => {
            admission::webhooks(false, new, e);
        }
        ("admissionregistration.k8s.io", "MutatingWebhookConfiguration") => {
            admission::webhooks(true, new, e);
        }
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy") => {
            admission::validating_policy(new, e);
        }
        ("admissionregistration.k8s.io", "MutatingAdmissionPolicy") => {
            admission::mutating_policy(new, e);
        }
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding") => {
            admission::binding(true, new, e);
        }
        ("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding") => {
            admission::binding(false, new, e);
        }
        ("flowcontrol.apiserver.k8s.io", "FlowSchema") => flow::schema(new, e),
        ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration") => flow::level(new, e),
        ("node.k8s.io", "RuntimeClass") => policy::runtime_class(new, old, e),
        _ => {}
    }
    errors.0
}

/// What is wrong, collected.
struct Errors(Vec<FieldError>);

impl Errors {
    fn push(&mut self, error: FieldError) {
        self.0.push(error);
    }

    fn required(&mut self, path: &FieldPath<'_>, detail: &str) {
        self.push(FieldError::required(path, detail));
    }

    fn invalid(&mut self, path: &FieldPath<'_>, value: impl Into<Value>, detail: &str) {
        self.push(FieldError::invalid(path, value, detail));
    }

    /// One error per complaint of a check of names.
    fn all(&mut self, path: &FieldPath<'_>, value: &str, complaints: Vec<String>) {
        for complaint in complaints {
            self.push(FieldError::invalid(path, value, complaint));
        }
    }

    /// A string that must be one of a few.
    fn one_of(&mut self, object: &Value, field: &str, path: &FieldPath<'_>, valid: &[&str]) {
        if let Some(value) = object.get(field).and_then(Value::as_str)
            && !valid.contains(&value)
        {
            self.push(FieldError::not_supported(&path.child(field), value, valid));
        }
    }

    /// A number that must not be negative.
    fn not_negative(&mut self, object: &Value, field: &str, path: &FieldPath<'_>) {
        if let Some(number) = object.get(field).and_then(Value::as_i64)
            && number < 0
        {
            self.invalid(&path.child(field), number, "must be greater than or equal to 0");
        }
    }
}

fn text<'v>(object: &'v Value, field: &str) -> &'v str {
    object.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn list<'v>(object: &'v Value, field: &str) -> &'v [Value] {
    object
        .get(field)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn map<'v>(object: &'v Value, field: &str) -> Option<&'v Map<String, Value>> {
    object
        .get(field)
        .and_then(Value::as_object)
        .filter(|m| !m.is_empty())
}

fn is_set(object: &Value, field: &str) -> bool {
    object.get(field).is_some_and(|v| !v.is_null())
}

/// A port number.
fn port_number(number: i64, path: &FieldPath<'_>, e: &mut Errors) {
    if !(1..=65_535).contains(&number) {
        e.invalid(path, number, "must be between 1 and 65535, inclusive");
    }
}

/// A port number or the name of one.
fn port_or_name(value: &Value, path: &FieldPath<'_>, e: &mut Errors) {
    match value {
        Value::Number(n) => port_number(n.as_i64().unwrap_or_default(), path, e),
        Value::String(name) => e.all(path, name, port_name(name)),
        _ => {}
    }
}

/// What is wrong with the name of a port (an IANA service name).
fn port_name(name: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if name.len() > 15 {
        wrong.push("must be no more than 15 characters".to_owned());
    }
    let alphabet = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if !name.bytes().all(alphabet) {
        wrong.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !name.bytes().any(|b| b.is_ascii_lowercase()) {
        wrong.push("must contain at least one letter (a-z)".to_owned());
    }
    if name.contains("--") {
        wrong.push("must not contain consecutive hyphens".to_owned());
    }
    if name.starts_with('-') || name.ends_with('-') {
        wrong.push("must not begin or end with a hyphen".to_owned());
    }
    wrong
}

/// Amounts of resources: each must be a quantity of at least zero.
fn quantities(amounts: Option<&Map<String, Value>>, path: &FieldPath<'_>, e: &mut Errors) {
    for (name, amount) in amounts.into_iter().flatten() {
        let at = path.key(name);
        quantity(amount, &at, e);
    }
}

fn quantity(amount: &Value, path: &FieldPath<'_>, e: &mut Errors) {
    let text = match amount {
        Value::String(text) => text.clone(),
        number => number.to_string(),
    };
    if !is_quantity(&text) {
        e.invalid(
            path,
            amount.clone(),
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        );
    } else if text.starts_with('-') {
        e.invalid(path, amount.clone(), "must be greater than or equal to 0");
    }
}

fn is_quantity(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let end = unsigned
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let exponent = |s: &str| {
        let digits = s.strip_prefix(['+', '-']).unwrap_or(s);
        !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
    };
    number.bytes().any(|b| b.is_ascii_digit())
        && number.matches('.').count() <= 1
        && match suffix {
            "" | "n" | "u" | "m" | "k" | "M" | "G" | "T" | "P" | "E" | "Ki" | "Mi" | "Gi" | "Ti" | "Pi"
            | "Ei" => true,
            other => other.strip_prefix(['e', 'E']).is_some_and(exponent),
        }
}

/// A number or a percentage (`25%`) of at least zero.
fn number_or_percent(value: &Value, path: &FieldPath<'_>, e: &mut Errors) {
    match value {
        Value::Number(n) if n.as_i64().is_some_and(|n| n < 0) => {
            e.invalid(path, value.clone(), "must be greater than or equal to 0");
        }
        Value::String(text) => {
            let percent = text.strip_suffix('%').filter(|d| !d.is_empty());
            if !percent.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_digit())) {
                e.invalid(
                    path,
                    text.as_str(),
                    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', \
                     regex used for validation is '[0-9]+%')",
                );
            }
        }
        _ => {}
    }
}

/// Labels, as keys and values.
fn labels(labels: Option<&Map<String, Value>>, path: &FieldPath<'_>, e: &mut Errors) {
    for (key, value) in labels.into_iter().flatten() {
        e.all(path, key, names::qualified_name(key));
        let value = value.as_str().unwrap_or_default();
        e.all(path, value, names::label_value(value));
    }
}

/// A label selector.
fn label_selector(selector: &Value, path: &FieldPath<'_>, e: &mut Errors) {
    labels(map(selector, "matchLabels"), &path.child("matchLabels"), e);
    let expressions = path.child("matchExpressions");
    for (index, requirement) in list(selector, "matchExpressions").iter().enumerate() {
        let at = expressions.index(index);
        let values = list(requirement, "values");
        match text(requirement, "operator") {
            "In" | "NotIn" if values.is_empty() => {
                e.required(
                    &at.child("values"),
                    "must be specified when `operator` is 'In' or 'NotIn'",
                );
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => e.push(FieldError::forbidden(
                &at.child("values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => e.invalid(&at.child("operator"), other, "not a valid selector operator"),
        }
        let key = text(requirement, "key");
        e.all(&at.child("key"), key, names::qualified_name(key));
    }
}

/// Whether labels satisfy a (valid) label selector.
fn selects(selector: &Value, labels: Option<&Map<String, Value>>) -> bool {
    let value = |key: &str| labels.and_then(|l| l.get(key)).and_then(Value::as_str);
    map(selector, "matchLabels")
        .into_iter()
        .flatten()
        .all(|(k, v)| value(k) == v.as_str())
        && list(selector, "matchExpressions").iter().all(|requirement| {
            let has = value(text(requirement, "key"));
            let listed = has.is_some_and(|has| list(requirement, "values").iter().any(|v| v == has));
            match text(requirement, "operator") {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => has.is_some(),
                _ => has.is_none(),
            }
        })
}

/// A field that keeps the value it was created with.
fn immutable(new: &Value, old: Option<&Value>, field: &[&str], e: &mut Errors) {
    let Some(old) = old else { return };
    let at = |object: &Value| {
        field
            .iter()
            .try_fold(object, |v, f| v.get(f))
            .cloned()
            .unwrap_or(Value::Null)
    };
    let (new, old) = (at(new), at(old));
    if new != old {
        e.invalid(&FieldPath::new(&field.join(".")), new, "field is immutable");
    }
}
