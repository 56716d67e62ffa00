//! CEL rules of schemas (`x-kubernetes-validations`).

use std::sync::{Arc, OnceLock};

use choreo_cel::{Bindings, CompileError, EvalErrorKind, Limits, Program, Shape};
use serde_json::Value;

use super::correlate::OldItems;
use super::shape::Root;
use super::{Additional, Rule, Schema, Type};
use crate::field::{FieldError, FieldPath};

/// What all rules over one object may cost together.
const OBJECT_BUDGET: u64 = 10_000_000;

/// What one rule may cost.
const RULE_BUDGET: u64 = 1_000_000;

/// How long a message that a rule works out may be.
const MESSAGE_LIMIT: usize = 5 << 10;

/// The limits of rules.
pub(crate) fn limits() -> Limits {
    Limits {
        cost: RULE_BUDGET,
        ..Limits::default()
    }
}

/// A rule's programs, compiled when first needed. Leave it to its default.
#[derive(Clone, Debug, Default)]
pub struct CompiledRule(OnceLock<Arc<Compiled>>);

impl PartialEq for CompiledRule {
    /// Rules are equal when their texts are.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for CompiledRule {}

#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) rule: Result<Arc<Program>, CompileError>,
    pub(crate) message: Option<Result<Arc<Program>, CompileError>>,
    pub(crate) uses_old: bool,
}

impl Rule {
    pub(crate) fn programs(&self) -> &Compiled {
        self.compiled.0.get_or_init(|| {
            let rule = Program::compile(self.rule.trim(), &limits());
            let message = self
                .message_expression
                .as_ref()
                .map(|m| Program::compile(m.trim(), &limits()));
            let uses_old = rule.as_ref().is_ok_and(|p| p.uses("oldSelf"));
            Arc::new(Compiled {
                rule,
                message,
                uses_old,
            })
        })
    }

    /// What the rule is called where it fails and has no message.
    fn title(&self) -> &str {
        self.message.as_deref().unwrap_or(&self.rule).trim()
    }
}

/// The old value that belongs to a new one, for letting pass what has not changed.
#[derive(Clone, Copy, Default)]
struct Correlation<'v> {
    /// The pair of this value; absent when the new value belongs to no old one.
    current: Option<(&'v Value, &'v Value)>,
    /// The nearest pair above.
    parent: Option<(&'v Value, &'v Value)>,
}

impl<'v> Correlation<'v> {
    fn unchanged(&self) -> bool {
        self.current.or(self.parent).is_some_and(|(new, old)| new == old)
    }

    fn step(self, new: &'v Value, old: Option<&'v Value>) -> Self {
        if self.current.is_none() {
            return self;
        }
        Self {
            current: old.map(|old| (new, old)),
            parent: self.current,
        }
    }
}

struct Run {
    budget: u64,
    errors: Vec<FieldError>,
}

/// Nothing more is to be run: the budget is spent.
struct Spent;

impl Schema {
    /// Runs the CEL rules over a value, and returns what they find.
    ///
    /// Rules over `oldSelf` run where an old value belongs to the new one: fields of the same name, items of list-maps with
    /// the same keys. Failures of other rules are let pass where the value has not changed.
    #[must_use]
    pub fn validate_cel(&self, new: &Value, old: Option<&Value>, path: &FieldPath<'_>) -> Vec<FieldError> {
        let mut run = Run {
            budget: OBJECT_BUDGET,
            errors: Vec::new(),
        };
        let correlation = Correlation {
            current: old.map(|old| (new, old)),
            parent: None,
        };
        // Once the budget is spent, the errors say so.
        let _: Result<(), Spent> = self.run_rules(new, old, path, correlation, path.is_root(), &mut run);
        run.errors
    }

    fn run_rules<'v>(
        &'v self,
        new: &'v Value,
        old: Option<&'v Value>,
        path: &FieldPath<'_>,
        correlation: Correlation<'v>,
        is_root: bool,
        run: &mut Run,
    ) -> Result<(), Spent> {
        if new.is_null() || !self.facts().rules {
            return Ok(());
        }
        if !self.cel.is_empty() {
            self.run_own_rules(new, old.filter(|o| !o.is_null()), path, correlation, is_root, run)?;
        }
        match new {
            Value::Array(items) => {
                let Some(schema) = self.items.as_deref().filter(|s| s.facts().rules) else {
                    return Ok(());
                };
                let old_items = old.and_then(|old| OldItems::new(self, old));
                for (i, item) in items.iter().enumerate() {
                    let old = old_items.as_ref().and_then(|o| o.get(item));
                    schema.run_rules(item, old, &path.index(i), correlation.step(item, old), false, run)?;
                }
            }
            Value::Object(object) => {
                for (name, value) in object {
                    let old = old.and_then(|o| o.get(name));
                    if let Some(schema) = self.properties.get(name) {
                        let is_type = is_root && matches!(name.as_str(), "apiVersion" | "kind");
                        let correlation = if is_type {
                            Correlation::default()
                        } else {
                            correlation.step(value, old)
                        };
                        schema.run_rules(value, old, &path.child(name), correlation, false, run)?;
                    } else if let Additional::Schema(schema) = &self.additional {
                        schema.run_rules(
                            value,
                            old,
                            &path.key(name),
                            correlation.step(value, old),
                            false,
                            run,
                        )?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn run_own_rules<'v>(
        &'v self,
        new: &'v Value,
        old: Option<&'v Value>,
        path: &FieldPath<'_>,
        correlation: Correlation<'v>,
        is_root: bool,
        run: &mut Run,
    ) -> Result<(), Spent> {
        let type_ = self.type_.map_or("", Type::as_str);
        let root = Root(self);
        let shape: &dyn Shape = if is_root { &root } else { self };
        for rule in &self.cel {
            let programs = rule.programs();
            let program = match &programs.rule {
                Ok(program) => program,
                Err(error) => {
                    run.errors.push(FieldError::invalid(
                        path,
                        type_,
                        format!("rule compile error: {error}"),
                    ));
                    continue;
                }
            };
            let optional_old = rule.optional_old_self == Some(true);
            if programs.uses_old && old.is_none() && !optional_old {
                continue;
            }
            let mut bindings = Bindings::new();
            bindings.bind_shaped("self", new, shape);
            if optional_old {
                bindings.bind_optional("oldSelf", old, Some(shape));
            } else if let Some(old) = old {
                bindings.bind_shaped("oldSelf", old, shape);
            }
            let (result, cost) = match program.eval_within(&bindings, RULE_BUDGET.min(run.budget)) {
                Ok(outcome) => (Ok(outcome.value), outcome.cost),
                Err((error, cost)) => (Err(error), cost),
            };
            run.budget -= cost;
            let problem = match result {
                Ok(Value::Bool(true)) => continue,
                Ok(_) => None,
                Err(error) if error.kind == EvalErrorKind::CostLimit => {
                    let why = if run.budget == 0 {
                        "validation failed due to running out of cost budget, no further validation rules will be run".to_owned()
                    } else {
                        format!(
                            "'{error}': no further validation rules will be run due to call cost exceeds limit for rule: {}",
                            rule.title()
                        )
                    };
                    run.errors.push(FieldError::invalid(path, type_, why));
                    return Err(Spent);
                }
                Err(error) if error.kind == EvalErrorKind::NoSuchOverload => Some(format!(
                    "'{error}': call arguments did not match a supported operator, function or macro signature for rule: {}",
                    rule.title()
                )),
                Err(error) => Some(format!("{error} evaluating rule: {}", rule.title())),
            };
            if let Some(problem) = problem {
                run.errors.push(FieldError::invalid(path, type_, problem));
                continue;
            }
            if !programs.uses_old && correlation.unchanged() {
                continue;
            }
            let message = match &programs.message {
                Some(Ok(program)) => worked_out(program, &bindings, run),
                _ => None,
            };
            run.errors.push(self.failure(rule, new, message, path));
        }
        Ok(())
    }

    fn failure(
        &self,
        rule: &Rule,
        value: &Value,
        message: Option<String>,
        path: &FieldPath<'_>,
    ) -> FieldError {
        let detail = message.unwrap_or_else(|| match &rule.message {
            Some(message) => message.trim().to_owned(),
            None => format!("failed rule: {}", rule.rule.trim()),
        });
        let sub_path = rule
            .field_path
            .as_deref()
            .and_then(|p| self.field_path(p, true).ok())
            .map(|(path, _)| path);
        let below;
        let path = match &sub_path {
            Some(sub_path) => {
                below = path.child(sub_path);
                &below
            }
            None => path,
        };
        let mut error = match rule.reason.as_deref() {
            Some("FieldValueForbidden") => return FieldError::forbidden(path, detail),
            Some("FieldValueRequired") => return FieldError::required(path, detail),
            Some("FieldValueDuplicate") => FieldError::duplicate(path, value.clone()),
            _ => FieldError::invalid(path, Value::Null, detail),
        };
        // The value of an object or list would drown the message.
        error.bad_value = match self.type_ {
            Some(Type::Object | Type::Array) => None,
            _ => Some(value.clone()),
        };
        error
    }

    /// Follows a path such as `.spec.name` or `.labels['a.b']` through the schema.
    ///
    /// # Errors
    /// What is wrong with the path, or that the schema has no such field.
    pub(crate) fn field_path(&self, path: &str, brackets: bool) -> Result<(String, &Self), String> {
        let no_field = || "does not refer to a valid field".to_owned();
        let mut schema = self;
        let mut out = String::new();
        let mut rest = path;
        while !rest.is_empty() {
            let name: String;
            if let Some(after) = rest.strip_prefix('.') {
                let end = after.find(['.', '[', ']']).unwrap_or(after.len());
                if end == 0 {
                    return Err("unexpected end of JSON path".to_owned());
                }
                name = after[..end].to_owned();
                rest = &after[end..];
            } else if let Some(after) = rest.strip_prefix("['") {
                if !brackets {
                    return Err("array notation is not allowed".to_owned());
                }
                let Some(end) = after.find("']") else {
                    return Err("unexpected end of JSON path".to_owned());
                };
                name = after[..end].replace("\\'", "'").replace("\\\\", "\\");
                rest = &after[end + 2..];
            } else if rest.starts_with('[') && !brackets {
                return Err("array notation is not allowed".to_owned());
            } else {
                let token = rest
                    .split(['.', '[', ']'])
                    .find(|t| !t.is_empty())
                    .unwrap_or(rest);
                return Err(format!("expected [ or . but got: {token}"));
            }
            if schema.properties.is_empty() {
                schema = schema.additional.schema().ok_or_else(no_field)?;
                out.push_str(&format!("[{name}]"));
            } else {
                schema = schema.properties.get(&name).ok_or_else(no_field)?;
                if !out.is_empty() {
                    out.push('.');
                }
                out.push_str(&name);
            }
        }
        Ok((out, schema))
    }
}

/// The message that a `messageExpression` gives, if it gives a usable one.
fn worked_out(program: &Program, bindings: &Bindings<'_>, run: &mut Run) -> Option<String> {
    match program.eval_within(bindings, RULE_BUDGET.min(run.budget)) {
        Ok(outcome) => {
            run.budget -= outcome.cost;
            let text = outcome.value.as_str()?.trim();
            (!text.is_empty() && text.len() <= MESSAGE_LIMIT && !text.contains('\n')).then(|| text.to_owned())
        }
        Err((_, cost)) => {
            run.budget -= cost;
            None
        }
    }
}
