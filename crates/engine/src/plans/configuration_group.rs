//! A configuration group: what is wrong with it in any environment, whether or not somebody uses it.

use std::collections::BTreeSet;

use choreo_api::{
    conditions::reasons,
    v1alpha1::{ConfigurationGroup, Environment},
};
use kube::ResourceExt as _;

use super::summary;
use crate::{
    plan::Plan,
    problem::{Problem, Problems},
    resolve::configuration::{LookupError, lookup, selector},
    world::{ObjectRef, World},
};

pub(super) fn plan(world: &World, reference: &ObjectRef, group: &ConfigurationGroup) -> Plan {
    let namespace = &reference.key.namespace;
    let mut problems = Problems::new();
    let spec = &group.spec;
    let of_groups = spec.environment_groups.iter().flat_map(|g| &g.environments);
    let of_values = spec
        .configurations
        .iter()
        .flat_map(|c| &c.values)
        .filter_map(|v| v.environment.as_ref());
    let named: BTreeSet<&String> = of_groups.chain(of_values).collect();
    for name in named {
        if world.get::<Environment>(namespace, name).is_none() {
            problems.push(Problem::waiting(
                reasons::ENVIRONMENT_NOT_FOUND,
                format!("Environment {name:?} not found in namespace {namespace:?}: create it, or remove its values"),
            ));
        }
    }
    let environments: Vec<String> = world
        .in_namespace::<Environment>(namespace)
        .map(|e| e.name_any())
        .collect();
    for configuration in &spec.configurations {
        for value in &configuration.values {
            if value.value.is_some() == value.vault_key.is_some() {
                problems.invalid(format!(
                    "spec.configurations[{}], value for {}: give exactly one of value and vaultKey",
                    configuration.key,
                    selector(value)
                ));
            }
        }
        for environment in &environments {
            match lookup(group, &configuration.key, environment) {
                // A key need not have a value everywhere.
                Ok(_) | Err(LookupError::NoValue { .. } | LookupError::NotOneKind { .. }) => {}
                Err(error @ LookupError::Ambiguous { .. }) => {
                    problems.push(Problem::error(reasons::AMBIGUOUS, error.to_string()))
                }
                Err(error) => problems.invalid(error.to_string()),
            }
        }
    }
    let message = format!("{} keys", spec.configurations.len());
    let status = summary(&group.metadata, &problems, message);
    Plan {
        status: Some(status),
        problems,
        ..Plan::default()
    }
}
