//! Services on a data plane whose gateways list what they listen on.
#![allow(clippy::needless_pass_by_value)] // The calls read better.

use choreo_engine::{AnyObject, World};
use serde_json::{Value, json};

use super::support::*;

pub(crate) fn manifest(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": kind, "metadata": {"name": name, "namespace": "default"}, "spec": spec})
}

pub(crate) fn put(world: &mut World, kind: &str, name: &str, spec: Value) {
    world.upsert(AnyObject::from_value(&manifest(kind, name, spec)).unwrap());
}

/// A service with its workload.
pub(crate) fn service(world: &mut World, project: &str, name: &str, mut workload: Value, apis: Value) {
    let owner = json!({"projectName": project, "componentName": name});
    workload["owner"] = owner.clone();
    if workload.get("containers").is_none() {
        workload["containers"] = json!({"main": {"image": "a"}});
    }
    put(
        world,
        "Project",
        project,
        json!({"deploymentPipelineRef": "default"}),
    );
    put(
        world,
        "Component",
        name,
        json!({"owner": {"projectName": project}, "type": "Service"}),
    );
    put(world, "Workload", name, workload);
    put(
        world,
        "Service",
        name,
        json!({"owner": owner, "workloadName": name, "apis": apis}),
    );
}

/// A data plane whose gateways list what they listen on.
pub(crate) fn platform(cilium: bool) -> World {
    let mut world = World::new();
    for mut document in documents(PLATFORM) {
        if document["kind"] == "DataPlane" {
            let listeners = json!([
                {"name": "web", "protocol": "HTTP", "port": 80},
                {"name": "secure", "protocol": "HTTPS", "port": 443},
                {"name": "pass", "protocol": "TLS", "port": 8443},
                {"name": "raw", "protocol": "TCP", "port": 5432},
                {"name": "dns", "protocol": "UDP", "port": 53},
            ]);
            let gateway = |name: &str| json!({"name": name, "namespace": "gateways", "listeners": listeners});
            document["spec"]["gateway"]["public"] = gateway("outer");
            document["spec"]["gateway"]["organization"] = gateway("inner");
            if cilium {
                document["spec"]["features"]["cilium"] = json!(true);
            }
        }
        world.upsert(AnyObject::from_value(&document).unwrap());
    }
    world
}
