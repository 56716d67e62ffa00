//! Exposure: which endpoints a component has, from where each may be reached, under which address, guarded by what.
//!
//! Nothing is reachable from outside the cell unless somebody said so: an API's `exposeLevels`, an endpoint's
//! `visibility`, a web application's nature, or an `Endpoint` that a developer wrote. Each level remembers who said it.

use std::collections::BTreeMap;

use choreo_api::{
    names,
    v1alpha1::{
        APIClassSpec, ApiPolicy, DeployableArtifactSpec, Endpoint, PolicySet, WorkloadTemplate,
        common::{EndpointAccess, EndpointAddresses, EndpointType, ExposeLevel},
    },
};
use kube::ResourceExt as _;

use crate::{
    address::{self, External},
    operations::Described,
    place::Place,
    problem::Problems,
    world::World,
};

mod declared;
mod demand;
mod door;
mod written;

pub use demand::Lane;
pub use door::Door;

/// How requests find an endpoint at a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Routing {
    /// By the environment's host and a path of the component's own.
    Path,
    /// By a host of the component's own.
    Host,
    /// By a listener of its own.
    Listener,
}

/// What answers the requests of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upstream {
    /// The component's own pods.
    Own,
    /// Another component of the same cell, by its Service.
    Sibling {
        /// The component.
        component: String,
        /// Its track.
        track: String,
    },
    /// A server outside the platform.
    External(External),
}

/// One endpoint of a component.
#[derive(Debug, Clone, PartialEq)]
pub struct Exposure {
    /// Its name: the API's or the workload endpoint's.
    pub name: String,
    /// Its protocol.
    pub type_: EndpointType,
    /// The port that the component listens on.
    pub port: u16,
    /// The path in front of everything that it serves; `/` for none.
    pub base_path: String,
    /// What answers.
    pub upstream: Upstream,
    /// The levels beyond the project, and the declaration of each.
    pub levels: BTreeMap<ExposeLevel, String>,
    /// How requests find it.
    pub routing: Routing,
    /// The API class that guards it.
    pub class: Option<String>,
    /// What guards it at each level beyond the project.
    pub guards: BTreeMap<ExposeLevel, Guard>,
    /// What its schema says of its requests.
    pub described: Described,
    /// What its schema says that cannot be read.
    pub unreadable: Option<String>,
    /// Ways in for single consumers whose connections have policies.
    pub lanes: Vec<Lane>,
}

impl Exposure {
    /// Whether requests or connections are limited in total at a level.
    pub fn counts_at(&self, level: ExposeLevel) -> bool {
        let Some(Guard { policy, limits, .. }) = self.guards.get(&level) else {
            return false;
        };
        let breaker = policy.circuit_breaker.as_ref().is_some_and(|b| b.enabled);
        policy.rate_limit.is_some() || !limits.is_empty() || breaker
    }
}

/// What guards an endpoint at one level: the class's policies, and what only an `Endpoint` object can say.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Guard {
    /// The policies.
    pub policy: ApiPolicy,
    /// Further Secrets with API keys.
    pub more_keys: Vec<String>,
    /// Operations that demand scopes of their own.
    pub operations: Vec<ScopedOperation>,
    /// Limits of single operations.
    pub limits: Vec<OperationLimit>,
}

impl Guard {
    /// The policies of a class.
    pub fn of(policy: ApiPolicy) -> Self {
        Self {
            policy,
            ..Self::default()
        }
    }

    /// This over the policies of a class.
    #[must_use]
    fn over(self, class: &ApiPolicy) -> Self {
        Self {
            policy: ApiPolicy::at_level(Some(class), Some(&self.policy)),
            ..self
        }
    }
}

/// An operation that demands scopes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopedOperation {
    /// Its name, unique in its guard.
    pub name: String,
    /// Its methods of HTTP.
    pub methods: Vec<String>,
    /// Its path below the base path.
    pub path: String,
    /// The scopes, all of which a token must have.
    pub scopes: Vec<String>,
}

/// A limit of one operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationLimit {
    /// Its method of HTTP.
    pub method: String,
    /// Its path below the base path.
    pub path: String,
    /// How many requests.
    pub requests: i64,
    /// In which time.
    pub window: String,
}

/// Everything that decides about a component's exposure in an environment.
pub struct Exposed<'a> {
    /// Where it runs.
    pub place: &'a Place,
    /// The component.
    pub component: &'a str,
    /// The track.
    pub track: &'a str,
    /// What runs.
    pub source: &'a DeployableArtifactSpec,
    /// Its workload, with overrides applied.
    pub workload: &'a WorkloadTemplate,
}

/// Where a port is `u16`: Kubernetes bounds it to 1..=65535, the schema too.
fn port(number: i32) -> Option<u16> {
    u16::try_from(number).ok().filter(|p| *p > 0)
}

impl Exposed<'_> {
    /// All endpoints of the component, by name.
    ///
    /// # Errors
    /// Everything that is wrong with a declaration.
    pub fn exposures(&self, world: &World) -> Result<Vec<Exposure>, Problems> {
        let mut problems = Problems::new();
        let mut all: BTreeMap<String, Exposure> = BTreeMap::new();
        self.add_workload(&mut all, &mut problems);
        self.add_service(&mut all, &mut problems);
        self.add_api(world, &mut all, &mut problems);
        if let Some(web) = &self.source.web_application {
            self.add_web_application(web, &mut all, &mut problems);
        }
        self.add_endpoints(world, &mut all, &mut problems);
        self.on_demand(world, &mut all);
        for exposure in all.values_mut() {
            self.guard(exposure);
            // The gateway counts for each route: on a lane of its own a consumer would have the limit a second time.
            if exposure.counts_at(ExposeLevel::Organization) {
                exposure.lanes.clear();
            }
        }
        self.check(world, &all, &mut problems);
        problems.or_ok(all.into_values().collect())
    }

    /// Puts the class's policies under those that an `Endpoint` object gave.
    fn guard(&self, exposure: &mut Exposure) {
        let Some(class) = exposure
            .class
            .as_ref()
            .and_then(|c| self.source.api_classes.get(c))
        else {
            return;
        };
        for level in exposure.levels.keys() {
            let of_class = policy_at(class, exposure.type_, *level);
            let own = exposure.guards.remove(level).unwrap_or_default();
            exposure.guards.insert(*level, own.over(&of_class));
        }
    }

    /// What can only be seen when all endpoints are known.
    fn check(&self, world: &World, all: &BTreeMap<String, Exposure>, problems: &mut Problems) {
        let mut routes: BTreeMap<(ExposeLevel, String, String), &str> = BTreeMap::new();
        for exposure in all.values() {
            for (level, declared_by) in &exposure.levels {
                let door = match self.door(exposure, *level) {
                    Ok(door) => door,
                    Err(why) => {
                        problems.invalid(format!("{declared_by}: {why}"));
                        continue;
                    }
                };
                if let Some(holder) = self.holder_of(world, exposure, *level, &door) {
                    problems.invalid(format!(
                        "{declared_by}: listener {:?} of Gateway {:?} belongs to {holder} already, and it can lead to one endpoint only: add a listener to DataPlane {:?} spec.gateway",
                        door.section.as_deref().unwrap_or_default(),
                        door.gateway.name,
                        self.place.plane.name
                    ));
                    continue;
                }
                // Endpoints of one host can be told apart by their services, and only then.
                for (host, path) in door.keys(exposure) {
                    if let Some(other) = routes.insert((*level, host.clone(), path.clone()), &exposure.name) {
                        let advice = match exposure.routing {
                            Routing::Path => "give them different base paths",
                            Routing::Host => "expose one of them, or make them components of their own",
                            Routing::Listener => "add a listener to the data plane's gateway",
                        };
                        problems.invalid(format!(
                            "endpoints {other:?} and {:?} would both be {host}{path} at level {level:?}: {advice}",
                            exposure.name
                        ));
                    }
                }
            }
        }
    }

    /// The address of an endpoint at a level, as those see it who may call it from there.
    pub fn access(&self, exposure: &Exposure, level: ExposeLevel) -> Option<EndpointAccess> {
        if level == ExposeLevel::Project {
            let service = match &exposure.upstream {
                Upstream::Own => names::workload(self.component, self.track),
                Upstream::Sibling { component, track } => names::workload(component, track),
                // Only a gateway leads there.
                Upstream::External(_) => return None,
            };
            let host = service_host(&service, &self.place.namespace);
            return Some(access(
                exposure.type_.scheme(),
                host,
                exposure.port,
                &exposure.base_path,
            ));
        }
        exposure.levels.contains_key(&level).then_some(())?;
        let door = self.door(exposure, level).ok()?;
        Some(access(door.scheme, door.host, door.port, &door.path))
    }

    /// The address of an endpoint for one consumer, whose connection has policies that the organization's gateway enforces.
    pub fn lane_access(&self, exposure: &Exposure, lane: &Lane) -> Option<EndpointAccess> {
        let door = self.door(exposure, ExposeLevel::Organization).ok()?;
        Some(access(
            door.scheme,
            door.host.clone(),
            door.port,
            &lane.path(&door),
        ))
    }

    /// All addresses of all endpoints.
    pub fn addresses(&self, exposures: &[Exposure]) -> Vec<EndpointAddresses> {
        let of = |exposure: &Exposure| EndpointAddresses {
            name: exposure.name.clone(),
            type_: exposure.type_,
            project: self.access(exposure, ExposeLevel::Project),
            organization: self.access(exposure, ExposeLevel::Organization),
            public: self.access(exposure, ExposeLevel::Public),
        };
        exposures.iter().map(of).collect()
    }
}

/// The DNS name of a Service for every pod of its cluster. A short name would mean something else in another cell.
pub fn service_host(service: &str, namespace: &str) -> String {
    format!("{service}.{namespace}.svc.cluster.local")
}

fn access(scheme: &str, host: String, port: u16, path: &str) -> EndpointAccess {
    let uri = address::uri(scheme, &host, port, path);
    EndpointAccess {
        host,
        port: i32::from(port),
        scheme: Some(scheme.to_owned()),
        base_path: (path != "/").then(|| path.to_owned()),
        uri: Some(uri),
    }
}

fn routing(type_: EndpointType) -> Routing {
    match type_ {
        // A gRPC path is /<package.Service>/<Method>: it cannot carry a prefix, so gRPC needs a host of its own. All that
        // can be seen of a TLS connection is the host, too.
        EndpointType::GRPC | EndpointType::TLS => Routing::Host,
        EndpointType::TCP | EndpointType::UDP => Routing::Listener,
        _ => Routing::Path,
    }
}

fn insert_level(
    levels: &mut BTreeMap<ExposeLevel, String>,
    level: ExposeLevel,
    declared_by: impl FnOnce() -> String,
) {
    if level != ExposeLevel::Project {
        levels.entry(level).or_insert_with(declared_by);
    }
}

fn base_path(written: Option<&str>, field: &str, problems: &mut Problems) -> String {
    let written = written.unwrap_or_default();
    if let Some(problem) = address::base_path_problem(written) {
        problems.invalid(format!("{field}: {problem}"));
    }
    address::join_path([written])
}

fn policy_at(class: &APIClassSpec, type_: EndpointType, level: ExposeLevel) -> ApiPolicy {
    let set: Option<&PolicySet> = if type_ == EndpointType::GRPC {
        class.grpc_policy.as_ref()
    } else {
        class.rest_policy.as_ref()
    };
    let of_level = set.and_then(|s| match level {
        ExposeLevel::Public => s.public.as_ref(),
        ExposeLevel::Organization => s.organization.as_ref(),
        ExposeLevel::Project => None,
    });
    ApiPolicy::at_level(set.and_then(|s| s.defaults.as_ref()), of_level)
}

/// The component that an `Endpoint` object exposes.
pub(crate) fn component_of(endpoint: &Endpoint) -> Option<&str> {
    let spec = &endpoint.spec;
    spec.owner
        .as_ref()
        .map(|o| o.component_name.as_str())
        .or_else(|| spec.backend_ref.component_name())
        .or_else(|| {
            endpoint
                .metadata
                .labels
                .as_ref()?
                .get(choreo_api::labels::COMPONENT)
                .map(String::as_str)
        })
}

/// The name of the endpoint that an `Endpoint` object is, when it does not stand for one of the workload's.
pub(crate) fn own_name(endpoint: &Endpoint) -> Option<String> {
    let spec = &endpoint.spec;
    spec.backend_ref.target.as_ref()?;
    Some(spec.endpoint_name.clone().unwrap_or_else(|| endpoint.name_any()))
}

/// Whether the platform made this `Endpoint`: it is called what the platform would call it.
pub(crate) fn is_derived(endpoint: &Endpoint) -> bool {
    let spec = &endpoint.spec;
    let (Some(owner), Some(environment), Some(name)) = (&spec.owner, &spec.environment, &spec.endpoint_name)
    else {
        return false;
    };
    let track = spec.track.as_deref().unwrap_or_default();
    endpoint.name_any() == names::endpoint(&owner.component_name, track, environment, name)
}
