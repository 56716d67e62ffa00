//! Operators that a data plane usually has, played just far enough: a secrets operator and a workflow engine. They set the status
//! that the real ones set when all is well, or say what is missing.

mod secret;
mod workflow;

use std::collections::BTreeSet;

use kube::{
    Api,
    api::{Patch, PatchParams},
    core::{ApiResource, DynamicObject},
};
use serde_json::{Value, json};

use crate::{
    SIMULATED,
    core::{Action, Context, Error, Name, Result, Task, now},
};

/// Kinds of operators. They are watched when their definition is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    /// Only looked at: the node agent asks which hosts lead to a gateway. Whoever runs gateways speaks for them.
    Gateway,
    ExternalSecret,
    Workflow,
}

pub(crate) const KINDS: [Kind; 3] = [Kind::Gateway, Kind::ExternalSecret, Kind::Workflow];

impl Kind {
    /// Its definition's name, which is plural and group.
    pub(crate) fn definition(self) -> &'static str {
        match self {
            Kind::Gateway => "gateways.gateway.networking.k8s.io",
            Kind::ExternalSecret => "externalsecrets.external-secrets.io",
            Kind::Workflow => "workflows.argoproj.io",
        }
    }

    /// As in the field `kind`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Gateway => "Gateway",
            Kind::ExternalSecret => "ExternalSecret",
            Kind::Workflow => "Workflow",
        }
    }
}

/// Which tasks a change of an operator's object means.
pub(crate) fn tasks(kind: Kind, old: Option<&DynamicObject>, new: Option<&DynamicObject>) -> Vec<Task> {
    let object = new.or(old).filter(|_| kind != Kind::Gateway);
    object
        .map(|object| Task::Foreign(kind, Name::of(object)))
        .into_iter()
        .collect()
}

pub(crate) async fn reconcile(context: &Context, kind: Kind, name: &Name) -> Result<Action> {
    let Some(object) = context.world.foreign(kind).get(name) else {
        return Ok(Action::Wait);
    };
    if object.metadata.deletion_timestamp.is_some() {
        return Ok(Action::Wait);
    }
    match kind {
        Kind::Gateway => Ok(Action::Wait),
        Kind::ExternalSecret => secret::reconcile(context, &object).await,
        Kind::Workflow => workflow::reconcile(context, &object).await,
    }
}

/// A condition as the Gateway API and others have it; the time is kept while the status stays.
fn condition(
    before: Option<&Value>,
    generation: Option<i64>,
    kind: &str,
    holds: bool,
    reason: &str,
    message: &str,
) -> Value {
    let value = if holds { "True" } else { "False" };
    let known = before
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .find(|known| known["type"] == kind && known["status"] == value);
    let since = known.and_then(|known| known.get("lastTransitionTime").cloned());
    json!({
        "type": kind,
        "status": value,
        "reason": reason,
        "message": message,
        "observedGeneration": generation.unwrap_or(0),
        "lastTransitionTime": since.unwrap_or_else(|| json!(now())),
    })
}

/// Writes the status and marks the object as simulated, where that is not so already.
async fn set_status(context: &Context, object: &DynamicObject, status: Value) -> Result<Action> {
    let Some(types) = &object.types else {
        return Ok(Action::Wait);
    };
    let Ok(gvk) = kube::core::GroupVersionKind::try_from(types) else {
        return Ok(Action::Wait);
    };
    let Some(kind) = KINDS.into_iter().find(|kind| kind.name() == gvk.kind) else {
        return Ok(Action::Wait);
    };
    let plural = kind.definition().split('.').next().unwrap_or_default();
    let resource = ApiResource::from_gvk_with_plural(&gvk, plural);
    let name = Name::of(object);
    let api: Api<DynamicObject> = if name.namespace.is_empty() {
        Api::all_with(context.client.clone(), &resource)
    } else {
        Api::namespaced_with(context.client.clone(), &name.namespace, &resource)
    };
    let failed = |source| Error::Api {
        action: "update the status of",
        kind: gvk.kind.clone(),
        name: name.clone(),
        source: Box::new(source),
    };
    let params = PatchParams {
        field_manager: Some("choreo/node".into()),
        ..PatchParams::default()
    };
    let marked = object
        .metadata
        .annotations
        .as_ref()
        .is_some_and(|annotations| annotations.contains_key(SIMULATED));
    if !marked {
        let patch = json!({"metadata": {"annotations": {SIMULATED: "true"}}});
        api.patch(&name.name, &params, &Patch::Merge(&patch))
            .await
            .map_err(failed)?;
    }
    if object.data.get("status") != Some(&status) && !status.is_null() {
        let mut patch = json!({"status": status});
        // A merge keeps what is not named: what is no longer so must be taken out.
        let kept: BTreeSet<&String> = status
            .as_object()
            .into_iter()
            .flat_map(|status| status.keys())
            .collect();
        for key in object
            .data
            .get("status")
            .and_then(Value::as_object)
            .into_iter()
            .flat_map(|before| before.keys())
        {
            if !kept.contains(key) {
                patch["status"][key] = Value::Null;
            }
        }
        let written = api
            .patch_status(&name.name, &params, &Patch::Merge(&patch))
            .await
            .map_err(failed)?;
        context.world.foreign(kind).upsert(std::sync::Arc::new(written));
    }
    Ok(Action::Wait)
}
