//! An endpoint: its addresses and how it fares.

use choreo_api::{
    conditions::{Condition, reasons, types},
    v1alpha1::{
        Endpoint, EndpointAddress, HealthStatus,
        common::{DEFAULT_TRACK, EndpointAddresses, ExposeLevel},
    },
};
use serde_json::json;

use super::status;
use crate::{
    binding::Binding,
    expose,
    plan::Plan,
    problem::{Problem, Problems},
    world::{ObjectRef, World},
};

pub(super) fn plan(world: &World, reference: &ObjectRef, endpoint: &Endpoint) -> Plan {
    let namespace = &reference.key.namespace;
    let spec = &endpoint.spec;
    let mut problems = Problems::new();
    let Some(component) = expose::component_of(endpoint) else {
        problems.invalid("spec.backendRef.componentRef: names no component");
        let status = super::summary(&endpoint.metadata, &problems, "");
        return Plan {
            status: Some(status),
            problems,
            ..Plan::default()
        };
    };
    let track = spec.track.as_deref().unwrap_or(DEFAULT_TRACK);
    let bindings: Vec<Binding> = Binding::of_component(world, namespace, component)
        .into_iter()
        .filter(|b| b.track == track && spec.environment.as_ref().is_none_or(|e| *e == b.environment))
        .collect();
    if bindings.is_empty() {
        problems.push(Problem::waiting(
            reasons::WAITING,
            format!("Component {component:?} is not deployed yet: its endpoints have addresses once it is"),
        ));
    }
    let wanted = spec.levels();
    let mut addresses = Vec::new();
    let mut waiting = Vec::new();
    for binding in &bindings {
        for of_endpoint in binding.addresses.iter().filter(|a| is_this(endpoint, a)) {
            addresses.extend(flatten(binding, of_endpoint).filter(|a| wanted.contains(&a.level)));
        }
        match binding.conditions.iter().find(|c| c.type_ == types::READY) {
            Some(c) if c.is_true() => {}
            Some(c) => waiting.push(format!("{}: {}", binding.environment, c.message)),
            None => waiting.push(format!(
                "{}: {} is being worked on",
                binding.environment, binding.reference
            )),
        }
    }
    let ready = problems.condition().unwrap_or_else(|| {
        if waiting.is_empty() {
            Condition::ready(
                addresses
                    .last()
                    .map(|a: &EndpointAddress| a.url.clone())
                    .unwrap_or_default(),
            )
        } else {
            Condition::not_ready(reasons::PROGRESSING, waiting.join("; "))
        }
    });
    let health = if ready.is_true() {
        HealthStatus::Healthy
    } else {
        HealthStatus::Progressing
    };
    let mut status = status(&endpoint.metadata, vec![ready]);
    if let Some(widest) = addresses.iter().max_by_key(|a| a.level) {
        status.fields.insert("address".to_owned(), json!(widest.url));
    }
    if !addresses.is_empty() {
        status.fields.insert("addresses".to_owned(), json!(addresses));
    }
    status.fields.insert("health".to_owned(), json!(health));
    Plan {
        status: Some(status),
        problems,
        ..Plan::default()
    }
}

fn is_this(endpoint: &Endpoint, addresses: &EndpointAddresses) -> bool {
    let spec = &endpoint.spec;
    if let Some(name) = expose::own_name(endpoint) {
        return addresses.name == name;
    }
    match (&spec.endpoint_name, spec.backend_ref.port()) {
        (Some(name), _) => addresses.name == *name,
        (None, Some(port)) => addresses.project.as_ref().is_some_and(|p| p.port == port),
        (None, None) => true,
    }
}

fn flatten<'a>(
    binding: &'a Binding,
    of: &'a EndpointAddresses,
) -> impl Iterator<Item = EndpointAddress> + 'a {
    let levels = [
        (ExposeLevel::Project, &of.project),
        (ExposeLevel::Organization, &of.organization),
        (ExposeLevel::Public, &of.public),
    ];
    levels.into_iter().filter_map(|(level, access)| {
        let access = access.as_ref()?;
        Some(EndpointAddress {
            environment: binding.environment.clone(),
            level,
            url: access.uri.clone().unwrap_or_default(),
            host: access.host.clone(),
            port: access.port,
            base_path: access.base_path.clone(),
        })
    })
}
