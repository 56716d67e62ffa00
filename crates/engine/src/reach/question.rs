//! The question as people ask it: may this component talk to that one, here?

use std::{collections::BTreeMap, fmt, net::IpAddr};

use choreo_api::v1alpha1::{Component, Release, common::ExposeLevel};
use kube::ResourceExt as _;
use serde::Serialize;
use serde_json::Value;

use super::{Explanation, Flow, NotUnderstood, Party, Pod, Policies, Request, Transport};
use crate::{
    address,
    place::{Gateway, Place},
    problem::quoted_list,
    render::policy::gateway_labels,
    world::World,
};

/// What the names of gateways begin with.
const GATEWAY: &str = "gateway/";

/// The answer to a question.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Who begins.
    pub from: String,
    /// Who is meant.
    pub to: String,
    /// The ways that there are, each with what becomes of it.
    pub paths: Vec<Path>,
}

impl Report {
    /// Whether one of the ways is open.
    pub fn allowed(&self) -> bool {
        self.paths.iter().any(Path::allowed)
    }
}

/// One way from one party to another.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Path {
    /// Its parts, in order.
    pub hops: Vec<Hop>,
}

impl Path {
    /// Whether every part of it is open.
    pub fn allowed(&self) -> bool {
        self.hops.iter().all(|h| h.explanation.allowed())
    }
}

/// A connection from one party to the next.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hop {
    /// Who begins.
    pub from: String,
    /// Who is connected to.
    pub to: String,
    /// On which port.
    pub port: u16,
    /// Over what.
    pub transport: Transport,
    /// What becomes of it.
    pub explanation: Explanation,
}

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QuestionError {
    /// Something that the question names is not there, or is not understood.
    Unknown(String),
    /// A policy cannot be judged.
    Policy(NotUnderstood),
}

/// The objects of a release.
fn objects_of(release: &Release) -> Result<Vec<Value>, QuestionError> {
    match release.spec.resources.open() {
        Ok(all) => Ok(all.iter().map(|resource| resource.object.clone()).collect()),
        Err(error) => unknown(format!("Release {:?}: {error}", release.name_any())),
    }
}

impl fmt::Display for QuestionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(what) => f.write_str(what),
            Self::Policy(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for QuestionError {}

fn unknown<T>(what: impl Into<String>) -> Result<T, QuestionError> {
    Err(QuestionError::Unknown(what.into()))
}

/// A party by its name, and the ports that it listens on as far as that is known.
struct Spot {
    name: String,
    party: Party,
    ports: Vec<(u16, Transport)>,
    /// The objects of its release, for a component.
    resources: Vec<Value>,
}

/// Everything that an answer looks at.
struct Scene<'a> {
    world: &'a World,
    organization: &'a str,
    environment: &'a str,
    policies: Policies,
}

/// Whether one party may talk to another in an environment, by the policies of all its releases.
///
/// A party is `NAME` or `component/NAME`, with `:PORT` where one is meant; `gateway/public` or `gateway/organization`;
/// `internet`; or a URL, `HOST:PORT` or `ADDRESS:PORT` outside. `request` asks for a single request.
///
/// # Errors
/// When a party is not known or a policy cannot be judged.
pub fn explain(
    world: &World,
    organization: &str,
    environment: &str,
    from: &str,
    to: &str,
    request: Option<&Request>,
) -> Result<Report, QuestionError> {
    let in_environment = |release: &&std::sync::Arc<Release>| release.spec.environment_name == environment;
    let releases: Vec<_> = world
        .in_namespace::<Release>(organization)
        .filter(in_environment)
        .collect();
    if releases.is_empty() {
        return unknown(format!(
            "nothing is deployed to environment {environment:?} of organization {organization:?}"
        ));
    }
    let mut objects = Vec::new();
    for release in &releases {
        objects.extend(objects_of(release)?);
    }
    let scene = Scene {
        world,
        organization,
        environment,
        policies: Policies::of(&objects).map_err(QuestionError::Policy)?,
    };
    // A gateway leads to what is behind it, and to no other gateway.
    let is_gateway = from.trim().starts_with(GATEWAY);
    let (from, to) = (scene.spot(from, false)?, scene.spot(to, true)?);
    let mut paths = Vec::new();
    for (port, transport) in &to.ports {
        let direct = scene.hop(&from, &to, *port, *transport, request);
        paths.push(Path { hops: vec![direct] });
        let same_cell =
            matches!((&from.party, &to.party), (Party::Pod(a), Party::Pod(b)) if a.namespace == b.namespace);
        if same_cell || is_gateway {
            continue;
        }
        for (level, gateway) in scene.gateways_to(&to, *port)? {
            let at_gateway = scene.gateway_spot(level, &gateway);
            // From outside, nobody reaches the gateway that is the organization's own.
            let outside = !matches!(from.party, Party::Pod(_));
            if from.party == at_gateway.party || outside && level != ExposeLevel::Public {
                continue;
            }
            let first = scene.hop(&from, &at_gateway, 443, Transport::Tcp, None);
            let second = scene.hop(&at_gateway, &to, *port, *transport, request);
            paths.push(Path {
                hops: vec![first, second],
            });
        }
    }
    Ok(Report {
        from: from.name,
        to: to.name,
        paths,
    })
}

impl Scene<'_> {
    fn hop(&self, from: &Spot, to: &Spot, port: u16, transport: Transport, request: Option<&Request>) -> Hop {
        let flow = Flow {
            from: &from.party,
            to: &to.party,
            port,
            transport,
            request,
        };
        Hop {
            from: from.name.clone(),
            to: to.name.clone(),
            port,
            transport,
            explanation: self.policies.explain(&flow),
        }
    }

    fn spot(&self, text: &str, is_target: bool) -> Result<Spot, QuestionError> {
        let text = text.trim();
        if text == "internet" {
            return Ok(Spot {
                name: "the internet".to_owned(),
                // An address for documentation (RFC 5737): one that is nobody's in particular.
                party: Party::Address(IpAddr::from([198, 51, 100, 1])),
                ports: vec![(443, Transport::Tcp)],
                resources: Vec::new(),
            });
        }
        if let Some(name) = text.strip_prefix(GATEWAY) {
            let level = match name {
                "public" => ExposeLevel::Public,
                "organization" => ExposeLevel::Organization,
                _ => {
                    return unknown(format!(
                        "there is no gateway {name:?}: it is gateway/public or gateway/organization"
                    ));
                }
            };
            let Some(gateway) = self.any_gateway(level) else {
                return unknown(format!(
                    "the data plane of environment {:?} has no gateway",
                    self.environment
                ));
            };
            return Ok(self.gateway_spot(level, &gateway));
        }
        let plain = text.strip_prefix("component/").unwrap_or(text);
        let (name, port) = match plain.rsplit_once(':') {
            Some((name, port)) if !plain.contains("://") => (name, port.parse::<u16>().ok()),
            _ => (plain, None),
        };
        if self.world.get::<Component>(self.organization, name).is_some() {
            return self.component(name, port, is_target);
        }
        if plain != text {
            return unknown(format!(
                "Component {name:?} not found in organization {:?}",
                self.organization
            ));
        }
        self.outside(text, name, port)
    }

    fn outside(&self, text: &str, name: &str, port: Option<u16>) -> Result<Spot, QuestionError> {
        let (host, port) = if text.contains("://") {
            let target = address::parse_external(text).map_err(QuestionError::Unknown)?;
            (target.host, target.port)
        } else {
            let bare = name.trim_start_matches('[').trim_end_matches(']');
            if !bare.contains(['.', ':']) {
                let known = self
                    .world
                    .in_namespace::<Component>(self.organization)
                    .map(|c| c.name_any())
                    .collect::<Vec<_>>();
                return unknown(format!(
                    "Component {name:?} not found in organization {:?} (it has {}), and it is no host outside",
                    self.organization,
                    quoted_list(known.iter().map(String::as_str))
                ));
            }
            let Some(port) = port else {
                return unknown(format!("{text:?}: say the port, as in {bare}:443"));
            };
            (bare.to_owned(), port)
        };
        Ok(Spot {
            name: address::uri("", &host, port, "/"),
            party: host.parse().map_or(Party::Host(host), Party::Address),
            ports: vec![(port, Transport::Tcp)],
            resources: Vec::new(),
        })
    }

    /// A component, by the pods that its release makes.
    fn component(&self, name: &str, port: Option<u16>, is_target: bool) -> Result<Spot, QuestionError> {
        let is_its = |r: &&std::sync::Arc<Release>| {
            r.spec.environment_name == self.environment
                && r.spec.owner.component_name.as_deref() == Some(name)
        };
        let release = self.world.in_namespace::<Release>(self.organization).find(is_its);
        let Some(release) = release else {
            return unknown(format!(
                "Component {name:?} is not deployed to environment {:?}",
                self.environment
            ));
        };
        let resources = objects_of(release)?;
        let Some((namespace, template)) = resources.iter().find_map(pods_of) else {
            return unknown(format!(
                "Component {name:?} has no pods in environment {:?}",
                self.environment
            ));
        };
        let ports = ports_of(template);
        let wanted: Vec<(u16, Transport)> = match port {
            Some(port) => {
                let known = ports.values().find(|(p, _)| *p == port);
                vec![known.copied().unwrap_or((port, Transport::Tcp))]
            }
            None => {
                let mut all: Vec<_> = ports.values().copied().collect();
                all.sort_unstable();
                all.dedup();
                all
            }
        };
        if is_target && wanted.is_empty() {
            return unknown(format!(
                "Component {name:?} listens on no port: say one, as in {name}:80"
            ));
        }
        let project = &release.spec.owner.project_name;
        let pod = Pod {
            namespace: namespace.to_owned(),
            namespace_labels: self.namespace_labels(namespace),
            labels: text_map(template.pointer("/metadata/labels")),
            addresses: Vec::new(),
            ports: ports.into_iter().map(|(name, (port, _))| (name, port)).collect(),
        };
        Ok(Spot {
            name: format!("component {name} (project {project})"),
            party: Party::Pod(pod),
            ports: wanted,
            resources,
        })
    }

    /// The labels of a namespace, from the release that makes it.
    fn namespace_labels(&self, namespace: &str) -> BTreeMap<String, String> {
        let objects = self
            .world
            .in_namespace::<Release>(self.organization)
            .flat_map(|r| objects_of(r).unwrap_or_default());
        objects
            .into_iter()
            .find(|o| o["kind"] == "Namespace" && o["metadata"]["name"] == namespace)
            .map(|o| text_map(o.pointer("/metadata/labels")))
            .unwrap_or_default()
    }

    fn any_gateway(&self, level: ExposeLevel) -> Option<Gateway> {
        let release = self
            .world
            .in_namespace::<Release>(self.organization)
            .find(|r| r.spec.environment_name == self.environment)?;
        let place = Place::find(
            self.world,
            self.organization,
            &release.spec.owner.project_name,
            self.environment,
        );
        place.ok()?.plane.gateways?.of(level).cloned()
    }

    fn gateway_spot(&self, level: ExposeLevel, gateway: &Gateway) -> Spot {
        let mut namespace_labels = BTreeMap::new();
        namespace_labels.insert(
            "kubernetes.io/metadata.name".to_owned(),
            gateway.namespace.clone(),
        );
        let which = if level == ExposeLevel::Public {
            "public"
        } else {
            "organization"
        };
        Spot {
            name: format!("{which} gateway ({}/{})", gateway.namespace, gateway.name),
            party: Party::Pod(Pod {
                namespace: gateway.namespace.clone(),
                namespace_labels,
                labels: gateway_labels(gateway),
                ..Pod::default()
            }),
            ports: vec![(443, Transport::Tcp)],
            resources: Vec::new(),
        }
    }

    /// The gateways at which the release of a component has a route to one of its ports.
    fn gateways_to(&self, to: &Spot, port: u16) -> Result<Vec<(ExposeLevel, Gateway)>, QuestionError> {
        let mut found = Vec::new();
        for level in [ExposeLevel::Organization, ExposeLevel::Public] {
            let Some(gateway) = self.any_gateway(level) else {
                continue;
            };
            let leads = to.resources.iter().any(|route| {
                let is_route = route["kind"].as_str().is_some_and(|k| k.ends_with("Route"));
                let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
                is_route
                    && list(&route["spec"], "parentRefs")
                        .iter()
                        .any(|p| p["name"] == gateway.name && p["namespace"] == gateway.namespace)
                    && list(&route["spec"], "rules")
                        .iter()
                        .flat_map(|rule| list(rule, "backendRefs"))
                        .any(|b| b["port"] == port)
            });
            if leads {
                found.push((level, gateway));
            }
        }
        Ok(found)
    }
}

/// The pod template of an object that makes pods, and its namespace.
fn pods_of(object: &Value) -> Option<(&str, &Value)> {
    let namespace = object.pointer("/metadata/namespace")?.as_str()?;
    let template = object
        .pointer("/spec/jobTemplate/spec/template")
        .or_else(|| object.pointer("/spec/template"))
        .filter(|t| t.pointer("/spec/containers").is_some())?;
    Some((namespace, template))
}

fn ports_of(template: &Value) -> BTreeMap<String, (u16, Transport)> {
    let containers = template.pointer("/spec/containers").and_then(Value::as_array);
    let ports = containers
        .into_iter()
        .flatten()
        .filter_map(|c| c.get("ports")?.as_array())
        .flatten();
    ports
        .filter_map(|p| {
            let number = u16::try_from(p.get("containerPort")?.as_u64()?).ok()?;
            let transport = if p["protocol"] == "UDP" {
                Transport::Udp
            } else {
                Transport::Tcp
            };
            let name = p["name"]
                .as_str()
                .map_or_else(|| number.to_string(), str::to_owned);
            Some((name, (number, transport)))
        })
        .collect()
}

fn text_map(value: Option<&Value>) -> BTreeMap<String, String> {
    let map = value.and_then(Value::as_object).into_iter().flatten();
    map.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned())))
        .collect()
}
