//! Kubernetes' protobuf over HTTP. What the bytes are is tested where they are made; here, that clients which speak it are
//! served: what was read can be written back and means the same.

use serde_json::json;

use crate::support::{
    Answer, CONFIG_MAPS, CRDS, DEPLOYMENTS, TestServer, WIDGETS, config_map, deployment, widget, widgets,
};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

impl TestServer {
    async fn protobuf(&self, path: &str) -> Answer {
        let answer = self.request("GET", path, &[("accept", PROTOBUF)], "").await;
        assert_eq!(answer.header("content-type"), PROTOBUF, "{}", answer.text);
        assert!(answer.bytes.starts_with(b"k8s\0"));
        answer
    }
}

#[tokio::test]
async fn what_was_read_is_written_back_without_a_change() {
    let server = TestServer::start();
    server
        .post(CONFIG_MAPS, config_map("cm", json!({"a": "b", "empty": ""})))
        .await
        .expect(201);
    server.post(DEPLOYMENTS, deployment("web")).await.expect(201);
    server.post(CRDS, widgets()).await.expect(201);
    for path in [
        format!("{CONFIG_MAPS}/cm"),
        format!("{DEPLOYMENTS}/web"),
        "/api/v1/namespaces/default".to_owned(),
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/admin".to_owned(),
    ] {
        let before = server.get(&path).await.expect(200);
        let read = server.protobuf(&path).await;
        let headers = [("content-type", PROTOBUF)];
        let after = server
            .request("PUT", &path, &headers, read.bytes)
            .await
            .expect(200);
        assert_eq!(after, before, "{path}");
    }
}

/// Fields with text or messages at the top of a message, by number; numbers are passed over.
fn fields(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut found = Vec::new();
    while let [tag, rest @ ..] = bytes {
        let (mut length, mut shift, mut rest) = (0usize, 0, rest);
        while let [byte, more @ ..] = rest {
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            rest = more;
            if byte & 0x80 == 0 {
                break;
            }
        }
        bytes = rest;
        if tag & 7 == 2 {
            let (field, rest) = rest.split_at(length);
            found.push((tag >> 3, field.to_vec()));
            bytes = rest;
        }
    }
    found
}

/// What an envelope says of itself, and the object's bytes.
fn open(document: &[u8]) -> (String, String, Vec<u8>) {
    let envelope = fields(document.strip_prefix(b"k8s\0").unwrap());
    let kind: Vec<String> = fields(&envelope[0].1)
        .into_iter()
        .map(|(_, text)| String::from_utf8(text).unwrap())
        .collect();
    (kind[0].clone(), kind[1].clone(), envelope[1].1.clone())
}

/// The name in an object's metadata, both of which are the first fields of theirs.
fn name(object: &[u8]) -> String {
    let metadata = &fields(object)[0].1;
    String::from_utf8(fields(metadata)[0].1.clone()).unwrap()
}

#[tokio::test]
async fn lists_carry_their_objects() {
    let server = TestServer::start();
    for name in ["a", "b"] {
        server
            .post(CONFIG_MAPS, config_map(name, json!({"k": "x".repeat(300)})))
            .await
            .expect(201);
    }
    let (version, kind, list) = open(&server.protobuf(CONFIG_MAPS).await.bytes);
    assert_eq!((version.as_str(), kind.as_str()), ("v1", "ConfigMapList"));
    let names: Vec<String> = fields(&list)
        .iter()
        .filter(|(number, _)| *number == 2)
        .map(|(_, item)| name(item))
        .collect();
    assert_eq!(names, ["a", "b"]);
    let page = server.protobuf(&format!("{CONFIG_MAPS}?limit=1")).await;
    let (.., list) = open(&page.bytes);
    assert_eq!(fields(&list).iter().filter(|(number, _)| *number == 2).count(), 1);
}

/// A list is what its objects are, whichever parts of it were sent before and whatever has changed since.
#[tokio::test]
async fn lists_are_as_their_objects_are_after_every_change() {
    let server = TestServer::start();
    let make = async |name: &str, value: &str| {
        let object = config_map(name, json!({"k": value}));
        server.post(CONFIG_MAPS, object).await.expect(201);
    };
    for nth in 0..400 {
        make(&format!("c-{nth:03}"), "first").await;
    }
    let check = async |path: &str, count: usize| {
        let (.., list) = open(&server.protobuf(path).await.bytes);
        let items: Vec<Vec<u8>> = fields(&list)
            .into_iter()
            .filter(|(number, _)| *number == 2)
            .map(|(_, item)| item)
            .collect();
        assert_eq!(items.len(), count, "{path}");
        for item in items {
            let name = name(&item);
            let (.., object) = open(&server.protobuf(&format!("{CONFIG_MAPS}/{name}")).await.bytes);
            assert!(item == object, "{name} in {path}");
        }
    };
    check(CONFIG_MAPS, 400).await;
    check(CONFIG_MAPS, 400).await;
    let changed = config_map("c-100", json!({"k": "second"}));
    server
        .request(
            "PUT",
            &format!("{CONFIG_MAPS}/c-100"),
            &[("content-type", "application/json")],
            changed.to_string(),
        )
        .await
        .expect(200);
    check(CONFIG_MAPS, 400).await;
    server
        .request("DELETE", &format!("{CONFIG_MAPS}/c-200"), &[], "")
        .await
        .expect(200);
    make("c-0505", "between").await;
    make("a", "before all").await;
    check(CONFIG_MAPS, 401).await;
    check(
        &format!("{CONFIG_MAPS}?fieldSelector=metadata.name!%3Dc-300"),
        400,
    )
    .await;
    check(&format!("{CONFIG_MAPS}?limit=150"), 150).await;
}

#[tokio::test]
async fn watches_send_frames_with_their_length() {
    let server = TestServer::start();
    for name in ["a", "b"] {
        server
            .post(CONFIG_MAPS, config_map(name, json!({})))
            .await
            .expect(201);
    }
    for (accept, kinds) in [
        (PROTOBUF.to_owned(), ["ConfigMap", "ConfigMap"]),
        (
            format!("{PROTOBUF};as=PartialObjectMetadata;g=meta.k8s.io;v=v1"),
            ["PartialObjectMetadata", "PartialObjectMetadata"],
        ),
    ] {
        let path = format!(
            "{CONFIG_MAPS}?watch=true&timeoutSeconds=1&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
        );
        let answer = server.request("GET", &path, &[("accept", &accept)], "").await;
        assert_eq!(answer.header("content-type"), format!("{PROTOBUF};stream=watch"));
        let mut rest = &answer.bytes[..];
        let mut seen = Vec::new();
        while let Some((length, more)) = rest.split_first_chunk::<4>() {
            let (frame, more) = more.split_at(u32::from_be_bytes(*length) as usize);
            rest = more;
            let frame = fields(frame);
            let kind = String::from_utf8(frame[0].1.clone()).unwrap();
            let (_, object, body) = open(&fields(&frame[1].1)[0].1);
            seen.push((
                kind.clone(),
                object,
                if kind == "ADDED" {
                    name(&body)
                } else {
                    String::new()
                },
            ));
        }
        let added = |kind: &str, name: &str| ("ADDED".to_owned(), kind.to_owned(), name.to_owned());
        assert_eq!(seen[..2], [added(kinds[0], "a"), added(kinds[1], "b")]);
        assert_eq!((seen[2].0.as_str(), seen[2].1.as_str()), ("BOOKMARK", kinds[0]));
    }
}

#[tokio::test]
async fn what_has_no_protobuf_form_is_406_or_the_next_form() {
    let server = TestServer::start();
    server.post(CRDS, widgets()).await.expect(201);
    server.post(WIDGETS, widget("w", 1)).await.expect(201);
    let path = format!("{WIDGETS}/w");
    let ask = async |accept: &str| server.request("GET", &path, &[("accept", accept)], "").await;

    let refused = ask(PROTOBUF).await;
    assert_eq!(
        (refused.status.as_u16(), refused.header("content-type")),
        (406, PROTOBUF)
    );
    assert_eq!(open(&refused.bytes).1, "Status");
    let other = ask(&format!("{PROTOBUF},application/json")).await;
    assert_eq!(other.expect(200)["kind"], "Widget");
    let metadata = ask(&format!("{PROTOBUF};as=PartialObjectMetadata;g=meta.k8s.io;v=v1")).await;
    let (version, kind, object) = open(&metadata.bytes);
    assert_eq!(
        (version.as_str(), kind.as_str()),
        ("meta.k8s.io/v1", "PartialObjectMetadata")
    );
    assert_eq!(name(&object), "w");
    let table = ask(&format!("{PROTOBUF};as=Table;g=meta.k8s.io;v=v1")).await;
    // What is made of an object does not concern an error.
    assert_eq!(
        (table.status.as_u16(), table.header("content-type")),
        (406, "application/json")
    );
    // The scale of a custom resource is of a built-in kind.
    let scale = server.protobuf(&format!("{path}/scale")).await;
    assert_eq!(open(&scale.bytes).1, "Scale");

    let gone = server.protobuf(&format!("{CONFIG_MAPS}/none")).await;
    assert_eq!(gone.status, 404);
    assert_eq!(open(&gone.bytes).1, "Status");
}

#[tokio::test]
async fn discovery_comes_as_protobuf_too() {
    let server = TestServer::start();
    for (path, kind) in [
        ("/api", "APIVersions"),
        ("/apis", "APIGroupList"),
        ("/apis/apps/v1", "APIResourceList"),
    ] {
        assert_eq!(open(&server.protobuf(path).await.bytes).1, kind);
    }
    let accept = format!("{PROTOBUF};g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
    let aggregated = server.request("GET", "/apis", &[("accept", &accept)], "").await;
    assert_eq!(aggregated.header("content-type"), accept);
    let (version, kind, _) = open(&aggregated.bytes);
    assert_eq!(
        (version.as_str(), kind.as_str()),
        ("apidiscovery.k8s.io/v2", "APIGroupDiscoveryList")
    );
}
