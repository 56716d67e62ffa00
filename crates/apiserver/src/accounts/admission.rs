//! ServiceAccount admission: every Pod runs as an account, and gets its token and the server's certificates as files.

use choreo_apimachinery::status::{ApiError, Result};
use choreo_store::Key;
use serde_json::{Value, json};

use super::{DEFAULT, RESOURCE, ROOT_CA, controller};
use crate::admission::Operation;
use crate::verbs::{Target, text};

/// Where containers find their token.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// What the volumes are called, before a random ending.
const VOLUME: &str = "kube-api-access-";

/// The time for which kubelets ask for the token of the volume, in seconds.
const EXPIRATION: i64 = 3607;

/// Sets a new Pod up to run as its service account. Says whether it changed the Pod.
///
/// # Errors
/// 403 when there is no such account.
pub(crate) async fn admit(
    target: &Target,
    operation: Operation,
    subresource: &str,
    name: &str,
    pod: &mut Value,
) -> Result<bool> {
    let info = &target.resource;
    if operation != Operation::Create
        || !subresource.is_empty()
        || !info.group.is_empty()
        || info.plural != "pods"
    {
        return Ok(false);
    }
    // A mirror of a node's own Pod runs without the API.
    if pod
        .pointer("/metadata/annotations/kubernetes.io~1config.mirror")
        .is_some()
    {
        return Ok(false);
    }
    if !pod["spec"].is_object() {
        return Ok(false);
    }
    let named = text(pod, "/spec/serviceAccountName").to_owned();
    let account = if named.is_empty() { DEFAULT } else { &named };
    let key = Key::new(RESOURCE, &target.namespace, account);
    let mut found = target.cluster.store().get(&key);
    if found.is_none() && account == DEFAULT {
        // The namespace is so new that its controller has not been there yet.
        controller::ensure_default(&target.cluster, &target.namespace).await;
        found = target.cluster.store().get(&key);
    }
    let Some(found) = found else {
        let why = format!(
            "error looking up service account {}/{account}: serviceaccount {account:?} not found",
            target.namespace
        );
        return Err(ApiError::forbidden("", "pods", name, &why));
    };
    let found = found.value();
    pod["spec"]["serviceAccountName"] = account.into();
    pod["spec"]["serviceAccount"] = account.into();
    let says = |object: &Value, pointer: &str| object.pointer(pointer).and_then(Value::as_bool);
    let wanted = says(pod, "/spec/automountServiceAccountToken")
        .or_else(|| says(&found, "/automountServiceAccountToken"))
        .unwrap_or(true);
    if wanted {
        mount(pod);
    }
    let none = |list: Option<&Value>| list.and_then(Value::as_array).is_none_or(Vec::is_empty);
    if none(pod.pointer("/spec/imagePullSecrets"))
        && let Some(secrets) = found.get("imagePullSecrets").filter(|s| !none(Some(s)))
    {
        pod["spec"]["imagePullSecrets"] = secrets.clone();
    }
    Ok(true)
}

/// Mounts the token into each container that has nothing at its place.
fn mount(pod: &mut Value) {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut volumes = list(&pod["spec"]["volumes"]);
    // A Pod that was made from another one has its volume already.
    let present = volumes
        .iter()
        .filter_map(|volume| volume["name"].as_str())
        .find(|name| name.starts_with(VOLUME))
        .map(str::to_owned);
    let made = present.is_none();
    let volume = present.unwrap_or_else(|| crate::verbs::generate_name(VOLUME));
    let mut used = false;
    for kind in ["initContainers", "containers"] {
        let Some(containers) = pod["spec"].get_mut(kind).and_then(Value::as_array_mut) else {
            continue;
        };
        for container in containers.iter_mut().filter(|container| container.is_object()) {
            let mut mounts = list(&container["volumeMounts"]);
            if mounts.iter().any(|mount| mount["mountPath"] == MOUNT_PATH) {
                continue;
            }
            mounts.push(json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH}));
            container["volumeMounts"] = mounts.into();
            used = true;
        }
    }
    if used && made {
        volumes.push(json!({
            "name": volume,
            "projected": {
                "defaultMode": 420,
                "sources": [
                    {"serviceAccountToken": {"expirationSeconds": EXPIRATION, "path": "token"}},
                    {"configMap": {"name": ROOT_CA, "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                    {"downwardAPI": {"items": [{
                        "path": "namespace",
                        "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
                    }]}},
                ],
            },
        }));
        pod["spec"]["volumes"] = volumes.into();
    }
}
