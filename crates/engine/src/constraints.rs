//! Constraints: what an environment demands of everything that is deployed to it, as CEL over `artifact`, `workload` and
//! `component`.
//!
//! A rule that cannot be evaluated refuses: an environment that guards itself with a mistake is not thereby open.

use choreo_api::{
    conditions::reasons,
    v1alpha1::{Component, Constraint, DeployableArtifactSpec, Environment, WorkloadTemplate},
};
use choreo_cel::{Bindings, Limits, Program, Variable};
use serde_json::{Value, json};

use crate::{binding::Binding, problem::Problem, world::World};

/// What a rule may refer to.
const VARIABLES: [&str; 3] = ["artifact", "workload", "component"];

/// What is wrong with an environment's rules themselves.
pub(crate) fn mistakes(constraints: &[Constraint]) -> Vec<Problem> {
    let wrong = |(i, constraint): (usize, &Constraint)| {
        let why = compiled(&constraint.rule).err()?;
        Some(Problem::error(
            reasons::INVALID,
            format!("spec.constraints[{i}].rule: {why}"),
        ))
    };
    constraints.iter().enumerate().filter_map(wrong).collect()
}

fn compiled(rule: &str) -> Result<std::sync::Arc<Program>, String> {
    let program = Program::compile(rule, &Limits::default()).map_err(|e| e.to_string())?;
    let variables = VARIABLES.map(|name| Variable {
        name,
        shape: None,
        optional: false,
    });
    let report = program.check(&variables).map_err(|e| e.to_string())?;
    match report.result {
        "" | "bool" => Ok(program),
        other => Err(format!("gives {other}, and must say true or false")),
    }
}

/// The rules of the environment that a binding breaks.
pub(crate) fn violations(
    world: &World,
    binding: &Binding,
    source: &DeployableArtifactSpec,
    workload: &WorkloadTemplate,
) -> Vec<Problem> {
    let Some(environment) = world.get::<Environment>(binding.namespace(), &binding.environment) else {
        return Vec::new();
    };
    if environment.spec.constraints.is_empty() {
        return Vec::new();
    }
    let component = world.get::<Component>(binding.namespace(), &binding.owner.component_name);
    let (artifact, workload, component) = (
        artifact_value(binding, source),
        json!(workload),
        component.map_or_else(|| json!({}), |c| component_value(c)),
    );
    let mut problems = Vec::new();
    for (i, constraint) in environment.spec.constraints.iter().enumerate() {
        let mut bindings = Bindings::new();
        bindings.bind("artifact", &artifact);
        bindings.bind("workload", &workload);
        bindings.bind("component", &component);
        let verdict = compiled(&constraint.rule).and_then(|program| {
            program
                .eval(&bindings, &Limits::default())
                .map_err(|e| e.to_string())
        });
        let why = match verdict {
            Ok(Value::Bool(true)) => continue,
            Ok(Value::Bool(false)) => String::new(),
            Ok(_) => "; the rule says neither true nor false".to_owned(),
            Err(error) => format!("; the rule cannot be evaluated: {error}"),
        };
        problems.push(Problem::error(
            reasons::CONSTRAINT_VIOLATED,
            format!(
                "Environment {:?} refuses {}: {} (spec.constraints[{i}].rule: {}{why})",
                binding.environment, binding.reference, constraint.message, constraint.rule
            ),
        ));
    }
    problems
}

/// The artifact as rules see it: its spec, and its name.
fn artifact_value(binding: &Binding, source: &DeployableArtifactSpec) -> Value {
    let mut value = json!(source);
    if let Some(object) = value.as_object_mut() {
        object.insert(
            "name".to_owned(),
            json!(binding.artifact.clone().unwrap_or_default()),
        );
    }
    value
}

/// The component as rules see it: its spec, its name and its labels.
fn component_value(component: &Component) -> Value {
    let mut value = json!(component.spec);
    if let Some(object) = value.as_object_mut() {
        object.insert("name".to_owned(), json!(component.metadata.name));
        object.insert(
            "labels".to_owned(),
            json!(component.metadata.labels.clone().unwrap_or_default()),
        );
    }
    value
}
