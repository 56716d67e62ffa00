//! What a real Kubernetes API server does, asked of whichever server there is: the embedded one in process or, with
//! `CHOREO_TEST_KUBECONFIG`, any other.
//!
//! Every expectation here holds for kube-apiserver 1.36; where a test fails against one, the test is wrong. Each has a
//! namespace of its own and relies on no controller outside of the API server.

mod access;
mod admission;
mod apply;
mod classes;
mod definitions;
mod discovery;
mod flow;
mod lists;
mod objects;
mod patches;
mod pod_security;
mod storage;
mod subresources;
mod watch;

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::support::TestServer;

/// Names the kubeconfig of the server to ask.
const KUBECONFIG: &str = "CHOREO_TEST_KUBECONFIG";

/// A server, and a namespace of it.
pub(super) struct Api {
    client: kube::Client,
    /// The name of the namespace.
    pub(super) namespace: String,
    _server: Option<TestServer>,
}

/// What it answered.
pub(super) struct Reply {
    status: u16,
    headers: HeaderMap,
    bytes: Bytes,
    asked: String,
}

impl Api {
    /// Connects, and makes a namespace.
    pub(super) async fn open() -> Api {
        let (client, server) = match std::env::var_os(KUBECONFIG) {
            None => {
                let server = TestServer::start();
                (server.client(), Some(server))
            }
            Some(path) => {
                let _ = rustls::crypto::ring::default_provider().install_default();
                let kubeconfig = kube::config::Kubeconfig::read_from(path).unwrap();
                let options = kube::config::KubeConfigOptions::default();
                let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &options)
                    .await
                    .unwrap();
                // What is refused for now is what some tests are about.
                config.default_retry = false;
                (kube::Client::try_from(config).unwrap(), None)
            }
        };
        let api = Api {
            client,
            namespace: format!("compat-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]),
            _server: server,
        };
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": api.namespace}});
        api.post("/api/v1/namespaces", namespace).await.is(201);
        api
    }

    /// The path of a collection in the namespace: `v1/configmaps`, `apps/v1/deployments`.
    pub(super) fn path(&self, resource: &str) -> String {
        let (version, plural) = resource.rsplit_once('/').unwrap();
        let root = if version.contains('/') { "/apis" } else { "/api" };
        format!("{root}/{version}/namespaces/{}/{plural}", self.namespace)
    }

    pub(super) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Reply {
        let mut request = Request::builder()
            .method(method.parse::<Method>().unwrap())
            .uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = kube::client::Body::from(body);
        let response = self.client.send(request.body(body).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        Reply {
            status: parts.status.as_u16(),
            headers: parts.headers,
            bytes: body.collect().await.unwrap().to_bytes(),
            asked: format!("{method} {path}"),
        }
    }

    pub(super) async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[("accept", "application/json")], Vec::new())
            .await
    }

    pub(super) async fn get_as(&self, path: &str, accept: &str) -> Reply {
        self.send("GET", path, &[("accept", accept)], Vec::new()).await
    }

    pub(super) async fn post(&self, path: &str, body: Value) -> Reply {
        self.write("POST", path, "application/json", &body).await
    }

    pub(super) async fn put(&self, path: &str, body: &Value) -> Reply {
        self.write("PUT", path, "application/json", body).await
    }

    /// Patches with `json`, `merge`, `strategic-merge` or `apply`.
    pub(super) async fn patch(&self, path: &str, kind: &str, body: Value) -> Reply {
        let kind = match kind {
            "apply" => "application/apply-patch+yaml".to_owned(),
            kind => format!("application/{kind}-patch+json"),
        };
        self.write("PATCH", path, &kind, &body).await
    }

    pub(super) async fn delete(&self, path: &str) -> Reply {
        self.send("DELETE", path, &[], Vec::new()).await
    }

    async fn write(&self, method: &str, path: &str, kind: &str, body: &Value) -> Reply {
        let headers = [("content-type", kind), ("accept", "application/json")];
        self.send(method, path, &headers, body.to_string().into_bytes())
            .await
    }

    /// Makes an object and waits until a watch shows it.
    async fn tick(&self) {
        let path = self.path("v1/configmaps");
        let name = format!("tick-{}", uuid::Uuid::new_v4());
        let (path, made) = (&path, config_map(&name, json!({})));
        let watch = format!("{path}?watch=true&timeoutSeconds=10&fieldSelector=metadata.name%3D{name}");
        let request = Request::get(watch).body(kube::client::Body::empty()).unwrap();
        let mut events = self.client.send(request).await.unwrap().into_body();
        self.post(path, made).await.is(201);
        events.frame().await.unwrap().unwrap();
    }

    /// The events of a watch that ends after a second.
    pub(super) async fn watch(&self, path: &str, parameters: &str) -> Vec<Value> {
        let path = format!("{path}?watch=true&timeoutSeconds=1&{parameters}");
        let reply = self.get(&path).await;
        assert_eq!(reply.status, 200, "{}: {}", reply.asked, reply.text());
        let lines = reply.text();
        lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    }

    /// Defines `plural` in a group of its own and waits until it is served. Gives the path of its collection.
    pub(super) async fn define(&self, plural: &str, version: Value) -> Defined {
        let group = format!("{}.example.dev", self.namespace);
        let mut kind = plural.trim_end_matches('s').to_owned();
        kind[..1].make_ascii_uppercase();
        let mut version = version;
        for (field, value) in [
            ("name", json!("v1")),
            ("served", true.into()),
            ("storage", true.into()),
        ] {
            version[field] = value;
        }
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.{group}")},
            "spec": {"group": group, "scope": "Namespaced", "names": {"plural": plural, "kind": kind}, "versions": [version]},
        });
        self.post(CRDS, definition).await.is(201);
        let path = self.path(&format!("{group}/v1/{plural}"));
        while self.get(&path).await.status != 200 {
            tokio::task::yield_now().await;
        }
        Defined {
            definition: format!("{CRDS}/{plural}.{group}"),
            api_version: format!("{group}/v1"),
            group,
            kind,
            path,
        }
    }
}

pub(super) const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// A definition that is served.
pub(super) struct Defined {
    pub(super) definition: String,
    pub(super) api_version: String,
    pub(super) group: String,
    pub(super) kind: String,
    pub(super) path: String,
}

impl Defined {
    pub(super) fn object(&self, name: &str, spec: Value) -> Value {
        json!({"apiVersion": self.api_version, "kind": self.kind, "metadata": {"name": name}, "spec": spec})
    }
}

impl Reply {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    pub(super) fn warnings(&self) -> Vec<String> {
        let all = self.headers.get_all("warning").iter();
        all.map(|w| w.to_str().unwrap().to_owned()).collect()
    }

    /// The answer, which must have that status.
    #[track_caller]
    pub(super) fn is(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}: {}", self.asked, self.text());
        serde_json::from_slice(&self.bytes).unwrap_or(Value::Null)
    }

    /// The answer, which must have that status and contain that: members of objects as far as they are named, lists whole.
    #[track_caller]
    pub(super) fn has(self, status: u16, expected: Value) -> Value {
        let asked = self.asked.clone();
        let found = self.is(status);
        let mut differences = String::new();
        compare(&found, &expected, "", &mut differences);
        assert!(
            differences.is_empty(),
            "{asked}:{differences}\nwhole answer: {found:#}"
        );
        found
    }

    /// The answer, a `Status` with that code, reason and message.
    #[track_caller]
    pub(super) fn refuses(self, code: u16, reason: &str, message: &str) -> Value {
        let asked = self.asked.clone();
        let found = self.is(code);
        let said = (
            &found["kind"],
            &found["reason"],
            &found["message"],
            &found["code"],
        );
        let expected = (&json!("Status"), &json!(reason), &json!(message), &json!(code));
        assert_eq!(said, expected, "{asked}");
        found
    }
}

fn compare(found: &Value, expected: &Value, path: &str, into: &mut String) {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => {
            for (name, expected) in expected {
                let at = format!("{path}.{name}");
                match found.get(name) {
                    Some(found) => compare(found, expected, &at, into),
                    None if expected.is_null() => {}
                    None => {
                        let _ = write!(into, "\n  {at}: nothing, expected {expected}");
                    }
                }
            }
        }
        (Value::Array(found), Value::Array(expected)) if found.len() == expected.len() => {
            for (nth, (found, expected)) in found.iter().zip(expected).enumerate() {
                compare(found, expected, &format!("{path}[{nth}]"), into);
            }
        }
        _ if found == expected => {}
        _ => {
            let _ = write!(into, "\n  {path}: {found}, expected {expected}");
        }
    }
}

pub(super) fn config_map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

pub(super) fn deployment(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": {
            "metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "main", "image": "nginx"}]},
        }},
    })
}

pub(super) fn names(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().unwrap().iter();
    items
        .map(|i| i["metadata"]["name"].as_str().unwrap().to_owned())
        .collect()
}

/// Asks until the answer is as wanted. The embedded server knows what is registered when it has answered; a real one hears of
/// it a moment later, and tells nobody when: there, each turn waits for an event of its own, so that it hears of what came before.
pub(super) async fn until<T>(api: &Api, what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            api.tick().await;
        }
    };
    let answer = tokio::time::timeout(Duration::from_secs(30), asking).await;
    answer.unwrap_or_else(|_| panic!("waited for {what}"))
}

/// Asks until the answer has that status.
pub(super) async fn until_status(api: &Api, status: u16, mut ask: impl AsyncFnMut() -> Reply) -> Reply {
    let asked = async || Some(ask().await).filter(|reply| reply.status == status);
    until(api, &format!("an answer with {status}"), asked).await
}

/// Only the namespace of the test.
pub(super) fn here(api: &Api) -> Value {
    json!({"matchLabels": {"kubernetes.io/metadata.name": api.namespace}})
}
