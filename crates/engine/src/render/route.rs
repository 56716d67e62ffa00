//! Routes: one per endpoint and level, with the policies that guard it.
//!
//! A route exists only together with everything that guards it. When one of its policies cannot be rendered, that is an
//! error of the whole release, and no route is opened.

use choreo_api::v1alpha1::{
    ApiCircuitBreaker, ApiPolicy, ConnectionPolicy, Retry,
    common::{EndpointType, ExposeLevel},
};
use serde_json::{Map, Value, json};

use super::{Input, guard, meta::Meta};
use crate::{
    address::{self, External},
    expose::{Door, Exposed, Exposure, Guard, Routing, Upstream},
    operations,
    problem::Problems,
};

const GATEWAY_API: &str = "gateway.networking.k8s.io/v1";
const ENVOY_GATEWAY: &str = "gateway.envoyproxy.io";

/// The kinds of route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RouteKind {
    Http,
    Grpc,
    Tls,
    Tcp,
    Udp,
}

impl RouteKind {
    /// The kind for a protocol.
    pub(super) fn of(type_: EndpointType) -> Self {
        match type_ {
            EndpointType::HTTP | EndpointType::REST | EndpointType::GraphQL | EndpointType::Websocket => {
                Self::Http
            }
            EndpointType::GRPC => Self::Grpc,
            EndpointType::TLS => Self::Tls,
            EndpointType::TCP => Self::Tcp,
            EndpointType::UDP => Self::Udp,
        }
    }

    /// As in the field `kind`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "HTTPRoute",
            Self::Grpc => "GRPCRoute",
            Self::Tls => "TLSRoute",
            Self::Tcp => "TCPRoute",
            Self::Udp => "UDPRoute",
        }
    }

    /// Whether the gateway sees requests, and not just connections.
    pub(super) fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Grpc)
    }
}

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
        if !exposure.levels.is_empty()
            && let Upstream::External(target) = &exposure.upstream
        {
            objects.push(backend(meta, exposure, target));
        }
        for (level, declared_by) in &exposure.levels {
            // Without a place at the gateway there is no route; `Exposed::exposures` has said why.
            let Ok(door) = exposed.door(exposure, *level) else {
                continue;
            };
            let mut guard = exposure.guards.get(level).cloned().unwrap_or_default();
            // A web application is a page that people open: it has no token before it is loaded.
            let is_page =
                exposure.routing == Routing::Host && RouteKind::of(exposure.type_) == RouteKind::Http;
            let jwks = input.place.jwt.as_ref().filter(|_| !is_page);
            problems.take(guard::environment_jwt(
                &mut guard.policy,
                jwks,
                input.place,
                declared_by,
            ));
            let by = match &exposure.class {
                Some(class) => format!("APIClass {class:?}"),
                None => declared_by.clone(),
            };
            let way = Way {
                exposure,
                door: &door,
                name: route_name(meta, exposure, *level),
                path: door.path.clone(),
                declared_by: declared_by.clone(),
                guarded_by: by,
            };
            objects.extend(problems.take(way.render(meta, &guard)).unwrap_or_default());
            if *level != ExposeLevel::Organization {
                continue;
            }
            for lane in &exposure.lanes {
                let mut guard = guard.clone();
                over(&mut guard.policy, &lane.policy);
                let way = Way {
                    name: meta.derived(&[
                        &exposure.name,
                        "from",
                        &lane.project,
                        &lane.component,
                        &lane.connection,
                    ]),
                    path: lane.path(&door),
                    declared_by: lane.declared_by(),
                    guarded_by: lane.declared_by(),
                    ..way.clone()
                };
                objects.extend(problems.take(way.render(meta, &guard)).unwrap_or_default());
            }
        }
    }
    problems.or_ok(objects)
}

/// What a connection demands, in the place of what the endpoint's class says of the same.
fn over(policy: &mut ApiPolicy, demanded: &ConnectionPolicy) {
    let ConnectionPolicy {
        timeout,
        retries,
        circuit_breaker,
    } = demanded;
    if timeout.is_some() {
        policy.timeout.clone_from(timeout);
    }
    if let Some(retries) = retries {
        policy.retry = Some(Retry {
            attempts: retries.attempts,
            per_try_timeout: retries.per_try_timeout.clone(),
            ..Retry::default()
        });
    }
    if let Some(limits) = circuit_breaker {
        policy.circuit_breaker = Some(ApiCircuitBreaker {
            enabled: true,
            max_connections: limits.max_connections,
            max_pending_requests: limits.max_pending_requests,
            max_parallel_requests: limits.max_parallel_requests,
            max_parallel_retries: limits.max_parallel_retries,
        });
    }
}

/// One way from a gateway to an endpoint.
#[derive(Clone)]
struct Way<'a> {
    exposure: &'a Exposure,
    door: &'a Door,
    name: String,
    path: String,
    declared_by: String,
    guarded_by: String,
}

impl Way<'_> {
    /// The route with its policies, or neither.
    fn render(&self, meta: &Meta, guard: &Guard) -> Result<Vec<Value>, Problems> {
        let mut problems = Problems::new();
        let kind = RouteKind::of(self.exposure.type_);
        let guarded = guard::Guarded {
            kind,
            name: &self.name,
            endpoint: &self.exposure.name,
            path: &self.path,
            by: &self.guarded_by,
        };
        let guards = problems.take(guard::render(meta, &guarded, guard));
        let filters = problems.take(if kind.is_http() {
            guard::filters(&guard.policy, &self.guarded_by)
        } else {
            Ok(Vec::new())
        });
        let mut objects = guards.unwrap_or_default();
        objects.push(self.route(meta, kind, filters.unwrap_or_default()));
        problems.or_ok(objects)
    }

    fn route(&self, meta: &Meta, kind: RouteKind, changes: Vec<Value>) -> Value {
        let mut rule = Map::new();
        let mut filters = Vec::new();
        match kind {
            RouteKind::Http => {
                rule.insert(
                    "matches".to_owned(),
                    json!([{"path": {"type": "PathPrefix", "value": self.path}}]),
                );
                filters.extend(self.rewrite());
            }
            RouteKind::Grpc => {
                // Endpoints of one host are told apart by their services, where the schema says them.
                let services = operations::services(&self.exposure.described.operations);
                if !services.is_empty() {
                    let matches: Vec<Value> = services
                        .iter()
                        .map(|s| json!({"method": {"service": s}}))
                        .collect();
                    rule.insert("matches".to_owned(), json!(matches));
                }
            }
            RouteKind::Tls | RouteKind::Tcp | RouteKind::Udp => {}
        }
        filters.extend(changes);
        if !filters.is_empty() {
            rule.insert("filters".to_owned(), Value::Array(filters));
        }
        rule.insert("backendRefs".to_owned(), json!([self.backend_ref(meta)]));
        let gateway = &self.door.gateway;
        let mut parent = json!({"name": gateway.name, "namespace": gateway.namespace});
        if let (Some(section), Some(parent)) = (&self.door.section, parent.as_object_mut()) {
            parent.insert("sectionName".to_owned(), json!(section));
        }
        let mut spec = Map::new();
        spec.insert("parentRefs".to_owned(), json!([parent]));
        // What carries no host name cannot be found by one.
        if !matches!(kind, RouteKind::Tcp | RouteKind::Udp) {
            spec.insert("hostnames".to_owned(), json!([self.door.host]));
        }
        spec.insert("rules".to_owned(), json!([rule]));
        let mut object = meta.declared(GATEWAY_API, kind.as_str(), &self.name, &self.declared_by);
        object.insert("spec".to_owned(), Value::Object(spec));
        Value::Object(object)
    }

    fn backend_ref(&self, meta: &Meta) -> Value {
        match &self.exposure.upstream {
            Upstream::Own => json!({"name": meta.name, "port": self.exposure.port}),
            Upstream::Sibling { component, track } => {
                let name = choreo_api::names::workload(component, track);
                json!({"name": name, "port": self.exposure.port})
            }
            Upstream::External(_) => {
                json!({"group": ENVOY_GATEWAY, "kind": "Backend", "name": backend_name(meta, self.exposure)})
            }
        }
    }

    /// The path as the backend knows it, and for a server outside its own name.
    fn rewrite(&self) -> Option<Value> {
        let outside = match &self.exposure.upstream {
            Upstream::External(target) => Some(target),
            _ => None,
        };
        let wanted = match outside {
            Some(target) => address::join_path([target.path.as_str(), self.exposure.base_path.as_str()]),
            None => self.exposure.base_path.clone(),
        };
        let mut rewrite = Map::new();
        // A host of the component's own leads to it as it is: its paths are the component's.
        if self.path != wanted && (self.exposure.routing == Routing::Path || outside.is_some()) {
            rewrite.insert(
                "path".to_owned(),
                json!({"type": "ReplacePrefixMatch", "replacePrefixMatch": wanted}),
            );
        }
        if let Some(target) = outside
            && target.host.parse::<std::net::IpAddr>().is_err()
        {
            rewrite.insert("hostname".to_owned(), json!(target.host));
        }
        (!rewrite.is_empty()).then(|| json!({"type": "URLRewrite", "urlRewrite": rewrite}))
    }
}

fn backend_name(meta: &Meta, exposure: &Exposure) -> String {
    meta.derived(&[&exposure.name, "backend"])
}

/// A server outside, as the gateway knows it. Its certificate is checked against the authorities that everybody trusts.
fn backend(meta: &Meta, exposure: &Exposure, target: &External) -> Value {
    let endpoint = match target.host.parse::<std::net::IpAddr>() {
        Ok(address) => json!({"ip": {"address": address.to_string(), "port": target.port}}),
        Err(_) => json!({"fqdn": {"hostname": target.host, "port": target.port}}),
    };
    let secure = target.scheme.as_deref() == Some("https");
    let mut spec = Map::new();
    spec.insert("endpoints".to_owned(), json!([endpoint]));
    let protocol = match exposure.type_ {
        EndpointType::GRPC => Some("gateway.envoyproxy.io/h2c").filter(|_| !secure),
        EndpointType::Websocket if secure => Some("gateway.envoyproxy.io/wss"),
        EndpointType::Websocket => Some("gateway.envoyproxy.io/ws"),
        _ => None,
    };
    if let Some(protocol) = protocol {
        spec.insert("appProtocols".to_owned(), json!([protocol]));
    }
    if secure {
        spec.insert(
            "tls".to_owned(),
            json!({"wellKnownCACertificates": "System", "sni": target.host}),
        );
    }
    let by = exposure
        .levels
        .values()
        .next()
        .map(String::as_str)
        .unwrap_or_default();
    let mut object = meta.declared(
        &format!("{ENVOY_GATEWAY}/v1alpha1"),
        "Backend",
        &backend_name(meta, exposure),
        by,
    );
    object.insert("spec".to_owned(), Value::Object(spec));
    Value::Object(object)
}
