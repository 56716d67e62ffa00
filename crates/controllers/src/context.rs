//! What all controllers share.

use std::time::Duration;

use choreo_api::v1alpha1::{DataPlane, Release};
use choreo_engine::World;
use choreo_engine::world::complete;
use kube::core::{ApiResource, DynamicObject};
use serde_json::Value;

use crate::planes::Planes;
use crate::runtime::{Clock, GroupKind, ObjectRef, Retry};
use crate::view::{ControlKinds, ControlSnapshot, ControlView};
use crate::write::events::Events;
use crate::write::status::write as write_status;
use crate::write::{Applier, Failure};

/// What all controllers share.
pub struct Context {
    /// Reads (through its cache) and writes the control plane.
    pub control: Applier<ControlView>,
    /// The control plane's kinds.
    pub kinds: ControlKinds,
    /// The connected clusters.
    pub planes: Planes,
    /// Records events.
    pub events: Events,
    /// For how long the clean-up of an unreachable data plane is tried before it is given up.
    pub abandon_after: Duration,
    /// The time of day, for what is waited for long.
    pub clock: Clock,
}

impl Context {
    /// The control plane now.
    pub fn snapshot(&self) -> ControlSnapshot {
        self.control.cache().snapshot()
    }

    /// A kind's name in API paths.
    ///
    /// # Errors
    /// For a kind that the controllers do not know, which is a defect.
    pub fn resource(&self, kind: &GroupKind) -> Result<&ApiResource, Failure> {
        self.kinds
            .resource(kind)
            .ok_or_else(|| Failure::UnknownKind(format!("{kind} is not a kind that this program writes")))
    }

    /// Lets go of the clusters of a data plane whose object is gone, unless a release still needs them to clean up.
    /// True if they are not held any longer.
    pub fn release_planes(&self, namespace: &str, data_plane: &str) -> bool {
        let snapshot = self.snapshot();
        let world = &snapshot.view.world;
        if world.get::<DataPlane>(namespace, data_plane).is_some() {
            return false;
        }
        if is_used(world, namespace, data_plane) {
            return false;
        }
        self.planes.close_all(namespace, data_plane);
        true
    }

    /// Writes a status (conditions without times) if it says something new, and records an event if `Ready` changed.
    ///
    /// # Errors
    /// When the write failed in a way that may pass.
    pub async fn report(
        &self,
        controller: &'static str,
        live: &DynamicObject,
        status: Value,
    ) -> Result<(), Retry> {
        self.write_report(controller, live, status, false).await
    }

    /// As [`Context::report`] for a status that was worked out from what the status of `live` says. It is refused if somebody has
    /// changed the object since, whom this process may not have heard of yet: what they wrote must not be lost.
    ///
    /// # Errors
    /// As [`Context::report`], and when the object has changed.
    pub async fn report_next(
        &self,
        controller: &'static str,
        live: &DynamicObject,
        status: Value,
    ) -> Result<(), Retry> {
        self.write_report(controller, live, status, true).await
    }

    async fn write_report(
        &self,
        controller: &'static str,
        live: &DynamicObject,
        status: Value,
        from_itself: bool,
    ) -> Result<(), Retry> {
        let address = ObjectRef::of(live);
        let manager = choreo_api::labels::field_manager(controller);
        let write = async {
            let resource = self.resource(&address.kind)?;
            write_status(&self.control, resource, &manager, live, status, from_itself).await
        };
        match write.await {
            Ok(Some(transition)) => {
                self.events.transition(controller, live, &transition);
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(failure) => Err(failure.while_doing(&format!("write the status of {address}"))),
        }
    }
}

/// Whether a release has, or had, objects in a data plane. One that cannot be read may have.
pub(crate) fn is_used(world: &World, namespace: &str, data_plane: &str) -> bool {
    let any = || {
        world.in_namespace::<Release>(namespace).any(|release| {
            let status = release.status.as_ref();
            let identity = status.and_then(|status| status.data_plane.as_ref());
            identity.is_some_and(|identity| identity.name == data_plane)
        })
    };
    complete(any).unwrap_or(true)
}
