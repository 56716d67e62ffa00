//! Deleting an object: at once, or by marking it and waiting for finalizers and for time.

use std::sync::Arc;

use choreo_apimachinery::registry::ResourceInfo;
use choreo_apimachinery::status::{ApiError, Result};
use choreo_store::{Object, Write};
use serde_json::{Value, json};

use super::{Target, View, is_deleting, metadata_mut, text};
use crate::admission::{Operation, Review};
use crate::cluster::Refused;
use crate::crds;
use crate::request::{DeleteOptions, Propagation};

/// Finalizer by which the garbage collector orphans dependents first.
pub const ORPHAN: &str = "orphan";

/// Finalizer by which the garbage collector deletes dependents first.
pub const FOREGROUND: &str = "foregroundDeletion";

/// How often a deletion is tried against concurrent changes.
const TRIES: usize = 64;

/// The outcome of a deletion.
#[derive(Clone, Debug)]
pub struct Deleted {
    /// The object: its last state if it is gone, else marked as being deleted.
    pub view: View,
    /// Whether it is gone.
    pub gone: bool,
    /// What the client should be told in `Warning` headers.
    pub warnings: Vec<String>,
}

impl Deleted {
    /// The body that a client gets: a `Status`, or the object where that is what the kind answers or it is still there.
    pub fn body(&self, target: &Target) -> Option<Value> {
        let info = &target.resource;
        if !self.gone || is_returned(info) {
            return None;
        }
        let object = self.view.value();
        let mut details = json!({"name": text(&object, "/metadata/name"), "kind": info.plural, "uid": text(&object, "/metadata/uid")});
        if !info.group.is_empty() {
            details["group"] = info.group.as_str().into();
        }
        Some(
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}),
        )
    }
}

/// Whether the deletion of an object answers with the object.
pub(crate) fn is_returned(info: &ResourceInfo) -> bool {
    let returned: &[&str] = match info.group.as_str() {
        "" => &[
            "persistentvolumeclaims",
            "persistentvolumes",
            "pods",
            "podtemplates",
            "resourcequotas",
            "serviceaccounts",
            "services",
        ],
        "storage.k8s.io" => &[
            "csidrivers",
            "csinodes",
            "storageclasses",
            "volumeattachments",
            "volumeattributesclasses",
        ],
        _ => &[],
    };
    returned.contains(&info.plural.as_str())
}

/// Deletes an object.
///
/// # Errors
/// 404 when it is not there, 409 when a precondition does not hold, 403 when admission refuses.
pub async fn delete(target: &Target, name: &str, options: &DeleteOptions) -> Result<Deleted> {
    let _definitions = crds::lock(target).await;
    for _ in 0..TRIES {
        let current = target.stored(name)?;
        if let Some(deleted) = attempt(target, name, &current, options).await? {
            return Ok(deleted);
        }
        tokio::task::yield_now().await;
    }
    Err(target.stale(name))
}

async fn attempt(
    target: &Target,
    name: &str,
    current: &Arc<Object>,
    options: &DeleteOptions,
) -> Result<Option<Deleted>> {
    let old = target.shown(current.clone()).await?.value();
    check_preconditions(target, name, &old, options)?;
    let mut review = Review {
        old: Some(&old),
        dry_run: options.dry_run,
        ..Review::new(target, Operation::Delete, "", name)
    };
    review.validate(None).await?;
    let warnings = review.warnings;

    let mut new = (*old).clone();
    set_finalizers(target, &mut new, options);
    crds::prepare_delete(target, &mut new);
    let seconds = grace(target, &old, options);
    mark(&mut new, seconds);
    if is_namespace(target) {
        new["status"]["phase"] = "Terminating".into();
    }
    if is_namespace(target) || crds::is_definition(target) {
        // Neither goes by time, and their generation tells changes of the spec only.
        let generation = old.pointer("/metadata/generation").cloned();
        let metadata = metadata_mut(&mut new);
        metadata.remove("deletionGracePeriodSeconds");
        if let Some(generation) = generation {
            metadata.insert("generation".to_owned(), generation);
        }
    }
    if is_finished(&new) {
        if options.dry_run {
            return Ok(Some(Deleted {
                view: View::Made(old, current.revision()),
                gone: true,
                warnings,
            }));
        }
        let write = Write::Delete {
            key: target.key(name),
            expect: current.revision(),
        };
        return match target.cluster.write(write).await {
            Ok(last) => {
                removed(target, current);
                Ok(Some(Deleted {
                    view: target.shown(last).await?,
                    gone: true,
                    warnings,
                }))
            }
            Err(Refused::NotFound) => Err(target.not_found(name)),
            Err(Refused::Fault(error)) => Err(error),
            Err(_) => Ok(None),
        };
    }
    if *old == new || options.dry_run {
        return Ok(Some(Deleted {
            view: View::Made(Arc::new(new), current.revision()),
            gone: false,
            warnings,
        }));
    }
    let write = Write::Update {
        key: target.key(name),
        value: super::convert::to_storage(target, new).await?,
        expect: current.revision(),
    };
    match target.cluster.write(write).await {
        Ok(stored) => {
            crds::written(target, &stored);
            Ok(Some(Deleted {
                view: target.shown(stored).await?,
                gone: false,
                warnings,
            }))
        }
        Err(Refused::NotFound) => Err(target.not_found(name)),
        Err(Refused::Fault(error)) => Err(error),
        Err(_) => Ok(None),
    }
}

/// What follows from an object being gone.
pub(super) fn removed(target: &Target, last: &Arc<Object>) {
    crds::removed(target, last);
    target.cluster.services().release(&target.resource, &last.value());
}

/// Whether nothing keeps a marked object: no finalizers, no time left.
pub(super) fn is_finished(object: &Value) -> bool {
    let none = |pointer: &str| {
        object
            .pointer(pointer)
            .and_then(Value::as_array)
            .is_none_or(Vec::is_empty)
    };
    let namespace = text(object, "/kind") == "Namespace" && text(object, "/apiVersion") == "v1";
    is_deleting(object)
        && none("/metadata/finalizers")
        && object
            .pointer("/metadata/deletionGracePeriodSeconds")
            .and_then(Value::as_i64)
            .unwrap_or_default()
            == 0
        && (!namespace || none("/spec/finalizers"))
}

fn is_namespace(target: &Target) -> bool {
    target.resource.group.is_empty() && target.resource.plural == "namespaces"
}

fn check_preconditions(target: &Target, name: &str, old: &Value, options: &DeleteOptions) -> Result<()> {
    let conflict = |why: String| {
        Err(ApiError::conflict(
            &target.resource.group,
            &target.resource.kind,
            name,
            &why,
        ))
    };
    let uid = text(old, "/metadata/uid");
    if let Some(wanted) = options
        .preconditions
        .uid
        .as_deref()
        .filter(|wanted| *wanted != uid)
    {
        return conflict(format!(
            "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). The object might have been deleted \
             and then recreated"
        ));
    }
    let version = text(old, "/metadata/resourceVersion");
    if let Some(wanted) = options
        .preconditions
        .resource_version
        .as_deref()
        .filter(|wanted| *wanted != version)
    {
        return conflict(format!(
            "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record ({version}). The object \
             might have been modified"
        ));
    }
    Ok(())
}

/// Sets the finalizers that make the garbage collector do what was asked.
fn set_finalizers(target: &Target, object: &mut Value, options: &DeleteOptions) {
    let has = |finalizers: &[Value], name: &str| finalizers.iter().any(|f| f.as_str() == Some(name));
    let metadata = metadata_mut(object);
    let before = metadata
        .get("finalizers")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let propagation = options.propagation.unwrap_or_else(|| {
        if has(&before, ORPHAN) {
            Propagation::Orphan
        } else if has(&before, FOREGROUND) {
            Propagation::Foreground
        } else {
            default_propagation(target)
        }
    });
    let mut after: Vec<Value> = before
        .into_iter()
        .filter(|f| !matches!(f.as_str(), Some(ORPHAN | FOREGROUND)))
        .collect();
    match propagation {
        Propagation::Background => {}
        Propagation::Foreground => after.push(FOREGROUND.into()),
        Propagation::Orphan => after.push(ORPHAN.into()),
    }
    if after.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers".to_owned(), after.into());
    }
}

/// What happens to dependents when nobody says: two old kinds orphan them.
fn default_propagation(target: &Target) -> Propagation {
    match (target.resource.group.as_str(), target.resource.plural.as_str()) {
        ("", "replicationcontrollers") | ("batch", "jobs") => Propagation::Orphan,
        _ => Propagation::Background,
    }
}

/// Seconds until the object goes by itself. Only Pods that a node runs get any.
fn grace(target: &Target, object: &Value, options: &DeleteOptions) -> i64 {
    let is_pod = target.resource.group.is_empty() && target.resource.plural == "pods";
    if !is_pod
        || text(object, "/spec/nodeName").is_empty()
        || matches!(text(object, "/status/phase"), "Failed" | "Succeeded")
    {
        return 0;
    }
    let own = object
        .pointer("/spec/terminationGracePeriodSeconds")
        .and_then(Value::as_i64)
        .unwrap_or(30);
    options.grace_period_seconds.unwrap_or(own).max(0)
}

/// Marks an object as being deleted. A mark that is there already can only be brought forward.
fn mark(object: &mut Value, seconds: i64) {
    let deleting = is_deleting(object);
    let left = object
        .pointer("/metadata/deletionGracePeriodSeconds")
        .and_then(Value::as_i64)
        .unwrap_or_default();
    if deleting && left <= seconds {
        return;
    }
    let at = jiff::Timestamp::now()
        .saturating_add(jiff::SignedDuration::from_secs(seconds))
        .unwrap_or_else(|_| jiff::Timestamp::now());
    let metadata = metadata_mut(object);
    metadata.insert(
        "deletionTimestamp".to_owned(),
        at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into(),
    );
    metadata.insert("deletionGracePeriodSeconds".to_owned(), seconds.into());
    if let Some(generation) = metadata
        .get("generation")
        .and_then(Value::as_i64)
        .filter(|g| *g > 0 && !deleting)
    {
        metadata.insert("generation".to_owned(), (generation + 1).into());
    }
}
