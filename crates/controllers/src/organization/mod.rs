//! The organization controller: a planner that also sees to the end of an organization.
//!
//! What belongs to an organization lives in its namespace, so deleting the namespace deletes all of it. But the end of a namespace
//! takes everything at once, the credentials of data planes too, which are needed to clean up there. So our objects go first, the
//! data planes and their Secrets last, with the namespace. A namespace that was there before its organization (`default` always
//! is) stays, and only our objects in it are deleted.

use std::sync::Arc;
use std::time::Duration;

use choreo_api::conditions::{Condition, reasons};
use choreo_api::crds::ALIAS_GROUP;
use choreo_api::{finalizers, labels};
use choreo_engine::plan::Target;
use futures::future::join_all;
use jiff::SignedDuration;
use kube::core::DynamicObject;
use serde_json::json;

use crate::context::Context;
use crate::flow::Planner;
use crate::runtime::{Next, ObjectRef, Reconcile, Retry};
use crate::view::{ControlSnapshot, object_ref};
use crate::write::Failure;

/// Name of the controller.
pub const NAME: &str = "organization";

/// How soon the end of what is being deleted is looked for at first. It comes as an event; this is for what is not watched, a namespace
/// without our label above all.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// And how soon at most, when that takes long.
const LOOK_AT_LATEST: Duration = Duration::from_secs(30);
/// How soon the next of our objects are deleted.
const STEP: Duration = Duration::from_millis(100);
/// Somebody may go on making objects in an organization that is being deleted. After so long its namespace is closed to them, if
/// nothing is left in data planes.
const PATIENCE: SignedDuration = SignedDuration::from_secs(60);
/// As many objects are named as a person reads.
const NAMED: usize = 5;
/// Deletions that are under way at a time.
const AT_ONCE: usize = 16;

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
            self.finalize(&snapshot, &live).await
        } else {
            self.hold(&live).await.map(|()| None).map_err(Stop::from)
        };
        match attempt {
            Ok(Some(next)) => Ok(next),
            Ok(None) => self.planner.reconcile(target).await,
            Err(Stop::Failure(failure)) => Err(failure.while_doing(&format!("look after {address}"))),
            Err(Stop::Retry(retry)) => Err(retry),
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

    async fn finalize(&self, snapshot: &ControlSnapshot, live: &DynamicObject) -> Result<Option<Next>, Stop> {
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
        let namespace = match snapshot.get(&address) {
            Some(known) => Some(DynamicObject::clone(&known)),
            // It is gone, or has never had our label.
            None => self.context.control.get(resource, "", &name).await?,
        };
        let owned = namespace.as_ref().is_some_and(|namespace| {
            let owners = namespace.metadata.owner_references.iter().flatten();
            owners
                .into_iter()
                .any(|owner| Some(&owner.uid) == live.metadata.uid.as_ref())
        });
        let began = live.metadata.deletion_timestamp.as_ref().map(|time| time.0);
        let age = began.map_or(SignedDuration::ZERO, |began| {
            self.context.clock.now().duration_since(began)
        });
        let is_late = age > PATIENCE;
        let look_again = Next::After(look_again_after(age));
        let gone = match namespace {
            None => true,
            Some(namespace) if owned => {
                if namespace.metadata.deletion_timestamp.is_none() {
                    match self.clear(snapshot, &name, false).await? {
                        Left::Nothing => {}
                        Left::Others if is_late => {}
                        Left::Others => {
                            self.say(live, "its objects are being deleted".to_owned()).await?;
                            return Ok(Some(Next::After(STEP)));
                        }
                        Left::Releases(names) => {
                            self.say(live, waiting(&names)).await?;
                            return Ok(Some(look_again));
                        }
                    }
                    self.context
                        .control
                        .delete(resource, &address, namespace.metadata.uid)
                        .await?;
                }
                false
            }
            Some(_) => match self.clear(snapshot, &name, true).await? {
                Left::Nothing => true,
                Left::Others => false,
                Left::Releases(names) => {
                    self.say(live, waiting(&names)).await?;
                    false
                }
            },
        };
        if !gone {
            return Ok(Some(look_again));
        }
        let resource = self.context.resource(&ObjectRef::of(live).kind)?;
        self.context
            .control
            .remove_finalizer(resource, live, finalizers::ORGANIZATION_CLEANUP)
            .await?;
        Ok(Some(Next::Settled))
    }

    /// Deletes our objects in a namespace: first what releases are made from, then releases, then, if they are to go as well,
    /// data planes and build planes. Says what is still there.
    async fn clear(
        &self,
        snapshot: &ControlSnapshot,
        namespace: &str,
        planes: bool,
    ) -> Result<Left, Failure> {
        let ours = snapshot.iter().filter(|(address, _)| {
            address.namespace == namespace
                && [labels::GROUP, ALIAS_GROUP].contains(&address.kind.group.as_str())
        });
        let mut rest: [Vec<(&ObjectRef, Arc<DynamicObject>)>; 3] = Default::default();
        for (address, live) in ours {
            let place = match address.kind.kind.as_str() {
                "Release" if address.kind.group == labels::GROUP => 1,
                "DataPlane" | "BuildPlane" if address.kind.group == labels::GROUP => 2,
                _ => 0,
            };
            rest[place].push((address, live.get()));
        }
        let [others, releases, last] = rest;
        self.delete_all(&others).await?;
        if !others.is_empty() && !others.iter().all(|(_, live)| is_leaving(live)) {
            return Ok(if releases.is_empty() {
                Left::Others
            } else {
                Left::releases(&releases)
            });
        }
        // Those who would make them anew are on their way out.
        self.delete_all(&releases).await?;
        if !releases.is_empty() {
            return Ok(Left::releases(&releases));
        }
        if planes {
            self.delete_all(&last).await?;
        }
        let empty = others.is_empty() && (last.is_empty() || !planes);
        Ok(if empty { Left::Nothing } else { Left::Others })
    }

    /// Says what the deletion of an organization waits for.
    async fn say(&self, live: &DynamicObject, message: String) -> Result<(), Retry> {
        let generation = live.metadata.generation;
        let condition = Condition::not_ready(reasons::DELETING, message).observed(generation);
        let mut status = live.data.get("status").cloned().unwrap_or_else(|| json!({}));
        status["observedGeneration"] = json!(generation);
        status["conditions"] = json!([condition]);
        self.context.report(NAME, live, status).await
    }

    async fn delete_all(&self, objects: &[(&ObjectRef, Arc<DynamicObject>)]) -> Result<(), Failure> {
        for some in objects.chunks(AT_ONCE) {
            let mut deletions = Vec::new();
            for (address, live) in some {
                if !is_leaving(live) {
                    deletions.push(self.delete(address, live));
                }
            }
            for deleted in join_all(deletions).await {
                deleted?;
            }
        }
        Ok(())
    }

    async fn delete(&self, address: &ObjectRef, live: &DynamicObject) -> Result<(), Failure> {
        let resource = self.context.resource(&address.kind)?;
        let uid = live.metadata.uid.clone();
        self.context.control.delete(resource, address, uid).await
    }
}

/// Why a step did not reach its end.
enum Stop {
    Failure(Failure),
    Retry(Retry),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<Retry> for Stop {
    fn from(retry: Retry) -> Self {
        Self::Retry(retry)
    }
}

/// What is left of an organization.
enum Left {
    /// Nothing that has to go before its namespace.
    Nothing,
    /// Objects that nothing in data planes hangs on.
    Others,
    /// Releases, which have to clean up in data planes: the first of them, for a message.
    Releases(String),
}

impl Left {
    fn releases(all: &[(&ObjectRef, Arc<DynamicObject>)]) -> Self {
        let mut names: Vec<String> = all
            .iter()
            .take(NAMED)
            .map(|(address, _)| address.to_string())
            .collect();
        if all.len() > NAMED {
            names.push(format!("{} more", all.len() - NAMED));
        }
        Self::Releases(names.join(", "))
    }
}

/// The longer it has taken, the longer it may take.
fn look_again_after(age: SignedDuration) -> Duration {
    let age = Duration::try_from(age).unwrap_or_default();
    (age / 10).clamp(LOOK_AGAIN, LOOK_AT_LATEST)
}

fn waiting(names: &str) -> String {
    format!(
        "waiting for {names} to be cleaned up in data planes; the conditions of each say what is in the way"
    )
}

fn is_leaving(object: &DynamicObject) -> bool {
    object.metadata.deletion_timestamp.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_long_is_looked_at_seldom() {
        let after = |seconds: i64| look_again_after(SignedDuration::from_secs(seconds));
        assert_eq!([after(-5), after(0), after(5)], [LOOK_AGAIN; 3]);
        assert_eq!(after(100), Duration::from_secs(10));
        assert_eq!(after(86_400), LOOK_AT_LATEST);
    }
}
