//! What must hold for any input from outside. Each function takes arbitrary bytes, tries them, and panics if something does not
//! hold.
//!
//! They are called from two sides: by the targets in `fuzz/` with whatever libFuzzer comes up with, and by the tests below,
//! which make up inputs on a stable toolchain with every run of the tests.

use std::sync::OnceLock;

use axum::body::Body;
use choreo_apimachinery::registry::Registry;
use choreo_store::Store;
use http::{HeaderValue, Method, Request};

use crate::dispatch;
use crate::negotiate::{Codec, protobuf};
use crate::request::{ListOptions, Query, RequestInfo};
use crate::user::UserInfo;
use crate::verbs::Filter;
use crate::{ApiServer, Options};

/// Documents in all encodings. What reads as protobuf can be written, and reads the same then.
pub fn documents(data: &[u8]) {
    for codec in [Codec::Json, Codec::Yaml] {
        let plain = codec.decode(data);
        if let Ok((noted, _)) = codec.decode_noting(data) {
            assert_eq!(Ok(noted), plain, "noting repeated keys changes nothing");
        }
    }
    let Ok(object) = protobuf::decode(data) else {
        return;
    };
    // JSON within protobuf may put anything anywhere.
    if let Ok(written) = protobuf::encode(&object)
        && let Ok(read) = protobuf::decode(&written)
    {
        let again = protobuf::encode(&read).ok();
        assert_eq!(again, Some(written), "what was read is written the same");
    }
}

/// Frames of SPDY, as clients of `pods/exec` send them. What is read is written and reads the same.
pub fn frames(data: &[u8]) {
    crate::pods::spdy::fuzz(data);
}

/// The parameters of a list or watch.
pub fn queries(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    let query = Query::parse(query);
    let _ = RequestInfo::parse(&Method::GET, path, &query);
    let registry = Registry::builtin();
    if let (Ok(options), Some(pods)) = (
        ListOptions::parse(&query, true),
        registry.lookup("", "v1", "pods"),
    ) {
        let _ = Filter::parse(pods, &options.label_selector, &options.field_selector);
    }
}

/// A whole request to a server that has a few objects: `METHOD path`, content type, `Accept` and body, one line each. No request
/// makes it panic.
pub fn requests(data: &[u8]) {
    let mut lines = data.splitn(4, |byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let (first, kind, accept, body) = (line(), line(), line(), line());
    let Some((method, path)) = std::str::from_utf8(first).ok().and_then(|l| l.split_once(' ')) else {
        return;
    };
    // A watch would wait; deleting what the server itself is made of proves nothing.
    if path.contains("watch") {
        return;
    }
    let (Ok(method), Ok(kind), Ok(accept)) = (
        method.parse::<Method>(),
        HeaderValue::from_bytes(kind),
        HeaderValue::from_bytes(accept),
    ) else {
        return;
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", kind)
        .header("accept", accept)
        .extension(UserInfo::admin());
    let Ok(request) = request.body(Body::from(body.to_vec())) else {
        return;
    };
    let (runtime, server) = server();
    let panicked = runtime.block_on(async {
        let (response, panicked) = dispatch::answer(server.clone(), None, request, None).await;
        // What is made while it is sent is tried as well.
        let _ = axum::body::to_bytes(response.into_body(), usize::MAX).await;
        panicked
    });
    assert!(!panicked, "the log says what");
}

fn server() -> &'static (tokio::runtime::Runtime, ApiServer) {
    static SERVER: OnceLock<(tokio::runtime::Runtime, ApiServer)> = OnceLock::new();
    SERVER.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let options = Options {
            clusters: vec!["control".into()],
            ..Options::default()
        };
        match (runtime, ApiServer::new(Store::in_memory(), options)) {
            (Ok(runtime), Ok(server)) => (runtime, server),
            // There is nothing to try without one.
            _ => std::process::abort(),
        }
    })
}

#[cfg(test)]
#[path = "../../../fuzz/near_seeds.rs"]
mod near_seeds;

#[cfg(test)]
mod tests {
    use super::near_seeds::near_the_seeds;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn valid() -> Vec<Value> {
        vec![
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "labels": {"x": "y"}}, "data": {"k": "v"}}),
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "finalizers": ["a/b"]},
                "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": {
                    "metadata": {"labels": {"a": "b"}},
                    "spec": {"containers": [{"name": "m", "image": "i", "ports": [{"containerPort": 80}], "resources": {"limits": {"cpu": "1"}},
                        "livenessProbe": {"httpGet": {"port": "http"}}}]},
                }},
            }),
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": [{"port": 80, "targetPort": "x"}]}}),
            json!({
                "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "things.example.dev"},
                "spec": {"group": "example.dev", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"}, "versions": [{
                    "name": "v1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "properties": {
                        "size": {"type": "integer", "default": 1}}, "x-kubernetes-validations": [{"rule": "self.size > 0"}]}}}},
                }]},
            }),
            json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}, "deleteOptions": {"gracePeriodSeconds": 0}}),
            json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web"}, "spec": {"replicas": 2}}),
            json!([{"op": "add", "path": "/metadata/labels/z", "value": "y"}]),
        ]
    }

    /// Odd values that are put where others were.
    fn odd() -> impl Strategy<Value = Value> {
        prop_oneof![
            prop::sample::select(vec!["", "0", "-1", "a/b", "{{", "1e400", "2026-01-01T00:00:00Z"])
                .prop_map(Value::from),
            Just(Value::from("x".repeat(300))),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            Just(json!(null)),
            Just(json!({})),
            Just(json!([])),
            Just(json!([null])),
            Just(json!({"": {"": []}})),
        ]
    }

    /// Replaces what the `nth` place of a document has, counted in the order of its text.
    fn replace(value: &mut Value, nth: &mut usize, with: &Value) {
        if *nth == 0 {
            *value = with.clone();
        }
        *nth = nth.wrapping_sub(1);
        match value {
            Value::Object(map) => map.values_mut().for_each(|v| replace(v, nth, with)),
            Value::Array(items) => items.iter_mut().for_each(|v| replace(v, nth, with)),
            _ => {}
        }
    }

    fn document() -> impl Strategy<Value = Value> {
        (
            prop::sample::select(valid()),
            prop::collection::vec((0_usize..40, odd()), 0..3),
        )
            .prop_map(|(mut document, edits)| {
                for (mut nth, with) in edits {
                    replace(&mut document, &mut nth, &with);
                }
                document
            })
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let encoded = document()
            .prop_map(|d| super::protobuf::encode(&d).unwrap_or_else(|_| d.to_string().into_bytes()));
        let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
        (encoded, edits, any::<prop::sample::Index>(), any::<bool>()).prop_map(
            |(mut bytes, edits, cut, whole)| {
                for (at, with) in edits {
                    let at = at.index(bytes.len());
                    bytes[at] = with;
                }
                if !whole {
                    bytes.truncate(cut.index(bytes.len()));
                }
                bytes
            },
        )
    }

    fn path() -> impl Strategy<Value = String> {
        let collection = prop::sample::select(vec![
            "/api/v1/namespaces/default/configmaps",
            "/apis/apps/v1/namespaces/default/deployments",
            "/api/v1/namespaces/default/services",
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
            "/apis/example.dev/v1/namespaces/default/things",
            "/api/v1/pods",
            "/api/v1/namespaces",
            "/api",
            "/apis",
            "/openapi/v3",
            "/openapi/v2",
            "/clusters/control/api/v1/nodes",
            "/",
        ]);
        let name = prop::sample::select(vec![
            "",
            "/a",
            "/web",
            "/s",
            "/things.example.dev",
            "/web/scale",
            "/a/status",
            "/%00",
            "/..",
        ]);
        let query = prop::sample::select(vec![
            "",
            "?dryRun=All",
            "?fieldManager=m",
            "?fieldManager=m&force=true",
            "?limit=1",
            "?limit=-1&continue=e30",
            "?labelSelector=a%3Db",
            "?fieldSelector=metadata.name%3Da",
            "?fieldValidation=Strict",
            "?resourceVersion=1&resourceVersionMatch=Exact",
            "?resourceVersion=x",
            "?propagationPolicy=Foreground",
            "?gracePeriodSeconds=-5",
            "?pretty=true&includeObject=None",
        ]);
        (collection, name, query).prop_map(|(collection, name, query)| format!("{collection}{name}{query}"))
    }

    #[test]
    fn seeds() {
        near_the_seeds("documents", super::documents);
        near_the_seeds("frames", super::frames);
        near_the_seeds("queries", super::queries);
        near_the_seeds("requests", super::requests);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_document(data in prop_oneof![bytes(), prop::collection::vec(any::<u8>(), 0..80)]) {
            super::documents(&data);
        }

        #[test]
        fn any_yaml(text in "([a-z]{1,3}: ?([&*!|>'\"\\[{-]?[a-z0-9]{0,3})?\n *){0,6}") {
            super::documents(text.as_bytes());
        }

        #[test]
        fn any_query(text in "/[a-z0-9/]{0,20}\\?([a-zA-Z]{1,16}=[a-z0-9%,=!()-]{0,10}&){0,3}") {
            super::queries(text.as_bytes());
        }

        #[test]
        fn any_request(
            method in prop::sample::select(vec!["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]),
            path in path(),
            kind in prop::sample::select(vec![
                "application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "application/merge-patch+json",
                "application/json-patch+json", "application/strategic-merge-patch+json", "application/apply-patch+yaml", "",
            ]),
            accept in prop::sample::select(vec![
                "application/json", "application/yaml", "application/vnd.kubernetes.protobuf",
                "application/json;as=Table;g=meta.k8s.io;v=v1", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1", "",
            ]),
            document in document(),
            raw in prop::option::weighted(0.2, bytes()),
        ) {
            let body = match raw {
                Some(bytes) => bytes,
                None if kind.ends_with("protobuf") => super::protobuf::encode(&document).unwrap_or_default(),
                None => document.to_string().into_bytes(),
            };
            let mut request = format!("{method} {path}\n{kind}\n{accept}\n").into_bytes();
            request.extend_from_slice(&body);
            super::requests(&request);
        }
    }
}
