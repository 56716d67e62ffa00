//! Wiring: store, API server, kinds, defaults, controllers, simulated nodes and the TLS port.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use choreo_apiserver::authn::Authenticator;
use choreo_apiserver::kubeconfig::{self, Context};
use choreo_apiserver::serve::{ServeOptions, TlsSettings, serve, tls_settings};
use choreo_apiserver::tls::{Pki, local_names};
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::banner::{Facts, Progress};
use super::folder::DataFolder;
use super::{Args, DEFAULT_PORT};
use crate::failure::Failure;

/// The logical cluster of the control plane: the API's plain path.
const CONTROL: &str = "control";
/// The logical cluster that stands for a data plane.
const LOCAL: &str = "local";
/// How often the certificates are looked at while the process runs.
const CERTIFICATE_CHECK: Duration = Duration::from_secs(12 * 3600);

/// The running platform.
pub(crate) struct Platform {
    /// Where everything is.
    pub(crate) facts: Facts,
    server: JoinHandle<()>,
    shutdown: CancellationToken,
}

impl Platform {
    /// Starts everything, and returns when requests are served and the defaults are there.
    pub(crate) async fn start(
        args: &Args,
        folder: &DataFolder,
        progress: &mut Progress<'_>,
    ) -> Result<Self, Failure> {
        let shutdown = CancellationToken::new();
        let mut authenticator = Authenticator::new();
        if let Some(path) = &args.token_file {
            authenticator = authenticator
                .with_token_file(path)
                .map_err(|error| Failure::new("cannot use the token file").because(&error))?;
        }
        let pki = open_pki(folder)?;
        let listener = listen(args.api_port).await?;
        let address = listener
            .local_addr()
            .map_err(|error| Failure::new("cannot listen").because(&error))?;
        let api = format!("https://{address}");
        let router = axum::Router::new();
        write_kubeconfig(folder, &api, &pki)?;
        let tls = tls_settings(tls_config(&pki)?);
        let server = tokio::spawn(serve(
            listener,
            Arc::clone(&tls),
            Arc::new(authenticator),
            router,
            ServeOptions::default(),
            shutdown.clone(),
        ));
        progress.done("API server", &api)?;
        Ok(Self {
            facts: Facts {
                kubeconfig: folder.kubeconfig(),
                data_plane: format!("{api}/clusters/{LOCAL}"),
                api,
                folder: folder.path().to_owned(),
                in_memory: args.in_memory,
            },
            server,
            shutdown,
        })
    }

    /// Runs until asked to stop, and then stops in order.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), Failure> {
        stop.cancelled().await;
        self.shutdown.cancel();
        self.server
            .await
            .map_err(|error| Failure::new("the API server ended badly").because(&error))
    }
}

async fn listen(port: u16) -> Result<TcpListener, Failure> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpListener::bind(address)
        .await
        .map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => Failure::new(format!("port {port} is in use")).hint(format!(
                "choose another one: --api-port PORT (0 takes any free one; {DEFAULT_PORT} is the default)"
            )),
            io::ErrorKind::PermissionDenied => {
                Failure::new(format!("port {port} is for privileged processes"))
                    .hint("choose one above 1023: --api-port PORT")
            }
            _ => Failure::new(format!("cannot listen on {address}")).because(&error),
        })
}

fn open_pki(folder: &DataFolder) -> Result<Pki, Failure> {
    Pki::open(&folder.pki(), &local_names(), Timestamp::now())
        .map_err(|error| Failure::new("cannot prepare the certificates").because(&error))
}

fn tls_config(pki: &Pki) -> Result<Arc<rustls::ServerConfig>, Failure> {
    pki.server_config()
        .map_err(|error| Failure::new("cannot prepare TLS").because(&error))
}

fn write_kubeconfig(folder: &DataFolder, api: &str, pki: &Pki) -> Result<(), Failure> {
    let context = |name: &str, path: &str| Context {
        name: name.to_owned(),
        server: format!("{api}{path}"),
        namespace: "default".to_owned(),
    };
    let contexts = [
        context("choreo", ""),
        context(LOCAL, &format!("/clusters/{LOCAL}")),
    ];
    kubeconfig::write(&folder.kubeconfig(), &contexts, pki.authority_pem(), pki.admin()).map_err(|error| {
        Failure::new(format!("cannot write {}", folder.kubeconfig().display())).because(&error)
    })
}
