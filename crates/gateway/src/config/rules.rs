//! The rules of a route with their backends and policies.

use std::sync::Arc;
use std::time::Duration;

use super::build::{Memory, Policies};
use super::filters::Filters;
use super::object::{Kind, Name};
use super::policies::{Security, TrafficSpec};
use super::policy_index::RuleOf;
use super::route::{self, Route};
use super::table::{Action, Cluster, Mirror, RawRoute, Rule, WeightedBackend};
use super::world::World;
use crate::api::gateway::BackendRef;
use crate::api::{ENVOY_GATEWAY, GATEWAY_API};
use crate::policy::rate_limit::Limiter;
use crate::upstream::limits::Limits;
use crate::upstream::{Endpoints, Protocol};

/// Envoy's limit for a request and its answer, where nobody says another one.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// Envoy Gateway's limit for opening a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why references are not resolved: the first reason, as the condition `ResolvedRefs` has it.
pub(crate) type Unresolved = Option<(&'static str, String)>;

fn backend(
    world: &World,
    route: &Route,
    reference: &BackendRef,
    at: &str,
) -> Result<(Arc<Endpoints>, Protocol), (&'static str, String)> {
    let own = &route.meta.name.namespace;
    let name = Name::new(reference.namespace.as_deref().unwrap_or(own), &reference.name);
    let group = reference.group.as_deref().unwrap_or_default();
    let kind = reference.kind.as_deref().unwrap_or("Service");
    if !matches!((group, kind), ("", "Service") | (ENVOY_GATEWAY, "Backend")) {
        return Err((
            "InvalidKind",
            format!("{at}: the gateway does not know backends of kind {kind} in group {group:?}"),
        ));
    }
    if !world.permits((GATEWAY_API, route.kind.as_str(), own), (group, kind, &name)) {
        return Err((
            "RefNotPermitted",
            format!(
                "{at}: no ReferenceGrant in {} lets a {} of {own} use {kind} {name}",
                name.namespace,
                route.kind.as_str()
            ),
        ));
    }
    if kind == "Backend" {
        let found = world
            .backends
            .get(&name)
            .ok_or_else(|| ("BackendNotFound", format!("{kind} {name} not found")))?;
        let (endpoints, protocol) = found
            .spec
            .as_ref()
            .map_err(|why| ("UnsupportedValue", format!("{kind} {name}: {why}")))?;
        return Ok((Arc::clone(endpoints), *protocol));
    }
    let service = world
        .services
        .get(&name)
        .ok_or_else(|| ("BackendNotFound", format!("{kind} {name} not found")))?;
    if let Some(why) = service.problem {
        return Err(("UnsupportedValue", format!("{kind} {name}: {why}")));
    }
    let wanted = reference.port.ok_or_else(|| {
        (
            "UnsupportedValue",
            format!("{at}.port: not given, and {kind} {name} may have several"),
        )
    })?;
    let port = service.ports.iter().find(|port| port.number == wanted);
    let port = port.ok_or_else(|| ("BackendNotFound", format!("{kind} {name} has no port {wanted}")))?;
    Ok((Arc::clone(&port.endpoints), port.protocol))
}

/// Backends with their limits. What cannot be resolved keeps its share of requests, and fails them.
pub(crate) fn cluster(
    world: &World,
    memory: &mut Memory,
    route: &Route,
    // The rule, and which of its mirrors, from 1 on; 0 is where answers come from.
    (index, mirror): (usize, usize),
    backends: &[(BackendRef, Filters)],
    traffic: Option<&TrafficSpec>,
    unresolved: &mut Unresolved,
) -> Cluster {
    let mut resolved = Vec::new();
    let mut total = 0u32;
    for (i, (reference, filters)) in backends.iter().enumerate() {
        let found = backend(
            world,
            route,
            reference,
            &format!("spec.rules[{index}].backendRefs[{i}]"),
        );
        let target = match found {
            Ok((endpoints, protocol)) => {
                // gRPC is HTTP/2, whatever the Service says.
                let protocol = if route.kind == Kind::GrpcRoute {
                    Protocol::Http2
                } else {
                    protocol
                };
                Some((endpoints, protocol))
            }
            Err(why) => {
                unresolved.get_or_insert(why);
                None
            }
        };
        let weight = reference.weight.unwrap_or(1).min(1_000_000);
        total = total.saturating_add(weight);
        resolved.push(WeightedBackend {
            weight,
            target,
            filters: filters.clone(),
        });
    }
    let settings = traffic
        .and_then(|traffic| traffic.breaker.clone())
        .unwrap_or_default();
    let key = (route.kind, route.meta.name.clone(), index, mirror);
    let limits = memory.limits.take(
        key,
        |known: &Arc<Limits>| known.settings == settings,
        || Arc::new(Limits::new(settings.clone())),
    );
    Cluster {
        backends: resolved,
        total,
        limits,
        balance: traffic.and_then(|traffic| traffic.balance).unwrap_or_default(),
        connect_timeout: traffic
            .and_then(|traffic| traffic.connect_timeout)
            .unwrap_or(CONNECT_TIMEOUT),
    }
}

/// The rule of an HTTPRoute or GRPCRoute.
#[allow(clippy::too_many_arguments, reason = "one place that all of it meets in")]
pub(crate) fn http(
    world: &World,
    memory: &mut Memory,
    policies: &mut Policies<'_>,
    route: &Route,
    label: &Arc<str>,
    index: usize,
    spec: &route::Rule,
    at: &RuleOf<'_>,
    unresolved: &mut Unresolved,
) -> Rule {
    let security = policies.security.effective(at);
    let traffic = policies.traffic.effective(at);
    let mut closed = route.problem.is_some();
    let security = match security.map(|i| policies.security.at(i)) {
        None => None,
        Some(found) => match found.verdict() {
            Ok(_) => policies.resolved.get(&found.policy.meta.name).cloned(),
            Err(_) => {
                closed = true;
                None
            }
        },
    };
    let (traffic, traffic_name) = match traffic.map(|i| policies.traffic.at(i)) {
        None => (None, None),
        Some(found) => match found.verdict() {
            Ok(spec) => (Some(spec), Some(found.policy.meta.name.clone())),
            Err(_) => {
                closed = true;
                (None, None)
            }
        },
    };
    let mut filters = spec.filters.clone();
    for name in &spec.filters.extensions {
        let name = Name::new(&route.meta.name.namespace, name);
        match world.filters.get(&name) {
            Some(Ok(extension)) => filters.extend(extension),
            Some(Err(why)) => {
                closed = true;
                unresolved.get_or_insert(("InvalidFilter", format!("HTTPRouteFilter {name}: {why}")));
            }
            None => {
                closed = true;
                unresolved.get_or_insert(("FilterNotFound", format!("HTTPRouteFilter {name} not found")));
            }
        }
    }
    let mirrors = std::mem::take(&mut filters.mirrors)
        .into_iter()
        .enumerate()
        .map(|(i, mirror)| Mirror {
            cluster: cluster(
                world,
                memory,
                route,
                (index, i + 1),
                &[(mirror.backend, Filters::default())],
                None,
                unresolved,
            ),
            share: mirror.share,
        });
    let mirrors: Vec<Mirror> = mirrors.collect();
    let leads = cluster(
        world,
        memory,
        route,
        (index, 0),
        &spec.backends,
        traffic,
        unresolved,
    );
    let action = match () {
        () if closed => Action::Fail,
        () if filters.redirect.is_some() || filters.direct.is_some() => Action::Answer,
        () if spec.backends.is_empty() => Action::Fail,
        () => Action::Forward(leads),
    };
    let limiter = traffic
        .and_then(|traffic| traffic.rate_limit.as_ref())
        .map(|rules| {
            let key = (route.kind, route.meta.name.clone(), index, at.gateway.clone());
            memory.limiter(key, traffic_name, rules)
        });
    let wanted = traffic
        .and_then(|traffic| traffic.request_timeout)
        .or(spec.request_timeout)
        .unwrap_or(REQUEST_TIMEOUT);
    let retry = traffic.and_then(|traffic| traffic.retry.clone());
    Rule {
        route: Arc::clone(label),
        name: spec.name.clone().unwrap_or_default(),
        action,
        filters,
        mirrors,
        security,
        limiter,
        timeout: Some(wanted).filter(|time| !time.is_zero()),
        attempt_timeout: retry
            .as_ref()
            .and_then(|retry| retry.per_try)
            .or(spec.backend_timeout)
            .filter(|time| !time.is_zero()),
        retry,
    }
}

/// The one rule of a TLSRoute, TCPRoute or UDPRoute; nothing if it is closed.
pub(crate) fn raw(
    world: &World,
    memory: &mut Memory,
    policies: &mut Policies<'_>,
    route: &Route,
    label: &Arc<str>,
    at: &RuleOf<'_>,
    unresolved: &mut Unresolved,
) -> Option<Arc<RawRoute>> {
    let security = policies.security.effective(at);
    let traffic = policies.traffic.effective(at);
    let spec = route.rules.first()?;
    let mut closed = route.problem.is_some();
    let mut authorization = None;
    if let Some(i) = security {
        let found = policies.security.at(i);
        // What a Gateway's policy says of requests does not concern connections; of a route's own, its verdict says so.
        match found.verdict() {
            Ok(_) => {
                let resolved: Option<&Arc<Security>> = policies.resolved.get(&found.policy.meta.name);
                authorization = resolved.and_then(|security| security.authorization.clone());
                if authorization.as_ref().is_some_and(|rules| !rules.is_by_address()) {
                    authorization = None;
                }
            }
            Err(_) => closed = true,
        }
    }
    let mut settings = None;
    if let Some(i) = traffic {
        match policies.traffic.at(i).verdict() {
            Ok(spec) => settings = Some(spec),
            Err(_) => closed = true,
        }
    }
    let cluster = cluster(world, memory, route, (0, 0), &spec.backends, settings, unresolved);
    (!closed).then(|| {
        Arc::new(RawRoute {
            route: Arc::clone(label),
            cluster,
            authorization,
        })
    })
}

impl Memory {
    fn limiter(
        &mut self,
        key: (Kind, Name, usize, Name),
        policy: Option<Name>,
        rules: &Arc<crate::policy::rate_limit::Rules>,
    ) -> Arc<Limiter> {
        let shared = self.shared_counts.entry(policy).or_default();
        self.limiters.replace(key, |before| {
            let kept = before.filter(|before| before.is_of(rules));
            match kept {
                Some(kept) => Arc::clone(kept),
                None => Arc::new(Limiter::new(
                    Arc::clone(rules),
                    before.map(|before| &**before),
                    shared,
                )),
            }
        })
    }
}
