//! The organization controller: a planner that also sees to the end of an organization.
//!
//! What belongs to an organization lives in its namespace, so deleting the namespace deletes all of it. A namespace
//! that was there before its organization (`default` always is) stays, and only our objects in it are deleted.

use std::sync::Arc;
use std::time::Duration;

use choreo_api::{finalizers, labels};
use choreo_engine::plan::Target;
use kube::core::DynamicObject;

use crate::context::Context;
use crate::flow::Planner;
use crate::runtime::{Next, ObjectRef, Reconcile, Retry};
use crate::view::{ControlSnapshot, object_ref};
use crate::write::Failure;

/// Name of the controller.
pub const NAME: &str = "organization";

/// How soon the end of what is being deleted is looked for.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// See the module's documentation.
pub struct Organizations {
    planner: Planner,
    context: Arc<Context>,
}

impl Organizations {
    /// A controller over `context`.
    pub fn new(context: Arc<Context>) -> Self {
        Self {
            planner: Planner::new(NAME, Arc::clone(&context)),
            context,
        }
    }
}

impl Reconcile for Organizations {
    type Key = Target;

    fn name(&self) -> &'static str {
        NAME
    }

    async fn reconcile(&self, target: &Target) -> Result<Next, Retry> {
        let snapshot = self.context.snapshot();
        let Some(address) = target.as_object().map(object_ref) else {
            return Ok(Next::Settled);
        };
        let Some(live) = snapshot.get(&address) else {
            return Ok(Next::Settled);
        };
        let attempt = if live.metadata.deletion_timestamp.is_some() {
            self.finalize(&snapshot, live).await
        } else {
            self.hold(live).await.map(|()| None)
        };
        match attempt {
            Ok(Some(next)) => Ok(next),
            Ok(None) => self.planner.reconcile(target).await,
            Err(failure) => Err(failure.while_doing(&format!("look after {address}"))),
        }
    }
}

impl Organizations {
    async fn hold(&self, live: &DynamicObject) -> Result<(), Failure> {
        let resource = self.context.resource(&ObjectRef::of(live).kind)?;
        self.context
            .control
            .add_finalizer(resource, live, finalizers::ORGANIZATION_CLEANUP)
            .await
    }

    async fn finalize(
        &self,
        snapshot: &ControlSnapshot,
        live: &DynamicObject,
    ) -> Result<Option<Next>, Failure> {
        let held = live
            .metadata
            .finalizers
            .iter()
            .flatten()
            .any(|f| f == finalizers::ORGANIZATION_CLEANUP);
        if !held {
            return Ok(Some(Next::Settled));
        }
        let name = live.metadata.name.clone().unwrap_or_default();
        let address = ObjectRef::new("", "Namespace", "", &name);
        let resource = self.context.resource(&address.kind)?;
        let namespace = self.context.control.get(resource, "", &name).await?;
        let owned = namespace.as_ref().is_some_and(|namespace| {
            let owners = namespace.metadata.owner_references.iter().flatten();
            owners
                .into_iter()
                .any(|owner| Some(&owner.uid) == live.metadata.uid.as_ref())
        });
        let gone = match namespace {
            None => true,
            Some(namespace) if owned => {
                if namespace.metadata.deletion_timestamp.is_none() {
                    self.context
                        .control
                        .delete(resource, &address, namespace.metadata.uid)
                        .await?;
                }
                false
            }
            Some(_) => self.empty(snapshot, &name).await?,
        };
        if !gone {
            return Ok(Some(Next::After(LOOK_AGAIN)));
        }
        let resource = self.context.resource(&ObjectRef::of(live).kind)?;
        self.context
            .control
            .remove_finalizer(resource, live, finalizers::ORGANIZATION_CLEANUP)
            .await?;
        Ok(Some(Next::Settled))
    }

    /// Deletes our objects in a namespace that stays. True once there are none.
    async fn empty(&self, snapshot: &ControlSnapshot, namespace: &str) -> Result<bool, Failure> {
        let mut none = true;
        for (address, live) in snapshot.iter() {
            if address.kind.group != labels::GROUP || address.namespace != namespace {
                continue;
            }
            none = false;
            if live.metadata.deletion_timestamp.is_none() {
                let resource = self.context.resource(&address.kind)?;
                self.context
                    .control
                    .delete(resource, address, live.metadata.uid.clone())
                    .await?;
            }
        }
        Ok(none)
    }
}
