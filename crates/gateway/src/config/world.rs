//! Everything that the gateway has seen, read once for each change, so that putting a table together only links what is there.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::DynamicObject;
use serde_json::Value;

use super::build::LookedAt;
use super::filters::Extension;
use super::object::{Key, Kind, Meta, Name, spec};
use super::policies::{self, Backend, ClientSettings, Policy, SecuritySpec, TrafficSpec};
use super::route::Route;
use crate::api::envoy::HttpRouteFilterSpec;
use crate::api::gateway::{GatewaySpec, Listener, ReferenceGrantSpec};
use crate::api::read;
use crate::upstream::{Endpoints, Protocol};

/// A Gateway.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) meta: Meta,
    pub(crate) class: String,
    /// Each listener with its name, which is known even if the rest cannot be read.
    pub(crate) listeners: Vec<(String, Result<Listener, String>)>,
    pub(crate) problem: Option<String>,
}

/// A Service, as far as routes need it.
#[derive(Debug)]
pub(crate) struct ServiceEntry {
    /// Another one whenever what routes know of it is.
    pub(crate) version: u64,
    pub(crate) ports: Vec<ServicePort>,
    /// Why it cannot be a backend.
    pub(crate) problem: Option<&'static str>,
}

#[derive(Debug)]
pub(crate) struct ServicePort {
    pub(crate) number: u16,
    name: String,
    pub(crate) protocol: Protocol,
    pub(crate) endpoints: Arc<Endpoints>,
}

#[derive(Debug)]
struct Slice {
    ports: Vec<(String, u16)>,
    /// Address, and whether it is ready or, if not, still serves while it goes.
    endpoints: Vec<(IpAddr, Readiness)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readiness {
    Ready,
    Leaving,
    No,
}

/// A Secret's data.
pub(crate) type SecretData = Arc<BTreeMap<String, Vec<u8>>>;

/// Status and version of an object that statuses are written to.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) uid: String,
    pub(crate) version: u64,
    pub(crate) generation: i64,
    pub(crate) status: Value,
}

#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) classes: BTreeMap<Name, (Meta, String)>,
    pub(crate) gateways: BTreeMap<Name, Gateway>,
    pub(crate) routes: BTreeMap<Key, Arc<Route>>,
    grants: BTreeMap<Name, ReferenceGrantSpec>,
    pub(crate) backends: BTreeMap<Name, Backend>,
    pub(crate) filters: BTreeMap<Name, Result<Extension, String>>,
    pub(crate) security: BTreeMap<Name, Policy<SecuritySpec>>,
    pub(crate) traffic: BTreeMap<Name, Policy<TrafficSpec>>,
    pub(crate) clients: BTreeMap<Name, Policy<Arc<ClientSettings>>>,
    pub(crate) services: HashMap<Name, ServiceEntry>,
    slices: HashMap<Name, BTreeMap<String, Slice>>,
    pub(crate) secrets: HashMap<Name, SecretData>,
    pub(crate) namespaces: HashMap<String, BTreeMap<String, String>>,
    pub(crate) written: BTreeMap<Key, Written>,
    /// Grows with every change of what all routes depend on: grants, filters, Backends, and labels of namespaces.
    pub(crate) common: u64,
    /// Versions that Services were given.
    versions: u64,
    /// What the last table was made from, so far as most objects are not.
    pub(crate) looked_at: LookedAt,
}

impl World {
    /// Takes an object in. Whether anything but its status changed: only then can the table differ.
    pub(crate) fn apply(&mut self, kind: Kind, object: &DynamicObject) -> bool {
        let meta = Meta::of(object);
        let name = meta.name.clone();
        let key = (kind, name.clone());
        let status = object.data.get("status").cloned().unwrap_or(Value::Null);
        let known = self.written.get(&key);
        if known.is_some_and(|known| known.uid == meta.uid && known.version > meta.version) {
            return false;
        }
        let same = known.is_some_and(|known| known.uid == meta.uid && known.generation == meta.generation);
        self.written.insert(
            key.clone(),
            Written {
                uid: meta.uid.clone(),
                version: meta.version,
                generation: meta.generation,
                status,
            },
        );
        // The generation grows with every change of the spec (and of nothing else, if the kind has a status).
        if same && meta.generation > 0 {
            return false;
        }
        self.note_common(kind);
        match kind {
            Kind::GatewayClass => {
                let controller = spec(object)["controllerName"].as_str().unwrap_or_default();
                self.classes.insert(name, (meta, controller.to_owned()));
            }
            Kind::Gateway => {
                self.gateways.insert(name, gateway(object, meta));
            }
            kind if Kind::ROUTES.contains(&kind) => {
                self.routes.insert(key, Arc::new(Route::read(kind, object)));
            }
            Kind::ReferenceGrant => {
                // One that cannot be read permits nothing.
                match read(spec(object), "spec") {
                    Ok(grant) => drop(self.grants.insert(name, grant)),
                    Err(why) => {
                        tracing::warn!("ReferenceGrant {name} permits nothing: {why}");
                        self.grants.remove(&name);
                    }
                }
            }
            Kind::Backend => drop(self.backends.insert(name, policies::backend(object))),
            Kind::HttpRouteFilter => {
                let extension =
                    read::<HttpRouteFilterSpec>(spec(object), "spec").and_then(|spec| Extension::new(&spec));
                self.filters.insert(name, extension);
            }
            Kind::SecurityPolicy => {
                let policy = policies::security(object, self.security.get(&name));
                self.security.insert(name, policy);
            }
            Kind::BackendTrafficPolicy => drop(self.traffic.insert(name, policies::traffic(object))),
            Kind::ClientTrafficPolicy => drop(self.clients.insert(name, policies::client(object))),
            _ => {}
        }
        true
    }

    fn note_common(&mut self, kind: Kind) {
        if matches!(kind, Kind::ReferenceGrant | Kind::Backend | Kind::HttpRouteFilter) {
            self.common += 1;
        }
    }

    /// Takes the labels of a namespace in. Whether the table may differ.
    pub(crate) fn apply_namespace(&mut self, name: &str, labels: Option<BTreeMap<String, String>>) -> bool {
        let changed = self.namespaces.get(name) != labels.as_ref();
        match labels {
            Some(labels) => drop(self.namespaces.insert(name.to_owned(), labels)),
            None => drop(self.namespaces.remove(name)),
        }
        if changed {
            self.common += u64::from(self.looked_at.namespaces);
        }
        changed && self.looked_at.namespaces
    }

    /// Forgets an object.
    pub(crate) fn remove(&mut self, kind: Kind, name: &Name) -> bool {
        let key = (kind, name.clone());
        self.written.remove(&key);
        self.note_common(kind);
        match kind {
            Kind::GatewayClass => self.classes.remove(name).is_some(),
            Kind::Gateway => self.gateways.remove(name).is_some(),
            Kind::ReferenceGrant => self.grants.remove(name).is_some(),
            Kind::Backend => self.backends.remove(name).is_some(),
            Kind::HttpRouteFilter => self.filters.remove(name).is_some(),
            Kind::SecurityPolicy => self.security.remove(name).is_some(),
            Kind::BackendTrafficPolicy => self.traffic.remove(name).is_some(),
            Kind::ClientTrafficPolicy => self.clients.remove(name).is_some(),
            _ => self.routes.remove(&key).is_some(),
        }
    }

    /// The names that are known of a kind.
    pub(crate) fn names(&self, kind: Kind) -> Vec<Name> {
        self.written
            .keys()
            .filter(|(of, _)| *of == kind)
            .map(|(_, name)| name.clone())
            .collect()
    }

    /// Takes a Service in. Whether what routes know of it changed; its endpoints change without that.
    pub(crate) fn apply_service(&mut self, service: &Service) -> bool {
        let name = name_of(&service.metadata);
        let spec = service.spec.as_ref();
        let before = self.services.remove(&name);
        let known = |number: u16, protocol: Protocol, port: &str| {
            let ports = before
                .as_ref()
                .map(|entry| entry.ports.as_slice())
                .unwrap_or_default();
            let same = |p: &&ServicePort| p.number == number && p.protocol == protocol && p.name == port;
            ports.iter().find(same).map(|p| Arc::clone(&p.endpoints))
        };
        let mut changed = false;
        let ports: Vec<ServicePort> = spec
            .and_then(|spec| spec.ports.as_ref())
            .into_iter()
            .flatten()
            .filter_map(|port| {
                let number = u16::try_from(port.port).ok()?;
                let protocol = match port.app_protocol.as_deref() {
                    Some("kubernetes.io/h2c" | "grpc") => Protocol::Http2,
                    _ => Protocol::Http1,
                };
                let port_name = port.name.clone().unwrap_or_default();
                let endpoints = known(number, protocol, &port_name).unwrap_or_else(|| {
                    changed = true;
                    Arc::default()
                });
                Some(ServicePort {
                    number,
                    name: port_name,
                    protocol,
                    endpoints,
                })
            })
            .collect();
        let problem = spec
            .filter(|spec| spec.type_.as_deref() == Some("ExternalName"))
            .map(|_| "a Service of type ExternalName has no endpoints: use a Backend");
        changed |= before
            .as_ref()
            .is_none_or(|before| before.ports.len() != ports.len() || before.problem != problem);
        self.versions += 1;
        let version = match &before {
            Some(before) if !changed => before.version,
            _ => self.versions,
        };
        let entry = ServiceEntry {
            version,
            ports,
            problem,
        };
        self.services.insert(name.clone(), entry);
        self.refresh(&name);
        changed
    }

    pub(crate) fn remove_service(&mut self, name: &Name) -> bool {
        match self.services.remove(name) {
            None => false,
            Some(entry) => {
                // Tables of before may still lead to it for a moment.
                for port in entry.ports {
                    port.endpoints.set(&name.namespace, &[]);
                }
                true
            }
        }
    }

    /// Takes the endpoints of a Service in. Tables see them at once.
    pub(crate) fn apply_slice(&mut self, slice: &EndpointSlice) {
        let Some(service) = service_of(slice) else {
            return;
        };
        let name = slice.metadata.name.clone().unwrap_or_default();
        let ports = slice.ports.iter().flatten().filter_map(|port| {
            let number = u16::try_from(port.port?).ok()?;
            Some((port.name.clone().unwrap_or_default(), number))
        });
        let endpoints = slice.endpoints.iter().flatten().flat_map(|endpoint| {
            let conditions = endpoint.conditions.as_ref();
            // Nothing said is ready; what is not ready may serve on while it ends (KEP-1669).
            let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
            let serving = conditions.and_then(|c| c.serving).unwrap_or(ready);
            let readiness = match (ready, serving) {
                (true, _) => Readiness::Ready,
                (false, true) => Readiness::Leaving,
                (false, false) => Readiness::No,
            };
            let addresses = endpoint.addresses.iter();
            addresses.filter_map(move |address| Some((address.parse().ok()?, readiness)))
        });
        let entry = Slice {
            ports: ports.collect(),
            endpoints: endpoints.collect(),
        };
        self.slices
            .entry(service.clone())
            .or_default()
            .insert(name, entry);
        self.refresh(&service);
    }

    pub(crate) fn remove_slice(&mut self, slice: &EndpointSlice) {
        let Some(service) = service_of(slice) else {
            return;
        };
        if let Some(slices) = self.slices.get_mut(&service) {
            slices.remove(slice.metadata.name.as_deref().unwrap_or_default());
            if slices.is_empty() {
                self.slices.remove(&service);
            }
        }
        self.refresh(&service);
    }

    /// The slices that are known, by Service.
    pub(crate) fn slice_names(&self) -> Vec<(Name, String)> {
        let each = |(service, slices): (&Name, &BTreeMap<String, Slice>)| {
            slices
                .keys()
                .map(|name| (service.clone(), name.clone()))
                .collect::<Vec<_>>()
        };
        self.slices.iter().flat_map(each).collect()
    }

    pub(crate) fn remove_slice_by_name(&mut self, service: &Name, name: &str) {
        if let Some(slices) = self.slices.get_mut(service) {
            slices.remove(name);
        }
        self.refresh(service);
    }

    fn refresh(&self, service: &Name) {
        let Some(entry) = self.services.get(service) else {
            return;
        };
        let slices = self.slices.get(service);
        for port in &entry.ports {
            let of = |wanted: Readiness| {
                let mut found: Vec<SocketAddr> = slices
                    .into_iter()
                    .flat_map(BTreeMap::values)
                    .flat_map(|slice| {
                        let number = slice.ports.iter().find(|(name, _)| *name == port.name);
                        number.into_iter().flat_map(move |(_, number)| {
                            let fitting = slice
                                .endpoints
                                .iter()
                                .filter(move |(_, readiness)| *readiness == wanted);
                            fitting.map(move |(ip, _)| SocketAddr::new(*ip, *number))
                        })
                    })
                    .collect();
                found.sort();
                found.dedup();
                found
            };
            let mut addresses = of(Readiness::Ready);
            if addresses.is_empty() {
                addresses = of(Readiness::Leaving);
            }
            port.endpoints.set(&service.namespace, &addresses);
        }
    }

    /// Takes a Secret in. Whether its data changed.
    pub(crate) fn apply_secret(&mut self, secret: &Secret) -> bool {
        let data: BTreeMap<String, Vec<u8>> = secret
            .data
            .iter()
            .flatten()
            .map(|(key, value)| (key.clone(), value.0.clone()))
            .collect();
        let name = name_of(&secret.metadata);
        if self.secrets.get(&name).is_some_and(|known| **known == data) {
            return false;
        }
        self.secrets.insert(name, Arc::new(data));
        true
    }

    /// Whether a kind in a namespace may refer to an object of another one (Gateway API, `ReferenceGrant`).
    pub(crate) fn permits(&self, from: (&str, &str, &str), to: (&str, &str, &Name)) -> bool {
        let (group, kind, namespace) = from;
        let (to_group, to_kind, target) = to;
        if namespace == &*target.namespace {
            return true;
        }
        self.grants
            .iter()
            .filter(|(name, _)| name.namespace == target.namespace)
            .any(|(_, grant)| {
                let from = grant
                    .from
                    .iter()
                    .any(|f| f.group == group && f.kind == kind && f.namespace == namespace);
                let to = grant.to.iter().any(|t| {
                    t.group == to_group
                        && t.kind == to_kind
                        && t.name.as_ref().is_none_or(|n| **n == *target.name)
                });
                from && to
            })
    }
}

/// Name of an object of a built-in kind.
pub(crate) fn name_of(meta: &kube::core::ObjectMeta) -> Name {
    Name::new(
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default(),
    )
}

fn service_of(slice: &EndpointSlice) -> Option<Name> {
    let labels = slice.metadata.labels.as_ref()?;
    let service = labels.get("kubernetes.io/service-name")?;
    Some(Name::new(
        slice.metadata.namespace.as_deref().unwrap_or_default(),
        service,
    ))
}

fn gateway(object: &DynamicObject, meta: Meta) -> Gateway {
    let (class, values, problem) = match read::<GatewaySpec>(spec(object), "spec") {
        Ok(spec) => (spec.gateway_class_name, spec.listeners, None),
        Err(why) => (String::new(), Vec::new(), Some(why)),
    };
    let listeners = values.iter().enumerate().map(|(i, value)| {
        let name = value["name"].as_str().unwrap_or_default().to_owned();
        (name, read(value, &format!("spec.listeners[{i}]")))
    });
    Gateway {
        meta,
        class,
        listeners: listeners.collect(),
        problem,
    }
}
