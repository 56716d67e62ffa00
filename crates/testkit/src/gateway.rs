//! The gateway of a data plane in process.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use choreo_controllers::defaults::{GatewayPorts, RawPorts};
use choreo_gateway::{Authority, Options, Refuse, Sockets};
use jiff::Timestamp;
use kube::Client;
use tokio_util::sync::CancellationToken;

/// A gateway on free ports, in front of pods that are simulated.
pub(crate) struct Gateway {
    pub(crate) ports: GatewayPorts,
    sockets: Sockets,
}

impl Gateway {
    /// Binds the ports.
    pub(crate) fn bind() -> std::io::Result<Self> {
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let mut sockets = Sockets::default();
        let raw = |sockets: &mut Sockets| -> std::io::Result<RawPorts> {
            Ok(RawPorts {
                tcp: sockets.bind_tcp(local, 0)?,
                udp: sockets.bind_udp(local, 0)?,
            })
        };
        let ports = GatewayPorts {
            http: sockets.bind_tcp(local, 0)?,
            https: sockets.bind_tcp(local, 0)?,
            tls: sockets.bind_tcp(local, 0)?,
            public: raw(&mut sockets)?,
            organization: raw(&mut sockets)?,
        };
        Ok(Self { ports, sockets })
    }

    /// Serves the cluster of `client` until `shutdown`.
    pub(crate) fn start(self, client: Client, shutdown: &CancellationToken) -> anyhow::Result<()> {
        let options = Options {
            dial: Arc::new(Refuse("pods are simulated".to_owned())),
            authority: Some(Authority::from_pem(&Authority::generate(Timestamp::now())?)?),
            sockets: self.sockets,
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        tokio::spawn(choreo_gateway::run(client, options, shutdown.clone()));
        Ok(())
    }
}
