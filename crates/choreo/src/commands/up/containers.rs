//! Whether Pods run as containers, or are simulated.

use choreo_node::{Agent, AgentOptions, GatewayAddresses, StartError, install_hint};

use super::Args;
use super::folder::DataFolder;
use crate::failure::Failure;

/// How Pods run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mode {
    /// As containers if a container engine answers, otherwise simulated
    Auto,
    /// As containers of Docker or Podman; fails without one
    Engine,
    /// Simulated: objects are real, no container is run
    Simulated,
}

/// What was chosen.
pub(crate) struct Containers {
    /// What runs them.
    pub(crate) agent: Option<Agent>,
    /// Why none does, and what to do about it.
    pub(crate) hint: Option<String>,
}

/// Looks for an engine, if one is wanted.
pub(crate) async fn choose(
    args: &Args,
    folder: &DataFolder,
    gateway: GatewayAddresses,
) -> Result<Containers, Failure> {
    if args.containers == Mode::Simulated {
        return Ok(Containers {
            agent: None,
            hint: None,
        });
    }
    let options = AgentOptions::new(folder.path().join("node"))
        .map_err(|error| Failure::new("cannot find this program's own file").because(&error))?;
    match Agent::connect(options).await {
        Ok(agent) => {
            agent.set_gateway(gateway);
            Ok(Containers {
                agent: Some(agent),
                hint: None,
            })
        }
        Err(error @ StartError::NoEngine { .. }) if args.containers == Mode::Auto => {
            tracing::info!("Pods are simulated: {error}");
            Ok(Containers {
                agent: None,
                hint: Some(format!("to run containers: {}", install_hint())),
            })
        }
        Err(error) => {
            let failure = Failure::new("cannot run containers").because(&error);
            Err(match error {
                StartError::NoEngine { .. } => failure.hint(format!(
                    "{}; or simulate Pods: --containers simulated",
                    install_hint()
                )),
                _ => failure.hint("simulate Pods instead: --containers simulated"),
            })
        }
    }
}
