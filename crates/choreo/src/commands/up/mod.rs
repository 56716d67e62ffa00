//! `choreo up`: the whole platform in one process.

mod banner;
mod containers;
mod first_run;
mod folder;
mod gateway;
mod platform;

use std::path::PathBuf;

use crate::data_dir::default_data_dir;
use crate::env_vars;
use crate::exit::ExitStatus;
use crate::failure::{Failure, Outcome};
use crate::output::Printer;
use crate::service::logging::{self, LogFormat};
use crate::service::signals;

/// The port of the API unless told otherwise.
pub(crate) const DEFAULT_PORT: u16 = 7443;

/// Arguments of `choreo up`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder for everything that is kept [default: `choreo` in the user's data folder]
    #[arg(long, value_name = "DIR", env = env_vars::DATA_DIR, hide_env_values = true)]
    data_dir: Option<PathBuf>,
    /// Port of the Kubernetes API on the loopback address; 0 takes any free one
    #[arg(long, value_name = "PORT", env = env_vars::API_PORT, default_value_t = DEFAULT_PORT, hide_env_values = true)]
    api_port: u16,
    /// Port of the gateway for HTTP on the loopback address; 0 takes any free one
    #[arg(long, value_name = "PORT", env = env_vars::HTTP_PORT, default_value_t = gateway::DEFAULT_HTTP_PORT, hide_env_values = true)]
    http_port: u16,
    /// Port of the gateway for HTTPS on the loopback address; 0 takes any free one
    #[arg(long, value_name = "PORT", env = env_vars::HTTPS_PORT, default_value_t = gateway::DEFAULT_HTTPS_PORT, hide_env_values = true)]
    https_port: u16,
    /// Whether Pods run as containers
    #[arg(long, value_name = "HOW", env = env_vars::CONTAINERS, value_enum, default_value = "auto", hide_env_values = true)]
    containers: containers::Mode,
    /// Keep nothing: objects are in memory, and without --data-dir the folder is a temporary one
    #[arg(long)]
    in_memory: bool,
    /// File of bearer tokens, as kube-apiserver's --token-auth-file
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Which requests are audited: a Policy of audit.k8s.io/v1. Needs --audit-log-path
    #[arg(long, value_name = "FILE", requires = "audit_log_path")]
    audit_policy_file: Option<PathBuf>,
    /// File that audit events are appended to, one line of JSON each
    #[arg(long, value_name = "FILE", requires = "audit_policy_file")]
    audit_log_path: Option<PathBuf>,
    /// What is logged to standard error: error, warn, info, debug, trace, or a filter such as `info,choreo_store=debug`
    #[arg(long, value_name = "LEVEL", env = env_vars::LOG_LEVEL, default_value = "warn", hide_env_values = true)]
    log_level: String,
    /// How it is logged
    #[arg(long, value_name = "FORMAT", env = env_vars::LOG_FORMAT, default_value = "text", hide_env_values = true)]
    log_format: LogFormat,
}

pub(crate) fn run(args: &Args, printer: &mut Printer) -> Outcome {
    logging::start(&args.log_level, args.log_format, None)?;
    let runtime =
        choreo_allocator::runtime().map_err(|error| Failure::new("cannot start").because(&error))?;
    let folder = folder::DataFolder::open(
        args.data_dir.clone().or_else(default_data_dir),
        args.data_dir.is_some(),
        args.in_memory,
    )?;
    let result = runtime.block_on(choreo_allocator::giving_back(up(args, &folder, printer)));
    // What is still running (a slow blocking call, say) must not hold the end up.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    result
}

async fn up(args: &Args, folder: &folder::DataFolder, printer: &mut Printer) -> Outcome {
    // First of all, so that an early Ctrl-C ends things in order, too.
    let stop = signals::listen()?;
    let started = std::time::Instant::now();
    let mut progress = banner::Progress::new(printer);
    let platform = tokio::select! {
        platform = platform::Platform::start(args, folder, &mut progress) => platform?,
        () = stop.cancelled() => return Ok(ExitStatus::Success),
    };
    progress.ready(&platform.facts, started.elapsed())?;
    platform.run(stop).await?;
    printer.note("stopped")?;
    Ok(ExitStatus::Success)
}
