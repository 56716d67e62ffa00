//! Writes down what is used of the quotas.

use std::collections::BTreeSet;
use std::sync::Arc;

use choreo_apimachinery::status::Result;
use choreo_store::{Snapshot, WatchError};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::{RESOURCE, hard, quotas, usage};
use crate::cluster::Cluster;
use crate::request::FieldValidation;
use crate::user::UserInfo;
use crate::verbs::{Change, Subresource, Target, is_deleting, modify, text};

/// The name under which this controller writes.
const AGENT: &str = "resourcequota-controller";

/// Works until `shutdown`.
pub(crate) async fn run(cluster: Arc<Cluster>, shutdown: CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = follow(&cluster) => {}
    }
}

async fn follow(cluster: &Arc<Cluster>) {
    loop {
        let snapshot = cluster.store().snapshot();
        let Ok(mut watch) = cluster.store().watch(None, None, snapshot.revision()) else {
            continue;
        };
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
            // A burst of changes is counted once.
            let mut next = watch.next().await.map(Some);
            loop {
                match next {
                    Ok(Some(event)) => {
                        let namespace = event.object.key().namespace();
                        if !namespace.is_empty() && cluster.store().count(RESOURCE) > 0 {
                            look_at.insert(namespace.to_owned());
                        }
                    }
                    Ok(None) => break,
                    Err(WatchError::Closed) => return,
                    Err(WatchError::Lagged { .. }) => break,
                }
                next = watch.try_next();
            }
            if matches!(next, Err(WatchError::Lagged { .. })) {
                break;
            }
        }
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
    if let Err(error) = write(cluster, namespace, name, &status).await
        && error.code != 404
    {
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
    let change = Change {
        name,
        subresource: Subresource::Status,
        field_manager: None,
        dry_run: false,
        validation: FieldValidation::Ignore,
        creates: false,
        track: true,
        versioned: false,
    };
    modify(&target, &change, |present| {
        let mut quota = present.cloned().ok_or_else(|| target.not_found(name))?;
        quota["status"] = status.clone();
        Ok(quota)
    })
    .await
    .map(|_| ())
}
