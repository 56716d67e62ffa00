#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::needless_pass_by_value
)]

use std::sync::Arc;

use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::registry::{Column, Registry};

fn now() -> jiff::Timestamp {
    "2026-01-02T00:00:00Z".parse().unwrap()
}

const CREATED: &str = "2026-01-01T23:00:00Z";

/// The cells of one object of a built-in kind, without name and age, which are checked apart.
fn cells(group: &str, version: &str, plural: &str, mut object: Value) -> Vec<Value> {
    let registry = Registry::builtin();
    let info: Arc<ResourceInfo> = registry.lookup(group, version, plural).unwrap().clone();
    object["metadata"]["name"] = json!("n");
    object["metadata"]["creationTimestamp"] = json!(CREATED);
    let table = table(&info, &[&object], IncludeObject::None, now());
    let columns = table["columnDefinitions"].as_array().unwrap();
    let cells = table["rows"][0]["cells"].as_array().unwrap();
    assert_eq!(columns.len(), cells.len(), "as many cells as columns");
    for (column, cell) in columns.iter().zip(cells) {
        match column["name"].as_str().unwrap() {
            "Name" => assert_eq!(cell, "n"),
            "Age" => assert_eq!(cell, "60m"),
            _ => {}
        }
    }
    let other = |c: &Value| !matches!(c["name"].as_str(), Some("Name" | "Age"));
    columns
        .iter()
        .zip(cells)
        .filter(|(c, _)| other(c))
        .map(|(_, cell)| cell.clone())
        .collect()
}

#[rstest]
#[case("", "v1", "namespaces", json!({"status": {"phase": "Active"}}), json!(["Active"]))]
#[case("", "v1", "configmaps", json!({"data": {"a": "1"}, "binaryData": {"b": ""}}), json!([2]))]
#[case("", "v1", "secrets", json!({"type": "Opaque", "data": {"a": "1"}}), json!(["Opaque", 1]))]
#[case("", "v1", "services", json!({"spec": {"type": "NodePort", "clusterIP": "10.0.0.1", "selector": {"app": "web"},
    "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}}),
    json!(["NodePort", "10.0.0.1", "<none>", "80:30080/TCP,53/UDP", "app=web"]))]
#[case("", "v1", "services", json!({"spec": {"type": "LoadBalancer", "clusterIP": "None"}}),
    json!(["LoadBalancer", "None", "<pending>", "<none>", "<none>"]))]
#[case("apps", "v1", "deployments", json!({"spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}},
    "template": {"spec": {"containers": [{"name": "a", "image": "i:1"}, {"name": "b", "image": "j:2"}]}}},
    "status": {"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 1}}),
    json!(["2/3", 3, 1, "a,b", "i:1,j:2", "app=web"]))]
#[case("apps", "v1", "replicasets", json!({"spec": {"replicas": 3}, "status": {"replicas": 2, "readyReplicas": 1}}),
    json!([3, 2, 1, "", "", "<none>"]))]
#[case("batch", "v1", "jobs", json!({"spec": {"completions": 1}, "status": {"succeeded": 1, "startTime": "2026-01-01T23:10:00Z",
    "completionTime": "2026-01-01T23:10:30Z", "conditions": [{"type": "Complete", "status": "True"}]}}),
    json!(["Complete", "1/1", "30s", "", "", "<none>"]))]
#[case("batch", "v1", "cronjobs", json!({"spec": {"schedule": "* * * * *", "suspend": true}}),
    json!(["* * * * *", "<none>", "True", 0, "<none>", "", "", "<none>"]))]
#[case("networking.k8s.io", "v1", "ingresses", json!({"spec": {"ingressClassName": "c", "rules": [{"host": "a"}, {"host": "b"}], "tls": [{}]},
    "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}}), json!(["c", "a,b", "1.2.3.4", "80, 443"]))]
#[case("networking.k8s.io", "v1", "networkpolicies", json!({"spec": {"podSelector": {}}}), json!(["<none>"]))]
#[case("coordination.k8s.io", "v1", "leases", json!({"spec": {"holderIdentity": "me"}}), json!(["me"]))]
#[case("rbac.authorization.k8s.io", "v1", "roles", json!({}), json!([CREATED]))]
#[case("rbac.authorization.k8s.io", "v1", "rolebindings", json!({"roleRef": {"kind": "Role", "name": "r"},
    "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s", "namespace": "n"}]}),
    json!(["Role/r", "u", "", "n/s"]))]
#[case("apiextensions.k8s.io", "v1", "customresourcedefinitions", json!({}), json!([CREATED]))]
#[case("policy", "v1", "poddisruptionbudgets", json!({"spec": {"minAvailable": "50%"}, "status": {"disruptionsAllowed": 1}}), json!(["50%", "N/A", 1]))]
#[case("autoscaling", "v2", "horizontalpodautoscalers", json!({"spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "minReplicas": 1,
    "maxReplicas": 5, "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]},
    "status": {"currentReplicas": 2}}), json!(["Deployment/d", "cpu: <unknown>/80%", "1", "5", "2"]))]
#[case("", "v1", "nodes", json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}, "spec": {"unschedulable": true},
    "status": {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"kubeletVersion": "v1"}}}),
    json!(["Ready,SchedulingDisabled", "control-plane", "v1", "<none>", "<none>", "<unknown>", "<unknown>", "<unknown>"]))]
#[case("", "v1", "events", json!({"type": "Normal", "reason": "Started", "message": " hi ", "count": 3,
    "firstTimestamp": "2026-01-01T23:30:00Z", "lastTimestamp": "2026-01-01T23:59:00Z",
    "involvedObject": {"kind": "Pod", "name": "p"}, "source": {"component": "c"}}),
    json!(["60s", "Normal", "Started", "pod/p", "", "c", "hi", "30m", "3"]))]
#[case("", "v1", "serviceaccounts", json!({}), json!([]))]
#[case("", "v1", "podtemplates", json!({"template": {"metadata": {"labels": {"a": "b"}}}}), json!(["", "", "a=b"]))]
fn built_in_kinds(
    #[case] group: &str,
    #[case] version: &str,
    #[case] plural: &str,
    #[case] object: Value,
    #[case] expected: Value,
) {
    assert_eq!(Value::from(cells(group, version, plural, object)), expected);
}

#[rstest]
#[case(json!({"spec": {"containers": [{"name": "a"}]}, "status": {"phase": "Pending"}}), json!(["0/1", "Pending", "0"]))]
#[case(json!({"spec": {"containers": [{"name": "a"}]}, "status": {"phase": "Running", "containerStatuses": [
    {"ready": true, "restartCount": 0, "state": {"running": {}}}]}}), json!(["1/1", "Running", "0"]))]
#[case(json!({"spec": {"containers": [{"name": "a"}]}, "status": {"phase": "Running", "containerStatuses": [
    {"ready": false, "restartCount": 4, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
     "lastState": {"terminated": {"finishedAt": "2026-01-01T23:58:00Z"}}}]}}), json!(["0/1", "CrashLoopBackOff", "4 (2m ago)"]))]
#[case(json!({"spec": {"containers": [{"name": "a"}], "initContainers": [{"name": "i"}, {"name": "j"}]}, "status": {"phase": "Pending",
    "initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 0}}}, {"name": "j", "state": {"waiting": {"reason": "PodInitializing"}}}]}}),
    json!(["0/1", "Init:1/2", "0"]))]
#[case(json!({"spec": {"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]}, "status": {"phase": "Pending",
    "initContainerStatuses": [{"name": "i", "restartCount": 2, "state": {"terminated": {"exitCode": 3}}}]}}), json!(["0/1", "Init:ExitCode:3", "2"]))]
#[case(json!({"spec": {"containers": [{"name": "a"}]}, "status": {"phase": "Succeeded", "containerStatuses": [
    {"state": {"terminated": {"reason": "Completed"}}}]}}), json!(["0/1", "Completed", "0"]))]
#[case(json!({"metadata": {"deletionTimestamp": "2026-01-01T23:59:59Z"}, "spec": {"containers": [{"name": "a"}]}, "status": {"phase": "Running"}}),
    json!(["0/1", "Terminating", "0"]))]
fn pods(#[case] object: Value, #[case] expected: Value) {
    let found = cells("", "v1", "pods", object);
    assert_eq!(Value::from(&found[..3]), expected);
}

fn custom_info(columns: Vec<Column>) -> ResourceInfo {
    let registry = Registry::builtin();
    let base = registry.lookup("", "v1", "configmaps").unwrap();
    ResourceInfo {
        is_crd: true,
        conversion: None,
        since: 0,
        terminating: false,
        columns,
        ..base.as_ref().clone()
    }
}

fn custom_column(name: &str, type_: &str, json_path: &str) -> Column {
    Column {
        name: name.to_owned(),
        type_: type_.to_owned(),
        json_path: json_path.to_owned(),
        ..Column::default()
    }
}

#[test]
fn custom_columns() {
    let info = custom_info(vec![
        custom_column(
            "Ready",
            "string",
            ".status.conditions[?(@.type==\"Ready\")].status",
        ),
        custom_column("Replicas", "integer", ".spec.replicas"),
        custom_column("Ratio", "number", ".spec.ratio"),
        custom_column("On", "boolean", ".spec.on"),
        custom_column("Hosts", "string", ".spec.hosts"),
        custom_column("Each", "string", ".spec.hosts[*]"),
        custom_column("Missing", "string", ".spec.missing"),
        custom_column("Wrong", "integer", ".spec.on"),
        custom_column("Since", "date", ".metadata.creationTimestamp"),
    ]);
    let object = json!({
        "metadata": {"name": "n", "creationTimestamp": CREATED},
        "spec": {"replicas": 3, "ratio": 0.5, "on": true, "hosts": ["a", "b"]},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    });
    let table = table(&info, &[&object], IncludeObject::Metadata, now());
    assert_eq!(
        table["rows"][0]["cells"],
        json!([
            "n",
            "True",
            3,
            0.5,
            true,
            "[\"a\",\"b\"]",
            "a,b",
            null,
            null,
            "60m"
        ])
    );
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(table["rows"][0]["object"]["metadata"], object["metadata"]);
    assert_eq!(table["columnDefinitions"][0]["format"], "name");
}

#[test]
fn without_columns_there_is_the_age() {
    let info = custom_info(Vec::new());
    let object = json!({"metadata": {"name": "n", "creationTimestamp": CREATED}});
    let table = table(&info, &[&object], IncludeObject::Object, now());
    assert_eq!(table["rows"][0], json!({"cells": ["n", "60m"], "object": object}));
    assert_eq!(table["columnDefinitions"][1]["type"], "date");
}
