//! Writes down what is used of the quotas.

use std::collections::BTreeSet;
use std::sync::Arc;

use choreo_apimachinery::status::Result;
use choreo_store::Snapshot;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::{RESOURCE, hard, quotas, usage};
use crate::cluster::Cluster;
use crate::follow::{Round, burst, rounds};
use crate::user::UserInfo;
use crate::verbs::{Subresource, Target, edit, is_deleting, text};

/// The name under which this controller writes.
const AGENT: &str = "resourcequota-controller";

/// Works until `shutdown`.
pub(crate) async fn run(cluster: Arc<Cluster>, shutdown: CancellationToken) {
    rounds(shutdown, || round(cluster.clone())).await;
}

async fn round(cluster: Arc<Cluster>) -> Round {
    let cluster = &cluster;
    let snapshot = cluster.store().snapshot();
    let mut watch = cluster.store().watch(None, None, snapshot.revision())?;
    let mut look_at: BTreeSet<String> = snapshot
        .iter(RESOURCE, None, None)
        .map(|quota| quota.key().namespace().to_owned())
        .collect();
    drop(snapshot);
    loop {
        let snapshot = cluster.store().snapshot();
        for namespace in std::mem::take(&mut look_at) {
            for quota in quotas(&snapshot, &namespace) {
                count(cluster, &snapshot, &namespace, &quota).await;
            }
        }
        drop(snapshot);
        burst(&mut watch, |event| {
            let namespace = event.object.key().namespace();
            if !namespace.is_empty() && cluster.store().count(RESOURCE) > 0 {
                look_at.insert(namespace.to_owned());
            }
        })
        .await?;
    }
}

async fn count(cluster: &Arc<Cluster>, snapshot: &Snapshot, namespace: &str, quota: &Value) {
    if is_deleting(quota) {
        return;
    }
    let hard = hard(quota);
    let names: BTreeSet<&str> = hard.keys().map(String::as_str).collect();
    let used: Map<String, Value> = usage::in_namespace(snapshot, quota, namespace, &names)
        .into_iter()
        .map(|(name, amount)| (name, amount.to_string().into()))
        .collect();
    let status = json!({
        "hard": quota.pointer("/spec/hard").cloned().unwrap_or_else(|| json!({})),
        "used": used,
    });
    if quota.get("status") == Some(&status) || (hard.is_empty() && quota.get("status").is_none()) {
        return;
    }
    let name = text(quota, "/metadata/name");
    if let Err(error) = write(cluster, namespace, name, &status).await {
        tracing::warn!(
            namespace,
            name,
            "what is used of a quota was not written: {error}"
        );
    }
}

async fn write(cluster: &Arc<Cluster>, namespace: &str, name: &str, status: &Value) -> Result<()> {
    let target = Target::new(
        cluster,
        ("", "v1", RESOURCE),
        namespace,
        &UserInfo::system(AGENT),
        AGENT,
    )?;
    edit(&target, name, Subresource::Status, |quota| {
        quota["status"] = status.clone();
    })
    .await
}
