//! How requests are told apart, and how many of each are worked on.

use serde_json::{Value, json};

use super::{Errors, is_set, list, text};
use crate::{
    builtin::flow::{EXEMPT, levels, schemas},
    field::{FieldError, FieldPath},
    meta::names,
};

const SPEC: FieldPath<'static> = FieldPath::new("spec");

/// The verbs that rules may name.
const VERBS: [&str; 9] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "proxy",
    "update",
    "watch",
];

/// A flow is dealt its hand of queues from so many bits of a hash.
const HASH_BITS: f64 = 60.0;
const MAX_QUEUES: i64 = 10_000_000;

pub(super) fn schema(new: &Value, e: &mut Errors) {
    let name = new["metadata"]["name"].as_str().unwrap_or_default();
    let spec = &new["spec"];
    let at = SPEC.child("matchingPrecedence");
    let precedence = spec["matchingPrecedence"].as_i64().unwrap_or_default();
    if precedence <= 0 {
        e.invalid(&at, precedence, "must be a positive value");
    }
    if precedence > 10_000 {
        e.invalid(&at, precedence, "must not be greater than 10000");
    }
    if precedence == 1 && name != EXEMPT {
        e.invalid(
            &at,
            precedence,
            "only the schema named 'exempt' may have matchingPrecedence 1",
        );
    }
    if let Some(method) = spec.get("distinguisherMethod").filter(|m| m.is_object()) {
        let type_ = text(method, "type");
        if !["ByNamespace", "ByUser"].contains(&type_) {
            e.push(FieldError::not_supported(
                &SPEC.child("distinguisherMethod").child("type"),
                json!({"Type": type_}),
                &["ByNamespace", "ByUser"],
            ));
        }
    }
    let reference = SPEC.child("priorityLevelConfiguration");
    let at = reference.child("name");
    match text(&spec["priorityLevelConfiguration"], "name") {
        "" => e.required(&at, "must reference a priority level"),
        level => e.all(&at, level, names::dns1123_subdomain(level)),
    }
    let rules = SPEC.child("rules");
    for (index, rule) in list(spec, "rules").iter().enumerate() {
        policy_rule(rule, &rules.index(index), e);
    }
    if let Some(known) = schemas()
        .iter()
        .find(|known| known.mandatory && known.name == name)
        && known.spec != *spec
    {
        e.invalid(
            &SPEC,
            spec.clone(),
            &format!("spec of '{name}' must equal the fixed value"),
        );
    }
    conditions(new, e);
}

fn policy_rule(rule: &Value, path: &FieldPath<'_>, e: &mut Errors) {
    let subjects = path.child("subjects");
    if list(rule, "subjects").is_empty() {
        e.required(&subjects, "subjects must contain at least one value");
    }
    for (index, one) in list(rule, "subjects").iter().enumerate() {
        subject(one, &subjects.index(index), e);
    }
    let (resource, other) = (list(rule, "resourceRules"), list(rule, "nonResourceRules"));
    if resource.is_empty() && other.is_empty() {
        e.required(
            path,
            "at least one of resourceRules and nonResourceRules has to be non-empty",
        );
    }
    let at = path.child("resourceRules");
    for (index, rule) in resource.iter().enumerate() {
        resource_rule(rule, &at.index(index), e);
    }
    let at = path.child("nonResourceRules");
    for (index, rule) in other.iter().enumerate() {
        non_resource_rule(rule, &at.index(index), e);
    }
}

fn subject(subject: &Value, path: &FieldPath<'_>, e: &mut Errors) {
    let kinds = [
        ("ServiceAccount", "serviceAccount"),
        ("User", "user"),
        ("Group", "group"),
    ];
    let kind = text(subject, "kind");
    let Some((_, own)) = kinds.iter().find(|(name, _)| *name == kind) else {
        e.push(FieldError::not_supported(
            &path.child("kind"),
            kind,
            &["Group", "ServiceAccount", "User"],
        ));
        return;
    };
    let at = path.child(own);
    match subject.get(*own).filter(|who| who.is_object()) {
        None => e.required(&at, &format!("{own} is required when subject kind is '{kind}'")),
        Some(who) => {
            let name = text(who, "name");
            if name.is_empty() {
                e.required(&at.child("name"), "");
            }
            if *own == "serviceAccount" {
                if !matches!(name, "" | "*") {
                    e.all(&at.child("name"), name, names::dns1123_subdomain(name));
                }
                let namespace = text(who, "namespace");
                if namespace.is_empty() {
                    e.required(
                        &at.child("namespace"),
                        "must specify namespace for service account",
                    );
                } else {
                    e.all(&at.child("namespace"), namespace, names::dns1123_label(namespace));
                }
            }
        }
    }
    for (kind, other) in kinds {
        if other != *own && is_set(subject, other) {
            e.push(FieldError::forbidden(
                &path.child(other),
                format!("{other} is forbidden when subject kind is not '{kind}'"),
            ));
        }
    }
}

fn resource_rule(rule: &Value, path: &FieldPath<'_>, e: &mut Errors) {
    verbs(rule, path, e);
    for (field, what) in [("apiGroups", "api group"), ("resources", "resource")] {
        if list(rule, field).is_empty() {
            e.required(
                &path.child(field),
                &format!("resource rules must supply at least one {what}"),
            );
        } else {
            let _ = alone(rule, field, &format!("{what}s"), path, e);
        }
    }
    let namespaces = list(rule, "namespaces");
    let at = path.child("namespaces");
    if namespaces.is_empty() && rule["clusterScope"].as_bool() != Some(true) {
        e.required(
            &at,
            "resource rules that are not cluster scoped must supply at least one namespace",
        );
    } else if !alone(rule, "namespaces", "namespaces", path, e) {
        for (index, namespace) in namespaces.iter().enumerate() {
            let name = namespace.as_str().unwrap_or_default();
            for why in names::dns1123_label(name) {
                let why = format!("each member of this list must be '*' or a DNS-1123 label; {why}");
                e.invalid(&at.index(index), name, &why);
            }
        }
    }
}

fn non_resource_rule(rule: &Value, path: &FieldPath<'_>, e: &mut Errors) {
    verbs(rule, path, e);
    let at = path.child("nonResourceURLs");
    if list(rule, "nonResourceURLs").is_empty() {
        e.required(&at, "nonResourceURLs must contain at least one value");
    } else if !alone(rule, "nonResourceURLs", "non-resource URLs", path, e) {
        for (index, url) in list(rule, "nonResourceURLs").iter().enumerate() {
            let url = url.as_str().unwrap_or_default();
            if let Some(why) = wrong_url(url) {
                e.invalid(&at.index(index), url, why);
            }
        }
    }
}

fn wrong_url(url: &str) -> Option<&'static str> {
    let stars = url.matches('*').count();
    match url {
        "/" => None,
        "" => Some("must not be empty"),
        _ if !url.starts_with('/') => Some("must start with slash"),
        _ if url.contains(' ') => Some("must not contain white-space"),
        _ if url.contains("//") => Some("must not contain double slash"),
        _ if stars > 1 || (stars == 1 && !url.ends_with("/*")) => {
            Some("wildcard can only do suffix matching")
        }
        _ => None,
    }
}

fn verbs(rule: &Value, path: &FieldPath<'_>, e: &mut Errors) {
    let at = path.child("verbs");
    let given = list(rule, "verbs");
    if given.is_empty() {
        e.required(&at, "verbs must contain at least one value");
    } else if !alone(rule, "verbs", "verbs", path, e)
        && given
            .iter()
            .any(|verb| verb.as_str().is_none_or(|v| !VERBS.contains(&v)))
    {
        e.push(FieldError::not_supported(&at, rule["verbs"].clone(), &VERBS));
    }
}

/// A star means everything, so nothing may stand beside it. Tells whether there is one.
fn alone(rule: &Value, field: &str, what: &str, path: &FieldPath<'_>, e: &mut Errors) -> bool {
    let given = list(rule, field);
    let star = given.iter().any(|value| value == "*");
    if star && given.len() > 1 {
        e.invalid(
            &path.child(field),
            rule[field].clone(),
            &format!("if '*' is present, must not specify other {what}"),
        );
    }
    star
}

pub(super) fn level(new: &Value, e: &mut Errors) {
    let name = new["metadata"]["name"].as_str().unwrap_or_default();
    let spec = &new["spec"];
    let type_ = text(spec, "type");
    if (name == EXEMPT) != (type_ == "Exempt") {
        e.invalid(
            &SPEC.child("type"),
            type_,
            "must be 'Exempt' if and only if `name` is 'exempt'",
        );
    }
    let (exempt, limited) = (SPEC.child("exempt"), SPEC.child("limited"));
    match type_ {
        "Exempt" => {
            if is_set(spec, "limited") {
                e.push(FieldError::forbidden(
                    &limited,
                    "must be nil if the type is not Limited",
                ));
            }
            if is_set(spec, "exempt") {
                let shares = &spec["exempt"]["nominalConcurrencyShares"];
                negative(shares, &exempt.child("nominalConcurrencyShares"), NOT_NEGATIVE, e);
                percentage(
                    &spec["exempt"]["lendablePercent"],
                    &exempt.child("lendablePercent"),
                    e,
                );
            }
        }
        "Limited" => {
            if is_set(spec, "exempt") {
                e.push(FieldError::forbidden(
                    &exempt,
                    "must be nil if the type is Limited",
                ));
            }
            if is_set(spec, "limited") {
                limits(&spec["limited"], &limited, e);
            } else {
                e.required(&limited, "must not be empty when type is Limited");
            }
        }
        "" => e.required(&SPEC.child("type"), ""),
        other => e.push(FieldError::not_supported(
            &SPEC.child("type"),
            other,
            &["Exempt", "Limited"],
        )),
    }
    if let Some(known) = levels()
        .iter()
        .find(|known| known.mandatory && known.name == name)
    {
        let (mut fixed, mut except) = (known.spec.clone(), "");
        if name == EXEMPT {
            fixed["exempt"] = spec["exempt"].clone();
            except = " except the 'spec.exempt' field";
        }
        if fixed["exempt"].is_null()
            && let Some(fixed) = fixed.as_object_mut()
        {
            fixed.remove("exempt");
        }
        if fixed != *spec {
            let why = format!("spec of '{name}'{except} must equal the fixed value");
            e.invalid(&SPEC, spec.clone(), &why);
        }
    }
    conditions(new, e);
}

const NOT_NEGATIVE: &str = "must be a non-negative integer";

fn negative(number: &Value, path: &FieldPath<'_>, why: &str, e: &mut Errors) {
    if let Some(number) = number.as_i64()
        && number < 0
    {
        e.invalid(path, number, why);
    }
}

fn percentage(number: &Value, path: &FieldPath<'_>, e: &mut Errors) {
    if let Some(number) = number.as_i64()
        && !(0..=100).contains(&number)
    {
        e.invalid(path, number, "must be between 0 and 100, inclusive");
    }
}

fn limits(limited: &Value, path: &FieldPath<'_>, e: &mut Errors) {
    let shares = &limited["nominalConcurrencyShares"];
    negative(shares, &path.child("nominalConcurrencyShares"), NOT_NEGATIVE, e);
    let response = &limited["limitResponse"];
    let at = path.child("limitResponse");
    let queuing = at.child("queuing");
    match (text(response, "type"), is_set(response, "queuing")) {
        ("Reject", true) => e.push(FieldError::forbidden(
            &queuing,
            "must be nil if limited.limitResponse.type is not Limited",
        )),
        ("Reject", false) => {}
        ("Queue", false) => e.required(
            &queuing,
            "must not be empty if limited.limitResponse.type is Limited",
        ),
        ("Queue", true) => queues(&response["queuing"], &queuing, e),
        ("", _) => e.required(&at.child("type"), ""),
        (other, _) => e.push(FieldError::not_supported(
            &at.child("type"),
            other,
            &["Queue", "Reject"],
        )),
    }
    percentage(&limited["lendablePercent"], &path.child("lendablePercent"), e);
    negative(
        &limited["borrowingLimitPercent"],
        &path.child("borrowingLimitPercent"),
        "if specified, must be a non-negative integer",
        e,
    );
}

fn queues(queuing: &Value, path: &FieldPath<'_>, e: &mut Errors) {
    let number = |field: &str| queuing[field].as_i64().unwrap_or_default();
    let (queues, hand, length) = (number("queues"), number("handSize"), number("queueLengthLimit"));
    if length <= 0 {
        e.invalid(&path.child("queueLengthLimit"), length, "must be positive");
    }
    if queues <= 0 {
        e.invalid(&path.child("queues"), queues, "must be positive");
    } else if queues > MAX_QUEUES {
        let why = format!("must not be greater than {MAX_QUEUES}");
        e.invalid(&path.child("queues"), queues, &why);
    }
    let at = path.child("handSize");
    if hand <= 0 {
        e.invalid(&at, hand, "must be positive");
    } else if hand > queues {
        e.invalid(
            &at,
            hand,
            &format!("should not be greater than queues ({queues})"),
        );
    } else if entropy(queues, hand) > HASH_BITS {
        let why = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {HASH_BITS}"
        );
        e.invalid(&at, hand, &why);
    }
}

/// How many bits of a hash decide which hand of queues a flow is dealt; a little too many.
fn entropy(queues: i64, hand: i64) -> f64 {
    let number = |n: i64| f64::from(i32::try_from(n).unwrap_or(i32::MAX));
    (number(queues).log2() * number(hand)).ceil()
}

/// Each condition has a type, and no two the same.
fn conditions(new: &Value, e: &mut Errors) {
    let path = FieldPath::new("status");
    let path = path.child("conditions");
    let mut seen = Vec::new();
    for (index, condition) in list(&new["status"], "conditions").iter().enumerate() {
        let element = path.index(index);
        let at = element.child("type");
        let type_ = text(condition, "type");
        if seen.contains(&type_) {
            e.push(FieldError::duplicate(&at, type_));
        }
        seen.push(type_);
        if type_.is_empty() {
            e.required(&at, "");
        }
    }
}
