//! Webhook configurations and admission policies. The order of the complaints is kube-apiserver's.

use std::collections::BTreeSet;

use choreo_cel::render_all;
use choreo_cel::shape::{Kind, Shape, is_identifier};
use serde_json::Value;

use super::{Errors, is_set, label_selector, list, text};
use crate::{
    builtin::expressions::Scope,
    field::{FieldError, FieldPath},
    meta::names,
};

const SPEC: FieldPath<'static> = FieldPath::new("spec");
const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const FAILURE_POLICIES: [&str; 2] = ["Fail", "Ignore"];

pub(super) fn webhooks(mutating: bool, new: &Value, e: &mut Errors) {
    let path = FieldPath::new("webhooks");
    let mut seen = BTreeSet::new();
    for (index, hook) in list(new, "webhooks").iter().enumerate() {
        let at = path.index(index);
        webhook(mutating, hook, &at, e);
        versions(hook, &at, e);
        let name = text(hook, "name");
        if !seen.insert(name) {
            e.push(FieldError::duplicate(&at.child("name"), name));
        }
    }
}

fn webhook(mutating: bool, hook: &Value, at: &FieldPath<'_>, e: &mut Errors) {
    let name = text(hook, "name");
    if name.split('.').count() < 3 || name.split('.').any(str::is_empty) {
        let why = "should be a domain with at least three segments separated by dots";
        e.invalid(&at.child("name"), name, why);
    } else {
        e.all(&at.child("name"), name, names::dns1123_subdomain(name));
    }
    for (index, rule) in list(hook, "rules").iter().enumerate() {
        rule_with_operations(rule, &at.child("rules").index(index), e);
    }
    e.one_of(hook, "failurePolicy", at, &FAILURE_POLICIES);
    e.one_of(hook, "matchPolicy", at, &["Equivalent", "Exact"]);
    match text(hook, "sideEffects") {
        "" => e.required(&at.child("sideEffects"), "must specify one of None, NoneOnDryRun"),
        _ => e.one_of(hook, "sideEffects", at, &["None", "NoneOnDryRun"]),
    }
    if let Some(seconds) = hook.get("timeoutSeconds").and_then(Value::as_i64)
        && !(1..=30).contains(&seconds)
    {
        let why = "the timeout value must be between 1 and 30 seconds";
        e.invalid(&at.child("timeoutSeconds"), seconds, why);
    }
    for field in ["namespaceSelector", "objectSelector"] {
        if is_set(hook, field) {
            label_selector(&hook[field], &at.child(field), e);
        }
    }
    client(&hook["clientConfig"], &at.child("clientConfig"), e);
    conditions(hook, at, false, e);
    if mutating {
        e.one_of(hook, "reinvocationPolicy", at, &["IfNeeded", "Never"]);
    }
}

fn versions(hook: &Value, at: &FieldPath<'_>, e: &mut Errors) {
    let given = list(hook, "admissionReviewVersions");
    let at = at.child("admissionReviewVersions");
    if given.is_empty() {
        e.required(&at, "must specify one of v1, v1beta1");
    } else if !given.iter().any(|v| matches!(v.as_str(), Some("v1" | "v1beta1"))) {
        e.invalid(&at, given.to_vec(), "must include at least one of v1, v1beta1");
    }
}

/// A list in which `*` stands for everything and then alone.
fn wildcard(rule: &Value, field: &str, what: &str, at: &FieldPath<'_>, e: &mut Errors) {
    let values = list(rule, field);
    let at = at.child(field);
    if values.is_empty() {
        e.required(&at, "");
    }
    if values.len() > 1 && values.iter().any(|v| v == "*") {
        let why = format!("if '*' is present, must not specify other {what}");
        e.invalid(&at, values.to_vec(), &why);
    }
}

fn rule_with_operations(rule: &Value, at: &FieldPath<'_>, e: &mut Errors) {
    wildcard(rule, "operations", "operations", at, e);
    for (index, operation) in list(rule, "operations").iter().enumerate() {
        let operation = operation.as_str().unwrap_or_default();
        if !OPERATIONS.contains(&operation) {
            let at = at.child("operations");
            e.push(FieldError::not_supported(
                &at.index(index),
                operation,
                &OPERATIONS,
            ));
        }
    }
    wildcard(rule, "apiGroups", "API groups", at, e);
    wildcard(rule, "apiVersions", "API versions", at, e);
    for (index, version) in list(rule, "apiVersions").iter().enumerate() {
        if version == "" {
            e.required(&at.child("apiVersions").index(index), "");
        }
    }
    resources(rule, at, e);
    e.one_of(rule, "scope", at, &["*", "Cluster", "Namespaced"]);
}

fn resources(rule: &Value, at: &FieldPath<'_>, e: &mut Errors) {
    let values = list(rule, "resources");
    let at = at.child("resources");
    if values.is_empty() {
        e.required(&at, "");
    }
    let has = |wanted: &str| values.iter().any(|v| v == wanted);
    let plain = values
        .iter()
        .filter(|v| !v.as_str().unwrap_or_default().contains('/'))
        .count();
    for (index, value) in values.iter().enumerate() {
        let value = value.as_str().unwrap_or_default();
        if value.is_empty() {
            e.required(&at.index(index), "");
        }
        if let Some((resource, sub)) = value.split_once('/')
            && value != "*/*"
        {
            if sub != "*" && has(&format!("{resource}/*")) {
                let why = format!("if '{resource}/*' is present, must not specify {value}");
                e.invalid(&at.index(index), value, &why);
            }
            if resource != "*" && has(&format!("*/{sub}")) {
                let why = format!("if '*/{sub}' is present, must not specify {value}");
                e.invalid(&at.index(index), value, &why);
            }
        }
    }
    if values.len() > 1 && has("*/*") {
        let why = "if '*/*' is present, must not specify other resources";
        e.invalid(&at, values.to_vec(), why);
    }
    if has("*") && plain > 1 {
        let why = "if '*' is present, must not specify other resources without subresources";
        e.invalid(&at, values.to_vec(), why);
    }
}

fn client(config: &Value, at: &FieldPath<'_>, e: &mut Errors) {
    match (is_set(config, "url"), is_set(config, "service")) {
        (true, true) | (false, false) => e.required(at, "exactly one of url or service is required"),
        (true, false) => url(text(config, "url"), &at.child("url"), e),
        (false, true) => service(&config["service"], &at.child("service"), e),
    }
}

fn url(url: &str, at: &FieldPath<'_>, e: &mut Errors) {
    const FORM: &str = "; desired format: https://host[/path]";
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    if scheme != "https" {
        let why = format!("'https' is the only allowed URL scheme{FORM}");
        e.invalid(at, scheme, &why);
    }
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.is_empty() {
        e.invalid(at, host, &format!("host must be specified{FORM}"));
    }
    if let Some((user, _)) = host.split_once('@') {
        let why = "user information is not permitted in the URL";
        e.invalid(at, user, why);
    }
    if let Some((_, fragment)) = rest.split_once('#') {
        e.invalid(at, fragment, "fragments are not permitted in the URL");
    }
    if let Some((_, query)) = rest.split('#').next().unwrap_or_default().split_once('?') {
        e.invalid(at, query, "query parameters are not permitted in the URL");
    }
}

fn service(service: &Value, at: &FieldPath<'_>, e: &mut Errors) {
    if text(service, "name").is_empty() {
        e.required(&at.child("name"), "service name is required");
    }
    if text(service, "namespace").is_empty() {
        e.required(&at.child("namespace"), "service namespace is required");
    }
    if let Some(port) = service.get("port").and_then(Value::as_i64)
        && !(1..=65_535).contains(&port)
    {
        let why = "port is not valid: must be between 1 and 65535, inclusive";
        e.invalid(&at.child("port"), port, why);
    }
    let path = text(service, "path");
    if path.is_empty() || path == "/" {
        return;
    }
    let at = at.child("path");
    if !path.starts_with('/') {
        e.invalid(&at, path, "must start with a '/'");
    }
    let steps = path.strip_prefix('/').unwrap_or(path);
    let steps = steps.strip_suffix('/').unwrap_or(steps);
    for (index, step) in steps.split('/').enumerate() {
        if step.is_empty() {
            e.invalid(&at, path, &format!("segment[{index}] may not be empty"));
        } else {
            for why in names::dns1123_subdomain(step) {
                e.invalid(&at, path, &format!("segment[{index}]: {why}"));
            }
        }
    }
}

/// The variables of a policy: those that it has computed so far are known by name.
#[derive(Default)]
struct Computed(BTreeSet<String>);

/// A value that nothing is known of.
struct Anything;

impl Shape for Anything {
    fn kind(&self) -> Kind {
        Kind::Dyn
    }
    fn field(&self, _: &str) -> Option<&dyn Shape> {
        None
    }
    fn element(&self) -> Option<&dyn Shape> {
        None
    }
}

impl Shape for Computed {
    fn kind(&self) -> Kind {
        Kind::Object
    }
    fn field(&self, name: &str) -> Option<&dyn Shape> {
        self.0.contains(name).then_some(&Anything as &dyn Shape)
    }
    fn element(&self) -> Option<&dyn Shape> {
        None
    }
}

/// What an expression gives: the type's name, empty where only an evaluation tells.
fn compile(source: &str, computed: Option<&Computed>, params: bool) -> Result<&'static str, String> {
    let scope = Scope {
        object: None,
        params: params.then_some(None),
        computed: computed.map(|computed| computed as &dyn Shape),
    };
    let typed = scope.check(source);
    typed
        .map(|typed| typed.result)
        .map_err(|errors| format!("compilation failed: {}", render_all(&errors)))
}

/// An expression that must be there and give one of some types.
struct Wanted<'w> {
    field: &'w str,
    types: &'w [&'w str],
    said: &'w str,
}

fn expression(
    object: &Value,
    wanted: &Wanted<'_>,
    at: &FieldPath<'_>,
    computed: Option<&Computed>,
    params: bool,
    e: &mut Errors,
) {
    let at = at.child(wanted.field);
    let source = text(object, wanted.field);
    let trimmed = source.trim();
    if trimmed.is_empty() {
        e.required(&at, &format!("{} is not specified", wanted.field));
        return;
    }
    match compile(trimmed, computed, params) {
        Err(why) => e.invalid(&at, source, &why),
        Ok(given) if given.is_empty() || wanted.types.is_empty() || wanted.types.contains(&given) => {}
        Ok(given) => e.invalid(
            &at,
            source,
            &format!("must evaluate to {} but got {given}", wanted.said),
        ),
    }
}

const BOOL: Wanted<'static> = Wanted {
    field: "expression",
    types: &["bool"],
    said: "bool",
};

fn conditions(object: &Value, at: &FieldPath<'_>, params: bool, e: &mut Errors) {
    let at = at.child("matchConditions");
    let all = list(object, "matchConditions");
    if all.len() > 64 {
        e.push(FieldError::too_many(&at, all.len() as u64, 64));
    }
    let mut seen = BTreeSet::new();
    for (index, condition) in all.iter().enumerate() {
        let at = at.index(index);
        expression(condition, &BOOL, &at, None, params, e);
        let name = text(condition, "name");
        if name.is_empty() {
            e.required(&at.child("name"), "");
        } else {
            e.all(&at.child("name"), name, names::qualified_name(name));
            if !seen.insert(name) {
                e.push(FieldError::duplicate(&at.child("name"), name));
            }
        }
    }
}

fn constraints(spec: &Value, field: &str, required: bool, at: &FieldPath<'_>, e: &mut Errors) {
    let at = at.child(field);
    let Some(resources) = spec.get(field).filter(|r| r.is_object()) else {
        if required {
            e.required(&at, "");
        }
        return;
    };
    e.one_of(resources, "matchPolicy", &at, &["Equivalent", "Exact"]);
    for field in ["namespaceSelector", "objectSelector"] {
        if is_set(resources, field) {
            label_selector(&resources[field], &at.child(field), e);
        }
    }
    for field in ["resourceRules", "excludeResourceRules"] {
        for (index, rule) in list(resources, field).iter().enumerate() {
            rule_with_operations(rule, &at.child(field).index(index), e);
        }
    }
    if required && list(resources, "resourceRules").is_empty() {
        e.required(&at.child("resourceRules"), "");
    }
}

fn param_kind(spec: &Value, at: &FieldPath<'_>, e: &mut Errors) -> bool {
    let at = at.child("paramKind");
    let Some(kind) = spec.get("paramKind").filter(|k| k.is_object()) else {
        return false;
    };
    let version = text(kind, "apiVersion");
    if version.is_empty() {
        e.required(&at.child("apiVersion"), "");
    } else if version.matches('/').count() > 1 {
        let why = format!("unexpected GroupVersion string: {version}");
        e.invalid(&at.child("apiVersion"), version, &why);
    }
    if text(kind, "kind").is_empty() {
        e.required(&at.child("kind"), "");
    }
    true
}

fn variables(spec: &Value, params: bool, e: &mut Errors) -> Computed {
    let at = SPEC.child("variables");
    let mut computed = Computed::default();
    for (index, variable) in list(spec, "variables").iter().enumerate() {
        let at = at.index(index);
        let name = text(variable, "name");
        if name.is_empty() {
            e.required(&at.child("name"), "name is not specified");
        } else if !is_identifier(name) {
            e.invalid(&at.child("name"), name, "must be a valid CEL identifier");
        }
        let any = Wanted {
            field: "expression",
            types: &[],
            said: "",
        };
        expression(variable, &any, &at, Some(&computed), params, e);
        computed.0.insert(name.to_owned());
    }
    computed
}

pub(super) fn validating_policy(new: &Value, e: &mut Errors) {
    let spec = &new["spec"];
    e.one_of(spec, "failurePolicy", &SPEC, &FAILURE_POLICIES);
    let params = param_kind(spec, &SPEC, e);
    constraints(spec, "matchConstraints", true, &SPEC, e);
    conditions(spec, &SPEC, params, e);
    let computed = variables(spec, params, e);
    let computed = Some(&computed);
    let (validations, annotations) = (list(spec, "validations"), list(spec, "auditAnnotations"));
    if validations.is_empty() && annotations.is_empty() {
        let why = "validations or auditAnnotations must contain at least one item";
        e.required(&SPEC.child("validations"), why);
        e.required(&SPEC.child("auditAnnotations"), why);
    }
    for (index, validation) in validations.iter().enumerate() {
        let path = SPEC.child("validations");
        let at = path.index(index);
        expression(validation, &BOOL, &at, computed, params, e);
        if !text(validation, "messageExpression").is_empty() {
            let message = Wanted {
                field: "messageExpression",
                types: &["string"],
                said: "string",
            };
            expression(validation, &message, &at, computed, params, e);
        }
        let message = text(validation, "message");
        let has_breaks = |text: &str| text.contains(['\n', '\r']);
        if is_set(validation, "message") && message.trim().is_empty() {
            e.invalid(&at.child("message"), message, "must be non-empty if specified");
        } else if has_breaks(message.trim()) {
            e.invalid(&at.child("message"), message, "must not contain line breaks");
        } else if message.is_empty() && has_breaks(text(validation, "expression").trim()) {
            let why = "message must be specified if expression contains line breaks";
            e.required(&at.child("message"), why);
        }
        let reasons = ["Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"];
        if let Some(reason) = validation.get("reason").and_then(Value::as_str)
            && !reasons.contains(&reason)
        {
            // The last one is taken, but not said.
            e.push(FieldError::not_supported(
                &at.child("reason"),
                reason,
                &reasons[..3],
            ));
        }
    }
    let policy = new
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or_default();
    for (index, annotation) in annotations.iter().enumerate() {
        let path = SPEC.child("auditAnnotations");
        let at = path.index(index);
        let key = format!("{policy}/{}", text(annotation, "key"));
        e.all(&at.child("key"), &key, names::qualified_name(&key));
        let value = Wanted {
            field: "valueExpression",
            types: &["string", "null_type"],
            said: "one of [string null_type]",
        };
        expression(annotation, &value, &at, computed, params, e);
    }
}

pub(super) fn mutating_policy(new: &Value, e: &mut Errors) {
    let spec = &new["spec"];
    e.one_of(spec, "failurePolicy", &SPEC, &FAILURE_POLICIES);
    let params = param_kind(spec, &SPEC, e);
    constraints(spec, "matchConstraints", true, &SPEC, e);
    let rules = list(&spec["matchConstraints"], "resourceRules");
    let operations = rules.iter().flat_map(|rule| list(rule, "operations"));
    for operation in operations.filter(|o| *o == "DELETE") {
        let path = SPEC.child("matchConstraints");
        let path = path.child("resourceRules");
        let valid = ["*", "CONNECT", "CREATE", "UPDATE"];
        e.push(FieldError::not_supported(
            &path.child("operations"),
            operation.clone(),
            &valid,
        ));
    }
    conditions(spec, &SPEC, params, e);
    let computed = variables(spec, params, e);
    let mutations = list(spec, "mutations");
    if mutations.is_empty() {
        let why = "mutations must contain at least one item";
        e.required(&SPEC.child("mutations"), why);
    }
    for (index, mutation) in mutations.iter().enumerate() {
        let path = SPEC.child("mutations");
        self::mutation(mutation, &path.index(index), &computed, params, e);
    }
    match text(spec, "reinvocationPolicy") {
        "" => e.required(&SPEC.child("reinvocationPolicy"), ""),
        _ => e.one_of(spec, "reinvocationPolicy", &SPEC, &["IfNeeded", "Never"]),
    }
}

fn mutation(mutation: &Value, at: &FieldPath<'_>, computed: &Computed, params: bool, e: &mut Errors) {
    let kinds = [
        ("ApplyConfiguration", "applyConfiguration", &["map"][..], "Object"),
        ("JSONPatch", "jsonPatch", &["list"][..], "list(JSONPatch)"),
    ];
    let kind = text(mutation, "patchType");
    if kind.is_empty() {
        e.required(&at.child("patchType"), "");
        return;
    }
    let Some((_, field, types, said)) = kinds.iter().find(|(name, ..)| *name == kind) else {
        e.push(FieldError::not_supported(
            &at.child("patchType"),
            kind,
            &kinds.map(|(name, ..)| name),
        ));
        return;
    };
    if is_set(mutation, field) {
        let wanted = Wanted {
            field: "expression",
            types,
            said,
        };
        expression(
            &mutation[field],
            &wanted,
            &at.child(field),
            Some(computed),
            params,
            e,
        );
    } else {
        let why = format!("must be specified when patchType is {kind}");
        e.required(&at.child(field), &why);
    }
    for (_, other, ..) in kinds {
        if other != *field && is_set(mutation, other) {
            let why = format!("must not be specified when patchType is {kind}");
            e.invalid(&at.child(other), format!("{{{other}}}"), &why);
        }
    }
}

pub(super) fn binding(validating: bool, new: &Value, e: &mut Errors) {
    let spec = &new["spec"];
    if text(spec, "policyName").is_empty() {
        e.required(&SPEC.child("policyName"), "");
    }
    if let Some(reference) = spec.get("paramRef").filter(|r| r.is_object()) {
        param_ref(reference, &SPEC.child("paramRef"), e);
    }
    constraints(spec, "matchResources", false, &SPEC, e);
    if !validating {
        return;
    }
    let at = SPEC.child("validationActions");
    let actions = list(spec, "validationActions");
    let valid = ["Audit", "Deny", "Warn"];
    if actions.is_empty() {
        e.required(&at, "at least one validation action is required");
    }
    let mut seen = BTreeSet::new();
    for (index, action) in actions.iter().enumerate() {
        let action = action.as_str().unwrap_or_default();
        if !valid.contains(&action) {
            e.push(FieldError::not_supported(&at.index(index), action, &valid));
        }
        if !seen.insert(action) {
            e.push(FieldError::duplicate(&at.index(index), action));
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        let why = "must not contain both Deny and Warn (repeating the same validation failure information in the API response \
                   and headers serves no purpose)";
        e.invalid(&at, actions.to_vec(), why);
    }
}

fn param_ref(reference: &Value, at: &FieldPath<'_>, e: &mut Errors) {
    match (!text(reference, "name").is_empty(), is_set(reference, "selector")) {
        (true, true) => {
            let why = "name and selector are mutually exclusive";
            e.push(FieldError::forbidden(&at.child("name"), why));
            e.push(FieldError::forbidden(&at.child("selector"), why));
        }
        (false, false) => e.required(at, "one of name or selector must be specified"),
        _ => {}
    }
    match text(reference, "parameterNotFoundAction") {
        "" => e.required(&at.child("parameterNotFoundAction"), ""),
        _ => e.one_of(reference, "parameterNotFoundAction", at, &["Deny", "Allow"]),
    }
}
