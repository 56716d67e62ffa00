//! What objects are told about themselves.

use choreo_gateway::Direct;
use serde_json::{Value, json};
use std::sync::Arc;

use crate::support::{
    BACKEND, Cluster, GATEWAY, GRANT, HTTP_ROUTE, SECURITY, Server, TCP_ROUTE, backend_ref, condition,
};

fn reason(route: &Value, kind: &str) -> String {
    let conditions = route["status"]["parents"][0]["conditions"].as_array().unwrap();
    let found = conditions
        .iter()
        .find(|condition| condition["type"] == kind)
        .unwrap();
    format!(
        "{} {}",
        found["status"].as_str().unwrap(),
        found["reason"].as_str().unwrap()
    )
}

#[tokio::test]
async fn routes_are_accepted_by_gateways_that_are_there() {
    let cluster = Cluster::bare(Arc::new(Direct)).await;
    // Everything comes in the wrong order.
    cluster.create(SECURITY, "web", json!({"targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "web"}], "authorization": {}})).await;
    cluster
        .create(
            HTTP_ROUTE,
            "web",
            json!({"parentRefs": [{"name": "public"}], "rules": [{"backendRefs": [backend_ref("web")]}]}),
        )
        .await;
    cluster.gateway().await;
    let gateway = cluster
        .until(GATEWAY, "public", |gateway| {
            gateway["status"]["listeners"][0]["attachedRoutes"] == 1
        })
        .await;
    assert_eq!(
        gateway["status"]["addresses"],
        json!([{"type": "IPAddress", "value": "127.0.0.1"}])
    );
    let programmed = gateway["status"]["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .find(|c| c["type"] == "Programmed")
        .unwrap();
    assert_eq!(
        (&programmed["status"], &programmed["message"]),
        (&json!("True"), &json!("all listeners are served"))
    );
    let route = cluster
        .until(HTTP_ROUTE, "web", |route| {
            condition(route, "parents", "Accepted").is_some()
        })
        .await;
    assert_eq!(reason(&route, "Accepted"), "True Accepted");
    assert_eq!(reason(&route, "ResolvedRefs"), "False BackendNotFound");
    cluster
        .until(SECURITY, "web", |policy| {
            condition(policy, "ancestors", "Accepted") == Some("True".into())
        })
        .await;
    cluster.service("web", &[]).await;
    cluster
        .until(HTTP_ROUTE, "web", |route| {
            condition(route, "parents", "ResolvedRefs") == Some("True".into())
        })
        .await;
    cluster.delete(GATEWAY, "public").await;
    cluster
        .until(HTTP_ROUTE, "web", |route| route["status"]["parents"] == json!([]))
        .await;
}

#[tokio::test]
async fn what_cannot_be_attached_says_why() {
    let cluster = Cluster::start().await;
    let route = |parent: Value, hosts: Value| json!({"parentRefs": [parent], "hostnames": hosts, "rules": [{"backendRefs": [backend_ref("web")]}]});
    for (name, spec, expected) in [
        (
            "section",
            route(
                json!({"name": "public", "sectionName": "none"}),
                json!(["a.localhost"]),
            ),
            "False NoMatchingParent",
        ),
        (
            "protocol",
            route(
                json!({"name": "public", "sectionName": "tcp"}),
                json!(["a.localhost"]),
            ),
            "False NotAllowedByListeners",
        ),
        (
            "host",
            route(json!({"name": "public"}), json!(["a.example.com"])),
            "False NoMatchingListenerHostname",
        ),
        (
            "wrong",
            route(json!({"name": "public"}), json!(["*.*.localhost"])),
            "False UnsupportedValue",
        ),
    ] {
        cluster.create(HTTP_ROUTE, name, spec).await;
        let route = cluster
            .until(HTTP_ROUTE, name, |route| {
                condition(route, "parents", "Accepted").is_some()
            })
            .await;
        assert_eq!(reason(&route, "Accepted"), expected, "{name}");
    }
    // Listeners take routes of their own namespace unless they say otherwise.
    cluster
        .object(
            "v1/Namespace/namespaces",
            "",
            json!({"metadata": {"name": "elsewhere"}}),
        )
        .await;
    let spec = route(
        json!({"name": "public", "namespace": "default"}),
        json!(["b.localhost"]),
    );
    cluster
        .object(
            HTTP_ROUTE,
            "elsewhere",
            json!({"metadata": {"name": "far"}, "spec": spec}),
        )
        .await;
    let api = cluster.api_in(HTTP_ROUTE, "elsewhere");
    let asking = async {
        loop {
            let route = serde_json::to_value(api.get("far").await.unwrap()).unwrap();
            if condition(&route, "parents", "Accepted").is_some() {
                return route;
            }
        }
    };
    let route = tokio::time::timeout(std::time::Duration::from_secs(30), asking)
        .await
        .unwrap();
    assert_eq!(reason(&route, "Accepted"), "False NotAllowedByListeners");
}

#[tokio::test]
async fn unsupported_fields_close_the_route_and_are_named() {
    let cluster = Cluster::start().await;
    let server = Server::echo("web").await;
    cluster.service("web", &[&server]).await;
    cluster
        .create(
            HTTP_ROUTE,
            "web",
            json!({"parentRefs": [{"name": "public"}], "hostnames": ["web.localhost"],
            "rules": [{"backendRefs": [backend_ref("web")], "timeouts": {"idle": "1s"}}]}),
        )
        .await;
    let route = cluster
        .until(HTTP_ROUTE, "web", |route| {
            condition(route, "parents", "Accepted") == Some("False".into())
        })
        .await;
    let message = route["status"]["parents"][0]["conditions"][0]["message"]
        .as_str()
        .unwrap();
    assert!(
        message.starts_with("spec.rules[0].timeouts") && message.contains("`idle`"),
        "{message}"
    );
    assert_eq!(cluster.get("web", "/").await.status, 500);
}

#[tokio::test]
async fn references_to_other_namespaces_need_a_grant() {
    let cluster = Cluster::start().await;
    cluster
        .object(
            "v1/Namespace/namespaces",
            "",
            json!({"metadata": {"name": "data"}}),
        )
        .await;
    cluster
        .object(
            "v1/Service/services",
            "data",
            json!({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}),
        )
        .await;
    let reference = json!({"name": "web", "namespace": "data", "port": 80});
    cluster.create(HTTP_ROUTE, "web", json!({"parentRefs": [{"name": "public"}], "hostnames": ["web.localhost"], "rules": [{"backendRefs": [reference]}]})).await;
    let resolved = |status: &'static str| {
        move |route: &Value| condition(route, "parents", "ResolvedRefs") == Some(status.to_owned())
    };
    let route = cluster.until(HTTP_ROUTE, "web", resolved("False")).await;
    assert_eq!(reason(&route, "ResolvedRefs"), "False RefNotPermitted");
    assert_eq!(cluster.get("web", "/").await.status, 500);
    let grant = json!({"metadata": {"name": "let"}, "spec": {"from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "default"}], "to": [{"group": "", "kind": "Service"}]}});
    cluster.object(GRANT, "data", grant).await;
    cluster.until(HTTP_ROUTE, "web", resolved("True")).await;
    assert_eq!(cluster.get("web", "/").await.status, 503);
    cluster
        .api_in(GRANT, "data")
        .delete("let", &Default::default())
        .await
        .unwrap();
    cluster.until(HTTP_ROUTE, "web", resolved("False")).await;
}

#[tokio::test]
async fn a_raw_listener_takes_one_route() {
    let cluster = Cluster::start().await;
    let route = || json!({"parentRefs": [{"name": "public", "sectionName": "tcp"}], "rules": [{"backendRefs": [{"name": "db", "port": 5432}]}]});
    cluster.create(TCP_ROUTE, "a", route()).await;
    cluster.accepted(TCP_ROUTE, "a").await;
    cluster.create(TCP_ROUTE, "b", route()).await;
    let refused = |route: &Value| condition(route, "parents", "Accepted") == Some("False".into());
    let second = cluster.until(TCP_ROUTE, "b", refused).await;
    let message = second["status"]["parents"][0]["conditions"][0]["message"]
        .as_str()
        .unwrap();
    assert!(
        message.contains("default/a has the listener already"),
        "{message}"
    );
    // When the first goes, the next has it.
    cluster.delete(TCP_ROUTE, "a").await;
    cluster.accepted(TCP_ROUTE, "b").await;
}

#[tokio::test]
async fn listeners_that_want_the_same_are_told_apart() {
    let cluster = Cluster::start().await;
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let taken_port = taken.local_addr().unwrap().port();
    let listener = |name: &str, port: u16, protocol: &str, host: &str| json!({"name": name, "port": port, "protocol": protocol, "hostname": host});
    cluster
        .create(
            GATEWAY,
            "second",
            json!({"gatewayClassName": "local", "listeners": [
                listener("same", cluster.ports.http, "HTTP", "*.localhost"),
                listener("other", cluster.ports.http, "HTTP", "*.internal"),
                listener("raw", cluster.ports.http, "TCP", ""),
                listener("odd", 1, "SCTP", "*.localhost"),
                listener("taken", taken_port, "HTTP", "*.localhost"),
            ]}),
        )
        .await;
    let gateway = cluster
        .until(GATEWAY, "second", |gateway| {
            gateway["status"]["listeners"]
                .as_array()
                .is_some_and(|l| l.len() == 5)
        })
        .await;
    let found: Vec<(String, String)> = gateway["status"]["listeners"]
        .as_array()
        .unwrap()
        .iter()
        .map(|listener| {
            let accepted = listener["conditions"]
                .as_array()
                .unwrap()
                .iter()
                .find(|c| c["type"] == "Accepted")
                .unwrap();
            (
                listener["name"].as_str().unwrap().to_owned(),
                accepted["reason"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    let expected = [
        ("same", "HostnameConflict"),
        ("other", "Accepted"),
        ("raw", "ProtocolConflict"),
        ("odd", "UnsupportedProtocol"),
        ("taken", "PortUnavailable"),
    ];
    assert_eq!(
        found,
        expected.map(|(name, reason)| (name.to_owned(), reason.to_owned()))
    );
}

#[tokio::test]
async fn servers_outside_are_checked_as_they_are_written() {
    let cluster = Cluster::start().await;
    cluster.create(BACKEND, "good", json!({"endpoints": [{"fqdn": {"hostname": "api.partner.example", "port": 443}}], "tls": {"wellKnownCACertificates": "System", "sni": "api.partner.example"}})).await;
    cluster
        .create(
            BACKEND,
            "bad",
            json!({"endpoints": [{"unix": {"path": "/run/x"}}]}),
        )
        .await;
    let accepted = |backend: &Value| {
        backend["status"]["conditions"][0]["status"]
            .as_str()
            .map(str::to_owned)
    };
    cluster
        .until(BACKEND, "good", |backend| {
            accepted(backend) == Some("True".into())
        })
        .await;
    let bad = cluster
        .until(BACKEND, "bad", |backend| {
            accepted(backend) == Some("False".into())
        })
        .await;
    let message = bad["status"]["conditions"][0]["message"].as_str().unwrap();
    assert!(
        message.contains("spec.endpoints[0]") && message.contains("unix"),
        "{message}"
    );
}

#[tokio::test]
async fn other_controllers_keep_their_entries() {
    let cluster = Cluster::start().await;
    cluster
        .create(
            HTTP_ROUTE,
            "web",
            json!({"parentRefs": [{"name": "public"}], "hostnames": ["web.localhost"], "rules": []}),
        )
        .await;
    let route = cluster
        .until(HTTP_ROUTE, "web", |route| {
            condition(route, "parents", "Accepted").is_some()
        })
        .await;
    let mut entries = route["status"]["parents"].as_array().unwrap().clone();
    let other = json!({"parentRef": {"name": "x"}, "controllerName": "example.com/other", "conditions": []});
    entries.insert(0, other.clone());
    // The other one makes a mistake, and takes ours for false.
    entries[1]["conditions"] = json!([]);
    let patch = kube::api::Patch::Merge(json!({"status": {"parents": entries}}));
    cluster
        .api(HTTP_ROUTE)
        .patch_status("web", &Default::default(), &patch)
        .await
        .unwrap();
    let route = cluster
        .until(HTTP_ROUTE, "web", |route| {
            route["status"]["parents"][1]["conditions"][0]["type"] == "Accepted"
        })
        .await;
    assert_eq!(route["status"]["parents"][0], other);
}
