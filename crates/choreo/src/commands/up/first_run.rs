//! What a new control plane begins with.
//!
//! The defaults are made once. Somebody who has deleted one of them does not find it again after a restart, so that a mark
//! on the platform's own namespace says that they were made.

use choreo_api::labels::PLATFORM_NAMESPACE;
use choreo_controllers::{defaults, install};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;

use crate::failure::Failure;

const MARK: &str = "openchoreo.dev/defaults-installed";
const MANAGER: &str = "choreo/install";

/// Makes the defaults unless that was done before, and says how many there are.
pub(crate) async fn install_defaults(control: &Client) -> Result<usize, Failure> {
    let namespaces: Api<Namespace> = Api::all(control.clone());
    let failed = |error: kube::Error| Failure::new("cannot prepare the platform's namespace").because(&error);
    let found = namespaces.get_opt(PLATFORM_NAMESPACE).await.map_err(failed)?;
    if found.is_some_and(|namespace| namespace.annotations().contains_key(MARK)) {
        return Ok(0);
    }
    install::defaults(control)
        .await
        .map_err(|error| Failure::new("cannot make the defaults").because(&error))?;
    let marked = json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": PLATFORM_NAMESPACE, "annotations": {MARK: "true"}},
    });
    let params = PatchParams::apply(MANAGER).force();
    namespaces
        .patch(PLATFORM_NAMESPACE, &params, &Patch::Apply(marked))
        .await
        .map_err(failed)?;
    Ok(defaults::defaults().len())
}
