//! Routes: one per endpoint and level, with the policies that guard it.
//!
//! A route exists only together with everything that guards it. When one of its policies cannot be rendered, that is an
//! error of the whole release, and no route is opened.

use choreo_api::v1alpha1::{
    ApiPolicy,
    common::{EndpointType, ExposeLevel},
};
use serde_json::{Map, Value, json};

use super::{Input, guard, meta::Meta};
use crate::{
    expose::{Exposed, Exposure, Routing},
    problem::Problems,
};

const GATEWAY_API: &str = "gateway.networking.k8s.io/v1";

/// The name of a route, and of the policies that are attached to it.
pub(super) fn route_name(meta: &Meta, exposure: &Exposure, level: ExposeLevel) -> String {
    meta.derived(&[&exposure.name, level_name(level)])
}

/// A level in a name.
pub(super) fn level_name(level: ExposeLevel) -> &'static str {
    match level {
        ExposeLevel::Project => "project",
        ExposeLevel::Organization => "organization",
        ExposeLevel::Public => "public",
    }
}

pub(super) fn render(input: &Input<'_>, meta: &Meta) -> Result<Vec<Value>, Problems> {
    let mut problems = Problems::new();
    let mut objects = Vec::new();
    let exposed = Exposed {
        place: input.place,
        component: input.component,
        track: input.track,
        source: input.source,
        workload: input.workload,
    };
    for exposure in input.exposures {
        for (level, declared_by) in &exposure.levels {
            let name = route_name(meta, exposure, *level);
            let mut policy = exposure.policies.get(level).cloned().unwrap_or_default();
            let is_api = exposure.routing == Routing::Path || exposure.type_ == EndpointType::GRPC;
            let jwks = input.place.jwt.as_ref().filter(|_| is_api);
            problems.take(guard::environment_jwt(
                &mut policy,
                jwks,
                input.place,
                declared_by,
            ));
            let by = match &exposure.class {
                Some(class) => format!("APIClass {class:?}"),
                None => declared_by.clone(),
            };
            let guards = problems.take(guard::render(meta, &name, exposure, &policy, &by));
            let route = problems.take(route(
                &exposed,
                meta,
                &name,
                exposure,
                *level,
                declared_by,
                &policy,
            ));
            if let (Some(guards), Some(route)) = (guards, route) {
                objects.extend(guards);
                objects.extend(route);
            }
        }
    }
    problems.or_ok(objects)
}

fn route(
    exposed: &Exposed<'_>,
    meta: &Meta,
    name: &str,
    exposure: &Exposure,
    level: ExposeLevel,
    declared_by: &str,
    policy: &ApiPolicy,
) -> Result<Option<Value>, Problems> {
    let gateway = exposed.place.plane.gateways.as_ref().and_then(|g| g.of(level));
    // Without a gateway there is no host either; `Exposed::exposures` has said so.
    let (Some(gateway), Some((host, path))) = (gateway, exposed.host_and_path(exposure, level)) else {
        return Ok(None);
    };
    let kind = if exposure.type_ == EndpointType::GRPC {
        "GRPCRoute"
    } else {
        "HTTPRoute"
    };
    let mut rule = Map::new();
    if kind == "HTTPRoute" {
        rule.insert(
            "matches".to_owned(),
            json!([{"path": {"type": "PathPrefix", "value": path}}]),
        );
    }
    let mut filters = Vec::new();
    if path != exposure.base_path && exposure.routing == Routing::Path {
        filters.push(json!({
            "type": "URLRewrite",
            "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": exposure.base_path}},
        }));
    }
    filters.extend(guard::filters(policy, declared_by)?);
    if !filters.is_empty() {
        rule.insert("filters".to_owned(), Value::Array(filters));
    }
    rule.insert(
        "backendRefs".to_owned(),
        json!([{"name": meta.name, "port": exposure.port}]),
    );
    let mut object = meta.declared(GATEWAY_API, kind, name, declared_by);
    object.insert(
        "spec".to_owned(),
        json!({
            "parentRefs": [{"name": gateway.name, "namespace": gateway.namespace}],
            "hostnames": [host],
            "rules": [rule],
        }),
    );
    Ok(Some(Value::Object(object)))
}
