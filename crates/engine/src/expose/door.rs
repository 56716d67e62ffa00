//! Doors: where exactly at a gateway an endpoint is, or why it cannot be there.

use choreo_api::{
    labels, names,
    v1alpha1::{
        Environment, GatewayListener, ListenerProtocol,
        common::{EndpointType, ExposeLevel},
    },
};
use kube::ResourceExt as _;

use super::{Exposed, Exposure, Routing, is_derived, port};
use crate::{
    address, operations,
    place::{Gateway, tls_version},
    world::World,
};

/// The listener that terminates TLS when the data plane does not list its listeners.
const HTTPS_SECTION: &str = "https";

/// A place at a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Door {
    /// The gateway.
    pub gateway: Gateway,
    /// The one listener that leads here; every one that fits when there is none.
    pub section: Option<String>,
    /// The scheme of its address.
    pub scheme: &'static str,
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The path prefix; `/` for none.
    pub path: String,
}

impl Door {
    /// What tells requests for this endpoint apart from others at the same gateway.
    pub(super) fn keys(&self, exposure: &Exposure) -> Vec<(String, String)> {
        match exposure.routing {
            Routing::Path => vec![(self.host.clone(), self.path.clone())],
            Routing::Listener => vec![(self.section.clone().unwrap_or_default(), String::new())],
            Routing::Host => {
                let services = operations::services(&exposure.described.operations);
                if exposure.type_ != EndpointType::GRPC || services.is_empty() {
                    return vec![(self.host.clone(), self.path.clone())];
                }
                services
                    .into_iter()
                    .map(|s| (self.host.clone(), format!("/{s}")))
                    .collect()
            }
        }
    }
}

impl Exposed<'_> {
    /// Where an endpoint is at the gateway of a level.
    ///
    /// # Errors
    /// When the gateway has no place for it.
    pub fn door(&self, exposure: &Exposure, level: ExposeLevel) -> Result<Door, String> {
        let plane = &self.place.plane;
        let gateway = plane.gateways.as_ref().and_then(|g| g.of(level)).ok_or_else(|| {
            format!(
                "DataPlane {:?} has no spec.gateway, so nothing can be exposed at level {level:?}",
                plane.name
            )
        })?;
        let listener = |protocol: ListenerProtocol| -> Result<(&GatewayListener, u16), String> {
            let found = gateway.listener(protocol, exposure.port).map_err(|why| {
                format!(
                    "endpoint {:?} is {:?} and needs a listener of the gateway, but {why}: list one in DataPlane {:?} spec.gateway.{}.listeners",
                    exposure.name,
                    exposure.type_,
                    plane.name,
                    if level == ExposeLevel::Public { "public" } else { "organization" }
                )
            })?;
            Ok((found, port(found.port).unwrap_or_default()))
        };
        let (host, path) = self
            .host_and_path(exposure, level)
            .ok_or_else(|| format!("DataPlane {:?} has no host for level {level:?}", plane.name))?;
        let door = |section: Option<String>, scheme: &'static str, port: u16, path: String| Door {
            gateway: gateway.clone(),
            section,
            scheme,
            host,
            port,
            path,
        };
        let connection = self.connection_demands(exposure, level);
        match exposure.type_ {
            EndpointType::TCP | EndpointType::UDP => {
                let (protocol, scheme) = if exposure.type_ == EndpointType::UDP {
                    (ListenerProtocol::UDP, "udp")
                } else {
                    (ListenerProtocol::TCP, "tcp")
                };
                if connection.is_some() {
                    return Err(format!(
                        "security demands TLS, which the gateway does not speak for a {:?} endpoint: use type TLS",
                        exposure.type_
                    ));
                }
                let (found, port) = listener(protocol)?;
                Ok(door(Some(found.name.clone()), scheme, port, "/".to_owned()))
            }
            EndpointType::TLS => {
                if connection.is_some_and(|min| min.is_some()) {
                    return Err(
                        "minTLSVersion: the component itself ends TLS, so its version is not the gateway's to demand"
                            .to_owned(),
                    );
                }
                let (found, port) = listener(ListenerProtocol::TLS)?;
                Ok(door(Some(found.name.clone()), "tls", port, "/".to_owned()))
            }
            _ => {
                let section = match connection {
                    None => None,
                    Some(min) => Some(self.https(gateway, min.as_deref())?),
                };
                // Where none is listed it is HTTPS on its own port.
                let found = match &section {
                    Some(section) => gateway.listeners.iter().find(|l| l.name == *section),
                    None => gateway.of_addresses(),
                };
                let secure = found.is_none_or(|l| l.protocol == ListenerProtocol::HTTPS);
                let scheme = match (exposure.type_, secure) {
                    (EndpointType::Websocket, true) => "wss",
                    (EndpointType::Websocket, false) => "ws",
                    (_, true) => "https",
                    (_, false) => "http",
                };
                let number = found.and_then(|l| port(l.port)).unwrap_or(443);
                Ok(door(section, scheme, number, path))
            }
        }
    }

    /// What a level's policies demand of the connection: `None` for nothing, else the lowest version of TLS, if they name one.
    fn connection_demands(&self, exposure: &Exposure, level: ExposeLevel) -> Option<Option<String>> {
        let security = exposure.guards.get(&level)?.policy.security.as_ref()?;
        let min = security
            .min_tls_version
            .as_deref()
            .map(|v| tls_version(v).to_owned());
        (security.require_tls == Some(true) || min.is_some()).then_some(min)
    }

    /// The listener of a gateway that ends TLS, when it accepts no lower version than is demanded.
    fn https(&self, gateway: &Gateway, min: Option<&str>) -> Result<String, String> {
        if let Some(min) = min
            && gateway.min_tls.as_str() < min
        {
            return Err(format!(
                "security.minTLSVersion: {min:?} is demanded, but Gateway {:?} accepts {:?}: the version belongs to the whole gateway (ClientTrafficPolicy spec.tls.minVersion), so raise it there and say so in DataPlane {:?} spec.gateway",
                gateway.name, gateway.min_tls, self.place.plane.name
            ));
        }
        if gateway.listeners.is_empty() {
            return Ok(HTTPS_SECTION.to_owned());
        }
        let found = gateway
            .listeners
            .iter()
            .find(|l| l.protocol == ListenerProtocol::HTTPS);
        found.map(|l| l.name.clone()).ok_or_else(|| {
            format!(
                "security demands TLS, but DataPlane {:?} lists no listener of protocol HTTPS for Gateway {:?}",
                self.place.plane.name, gateway.name
            )
        })
    }

    /// Host and path of an endpoint at a gateway.
    fn host_and_path(&self, exposure: &Exposure, level: ExposeLevel) -> Option<(String, String)> {
        match exposure.routing {
            Routing::Host => Some((
                self.place.web_host(self.component, self.track, level)?,
                "/".to_owned(),
            )),
            Routing::Listener => Some((self.place.host(level)?, "/".to_owned())),
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

    /// Another component's endpoint that has a listener before this one: a raw listener leads to one endpoint only, and the
    /// first in order has it.
    pub(super) fn holder_of(
        &self,
        world: &World,
        exposure: &Exposure,
        level: ExposeLevel,
        door: &Door,
    ) -> Option<String> {
        if exposure.routing != Routing::Listener {
            return None;
        }
        let own = (
            self.place.organization.clone(),
            names::endpoint(
                self.component,
                self.track,
                &self.place.environment,
                &exposure.name,
            ),
        );
        let environment_plane = |namespace: &str, name: &str| {
            world
                .get::<Environment>(namespace, name)
                .map(|e| e.spec.data_plane_ref.clone())
        };
        let rival = world.listening(&self.place.organization).find(|other| {
            let spec = &other.spec;
            let namespace = other.namespace().unwrap_or_default();
            let identity = (namespace.clone(), other.name_any());
            let same_listener = || {
                let port = spec.backend_ref.port().and_then(port)?;
                let protocol = match spec.endpoint_type()? {
                    EndpointType::TCP => ListenerProtocol::TCP,
                    EndpointType::UDP => ListenerProtocol::UDP,
                    _ => return None,
                };
                let found = door.gateway.listener(protocol, port).ok()?;
                (Some(&found.name) == door.section.as_ref()).then_some(())
            };
            identity < own
                && is_derived(other)
                && spec.levels().contains(&level)
                && other.metadata.deletion_timestamp.is_none()
                && environment_plane(&namespace, spec.environment.as_deref().unwrap_or_default())
                    .is_some_and(|p| p == self.place.plane.name)
                && namespace == self.place.organization
                && same_listener().is_some()
        })?;
        let label = |key: &str| rival.metadata.labels.as_ref()?.get(key).cloned();
        Some(format!(
            "endpoint {:?} of Component {:?} in Environment {:?}",
            rival.spec.endpoint_name.clone().unwrap_or_default(),
            label(labels::COMPONENT).unwrap_or_default(),
            rival.spec.environment.clone().unwrap_or_default()
        ))
    }
}
