//! What a component's own parts declare: the workload's endpoints, a service's APIs, a web application, a proxy.

use std::collections::{BTreeMap, BTreeSet};

use choreo_api::{
    conditions::reasons,
    v1alpha1::{
        Component, FrozenApi, FrozenWebApplication, ServiceApi, WorkloadTemplate,
        common::{DEFAULT_CLASS, EndpointType, ExposeLevel},
    },
};

use super::{Exposed, Exposure, Routing, Upstream, base_path, insert_level, port, routing};
use crate::{
    address,
    binding::Binding,
    operations::{self, Described},
    problem::{Problem, Problems, quoted_list},
    world::{World, is_default_track},
};

impl Exposed<'_> {
    pub(super) fn add_workload(&self, all: &mut BTreeMap<String, Exposure>, problems: &mut Problems) {
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
            let (described, unreadable) = match operations::describe(endpoint.type_, endpoint.schema.as_ref())
            {
                Ok(described) => (described, None),
                Err(why) => (
                    Described::default(),
                    Some(format!("{field}.schema.content {why}")),
                ),
            };
            all.insert(
                name.clone(),
                Exposure {
                    base_path,
                    levels,
                    class,
                    described,
                    unreadable,
                    ..of_own(name, endpoint.type_, port)
                },
            );
        }
    }

    pub(super) fn add_service(&self, all: &mut BTreeMap<String, Exposure>, problems: &mut Problems) {
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
            // The schema is that of the endpoint of the same name, or of the only one on the port.
            let on_port: Vec<&Exposure> = all.values().filter(|e| e.port == port).collect();
            let described = same.or(match on_port.as_slice() {
                [one] => Some(*one),
                _ => None,
            });
            let described = described.filter(|e| e.type_ == api.type_);
            all.insert(
                name.clone(),
                Exposure {
                    base_path,
                    levels,
                    class: Some(api.class_name.clone()),
                    described: described.map(|e| e.described.clone()).unwrap_or_default(),
                    unreadable: described.and_then(|e| e.unreadable.clone()),
                    ..of_own(name, api.type_, port)
                },
            );
        }
    }

    /// An API component: a door to its own workload, or to something that runs elsewhere.
    pub(super) fn add_api(
        &self,
        world: &World,
        all: &mut BTreeMap<String, Exposure>,
        problems: &mut Problems,
    ) {
        let Some(frozen) = &self.source.api else { return };
        let name = self.component;
        let field = "api";
        let behind = match (&frozen.target_url, &frozen.target_component) {
            (Some(url), _) => outside(url, name, frozen.api.type_, field),
            (None, Some(component)) => self.sibling(world, frozen, component, field),
            (None, None) => own_endpoint(all, frozen, name, field),
        };
        let Some(behind) = problems.take(behind) else {
            return;
        };
        let api: &ServiceApi = &frozen.api;
        let mut levels = BTreeMap::new();
        for level in api.expose_levels() {
            insert_level(&mut levels, level, || format!("{field}.exposeLevels[{level:?}]"));
        }
        let base_path = match api.exposure().and_then(|e| e.backend.base_path.as_deref()) {
            None => behind.base_path.clone(),
            written => base_path(written, &format!("{field}.backend.basePath"), problems),
        };
        let same_type = behind.type_ == api.type_;
        all.insert(
            name.to_owned(),
            Exposure {
                base_path,
                upstream: behind.upstream,
                levels,
                class: Some(api.class_name.clone()),
                described: behind.described.filter(|_| same_type).unwrap_or_default(),
                ..of_own(name, api.type_, behind.port)
            },
        );
    }

    /// An endpoint of another component of the project, which an API stands in front of.
    fn sibling(
        &self,
        world: &World,
        frozen: &FrozenApi,
        component: &str,
        field: &str,
    ) -> Result<Behind, Problems> {
        let field = format!("{field}.target.componentName");
        let organization = &self.place.organization;
        let waiting = |what: String| {
            Problems::from(Problem::waiting(
                reasons::CONNECTION_UNRESOLVED,
                format!("{field}: {what}"),
            ))
        };
        let invalid =
            |what: String| Problems::from(Problem::error(reasons::INVALID, format!("{field}: {what}")));
        if component == self.component {
            return Err(invalid("an API cannot stand in front of itself".to_owned()));
        }
        let Some(object) = world.get::<Component>(organization, component) else {
            return Err(waiting(format!(
                "Component {component:?} not found in namespace {organization:?}: create it"
            )));
        };
        let project = &object.spec.owner.project_name;
        if *project != self.place.project {
            return Err(invalid(format!(
                "Component {component:?} belongs to project {project:?}: an API stands in front of components of its own project"
            )));
        }
        let bindings = Binding::of_component(world, organization, component);
        let Some(binding) = bindings
            .into_iter()
            .find(|b| b.environment == self.place.environment && is_default_track(&b.track))
        else {
            return Err(waiting(format!(
                "Component {component:?} is not deployed to environment {:?}: deploy or promote it there",
                self.place.environment
            )));
        };
        let source = binding.source(world).map_err(|p| waiting(p.message()))?;
        if source.api.is_some() {
            return Err(invalid(format!(
                "Component {component:?} is an API itself: name what answers behind it"
            )));
        }
        let none = WorkloadTemplate::default();
        let workload = source.workload.as_ref().unwrap_or(&none);
        let exposed = Exposed {
            place: self.place,
            component,
            track: &binding.track,
            source: &source,
            workload,
        };
        let exposures = exposed.exposures(world).map_err(|p| waiting(p.message()))?;
        let port = wanted_port(frozen);
        let candidates: Vec<&Exposure> = exposures
            .iter()
            .filter(|e| e.upstream == Upstream::Own)
            .filter(|e| frozen.target_endpoint.as_ref().is_none_or(|n| *n == e.name))
            .filter(|e| port.is_none_or(|p| p == e.port))
            .collect();
        let [one] = candidates.as_slice() else {
            return Err(invalid(format!(
                "Component {component:?} has {} endpoints that could be meant (it has {}): name one in target.endpoint",
                candidates.len(),
                quoted_list(exposures.iter().map(|e| e.name.as_str()))
            )));
        };
        Ok(Behind {
            upstream: Upstream::Sibling {
                component: component.to_owned(),
                track: binding.track.clone(),
            },
            type_: one.type_,
            port: one.port,
            base_path: one.base_path.clone(),
            described: Some(one.described.clone()),
        })
    }

    /// A web application has a host of its own. Unless it says otherwise it is public: that is what its type means.
    pub(super) fn add_web_application(
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
}

/// What an API stands in front of.
struct Behind {
    upstream: Upstream,
    type_: EndpointType,
    port: u16,
    base_path: String,
    described: Option<Described>,
}

/// A server outside that an API stands in front of.
fn outside(url: &str, name: &str, type_: EndpointType, field: &str) -> Result<Behind, Problems> {
    let target = external(url, type_).map_err(|why| {
        Problem::error(
            reasons::INVALID,
            format!("{field}.target.url of Component {name:?}: {why}"),
        )
    })?;
    Ok(Behind {
        type_,
        port: target.port,
        base_path: "/".to_owned(),
        described: None,
        upstream: Upstream::External(target),
    })
}

/// The endpoint of its own workload that an API is a door to.
fn own_endpoint(
    all: &BTreeMap<String, Exposure>,
    frozen: &FrozenApi,
    name: &str,
    field: &str,
) -> Result<Behind, Problems> {
    let port = wanted_port(frozen);
    let candidates: Vec<&Exposure> = all
        .values()
        .filter(|e| port.is_none_or(|p| p == e.port))
        .collect();
    let [one] = candidates.as_slice() else {
        let why = if all.is_empty() {
            "says neither target nor a workload with an endpoint: name what answers the requests".to_owned()
        } else {
            format!(
                "backend.port: {} endpoints of the workload could be meant (it has {}): give the port of one",
                candidates.len(),
                quoted_list(all.keys().map(String::as_str))
            )
        };
        return Err(Problem::error(reasons::INVALID, format!("{field} of Component {name:?}: {why}")).into());
    };
    Ok(Behind {
        upstream: Upstream::Own,
        type_: one.type_,
        port: one.port,
        base_path: one.base_path.clone(),
        described: Some(one.described.clone()),
    })
}

fn wanted_port(frozen: &FrozenApi) -> Option<u16> {
    frozen.api.exposure().and_then(|e| port(e.backend.port))
}

/// An endpoint of the component's own pods, without anything said about it yet.
pub(super) fn of_own(name: &str, type_: EndpointType, port: u16) -> Exposure {
    Exposure {
        name: name.to_owned(),
        type_,
        port,
        base_path: "/".to_owned(),
        upstream: Upstream::Own,
        levels: BTreeMap::new(),
        routing: routing(type_),
        class: None,
        guards: BTreeMap::new(),
        described: Described::default(),
        unreadable: None,
        lanes: Vec::new(),
    }
}

/// A server outside that a gateway may stand in front of.
///
/// The gateway is inside the cluster: an address that leads into it would let a developer reach what network policies keep
/// closed, so those are refused.
pub(super) fn external(url: &str, type_: EndpointType) -> Result<address::External, String> {
    let target = address::parse_external(url)?;
    let scheme = target.scheme.as_deref().unwrap_or_default();
    if !type_.is_http() {
        return Err(format!(
            "a server outside can only be exposed as HTTP, REST, GraphQL, Websocket or gRPC, not as {type_:?}"
        ));
    }
    if !matches!(scheme, "http" | "https") {
        return Err(format!(
            "scheme {scheme:?} is not one that the gateway speaks: use http or https"
        ));
    }
    let host = target.host.trim_end_matches('.').to_ascii_lowercase();
    let inside = ["localhost", "cluster.local", "svc"]
        .into_iter()
        .any(|name| host == name || host.ends_with(&format!(".{name}")));
    let special = host.parse::<std::net::IpAddr>().is_ok_and(|ip| match ip {
        std::net::IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local() || ip.is_unspecified(),
        std::net::IpAddr::V6(ip) => ip.is_loopback() || ip.is_unspecified() || ip.is_unicast_link_local(),
    });
    let single_label = !host.contains('.') && host.parse::<std::net::IpAddr>().is_err();
    if inside || special || single_label {
        return Err(format!(
            "{host:?} is inside the cluster: name a server outside, or the component that answers"
        ));
    }
    if scheme == "https" && host.parse::<std::net::IpAddr>().is_ok() {
        return Err(format!(
            "the certificate of {host:?} cannot be checked by an address: give the server's DNS name"
        ));
    }
    Ok(address::External { host, ..target })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("https://api.example.com/v1", true)]
    #[case("http://192.0.2.10:8080", true)]
    #[case("http://10.1.2.3", true)]
    #[case("https://192.0.2.10", false)]
    #[case("http://kubernetes.default.svc", false)]
    #[case("http://cart.shop.svc.cluster.local.", false)]
    #[case("http://localhost:9000", false)]
    #[case("http://169.254.169.254/latest", false)]
    #[case("http://[::1]", false)]
    #[case("http://vault", false)]
    #[case("ftp://files.example.com", false)]
    fn a_proxy_leads_out_of_the_cluster(#[case] url: &str, #[case] good: bool) {
        assert_eq!(external(url, EndpointType::REST).is_ok(), good, "{url}");
    }

    #[test]
    fn a_proxy_carries_requests_only() {
        assert!(external("https://db.example.com", EndpointType::TCP).is_err());
    }
}
