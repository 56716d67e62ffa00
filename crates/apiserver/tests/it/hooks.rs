//! A webhook server for tests: HTTPS on loopback, answers by the path of the request.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use choreo_apiserver::tls::{Pki, local_names};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What a webhook does with a request: the path, the review that it was sent; what it answers.
type Behaviour = dyn Fn(&str, &Value) -> Reply + Send + Sync;

/// An answer of a webhook.
pub(crate) enum Reply {
    /// `response` of an `AdmissionReview`, without the uid.
    Review(Value),
    /// Anything.
    Raw(u16, String),
    /// None at all.
    Never,
}

pub(crate) struct Hooks {
    pub(crate) port: u16,
    authority: String,
    seen: Arc<Mutex<Vec<(String, Value)>>>,
    task: JoinHandle<()>,
}

impl Drop for Hooks {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Hooks {
    pub(crate) async fn start(behaviour: impl Fn(&str, &Value) -> Reply + Send + Sync + 'static) -> Hooks {
        let mut names = local_names();
        names.insert("hook.default.svc".to_owned());
        let pki = Pki::ephemeral(&names, jiff::Timestamp::now()).unwrap();
        // The webhook asks nobody for a certificate of their own.
        let acceptor = tokio_rustls::TlsAcceptor::from(pki.server_config().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let behaviour: Arc<Behaviour> = Arc::new(behaviour);
        let log = seen.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, behaviour, log) = (acceptor.clone(), behaviour.clone(), log.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                        let (behaviour, log) = (behaviour.clone(), log.clone());
                        async move { answer(request, &*behaviour, &log).await }
                    });
                    // A real server speaks HTTP/2 where it is offered.
                    let _ = Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Hooks {
            port,
            authority: pki.authority_pem().to_owned(),
            seen,
            task,
        }
    }

    /// What was asked since the last time: paths and the requests of the reviews.
    pub(crate) fn take(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    pub(crate) fn bundle(&self) -> String {
        STANDARD.encode(&self.authority)
    }

    /// A webhook at this path, about ConfigMaps, with some fields of its own.
    pub(crate) fn hook(&self, path: &str, fields: Value) -> Value {
        let mut hook = json!({
            "name": format!("{}.hooks.dev", path.trim_start_matches('/')),
            "clientConfig": {"url": format!("https://127.0.0.1:{}{path}", self.port), "caBundle": self.bundle()},
            "rules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["*"], "resources": ["configmaps"]}],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        });
        for (field, value) in fields.as_object().unwrap() {
            hook[field] = value.clone();
        }
        hook
    }
}

async fn answer(
    request: Request<Incoming>,
    behaviour: &Behaviour,
    log: &Mutex<Vec<(String, Value)>>,
) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let path = request.uri().path().to_owned();
    let bytes = request.into_body().collect().await.unwrap().to_bytes();
    let review: Value = serde_json::from_slice(&bytes).unwrap();
    log.lock()
        .unwrap()
        .push((path.clone(), review["request"].clone()));
    let (status, body) = match behaviour(&path, &review) {
        Reply::Review(mut response) => {
            if response.get("uid").is_none() {
                response["uid"] = review["request"]["uid"].clone();
            }
            let answer =
                json!({"kind": "AdmissionReview", "apiVersion": review["apiVersion"], "response": response});
            (200, answer.to_string())
        }
        Reply::Raw(status, body) => (status, body),
        Reply::Never => std::future::pending().await,
    };
    let response = Response::builder().status(status).body(Full::new(body.into()));
    Ok(response.unwrap())
}

/// An answer that lets the object in with a JSON patch.
pub(crate) fn patch(patch: &Value) -> Reply {
    let patch = STANDARD.encode(patch.to_string());
    Reply::Review(json!({"allowed": true, "patchType": "JSONPatch", "patch": patch}))
}
