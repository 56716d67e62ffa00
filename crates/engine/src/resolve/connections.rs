//! Connections: from what a workload needs to addresses, variables, and the ways out of the cell.
//!
//! An address depends on names and declarations, never on whether the target runs: two components that need each other
//! both come up.

use std::{borrow::Cow, collections::BTreeMap};

use choreo_api::{
    conditions::reasons,
    v1alpha1::{
        Component, Connection, ConnectionPolicy, ConnectionType, WorkloadTemplate,
        common::{DEFAULT_TRACK, EndpointAccess, ExposeLevel},
    },
};

use crate::{
    address::{self, External},
    binding::Binding,
    expose::Exposed,
    place::{Gateway, Place},
    problem::{Problem, Problems, quoted_list},
    render::policy::Transport,
    resolve::{
        managed::{self, Output},
        overrides,
    },
    template::{Template, Variables},
    world::{ObjectRef, World},
};

/// A variable that a connection puts into the containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Injected {
    /// Its name.
    pub name: String,
    /// Its value; empty for one that comes from a Secret.
    pub value: String,
    /// Name and key of the Secret in the cell that it comes from, if it does.
    pub secret: Option<(String, String)>,
    /// The connection that it comes from.
    pub connection: String,
}

/// A way out of the cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Egress {
    /// The connection that opens it.
    pub connection: String,
    /// Where it leads.
    pub to: EgressTo,
}

/// Where a way out of the cell leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EgressTo {
    /// To another project, through the organization's gateway.
    Gateway(Gateway),
    /// To a DNS name outside, on one port.
    Host(String, u16),
    /// To an address outside, on one port.
    Address(std::net::IpAddr, u16),
    /// To a managed resource in the same cell: the labels of its pods, and their ports.
    Resource(BTreeMap<String, String>, Vec<(u16, Transport)>),
}

/// Everything that a workload's connections amount to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Connections {
    /// The variables, by connection and in the order in which it lists them.
    pub variables: Vec<Injected>,
    /// What is known of each connection that is not secret, by its name: the variables of its templates.
    pub values: BTreeMap<String, BTreeMap<String, String>>,
    /// The ways out of the cell, by connection.
    pub egress: Vec<Egress>,
    /// What was declared and is not enforced.
    pub unenforced: Vec<String>,
}

/// Resolves all connections of a workload that runs in a place.
///
/// # Errors
/// Every connection whose target is missing or out of reach, and every mistake in a template.
pub fn resolve(
    world: &World,
    place: &Place,
    consumer: &ObjectRef,
    workload: &WorkloadTemplate,
) -> Result<Connections, Problems> {
    let mut problems = Problems::new();
    let mut connections = Connections::default();
    for (name, connection) in &workload.connections {
        let field = format!("workload connections[{name}]");
        let mut secrets = BTreeMap::new();
        let resolved = match connection.type_ {
            ConnectionType::Api => api(world, place, (consumer, name), connection, &field),
            ConnectionType::External => external(connection, &field),
            ConnectionType::Managed => managed_resource(world, place, name, connection, &field, &mut secrets),
        };
        let Some((variables, egress, enforcement)) = problems.take(resolved) else {
            continue;
        };
        if let (Some(policy), Enforcement::None(why)) = (&connection.policy, enforcement) {
            let parts = policy_parts(policy);
            if !parts.is_empty() {
                connections
                    .unenforced
                    .push(format!("{field}.policy: {} ({why})", parts.join(", ")));
            }
        }
        let known = variables
            .iter()
            .filter(|(name, _)| !secrets.contains_key(*name))
            .filter_map(|(name, value)| Some((name.clone(), value.as_ref().ok()?.clone())));
        connections.values.insert(name.clone(), known.collect());
        connections.egress.extend(egress.map(|to| Egress {
            connection: name.clone(),
            to,
        }));
        for (i, injected) in connection.inject.iter().flat_map(|i| &i.env).enumerate() {
            let value_field = format!("{field}.inject.env[{i}] ({})", injected.name);
            match Template::parse(&injected.value) {
                Err(error) => problems.invalid(format!("{value_field}: {error}")),
                Ok(template) => match template.render(&variables) {
                    Ok(value) => inject(&mut connections.variables, name, &injected.name, value, &secrets),
                    Err(errors) => errors
                        .iter()
                        .for_each(|e| problems.invalid(format!("{value_field}: {e}"))),
                },
            }
        }
    }
    check_doubles(workload, &connections, &mut problems);
    problems.or_ok(connections)
}

/// Adds a variable. One that is a secret value comes from its Secret; one that has a secret in it refers to a variable
/// before it that does, which the kubelet puts in: the value itself is nowhere but in the Secret and the container.
fn inject(
    variables: &mut Vec<Injected>,
    connection: &str,
    name: &str,
    value: String,
    secrets: &BTreeMap<String, SecretOutput>,
) {
    let from = |name: &str, secret: &SecretOutput| Injected {
        name: name.to_owned(),
        value: String::new(),
        secret: Some((secret.name.clone(), secret.key.clone())),
        connection: connection.to_owned(),
    };
    if let Some(secret) = secrets.values().find(|s| s.reference() == value) {
        variables.push(from(name, secret));
        return;
    }
    for secret in secrets.values().filter(|s| value.contains(&s.reference())) {
        if !variables.iter().any(|v| v.name == secret.variable) {
            variables.push(from(&secret.variable, secret));
        }
    }
    variables.push(Injected {
        name: name.to_owned(),
        value,
        secret: None,
        connection: connection.to_owned(),
    });
}

/// An output of a managed resource that must not be seen.
struct SecretOutput {
    /// Name of the Secret.
    name: String,
    /// Key in it.
    key: String,
    /// The variable through which other variables refer to it.
    variable: String,
}

impl SecretOutput {
    /// How a variable refers to it, as Kubernetes writes it.
    fn reference(&self) -> String {
        format!("$({})", self.variable)
    }
}

fn managed_resource(
    world: &World,
    place: &Place,
    name: &str,
    connection: &Connection,
    field: &str,
    secrets: &mut BTreeMap<String, SecretOutput>,
) -> Resolved {
    let Some((resource, type_)) = managed::target(connection) else {
        return Err(Problem::error(
            reasons::INVALID,
            format!("{field}.params.resourceRef: not given; name the managed resource"),
        )
        .into());
    };
    let found = managed::resolve(world, place, resource, type_).map_err(|problems| {
        let told = problems.into_iter().map(|p| Problem {
            message: format!("{field}: {}", p.message),
            ..p
        });
        told.collect::<Problems>()
    })?;
    let mut variables = Variables::new();
    for (output, value) in found.outputs {
        let value = match value {
            Output::Value(value) => value,
            Output::Secret(secret, key) => {
                let variable = format!("CHOREO_{name}_{output}")
                    .chars()
                    .map(|c| {
                        if c.is_ascii_alphanumeric() {
                            c.to_ascii_uppercase()
                        } else {
                            '_'
                        }
                    })
                    .collect();
                let secret = SecretOutput {
                    name: secret,
                    key,
                    variable,
                };
                let reference = secret.reference();
                secrets.insert(output.clone(), secret);
                reference
            }
        };
        variables.insert(output, Ok(value));
    }
    let why = "calls to a managed resource go straight to its pods";
    let way = EgressTo::Resource(found.selector, found.ports);
    Ok((variables, Some(way), Enforcement::None(why)))
}

/// A variable may have one origin only: which of two would win is not something to guess.
fn check_doubles(workload: &WorkloadTemplate, connections: &Connections, problems: &mut Problems) {
    let mut origin: BTreeMap<&str, &str> = BTreeMap::new();
    for injected in &connections.variables {
        if let Some(other) = origin.insert(&injected.name, &injected.connection) {
            problems.invalid(format!(
                "workload connections[{}].inject.env: variable {:?} is also set by connection {other:?}: rename one",
                injected.connection, injected.name
            ));
        }
        for (field, container, spec) in workload.all_containers() {
            if spec.env.iter().any(|e| e.key == injected.name) {
                problems.invalid(format!(
                    "workload connections[{}].inject.env: variable {:?} is also set by {field}[{container}].env: remove one",
                    injected.connection, injected.name
                ));
            }
        }
    }
}

type Resolved = Result<(Variables, Option<EgressTo>, Enforcement), Problems>;

/// Who sees to it that a connection's policy is followed.
enum Enforcement {
    /// The gateway that the calls go through.
    Gateway,
    /// Nobody, and why.
    None(&'static str),
}

/// What a connection's policy asks for, in words.
fn policy_parts(policy: &ConnectionPolicy) -> Vec<String> {
    let ConnectionPolicy {
        timeout,
        retries,
        circuit_breaker,
    } = policy;
    let mut parts = Vec::new();
    parts.extend(timeout.iter().map(|t| format!("timeout {t}")));
    parts.extend(retries.iter().map(|r| format!("retries {}", r.attempts)));
    parts.extend(circuit_breaker.iter().map(|_| "circuitBreaker".to_owned()));
    parts
}

fn api(
    world: &World,
    place: &Place,
    (consumer, name): (&ObjectRef, &str),
    connection: &Connection,
    field: &str,
) -> Resolved {
    let param = |name: &str| {
        connection
            .params
            .get(name)
            .map(String::as_str)
            .filter(|v| !v.is_empty())
    };
    let unresolved =
        |message: String| Problems::from(Problem::waiting(reasons::CONNECTION_UNRESOLVED, message));
    let Some(component) = param("componentName") else {
        return Err(Problem::error(
            reasons::INVALID,
            format!("{field}.params.componentName: not given; name the target component"),
        )
        .into());
    };
    let organization = &place.organization;
    let Some(object) = world.get::<Component>(organization, component) else {
        return Err(unresolved(format!(
            "{field}: Component {component:?} not found in namespace {organization:?}: create it, or correct params.componentName"
        )));
    };
    let project = &object.spec.owner.project_name;
    // A name alone means this project: what another project happens to call the same must not be reached by accident.
    let wanted = param("projectName").unwrap_or(&place.project);
    if wanted != project {
        let advice = match param("projectName") {
            Some(_) => String::new(),
            None => format!(": set params.projectName to {project:?} if that is meant"),
        };
        return Err(Problem::error(
            reasons::INVALID,
            format!("{field}.params.projectName: Component {component:?} belongs to project {project:?}, not to {wanted:?}{advice}"),
        )
        .into());
    }
    let track = param("track").unwrap_or(DEFAULT_TRACK);
    let bindings = Binding::of_component(world, organization, component);
    let Some(binding) = bindings
        .into_iter()
        .find(|b| b.environment == place.environment && b.track == track)
    else {
        return Err(unresolved(format!(
            "{field}: Component {component:?} is not deployed to environment {:?}: deploy or promote it there",
            place.environment
        )));
    };
    let not_ready = |problems: Problems| {
        unresolved(format!(
            "{field}: Component {component:?}: {}",
            problems.message()
        ))
    };
    let target_place = Place::find(world, organization, project, &place.environment).map_err(not_ready)?;
    let source = binding.source(world).map_err(not_ready)?;
    let none = WorkloadTemplate::default();
    let frozen = source.workload.as_ref().unwrap_or(&none);
    let workload = overrides::apply(frozen, &binding.overrides, "binding").unwrap_or(Cow::Borrowed(frozen));
    let target = Exposed {
        place: &target_place,
        component,
        track,
        source: &source,
        workload: &workload,
    };
    let exposures = target.exposures(world).map_err(not_ready)?;

    let names = || quoted_list(exposures.iter().map(|e| e.name.as_str()));
    let exposure = match param("endpoint") {
        Some(name) => exposures.iter().find(|e| e.name == name).ok_or_else(|| {
            unresolved(format!(
                "{field}.params.endpoint: Component {component:?} has no endpoint {name:?} in environment {:?} (it has {})",
                place.environment,
                names()
            ))
        })?,
        None => match exposures.as_slice() {
            [one] => one,
            _ => {
                return Err(Problem::error(
                    reasons::INVALID,
                    format!("{field}.params.endpoint: not given, and Component {component:?} has {}: name one", names()),
                )
                .into());
            }
        },
    };
    let inside = (*project == place.project)
        .then(|| target.access(exposure, ExposeLevel::Project))
        .flatten();
    if let Some(access) = inside {
        let why =
            "calls within a project go straight to the pods, and this data plane has no mesh between them";
        return Ok((variables(&access), None, Enforcement::None(why)));
    }
    let access = target.access(exposure, ExposeLevel::Organization).ok_or_else(|| {
        let who = if *project == place.project {
            "has no address inside its project, for it leads to a server outside"
        } else {
            "is not exposed to other projects"
        };
        unresolved(format!(
            "{field}: endpoint {:?} of Component {component:?} in project {project:?} {who}: expose it at level Organization or Public",
            exposure.name
        ))
    })?;
    let lane = exposure
        .lanes
        .iter()
        .find(|l| l.consumer == *consumer && l.connection == name);
    let (access, enforcement) = match lane {
        Some(lane) => (
            target.lane_access(exposure, lane).unwrap_or(access),
            Enforcement::Gateway,
        ),
        None if exposure.counts_at(ExposeLevel::Organization) => (
            access,
            Enforcement::None(
                "the endpoint's class limits requests or connections in total, which a route for this consumer alone would double",
            ),
        ),
        None => (
            access,
            Enforcement::None(
                "only calls of HTTP, which have a path, can be told apart by consumer at the gateway",
            ),
        ),
    };
    let gateway = place
        .plane
        .gateways
        .as_ref()
        .and_then(|g| g.of(ExposeLevel::Organization))
        .cloned();
    Ok((variables(&access), gateway.map(EgressTo::Gateway), enforcement))
}

fn variables(access: &EndpointAccess) -> Variables {
    let text = |value: &Option<String>| Ok(value.clone().unwrap_or_default());
    [
        ("url", text(&access.uri)),
        ("uri", text(&access.uri)),
        ("scheme", text(&access.scheme)),
        ("host", Ok(access.host.clone())),
        ("port", Ok(access.port.to_string())),
        ("basePath", text(&access.base_path)),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

fn external(connection: &Connection, field: &str) -> Resolved {
    let param = |name: &str| {
        connection
            .params
            .get(name)
            .map(String::as_str)
            .filter(|v| !v.is_empty())
    };
    let invalid = |message: String| Problems::from(Problem::error(reasons::INVALID, message));
    let target = if let Some(url) = param("url") {
        address::parse_external(url).map_err(|e| invalid(format!("{field}.params.url: {e}")))?
    } else {
        let host = param("host").ok_or_else(|| {
            invalid(format!(
                "{field}.params: give either url, or host and port, of the system outside"
            ))
        })?;
        let port = param("port")
            .and_then(|p| p.parse().ok())
            .filter(|p| *p > 0)
            .ok_or_else(|| {
                invalid(format!(
                    "{field}.params.port: expected a number from 1 to 65535, found {:?}",
                    param("port").unwrap_or_default()
                ))
            })?;
        External {
            url: None,
            scheme: param("scheme").map(str::to_owned),
            host: host.to_owned(),
            port,
            path: address::join_path([param("basePath").unwrap_or_default()]),
        }
    };
    let no_scheme = || "the connection is given by host and port; give url, or params.scheme".to_owned();
    let scheme = target.scheme.clone().ok_or_else(no_scheme);
    let uri = match (&target.url, &target.scheme) {
        (Some(url), _) => url.clone(),
        (None, scheme) => address::uri(
            scheme.as_deref().unwrap_or_default(),
            &target.host,
            target.port,
            &target.path,
        ),
    };
    let variables = [
        ("url", Ok(uri.clone())),
        ("uri", Ok(uri)),
        ("scheme", scheme),
        ("host", Ok(target.host.clone())),
        ("port", Ok(target.port.to_string())),
        (
            "basePath",
            Ok(if target.path == "/" {
                String::new()
            } else {
                target.path.clone()
            }),
        ),
    ];
    let egress = match target.host.parse() {
        Ok(address) => EgressTo::Address(address, target.port),
        Err(_) => EgressTo::Host(target.host, target.port),
    };
    let why = "calls to a system outside leave the cell directly, past every gateway";
    Ok((
        variables
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
        Some(egress),
        Enforcement::None(why),
    ))
}
