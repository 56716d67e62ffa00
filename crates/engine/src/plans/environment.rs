//! An environment: its data plane, and the hosts that lead to it.

use choreo_api::{
    conditions::reasons,
    names::{self, HostParts},
    v1alpha1::{DataPlane, Environment},
};
use serde_json::json;

use super::summary;
use crate::{
    constraints,
    plan::Plan,
    problem::{Problem, Problems},
    rules,
    world::{ObjectRef, World},
};

pub(super) fn plan(world: &World, reference: &ObjectRef, environment: &Environment) -> Plan {
    let namespace = &reference.key.namespace;
    let mut problems = Problems::new();
    let name = &environment.spec.data_plane_ref;
    let plane = world.get::<DataPlane>(namespace, name);
    if plane.is_none() {
        problems.push(Problem::waiting(
            reasons::DATA_PLANE_NOT_FOUND,
            format!("DataPlane {name:?} not found in namespace {namespace:?}: create it, or change spec.dataPlaneRef"),
        ));
    }
    let gateway = environment.spec.gateway.as_ref();
    let jwks = gateway
        .and_then(|g| g.security.as_ref())
        .and_then(|s| s.remote_jwks.as_ref());
    if gateway.is_some_and(|g| g.enable_jwt_auth) && jwks.is_none_or(|j| j.uri.is_empty()) {
        problems.invalid("spec.gateway.enableJWTAuth is set but spec.gateway.security.remoteJwks.uri is not: name the key set");
    }
    if let Some(taken) = rules::host_taken(world, environment) {
        problems.invalid(format!("spec.gateway.dnsPrefix: {taken}"));
    }
    problems.extend(constraints::mistakes(&environment.spec.constraints));
    let mut status = summary(
        &environment.metadata,
        &problems,
        format!("runs on DataPlane {name:?}"),
    );
    if let Some(gateways) = plane.and_then(|p| p.spec.gateway.as_ref()) {
        let prefix = gateway
            .and_then(|g| g.dns_prefix.as_deref())
            .filter(|p| !p.is_empty())
            .unwrap_or(&reference.key.name);
        let host = |virtual_host: &str| {
            names::api_host(HostParts {
                organization: namespace,
                environment: prefix,
                virtual_host,
                template: gateways.host_template.as_deref(),
            })
        };
        status.fields.insert(
            "publicHost".to_owned(),
            json!(host(&gateways.public_virtual_host)),
        );
        status.fields.insert(
            "organizationHost".to_owned(),
            json!(host(&gateways.organization_virtual_host)),
        );
    }
    Plan {
        status: Some(status),
        problems,
        ..Plan::default()
    }
}
