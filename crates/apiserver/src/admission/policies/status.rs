//! Writes down what is probably wrong with the expressions of ValidatingAdmissionPolicies, given the kinds that they are for.
//! Policies count with it and without it.

use std::sync::Arc;

use choreo_apimachinery::builtin::expression_warnings;
use choreo_apimachinery::status::Result;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::VALIDATING;
use crate::cluster::Cluster;
use crate::follow::{Round, burst, rounds};
use crate::user::UserInfo;
use crate::verbs::{Subresource, Target, edit, is_deleting, text};

/// The name under which this controller writes.
const AGENT: &str = "validatingadmissionpolicy-status";

/// Works until `shutdown`.
pub(crate) async fn run(cluster: Arc<Cluster>, shutdown: CancellationToken) {
    rounds(shutdown, || round(cluster.clone())).await;
}

async fn round(cluster: Arc<Cluster>) -> Round {
    let cluster = &cluster;
    let store = cluster.store();
    let mut watch = store.watch(Some(VALIDATING), None, store.revision())?;
    loop {
        check_all(cluster).await;
        burst(&mut watch, |_| {}).await?;
    }
}

async fn check_all(cluster: &Arc<Cluster>) {
    let snapshot = cluster.store().snapshot();
    for policy in snapshot.iter(VALIDATING, None, None) {
        let policy = policy.value();
        let (generation, observed) = generations(&policy);
        if generation <= observed || is_deleting(&policy) {
            continue;
        }
        let warnings = expression_warnings(cluster.served().registry(), &policy);
        let name = text(&policy, "/metadata/name");
        if let Err(error) = write(cluster, name, generation, &warnings).await {
            tracing::warn!(
                policy = name,
                "what the type check of a policy found was not written: {error}"
            );
        }
    }
}

/// The generation of a policy, and the one that was looked at.
fn generations(policy: &Value) -> (i64, i64) {
    let number = |path| policy.pointer(path).and_then(Value::as_i64).unwrap_or_default();
    (
        number("/metadata/generation"),
        number("/status/observedGeneration"),
    )
}

async fn write(cluster: &Arc<Cluster>, name: &str, generation: i64, warnings: &[Value]) -> Result<()> {
    let target = Target::new(
        cluster,
        (super::GROUP, "v1", "validatingadmissionpolicies"),
        "",
        &UserInfo::system(AGENT),
        AGENT,
    )?;
    let checked = if warnings.is_empty() {
        json!({})
    } else {
        json!({"expressionWarnings": warnings})
    };
    edit(&target, name, Subresource::Status, |policy| {
        let (present, observed) = generations(policy);
        // Changed meanwhile: it is looked at once more.
        if present == generation && observed < generation {
            policy["status"]["observedGeneration"] = generation.into();
            policy["status"]["typeChecking"] = checked.clone();
        }
    })
    .await
}
