//! Puts a table together.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::kept::Kept;
use super::listeners::{self, Listeners, Tls};
use super::made::{self, Cached, Common};
use super::object::{Key, Kind, Name};
use super::policies::{ClientSettings, Security, SecuritySpec, TrafficSpec};
use super::policy_index::Index;
use super::route::Route;
use super::secured::{self, Secured};
use super::status::{CONTROLLER, Condition, Verdict};
use super::table::{
    HostPattern, HostTable, HttpListener, HttpPort, Port, RawRoute, Socket, Table, TlsEntry, TlsPort,
};
use super::world::{SecretData, World};
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

/// What goes on living.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) limits: Kept<(Kind, Name, usize, usize), Arc<Limits>>,
    pub(crate) limiters: Kept<(Kind, Name, usize, Name), Arc<Limiter>>,
    pub(crate) shared_counts: HashMap<Option<Name>, HashMap<u64, Arc<SharedCounts>>>,
    pub(crate) certificates: HashMap<Name, (SecretData, Result<Arc<rustls::sign::CertifiedKey>, String>)>,
    pub(super) secured: HashMap<Name, Secured>,
    /// What routes came to, and under which circumstances.
    pub(super) routes: HashMap<Key, Cached>,
    pub(super) common: Common,
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
    pub(crate) verdicts: Verdicts,
    /// What must be listened on.
    pub(crate) sockets: BTreeSet<Socket>,
    /// What was looked at: a change of another one changes nothing.
    pub(crate) looked_at: LookedAt,
}

/// What is said of objects. A verdict that stays the same is the same.
pub(crate) type Verdicts = BTreeMap<Key, Arc<Verdict>>;

/// Objects of kinds of which most are nobody's business here.
#[derive(Debug, Default)]
pub(crate) struct LookedAt {
    pub(crate) services: HashSet<Name>,
    pub(crate) secrets: HashSet<Name>,
    /// Whether labels of namespaces decide who may attach to a listener.
    pub(crate) namespaces: bool,
}

/// Puts a table together. `unbound` says why sockets cannot be listened on.
///
/// A route is worked out anew only if something has changed that it depends on: the route itself, a policy that holds for one of its
/// rules, a Service that it names, or one of the few things that concern all of them (listeners, grants, filters, Backends).
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
                Arc::new(Verdict::Conditions(vec![accepted])),
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
            Arc::new(Verdict::Conditions(vec![accepted])),
        );
    }
    for (name, filter) in &world.filters {
        let accepted = match filter {
            Ok(_) => Condition::new("Accepted", true, "Accepted", "the filter was accepted"),
            Err(why) => Condition::new("Accepted", false, "UnsupportedValue", why.clone()),
        };
        verdicts.insert(
            (Kind::HttpRouteFilter, name.clone()),
            Arc::new(Verdict::Conditions(vec![accepted])),
        );
    }
    let mut clients = Index::new(Kind::ClientTrafficPolicy, &world.clients, secured::client_problem);
    let mut listeners = listeners::evaluate(world, &clients, unbound, memory, settings);
    let mut looked_at = LookedAt {
        secrets: listeners::secrets(world),
        namespaces: listeners.select_namespaces(),
        ..LookedAt::default()
    };
    let mut resolved = HashMap::new();
    let mut problems: HashMap<Name, String> = HashMap::new();
    for (name, policy) in &world.security {
        looked_at.secrets.extend(secured::secrets(policy));
        match secured::look_up(world, memory, policy) {
            Ok(Some(security)) => drop(resolved.insert(name.clone(), security)),
            Ok(None) => {}
            Err(why) => drop(problems.insert(name.clone(), why)),
        }
    }
    memory.secured.retain(|name, _| world.security.contains_key(name));
    let mut policies = Policies {
        security: Index::new(Kind::SecurityPolicy, &world.security, |policy| {
            problems
                .get(&policy.meta.name)
                .cloned()
                .or_else(|| secured::security_problem(policy))
        }),
        traffic: Index::new(
            Kind::BackendTrafficPolicy,
            &world.traffic,
            secured::traffic_problem,
        ),
        resolved,
    };
    let mut tables: Vec<HostTable> = listeners.live.iter().map(|_| HostTable::default()).collect();
    let mut raw: HashMap<usize, (Name, Option<Arc<RawRoute>>)> = HashMap::new();
    let mut by_name: Vec<Vec<(HostPattern, TlsEntry)>> = listeners.live.iter().map(|_| Vec::new()).collect();
    let mut leads: HashMap<Key, Arc<[Name]>> = HashMap::new();
    let common = Common::of(world, &listeners);
    if common != memory.common {
        memory.routes.clear();
        memory.common = common;
    }
    let mut before = std::mem::take(&mut memory.routes);
    let mut routes: Vec<&Arc<Route>> = world.routes.values().collect();
    routes.sort_by(|a, b| a.meta.age().cmp(&b.meta.age()));
    for route in routes {
        let key = (route.kind, route.meta.name.clone());
        let known = before.remove(&key).filter(|_| route.kind.is_http());
        let kept = known.filter(|known| known.holds(world, route, &mut policies, &listeners));
        let cached = match kept {
            Some(cached) => {
                cached.keep(memory);
                cached
            }
            None => made::make(
                world,
                memory,
                &mut policies,
                &listeners,
                route,
                &mut raw,
                &mut by_name,
            ),
        };
        let made = &cached.made;
        for i in &made.attached {
            listeners.live[*i].attached += 1;
        }
        for (i, host, path, entry) in &made.entries {
            tables[*i].insert(host, path, entry.clone());
        }
        looked_at
            .services
            .extend(cached.services.iter().map(|(name, _)| name.clone()));
        leads.insert(key.clone(), Arc::clone(&made.leads));
        verdicts.insert(key.clone(), Arc::clone(&made.verdict));
        memory.routes.insert(key, cached);
    }
    let lead = |kind: Kind, name: &Name| match kind {
        Kind::Gateway => listeners.gateways.get(name).cloned().into_iter().collect(),
        kind => leads
            .get(&(kind, name.clone()))
            .map(|gateways| gateways.to_vec())
            .unwrap_or_default(),
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
        looked_at,
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
