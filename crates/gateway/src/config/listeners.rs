//! Gateways: which of their listeners can be followed, and on which port.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use kube::core::SelectorExt;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::build::{Memory, Settings, Verdicts};
use super::object::{Kind, Name};
use super::policies::ClientSettings;
use super::policy_index::{Index, Target};
use super::route::is_hostname;
use super::status::{CONTROLLER, Condition, ListenerStatus, Verdict};
use super::table::{Certificate, HostPattern, Socket, Transport};
use super::world::{Gateway, SecretData, World};
use crate::api::GATEWAY_API;
use crate::api::gateway::{Listener, ListenerTls, RouteNamespaces};

/// Key of `tls.options` that says who issues a listener's certificates; see [`LOCAL_ISSUER`].
pub const ISSUER_OPTION: &str = "gateway.openchoreo.dev/issuer";
/// Value of [`ISSUER_OPTION`]: certificates are made for the names that are asked for, and signed by the gateway's own authority.
pub const LOCAL_ISSUER: &str = "local";

/// What a port is used for. One port cannot be two of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Http,
    Tls,
    Raw,
}

/// A listener that routes can attach to.
pub(crate) struct Live {
    pub(crate) gateway: Name,
    pub(crate) name: String,
    pub(crate) port: u16,
    pub(crate) protocol: String,
    pub(crate) host: HostPattern,
    pub(crate) kinds: Vec<Kind>,
    namespaces: RouteNamespaces,
    pub(crate) tls: Option<Tls>,
    pub(crate) settings: Arc<ClientSettings>,
    pub(crate) closed: bool,
    pub(crate) attached: usize,
}

/// What is done with TLS.
#[derive(Clone)]
pub(crate) enum Tls {
    Terminate(Certificate),
    Passthrough,
}

impl Live {
    /// Whether routes of a namespace may attach.
    pub(crate) fn admits(&self, namespace: &str, world: &World) -> bool {
        match self.namespaces.from.as_deref().unwrap_or("Same") {
            "All" => true,
            "Same" => namespace == &*self.gateway.namespace,
            "Selector" => {
                let empty = BTreeMap::new();
                let labels = world.namespaces.get(namespace).unwrap_or(&empty);
                self.namespaces.selector.as_ref().is_some_and(|selector| {
                    kube::core::Selector::try_from(selector.clone())
                        .is_ok_and(|selector| selector.matches(labels))
                })
            }
            _ => false,
        }
    }

    /// Everything of it that routes depend on.
    pub(super) fn key(&self) -> ListenerKey {
        let Self {
            gateway,
            name,
            port,
            protocol,
            host,
            kinds,
            namespaces,
            tls: _,
            settings: _,
            closed: _,
            attached: _,
        } = self;
        ListenerKey {
            gateway: gateway.clone(),
            name: name.clone(),
            port: *port,
            protocol: protocol.clone(),
            host: host.clone(),
            kinds: kinds.clone(),
            namespaces: namespaces.clone(),
        }
    }

    pub(crate) fn socket(&self) -> Socket {
        (transport(&self.protocol), self.port)
    }
}

/// What of a listener routes depend on.
#[derive(Debug, PartialEq)]
pub(super) struct ListenerKey {
    gateway: Name,
    name: String,
    port: u16,
    protocol: String,
    host: HostPattern,
    kinds: Vec<Kind>,
    namespaces: RouteNamespaces,
}

/// The Secrets that certificates are taken from.
pub(super) fn secrets(world: &World) -> HashSet<Name> {
    let mut all = HashSet::new();
    for gateway in world.gateways.values() {
        let listeners = gateway
            .listeners
            .iter()
            .filter_map(|(_, listener)| listener.as_ref().ok());
        for reference in listeners
            .flat_map(|listener| &listener.tls)
            .flat_map(|tls| &tls.certificate_refs)
        {
            let own = &gateway.meta.name.namespace;
            all.insert(Name::new(
                reference.namespace.as_deref().unwrap_or(own),
                &reference.name,
            ));
        }
    }
    all
}

fn transport(protocol: &str) -> Transport {
    if protocol == "UDP" {
        Transport::Udp
    } else {
        Transport::Tcp
    }
}

/// The Gateways of our classes with their listeners.
#[derive(Default)]
pub(crate) struct Listeners {
    pub(crate) live: Vec<Live>,
    /// All Gateways that are ours, whatever becomes of their listeners.
    pub(crate) gateways: BTreeSet<Name>,
    pub(crate) by_gateway: HashMap<Name, Vec<usize>>,
    pub(crate) sockets: BTreeSet<Socket>,
    states: Vec<(Name, Vec<State>, Option<String>)>,
}

struct State {
    name: String,
    live: Option<usize>,
    kinds: Vec<Kind>,
    accepted: Result<(), (&'static str, String)>,
    resolved: Result<(), (&'static str, String)>,
    conflict: Option<(&'static str, String)>,
}

/// Who has a port.
struct Claim {
    kind: Use,
    hosts: HashMap<HostPattern, String>,
}

pub(crate) fn evaluate(
    world: &World,
    clients: &Index<'_, Arc<ClientSettings>>,
    unbound: &BTreeMap<Socket, String>,
    memory: &mut Memory,
    settings: &Settings,
) -> Listeners {
    let mut all = Listeners::default();
    let mut claims: HashMap<Socket, Claim> = HashMap::new();
    let mut gateways: Vec<&Gateway> = world
        .gateways
        .values()
        .filter(|gateway| {
            let class = world.classes.get(&Name::new("", &gateway.class));
            class.is_some_and(|(_, controller)| controller == CONTROLLER)
        })
        .collect();
    // Who was first keeps what both want.
    gateways.sort_by(|a, b| a.meta.age().cmp(&b.meta.age()));
    for gateway in gateways {
        let name = &gateway.meta.name;
        all.gateways.insert(name.clone());
        let mut states = Vec::new();
        for (listener_name, listener) in &gateway.listeners {
            let mut state = State {
                name: listener_name.clone(),
                live: None,
                kinds: Vec::new(),
                accepted: Ok(()),
                resolved: Ok(()),
                conflict: None,
            };
            match listener {
                Err(why) => state.accepted = Err(("UnsupportedValue", why.clone())),
                Ok(listener) => {
                    let made = make(
                        world,
                        gateway,
                        listener,
                        clients,
                        &mut claims,
                        unbound,
                        memory,
                        settings,
                        &mut state,
                    );
                    if let Some(live) = made {
                        all.sockets.insert(live.socket());
                        state.live = Some(all.live.len());
                        all.by_gateway
                            .entry(name.clone())
                            .or_default()
                            .push(all.live.len());
                        all.live.push(live);
                    }
                }
            }
            states.push(state);
        }
        all.states.push((name.clone(), states, gateway.problem.clone()));
    }
    all
}

#[allow(clippy::too_many_arguments, reason = "one place that all of it meets in")]
fn make(
    world: &World,
    gateway: &Gateway,
    listener: &Listener,
    clients: &Index<'_, Arc<ClientSettings>>,
    claims: &mut HashMap<Socket, Claim>,
    unbound: &BTreeMap<Socket, String>,
    memory: &mut Memory,
    settings: &Settings,
    state: &mut State,
) -> Option<Live> {
    let protocol = listener.protocol.as_str();
    let kinds: Vec<Kind> = Kind::ROUTES
        .into_iter()
        .filter(|kind| kind.protocols().contains(&protocol))
        .collect();
    if kinds.is_empty() {
        state.accepted = Err((
            "UnsupportedProtocol",
            format!("protocol {protocol:?} is none of HTTP, HTTPS, TLS, TCP and UDP"),
        ));
        return None;
    }
    state.kinds = kinds.clone();
    // An empty name is none.
    if let Some(host) = listener.hostname.as_ref().filter(|host| !host.is_empty())
        && !is_hostname(host)
    {
        state.accepted = Err((
            "UnsupportedValue",
            format!("hostname {host:?} is not a host name"),
        ));
        return None;
    }
    let host = HostPattern::new(
        listener
            .hostname
            .as_deref()
            .filter(|_| !matches!(protocol, "TCP" | "UDP")),
    );
    let allowed = listener.allowed_routes.clone().unwrap_or_default();
    if !allowed.kinds.is_empty() {
        let wanted = |kind: &Kind| {
            allowed.kinds.iter().any(|allowed| {
                allowed.kind == kind.as_str()
                    && allowed.group.as_deref().unwrap_or(GATEWAY_API) == kind.group()
            })
        };
        state.kinds.retain(wanted);
        if state.kinds.len() < allowed.kinds.len() {
            state.resolved = Err((
                "InvalidRouteKinds",
                format!(
                    "allowedRoutes.kinds: a listener of protocol {protocol} carries none but {}",
                    names(&kinds)
                ),
            ));
        }
    }
    let tls = match tls(world, gateway, listener, memory) {
        Ok(tls) => tls,
        Err(Wrong::Accepted(why)) => {
            state.accepted = Err(("UnsupportedValue", why));
            return None;
        }
        Err(Wrong::Resolved(reason, why)) => {
            state.resolved = Err((reason, why));
            return None;
        }
    };
    let kind = match protocol {
        "HTTP" => Use::Http,
        "HTTPS" | "TLS" => Use::Tls,
        _ => Use::Raw,
    };
    let socket = (transport(protocol), listener.port);
    let own = format!("{} of Gateway {}", listener.name, gateway.meta.name);
    let claim = claims.entry(socket).or_insert_with(|| Claim {
        kind,
        hosts: HashMap::new(),
    });
    let holder = claim.hosts.values().next().cloned();
    if claim.kind != kind || (kind == Use::Raw && holder.is_some()) {
        let holder = holder.unwrap_or_default();
        state.conflict = Some((
            "ProtocolConflict",
            format!("port {} belongs to listener {holder} already", listener.port),
        ));
        return None;
    }
    if let Some(holder) = claim.hosts.get(&host) {
        state.conflict = Some((
            "HostnameConflict",
            format!(
                "port {} with host {host} belongs to listener {holder} already",
                listener.port
            ),
        ));
        return None;
    }
    claim.hosts.insert(host.clone(), own);
    let section = Target::new(Kind::Gateway, &gateway.meta.name, Some(&listener.name));
    let whole = Target::new(Kind::Gateway, &gateway.meta.name, None);
    let policy = clients.get(&section).or_else(|| clients.get(&whole));
    let (client, closed) = match policy.map(|policy| policy.verdict()) {
        None => (Arc::clone(&settings.client), false),
        Some(Ok(client)) => (Arc::clone(client), false),
        Some(Err(_)) => (Arc::clone(&settings.client), true),
    };
    if let Some(why) = unbound.get(&socket) {
        state.accepted = Err(("PortUnavailable", why.clone()));
    }
    Some(Live {
        gateway: gateway.meta.name.clone(),
        name: listener.name.clone(),
        port: listener.port,
        protocol: protocol.to_owned(),
        host,
        kinds: state.kinds.clone(),
        namespaces: allowed.namespaces,
        tls,
        settings: client,
        closed,
        attached: 0,
    })
}

fn names(kinds: &[Kind]) -> String {
    kinds
        .iter()
        .map(|kind| kind.as_str())
        .collect::<Vec<_>>()
        .join(" and ")
}

enum Wrong {
    Accepted(String),
    Resolved(&'static str, String),
}

fn tls(
    world: &World,
    gateway: &Gateway,
    listener: &Listener,
    memory: &mut Memory,
) -> Result<Option<Tls>, Wrong> {
    let protocol = listener.protocol.as_str();
    let Some(tls) = &listener.tls else {
        return match protocol {
            "HTTPS" | "TLS" => Err(Wrong::Accepted(format!(
                "tls: not given, although protocol is {protocol}"
            ))),
            _ => Ok(None),
        };
    };
    match (protocol, tls.mode.as_deref().unwrap_or("Terminate")) {
        ("HTTPS", "Terminate") => {
            certificate(world, gateway, tls, memory).map(|found| Some(Tls::Terminate(found)))
        }
        ("TLS", "Passthrough") => Ok(Some(Tls::Passthrough)),
        (protocol, mode) => Err(Wrong::Accepted(format!(
            "tls.mode: {mode:?} is not implemented for protocol {protocol}: HTTPS terminates, TLS passes through"
        ))),
    }
}

fn certificate(
    world: &World,
    gateway: &Gateway,
    tls: &ListenerTls,
    memory: &mut Memory,
) -> Result<Certificate, Wrong> {
    let own = &gateway.meta.name;
    if let Some((key, _)) = tls
        .options
        .iter()
        .find(|(key, value)| *key != ISSUER_OPTION || *value != LOCAL_ISSUER)
    {
        return Err(Wrong::Accepted(format!(
            "tls.options: {key:?} is not implemented; the only option is {ISSUER_OPTION}: {LOCAL_ISSUER}"
        )));
    }
    let Some(reference) = tls.certificate_refs.first() else {
        return match tls.options.is_empty() {
            true => Err(Wrong::Resolved(
                "InvalidCertificateRef",
                format!(
                    "tls.certificateRefs: none is given; name a Secret, or set the option {ISSUER_OPTION}: {LOCAL_ISSUER}"
                ),
            )),
            false => Ok(Certificate::Minted),
        };
    };
    let invalid =
        |why: String| Wrong::Resolved("InvalidCertificateRef", format!("tls.certificateRefs[0]: {why}"));
    if tls.certificate_refs.len() > 1 {
        return Err(invalid(
            "only one certificate for each listener is implemented".to_owned(),
        ));
    }
    if reference.kind.as_deref().unwrap_or("Secret") != "Secret"
        || !reference.group.as_deref().unwrap_or_default().is_empty()
    {
        return Err(invalid("not a Secret".to_owned()));
    }
    let name = Name::new(
        reference.namespace.as_deref().unwrap_or(&own.namespace),
        &reference.name,
    );
    if !world.permits((GATEWAY_API, "Gateway", &own.namespace), ("", "Secret", &name)) {
        return Err(Wrong::Resolved(
            "RefNotPermitted",
            format!(
                "tls.certificateRefs[0]: no ReferenceGrant in {} lets Gateways of {} use Secret {name}",
                name.namespace, own.namespace
            ),
        ));
    }
    let Some(secret) = world.secrets.get(&name) else {
        return Err(invalid(format!("Secret {name} not found")));
    };
    let known = memory
        .certificates
        .get(&name)
        .filter(|(data, _)| Arc::ptr_eq(data, secret));
    let parsed = match known {
        Some((_, parsed)) => parsed.clone(),
        None => {
            let parsed = parse(secret);
            memory
                .certificates
                .insert(name.clone(), (Arc::clone(secret), parsed.clone()));
            parsed
        }
    };
    parsed
        .map(Certificate::Given)
        .map_err(|why| invalid(format!("Secret {name}: {why}")))
}

fn parse(secret: &SecretData) -> Result<Arc<rustls::sign::CertifiedKey>, String> {
    let part = |key: &str| secret.get(key).ok_or_else(|| format!("has no {key}"));
    let chain: Result<Vec<CertificateDer<'static>>, _> =
        CertificateDer::pem_slice_iter(part("tls.crt")?).collect();
    let chain = chain
        .ok()
        .filter(|chain| !chain.is_empty())
        .ok_or("tls.crt holds no certificate in PEM form")?;
    // Nothing of a key may get into a message.
    let key = PrivateKeyDer::from_pem_slice(part("tls.key")?)
        .map_err(|_| "tls.key holds no private key in PEM form")?;
    let provider = rustls::crypto::ring::default_provider();
    let certified = rustls::sign::CertifiedKey::from_der(chain, key, &provider);
    certified
        .map(Arc::new)
        .map_err(|error| format!("tls.crt and tls.key cannot be used together: {error}"))
}

impl Listeners {
    /// Whether a listener chooses the namespaces of its routes by labels.
    pub(super) fn select_namespaces(&self) -> bool {
        let selects = |live: &Live| live.namespaces.from.as_deref() == Some("Selector");
        self.live.iter().any(selects)
    }

    /// The statuses of the Gateways, once all routes are attached.
    pub(crate) fn verdicts(&self, address: &str, verdicts: &mut Verdicts) {
        for (name, states, problem) in &self.states {
            let listeners: Vec<ListenerStatus> = states.iter().map(|state| self.status(state)).collect();
            let holding = |kind: &str| {
                let holds = |listener: &&ListenerStatus| {
                    listener.conditions.iter().any(|c| c.kind == kind && c.holds)
                };
                listeners.iter().filter(holds).count()
            };
            let (accepted, programmed) = (holding("Accepted"), holding("Programmed"));
            let some = |count: usize| count > 0 || (listeners.is_empty() && problem.is_none());
            let bad: Vec<&str> = listeners
                .iter()
                .filter(|l| l.conditions.iter().any(|c| c.kind == "Programmed" && !c.holds))
                .map(|l| l.name.as_str())
                .collect();
            let mut conditions = Vec::new();
            conditions.push(match (problem, some(accepted), accepted == listeners.len()) {
                (Some(why), _, _) => Condition::new("Accepted", false, "UnsupportedValue", why.clone()),
                (None, true, true) => Condition::new("Accepted", true, "Accepted", "the gateway is valid"),
                (None, holds, _) => Condition::new(
                    "Accepted",
                    holds,
                    "ListenersNotValid",
                    format!("see the conditions of listener {}", bad.join(", ")),
                ),
            });
            conditions.push(match (some(programmed), bad.is_empty()) {
                (true, true) => Condition::new("Programmed", true, "Programmed", "all listeners are served"),
                (true, false) => Condition::new(
                    "Programmed",
                    true,
                    "Programmed",
                    format!("all listeners are served but {}", bad.join(", ")),
                ),
                (false, _) => Condition::new("Programmed", false, "Invalid", "no listener is served"),
            });
            let verdict = Verdict::Gateway {
                addresses: vec![address.to_owned()],
                conditions,
                listeners,
            };
            verdicts.insert((Kind::Gateway, name.clone()), Arc::new(verdict));
        }
    }

    fn status(&self, state: &State) -> ListenerStatus {
        let say = |kind, result: &Result<(), (&'static str, String)>, good: &str| match result {
            Ok(()) => Condition::new(kind, true, kind, good),
            Err((reason, why)) => Condition::new(kind, false, reason, why.clone()),
        };
        let accepted = match &state.conflict {
            Some((reason, why)) => Err((*reason, why.clone())),
            None => state.accepted.clone(),
        };
        let programmed = match (&accepted, &state.resolved, state.live) {
            (Ok(()), _, Some(_)) => Ok(()),
            (Err((_, why)), _, _) | (_, Err((_, why)), _) => Err(("Invalid", why.clone())),
            (Ok(()), Ok(()), None) => Err(("Pending", "not served yet".to_owned())),
        };
        let conflicted = match &state.conflict {
            Some((reason, why)) => Condition::new("Conflicted", true, reason, why.clone()),
            None => Condition::new(
                "Conflicted",
                false,
                "NoConflicts",
                "no other listener wants the same",
            ),
        };
        ListenerStatus {
            name: state.name.clone(),
            attached: state.live.map_or(0, |i| self.live[i].attached),
            kinds: state.kinds.clone(),
            conditions: vec![
                say("Accepted", &accepted, "the listener is valid"),
                conflicted,
                say("ResolvedRefs", &state.resolved, "all references are resolved"),
                say("Programmed", &programmed, "the listener is served"),
            ],
        }
    }
}
