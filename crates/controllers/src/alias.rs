//! The alias controller: older manifests, stored as they were written, are kept converted to the kinds of today.
//!
//! What is made of a manifest has no owner reference to it: a Component belongs to its Project and goes with that,
//! and an object with two owners would outlive the first. Instead, a finalizer on the manifest removes what was made.

use std::collections::BTreeSet;
use std::sync::Arc;

use choreo_api::conditions::{Condition, reasons, types};
use choreo_api::convert::convert;
use choreo_api::crds::ALIAS_GROUP;
use choreo_api::labels;
use kube::core::DynamicObject;
use serde_json::{Value, json};

use crate::context::Context;
use crate::runtime::{Next, ObjectRef, Reconcile, Retry};
use crate::view::ControlSnapshot;
use crate::write::{Applied, Failure};

/// Name of the controller.
pub const NAME: &str = "alias";

/// Holds an older manifest until what was made of it is removed.
const FINALIZER: &str = "openchoreo.dev/alias-cleanup";

/// Whether an object is an older manifest.
pub fn is_alias(object: &ObjectRef) -> bool {
    object.kind.group == ALIAS_GROUP
}

/// See the module's documentation.
pub struct Aliases {
    context: Arc<Context>,
    manager: String,
}

impl Aliases {
    /// A controller over `context`.
    pub fn new(context: Arc<Context>) -> Self {
        Self {
            context,
            manager: labels::field_manager(NAME),
        }
    }
}

impl Reconcile for Aliases {
    type Key = ObjectRef;

    fn name(&self) -> &'static str {
        NAME
    }

    async fn reconcile(&self, alias: &ObjectRef) -> Result<Next, Retry> {
        let snapshot = self.context.snapshot();
        let Some(live) = snapshot.get(alias) else {
            return Ok(Next::Settled);
        };
        let work = async {
            if live.metadata.deletion_timestamp.is_some() {
                self.finalize(&snapshot, alias, &live).await.map(|()| None)
            } else {
                self.keep_converted(&snapshot, alias, &live).await.map(Some)
            }
        };
        let status = work
            .await
            .map_err(|failure| failure.while_doing(&format!("convert {alias}")))?;
        if let Some(status) = status {
            self.context.report(NAME, &live, status).await?;
        }
        Ok(Next::Settled)
    }
}

impl Aliases {
    /// Brings what the manifest stands for into being, and returns the manifest's status.
    async fn keep_converted(
        &self,
        snapshot: &ControlSnapshot,
        alias: &ObjectRef,
        live: &DynamicObject,
    ) -> Result<Value, Failure> {
        let generation = live.metadata.generation;
        let converted = match convert(&as_written(live)) {
            Ok(converted) => converted,
            Err(error) => {
                let mistake = error.to_string();
                let conditions = [
                    Condition::not_ready(reasons::INVALID, &mistake).observed(generation),
                    Condition::new(types::CONVERTED, false, reasons::INVALID, mistake).observed(generation),
                ];
                // What was made of an earlier, valid, form stays: a mistake never deletes.
                let objects = made_before(live).iter().map(text_of).collect::<Vec<_>>();
                return Ok(
                    json!({"observedGeneration": generation, "conditions": conditions, "objects": objects}),
                );
            }
        };
        let resource = self.context.resource(&alias.kind)?;
        self.context
            .control
            .add_finalizer(resource, live, FINALIZER)
            .await?;
        let mut made = Vec::new();
        let mut problems = Vec::new();
        for mut object in converted.objects {
            if !alias.namespace.is_empty() && object.pointer("/metadata/namespace").is_none() {
                object["metadata"]["namespace"] = json!(alias.namespace);
            }
            let Some(address) = ObjectRef::of_value(&object) else {
                continue;
            };
            match self.apply(snapshot, &address, &object).await {
                Ok(()) => {}
                Err(failure) if failure.is_passing() => return Err(failure),
                Err(failure) => problems.push(format!("{address}: {failure}")),
            }
            made.push(address);
        }
        let kept: BTreeSet<&ObjectRef> = made.iter().collect();
        for stale in made_before(live).iter().filter(|object| !kept.contains(object)) {
            self.remove(snapshot, stale).await?;
        }
        let names: Vec<String> = made.iter().map(text_of).collect();
        let notes = converted
            .notes
            .iter()
            .map(|note| format!("; {note}"))
            .collect::<String>();
        let (ready, done) = if problems.is_empty() {
            let message = format!(
                "stands for {}, whose conditions say what became of it{notes}",
                names.join(", ")
            );
            (
                Condition::ready(&message),
                Condition::new(types::CONVERTED, true, reasons::SUCCEEDED, message),
            )
        } else {
            let message = problems.join("; ");
            (
                Condition::not_ready(reasons::APPLY_FAILED, &message),
                Condition::new(types::CONVERTED, false, reasons::APPLY_FAILED, message),
            )
        };
        Ok(json!({
            "observedGeneration": generation,
            "conditions": [ready.observed(generation), done.observed(generation)],
            "objects": names,
        }))
    }

    async fn apply(
        &self,
        snapshot: &ControlSnapshot,
        address: &ObjectRef,
        object: &Value,
    ) -> Result<(), Failure> {
        if let Some(live) = snapshot.get(address)
            && !self.is_made_by_us(&live)
        {
            return Err(Failure::Foreign(
                "exists already and was not made of this manifest".to_owned(),
            ));
        }
        let resource = self.context.resource(&address.kind)?;
        match self
            .context
            .control
            .apply(resource, &self.manager, object, false)
            .await?
        {
            Applied::Deleting => Err(Failure::Conflict("is being deleted".to_owned())),
            Applied::Unchanged | Applied::Written => Ok(()),
        }
    }

    fn is_made_by_us(&self, live: &DynamicObject) -> bool {
        live.metadata.managed_fields.iter().flatten().any(|entry| {
            entry.manager.as_deref() == Some(&self.manager) && entry.operation.as_deref() == Some("Apply")
        })
    }

    async fn remove(&self, snapshot: &ControlSnapshot, object: &ObjectRef) -> Result<(), Failure> {
        let Some(live) = snapshot.get(object).filter(|live| self.is_made_by_us(live)) else {
            return Ok(());
        };
        let resource = self.context.resource(&object.kind)?;
        self.context
            .control
            .delete(resource, object, live.metadata.uid.clone())
            .await
    }

    async fn finalize(
        &self,
        snapshot: &ControlSnapshot,
        alias: &ObjectRef,
        live: &DynamicObject,
    ) -> Result<(), Failure> {
        for object in made_before(live) {
            self.remove(snapshot, &object).await?;
        }
        let resource = self.context.resource(&alias.kind)?;
        self.context
            .control
            .remove_finalizer(resource, live, FINALIZER)
            .await
    }
}

/// The manifest without what the API server and this controller added.
fn as_written(live: &DynamicObject) -> Value {
    let mut value = serde_json::to_value(live).unwrap_or_default();
    if let Some(object) = value.as_object_mut() {
        object.remove("status");
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata
                .retain(|field, _| matches!(field.as_str(), "name" | "namespace" | "labels" | "annotations"));
        }
    }
    value
}

/// The objects that the status names, in the form `Kind/name` or, in another namespace, `Kind/namespace/name`.
fn made_before(live: &DynamicObject) -> Vec<ObjectRef> {
    let own = live.metadata.namespace.clone().unwrap_or_default();
    let names = live.data.pointer("/status/objects").and_then(Value::as_array);
    names
        .into_iter()
        .flatten()
        .filter_map(|name| {
            let mut parts = name.as_str()?.splitn(3, '/');
            let (kind, first, second) = (parts.next()?, parts.next()?, parts.next());
            let (namespace, name) = match second {
                Some(name) => (first, name),
                None if choreo_api::is_namespaced(kind) => (own.as_str(), first),
                None => ("", first),
            };
            Some(ObjectRef::new(labels::GROUP, kind, namespace, name))
        })
        .collect()
}

fn text_of(object: &ObjectRef) -> String {
    if object.namespace.is_empty() {
        format!("{}/{}", object.kind.kind, object.name)
    } else {
        format!("{}/{}/{}", object.kind.kind, object.namespace, object.name)
    }
}
