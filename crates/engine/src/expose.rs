//! Exposure: which endpoints a component has, from where each may be reached, under which address, guarded by what.
//!
//! Nothing is reachable from outside the cell unless somebody said so: an API's `exposeLevels`, an endpoint's
//! `visibility`, a web application's nature, or an `Endpoint` that a developer wrote. Each level remembers who said it.

use std::collections::{BTreeMap, BTreeSet};

use choreo_api::{
    conditions::reasons,
    names,
    v1alpha1::{
        APIClassSpec, ApiPolicy, DeployableArtifactSpec, Endpoint, EndpointPolicy, FrozenWebApplication,
        PolicySet, WorkloadTemplate,
        common::{DEFAULT_CLASS, EndpointAccess, EndpointAddresses, EndpointType, ExposeLevel},
    },
};
use kube::ResourceExt as _;

use crate::{
    address,
    binding::{Binding, head},
    place::Place,
    problem::{Problem, Problems, quoted_list},
    world::{Kind, ObjectRef, World, is_default_track},
};

/// How requests find an endpoint at a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Routing {
    /// By the environment's host and a path of the component's own.
    Path,
    /// By a host of the component's own.
    Host,
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
    /// The levels beyond the project, and the declaration of each.
    pub levels: BTreeMap<ExposeLevel, String>,
    /// How requests find it.
    pub routing: Routing,
    /// The API class that guards it.
    pub class: Option<String>,
    /// What guards it at each level beyond the project.
    pub policies: BTreeMap<ExposeLevel, ApiPolicy>,
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
        if let Some(web) = &self.source.web_application {
            self.add_web_application(web, &mut all, &mut problems);
        }
        self.add_endpoints(world, &mut all, &mut problems);
        self.on_demand(world, &mut all);
        for exposure in all.values_mut() {
            self.guard(exposure);
        }
        self.check(&all, &mut problems);
        problems.or_ok(all.into_values().collect())
    }

    fn add_workload(&self, all: &mut BTreeMap<String, Exposure>, problems: &mut Problems) {
        for (name, endpoint) in &self.workload.endpoints {
            let field = format!("workload endpoints[{name}]");
            let Some(port) = port(endpoint.port) else {
                problems.invalid(format!("{field}.port: {} is not a port", endpoint.port));
                continue;
            };
            let mut levels = BTreeMap::new();
            if let Some(visibility) = endpoint.visibility {
                insert_level(&mut levels, visibility.into(), || format!("{field}.visibility"));
            }
            let base_path = base_path(
                endpoint.base_path.as_deref(),
                &format!("{field}.basePath"),
                problems,
            );
            let class = (!levels.is_empty()).then(|| DEFAULT_CLASS.to_owned());
            all.insert(
                name.clone(),
                Exposure {
                    name: name.clone(),
                    type_: endpoint.type_,
                    port,
                    base_path,
                    levels,
                    routing: routing(endpoint.type_),
                    class,
                    policies: BTreeMap::new(),
                },
            );
        }
    }

    fn add_service(&self, all: &mut BTreeMap<String, Exposure>, problems: &mut Problems) {
        let ports: BTreeSet<u16> = all.values().map(|e| e.port).collect();
        for (name, api) in self.source.service.iter().flat_map(|s| &s.apis) {
            let field = format!("service apis[{name}]");
            let Some(exposure) = api.exposure() else {
                if !all.contains_key(name) {
                    problems.invalid(format!(
                        "{field}: says neither rest, http nor grpc, and the workload has no endpoint {name:?}: give its backend.port"
                    ));
                }
                continue;
            };
            let Some(port) = port(exposure.backend.port).filter(|p| ports.contains(p)) else {
                let known: Vec<String> = ports.iter().map(ToString::to_string).collect();
                problems.invalid(format!(
                    "{field}.backend.port: {} is not a port of an endpoint of the workload (those are {})",
                    exposure.backend.port,
                    quoted_list(known.iter().map(String::as_str)),
                ));
                continue;
            };
            let mut levels = BTreeMap::new();
            for level in api.expose_levels() {
                insert_level(&mut levels, level, || format!("{field}.exposeLevels[{level:?}]"));
            }
            // An endpoint of the same name is the same thing; its own visibility adds to the API's.
            let same = all.get(name).filter(|e| e.port == port);
            for (level, declared_by) in same.into_iter().flat_map(|e| &e.levels) {
                levels.entry(*level).or_insert_with(|| declared_by.clone());
            }
            let written = exposure.backend.base_path.as_deref();
            let base_path = match (written, same) {
                (None, Some(same)) => same.base_path.clone(),
                _ => base_path(written, &format!("{field}.backend.basePath"), problems),
            };
            all.insert(
                name.clone(),
                Exposure {
                    name: name.clone(),
                    type_: api.type_,
                    port,
                    base_path,
                    levels,
                    routing: routing(api.type_),
                    class: Some(api.class_name.clone()),
                    policies: BTreeMap::new(),
                },
            );
        }
    }

    /// A web application has a host of its own. Unless it says otherwise it is public: that is what its type means.
    fn add_web_application(
        &self,
        web: &FrozenWebApplication,
        all: &mut BTreeMap<String, Exposure>,
        problems: &mut Problems,
    ) {
        let candidates: Vec<&str> = all
            .values()
            .filter(|e| e.type_.is_http() && e.type_ != EndpointType::GRPC)
            .map(|e| e.name.as_str())
            .collect();
        let declared: Vec<&str> = candidates
            .iter()
            .copied()
            .filter(|name| all.get(*name).is_some_and(|e| !e.levels.is_empty()))
            .collect();
        let name = match (candidates.as_slice(), declared.as_slice()) {
            ([], _) => {
                problems.invalid(
                    "workload endpoints: a web application needs an endpoint of type HTTP; add it with the port that the container listens on",
                );
                return;
            }
            ([one], _) | (_, [one]) => (*one).to_owned(),
            _ => {
                problems.invalid(format!(
                    "workload endpoints: {} could all be the web application; give exactly one of them a visibility",
                    quoted_list(candidates)
                ));
                return;
            }
        };
        let Some(exposure) = all.get_mut(&name) else {
            return;
        };
        exposure.routing = Routing::Host;
        if web.expose_levels.is_empty() && exposure.levels.is_empty() {
            insert_level(&mut exposure.levels, ExposeLevel::Public, || {
                "component type WebApplication".to_owned()
            });
        }
        for level in &web.expose_levels {
            insert_level(&mut exposure.levels, *level, || {
                format!("webApplication exposeLevels[{level:?}]")
            });
        }
    }

    /// `Endpoint` objects that a developer wrote add an exposure in every environment.
    fn add_endpoints(&self, world: &World, all: &mut BTreeMap<String, Exposure>, problems: &mut Problems) {
        let component = ObjectRef::new(Kind::Component, &self.place.organization, self.component);
        for endpoint in world.referring::<Endpoint>(&component) {
            if is_derived(endpoint) || endpoint.metadata.deletion_timestamp.is_some() {
                continue;
            }
            let spec = &endpoint.spec;
            let here = spec
                .environment
                .as_ref()
                .is_none_or(|e| *e == self.place.environment);
            if !here
                || spec.track.as_deref().unwrap_or_default() != self.track && !is_default_track(self.track)
            {
                continue;
            }
            let of = format!("Endpoint {:?}", endpoint.name_any());
            if spec.backend_ref.target.is_some() {
                problems.push(Problem::error(
                    reasons::NOT_SUPPORTED,
                    format!(
                        "{of} spec.backendRef.target: servers outside the platform cannot be exposed yet"
                    ),
                ));
                continue;
            }
            let by_port = |port: u16| all.values().find(|e| e.port == port).map(|e| e.name.clone());
            let wanted = spec.backend_ref.port().and_then(port);
            let name = match (&spec.endpoint_name, wanted) {
                (Some(name), _) => Some(name.clone()).filter(|n| all.contains_key(n)),
                (None, Some(port)) => by_port(port),
                (None, None) if all.len() == 1 => all.keys().next().cloned(),
                (None, None) => None,
            };
            let Some(base) = name.and_then(|n| all.get(&n)) else {
                problems.invalid(format!(
                    "{of} spec.backendRef: the workload of component {:?} has no such endpoint or port (it has {})",
                    self.component,
                    quoted_list(all.values().map(|e| e.name.as_str())),
                ));
                continue;
            };
            let mut exposure = base.clone();
            if let Some(path) = &spec.backend_ref.base_path {
                exposure.base_path =
                    base_path(Some(path), &format!("{of} spec.backendRef.basePath"), problems);
            }
            exposure.type_ = spec.endpoint_type().unwrap_or(exposure.type_);
            for level in spec.levels() {
                insert_level(&mut exposure.levels, level, || of.clone());
            }
            let network = spec.network_visibilities.as_ref();
            for level in [ExposeLevel::Organization, ExposeLevel::Public] {
                let own = match level {
                    ExposeLevel::Public => network.and_then(|n| n.public.as_ref()),
                    _ => network.and_then(|n| n.organization.as_ref()),
                };
                let all_policies = spec.policies.iter().chain(own.iter().flat_map(|l| &l.policies));
                let mut policy = ApiPolicy::default();
                let mut any = false;
                for written in all_policies {
                    any = true;
                    if let Err(problem) = add_policy(&mut policy, written, &of) {
                        problems.push(problem);
                    }
                }
                if any {
                    exposure.policies.insert(level, policy);
                }
            }
            all.insert(exposure.name.clone(), exposure);
        }
    }

    /// A public endpoint may be called by other projects, and they come through the organization gateway. That way in is
    /// opened by the connection that asks for it, not by default.
    fn on_demand(&self, world: &World, all: &mut BTreeMap<String, Exposure>) {
        let only_public = |e: &Exposure| {
            e.levels.contains_key(&ExposeLevel::Public) && !e.levels.contains_key(&ExposeLevel::Organization)
        };
        if !is_default_track(self.track) || !all.values().any(only_public) {
            return;
        }
        for consumer in consumers(
            world,
            &self.place.organization,
            self.component,
            &self.place.environment,
        ) {
            if consumer.owner.project_name == self.place.project {
                continue;
            }
            let Ok(source) = consumer.source(world) else {
                continue;
            };
            for (name, connection) in source.workload.iter().flat_map(|w| &w.connections) {
                if crate::world::target_component(connection) != Some(self.component) {
                    continue;
                }
                let wanted = connection.params.get("endpoint");
                let endpoint = wanted
                    .cloned()
                    .or_else(|| (all.len() == 1).then(|| all.keys().next().cloned()).flatten());
                let Some(exposure) = endpoint.and_then(|e| all.get_mut(&e)).filter(|e| only_public(e)) else {
                    continue;
                };
                exposure.levels.insert(
                    ExposeLevel::Organization,
                    format!("{} connections[{name}]", consumer.reference),
                );
            }
        }
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
            let own = exposure.policies.remove(level);
            exposure
                .policies
                .insert(*level, ApiPolicy::at_level(Some(&of_class), own.as_ref()));
        }
    }

    /// What can only be seen when all endpoints are known.
    fn check(&self, all: &BTreeMap<String, Exposure>, problems: &mut Problems) {
        let mut routes: BTreeMap<(ExposeLevel, String, String), &str> = BTreeMap::new();
        for exposure in all.values() {
            for (level, declared_by) in &exposure.levels {
                if !exposure.type_.is_http() {
                    problems.push(Problem::error(
                        reasons::NOT_SUPPORTED,
                        format!(
                            "{declared_by}: endpoint {:?} is {:?}, which cannot be exposed beyond its project yet",
                            exposure.name, exposure.type_
                        ),
                    ));
                    continue;
                }
                let Some((host, path)) = self.host_and_path(exposure, *level) else {
                    problems.invalid(format!(
                        "{declared_by}: DataPlane {:?} has no spec.gateway, so nothing can be exposed at level {level:?}",
                        self.place.plane.name
                    ));
                    continue;
                };
                if let Some(other) = routes.insert((*level, host.clone(), path.clone()), &exposure.name) {
                    problems.invalid(format!(
                        "endpoints {other:?} and {:?} would both be {host}{path} at level {level:?}: give them different base paths",
                        exposure.name
                    ));
                }
            }
        }
    }

    /// Host and path of an endpoint at a gateway.
    pub fn host_and_path(&self, exposure: &Exposure, level: ExposeLevel) -> Option<(String, String)> {
        match exposure.routing {
            Routing::Host => Some((
                self.place.web_host(self.component, self.track, level)?,
                "/".to_owned(),
            )),
            Routing::Path => {
                let name = names::workload(self.component, self.track);
                let path = address::join_path([
                    self.place.project.as_str(),
                    name.as_str(),
                    exposure.base_path.as_str(),
                ]);
                Some((self.place.host(level)?, path))
            }
        }
    }

    /// The address of an endpoint at a level, as those see it who may call it from there.
    pub fn access(&self, exposure: &Exposure, level: ExposeLevel) -> Option<EndpointAccess> {
        if level == ExposeLevel::Project {
            let host = service_host(
                &names::workload(self.component, self.track),
                &self.place.namespace,
            );
            return Some(access(
                exposure.type_.scheme(),
                host,
                exposure.port,
                &exposure.base_path,
            ));
        }
        exposure.levels.contains_key(&level).then_some(())?;
        let (host, path) = self.host_and_path(exposure, level)?;
        let scheme = if exposure.type_ == EndpointType::Websocket {
            "wss"
        } else {
            "https"
        };
        Some(access(scheme, host, 443, &path))
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
    // A gRPC path is /<package.Service>/<Method>: it cannot carry a prefix, so gRPC needs a host of its own.
    if type_ == EndpointType::GRPC {
        Routing::Host
    } else {
        Routing::Path
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

/// Translates a policy of an `Endpoint` object to that of an API class.
fn add_policy(policy: &mut ApiPolicy, written: &EndpointPolicy, of: &str) -> Result<(), Problem> {
    use choreo_api::v1alpha1::{Cors, RateLimit};
    let unsupported = |what: &str| {
        Err(Problem::error(
            reasons::NOT_SUPPORTED,
            format!(
                "{of} policy {:?}: {what} is not supported; name an APIClass in the component's Service instead",
                written.name
            ),
        ))
    };
    let Some(spec) = &written.policy_spec else {
        return unsupported("a policy without policySpec");
    };
    if let Some(cors) = &spec.cors {
        policy.cors = Some(Cors {
            allow_origins: cors.allow_origins.clone(),
            allow_methods: cors.allow_methods.clone(),
            allow_headers: cors.allow_headers.clone(),
            expose_headers: cors.expose_headers.clone(),
            max_age: cors.max_age,
            allow_credentials: cors.allow_credentials,
        });
        return Ok(());
    }
    if let Some(limit) = &spec.rate_limit {
        if limit.operation_level.is_some() {
            return unsupported("a rate limit for single operations");
        }
        let Some(limit) = &limit.api_level else {
            return unsupported("a rate limit without apiLevel");
        };
        let window = match limit.time_unit.to_ascii_lowercase().trim_end_matches('s') {
            "second" | "sec" | "1" => "1s",
            "minute" | "min" | "1m" => "1m",
            "hour" | "h" | "1h" => "1h",
            "day" | "d" | "1d" => "1d",
            _ => return unsupported(&format!("time unit {:?}", limit.time_unit)),
        };
        policy.rate_limit = Some(RateLimit {
            requests: limit.request_limit,
            window: window.to_owned(),
        });
        return Ok(());
    }
    if let Some(mediation) = &spec.mediation {
        policy.mediation = Some(mediation.clone());
        return Ok(());
    }
    unsupported(&format!("type {:?}", written.type_))
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

/// The bindings in an environment whose workload connects to a component, by kind and name.
pub(crate) fn consumers(world: &World, namespace: &str, component: &str, environment: &str) -> Vec<Binding> {
    let target = ObjectRef::new(Kind::Component, namespace, component);
    let mut found: BTreeSet<&ObjectRef> = BTreeSet::new();
    let is_one = |r: &&ObjectRef| {
        head(world, r).is_some_and(|h| h.environment == environment && h.owner.component_name != component)
    };
    for referrer in world.referrers(&target) {
        if referrer.kind == Kind::DeployableArtifact {
            found.extend(world.referrers(referrer).filter(is_one));
        } else {
            found.extend(Some(referrer).filter(is_one));
        }
    }
    found
        .into_iter()
        .filter_map(|r| Binding::find(world, r))
        .collect()
}
