//! What is exposed, and with which guards, until it is ready in the local data plane.

use choreo_testkit::Platform;
use serde_json::json;

use crate::support::{cell, component};

/// A service with an endpoint of every protocol, an API in front of it and one in front of a server outside.
const EVERY_PROTOCOL: &str = r#"
apiVersion: openchoreo.dev/v1alpha1
kind: Workload
metadata: {name: many, namespace: default}
spec:
  owner: {projectName: default, componentName: many}
  containers: {main: {image: "registry.example.com/many:1"}}
  endpoints:
    rest: {type: REST, port: 8080, visibility: public}
    rpc: {type: gRPC, port: 9090, visibility: organization}
    live: {type: Websocket, port: 8081, basePath: /live, visibility: public}
    mail: {type: TLS, port: 993, visibility: public}
    raw: {type: TCP, port: 7000, visibility: public}
    packets: {type: UDP, port: 7001, visibility: organization}
---
apiVersion: openchoreo.dev/v1alpha1
kind: Service
metadata: {name: many, namespace: default}
spec: {owner: {projectName: default, componentName: many}, workloadName: many}
---
apiVersion: openchoreo.dev/v1alpha1
kind: API
metadata: {name: inner, namespace: default}
spec:
  owner: {projectName: default, componentName: inner}
  type: REST
  target: {componentName: many, endpoint: rest}
  rest: {backend: {port: 8080}, exposeLevels: [Public]}
---
apiVersion: openchoreo.dev/v1alpha1
kind: API
metadata: {name: outer, namespace: default}
spec:
  owner: {projectName: default, componentName: outer}
  type: REST
  target: {url: "https://api.partner.example/v2"}
  rest: {backend: {port: 443}, exposeLevels: [Public, Organization]}
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_protocol_and_every_kind_of_api_becomes_ready() -> anyhow::Result<()> {
    let platform = Platform::start().await?;
    let control = &platform.control;
    for (name, kind) in [("many", "Service"), ("inner", "API"), ("outer", "API")] {
        control.apply_yaml(&component(name, kind)).await?;
    }
    control.apply_yaml(EVERY_PROTOCOL).await?;
    for component in ["many", "inner", "outer"] {
        control.wait_ready("Component", "default", component).await?;
    }
    let namespace = cell("development");
    for (kind, expected) in [
        ("HTTPRoute", 5),
        ("GRPCRoute", 1),
        ("TLSRoute", 1),
        ("TCPRoute", 1),
        ("UDPRoute", 1),
        ("Backend", 1),
        ("Deployment.apps", 1),
    ] {
        let found = platform.local.list(kind, &namespace).await?;
        assert_eq!(found.len(), expected, "{kind}");
    }
    let route = platform.local.list("TCPRoute", &namespace).await?.remove(0);
    let parent = &route.data["status"]["parents"][0];
    assert_eq!(parent["parentRef"]["sectionName"], "tcp");
    assert_eq!(parent["conditions"][0]["status"], "True", "{parent}");

    for component in ["outer", "inner", "many"] {
        control.delete("Component", "default", component).await?;
        let release = format!("{component}-development");
        control.wait_gone("Release", "default", &release).await?;
    }
    for kind in ["HTTPRoute", "TCPRoute", "Backend", "CiliumNetworkPolicy"] {
        let left = platform.local.list(kind, &namespace).await?;
        assert!(left.is_empty(), "{kind} {left:?}");
    }
    platform.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_without_its_secret_is_named_and_heals_when_it_comes() -> anyhow::Result<()> {
    let platform = Platform::start().await?;
    let control = &platform.control;
    let guarded = r#"
apiVersion: openchoreo.dev/v1alpha1
kind: APIClass
metadata: {name: keys, namespace: default}
spec: {restPolicy: {public: {authentication: {type: apikey, apikey: {header: X-Key, secretRef: partner-keys}}}}}
---
apiVersion: openchoreo.dev/v1alpha1
kind: API
metadata: {name: door, namespace: default}
spec:
  owner: {projectName: default, componentName: door}
  type: REST
  className: keys
  target: {url: "https://api.partner.example"}
  rest: {backend: {port: 443}, exposeLevels: [Public]}
"#;
    control.apply_yaml(&component("door", "API")).await?;
    control.apply_yaml(guarded).await?;
    let namespace = cell("development");
    control
        .wait_unready("APIBinding", "default", "door-development", "Secret")
        .await?;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "partner-keys", "namespace": namespace},
        "stringData": {"partner": "k"},
    });
    platform.local.apply(secret).await?;
    control.wait_ready("Component", "default", "door").await?;
    platform.stop().await;
    Ok(())
}
