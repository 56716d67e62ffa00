//! Guards: an API class's policies as policies of the gateway (Envoy Gateway), attached to one route.
//!
//! Each is rendered exactly as asked for or refused. A limit of 10 requests in 30 seconds is not 20 in a minute, and an
//! API whose callers should be authenticated is not opened to everybody because the way of authentication is unknown.

use choreo_api::{
    conditions::reasons,
    v1alpha1::{APIClassSpec, ApiPolicy, Authentication, AuthenticationType, JwtAuthentication, PolicySet},
};
use serde_json::{Map, Value, json};

use super::{meta::Meta, route::RouteKind};
use crate::{
    expose::Guard,
    place::Place,
    problem::{Problem, Problems},
};

mod access;
mod duration;
mod headers;
mod traffic;

pub(super) use headers::filters;

const ENVOY_GATEWAY: &str = "gateway.envoyproxy.io/v1alpha1";

/// A part of a policy: the field of the gateway's policy that it becomes, if any, or why it cannot.
type Part = Result<Option<(&'static str, Value)>, String>;

/// The route that policies are attached to.
pub(super) struct Guarded<'a> {
    /// Its kind.
    pub(super) kind: RouteKind,
    /// Its name, which is also that of its policies.
    pub(super) name: &'a str,
    /// The endpoint that it leads to.
    pub(super) endpoint: &'a str,
    /// The path prefix under which its requests arrive, for what holds for single operations.
    pub(super) path: &'a str,
    /// Who asks for the policies.
    pub(super) by: &'a str,
}

/// The environment may demand tokens of all callers of APIs; a class's own authentication stands instead of it.
pub(super) fn environment_jwt(
    policy: &mut ApiPolicy,
    jwks: Option<&Option<String>>,
    place: &Place,
    declared_by: &str,
) -> Result<(), Problems> {
    let Some(jwks) = jwks.filter(|_| policy.authentication.is_none()) else {
        return Ok(());
    };
    let Some(uri) = jwks else {
        return Err(Problem::error(
            reasons::RENDER_FAILED,
            format!(
                "{declared_by}: Environment {:?} spec.gateway.enableJWTAuth is set but security.remoteJwks.uri is not: name the key set",
                place.environment
            ),
        )
        .into());
    };
    policy.authentication = Some(Authentication {
        type_: AuthenticationType::Jwt,
        jwt: Some(JwtAuthentication {
            jwks: uri.clone(),
            ..JwtAuthentication::default()
        }),
        ..Authentication::default()
    });
    Ok(())
}

/// The policies that are attached to a route.
pub(super) fn render(meta: &Meta, route: &Guarded<'_>, guard: &Guard) -> Result<Vec<Value>, Problems> {
    let mut problems = Problems::new();
    let (secure, traffic) = parts(guard, route.kind, route.path);
    let mut spec = |parts: Vec<(&str, Part)>| {
        let mut spec = Map::new();
        for (field, part) in parts {
            match part {
                Ok(found) => spec.extend(found.map(|(key, value)| (key.to_owned(), value))),
                Err(why) => problems.push(Problem::error(
                    reasons::RENDER_FAILED,
                    format!(
                        "{} {field}: {why}; endpoint {:?} is not exposed without it",
                        route.by, route.endpoint
                    ),
                )),
            }
        }
        spec
    };
    let (secure, traffic) = (spec(secure), spec(traffic));
    let target =
        json!([{"group": "gateway.networking.k8s.io", "kind": route.kind.as_str(), "name": route.name}]);
    let object = |kind: &str, mut spec: Map<String, Value>| {
        (!spec.is_empty()).then(|| {
            spec.insert("targetRefs".to_owned(), target.clone());
            let mut object = meta.declared(ENVOY_GATEWAY, kind, route.name, route.by);
            object.insert("spec".to_owned(), Value::Object(spec));
            Value::Object(object)
        })
    };
    let objects = [
        object("SecurityPolicy", secure),
        object("BackendTrafficPolicy", traffic),
    ];
    problems.or_ok(objects.into_iter().flatten().collect())
}

type Parts = Vec<(&'static str, Part)>;

/// The parts of a `SecurityPolicy` and those of a `BackendTrafficPolicy`.
fn parts(guard: &Guard, kind: RouteKind, path: &str) -> (Parts, Parts) {
    // Exhaustive on purpose: a policy that is not rendered must not pass unseen.
    let ApiPolicy {
        rate_limit,
        authentication,
        cors,
        security,
        mediation,
        circuit_breaker,
        retry,
        timeout,
    } = &guard.policy;
    let (mut secure, mut traffic): (Parts, Parts) = (Vec::new(), Vec::new());
    if kind.is_http() {
        let authentication = authentication.as_ref();
        secure.push((
            "authentication",
            authentication.map_or(Ok(None), |a| access::authenticate(a, &guard.more_keys)),
        ));
        secure.push(("cors", cors.as_ref().map_or(Ok(None), access::cors)));
        secure.push((
            "security",
            access::authorize(authentication, security.as_ref(), &guard.operations, path),
        ));
        traffic.push((
            "rateLimit",
            traffic::rate_limit(rate_limit.as_ref(), &guard.limits, path),
        ));
        traffic.push(("retry", retry.as_ref().map_or(Ok(None), traffic::retry)));
        traffic.push(("timeout", timeout.as_deref().map_or(Ok(None), traffic::timeout)));
    } else {
        let refused = [
            ("authentication", authentication.is_some()),
            ("cors", cors.is_some()),
            ("mediation", mediation.as_ref().is_some_and(|m| !m.is_empty())),
            ("rateLimit", rate_limit.is_some() || !guard.limits.is_empty()),
            ("retry", retry.is_some()),
            ("timeout", timeout.is_some()),
        ];
        for (field, _) in refused.into_iter().filter(|(_, asked)| *asked) {
            secure.push((
                field,
                Err(format!(
                    "a {} carries connections and not requests, so the gateway cannot do this",
                    kind.as_str()
                )),
            ));
        }
        let by_address = match (kind, security) {
            (_, None) => Ok(None),
            (RouteKind::Tcp, security) => access::authorize(None, security.as_ref(), &[], path),
            (_, Some(s)) if !s.allowed_ips.is_empty() || !s.blocked_ips.is_empty() => Err(format!(
                "the gateway cannot tell callers of a {} apart by address",
                kind.as_str()
            )),
            _ => Ok(None),
        };
        secure.push(("security", by_address));
    }
    traffic.push((
        "circuitBreaker",
        circuit_breaker
            .as_ref()
            .map_or(Ok(None), |c| traffic::breaker(c, kind)),
    ));
    (secure, traffic)
}

/// What in an API class can never be rendered.
pub fn api_class_problems(class: &APIClassSpec) -> Vec<Problem> {
    let mut all = Vec::new();
    for (set, name, kind) in [
        (&class.rest_policy, "restPolicy", RouteKind::Http),
        (&class.grpc_policy, "grpcPolicy", RouteKind::Grpc),
    ] {
        let Some(PolicySet {
            defaults,
            public,
            organization,
        }) = set
        else {
            continue;
        };
        for (policy, level) in [
            (defaults, "defaults"),
            (public, "public"),
            (organization, "organization"),
        ] {
            let Some(policy) = policy else { continue };
            let guard = Guard::of(policy.clone());
            let (secure, traffic) = parts(&guard, kind, "/");
            let wrong = secure.into_iter().chain(traffic);
            all.extend(wrong.filter_map(|(part, result)| {
                let why = result.err()?;
                Some(Problem::error(
                    reasons::INVALID,
                    format!("spec.{name}.{level}.{part}: {why}"),
                ))
            }));
            if let Err(problems) = filters(policy, &format!("spec.{name}.{level}")) {
                all.extend(
                    problems
                        .into_iter()
                        .map(|p| Problem::error(reasons::INVALID, p.message)),
                );
            }
        }
    }
    all
}
