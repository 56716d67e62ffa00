//! Claims for volumes: bound at once, to nothing where Pods are simulated, and else to a folder that the first Pod makes.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimStatus};
use serde_json::json;

use super::SIMULATED;
use crate::core::{Action, Context, Name, Result};

pub(crate) async fn reconcile(context: &Context, name: &Name) -> Result<Action> {
    let Some(claim) = context.world.claims.get(name) else {
        return Ok(Action::Wait);
    };
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    let runs = context.options.simulator || context.options.containers.is_some();
    if !runs || phase == Some("Bound") || claim.metadata.deletion_timestamp.is_some() {
        return Ok(Action::Wait);
    }
    let claim = if context.options.simulator {
        let patch = json!({"metadata": {"annotations": {SIMULATED: "true"}}});
        context.merge::<PersistentVolumeClaim>(name, &patch).await?
    } else {
        claim
    };
    let mut changed = (*claim).clone();
    let spec = changed.spec.clone().unwrap_or_default();
    changed.status = Some(PersistentVolumeClaimStatus {
        phase: Some("Bound".into()),
        access_modes: spec.access_modes,
        capacity: spec.resources.and_then(|resources| resources.requests),
        ..PersistentVolumeClaimStatus::default()
    });
    context.replace_status(&changed).await?;
    Ok(Action::Wait)
}
