//! The release controller: the only one that writes to data planes.
//!
//! ```text
//!   dereference   Environment -> DataPlane -> connected cluster(s)      (from the release's own status if they are gone)
//!   build         pure: what is wanted, in phases; what is in the inventory and not wanted any more
//!   remember      the inventory is in the status BEFORE the first object is made, so that none can be forgotten
//!   apply         phase by phase, only differences; what fails does not keep the rest from being applied
//!   prune         what is no longer wanted, last phase first, and only if all that is wanted is there
//!   status        health of each object, from the cluster's cache
//! ```
//!
//! The objects are watched in the data plane. A change there, whether a pod's crash or somebody's edit, comes back as
//! an event for the release: health is never polled for, and drift is undone at once.
//!
//! # Deletion
//!
//! A finalizer holds the Release until its inventory is really gone, last phase first. That needs nothing but the
//! Release's own status. If the cluster cannot be reached, the `Deleting` condition says since when, until when it is
//! tried, and how to end it: with the annotation `openchoreo.dev/force-delete: "true"`.

mod apply;
mod build;
mod cleanup;
mod copies;
mod credentials;
mod dereference;
pub mod index;
mod known;
mod status;

use std::sync::Arc;

use choreo_api::v1alpha1::{DataPlane, Release, ReleaseStatus};
use choreo_api::{finalizers, labels};
use choreo_engine::world::Kind;
use kube::core::DynamicObject;

use crate::at_work::AtWork;
use crate::context::Context;
use crate::dataplane::clusters_of;
use crate::runtime::{Key, Next, ObjectRef, Reconcile, Retry};
use crate::view::ControlSnapshot;

use dereference::Whereabouts;
use index::Index;
use known::Known;

/// Name of the controller.
pub const NAME: &str = "release";

/// See the module's documentation.
pub struct Releases {
    context: Arc<Context>,
    index: Arc<Index>,
    known: Known,
    manager: String,
}

/// One release in one run.
struct Subject {
    key: Key,
    release: Arc<Release>,
    live: Arc<DynamicObject>,
}

impl Subject {
    fn status(&self) -> ReleaseStatus {
        self.release.status.clone().unwrap_or_default()
    }

    fn address(key: &Key) -> ObjectRef {
        ObjectRef::new(labels::GROUP, Kind::Release.as_str(), &key.namespace, &key.name)
    }

    fn find(snapshot: &ControlSnapshot, key: &Key) -> Option<Self> {
        let release = snapshot.view.world.get::<Release>(&key.namespace, &key.name)?;
        let live = snapshot.get(&Self::address(key))?;
        Some(Self {
            key: key.clone(),
            release: Arc::clone(release),
            live,
        })
    }
}

impl Releases {
    /// A controller that finds clusters through `context` and keeps `index` up to date.
    pub fn new(context: Arc<Context>, index: Arc<Index>) -> Self {
        Self {
            context,
            index,
            known: Known::default(),
            manager: labels::field_manager(NAME),
        }
    }
}

impl Releases {
    /// Whether nothing is known yet of any cluster that the release can be in, which is so when the process begins and is worth no
    /// reading of what the release says. All of a plane's releases are looked at again once there is an answer.
    fn waits_for_clusters(&self, snapshot: &ControlSnapshot, key: &Key) -> bool {
        let kept = snapshot.kept(&Subject::address(key));
        let world = &snapshot.view.world;
        kept.is_some_and(|kept| !kept.is_deleting())
            && !self.context.planes.knows_any_of(&key.namespace)
            && world.keys_in::<DataPlane>(&key.namespace).any(|plane| {
                let plane = world.get::<DataPlane>(&plane.namespace, &plane.name);
                plane.is_some_and(|plane| !clusters_of(&plane.spec).is_empty())
            })
    }
}

impl Reconcile for Releases {
    type Key = Key;

    fn name(&self) -> &'static str {
        NAME
    }

    async fn reconcile(&self, key: &Key) -> Result<Next, Retry> {
        let snapshot = self.context.snapshot();
        if self.is_known(&snapshot, key) {
            return Ok(Next::Settled);
        }
        self.known.forget(key);
        if self.waits_for_clusters(&snapshot, key) {
            return Ok(Next::Settled);
        }
        let Some(subject) = Subject::find(&snapshot, key) else {
            self.index.forget(key);
            return Ok(Next::Settled);
        };
        if subject.live.metadata.deletion_timestamp.is_some() {
            return self.finalize(&snapshot, &subject).await;
        }
        if !has_finalizer(&subject.live) {
            // Written by hand: without the finalizer its objects could be left behind.
            let attempt = self.context.resource(&Subject::address(key).kind);
            let resource = attempt.map_err(|failure| failure.while_doing("find the kind Release"))?;
            let added = self
                .context
                .control
                .add_finalizer(resource, &subject.live, finalizers::RELEASE_CLEANUP)
                .await;
            added.map_err(|failure| failure.while_doing(&format!("add the finalizer of Release {key}")))?;
        }
        match dereference::whereabouts(&self.context, &snapshot, &subject) {
            Whereabouts::Waiting(condition) => {
                let status = status::waiting(&subject, condition);
                self.context.report(NAME, &subject.live, status).await?;
                Ok(Next::Settled)
            }
            Whereabouts::Unknown => Ok(Next::Settled),
            Whereabouts::Moved { from } => self.move_away(&snapshot, &subject, &from).await,
            Whereabouts::Found(place) => {
                // It looks at the cluster after it has written there, and its status says what it saw.
                let work = self.bring_about(&snapshot, &subject, &place);
                AtWork::Releasing(key.clone()).unasked(work).await
            }
        }
    }
}

fn has_finalizer(live: &DynamicObject) -> bool {
    live.metadata
        .finalizers
        .iter()
        .flatten()
        .any(|name| name == finalizers::RELEASE_CLEANUP)
}
