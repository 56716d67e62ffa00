//! Claims for volumes: bound at once, to nothing.

use k8s_openapi::api::core::v1::PersistentVolumeClaimStatus;
use serde_json::json;

use super::SIMULATED;
use crate::core::{Action, Context, Name, Result};

pub(crate) async fn reconcile(context: &Context, name: &Name) -> Result<Action> {
    let Some(claim) = context.world.claims.get(name) else {
        return Ok(Action::Wait);
    };
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    if !context.options.simulator || phase == Some("Bound") || claim.metadata.deletion_timestamp.is_some() {
        return Ok(Action::Wait);
    }
    let patch = json!({"metadata": {"annotations": {SIMULATED: "true"}}});
    let mut changed = (*context
        .merge::<k8s_openapi::api::core::v1::PersistentVolumeClaim>(name, &patch)
        .await?)
        .clone();
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
