//! Where something runs: the cell, its data plane, and the hosts that lead there.

use choreo_api::{
    conditions::reasons,
    names::{self, HostParts},
    v1alpha1::{
        AccessGrant, DataPlane, Environment, GatewayListener, ListenerProtocol, Organization, Project,
        Registry, SecretStoreRef, common::ExposeLevel,
    },
};

use crate::{
    problem::{Problem, Problems},
    world::World,
};

/// Where the gateways are when the data plane does not say.
const DEFAULT_GATEWAY_NAMESPACE: &str = "openchoreo-data-plane";
const DEFAULT_PUBLIC_GATEWAY: &str = "gateway-external";
const DEFAULT_ORGANIZATION_GATEWAY: &str = "gateway-internal";

/// How a data plane's network policies are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `CiliumNetworkPolicy`.
    Cilium,
    /// `NetworkPolicy` of `networking.k8s.io/v1`, without DNS names.
    Kubernetes,
    /// The cluster enforces none.
    None,
}

/// A `Gateway` object in the data plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The domain that it serves.
    pub virtual_host: String,
    /// The listeners that endpoints may use, as far as the data plane says.
    pub listeners: Vec<GatewayListener>,
    /// The listener that addresses name, if the data plane says so.
    pub address_listener: Option<String>,
    /// The lowest version of TLS that it accepts, as in `1.2`.
    pub min_tls: String,
}

/// What Envoy Gateway accepts when nobody says otherwise (`ClientTrafficPolicy.spec.tls.minVersion`).
const DEFAULT_MIN_TLS: &str = "1.2";

impl Gateway {
    /// The listener for an endpoint that needs one of a protocol: that with the endpoint's own port, or else the only one.
    ///
    /// # Errors
    /// When there is none, or more than one and none has the port.
    pub fn listener(&self, protocol: ListenerProtocol, port: u16) -> Result<&GatewayListener, String> {
        let of_protocol: Vec<&GatewayListener> =
            self.listeners.iter().filter(|l| l.protocol == protocol).collect();
        let same_port = of_protocol.iter().find(|l| l.port == i32::from(port));
        match (same_port, of_protocol.as_slice()) {
            (Some(one), _) | (None, [one]) => Ok(one),
            (None, []) => Err(format!(
                "Gateway {:?} in namespace {:?} has no listener of protocol {protocol:?}",
                self.name, self.namespace
            )),
            (None, several) => Err(format!(
                "Gateway {:?} in namespace {:?} has {} listeners of protocol {protocol:?} and none of them on port {port}",
                self.name,
                self.namespace,
                several.len()
            )),
        }
    }
}

impl Gateway {
    /// The listener of HTTP or HTTPS that addresses name: the one that the data plane says, the first one of HTTPS, or the first one of
    /// HTTP.
    pub fn of_addresses(&self) -> Option<&GatewayListener> {
        let of = |protocol| self.listeners.iter().find(|l| l.protocol == protocol);
        let said = self.address_listener.as_ref();
        said.and_then(|name| self.listeners.iter().find(|l| l.name == *name))
            .filter(|l| matches!(l.protocol, ListenerProtocol::HTTP | ListenerProtocol::HTTPS))
            .or_else(|| of(ListenerProtocol::HTTPS))
            .or_else(|| of(ListenerProtocol::HTTP))
    }
}

/// A version of TLS as in `1.2`, however it was written (`TLSv1.2`, `v1.2`, `1.2`).
pub(crate) fn tls_version(text: &str) -> &str {
    text.trim_start_matches(|c: char| !c.is_ascii_digit())
}

/// The gateways of a data plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateways {
    public: Gateway,
    organization: Gateway,
    host_template: Option<String>,
    web_host_template: Option<String>,
}

impl Gateways {
    /// The gateway of a level; `None` for the project, which has none.
    pub fn of(&self, level: ExposeLevel) -> Option<&Gateway> {
        match level {
            ExposeLevel::Project => None,
            ExposeLevel::Organization => Some(&self.organization),
            ExposeLevel::Public => Some(&self.public),
        }
    }
}

/// What the engine needs to know of a data plane.
#[derive(Debug, Clone, PartialEq)]
pub struct Plane {
    /// Its name.
    pub name: String,
    /// The language of its network policies.
    pub dialect: Dialect,
    /// Whether pods can authenticate each other.
    pub mtls: bool,
    /// Its gateways, when it has any.
    pub gateways: Option<Gateways>,
    /// Where secrets come from.
    pub secret_store: Option<SecretStoreRef>,
    /// Whether it has External Secrets Operator, if that is known.
    pub external_secrets: Option<bool>,
    /// Where images come from.
    pub registry: Option<Registry>,
}

impl Plane {
    /// Reads a data plane. Features that its spec leaves open are those that were detected, or else absent but for `NetworkPolicy`.
    pub fn of(plane: &DataPlane) -> Self {
        let declared = plane.spec.features.as_ref();
        let detected = plane.status.as_ref().and_then(|s| s.features.as_ref());
        let feature = |get: fn(&choreo_api::v1alpha1::Features) -> Option<bool>, default: bool| {
            declared
                .and_then(get)
                .or_else(|| detected.and_then(get))
                .unwrap_or(default)
        };
        let dialect = if feature(|f| f.cilium, false) {
            Dialect::Cilium
        } else if feature(|f| f.network_policy, true) {
            Dialect::Kubernetes
        } else {
            Dialect::None
        };
        let gateways = plane.spec.gateway.as_ref().map(|g| {
            let gateway =
                |of: &Option<choreo_api::v1alpha1::GatewayRef>, default: &str, virtual_host: &str| Gateway {
                    name: of.as_ref().map_or_else(|| default.to_owned(), |r| r.name.clone()),
                    namespace: of
                        .as_ref()
                        .map_or_else(|| DEFAULT_GATEWAY_NAMESPACE.to_owned(), |r| r.namespace.clone()),
                    virtual_host: virtual_host.to_owned(),
                    listeners: of.as_ref().map(|r| r.listeners.clone()).unwrap_or_default(),
                    address_listener: of.as_ref().and_then(|r| r.address_listener.clone()),
                    min_tls: of
                        .as_ref()
                        .and_then(|r| r.min_tls_version.as_deref())
                        .map_or(DEFAULT_MIN_TLS, tls_version)
                        .to_owned(),
                };
            Gateways {
                public: gateway(&g.public, DEFAULT_PUBLIC_GATEWAY, &g.public_virtual_host),
                organization: gateway(
                    &g.organization,
                    DEFAULT_ORGANIZATION_GATEWAY,
                    &g.organization_virtual_host,
                ),
                host_template: g.host_template.clone(),
                web_host_template: g.web_host_template.clone(),
            }
        });
        Self {
            name: plane.metadata.name.clone().unwrap_or_default(),
            dialect,
            mtls: feature(|f| f.mtls, false),
            gateways,
            secret_store: plane.spec.secret_store_ref.clone(),
            external_secrets: declared
                .and_then(|f| f.external_secrets)
                .or_else(|| detected.and_then(|f| f.external_secrets)),
            registry: plane.spec.registry.clone(),
        }
    }
}

/// A project in an environment, and everything about that environment that shapes what runs in it.
#[derive(Debug, Clone)]
pub struct Place {
    /// The organization, which is also the control-plane namespace.
    pub organization: String,
    /// The project.
    pub project: String,
    /// The environment.
    pub environment: String,
    /// The first label of the environment's hosts.
    pub dns_prefix: String,
    /// The cell's namespace in the data plane.
    pub namespace: String,
    /// Whether callers of APIs must present a token, and where its keys are.
    pub jwt: Option<Option<String>>,
    /// Where the keys of tokens are, whether or not everybody must present one.
    pub jwks: Option<String>,
    /// Whether the cell denies what nobody declared.
    pub default_deny: bool,
    /// Whether all cells of the organization may talk to each other.
    pub open_to_organization: bool,
    /// Whether all addresses outside the data plane may be reached.
    pub open_to_internet: bool,
    /// Quotas of the cell.
    pub quotas: choreo_api::v1alpha1::common::ResourceQuotas,
    /// Whether real users depend on it.
    pub is_production: bool,
    /// Who may do what in the cell.
    pub access: Vec<AccessGrant>,
    /// The data plane.
    pub plane: Plane,
}

impl Place {
    /// Finds out where a project's components run in an environment.
    ///
    /// # Errors
    /// Every one of project, environment and data plane that is missing.
    pub fn find(
        world: &World,
        organization: &str,
        project: &str,
        environment: &str,
    ) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        match world.get::<Project>(organization, project) {
            None => problems.push(Problem::waiting(
                reasons::PROJECT_NOT_FOUND,
                format!("Project {project:?} not found in namespace {organization:?}: create it"),
            )),
            Some(p) if p.metadata.deletion_timestamp.is_some() => problems.push(Problem::waiting(
                reasons::PROJECT_NOT_FOUND,
                format!("Project {project:?} is being deleted"),
            )),
            Some(_) => {}
        }
        let Some(env) = world.get::<Environment>(organization, environment) else {
            problems.push(Problem::waiting(
                reasons::ENVIRONMENT_NOT_FOUND,
                format!("Environment {environment:?} not found in namespace {organization:?}: create it"),
            ));
            return Err(problems);
        };
        let reference = &env.spec.data_plane_ref;
        let Some(plane) = world.get::<DataPlane>(organization, reference) else {
            problems.push(Problem::waiting(
                reasons::DATA_PLANE_NOT_FOUND,
                format!(
                    "DataPlane {reference:?} not found in namespace {organization:?}: create it, or change spec.dataPlaneRef of Environment {environment:?}"
                ),
            ));
            return Err(problems);
        };
        problems.extend(shared(world, organization, project, environment));
        let gateway = env.spec.gateway.as_ref();
        let jwks = gateway
            .and_then(|g| g.security.as_ref())
            .and_then(|s| s.remote_jwks.as_ref())
            .map(|r| r.uri.clone())
            .filter(|uri| !uri.is_empty());
        let organization_object = world.get::<Organization>("", organization);
        let isolation = Isolation::of(organization_object.map(|o| &o.spec), &env.spec);
        problems.or_ok(Self {
            organization: organization.to_owned(),
            project: project.to_owned(),
            environment: environment.to_owned(),
            dns_prefix: gateway
                .and_then(|g| g.dns_prefix.clone())
                .filter(|p| !p.is_empty())
                .unwrap_or_else(|| environment.to_owned()),
            namespace: names::cell_namespace(organization, project, environment),
            jwt: gateway.is_some_and(|g| g.enable_jwt_auth).then(|| jwks.clone()),
            jwks,
            default_deny: isolation.default_deny,
            open_to_organization: isolation.open_to_organization,
            open_to_internet: isolation.open_to_internet,
            quotas: env.spec.resource_quotas.clone().unwrap_or_default(),
            is_production: env.spec.is_production,
            access: organization_object
                .map(|o| o.spec.access.clone())
                .unwrap_or_default(),
            plane: Plane::of(plane),
        })
    }

    /// The host of this environment's APIs at a level, when the data plane has a gateway for it.
    pub fn host(&self, level: ExposeLevel) -> Option<String> {
        Some(names::api_host(
            self.host_parts(level, |g| g.host_template.as_deref())?,
        ))
    }

    /// The host of a web application at a level, when the data plane has a gateway for it.
    pub fn web_host(&self, component: &str, track: &str, level: ExposeLevel) -> Option<String> {
        Some(names::web_host(
            component,
            track,
            self.host_parts(level, |g| g.web_host_template.as_deref())?,
        ))
    }

    fn host_parts<'a>(
        &'a self,
        level: ExposeLevel,
        template: impl Fn(&'a Gateways) -> Option<&'a str>,
    ) -> Option<HostParts<'a>> {
        let gateways = self.plane.gateways.as_ref()?;
        Some(HostParts {
            organization: &self.organization,
            environment: &self.dns_prefix,
            virtual_host: &gateways.of(level)?.virtual_host,
            template: template(gateways),
        })
    }
}

/// The name of a cell's namespace joins names with hyphens, so two cells may come to share one: `a-b` in `c` and `a` in
/// `b-c`. The first in order has it; the other is refused rather than let into the first one's cell.
fn shared(world: &World, organization: &str, project: &str, environment: &str) -> Option<Problem> {
    let whole = format!("{organization}-{project}-{environment}");
    let rest = |name: &str| whole.strip_prefix(name)?.strip_prefix('-');
    for other in world.all::<Project>() {
        let (Some(of), Some(name)) = (&other.metadata.namespace, &other.metadata.name) else {
            continue;
        };
        if (of.as_str(), name.as_str()) >= (organization, project) {
            // Projects come in order of namespace and name.
            return None;
        }
        let Some(of_environment) = rest(of).and_then(|r| r.strip_prefix(name.as_str())?.strip_prefix('-'))
        else {
            continue;
        };
        if world.get::<Environment>(of, of_environment).is_some() {
            return Some(Problem::error(
                reasons::INVALID,
                format!(
                    "Project {project:?} in Environment {environment:?} would share its namespace {:?} with Project {name:?} of organization {of:?} in Environment {of_environment:?}: rename the project or the environment",
                    names::cell_namespace(organization, project, environment)
                ),
            ));
        }
    }
    None
}

/// How far a cell is closed: what its environment says, else what the organization says, else closed.
struct Isolation {
    default_deny: bool,
    open_to_organization: bool,
    open_to_internet: bool,
}

impl Isolation {
    fn of(
        organization: Option<&choreo_api::v1alpha1::OrganizationSpec>,
        environment: &choreo_api::v1alpha1::EnvironmentSpec,
    ) -> Self {
        use choreo_api::v1alpha1::common::AllowedCommunication;
        let baseline = environment
            .network_policies
            .as_ref()
            .or_else(|| organization?.network_policies.as_ref());
        let allows =
            |what: AllowedCommunication| baseline.is_some_and(|b| b.allowed_communication.contains(&what));
        Self {
            default_deny: baseline.and_then(|b| b.default_deny).unwrap_or(true),
            open_to_organization: allows(AllowedCommunication::Internal),
            open_to_internet: allows(AllowedCommunication::External),
        }
    }
}
