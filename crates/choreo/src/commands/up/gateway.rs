//! The gateway of the local data plane: its ports, its certificate authority, and how it reaches pods.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use choreo_apiserver::private_file::{create_private_dir, write_private};
use choreo_controllers::defaults::{GatewayPorts, RawPorts};
use choreo_gateway::{Authority, Dial, Options, Refuse, Sockets, Stream, Target};
use jiff::Timestamp;

use super::Args;
use crate::failure::Failure;

/// The ports unless told otherwise.
pub(crate) const DEFAULT_HTTP_PORT: u16 = 9080;
pub(crate) const DEFAULT_HTTPS_PORT: u16 = 9443;

const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What is ready before anything runs.
pub(crate) struct Prepared {
    /// The ports that are bound.
    pub(crate) ports: GatewayPorts,
    /// The certificate of the authority, for those who are to trust it.
    pub(crate) authority_file: PathBuf,
    authority: Authority,
    sockets: Sockets,
}

impl Prepared {
    /// Binds the ports and opens the authority.
    pub(crate) fn open(args: &Args, pki: &Path) -> Result<Self, Failure> {
        let mut sockets = Sockets::default();
        let usual = GatewayPorts::default();
        let mut named = |flag: &str, port: u16, default: u16| {
            sockets
                .bind_tcp(ADDRESS, port)
                .map_err(|error| taken(flag, port, default, &error))
        };
        let http = named("--http-port", args.http_port, DEFAULT_HTTP_PORT)?;
        let https = named("--https-port", args.https_port, DEFAULT_HTTPS_PORT)?;
        // Nobody types these: statuses and addresses say what they are.
        let fixed = args.http_port != 0;
        let raw_failed = |error: io::Error| Failure::new("cannot listen for TCP and UDP").because(&error);
        let mut tcp = |port: u16| {
            let first = if fixed { port } else { 0 };
            let bound = sockets.bind_tcp(ADDRESS, first);
            bound
                .or_else(|_| sockets.bind_tcp(ADDRESS, 0))
                .map_err(raw_failed)
        };
        let tls = tcp(usual.tls)?;
        let (public_tcp, organization_tcp) = (tcp(usual.public.tcp)?, tcp(usual.organization.tcp)?);
        let mut udp = |port: u16| {
            let first = if fixed { port } else { 0 };
            let bound = sockets.bind_udp(ADDRESS, first);
            bound
                .or_else(|_| sockets.bind_udp(ADDRESS, 0))
                .map_err(raw_failed)
        };
        let (public_udp, organization_udp) = (udp(usual.public.udp)?, udp(usual.organization.udp)?);
        let (authority, authority_file) = authority(pki)?;
        Ok(Self {
            ports: GatewayPorts {
                http,
                https,
                tls,
                public: RawPorts {
                    tcp: public_tcp,
                    udp: public_udp,
                },
                organization: RawPorts {
                    tcp: organization_tcp,
                    udp: organization_udp,
                },
            },
            authority_file,
            authority,
            sockets,
        })
    }

    /// How the gateway runs.
    pub(crate) fn options(self, dial: Arc<dyn Dial>) -> Options {
        Options {
            dial,
            authority: Some(self.authority),
            sockets: self.sockets,
            address: ADDRESS,
        }
    }
}

/// Where it listens, for those who call it on somebody's behalf.
pub(crate) fn addresses(ports: &GatewayPorts) -> choreo_node::GatewayAddresses {
    choreo_node::GatewayAddresses {
        http: (ADDRESS, ports.http).into(),
        https: (ADDRESS, ports.https).into(),
    }
}

/// Reaches pods that run as containers, by whatever way the node agent knows.
pub(crate) fn containers(agent: choreo_node::Agent) -> Arc<dyn Dial> {
    Arc::new(Pods(agent))
}

struct Pods(choreo_node::Agent);

#[async_trait]
impl Dial for Pods {
    async fn dial(&self, target: &Target) -> io::Result<Box<dyn Stream>> {
        let stream = self.0.dial(&target.namespace, target.address).await?;
        Ok(Box::new(stream))
    }
}

/// Says to every caller that there is no pod behind a simulated one.
pub(crate) fn simulated() -> Arc<dyn Dial> {
    Arc::new(Refuse(
        "the pods of this data plane are simulated: the route is valid, but no container runs behind it"
            .to_owned(),
    ))
}

fn taken(flag: &str, port: u16, default: u16, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::AddrInUse => Failure::new(format!("port {port} is in use")).hint(format!(
            "choose another one for the gateway: {flag} PORT (0 takes any free one; {default} is the default)"
        )),
        io::ErrorKind::PermissionDenied => Failure::new(format!("port {port} is for privileged processes"))
            .hint(format!("choose one above 1023 for the gateway: {flag} PORT")),
        _ => Failure::new(format!("the gateway cannot listen on {ADDRESS}:{port}")).because(error),
    }
}

/// The authority that signs certificates of hosts, made anew when it is missing or about to end.
fn authority(pki: &Path) -> Result<(Authority, PathBuf), Failure> {
    let (secret, public) = (pki.join("gateway-ca.pem"), pki.join("gateway-ca.crt"));
    let unusable = |path: &Path, error: &dyn std::error::Error| {
        Failure::new(format!(
            "cannot prepare the gateway's certificate authority in {}",
            path.display()
        ))
        .cause(error)
    };
    create_private_dir(pki).map_err(|error| unusable(pki, &error))?;
    let now = Timestamp::now();
    let stored = match std::fs::read_to_string(&secret) {
        Ok(text) => {
            let authority = Authority::from_pem(&text).map_err(|error| {
                unusable(&secret, &error)
                    .hint("move the file away to have a new one made (who trusts the old one must trust the new one then)")
            })?;
            Some(authority).filter(|authority| !authority.is_due(now))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(unusable(&secret, &error)),
    };
    let authority = match stored {
        Some(authority) => authority,
        None => {
            let text = Authority::generate(now).map_err(|error| unusable(&secret, &error))?;
            write_private(&secret, text.as_bytes()).map_err(|error| unusable(&secret, &error))?;
            Authority::from_pem(&text).map_err(|error| unusable(&secret, &error))?
        }
    };
    let known = std::fs::read_to_string(&public).ok();
    if known.as_deref() != Some(authority.certificate_pem()) {
        write_private(&public, authority.certificate_pem().as_bytes())
            .map_err(|error| unusable(&public, &error))?;
    }
    Ok((authority, public))
}
