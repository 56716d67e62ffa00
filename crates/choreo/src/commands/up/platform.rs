//! Wiring: store, API server, kinds, defaults, controllers, simulated nodes, the gateway and the TLS port.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use choreo_admission::Rules;
use choreo_apiserver::authn::Authenticator;
use choreo_apiserver::kubeconfig::{self, Context};
use choreo_apiserver::serve::{ServeOptions, TlsSettings, serve, tls_settings};
use choreo_apiserver::tls::{Pki, local_names};
use choreo_apiserver::user::UserInfo;
use choreo_apiserver::{ApiServer, Audit, Options, SigningKey};
use choreo_controllers::planes::Embedded;
use choreo_controllers::{Controllers, RunOptions, install};
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::banner::{Facts, Progress};
use super::folder::DataFolder;
use super::{Args, DEFAULT_PORT, containers, first_run, gateway};
use crate::failure::Failure;
use crate::text::count;

/// The logical cluster of the control plane: the API's plain path.
const CONTROL: &str = "control";
/// The logical cluster that stands for a data plane.
const LOCAL: &str = "local";
/// How often the certificates are looked at while the process runs.
const CERTIFICATE_CHECK: Duration = Duration::from_secs(12 * 3600);
/// How long the controllers may take to finish what they are at.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// The running platform.
pub(crate) struct Platform {
    /// Where everything is.
    pub(crate) facts: Facts,
    controllers: Controllers,
    node: JoinHandle<()>,
    gateway: JoinHandle<()>,
    agent: Option<choreo_node::Agent>,
    server: JoinHandle<()>,
    /// Ends controllers and nodes; then, with the second one, what they talk to.
    shutdown: CancellationToken,
    shutdown_server: CancellationToken,
}

impl Platform {
    /// Starts everything, and returns when requests are served and the defaults are there.
    pub(crate) async fn start(
        args: &Args,
        folder: &DataFolder,
        progress: &mut Progress<'_>,
    ) -> Result<Self, Failure> {
        let (shutdown, shutdown_server) = (CancellationToken::new(), CancellationToken::new());
        // What can fail because of a mistake comes first, before anything runs.
        let authenticator = authenticator(args)?;
        let audit = audit(args)?;
        let listener = listen(args.api_port).await?;
        let gateway = gateway::Prepared::open(args, &folder.pki())?;
        let (ports, authority_file) = (gateway.ports, gateway.authority_file.clone());
        let containers = containers::choose(args, folder, gateway::addresses(&ports)).await?;
        let address = listener
            .local_addr()
            .map_err(|error| Failure::new("cannot listen").because(&error))?;
        let pki = open_pki(folder)?;
        let signing_key = SigningKey::open(&folder.pki().join("service-accounts.key")).map_err(|error| {
            Failure::new("cannot prepare the key of service account tokens").because(&error)
        })?;
        let api = ApiServer::new(
            folder.store().clone(),
            Options {
                clusters: vec![CONTROL.to_owned(), LOCAL.to_owned()],
                admission: vec![Arc::new(Rules::in_cluster(CONTROL))],
                authenticator,
                audit,
                signing_key: Some(signing_key),
                certificate_authority: pki.authority_pem().to_owned(),
                ..Options::default()
            },
        )
        .map_err(|error| Failure::new("cannot start the API server").because(&error))?;
        api.start_controllers(&shutdown_server);
        let url = format!("https://{address}");
        let tls = tls_settings(tls_config(&pki)?);
        let server = tokio::spawn(serve(
            listener,
            Arc::clone(&tls),
            Arc::new(api.authenticator()),
            api.router(),
            ServeOptions::default(),
            shutdown_server.clone(),
        ));
        progress.done("API server", &url)?;

        let control = api.cluster_client(CONTROL, &UserInfo::system("choreo-controllers"));
        let local = api.cluster_client(LOCAL, &UserInfo::system("choreo-node"));
        let (ours, foreign) = (install::control_plane(), install::data_plane());
        let failed = |error| Failure::new("cannot install the kinds").because(&error);
        let (installed, installed_foreign) = tokio::join!(
            install::definitions(&control, &ours),
            install::definitions(&local, &foreign)
        );
        installed.map_err(failed)?;
        installed_foreign.map_err(failed)?;
        install::data_plane_defaults(&local, &ports)
            .await
            .map_err(|error| Failure::new("cannot prepare the local data plane").because(&error))?;
        progress.done(
            "Kinds",
            format!("{} here, {} in the data plane", ours.len(), foreign.len()),
        )?;

        let described = containers.agent.as_ref().map(choreo_node::Agent::describe);
        match (&described, &containers.hint) {
            (Some(engine), _) => progress.done("Containers", engine)?,
            (None, Some(hint)) => progress.done("Containers", format!("simulated; {hint}"))?,
            (None, None) => progress.done("Containers", "simulated")?,
        }
        if let (Some(agent), Some(cluster)) = (&containers.agent, api.cluster(LOCAL)) {
            cluster.connect_pods(Arc::new(agent.clone())).await;
        }
        let node_options = choreo_node::Options {
            simulator: containers.agent.is_none(),
            containers: containers.agent.clone(),
            ..choreo_node::Options::default()
        };
        let node = tokio::spawn(choreo_node::run(local, node_options, shutdown.clone()));
        let gateway = tokio::spawn(choreo_gateway::run(
            api.cluster_client(LOCAL, &UserInfo::system("choreo-gateway")),
            gateway.options(match &containers.agent {
                Some(agent) => gateway::containers(agent.clone()),
                None => gateway::simulated(),
            }),
            shutdown.clone(),
        ));
        progress.done(
            "Gateway",
            format!("http on port {}, https on port {}", ports.http, ports.https),
        )?;
        let clusters = api.clone();
        tokio::spawn(run_workloads(api.clone(), CONTROL, shutdown.clone()));
        let connector = Embedded::new(move |name| {
            clusters.cluster(name)?;
            Some(clusters.cluster_client(name, &UserInfo::system("choreo-controllers")))
        });
        let options = RunOptions::new(control.clone(), Arc::new(connector), shutdown.clone());
        let controllers = choreo_controllers::start(options);
        if !controllers.ready().await {
            return Err(Failure::new("the controllers did not start").hint("--log-level info tells why"));
        }
        progress.done("Controllers", "working")?;

        let made = first_run::install_defaults(&control, &ports).await?;
        if made > 0 {
            progress.done(
                "Defaults",
                format!("{} in organization default", count(made, "object")),
            )?;
        }
        // Last: who sees the file may use it.
        write_kubeconfig(folder, &url, &pki)?;
        tokio::spawn(renew_certificates(
            folder.pki(),
            folder.kubeconfig(),
            url.clone(),
            tls,
            shutdown_server.clone(),
        ));
        Ok(Self {
            facts: Facts {
                kubeconfig: folder.kubeconfig(),
                data_plane: format!("{url}/clusters/{LOCAL}"),
                api: url,
                http_port: ports.http,
                https_port: ports.https,
                authority_file,
                folder: folder.path().to_owned(),
                in_memory: args.in_memory,
                engine: described,
            },
            agent: containers.agent,
            controllers,
            node,
            gateway,
            server,
            shutdown,
            shutdown_server,
        })
    }

    /// Runs until asked to stop, and then stops in order: first those who write, then what they write to.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), Failure> {
        let mut server = self.server;
        tokio::select! {
            () = stop.cancelled() => {}
            ended = &mut server => {
                return Err(match ended {
                    Ok(()) => Failure::new("the API server ended"),
                    Err(error) => Failure::new("the API server ended").because(&error),
                });
            }
        }
        self.shutdown.cancel();
        let workers = async {
            self.controllers.stopped().await;
            let _ = self.node.await;
            let _ = self.gateway.await;
            if let Some(agent) = self.agent.filter(|_| self.facts.in_memory)
                && let Err(error) = agent.remove_everything().await
            {
                // Whose they were is forgotten, so that no later start can do it.
                tracing::warn!("not all containers were removed: {error}");
            }
        };
        if tokio::time::timeout(STOP_TIMEOUT, workers).await.is_err() {
            tracing::warn!("controllers still at work after {STOP_TIMEOUT:?} were cut off");
        }
        self.shutdown_server.cancel();
        server
            .await
            .map_err(|error| Failure::new("the API server ended badly").because(&error))
    }
}

/// What the controllers of workloads see to.
const WORKLOADS: [&str; 9] = [
    "apps/daemonsets",
    "apps/deployments",
    "apps/replicasets",
    "apps/statefulsets",
    "autoscaling/horizontalpodautoscalers",
    "batch/cronjobs",
    "batch/jobs",
    "policy/poddisruptionbudgets",
    "services",
];

/// Runs Kubernetes' controllers of workloads in a cluster from the moment on that somebody has a workload there. Until then
/// they would only cost memory: the control plane has none of its own.
async fn run_workloads(api: ApiServer, name: &'static str, shutdown: CancellationToken) {
    let Some(cluster) = api.cluster(name).cloned() else {
        return;
    };
    let store = cluster.store();
    let first = async {
        let watches = WORKLOADS.map(|resource| store.watch(Some(resource), None, store.revision()));
        if WORKLOADS.iter().any(|resource| store.count(resource) > 0) {
            return;
        }
        let waiting = watches.into_iter().flatten().map(|mut watch| {
            Box::pin(async move {
                let _ = watch.next().await;
            })
        });
        futures::future::select_all(waiting).await;
    };
    tokio::select! {
        () = shutdown.cancelled() => return,
        () = first => {}
    }
    let options = choreo_node::Options {
        workloads: true,
        simulator: false,
        containers: None,
        operators: false,
    };
    let client = api.cluster_client(name, &UserInfo::system("kube-controller-manager"));
    choreo_node::run(client, options, shutdown).await;
}

fn authenticator(args: &Args) -> Result<Authenticator, Failure> {
    let authenticator = Authenticator::new();
    match &args.token_file {
        None => Ok(authenticator),
        Some(path) => authenticator
            .with_token_file(path)
            .map_err(|error| Failure::new("cannot use the token file").because(&error)),
    }
}

fn audit(args: &Args) -> Result<Option<Audit>, Failure> {
    let (Some(policy), Some(log)) = (&args.audit_policy_file, &args.audit_log_path) else {
        return Ok(None);
    };
    Audit::open(policy, log)
        .map(Some)
        .map_err(|error| Failure::new("cannot set the audit up").because(&error))
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

fn contexts(url: &str) -> [Context; 2] {
    let context = |name: &str, path: &str| Context {
        name: name.to_owned(),
        server: format!("{url}{path}"),
        namespace: "default".to_owned(),
    };
    [
        context("choreo", ""),
        context(LOCAL, &format!("/clusters/{LOCAL}")),
    ]
}

fn write_kubeconfig(folder: &DataFolder, url: &str, pki: &Pki) -> Result<(), Failure> {
    kubeconfig::write(
        &folder.kubeconfig(),
        &contexts(url),
        pki.authority_pem(),
        pki.admin(),
    )
    .map_err(|error| Failure::new(format!("cannot write {}", folder.kubeconfig().display())).because(&error))
}

/// Renews certificates when they are due, in a process that runs for months.
async fn renew_certificates(
    pki_dir: std::path::PathBuf,
    kubeconfig: std::path::PathBuf,
    url: String,
    tls: TlsSettings,
    shutdown: CancellationToken,
) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(CERTIFICATE_CHECK) => {}
        }
        let renewed = Pki::open(&pki_dir, &local_names(), Timestamp::now()).and_then(|pki| {
            tls.store(pki.server_config()?);
            Ok(pki)
        });
        match renewed {
            Ok(pki) => {
                if let Err(error) =
                    kubeconfig::write(&kubeconfig, &contexts(&url), pki.authority_pem(), pki.admin())
                {
                    tracing::error!(%error, "cannot write the kubeconfig");
                }
            }
            Err(error) => tracing::error!(%error, "cannot renew the certificates"),
        }
    }
}
