//! Puts a table together.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use serde_json::Value;

use super::listeners::{self, Listeners, Tls};
use super::object::{Key, Kind, Name};
use super::policies::{ClientSettings, Policy, Security, SecuritySpec, TrafficSpec};
use super::policy_index::{Index, RuleOf};
use super::route::Route;
use super::rules::{self, Unresolved};
use super::status::{CONTROLLER, Condition, Verdict};
use super::table::{
    Entry, HostPattern, HostTable, HttpListener, HttpPort, Order, Port, RawRoute, Rule, Socket, Table,
    TlsEntry, TlsPort,
};
use super::world::{SecretData, World};
use crate::api::GATEWAY_API;
use crate::api::gateway::{ObjectReference, ParentReference};
use crate::policy::api_key::Keys;
use crate::policy::basic::Users;
use crate::policy::rate_limit::{Limiter, SharedCounts};
use crate::upstream::limits::Limits;

/// What holds for all tables.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The address that statuses of Gateways give.
    pub(crate) address: String,
    /// Of listeners without a policy.
    pub(crate) client: Arc<ClientSettings>,
}

/// Values that go on living from one table to the next, such as counts. What a build does not ask for is forgotten.
pub(crate) struct Kept<K, V> {
    now: HashMap<K, V>,
    next: HashMap<K, V>,
}

impl<K, V> Default for Kept<K, V> {
    fn default() -> Self {
        Self {
            now: HashMap::new(),
            next: HashMap::new(),
        }
    }
}

impl<K: Hash + Eq, V: Clone> Kept<K, V> {
    pub(crate) fn take(&mut self, key: K, fits: impl Fn(&V) -> bool, make: impl FnOnce() -> V) -> V {
        if let Some(value) = self.next.get(&key).filter(|value| fits(value)) {
            return value.clone();
        }
        let value = match self.now.get(&key).filter(|value| fits(value)) {
            Some(value) => value.clone(),
            None => make(),
        };
        self.next.insert(key, value.clone());
        value
    }

    pub(crate) fn replace(&mut self, key: K, make: impl FnOnce(Option<&V>) -> V) -> V {
        let value = make(self.next.get(&key).or_else(|| self.now.get(&key)));
        self.next.insert(key, value.clone());
        value
    }

    fn turn(&mut self) {
        self.now = std::mem::take(&mut self.next);
    }
}

/// What goes on living.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) limits: Kept<(Kind, Name, usize, usize), Arc<Limits>>,
    pub(crate) limiters: Kept<(Kind, Name, usize, Name), Arc<Limiter>>,
    pub(crate) shared_counts: HashMap<Option<Name>, HashMap<u64, Arc<SharedCounts>>>,
    pub(crate) certificates: HashMap<Name, (SecretData, Result<Arc<rustls::sign::CertifiedKey>, String>)>,
}

/// Policies with their Secrets.
pub(crate) struct Policies<'w> {
    pub(crate) security: Index<'w, SecuritySpec>,
    pub(crate) traffic: Index<'w, TrafficSpec>,
    pub(crate) resolved: HashMap<Name, Arc<Security>>,
}

/// The result.
pub(crate) struct Built {
    pub(crate) table: Table,
    pub(crate) verdicts: BTreeMap<Key, Verdict>,
    /// What must be listened on.
    pub(crate) sockets: BTreeSet<Socket>,
}

/// Puts a table together. `unbound` says why sockets cannot be listened on.
pub(crate) fn build(
    world: &World,
    memory: &mut Memory,
    unbound: &BTreeMap<Socket, String>,
    settings: &Settings,
) -> Built {
    let mut verdicts = BTreeMap::new();
    for (name, (_, controller)) in &world.classes {
        if controller == CONTROLLER {
            let accepted = Condition::new("Accepted", true, "Accepted", "gateways of this class are served");
            verdicts.insert(
                (Kind::GatewayClass, name.clone()),
                Verdict::Conditions(vec![accepted]),
            );
        }
    }
    for backend in world.backends.values() {
        let accepted = match &backend.spec {
            Ok(_) => Condition::new("Accepted", true, "Accepted", "the backend was accepted"),
            Err(why) => Condition::new("Accepted", false, "Invalid", why.clone()),
        };
        verdicts.insert(
            (Kind::Backend, backend.meta.name.clone()),
            Verdict::Conditions(vec![accepted]),
        );
    }
    for (name, filter) in &world.filters {
        let accepted = match filter {
            Ok(_) => Condition::new("Accepted", true, "Accepted", "the filter was accepted"),
            Err(why) => Condition::new("Accepted", false, "UnsupportedValue", why.clone()),
        };
        verdicts.insert(
            (Kind::HttpRouteFilter, name.clone()),
            Verdict::Conditions(vec![accepted]),
        );
    }
    let mut clients = Index::new(Kind::ClientTrafficPolicy, &world.clients, client_problem);
    let mut listeners = listeners::evaluate(world, &clients, unbound, memory, settings);
    let mut resolved = HashMap::new();
    let mut problems: HashMap<Name, String> = HashMap::new();
    for (name, policy) in &world.security {
        match resolve(world, policy) {
            Ok(Some(security)) => drop(resolved.insert(name.clone(), Arc::new(security))),
            Ok(None) => {}
            Err(why) => drop(problems.insert(name.clone(), why)),
        }
    }
    let mut policies = Policies {
        security: Index::new(Kind::SecurityPolicy, &world.security, |policy| {
            problems
                .get(&policy.meta.name)
                .cloned()
                .or_else(|| security_problem(policy))
        }),
        traffic: Index::new(Kind::BackendTrafficPolicy, &world.traffic, traffic_problem),
        resolved,
    };
    let mut tables: Vec<HostTable> = listeners.live.iter().map(|_| HostTable::default()).collect();
    let mut raw: HashMap<usize, (Name, Option<Arc<RawRoute>>)> = HashMap::new();
    let mut by_name: Vec<Vec<(HostPattern, TlsEntry)>> = listeners.live.iter().map(|_| Vec::new()).collect();
    let mut leads: HashMap<Key, Vec<Name>> = HashMap::new();
    let mut routes: Vec<&Arc<Route>> = world.routes.values().collect();
    routes.sort_by(|a, b| a.meta.age().cmp(&b.meta.age()));
    for route in routes {
        let key = (route.kind, route.meta.name.clone());
        let label: Arc<str> = format!("{} {}", route.kind.as_str(), route.meta.name).into();
        let mut unresolved: Unresolved = None;
        let mut parents: Vec<(Value, Verdictlet)> = Vec::new();
        for (written, parent) in &route.parents {
            let Some(gateway) = gateway_of(route, parent).filter(|name| listeners.gateways.contains(name))
            else {
                continue;
            };
            let known = leads.entry(key.clone()).or_default();
            if !known.contains(&gateway) {
                known.push(gateway.clone());
            }
            let attached = attach(world, &listeners, route, parent, &gateway);
            let attached = attached.and_then(|found| match route.kind {
                Kind::TcpRoute | Kind::UdpRoute => free(&raw, found, route),
                _ => Ok(found),
            });
            let verdict = match attached {
                Err(why) => Err(why),
                Ok(found) => {
                    for (i, hosts) in found {
                        listeners.live[i].attached += 1;
                        let live = &listeners.live[i];
                        let at = |rule| RuleOf {
                            kind: route.kind,
                            route: &route.meta.name,
                            rule,
                            gateway: &live.gateway,
                            listener: &live.name,
                        };
                        match route.kind {
                            Kind::TcpRoute | Kind::UdpRoute => {
                                let made = rules::raw(
                                    world,
                                    memory,
                                    &mut policies,
                                    route,
                                    &label,
                                    &at(None),
                                    &mut unresolved,
                                );
                                raw.insert(i, (route.meta.name.clone(), made));
                            }
                            Kind::TlsRoute => {
                                let made = rules::raw(
                                    world,
                                    memory,
                                    &mut policies,
                                    route,
                                    &label,
                                    &at(None),
                                    &mut unresolved,
                                );
                                let entry = made.map_or(TlsEntry::Closed, TlsEntry::Passthrough);
                                // Of two routes with one name the older has it.
                                for host in hosts {
                                    if !by_name[i].iter().any(|(known, _)| *known == host) {
                                        by_name[i].push((host, entry.clone()));
                                    }
                                }
                            }
                            _ => {
                                for (index, spec) in route.rules.iter().enumerate() {
                                    let at = at(spec.name.as_deref());
                                    let rule = rules::http(
                                        world,
                                        memory,
                                        &mut policies,
                                        route,
                                        &label,
                                        index,
                                        spec,
                                        &at,
                                        &mut unresolved,
                                    );
                                    insert(&mut tables[i], route, index, &hosts, &Arc::new(rule));
                                }
                            }
                        }
                    }
                    match &route.problem {
                        Some(why) => Err(("UnsupportedValue", why.clone())),
                        None => Ok(()),
                    }
                }
            };
            parents.push((written.clone(), verdict));
        }
        let entries = parents.into_iter().map(|(parent, accepted)| {
            let accepted = match accepted {
                Ok(()) => Condition::new("Accepted", true, "Accepted", "the route is accepted"),
                Err((reason, why)) => Condition::new("Accepted", false, reason, why),
            };
            let resolved = match &unresolved {
                None => Condition::new(
                    "ResolvedRefs",
                    true,
                    "ResolvedRefs",
                    "all references are resolved",
                ),
                Some((reason, why)) => Condition::new("ResolvedRefs", false, reason, why.clone()),
            };
            (parent, vec![accepted, resolved])
        });
        verdicts.insert(key, Verdict::Parents(entries.collect()));
    }
    let lead = |kind: Kind, name: &Name| match kind {
        Kind::Gateway => listeners.gateways.get(name).cloned().into_iter().collect(),
        kind => leads.get(&(kind, name.clone())).cloned().unwrap_or_default(),
    };
    clients.attach(lead);
    policies.security.attach(lead);
    policies.traffic.attach(lead);
    clients.verdicts(&mut verdicts);
    policies.security.verdicts(&mut verdicts);
    policies.traffic.verdicts(&mut verdicts);
    listeners.verdicts(&settings.address, &mut verdicts);
    let table = assemble(&listeners, tables, &raw, by_name);
    memory.limits.turn();
    memory.limiters.turn();
    memory.shared_counts.retain(|policy, _| {
        policy
            .as_ref()
            .is_some_and(|name| world.traffic.contains_key(name))
    });
    memory
        .certificates
        .retain(|name, _| world.secrets.contains_key(name));
    Built {
        table,
        verdicts,
        sockets: listeners.sockets,
    }
}

type Verdictlet = Result<(), (&'static str, String)>;
/// Listeners by their position, each with the hosts that route and listener have in common.
type Attached = Vec<(usize, Vec<HostPattern>)>;

/// The Gateway that a reference means; nothing if it means something else.
fn gateway_of(route: &Route, parent: &ParentReference) -> Option<Name> {
    let is_gateway = parent.kind.as_deref().unwrap_or("Gateway") == "Gateway"
        && parent.group.as_deref().unwrap_or(GATEWAY_API) == GATEWAY_API;
    let namespace = parent.namespace.as_deref().unwrap_or(&route.meta.name.namespace);
    is_gateway.then(|| Name::new(namespace, &parent.name))
}

/// The listeners of a Gateway that a route attaches to.
fn attach(
    world: &World,
    listeners: &Listeners,
    route: &Route,
    parent: &ParentReference,
    gateway: &Name,
) -> Result<Attached, (&'static str, String)> {
    let all = listeners
        .by_gateway
        .get(gateway)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let named: Vec<usize> = all
        .iter()
        .copied()
        .filter(|i| {
            let live = &listeners.live[*i];
            parent
                .section_name
                .as_ref()
                .is_none_or(|section| *section == live.name)
                && parent.port.is_none_or(|port| port == live.port)
        })
        .collect();
    if named.is_empty() {
        return Err((
            "NoMatchingParent",
            "the gateway has no such listener, or it is not valid".to_owned(),
        ));
    }
    let carries = |i: &usize| listeners.live[*i].kinds.contains(&route.kind);
    let speaking: Vec<usize> = named.into_iter().filter(carries).collect();
    if speaking.is_empty() {
        return Err((
            "NotAllowedByListeners",
            format!(
                "no listener of the gateway carries what a {} needs: {}",
                route.kind.as_str(),
                route.kind.protocols().join(" or ")
            ),
        ));
    }
    let admits = |i: &usize| listeners.live[*i].admits(&route.meta.name.namespace, world);
    let allowed: Vec<usize> = speaking.into_iter().filter(admits).collect();
    if allowed.is_empty() {
        return Err((
            "NotAllowedByListeners",
            format!(
                "no listener of the gateway allows routes of namespace {}",
                route.meta.name.namespace
            ),
        ));
    }
    let hosts: Vec<HostPattern> = route
        .hostnames
        .iter()
        .map(|host| HostPattern::new(Some(host)))
        .collect();
    let mut attached = Vec::new();
    for i in allowed {
        let own = &listeners.live[i].host;
        let mut common: Vec<HostPattern> = match hosts.is_empty() {
            true => vec![own.clone()],
            false => hosts.iter().filter_map(|host| own.intersect(host)).collect(),
        };
        common.sort_by_key(HostPattern::rank);
        common.dedup();
        if !common.is_empty() {
            attached.push((i, common));
        }
    }
    if attached.is_empty() {
        return Err((
            "NoMatchingListenerHostname",
            "no listener of the gateway serves a host of the route".to_owned(),
        ));
    }
    Ok(attached)
}

/// Raw listeners lead to one route only. Routes come by age, so that the oldest has it.
fn free(
    raw: &HashMap<usize, (Name, Option<Arc<RawRoute>>)>,
    found: Attached,
    route: &Route,
) -> Result<Attached, (&'static str, String)> {
    let mut holder = None;
    let free: Attached = found
        .into_iter()
        .filter(|(i, _)| match raw.get(i) {
            Some((other, _)) => {
                holder = Some(other.clone());
                false
            }
            None => true,
        })
        .collect();
    match (free.is_empty(), holder) {
        (true, Some(other)) => Err((
            "UnsupportedValue",
            format!(
                "{} {other} has the listener already, and it can lead to one only",
                route.kind.as_str()
            ),
        )),
        _ => Ok(free),
    }
}

fn insert(table: &mut HostTable, route: &Route, index: usize, hosts: &[HostPattern], rule: &Arc<Rule>) {
    let matches = &route.rules[index].matches;
    for (place, one) in matches.iter().enumerate() {
        let entry = Entry {
            conditions: one.conditions.clone(),
            rule: Arc::clone(rule),
            order: Order {
                created: route.meta.created,
                name: route.meta.name.clone(),
                rule: index,
                place,
            },
        };
        for host in hosts {
            table.insert(host, &one.path, entry.clone());
        }
    }
}

fn assemble(
    listeners: &Listeners,
    tables: Vec<HostTable>,
    raw: &HashMap<usize, (Name, Option<Arc<RawRoute>>)>,
    by_name: Vec<Vec<(HostPattern, TlsEntry)>>,
) -> Table {
    let mut http: HashMap<Socket, Vec<Arc<HttpListener>>> = HashMap::new();
    let mut tls: HashMap<Socket, Vec<(HostPattern, TlsEntry)>> = HashMap::new();
    let mut table = Table::default();
    for (i, ((live, mut routes), names)) in listeners.live.iter().zip(tables).zip(by_name).enumerate() {
        let socket = live.socket();
        match live.protocol.as_str() {
            "TCP" | "UDP" => {
                let route = raw.get(&i).and_then(|(_, route)| route.clone());
                table.ports.insert(socket, Port::Raw(route));
                continue;
            }
            "TLS" => {
                tls.entry(socket).or_default().extend(names);
                continue;
            }
            _ => {}
        }
        routes.sort();
        if let Some(Tls::Terminate(certificate)) = &live.tls {
            let entry = match live.closed {
                true => TlsEntry::Closed,
                false => TlsEntry::Terminate {
                    certificate: certificate.clone(),
                    settings: Arc::clone(&live.settings),
                },
            };
            tls.entry(socket).or_default().push((live.host.clone(), entry));
        }
        http.entry(socket).or_default().push(Arc::new(HttpListener {
            host: live.host.clone(),
            routes,
            settings: Arc::clone(&live.settings),
            closed: live.closed,
        }));
    }
    for listeners in http.values_mut() {
        listeners.sort_by_key(|listener| listener.host.rank());
    }
    // A TLS listener without a route is still one: its connections are closed.
    for live in listeners
        .live
        .iter()
        .filter(|live| matches!(live.tls, Some(Tls::Passthrough)))
    {
        tls.entry(live.socket()).or_default();
    }
    for (socket, mut entries) in tls {
        entries.sort_by_key(|(host, _)| host.rank());
        let port = TlsPort {
            entries,
            http: Arc::new(HttpPort {
                listeners: http.remove(&socket).unwrap_or_default(),
            }),
        };
        table.ports.insert(socket, Port::Tls(Arc::new(port)));
    }
    for (socket, listeners) in http {
        table
            .ports
            .insert(socket, Port::Http(Arc::new(HttpPort { listeners })));
    }
    table
}

fn client_problem<T>(policy: &Policy<T>) -> Option<String> {
    let other = policy.targets.iter().find(|target| target.kind != "Gateway")?;
    Some(format!(
        "spec.targetRefs: a ClientTrafficPolicy is about Gateways, not about a {}",
        other.kind
    ))
}

fn security_problem(policy: &Policy<SecuritySpec>) -> Option<String> {
    let spec = policy.spec.as_ref().ok()?;
    for target in &policy.targets {
        match target.kind.as_str() {
            "Gateway" | "HTTPRoute" | "GRPCRoute" => {}
            "TCPRoute" => {
                let of_requests = spec.cors.is_some()
                    || spec.api_key.is_some()
                    || spec.basic.is_some()
                    || spec.jwt.is_some();
                let by_address = spec
                    .authorization
                    .as_ref()
                    .is_none_or(|rules| rules.is_by_address());
                if of_requests || !by_address {
                    return Some(
                        "a TCPRoute carries connections and not requests: only spec.authorization with principal.clientCIDRs fits it"
                            .to_owned(),
                    );
                }
            }
            other => return Some(format!("a SecurityPolicy cannot be about a {other}")),
        }
    }
    None
}

fn traffic_problem(policy: &Policy<TrafficSpec>) -> Option<String> {
    let spec = policy.spec.as_ref().ok()?;
    for target in &policy.targets {
        match target.kind.as_str() {
            "Gateway" | "HTTPRoute" | "GRPCRoute" => {}
            kind @ ("TCPRoute" | "TLSRoute" | "UDPRoute") => {
                if spec.is_about_requests() {
                    return Some(format!(
                        "a {kind} carries connections and not requests: only spec.circuitBreaker.maxConnections and spec.timeout.tcp fit it"
                    ));
                }
            }
            other => return Some(format!("a BackendTrafficPolicy cannot be about a {other}")),
        }
    }
    None
}

/// Looks the Secrets of a policy up.
fn resolve(world: &World, policy: &Policy<SecuritySpec>) -> Result<Option<Security>, String> {
    let Ok(spec) = &policy.spec else {
        return Ok(None);
    };
    let own = &policy.meta.name.namespace;
    let secret = |reference: &ObjectReference, at: &str| -> Result<(Name, &SecretData), String> {
        let name = Name::new(reference.namespace.as_deref().unwrap_or(own), &reference.name);
        if reference.kind.as_deref().unwrap_or("Secret") != "Secret" {
            return Err(format!("{at}: not a Secret"));
        }
        if !world.permits(
            (crate::api::ENVOY_GATEWAY, "SecurityPolicy", own),
            ("", "Secret", &name),
        ) {
            return Err(format!(
                "{at}: no ReferenceGrant in {} lets a SecurityPolicy of {own} use Secret {name}",
                name.namespace
            ));
        }
        match world.secrets.get(&name) {
            Some(data) => Ok((name, data)),
            None => Err(format!(
                "Secret {name} not found: create it, with the accepted credentials"
            )),
        }
    };
    let mut security = Security {
        cors: spec.cors.clone(),
        jwt: spec.jwt.clone(),
        authorization: spec.authorization.clone(),
        ..Security::default()
    };
    if let Some((references, sources)) = &spec.api_key {
        let mut all = Vec::new();
        for (i, reference) in references.iter().enumerate() {
            all.push(secret(reference, &format!("spec.apiKeyAuth.credentialRefs[{i}]"))?.1);
        }
        let pairs = all
            .iter()
            .flat_map(|data| data.iter())
            .map(|(client, key)| (client.as_str(), key.as_slice()));
        security.api_key = Some((Arc::clone(sources), Arc::new(Keys::new(pairs))));
    }
    if let Some((reference, forward)) = &spec.basic {
        let (name, data) = secret(reference, "spec.basicAuth.users")?;
        let text = data
            .get(".htpasswd")
            .ok_or_else(|| format!("Secret {name} has no key .htpasswd"))?;
        let text =
            std::str::from_utf8(text).map_err(|_| format!("Secret {name} key .htpasswd is not text"))?;
        let users = Users::parse(text).map_err(|why| format!("Secret {name} key .htpasswd: {why}"))?;
        security.basic = Some((Arc::new(users), forward.clone()));
    }
    Ok(Some(security))
}
