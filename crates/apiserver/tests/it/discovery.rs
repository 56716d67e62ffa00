//! What clients read first.

use crate::support::{CRDS, TestServer, widgets};

#[tokio::test]
async fn legacy_documents() {
    let server = TestServer::start();
    assert_eq!(server.get("/api").await.expect(200)["versions"][0], "v1");
    let groups = server.get("/apis").await.expect(200);
    assert_eq!(groups["groups"][0]["name"], "apps");
    let apps = server.get("/apis/apps/v1").await.expect(200);
    let names: Vec<&str> = apps["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["name"].as_str().unwrap())
        .collect();
    assert!(
        names.contains(&"deployments") && names.contains(&"deployments/scale"),
        "{names:?}"
    );
    assert_eq!(
        server.get("/apis/apps").await.expect(200)["preferredVersion"]["version"],
        "v1"
    );
    assert_eq!(server.get("/apis/nope").await.status, 404);
    assert_eq!(server.get("/version").await.expect(200)["major"], "1");
}

#[tokio::test]
async fn the_aggregated_document_follows_definitions() {
    let server = TestServer::start();
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    let first = server.request("GET", "/apis", &[("accept", accept)], "").await;
    assert!(first.header("content-type").contains("v=v2"));
    let etag = first.header("etag").to_owned();
    assert_eq!(
        server
            .request(
                "GET",
                "/apis",
                &[("accept", accept), ("if-none-match", &etag)],
                ""
            )
            .await
            .status,
        304
    );
    server.post(CRDS, widgets()).await.expect(201);
    let second = server
        .request(
            "GET",
            "/apis",
            &[("accept", accept), ("if-none-match", &etag)],
            "",
        )
        .await;
    let document = second.expect(200);
    let last = document["items"].as_array().unwrap().last().unwrap();
    assert_eq!(last["metadata"]["name"], "example.dev");
    assert_eq!(
        last["versions"][0]["resources"][0]["responseKind"]["kind"],
        "Widget"
    );
}

#[tokio::test]
async fn health_is_told_per_check() {
    let server = TestServer::start();
    assert_eq!(server.get("/healthz").await.text, "ok");
    let verbose = server.get("/readyz?verbose").await.text;
    assert!(
        verbose.contains("[+]ping ok") && verbose.ends_with("readyz check passed\n"),
        "{verbose}"
    );
    assert_eq!(server.get("/livez/ping").await.text, "ok");
    assert_eq!(server.get("/livez/nope").await.status, 404);
}
