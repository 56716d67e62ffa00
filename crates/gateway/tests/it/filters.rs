//! Filters of HTTPRoutes.

use bytes::Bytes;
use http::{Request, StatusCode};
use serde_json::json;

use crate::support::{BACKEND, Cluster, FILTER, Server, backend_ref};

#[tokio::test]
async fn headers_of_requests_and_answers_are_changed() {
    let cluster = Cluster::start().await;
    let server = Server::echo("web").await;
    cluster.service("web", &[&server]).await;
    cluster
        .route("web", json!([{"backendRefs": [backend_ref("web")], "filters": [
            {"type": "RequestHeaderModifier", "requestHeaderModifier": {
                "set": [{"name": "X-Tenant", "value": "shop"}], "add": [{"name": "X-Via", "value": "choreo"}], "remove": ["X-Debug"]}},
            {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"add": [{"name": "X-Served-By", "value": "choreo"}], "remove": ["Server"]}},
        ]}]))
        .await;
    let request = Request::get("/")
        .header("x-tenant", "evil")
        .header("x-via", "client")
        .header("x-debug", "1");
    let reply = cluster.send("web", request).await;
    let seen = &reply.seen()["headers"];
    assert_eq!(seen["x-tenant"], "shop");
    assert_eq!(seen["x-via"], "client|choreo");
    assert_eq!(seen.get("x-debug"), None);
    assert_eq!(reply.headers["x-served-by"], "choreo");
    assert!(!reply.headers.contains_key("server"));
}

#[tokio::test]
async fn backends_see_where_requests_come_from() {
    let cluster = Cluster::start().await;
    let server = Server::echo("web").await;
    cluster.service("web", &[&server]).await;
    cluster
        .route("web", json!([{"backendRefs": [backend_ref("web")]}]))
        .await;
    let request = Request::get("/a?b=c")
        .header("x-forwarded-for", "203.0.113.9")
        .header("x-request-id", "mine")
        .header("connection", "x-hop")
        .header("x-hop", "1");
    let seen = cluster.send("web", request).await.seen();
    assert_eq!(seen["headers"]["x-forwarded-for"], "203.0.113.9, 127.0.0.1");
    assert_eq!(seen["headers"]["x-forwarded-proto"], "http");
    assert_eq!(seen["headers"]["host"], "web.localhost");
    assert_ne!(seen["headers"]["x-request-id"], "mine");
    assert_eq!(seen["headers"].get("x-hop"), None);
    assert_eq!(seen["path"], "/a?b=c");
}

#[tokio::test]
async fn hosts_and_paths_are_rewritten() {
    let cluster = Cluster::start().await;
    let server = Server::echo("web").await;
    cluster.service("web", &[&server]).await;
    let rule = |prefix: &str, rewrite: serde_json::Value| {
        json!({"matches": [{"path": {"type": "PathPrefix", "value": prefix}}], "backendRefs": [backend_ref("web")],
               "filters": [{"type": "URLRewrite", "urlRewrite": rewrite}]})
    };
    cluster
        .route("web", json!([
            rule("/default/app", json!({"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/v2"}})),
            rule("/root", json!({"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}})),
            rule("/full", json!({"path": {"type": "ReplaceFullPath", "replaceFullPath": "/only"}, "hostname": "inside.example"})),
        ]))
        .await;
    for (path, expected) in [
        ("/default/app/orders?x=1", "/v2/orders?x=1"),
        ("/default/app", "/v2"),
        ("/root", "/"),
        ("/root/a", "/a"),
        ("/full/whatever?x=1", "/only?x=1"),
    ] {
        assert_eq!(cluster.get("web", path).await.seen()["path"], expected, "{path}");
    }
    let seen = cluster.get("web", "/full").await.seen();
    assert_eq!(seen["headers"]["host"], "inside.example");
    assert_eq!(seen["headers"]["x-forwarded-host"], "web.localhost");
}

#[tokio::test]
async fn redirects_need_no_backend() {
    let cluster = Cluster::start().await;
    cluster
        .route("web", json!([{"filters": [{"type": "RequestRedirect", "requestRedirect": {"scheme": "https", "port": 9443, "statusCode": 301}}]}]))
        .await;
    let reply = cluster.get("web", "/a?b=c").await;
    assert_eq!(reply.status, StatusCode::MOVED_PERMANENTLY);
    assert_eq!(reply.headers["location"], "https://web.localhost:9443/a?b=c");
}

#[tokio::test]
async fn mirrors_get_the_same_and_nobody_hears_their_answer() {
    let cluster = Cluster::start().await;
    let main = Server::echo("main").await;
    let (sender, mut copies) = tokio::sync::mpsc::unbounded_channel();
    let shadow = Server::http(move |request| {
        let sender = sender.clone();
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            let body = http_body_util::BodyExt::collect(request.into_body())
                .await
                .unwrap()
                .to_bytes();
            sender.send((path, body)).unwrap();
            http::Response::builder()
                .status(500)
                .body(crate::support::text("no"))
                .unwrap()
        })
    })
    .await;
    cluster.service("main", &[&main]).await;
    cluster.service("shadow", &[&shadow]).await;
    cluster
        .route("web", json!([{"backendRefs": [backend_ref("main")], "filters": [{"type": "RequestMirror", "requestMirror": {"backendRef": backend_ref("shadow")}}]}]))
        .await;
    let reply = cluster
        .send_body("web", Request::post("/x"), Bytes::from_static(b"payload"))
        .await;
    assert_eq!(
        (reply.status, reply.seen()["body"].as_str()),
        (StatusCode::OK, Some("payload"))
    );
    let copied = tokio::time::timeout(std::time::Duration::from_secs(10), copies.recv())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(copied, ("/x".to_owned(), Bytes::from_static(b"payload")));
}

#[tokio::test]
async fn filters_of_envoy_gateway_answer_and_rewrite() {
    let cluster = Cluster::start().await;
    let server = Server::echo("web").await;
    cluster.service("web", &[&server]).await;
    cluster.create(FILTER, "closed", json!({"directResponse": {"statusCode": 503, "contentType": "text/html", "body": {"type": "Inline", "inline": "<p>soon"}}})).await;
    cluster
        .create(FILTER, "swap", json!({"urlRewrite": {"path": {"type": "ReplaceRegexMatch", "replaceRegexMatch": {"pattern": "^/([^/]+)/([^/]+)", "substitution": "/\\2/\\1"}}}}))
        .await;
    let extension = |name: &str| json!([{"type": "ExtensionRef", "extensionRef": {"group": "gateway.envoyproxy.io", "kind": "HTTPRouteFilter", "name": name}}]);
    cluster
        .route("web", json!([
            {"matches": [{"path": {"type": "PathPrefix", "value": "/closed"}}], "filters": extension("closed")},
            {"matches": [{"path": {"type": "PathPrefix", "value": "/missing"}}], "filters": extension("missing"), "backendRefs": [backend_ref("web")]},
            {"filters": extension("swap"), "backendRefs": [backend_ref("web")]},
        ]))
        .await;
    let reply = cluster.get("web", "/closed").await;
    assert_eq!(
        (reply.status, reply.body.as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, "<p>soon")
    );
    assert_eq!(reply.headers["content-type"], "text/html");
    assert_eq!(cluster.get("web", "/a/b/c").await.seen()["path"], "/b/a/c");
    assert_eq!(
        cluster.get("web", "/missing").await.status,
        StatusCode::INTERNAL_SERVER_ERROR
    );
}

#[tokio::test]
async fn a_server_outside_is_asked_for_by_its_own_name() {
    let cluster = Cluster::start().await;
    let server = Server::echo("outside").await;
    cluster
        .create(
            BACKEND,
            "partner",
            json!({"endpoints": [{"fqdn": {"hostname": "localhost", "port": server.address.port()}}]}),
        )
        .await;
    cluster
        .route(
            "web",
            json!([{"backendRefs": [{"group": "gateway.envoyproxy.io", "kind": "Backend", "name": "partner"}],
            "filters": [{"type": "URLRewrite", "urlRewrite": {"hostname": "api.partner.example"}}]}]),
        )
        .await;
    assert_eq!(
        cluster.get("web", "/").await.seen()["headers"]["host"],
        "api.partner.example"
    );
}

#[tokio::test]
async fn paths_have_one_form_before_anything_is_decided() {
    let cluster = Cluster::start().await;
    let server = Server::echo("web").await;
    cluster.service("web", &[&server]).await;
    cluster
        .route("web", json!([{"backendRefs": [backend_ref("web")]}]))
        .await;
    assert_eq!(
        cluster.get("web", "/a/../b//c/%7euser?x=/../y").await.seen()["path"],
        "/b/c/~user?x=/../y"
    );
    let reply = cluster.get("web", "/a%2fb?q=1").await;
    assert_eq!(reply.status, StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(reply.headers["location"], "/a/b?q=1");
}
