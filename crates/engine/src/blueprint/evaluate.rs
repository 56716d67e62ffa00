//! Evaluation: from templates and variables to objects, within bounds.

use choreo_api::{
    conditions::reasons,
    v1alpha1::{ParameterRule, ResourceTemplate},
};
use choreo_cel::{
    Bindings, EvalErrorKind, Program,
    typing::{Mistake, Type},
};
use serde_json::{Map, Value};

use super::{
    MAX_BYTES, MAX_COST, MAX_EXPRESSION_COST, MAX_ITEMS, MAX_OBJECTS,
    check::unwrapped,
    form, limits,
    text::{Part, Text},
    variables::Variables,
};
use crate::problem::{Problem, Problems};

/// What is left for the objects of one component or resource.
#[derive(Debug, Clone)]
pub struct Budget {
    cost: u64,
    objects: usize,
    bytes: usize,
}

impl Default for Budget {
    /// [`MAX_COST`], [`MAX_OBJECTS`] and [`MAX_BYTES`].
    fn default() -> Self {
        Self {
            cost: MAX_COST,
            objects: MAX_OBJECTS,
            bytes: MAX_BYTES,
        }
    }
}

/// An object that was made.
#[derive(Debug, Clone, PartialEq)]
pub struct Made {
    /// The id of its template; for an object of the platform, its kind in lower case.
    pub id: String,
    /// The object.
    pub object: Value,
    /// Whether the platform made it, and not a blueprint.
    pub platform: bool,
}

impl Made {
    /// Its kind.
    pub fn kind(&self) -> &str {
        self.object
            .get("kind")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// Its `apiVersion`.
    pub fn api_version(&self) -> &str {
        self.object
            .get("apiVersion")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.object
            .pointer("/metadata/name")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }
}

/// A failed evaluation, told with its field.
pub(super) fn failed(field: &str, what: impl std::fmt::Display) -> Problem {
    Problem::error(reasons::RENDER_FAILED, format!("{field}: {what}"))
}

/// Evaluates an expression.
///
/// # Errors
/// What is wrong, with the field.
pub(super) fn expression(
    field: &str,
    source: &str,
    variables: &Variables,
    budget: &mut Budget,
) -> Result<Value, Problem> {
    let program = Program::compile(source, &limits()).map_err(|e| failed(field, Mistake::of_compile(&e)))?;
    let mut bindings = Bindings::new();
    for name in program.variables() {
        if let Some(value) = variables.values.get(name) {
            match variables.scope.get(name) {
                Some(type_) => bindings.bind_shaped(name, value, type_),
                None => bindings.bind(name, value),
            };
        }
    }
    let allowed = budget.cost.min(MAX_EXPRESSION_COST);
    match program.eval_within(&bindings, allowed) {
        Ok(outcome) => {
            budget.cost = budget.cost.saturating_sub(outcome.cost);
            Ok(outcome.value)
        }
        Err((error, cost)) => {
            budget.cost = budget.cost.saturating_sub(cost);
            let message = match error.kind {
                EvalErrorKind::CostLimit => {
                    "it takes too long: the expressions of a blueprint have a limited cost".to_owned()
                }
                EvalErrorKind::NoSuchOverload => {
                    "a value has a type that a function or operator does not take".to_owned()
                }
                EvalErrorKind::Other => error.message,
            };
            Err(failed(field, Mistake::whole(source, message, None)))
        }
    }
}

/// Evaluates a condition.
///
/// # Errors
/// What is wrong, with the field.
pub(super) fn condition(
    field: &str,
    source: &str,
    variables: &Variables,
    budget: &mut Budget,
) -> Result<bool, Problem> {
    let source = unwrapped(source);
    match expression(field, source, variables, budget)? {
        Value::Bool(answer) => Ok(answer),
        other => {
            let message = format!("a bool is expected, this is {}", shown(&other));
            Err(failed(field, Mistake::whole(source, message, None)))
        }
    }
}

/// The items of a `forEach`, each as a set of variables; one without an item where there is none.
///
/// # Errors
/// What is wrong, with the field.
pub(super) fn items(
    field: &str,
    for_each: Option<&str>,
    var: Option<&str>,
    variables: &Variables,
    budget: &mut Budget,
) -> Result<Vec<Variables>, Problem> {
    let (Some(source), Some(var)) = (for_each, var) else {
        return Ok(vec![variables.clone()]);
    };
    let field = format!("{field}.forEach");
    let source = unwrapped(source);
    let list = match expression(&field, source, variables, budget)? {
        Value::Array(list) => list,
        other => {
            let message = format!("a list is expected, this is {}", shown(&other));
            return Err(failed(&field, Mistake::whole(source, message, None)));
        }
    };
    if list.len() > MAX_ITEMS {
        let message = format!("{} items are more than {MAX_ITEMS}", list.len());
        return Err(failed(&field, Mistake::whole(source, message, None)));
    }
    let type_ = match Program::compile(source, &limits()).map(|p| p.check_types(&variables.scope).type_) {
        Ok(Type::List(item)) => (*item).clone(),
        _ => Type::Dyn,
    };
    Ok(list
        .into_iter()
        .map(|item| variables.with(var, type_.clone(), item))
        .collect())
}

/// Checks the rules of a blueprint.
///
/// # Errors
/// The messages of all rules that do not hold.
pub fn validate(
    of: &str,
    rules: &[ParameterRule],
    variables: &Variables,
    budget: &mut Budget,
) -> Result<(), Problems> {
    let mut problems = Problems::new();
    for (i, rule) in rules.iter().enumerate() {
        let field = format!("{of} spec.validations[{i}].rule");
        match condition(&field, &rule.rule, variables, budget) {
            Ok(true) => {}
            Ok(false) => problems.invalid(format!("{} (says {of})", rule.message)),
            Err(problem) => problems.push(problem),
        }
    }
    problems.or_ok(())
}

/// Makes the objects of templates, which are found at `field`.
///
/// # Errors
/// Everything that is wrong.
pub fn made(
    field: &str,
    templates: &[ResourceTemplate],
    variables: &Variables,
    budget: &mut Budget,
) -> Result<Vec<Made>, Problems> {
    let mut problems = Problems::new();
    let mut all = Vec::new();
    for template in templates {
        let field = format!("{field}[{}]", template.id);
        match one(&field, template, variables, budget) {
            Ok(made) => all.extend(made),
            Err(more) => problems.extend(more),
        }
    }
    problems.or_ok(all)
}

fn one(
    field: &str,
    template: &ResourceTemplate,
    variables: &Variables,
    budget: &mut Budget,
) -> Result<Vec<Made>, Problems> {
    let ResourceTemplate {
        id,
        include_when,
        for_each,
        var,
        template,
    } = template;
    if let Some(source) = include_when
        && !condition(&format!("{field}.includeWhen"), source, variables, budget)?
    {
        return Ok(Vec::new());
    }
    let mut problems = Problems::new();
    let mut all = Vec::new();
    for variables in items(field, for_each.as_deref(), var.as_deref(), variables, budget)? {
        let Some(left) = budget.objects.checked_sub(1) else {
            problems.push(failed(field, format!("more than {MAX_OBJECTS} objects")));
            break;
        };
        budget.objects = left;
        let Some(object) = problems.take(value(&format!("{field}.template"), template, &variables, budget))
        else {
            // The same template fails for every item alike; once is enough.
            break;
        };
        let made = Made {
            id: id.clone(),
            object: object.unwrap_or_default(),
            platform: false,
        };
        if made.name().is_empty() {
            problems.push(failed(&format!("{field}.template.metadata.name"), "is empty"));
        } else if form::is_platform_kind(made.api_version(), made.kind()) {
            problems.push(failed(
                &format!("{field}.template.kind"),
                format!("{} is the platform's to make", made.kind()),
            ));
        }
        all.push(made);
    }
    problems.or_ok(all)
}

/// Evaluates everything in a template. `None` when it amounts to nothing: an optional that is empty.
///
/// # Errors
/// Everything that is wrong.
pub fn value(
    field: &str,
    template: &Value,
    variables: &Variables,
    budget: &mut Budget,
) -> Result<Option<Value>, Problems> {
    match template {
        Value::String(text) => Ok(string(field, text, variables, budget)?),
        Value::Array(list) => {
            let mut problems = Problems::new();
            let mut out = Vec::with_capacity(list.len());
            for (i, item) in list.iter().enumerate() {
                let item = value(&format!("{field}[{i}]"), item, variables, budget);
                out.extend(problems.take(item).flatten());
            }
            problems.or_ok(Some(Value::Array(out)))
        }
        Value::Object(map) => {
            let mut problems = Problems::new();
            let mut out = Map::new();
            for (key, item) in map {
                let below = format!("{field}.{key}");
                let key = match key.contains("${") {
                    false => Some(key.clone()),
                    true => problems
                        .take(string(&below, key, variables, budget).map_err(Problems::from))
                        .flatten()
                        .and_then(|key| scalar(&key)),
                };
                let item = problems.take(value(&below, item, variables, budget)).flatten();
                let (Some(key), Some(item)) = (key, item) else {
                    continue;
                };
                if out.insert(key.clone(), item).is_some() {
                    problems.push(failed(&below, format!("key {key:?} is there twice")));
                }
            }
            problems.or_ok(Some(Value::Object(out)))
        }
        // A literal null in a patch removes a field.
        other => Ok(Some(other.clone())),
    }
}

fn string(
    field: &str,
    text: &str,
    variables: &Variables,
    budget: &mut Budget,
) -> Result<Option<Value>, Problem> {
    let parsed = Text::parse(text).map_err(|e| failed(field, format!("{e}\n    {text}")))?;
    if let Some(plain) = parsed.plain() {
        return Ok(Some(Value::String(plain)));
    }
    let result = if let Some(source) = parsed.whole() {
        match expression(field, source, variables, budget)? {
            Value::Null => return Ok(None),
            value => value,
        }
    } else {
        let mut out = String::new();
        for part in &parsed.parts {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Expression(source) => {
                    let value = expression(field, source, variables, budget)?;
                    let Some(text) = scalar(&value) else {
                        let message = format!("{} cannot be written into a text", shown(&value));
                        return Err(failed(field, Mistake::whole(source, message, None)));
                    };
                    out.push_str(&text);
                }
            }
        }
        Value::String(out)
    };
    let size = size(&result);
    budget.bytes = budget.bytes.checked_sub(size).ok_or_else(|| {
        failed(
            field,
            format!("the objects take more than {MAX_BYTES} bytes in all"),
        )
    })?;
    Ok(Some(result))
}

/// About the number of bytes of a value as JSON.
fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::String(text) => text.len() + 2,
        Value::Array(list) => 2 + list.iter().map(|v| size(v) + 1).sum::<usize>(),
        Value::Object(map) => 2 + map.iter().map(|(k, v)| k.len() + 4 + size(v)).sum::<usize>(),
    }
}

/// A value as it is written into a text, if it can be.
pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn shown(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a bool",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}
