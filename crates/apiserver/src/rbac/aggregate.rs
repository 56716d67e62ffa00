//! Fills in the rules of aggregated ClusterRoles: those of all ClusterRoles that they select, by name.
//!
//! The authorizer counts the selected roles anyway; this is for people and tools that read the role.

use std::sync::Arc;

use choreo_store::Snapshot;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::authorizer::{CLUSTER_ROLES, is_selected};
use crate::cluster::Cluster;
use crate::follow::{Round, burst, rounds};
use crate::user::UserInfo;
use crate::verbs::{Subresource, Target, edit, text};

/// The name under which this controller writes.
const AGENT: &str = "clusterrole-aggregation-controller";

/// Works until `shutdown`.
pub(crate) async fn run(cluster: Arc<Cluster>, shutdown: CancellationToken) {
    rounds(shutdown, || round(cluster.clone())).await;
}

async fn round(cluster: Arc<Cluster>) -> Round {
    let cluster = &cluster;
    let store = cluster.store();
    let mut watch = store.watch(Some(CLUSTER_ROLES), None, store.revision())?;
    loop {
        fill_all(cluster).await;
        burst(&mut watch, |_| {}).await?;
    }
}

async fn fill_all(cluster: &Arc<Cluster>) {
    let snapshot = cluster.store().snapshot();
    for role in snapshot.iter(CLUSTER_ROLES, None, None) {
        let role = role.value();
        let Some(rules) = wanted(&snapshot, &role) else {
            continue;
        };
        let present = role
            .get("rules")
            .and_then(Value::as_array)
            .map_or(&[][..], Vec::as_slice);
        if present == rules {
            continue;
        }
        if let Err(error) = write(cluster, text(&role, "/metadata/name"), &rules).await {
            tracing::warn!(role = %role["metadata"]["name"], "the rules of an aggregated role were not written: {error}");
        }
    }
}

/// The rules that an aggregated role should have; none for another role.
fn wanted(snapshot: &Snapshot, role: &Value) -> Option<Vec<Value>> {
    let selectors = role
        .pointer("/aggregationRule/clusterRoleSelectors")?
        .as_array()?;
    let name = text(role, "/metadata/name");
    let mut rules: Vec<Value> = Vec::new();
    for selector in selectors {
        for other in snapshot.iter(CLUSTER_ROLES, None, None) {
            if other.key().name() == name {
                continue;
            }
            let other = other.value();
            if !is_selected(selector, &other) {
                continue;
            }
            for rule in other.get("rules").and_then(Value::as_array).into_iter().flatten() {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    Some(rules)
}

async fn write(
    cluster: &Arc<Cluster>,
    name: &str,
    rules: &[Value],
) -> choreo_apimachinery::status::Result<()> {
    let target = Target::new(
        cluster,
        (super::GROUP, "v1", "clusterroles"),
        "",
        &UserInfo::system(AGENT),
        AGENT,
    )?;
    edit(&target, name, Subresource::Main, |role| {
        role["rules"] = rules.into()
    })
    .await
}
