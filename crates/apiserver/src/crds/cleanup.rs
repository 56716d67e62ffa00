//! Removes the objects of definitions that are being deleted, and then lets the definitions go.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use choreo_apimachinery::status::Result;
use choreo_store::{EventKind, Object};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{FINALIZER, RESOURCE, status};
use crate::cluster::Cluster;
use crate::follow::{Round, rounds};
use crate::request::{DeleteOptions, ListOptions};
use crate::user::UserInfo;
use crate::verbs::{
    Filter, Subresource, Target, delete_collection, edit, is_deleting, remove_finalizer, text,
};

/// Wait before looking again at a definition whose objects have finalizers of somebody else.
const RETRY: Duration = Duration::from_millis(250);

/// The name under which this controller writes.
const AGENT: &str = "crd-cleanup";

/// Works until `shutdown`.
pub(crate) async fn run(cluster: Arc<Cluster>, shutdown: CancellationToken) {
    rounds(shutdown, || round(cluster.clone())).await;
}

async fn round(cluster: Arc<Cluster>) -> Round {
    let cluster = &cluster;
    let snapshot = cluster.store().snapshot();
    let mut waiting: BTreeSet<String> = snapshot
        .iter(RESOURCE, None, None)
        .filter(|object| stored_wants_cleanup(object))
        .map(|object| object.key().name().to_owned())
        .collect();
    let mut watch = cluster.store().watch(Some(RESOURCE), None, snapshot.revision())?;
    drop(snapshot);
    loop {
        let mut left = BTreeSet::new();
        for name in std::mem::take(&mut waiting) {
            match clean(cluster, &name).await {
                Ok(true) => {}
                Ok(false) => {
                    left.insert(name);
                }
                Err(error) => {
                    tracing::warn!(definition = %name, "custom resources could not be removed yet: {error}");
                    left.insert(name);
                }
            }
        }
        waiting = left;
        let next = if waiting.is_empty() {
            Some(watch.next().await?)
        } else {
            tokio::time::timeout(RETRY, watch.next()).await.ok().transpose()?
        };
        match next {
            Some(event) if event.kind == EventKind::Deleted => reconsider(cluster).await,
            Some(event) if stored_wants_cleanup(&event.object) => {
                waiting.insert(event.object.key().name().to_owned());
            }
            _ => {}
        }
    }
}

/// Reads only what decides: a start would otherwise parse every schema of a thousand definitions.
fn stored_wants_cleanup(definition: &Object) -> bool {
    #[derive(Deserialize)]
    struct Outline {
        metadata: Value,
    }
    let outline: std::result::Result<Outline, _> = serde_json::from_slice(definition.json());
    outline.is_ok_and(|outline| wants_cleanup(&json!({"metadata": outline.metadata})))
}

fn wants_cleanup(definition: &Value) -> bool {
    let finalizers = definition
        .pointer("/metadata/finalizers")
        .and_then(Value::as_array);
    is_deleting(definition)
        && finalizers
            .into_iter()
            .flatten()
            .any(|f| f.as_str() == Some(FINALIZER))
}

/// Gives definitions that waited for names of one that is gone another chance: their status is worked out anew.
async fn reconsider(cluster: &Arc<Cluster>) {
    let user = UserInfo::system(AGENT);
    let place = ("apiextensions.k8s.io", "v1", "customresourcedefinitions");
    let Ok(definitions) = Target::new(cluster, place, "", &user, AGENT) else {
        return;
    };
    let waiting = cluster.store().snapshot();
    let waiting = waiting
        .iter(RESOURCE, None, None)
        .filter(|object| !status::is_true(&object.value(), "NamesAccepted"));
    for object in waiting {
        let name = object.key().name();
        if let Err(error) = edit(&definitions, name, Subresource::Other(""), |_| {}).await {
            tracing::warn!(definition = name, "status could not be worked out anew: {error}");
        }
    }
}

/// Deletes the objects of a definition; once none is left, lets the definition go. Gives whether it is done.
async fn clean(cluster: &Arc<Cluster>, name: &str) -> Result<bool> {
    let user = UserInfo::system(AGENT);
    let definitions = Target::new(
        cluster,
        ("apiextensions.k8s.io", "v1", "customresourcedefinitions"),
        "",
        &user,
        AGENT,
    )?;
    let Ok(definition) = definitions.get(name).await else {
        return Ok(true);
    };
    let definition = definition.value();
    if !wants_cleanup(&definition) {
        return Ok(true);
    }
    let (group, plural) = (
        text(&definition, "/spec/group"),
        text(&definition, "/spec/names/plural"),
    );
    let resource = cluster.served().registry().preferred(group, plural).cloned();
    if let Some(resource) = resource {
        let objects = Target::of(cluster, &resource, "", &user, AGENT);
        delete_collection(
            &objects,
            &ListOptions::default(),
            &Filter::everything(),
            &DeleteOptions::default(),
        )
        .await?;
        if cluster.store().count(objects.storage_resource()) > 0 {
            return Ok(false);
        }
    }
    edit(&definitions, name, Subresource::Other(""), |definition| {
        status::set(
            definition,
            "Terminating",
            false,
            "InstanceDeletionCompleted",
            "removed all instances",
        );
        remove_finalizer(definition, FINALIZER);
    })
    .await?;
    Ok(true)
}
