//! A server in memory and short ways to talk to it.

use std::time::Duration;

use axum::body::Body;
use choreo_apiserver::{ApiServer, Options, UserInfo};
use choreo_store::Store;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt;

/// A server in memory with two clusters, `control` and `local`, and its controllers. They stop with it.
pub(crate) struct TestServer {
    pub(crate) server: ApiServer,
    _shutdown: DropGuard,
}

/// An answer, decoded.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: http::HeaderMap,
    pub(crate) text: String,
    pub(crate) bytes: bytes::Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        if self.text.is_empty() {
            Value::Null
        } else {
            self.json()
        }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map(|v| v.to_str().unwrap())
            .unwrap_or_default()
    }
}

impl TestServer {
    pub(crate) fn start() -> TestServer {
        TestServer::over(Store::in_memory())
    }

    pub(crate) fn over(store: Store) -> TestServer {
        TestServer::set_up(store, |_| {})
    }

    /// A server with other options.
    pub(crate) fn with(change: impl FnOnce(&mut Options)) -> TestServer {
        TestServer::set_up(Store::in_memory(), change)
    }

    fn set_up(store: Store, change: impl FnOnce(&mut Options)) -> TestServer {
        let mut options = Options {
            clusters: vec!["control".into(), "local".into()],
            ..Options::default()
        };
        change(&mut options);
        let server = ApiServer::new(store, options).unwrap();
        let shutdown = CancellationToken::new();
        server.start_controllers(&shutdown);
        TestServer {
            server,
            _shutdown: shutdown.drop_guard(),
        }
    }

    /// Asks anew after every write until the answer is as wanted: the server's own controllers work in the background.
    pub(crate) async fn until<T>(&self, what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
        let control = self.server.store().cluster("control");
        let mut writes = control.watch(None, None, control.revision()).unwrap();
        let asking = async {
            loop {
                if let Some(answer) = ask().await {
                    return answer;
                }
                writes.next().await.unwrap();
            }
        };
        let answer = tokio::time::timeout(Duration::from_secs(20), asking).await;
        answer.unwrap_or_else(|_| panic!("waited for {what}"))
    }

    pub(crate) fn client(&self) -> kube::Client {
        self.server.cluster_client("control", &UserInfo::admin())
    }

    pub(crate) async fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let mut request = Request::builder()
            .method(method.parse::<Method>().unwrap())
            .uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request = request.extension(UserInfo::admin());
        self.send(request.body(body.into()).unwrap()).await
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.server.router().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8_lossy(&bytes).into_owned(),
            bytes,
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[], Body::empty()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.request("DELETE", path, &[], Body::empty()).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.request(
            "POST",
            path,
            &[("content-type", "application/json")],
            body.to_string(),
        )
        .await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.request(
            "PUT",
            path,
            &[("content-type", "application/json")],
            body.to_string(),
        )
        .await
    }

    pub(crate) async fn patch(&self, path: &str, kind: &str, body: Value) -> Answer {
        let kind = match kind {
            "apply" => "application/apply-patch+yaml".to_owned(),
            other => format!("application/{other}+json"),
        };
        self.request("PATCH", path, &[("content-type", &kind)], body.to_string())
            .await
    }

    /// The lines of a watch that ends by itself.
    pub(crate) async fn watch(&self, path: &str) -> Vec<Value> {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer
            .text
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect()
    }
}

pub(crate) fn config_map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

pub(crate) fn deployment(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "main", "image": "nginx:1"}]},
            },
        },
    })
}

/// A definition of `widgets.example.dev` with two versions' worth of features in one.
pub(crate) fn widgets() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.dev"},
        "spec": {
            "group": "example.dev", "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList", "shortNames": ["wi"], "categories": ["all"]},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}},
                "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}],
                "selectableFields": [{"jsonPath": ".spec.color"}],
                "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "properties": {
                        "spec": {
                            "type": "object", "required": ["size"],
                            "properties": {
                                "size": {"type": "integer", "minimum": 1, "maximum": 10},
                                "color": {"type": "string", "default": "red", "enum": ["red", "blue"]},
                                "replicas": {"type": "integer"},
                                "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
                            },
                            "x-kubernetes-validations": [{"rule": "self.size >= oldSelf.size", "message": "size may not shrink"}],
                        },
                        "status": {"type": "object", "properties": {"replicas": {"type": "integer"}, "selector": {"type": "string"}, "phase": {"type": "string"}}},
                    },
                }},
            }],
        },
    })
}

pub(crate) fn widget(name: &str, size: i64) -> Value {
    json!({"apiVersion": "example.dev/v1", "kind": "Widget", "metadata": {"name": name}, "spec": {"size": size}})
}

pub(crate) const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
pub(crate) const WIDGETS: &str = "/apis/example.dev/v1/namespaces/default/widgets";
pub(crate) const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
pub(crate) const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
