//! The binding that a promotion leads to: made, or told another artifact.

use choreo_api::labels::Labels;
use choreo_api::v1alpha1::{DeployableArtifact, Deployment, Promotion};
use choreo_engine::binding::{self, Binding};
use choreo_engine::promotion::{self as engine, LaneKey, PROMOTED_BY};
use choreo_engine::world::{ObjectRef as EngineRef, World};
use choreo_engine::{AnyObject, revision};
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::NAME;
use crate::context::Context;
use crate::view::object_ref;
use crate::write::Failure;

/// Has the binding say an artifact, or nothing, on behalf of a promotion.
pub(super) async fn set(
    context: &Context,
    world: &World,
    key: &LaneKey,
    promotion: &Promotion,
    artifact: Option<&str>,
) -> Result<(), Failure> {
    let found = binding::KINDS
        .into_iter()
        .map(|kind| EngineRef::new(kind, key.namespace.clone(), key.binding()))
        .find_map(|reference| world.get_any(&reference));
    match (found, artifact) {
        (Some(object), _) => change(context, world, &object, promotion, artifact).await,
        (None, Some(artifact)) => make(context, world, key, promotion, artifact).await,
        (None, None) => Ok(()),
    }
}

async fn make(
    context: &Context,
    world: &World,
    key: &LaneKey,
    promotion: &Promotion,
    artifact: &str,
) -> Result<(), Failure> {
    let Some(kept) = world.get::<DeployableArtifact>(&key.namespace, artifact) else {
        return Err(Failure::Rejected(format!(
            "DeployableArtifact {artifact:?} is gone"
        )));
    };
    let mut object = engine::new_binding(&promotion.spec, &key.namespace, kept);
    let owner = &promotion.spec.owner;
    let labels = Labels::new()
        .organization(&key.namespace)
        .project(&owner.project_name)
        .component(&owner.component_name)
        .track(&key.track)
        .environment(&key.environment)
        .name(&key.binding())
        .build();
    object["metadata"]["labels"] = json!(labels);
    object["metadata"]["annotations"] = json!({PROMOTED_BY: promotion.name_any()});
    let reference = AnyObject::from_value(&object)
        .map_err(|error| Failure::Rejected(error.to_string()))?
        .reference();
    let resource = context.resource(&object_ref(&reference).kind)?;
    let params = PostParams {
        field_manager: Some(choreo_api::labels::field_manager(NAME)),
        ..PostParams::default()
    };
    let object = serde_json::from_value(object).map_err(|error| Failure::Rejected(error.to_string()))?;
    match context
        .control
        .api(resource, &key.namespace)
        .create(&params, &object)
        .await
    {
        Ok(_) => Ok(()),
        // The cache is a moment behind: the next look changes it.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(Failure::from(error)),
    }
}

async fn change(
    context: &Context,
    world: &World,
    object: &AnyObject,
    promotion: &Promotion,
    artifact: Option<&str>,
) -> Result<(), Failure> {
    let reference = object.reference();
    let live = object.to_value().unwrap_or_default();
    let mut spec = json!({});
    match artifact {
        Some(artifact) => {
            spec["artifactRef"] = json!(artifact);
            if live["spec"]["releaseState"] == "Undeploy" {
                spec["releaseState"] = json!("Active");
            }
            if promotion.spec.is_rollback()
                && let Some(revision) = revision_of(world, &reference, promotion, artifact)
            {
                let of_revision = serde_json::to_value(&revision.spec).unwrap_or_default();
                for field in ["overrides", "environmentConfigs", "traitEnvironmentConfigs"] {
                    let wanted = of_revision.get(field).cloned().unwrap_or(Value::Null);
                    if live["spec"].get(field).cloned().unwrap_or(Value::Null) != wanted {
                        replace(&mut spec, field, &live["spec"][field], wanted);
                    }
                }
            }
        }
        // Nothing ran before.
        None => spec["releaseState"] = json!("Undeploy"),
    }
    let patch = json!({
        "metadata": {
            "uid": object.meta().uid,
            "annotations": {PROMOTED_BY: promotion.name_any()},
        },
        "spec": spec,
    });
    let resource = context.resource(&object_ref(&reference).kind)?;
    let params = PatchParams {
        field_manager: Some(choreo_api::labels::field_manager(NAME)),
        ..PatchParams::default()
    };
    let api = context.control.api(resource, &reference.key.namespace);
    api.patch(&reference.key.name, &params, &Patch::Merge(&patch))
        .await
        .map(drop)
        .map_err(Failure::from)
}

/// In a merge patch an object is merged: what the wanted one does not have must be said to go.
fn replace(spec: &mut Value, field: &str, live: &Value, wanted: Value) {
    let (Some(was), Value::Object(is)) = (live.as_object(), &wanted) else {
        spec[field] = wanted;
        return;
    };
    let mut whole = is.clone();
    for key in was.keys().filter(|key| !is.contains_key(*key)) {
        whole.insert(key.clone(), Value::Null);
    }
    spec[field] = Value::Object(whole);
}

/// The revision that is gone back to.
fn revision_of<'a>(
    world: &'a World,
    reference: &EngineRef,
    promotion: &Promotion,
    artifact: &str,
) -> Option<&'a Deployment> {
    Binding::find(world, reference)?;
    revision::history(world, reference).into_iter().rev().find(|d| {
        d.spec.deployment_artifact_ref.as_deref() == Some(artifact)
            && promotion
                .spec
                .rollback_to
                .is_none_or(|wanted| d.spec.revision == Some(wanted))
    })
}
