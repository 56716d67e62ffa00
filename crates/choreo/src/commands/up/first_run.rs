//! What a new control plane begins with.

use choreo_controllers::{defaults, install};
use kube::Client;

use crate::failure::Failure;

/// Makes the defaults unless that was done before, and says how many there are.
pub(crate) async fn install_defaults(control: &Client) -> Result<usize, Failure> {
    install::defaults_once(control, &defaults::defaults())
        .await
        .map_err(|error| Failure::new("cannot make the defaults").because(&error))
}
