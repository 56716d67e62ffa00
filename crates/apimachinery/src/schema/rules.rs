//! Checks of CEL rules when a definition is written: they must compile, fit the schema, and not cost too much.

use choreo_cel::{Program, Shape, Variable, render_all};

use super::shape::Root;
use super::{Additional, ListType, Rule, Schema};
use crate::field::{FieldError, FieldPath, go_json};

/// What one rule may cost at worst, over all places in an object that it applies to.
const RULE_LIMIT: u64 = 10_000_000;

/// What all rules of a schema may cost at worst.
const SCHEMA_LIMIT: u64 = 100_000_000;

const REASONS: &[&str] = &[
    "FieldValueDuplicate",
    "FieldValueForbidden",
    "FieldValueInvalid",
    "FieldValueRequired",
];

/// Checks all rules of a schema that is structural.
pub(super) fn check(schema: &Schema, path: &FieldPath<'_>, errors: &mut Vec<FieldError>) {
    if !schema.facts().rules {
        return;
    }
    let mut checker = Checker {
        errors,
        total: 0,
        most: 0,
        most_at: String::new(),
    };
    checker.walk(schema, path, true, Some(1), None);
    let (total, most_at) = (checker.total, checker.most_at);
    if total > SCHEMA_LIMIT {
        let why = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
        errors.push(FieldError::forbidden(&FieldPath::new(&most_at), why));
        let name = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        errors.push(FieldError::forbidden(
            path,
            over_budget(name, total, SCHEMA_LIMIT),
        ));
    }
}

struct Checker<'e> {
    errors: &'e mut Vec<FieldError>,
    total: u64,
    most: u64,
    most_at: String,
}

fn over_budget(name: &str, cost: u64, limit: u64) -> String {
    #[allow(clippy::cast_precision_loss)] // a factor for a message
    let factor = cost as f64 / limit as f64;
    let factor = if factor > 100.0 {
        "more than 100x".to_owned()
    } else if factor < 1.5 {
        format!("{factor:.6}x")
    } else {
        format!("{factor:.1}x")
    };
    format!(
        "{name} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
}

impl Checker<'_> {
    /// `count` is how often a value of the schema can be in one object, `None` where nothing bounds it; `uncorrelated` the
    /// place above whose values cannot be told apart over an update.
    fn walk(
        &mut self,
        schema: &Schema,
        path: &FieldPath<'_>,
        is_root: bool,
        count: Option<u64>,
        uncorrelated: Option<&str>,
    ) {
        if !schema.facts().rules {
            return;
        }
        for (i, rule) in schema.cel.iter().enumerate() {
            self.rule(
                schema,
                rule,
                &path.child("x-kubernetes-validations").index(i),
                is_root,
                count,
                uncorrelated,
            );
        }
        let times = |bound: Option<u64>| Some(count?.saturating_mul(bound?));
        if let Some(items) = &schema.items {
            let here = path.to_string();
            let uncorrelated = match schema.list_type {
                Some(ListType::Map(_)) => uncorrelated,
                _ => uncorrelated.or(Some(&here)),
            };
            self.walk(
                items,
                &path.child("items"),
                false,
                times(schema.max_items),
                uncorrelated,
            );
        }
        if let Additional::Schema(values) = &schema.additional {
            let at = path.child("additionalProperties");
            self.walk(values, &at, false, times(schema.max_properties), uncorrelated);
        }
        for (name, property) in &schema.properties {
            self.walk(
                property,
                &path.child("properties").key(name),
                false,
                count,
                uncorrelated,
            );
        }
    }

    fn rule(
        &mut self,
        schema: &Schema,
        rule: &Rule,
        path: &FieldPath<'_>,
        is_root: bool,
        count: Option<u64>,
        uncorrelated: Option<&str>,
    ) {
        let before = self.errors.len();
        self.texts(schema, rule, path);
        if self.errors.len() > before {
            return;
        }
        let at = path.child("rule");
        let programs = rule.programs();
        let root = Root(schema);
        let shape: &dyn Shape = if is_root { &root } else { schema };
        let optional = rule.optional_old_self == Some(true);
        let variables = [
            Variable {
                name: "self",
                shape: Some(shape),
                optional: false,
            },
            Variable {
                name: "oldSelf",
                shape: Some(shape),
                optional,
            },
        ];
        let count = count.unwrap_or_else(|| schema.most_in_request());
        match programs
            .rule
            .as_ref()
            .map_err(|error| vec![error.clone()])
            .and_then(|p| p.check_all(&variables))
        {
            Err(errors) => {
                let why = format!("compilation failed: {}", render_all(&errors));
                self.errors
                    .push(FieldError::invalid_shown(&at, &shown(rule), &why));
                return;
            }
            Ok(report) if !matches!(report.result, "" | "bool") => {
                let why = "cel expression must evaluate to a bool";
                self.errors
                    .push(FieldError::invalid_shown(&at, &shown(rule), why));
            }
            Ok(report) => self.cost("estimated rule cost", report.cost.saturating_mul(count), &at),
        }
        let at = path.child("messageExpression");
        match programs.message.as_ref().map(|m| check_message(m, &variables)) {
            None => {}
            Some(Ok(cost)) => self.cost(
                "estimated messageExpression cost",
                cost.saturating_mul(count),
                &at,
            ),
            Some(Err(why)) => self
                .errors
                .push(FieldError::invalid_shown(&at, &shown(rule), &why)),
        }
        if programs.uses_old {
            if let Some(place) = uncorrelated {
                let why = format!(
                    "oldSelf cannot be used on the uncorrelatable portion of the schema within {place}"
                );
                self.errors
                    .push(FieldError::invalid(&path.child("rule"), rule.rule.as_str(), why));
            }
        } else if let Some(set) = rule.optional_old_self {
            let why = "may not be set if oldSelf is not used in rule";
            self.errors
                .push(FieldError::invalid(&path.child("optionalOldSelf"), set, why));
        }
    }

    fn cost(&mut self, name: &str, cost: u64, path: &FieldPath<'_>) {
        self.total = self.total.saturating_add(cost);
        if cost > self.most {
            self.most = cost;
            self.most_at = path.to_string();
        }
        if cost > RULE_LIMIT {
            self.errors
                .push(FieldError::forbidden(path, over_budget(name, cost, RULE_LIMIT)));
        }
    }

    fn texts(&mut self, schema: &Schema, rule: &Rule, path: &FieldPath<'_>) {
        let breaks = |s: &str| s.contains(['\n', '\r']);
        let message = rule.message.as_deref().map(str::trim);
        let at = path.child("message");
        if rule.rule.trim().is_empty() {
            self.errors
                .push(FieldError::required(&path.child("rule"), "rule is not specified"));
        } else if message == Some("") {
            self.errors.push(FieldError::invalid(
                &at,
                rule.message.clone(),
                "must be non-empty if specified",
            ));
        } else if message.is_some_and(breaks) {
            self.errors.push(FieldError::invalid(
                &at,
                rule.message.clone(),
                "must not contain line breaks",
            ));
        } else if message.is_none() && breaks(rule.rule.trim()) {
            let why = "message must be specified if rule contains line breaks";
            self.errors.push(FieldError::required(&at, why));
        }
        if rule
            .message_expression
            .as_deref()
            .is_some_and(|m| m.trim().is_empty())
        {
            let why = "messageExpression must be non-empty if specified";
            self.errors
                .push(FieldError::required(&path.child("messageExpression"), why));
        }
        if let Some(reason) = rule.reason.as_deref().filter(|r| !REASONS.contains(r)) {
            self.errors
                .push(FieldError::not_supported(&path.child("reason"), reason, REASONS));
        }
        if let Some(field_path) = rule.field_path.as_deref() {
            let why = if field_path.trim().is_empty() {
                "must be non-empty if specified"
            } else if breaks(field_path) {
                "must not contain line breaks"
            } else if schema.field_path(field_path, true).is_err() {
                "must be a valid path"
            } else {
                return;
            };
            self.errors
                .push(FieldError::invalid(&path.child("fieldPath"), field_path, why));
        }
    }
}

/// A rule as kube-apiserver shows it: all of its fields, by the names that they have in its source.
fn shown(rule: &Rule) -> String {
    #[derive(serde::Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Shown<'r> {
        rule: &'r str,
        message: &'r str,
        message_expression: &'r str,
        reason: Option<&'r str>,
        field_path: &'r str,
        optional_old_self: Option<bool>,
    }
    let shown = Shown {
        rule: &rule.rule,
        message: rule.message.as_deref().unwrap_or_default(),
        message_expression: rule.message_expression.as_deref().unwrap_or_default(),
        reason: rule.reason.as_deref(),
        field_path: rule.field_path.as_deref().unwrap_or_default(),
        optional_old_self: rule.optional_old_self,
    };
    go_json(&serde_json::to_string(&shown).unwrap_or_default())
}

fn check_message(
    program: &Result<std::sync::Arc<Program>, choreo_cel::CompileError>,
    variables: &[Variable<'_>],
) -> Result<u64, String> {
    let failed = |errors: &[choreo_cel::CompileError]| {
        format!("messageExpression compilation failed: {}", render_all(errors))
    };
    let report = program
        .as_ref()
        .map_err(|error| failed(std::slice::from_ref(error)))?
        .check_all(variables)
        .map_err(|errors| failed(&errors))?;
    if matches!(report.result, "" | "string") {
        Ok(report.cost)
    } else {
        Err("messageExpression must evaluate to a string".to_owned())
    }
}
