//! The end of namespaces: the removal of what is in one that is being deleted.
//!
//! A namespace carries the finalizer `kubernetes` in its spec. Once it is marked as being deleted (and refuses new objects),
//! everything in it is deleted, Pods first; the finalizer goes when nothing is left. What is still there, and what it waits
//! for, is said in the namespace's conditions.

mod content;
mod status;

use std::{collections::BTreeMap, sync::Arc};

use choreo_apimachinery::status::Result;
use serde_json::Value;
use tokio::{sync::Mutex, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    cluster::Cluster,
    follow::{Ended, Round, rounds},
    user::UserInfo,
    verbs::{Subresource, Target, edit, is_deleting, text},
};

/// The finalizer of a namespace's spec that stands for its content.
const FINALIZER: &str = "kubernetes";

/// Namespaces as the store knows them.
const RESOURCE: &str = "namespaces";

/// The name under which this controller writes.
const AGENT: &str = "namespace-controller";

/// Works until `shutdown`.
pub(crate) async fn run(cluster: Arc<Cluster>, shutdown: CancellationToken) {
    let work = Arc::new(Mutex::new(Work::default()));
    rounds(shutdown, || {
        let (work, cluster) = (work.clone(), cluster.clone());
        async move { work.lock().await.round(&cluster).await }
    })
    .await;
}

/// What is being emptied.
#[derive(Default)]
struct Work {
    /// By name: the uid of the namespace that a task empties.
    running: BTreeMap<String, String>,
    tasks: JoinSet<(String, String)>,
}

impl Work {
    async fn round(&mut self, cluster: &Arc<Cluster>) -> Round {
        let snapshot = cluster.store().snapshot();
        let mut watch = cluster.store().watch(Some(RESOURCE), None, snapshot.revision())?;
        let present = snapshot.iter(RESOURCE, None, None);
        let mut pending: Vec<_> = present.map(|object| object.value()).collect();
        drop(snapshot);
        loop {
            for namespace in pending.drain(..).filter(|namespace| wants_removal(namespace)) {
                self.empty(cluster, &namespace);
            }
            tokio::select! {
                event = watch.next() => pending.push(event?.object.value()),
                Some(ended) = self.tasks.join_next() => match ended {
                    Ok((name, uid)) => {
                        if self.running.get(&name) == Some(&uid) {
                            self.running.remove(&name);
                        }
                    }
                    Err(error) => {
                        tracing::error!("removal of a namespace's content ended: {error}");
                        self.running.clear();
                        return Err(Ended::Behind);
                    }
                },
            }
        }
    }

    /// Has a task empty the namespace, unless one does.
    fn empty(&mut self, cluster: &Arc<Cluster>, namespace: &Value) {
        let (name, uid) = (
            text(namespace, "/metadata/name").to_owned(),
            text(namespace, "/metadata/uid").to_owned(),
        );
        if self.running.get(&name) == Some(&uid) {
            return;
        }
        self.running.insert(name.clone(), uid.clone());
        let cluster = cluster.clone();
        self.tasks.spawn(async move {
            content::remove(&cluster, &name, &uid).await;
            (name, uid)
        });
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
    edit(&target, name, subresource, |namespace| {
        if text(namespace, "/metadata/uid") == uid {
            change(namespace);
        }
    })
    .await
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
