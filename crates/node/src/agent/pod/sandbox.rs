//! The Pod's network: its sandbox in the cell of its namespace.

use std::{net::Ipv4Addr, time::Duration};

use tokio::time::Instant;

use super::{
    Failed, Worker, start,
    state::{self, Sandbox},
};
use crate::agent::{egress, engine::EngineError};

impl Worker {
    /// Whether the Pod has its network.
    pub(super) async fn ensure_sandbox(&mut self) -> Result<bool, Failed> {
        if self.state.sandbox.is_some() {
            // Found running after a restart: nobody has made the cell known yet.
            let namespace = &self.desk.name.namespace;
            if self.runtime.cells.get(namespace).is_none() {
                self.runtime.cells.ensure(&self.runtime, namespace).await?;
            }
            return Ok(true);
        }
        if let Some(at) = self.sandbox_not_before.filter(|at| *at > Instant::now()) {
            self.look_again(at);
            return Ok(false);
        }
        match self.make_sandbox().await {
            Ok(()) => {
                self.sandbox_failures = 0;
                Ok(true)
            }
            Err(error) if error.is_away() => Err(error.into()),
            Err(error) => {
                self.warn(
                    "FailedCreatePodSandBox",
                    format!("Failed to create pod sandbox: {error}"),
                );
                self.sandbox_failures += 1;
                let at = Instant::now() + state::back_off(self.sandbox_failures).min(Duration::from_secs(60));
                self.sandbox_not_before = Some(at);
                self.look_again(at);
                // An image that was removed behind our back is made anew.
                self.runtime.cells.forget_image().await;
                let _ = self
                    .runtime
                    .cells
                    .renew_relay(&self.runtime, &self.desk.name.namespace)
                    .await;
                Ok(false)
            }
        }
    }

    async fn make_sandbox(&mut self) -> Result<(), EngineError> {
        let runtime = self.runtime.clone();
        let engine = &runtime.engine;
        let image = runtime.cells.image(&runtime).await?;
        let cell = runtime.cells.ensure(&runtime, &self.desk.name.namespace).await?;
        let attempt = self.state.next_sandbox;
        let spec = start::sandbox(&runtime, &self.pod, &cell, image, attempt);
        let id = runtime.create(&spec).await?;
        if let Err(error) = engine.start(&id).await {
            let _ = engine.remove(&id).await;
            return Err(error);
        }
        let found = engine.inspect(&id).await?;
        let address: Option<Ipv4Addr> = found
            .addresses
            .get(&cell.network)
            .or(found.addresses.values().next())
            .copied();
        let Some(address) = address else {
            let _ = engine.remove(&id).await;
            return Err(EngineError::Refused(format!(
                "the engine gave the sandbox no address in {}",
                cell.network
            )));
        };
        let sandbox = Sandbox { id, address };
        if let Err(error) = start::write_identity(&runtime, &self.pod, &cell, &sandbox) {
            let _ = engine.remove(&sandbox.id).await;
            return Err(EngineError::Refused(format!(
                "cannot write the Pod's hosts file: {error}"
            )));
        }
        self.state.next_sandbox = attempt + 1;
        if let Err(error) = cell.in_force().await {
            let _ = engine.remove(&sandbox.id).await;
            return Err(error);
        }
        self.state.sandbox = Some(sandbox);
        if let Some(message) = egress::closed_inside(&runtime, &self.pod) {
            self.warn_once("NetworkPolicyNotEnforced", message);
        }
        Ok(())
    }
}
