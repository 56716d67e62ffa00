//! What a new control plane begins with.

use choreo_controllers::defaults::GatewayPorts;
use choreo_controllers::{defaults, install};
use kube::Client;

use crate::failure::Failure;

/// Makes the defaults unless that was done before, and says how many there are.
pub(crate) async fn install_defaults(control: &Client, ports: &GatewayPorts) -> Result<usize, Failure> {
    let failed = |error| Failure::new("cannot make the defaults").because(&error);
    let made = install::defaults_once(control, &defaults::defaults_with(ports))
        .await
        .map_err(failed)?;
    // What was made by an earlier run has the ports of that run.
    if made == 0 {
        install::data_plane_ports(control, ports).await.map_err(failed)?;
    }
    Ok(made)
}
