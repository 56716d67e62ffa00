//! Storage that is in use stays: claims that Pods use, volumes that are bound, classes of attributes that claims or volumes name.
//!
//! Such objects are made with a finalizer ([`crate::admission`]). It is taken away here once they are to go and nothing uses them,
//! and put on those that are from before.

use std::collections::BTreeSet;
use std::sync::Arc;

use choreo_apimachinery::status::Result;
use choreo_store::{Event, Key, Snapshot};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::follow::{Round, burst, rounds};
use crate::user::UserInfo;
use crate::verbs::{Subresource, Target, edit, is_deleting, metadata_mut, remove_finalizer, text};

/// The name under which this controller writes.
const AGENT: &str = "storage-protection-controller";

const PODS: &str = "pods";
const CLAIMS: &str = "persistentvolumeclaims";
const VOLUMES: &str = "persistentvolumes";
const CLASSES: &str = "storage.k8s.io/volumeattributesclasses";

/// What is protected, as the store knows it, and the finalizer that does it.
const PROTECTED: [(&str, &str); 3] = [
    (CLAIMS, "kubernetes.io/pvc-protection"),
    (VOLUMES, "kubernetes.io/pv-protection"),
    (CLASSES, "kubernetes.io/vac-protection"),
];

/// The finalizer of a resource, as the store knows it; none for one that is not protected.
pub(crate) fn finalizer(resource: &str) -> Option<&'static str> {
    let found = PROTECTED.iter().find(|(protected, _)| *protected == resource);
    found.map(|(_, finalizer)| *finalizer)
}

/// Adds a finalizer. Says whether it was not there.
pub(crate) fn protect(object: &mut Value, finalizer: &str) -> bool {
    if has(object, finalizer) {
        return false;
    }
    let finalizers = metadata_mut(object).entry("finalizers").or_insert(Value::Null);
    if finalizers.is_null() {
        *finalizers = Value::Array(Vec::new());
    }
    // Whatever it is that is no list, the schema refuses it.
    let list = finalizers.as_array_mut();
    list.map(|list| list.push(finalizer.into())).is_some()
}

fn has(object: &Value, finalizer: &str) -> bool {
    let all = object.pointer("/metadata/finalizers").and_then(Value::as_array);
    all.is_some_and(|all| all.iter().any(|found| found == finalizer))
}

/// Works until `shutdown`.
pub(crate) async fn run(cluster: Arc<Cluster>, shutdown: CancellationToken) {
    rounds(shutdown, || round(cluster.clone())).await;
}

async fn round(cluster: Arc<Cluster>) -> Round {
    let cluster = &cluster;
    let store = cluster.store();
    let snapshot = store.snapshot();
    let follow = |resource| store.watch(Some(resource), None, snapshot.revision());
    let (mut pods, mut claims) = (follow(PODS)?, follow(CLAIMS)?);
    let (mut volumes, mut classes) = (follow(VOLUMES)?, follow(CLASSES)?);
    let mut look_at: BTreeSet<Key> = PROTECTED
        .iter()
        .flat_map(|(resource, _)| snapshot.iter(resource, None, None))
        .map(|object| object.key().clone())
        .collect();
    // What is to go, but is in use.
    let mut held: BTreeSet<Key> = BTreeSet::new();
    drop(snapshot);
    loop {
        for key in std::mem::take(&mut look_at) {
            held.remove(&key);
            match look(cluster, &key).await {
                Ok(false) => {}
                Ok(true) => {
                    held.insert(key);
                }
                Err(error) => {
                    tracing::warn!(%key, "the protection of what is in use was not written: {error}");
                    // The next change is another chance.
                    held.insert(key);
                }
            }
        }
        let mut pod_changed = false;
        let mut changed: [BTreeSet<Key>; 3] = Default::default();
        let [of_claims, of_volumes, of_classes] = &mut changed;
        tokio::select! {
            followed = burst(&mut pods, |_| pod_changed = true) => followed?,
            followed = burst(&mut claims, |event| note(event, of_claims)) => followed?,
            followed = burst(&mut volumes, |event| note(event, of_volumes)) => followed?,
            followed = burst(&mut classes, |event| note(event, of_classes)) => followed?,
        }
        if pod_changed || changed.iter().any(|changed| !changed.is_empty()) {
            look_at.append(&mut held);
        }
        for changed in &mut changed {
            look_at.append(changed);
        }
    }
}

/// Remembers which object an event is about. One that is gone may have been what used another one.
fn note(event: &Event, changed: &mut BTreeSet<Key>) {
    changed.insert(event.object.key().clone());
}

/// Puts the finalizer of an object right. Says whether it is to go, but in use.
async fn look(cluster: &Arc<Cluster>, key: &Key) -> Result<bool> {
    let Some(finalizer) = finalizer(key.resource()) else {
        return Ok(false);
    };
    let snapshot = cluster.store().snapshot();
    let Some(object) = snapshot.get(key) else {
        return Ok(false);
    };
    let object = object.value();
    let going = is_deleting(&object);
    if going != has(&object, finalizer) {
        return Ok(false);
    }
    if going && is_used(&snapshot, key, &object) {
        return Ok(true);
    }
    drop(snapshot);
    let (group, plural) = key.resource().split_once('/').unwrap_or(("", key.resource()));
    let target = Target::new(
        cluster,
        (group, "v1", plural),
        key.namespace(),
        &UserInfo::system(AGENT),
        AGENT,
    )?;
    edit(&target, key.name(), Subresource::Main, |object| {
        if is_deleting(object) {
            if going {
                remove_finalizer(object, finalizer);
            }
        } else {
            protect(object, finalizer);
        }
    })
    .await?;
    Ok(false)
}

/// Whether something would miss the object.
fn is_used(snapshot: &Snapshot, key: &Key, object: &Value) -> bool {
    match key.resource() {
        CLAIMS => {
            let mut pods = snapshot.iter(PODS, Some(key.namespace()), None);
            pods.any(|pod| uses(&pod.value(), key.name(), object))
        }
        VOLUMES => text(object, "/status/phase") == "Bound",
        _ => {
            let names = |object: &Value, path| text(object, path) == key.name();
            const OF_CLAIM: [&str; 3] = [
                "/spec/volumeAttributesClassName",
                "/status/currentVolumeAttributesClassName",
                "/status/modifyVolumeStatus/targetVolumeAttributesClassName",
            ];
            let mut claims = snapshot.iter(CLAIMS, None, None);
            let mut volumes = snapshot.iter(VOLUMES, None, None);
            claims.any(|claim| OF_CLAIM.iter().any(|path| names(&claim.value(), path)))
                || volumes.any(|volume| names(&volume.value(), OF_CLAIM[0]))
        }
    }
}

/// Whether a Pod uses a claim. One that has no node yet does not: no node starts a Pod whose claim is about to go.
fn uses(pod: &Value, name: &str, claim: &Value) -> bool {
    if text(pod, "/spec/nodeName").is_empty() {
        return false;
    }
    // Its node is done with it.
    let has_ended =
        is_deleting(pod) && pod.pointer("/metadata/deletionGracePeriodSeconds") == Some(&0.into());
    let made_for = |volume: &Value| {
        let made = format!("{}-{}", text(pod, "/metadata/name"), text(volume, "/name"));
        let owners = claim
            .pointer("/metadata/ownerReferences")
            .and_then(Value::as_array);
        let mut owners = owners.into_iter().flatten();
        made == name
            && owners.any(|owner| owner["controller"] == true && owner["uid"] == pod["metadata"]["uid"])
    };
    let volumes = pod.pointer("/spec/volumes").and_then(Value::as_array);
    volumes.into_iter().flatten().any(|volume| {
        text(volume, "/persistentVolumeClaim/claimName") == name
            || (!has_ended && volume.get("ephemeral").is_some() && made_for(volume))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pods_use_claims_that_they_name_or_that_were_made_for_them() {
        let pod = |node: &str, volume: &Value| json!({"metadata": {"name": "p", "uid": "1"}, "spec": {"nodeName": node, "volumes": [{"name": "other"}, volume]}});
        let claim = json!({"metadata": {"name": "p-v"}});
        let named = json!({"name": "v", "persistentVolumeClaim": {"claimName": "p-v"}});
        assert!(uses(&pod("n", &named), "p-v", &claim));
        assert!(!uses(&pod("n", &named), "other", &claim));
        assert!(!uses(&pod("", &named), "p-v", &claim));

        let made = json!({"name": "v", "ephemeral": {}});
        assert!(!uses(&pod("n", &made), "p-v", &claim));
        let owned = |uid: &str| json!({"metadata": {"ownerReferences": [{"controller": true, "uid": uid}]}});
        assert!(uses(&pod("n", &made), "p-v", &owned("1")));
        assert!(!uses(&pod("n", &made), "p-v", &owned("2")));
        let mut ended = pod("n", &made);
        ended["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        ended["metadata"]["deletionGracePeriodSeconds"] = 0.into();
        assert!(!uses(&ended, "p-v", &owned("1")));
    }

    #[test]
    fn a_finalizer_is_added_once() {
        let mut object = json!({"metadata": {"finalizers": ["a"]}});
        assert!(protect(&mut object, "b"));
        assert!(!protect(&mut object, "b"));
        assert_eq!(object["metadata"]["finalizers"], json!(["a", "b"]));
        let mut object = json!({"metadata": {"finalizers": null}});
        assert!(protect(&mut object, "b"));
        assert!(has(&object, "b"));
    }
}
