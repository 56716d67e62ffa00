//! Emptying one namespace.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use choreo_apimachinery::status::{ApiError, Result};
use choreo_store::{Key, Object, Snapshot, WatchError};
use futures::{StreamExt, stream};
use serde_json::Value;

use super::{AGENT, RESOURCE, change, finalize, status, wants_removal};
use crate::{
    cluster::Cluster,
    request::DeleteOptions,
    user::UserInfo,
    verbs::{Subresource, Target, delete, is_deleting, text},
};

/// Deletions under way at once; the store commits them together.
const AT_ONCE: usize = 64;

/// Wait after the server refused something that no event will announce the end of.
const RETRY: Duration = Duration::from_secs(1);

/// What keeps a namespace from going.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Remaining {
    /// By `resource.group`: number of objects.
    pub(super) objects: BTreeMap<String, usize>,
    /// By finalizer: number of objects that have it.
    pub(super) finalizers: BTreeMap<String, usize>,
    /// What the server refused to delete, and why.
    pub(super) failures: Vec<String>,
}

/// Deletes everything in the namespace and then lets it go. Ends when it is gone, or is another one.
pub(super) async fn remove(cluster: &Arc<Cluster>, name: &str, uid: &str) {
    let namespace = Key::new(RESOURCE, "", name);
    loop {
        let Some(object) = cluster.store().get(&namespace) else {
            return;
        };
        let value = object.value();
        if text(&value, "/metadata/uid") != uid || !wants_removal(&value) {
            return;
        }
        let snapshot = cluster.store().snapshot();
        let Ok(mut watch) = cluster.store().watch(None, Some(name), snapshot.revision()) else {
            continue;
        };
        let (remaining, failed) = match step(cluster, &snapshot, name).await {
            Ok(None) => match finalize(cluster, (name, uid)).await {
                Ok(()) => return,
                Err(error) => {
                    tracing::warn!(namespace = name, "cannot be finalized yet: {error}");
                    (Remaining::default(), true)
                }
            },
            Ok(Some(remaining)) => {
                let failed = !remaining.failures.is_empty();
                (remaining, failed)
            }
            Err(error) => (
                Remaining {
                    failures: vec![error.to_string()],
                    ..Remaining::default()
                },
                true,
            ),
        };
        let set = change(cluster, (name, uid), Subresource::Status, |namespace| {
            status::set(namespace, &remaining)
        })
        .await;
        if let Err(error) = set {
            tracing::warn!(namespace = name, "conditions cannot be written: {error}");
        }
        // Another change in the namespace may be what was waited for.
        let next = if failed {
            tokio::time::timeout(RETRY, watch.next()).await.ok()
        } else {
            Some(watch.next().await)
        };
        if matches!(next, Some(Err(WatchError::Closed))) {
            return;
        }
    }
}

/// Deletes what is there. Gives what remains, or nothing if nothing does.
async fn step(cluster: &Arc<Cluster>, snapshot: &Snapshot, namespace: &str) -> Result<Option<Remaining>> {
    let mut failures = Vec::new();
    let resources: Vec<&str> = snapshot.resources().map(|(resource, _)| resource).collect();
    // Pods first: what they use must not go away under them.
    let (pods, others): (Vec<&str>, Vec<&str>) =
        resources.into_iter().partition(|resource| *resource == "pods");
    for round in [pods, others] {
        let objects = round
            .iter()
            .flat_map(|resource| snapshot.iter(resource, Some(namespace), None));
        let going: Vec<_> = objects
            .filter(|object| !is_deleting(&object.value()))
            .cloned()
            .collect();
        let outcomes: Vec<_> = stream::iter(going)
            .map(|object| remove_one(cluster, object))
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        failures.extend(
            outcomes
                .into_iter()
                .filter_map(|outcome| outcome.err().map(|error| error.to_string())),
        );
        let left = cluster.store().snapshot();
        if round
            .iter()
            .any(|resource| left.iter(resource, Some(namespace), None).next().is_some())
        {
            return Ok(Some(remaining(&left, namespace, failures)));
        }
    }
    // What was created while this ran, before the namespace refused it.
    let left = remaining(&cluster.store().snapshot(), namespace, failures);
    Ok((left != Remaining::default()).then_some(left))
}

async fn remove_one(cluster: &Arc<Cluster>, object: Arc<Object>) -> Result<()> {
    let (key, value) = (object.key(), object.value());
    let resource = cluster
        .served()
        .registry()
        .by_api_version(text(&value, "/apiVersion"), text(&value, "/kind"))
        .cloned();
    let resource = resource.ok_or_else(|| ApiError::internal(format!("{key}: its kind is not served")))?;
    let target = Target::of(
        cluster,
        &resource,
        key.namespace(),
        &UserInfo::system(AGENT),
        AGENT,
    );
    match delete(
        &target,
        key.name(),
        &DeleteOptions::with(crate::request::Propagation::Background),
    )
    .await
    {
        Err(error) if error.code != 404 => Err(error),
        _ => Ok(()),
    }
}

fn remaining(snapshot: &Snapshot, namespace: &str, failures: Vec<String>) -> Remaining {
    let mut remaining = Remaining {
        failures,
        ..Remaining::default()
    };
    for (resource, _) in snapshot.resources() {
        for object in snapshot.iter(resource, Some(namespace), None) {
            let (group, plural) = resource.split_once('/').unwrap_or(("", resource));
            *remaining.objects.entry(format!("{plural}.{group}")).or_default() += 1;
            let value = object.value();
            let finalizers = value.pointer("/metadata/finalizers").and_then(Value::as_array);
            for finalizer in finalizers.into_iter().flatten().filter_map(Value::as_str) {
                *remaining.finalizers.entry(finalizer.to_owned()).or_default() += 1;
            }
        }
    }
    remaining
}
