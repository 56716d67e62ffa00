//! The end of namespaces: the removal of what is in one that is being deleted.
//!
//! A namespace carries the finalizer `kubernetes` in its spec. Once it is marked as being deleted (and refuses new objects),
//! everything in it is deleted, Pods first; the finalizer goes when nothing is left. What is still there, and what it waits
//! for, is said in the namespace's conditions.

mod content;
mod status;

use std::{collections::BTreeMap, sync::Arc};

use choreo_apimachinery::status::Result;
use choreo_store::WatchError;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    cluster::Cluster,
    request::FieldValidation,
    user::UserInfo,
    verbs::{Change, Subresource, Target, is_deleting, modify, text},
};

/// The finalizer of a namespace's spec that stands for its content.
const FINALIZER: &str = "kubernetes";

/// Namespaces as the store knows them.
const RESOURCE: &str = "namespaces";

/// The name under which this controller writes.
const AGENT: &str = "namespace-controller";

/// Works until `shutdown`.
pub(crate) async fn run(cluster: Arc<Cluster>, shutdown: CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = follow(&cluster) => {}
    }
}

async fn follow(cluster: &Arc<Cluster>) {
    // By name: the uid of the namespace that a task empties.
    let mut running: BTreeMap<String, String> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    loop {
        let snapshot = cluster.store().snapshot();
        let Ok(mut watch) = cluster.store().watch(Some(RESOURCE), None, snapshot.revision()) else {
            continue;
        };
        let present = snapshot.iter(RESOURCE, None, None).cloned().collect::<Vec<_>>();
        let mut pending: Vec<_> = present.into_iter().map(|object| object.value()).collect();
        loop {
            for namespace in pending.drain(..).filter(|namespace| wants_removal(namespace)) {
                let (name, uid) = (
                    text(&namespace, "/metadata/name").to_owned(),
                    text(&namespace, "/metadata/uid").to_owned(),
                );
                if running.get(&name) != Some(&uid) {
                    running.insert(name.clone(), uid.clone());
                    let cluster = cluster.clone();
                    tasks.spawn(async move {
                        content::remove(&cluster, &name, &uid).await;
                        (name, uid)
                    });
                }
            }
            tokio::select! {
                event = watch.next() => match event {
                    Ok(event) => pending.push(event.object.value()),
                    Err(WatchError::Closed) => return,
                    Err(WatchError::Lagged { .. }) => break,
                },
                Some(ended) = tasks.join_next() => match ended {
                    Ok((name, uid)) => {
                        if running.get(&name) == Some(&uid) {
                            running.remove(&name);
                        }
                    }
                    Err(error) => {
                        tracing::error!("removal of a namespace's content ended: {error}");
                        running.clear();
                        break;
                    }
                },
            }
        }
    }
}

fn target(cluster: &Arc<Cluster>) -> Result<Target> {
    Target::new(cluster, ("", "v1", RESOURCE), "", &UserInfo::system(AGENT), AGENT)
}

/// Whether the content of the namespace is to be removed, or has been and it is to be let go.
fn wants_removal(namespace: &Value) -> bool {
    let finalizers = namespace.pointer("/spec/finalizers").and_then(Value::as_array);
    is_deleting(namespace)
        && finalizers
            .into_iter()
            .flatten()
            .any(|finalizer| finalizer.as_str() == Some(FINALIZER))
}

/// Changes a namespace of that name and uid; another one of the name is left alone.
async fn change(
    cluster: &Arc<Cluster>,
    (name, uid): (&str, &str),
    subresource: Subresource,
    change: impl Fn(&mut Value),
) -> Result<()> {
    let target = target(cluster)?;
    let how = Change {
        name,
        subresource,
        field_manager: None,
        dry_run: false,
        validation: FieldValidation::Ignore,
        creates: false,
        track: true,
        versioned: false,
    };
    let done = modify(&target, &how, |present| {
        let mut namespace = present.cloned().unwrap_or_default();
        if text(&namespace, "/metadata/uid") == uid {
            change(&mut namespace);
        }
        Ok(namespace)
    })
    .await;
    match done {
        Err(error) if error.code != 404 => Err(error),
        _ => Ok(()),
    }
}

/// Lets the namespace go.
async fn finalize(cluster: &Arc<Cluster>, which: (&str, &str)) -> Result<()> {
    change(cluster, which, Subresource::Finalize, |namespace| {
        if let Some(finalizers) = namespace
            .pointer_mut("/spec/finalizers")
            .and_then(Value::as_array_mut)
        {
            finalizers.retain(|finalizer| finalizer.as_str() != Some(FINALIZER));
        }
    })
    .await
}
