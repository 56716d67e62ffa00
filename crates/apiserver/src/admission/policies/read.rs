//! Reading policies and bindings.

use choreo_apimachinery::selector::LabelSelector;
use serde_json::Value;

use crate::admission::expressions::{Condition, Expression, compile, conditions};
use crate::admission::matching::Matcher;
use crate::verbs::text;

/// An expression with its text, which refusals quote.
#[derive(Clone, Debug)]
pub(super) struct Sourced {
    pub(super) source: String,
    pub(super) program: Expression,
}

impl Sourced {
    fn of(source: &str) -> Sourced {
        let source = source.trim();
        Sourced {
            program: compile(source),
            source: source.to_owned(),
        }
    }
}

/// A policy, of either kind.
#[derive(Debug)]
pub(super) struct Policy {
    pub(super) matcher: Matcher,
    pub(super) conditions: Vec<Condition>,
    pub(super) variables: Vec<(String, Sourced)>,
    /// What cannot be evaluated does not count.
    pub(super) ignores_failures: bool,
    /// API version and kind of the parameters.
    pub(super) param_kind: Option<(String, String)>,
    pub(super) validations: Vec<Validation>,
    /// Keys and values of annotations of audit events.
    pub(super) annotations: Vec<(String, Sourced)>,
    pub(super) mutations: Vec<Mutation>,
    /// Whether it is asked again when the object was changed behind it.
    pub(super) again: bool,
}

/// A rule.
#[derive(Debug)]
pub(super) struct Validation {
    pub(super) expression: Sourced,
    pub(super) message: String,
    pub(super) message_expression: Option<Sourced>,
    pub(super) reason: String,
}

/// A change.
#[derive(Debug)]
pub(super) enum Mutation {
    /// An object whose fields are laid over.
    Apply(Sourced),
    /// A JSON patch.
    Patch(Sourced),
}

/// A binding, of either kind.
#[derive(Debug)]
pub(super) struct Binding {
    pub(super) policy: String,
    pub(super) matcher: Option<Matcher>,
    pub(super) params: Option<ParamRef>,
    pub(super) deny: bool,
    pub(super) warn: bool,
    pub(super) audit: bool,
}

/// Which objects are parameters.
#[derive(Debug)]
pub(super) struct ParamRef {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) selector: Option<LabelSelector>,
    /// Whether it is fine that there is none.
    pub(super) allows_none: bool,
}

fn items<'v>(value: &'v Value, field: &str) -> impl Iterator<Item = &'v Value> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

pub(super) fn policy(_name: &str, object: &Value) -> Policy {
    let spec = &object["spec"];
    let param_kind = spec.get("paramKind").filter(|kind| kind.is_object());
    Policy {
        matcher: Matcher::read(&spec["matchConstraints"], "resourceRules"),
        conditions: conditions(spec),
        variables: items(spec, "variables")
            .map(|v| (text(v, "/name").to_owned(), Sourced::of(text(v, "/expression"))))
            .collect(),
        ignores_failures: text(spec, "/failurePolicy") == "Ignore",
        param_kind: param_kind.map(|kind| {
            (
                text(kind, "/apiVersion").to_owned(),
                text(kind, "/kind").to_owned(),
            )
        }),
        validations: items(spec, "validations").map(validation).collect(),
        annotations: items(spec, "auditAnnotations")
            .map(|a| {
                (
                    text(a, "/key").to_owned(),
                    Sourced::of(text(a, "/valueExpression")),
                )
            })
            .collect(),
        mutations: items(spec, "mutations").filter_map(mutation).collect(),
        again: text(spec, "/reinvocationPolicy") == "IfNeeded",
    }
}

fn validation(spec: &Value) -> Validation {
    let message = text(spec, "/messageExpression");
    Validation {
        expression: Sourced::of(text(spec, "/expression")),
        message: text(spec, "/message").trim().to_owned(),
        message_expression: (!message.is_empty()).then(|| Sourced::of(message)),
        reason: text(spec, "/reason").to_owned(),
    }
}

fn mutation(spec: &Value) -> Option<Mutation> {
    match text(spec, "/patchType") {
        "ApplyConfiguration" => Some(Mutation::Apply(Sourced::of(text(
            spec,
            "/applyConfiguration/expression",
        )))),
        "JSONPatch" => Some(Mutation::Patch(Sourced::of(text(spec, "/jsonPatch/expression")))),
        _ => None,
    }
}

pub(super) fn binding(_name: &str, object: &Value) -> Binding {
    let spec = &object["spec"];
    let does = |action: &str| items(spec, "validationActions").any(|a| a == action);
    let resources = spec.get("matchResources").filter(|r| r.is_object());
    let params = spec.get("paramRef").filter(|r| r.is_object());
    Binding {
        policy: text(spec, "/policyName").to_owned(),
        matcher: resources.map(|resources| Matcher::read(resources, "resourceRules")),
        params: params.map(|reference| ParamRef {
            name: text(reference, "/name").to_owned(),
            namespace: text(reference, "/namespace").to_owned(),
            selector: reference
                .get("selector")
                .filter(|s| !s.is_null())
                .and_then(|s| LabelSelector::from_object(Some(s)).ok()),
            allows_none: text(reference, "/parameterNotFoundAction") == "Allow",
        }),
        deny: does("Deny"),
        warn: does("Warn"),
        audit: does("Audit"),
    }
}
