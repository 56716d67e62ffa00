//! `choreo manager`: the controllers on Kubernetes.

use std::net::SocketAddr;
use std::time::Duration;

use choreo_manager::traces::{self, Exporter, Recorded};
use choreo_manager::{Manager, Options, webhook};
use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};

use tokio_util::sync::CancellationToken;

use crate::env_vars;
use crate::exit::ExitStatus;
use crate::failure::{Failure, Outcome};
use crate::online::Connect;
use crate::service::logging::{self, LogFormat};
use crate::service::signals;

/// Arguments of `choreo manager`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address for /healthz, /readyz and /metrics, or `off`
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8081")]
    probes: String,
    /// Address of the admission webhook; without it there is none
    #[arg(long, value_name = "ADDRESS", requires = "reach")]
    webhook: Option<SocketAddr>,
    /// Service of the manager's namespace by which the API server reaches the webhook, at port 443
    #[arg(long, value_name = "NAME", group = "reach")]
    webhook_service: Option<String>,
    /// Address by which the API server reaches the webhook of a manager outside of the cluster
    #[arg(long, value_name = "URL", group = "reach")]
    webhook_url: Option<String>,
    /// User that the manager is, whom the API server does not ask the webhook about
    #[arg(long, value_name = "USER")]
    own_user: Option<String>,
    /// Namespace of the lease that says who acts [default: $POD_NAMESPACE, else `openchoreo-system`]
    #[arg(long, value_name = "NAME", env = env_vars::POD_NAMESPACE, hide_env_values = true)]
    lease_namespace: Option<String>,
    /// Name of the lease
    #[arg(long, value_name = "NAME", default_value = "choreo-manager")]
    lease: String,
    /// Seconds after which a manager that is gone without a word is replaced
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(2..=3600))]
    lease_duration: u64,
    /// Parts that the organizations are divided into; each is one replica's, so that several share the work
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=8))]
    shards: u32,
    /// Do not install or upgrade the definitions of kinds
    #[arg(long)]
    no_install: bool,
    /// Do not make the organization `default` with its pipeline and classes
    #[arg(long)]
    no_defaults: bool,
    /// Install definitions even if a newer version has installed some with fields that would be lost
    #[arg(long)]
    force_downgrade: bool,
    /// Collector that traces are sent to, by OTLP over HTTP: for example http://localhost:4318. Nothing is traced without it
    #[arg(long, value_name = "URL", env = env_vars::OTLP_ENDPOINT, hide_env_values = true)]
    otlp_endpoint: Option<String>,
    /// What is logged to standard error: error, warn, info, debug, trace, or a filter such as `info,choreo_controllers=debug`
    #[arg(long, value_name = "LEVEL", env = env_vars::LOG_LEVEL, default_value = "info,kube_client=error", hide_env_values = true)]
    log_level: String,
    /// How it is logged
    #[arg(long, value_name = "FORMAT", env = env_vars::LOG_FORMAT, default_value = "json", hide_env_values = true)]
    log_format: LogFormat,
}

pub(crate) fn run(args: &Args, connect: &Connect) -> Outcome {
    let (recorder, recorded) = match &args.otlp_endpoint {
        Some(_) => Some(traces::channel()).unzip(),
        None => (None, None),
    };
    logging::start(&args.log_level, args.log_format, recorder)?;
    let runtime =
        choreo_allocator::runtime().map_err(|error| Failure::new("cannot start").because(&error))?;
    let result = runtime.block_on(choreo_allocator::giving_back(traced(args, connect, recorded)));
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// Sends what is recorded while the manager runs.
async fn traced(args: &Args, connect: &Connect, recorded: Option<Recorded>) -> Outcome {
    let (identity, end) = (identity(), CancellationToken::new());
    let exporting = match (recorded, &args.otlp_endpoint) {
        (Some(recorded), Some(endpoint)) => {
            let exporter = Exporter::new(endpoint, &identity, recorded)
                .map_err(|error| Failure::usage("--otlp-endpoint").because(&error))?;
            Some(tokio::spawn(exporter.run(end.clone())))
        }
        _ => None,
    };
    let result = manage(args, connect, identity).await;
    end.cancel();
    if let Some(exporting) = exporting {
        let _ = exporting.await;
    }
    result
}

async fn manage(args: &Args, connect: &Connect, identity: String) -> Outcome {
    let stop = signals::listen()?;
    let mut options = Options::new(config(connect).await?, identity);
    if let Some(namespace) = &args.lease_namespace {
        options.namespace.clone_from(namespace);
    }
    options.lease.clone_from(&args.lease);
    let lease = Duration::from_secs(args.lease_duration);
    options.timings.lease = lease;
    options.timings.give_up = lease.mul_f64(2.0 / 3.0);
    options.timings.renew = lease.mul_f64(0.25);
    options.timings.retry = options.timings.retry.min(lease / 10);
    options.shards = args.shards;
    options.install = !args.no_install;
    options.defaults = !args.no_defaults;
    options.force_downgrade = args.force_downgrade;
    options.probes = probes(&args.probes)?;
    options.webhook = args.webhook.map(|listen| webhook::Options {
        listen,
        reach: match (&args.webhook_service, &args.webhook_url) {
            (Some(name), _) => webhook::Reach::Service {
                name: name.clone(),
                port: 443,
            },
            (None, url) => webhook::Reach::Url(url.clone().unwrap_or_default()),
        },
        name: format!("{}-webhook", args.lease),
        own_user: args.own_user.clone(),
    });
    let identity = options.identity.clone();
    let server = options.config.cluster_url.to_string();
    let failed =
        |error: choreo_manager::ManagerError| Failure::new("the manager cannot go on").because(&error);
    let manager = Manager::new(options).await.map_err(failed)?;
    let probes = manager
        .probes()
        .map(|address| address.to_string())
        .unwrap_or_default();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        server,
        identity,
        probes,
        "manager started"
    );
    manager.run(stop).await.map_err(failed)?;
    tracing::info!("manager stopped");
    Ok(ExitStatus::Success)
}

fn probes(text: &str) -> Result<Option<SocketAddr>, Failure> {
    if text == "off" {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error| {
        Failure::usage(format!("--probes: `{text}` is no address"))
            .because(&error)
            .hint("for example: 0.0.0.0:8081, or off")
    })
}

/// The kubeconfig that is named or in the environment; in a pod its service account.
async fn config(connect: &Connect) -> Result<Config, Failure> {
    let options = KubeConfigOptions {
        context: connect.context.clone(),
        ..KubeConfigOptions::default()
    };
    let unusable =
        |error: &dyn std::error::Error| Failure::new("the kubeconfig cannot be used").because(error);
    let named = match &connect.kubeconfig {
        Some(path) => Some(Kubeconfig::read_from(path).map_err(|error| unusable(&error))?),
        None => Kubeconfig::from_env().map_err(|error| unusable(&error))?,
    };
    match named {
        Some(kubeconfig) => Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .map_err(|error| unusable(&error)),
        None => Config::incluster().map_err(|error| {
            Failure::new("no cluster is named").because(&error).hint(
                "name a kubeconfig: --kubeconfig FILE or KUBECONFIG; in a pod its service account is used",
            )
        }),
    }
}

/// The pod's name, else the machine's and a number of this process, so that two never share one.
fn identity() -> String {
    let named = std::env::var(env_vars::POD_NAME).or_else(|_| std::env::var(env_vars::HOSTNAME));
    let name = named.unwrap_or_else(|_| "manager".to_owned());
    let start = jiff::Timestamp::now().as_millisecond();
    format!("{name}_{}-{start:x}", std::process::id())
}
