//! Ports of listeners that were stored by an earlier run.

use kube::Client;
use kube::ResourceExt;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use super::{InstallError, MANAGER, api_of};
use crate::runtime::feed::describe;

/// Where the embedded clusters of this process are.
const EMBEDDED: &str = "embedded://";

/// Gives the listeners of the stored object that `wanted` names, by name and protocol, the ports that they have there. Everything else stays as somebody
/// may have changed it; `lists` are the paths of the lists of listeners.
pub(super) async fn follow_ports(
    client: &Client,
    wanted: &DynamicObject,
    lists: &[&str],
) -> Result<(), InstallError> {
    let (api, kind) = api_of(client, wanted);
    let name = wanted.name_any();
    let refused = |error: kube::Error| InstallError::Refused {
        what: format!("{kind} {name}"),
        message: describe(&error),
    };
    let Some(stored) = api.get_opt(&name).await.map_err(refused)? else {
        return Ok(());
    };
    // A data plane that somebody has made stand for another cluster has that cluster's ports.
    let server = stored
        .data
        .pointer("/spec/kubernetesCluster/server")
        .and_then(Value::as_str);
    if server.is_some_and(|server| !server.starts_with(EMBEDDED)) {
        return Ok(());
    }
    let class = |object: &DynamicObject| object.data.pointer("/spec/gatewayClassName").cloned();
    if class(&stored) != class(wanted) {
        return Ok(());
    }
    let mut patch = json!({});
    for path in lists {
        let (Some(before), Some(after)) = (stored.data.pointer(path), wanted.data.pointer(path)) else {
            continue;
        };
        let followed = follow(before, after);
        if followed != *before {
            set(&mut patch, path, followed);
        }
    }
    if patch == json!({}) {
        return Ok(());
    }
    let params = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    };
    api.patch(&name, &params, &Patch::Merge(&patch))
        .await
        .map_err(refused)?;
    Ok(())
}

fn follow(stored: &Value, wanted: &Value) -> Value {
    let mut listeners = stored.clone();
    for listener in listeners.as_array_mut().into_iter().flatten() {
        let mut all = wanted.as_array().into_iter().flatten();
        let same = |one: &&Value| one["name"] == listener["name"] && one["protocol"] == listener["protocol"];
        let Some(known) = all.find(same) else {
            continue;
        };
        listener["port"] = known["port"].clone();
        // A Secret that nobody has made was named by defaults of before.
        let placeholder = listener
            .pointer("/tls/certificateRefs/0/name")
            .is_some_and(|name| name == "gateway-certificate");
        if placeholder {
            listener["tls"] = known["tls"].clone();
        }
    }
    listeners
}

fn set(patch: &mut Value, path: &str, value: Value) {
    let mut at = patch;
    for step in path.split('/').skip(1) {
        at = &mut at[step];
    }
    *at = value;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_follow_and_everything_else_stays() {
        let stored = json!([
            {"name": "http", "protocol": "HTTP", "port": 80, "hostname": "*.mine.localhost"},
            {"name": "extra", "protocol": "TCP", "port": 7000},
            {"name": "tcp", "protocol": "UDP", "port": 5},
        ]);
        let wanted = json!([{"name": "http", "protocol": "HTTP", "port": 9080}, {"name": "tcp", "protocol": "TCP", "port": 9000}]);
        assert_eq!(
            follow(&stored, &wanted),
            json!([
                {"name": "http", "protocol": "HTTP", "port": 9080, "hostname": "*.mine.localhost"},
                {"name": "extra", "protocol": "TCP", "port": 7000},
                {"name": "tcp", "protocol": "UDP", "port": 5},
            ])
        );
        let mut patch = json!({});
        set(&mut patch, "/spec/gateway/public/listeners", json!([]));
        assert_eq!(patch, json!({"spec": {"gateway": {"public": {"listeners": []}}}}));
    }
}
