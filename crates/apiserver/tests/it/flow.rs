//! Priority and fairness, as clients notice it.

use std::sync::Arc;
use std::time::Duration;

use choreo_apiserver::FlowLimits;
use serde_json::{Value, json};

use crate::audit::{allow, ask};
use crate::hooks::{Hooks, Reply};
use crate::support::{Answer, CONFIG_MAPS, TestServer, config_map};

const SCHEMAS: &str = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas";
const LEVELS: &str = "/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations";
const SCHEMA_UID: &str = "x-kubernetes-pf-flowschema-uid";
const LEVEL_UID: &str = "x-kubernetes-pf-prioritylevel-uid";

/// Makes a level with as many seats as it has at least, and a schema for the group `dev`, whose members wait by user. Waits until
/// requests are counted by them.
async fn narrow(server: &TestServer, queuing: Value) {
    let level = json!({"metadata": {"name": "narrow"}, "spec": {"type": "Limited", "limited": {
        "nominalConcurrencyShares": 1, "borrowingLimitPercent": 0,
        "limitResponse": if queuing.is_null() { json!({"type": "Reject"}) } else { json!({"type": "Queue", "queuing": queuing}) },
    }}});
    let level = server.post(LEVELS, level).await.expect(201);
    let rule = json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"]});
    let schema = json!({"metadata": {"name": "narrow"}, "spec": {
        "priorityLevelConfiguration": {"name": "narrow"}, "matchingPrecedence": 50, "distinguisherMethod": {"type": "ByUser"},
        "rules": [{"subjects": [{"kind": "Group", "group": {"name": "dev"}}], "resourceRules": [rule]}],
    }});
    server.post(SCHEMAS, schema).await.expect(201);
    server
        .until("requests that count for the level", async || {
            let answer = ask(server, "jane", "GET", CONFIG_MAPS, None).await;
            (answer.header(LEVEL_UID) == level["metadata"]["uid"]).then_some(())
        })
        .await;
}

/// A server whose webhook holds up what is created until it is let go.
struct Held {
    server: Arc<TestServer>,
    release: std::sync::mpsc::Sender<()>,
    inside: tokio::sync::mpsc::UnboundedReceiver<()>,
    _hooks: Hooks,
}

impl Held {
    async fn start(queuing: Value) -> Held {
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let wait = std::sync::Mutex::new(wait);
        let (entered, inside) = tokio::sync::mpsc::unbounded_channel();
        let hooks = Hooks::start(move |_, _| {
            let _ = entered.send(());
            tokio::task::block_in_place(|| wait.lock().unwrap().recv().ok());
            Reply::Review(json!({"allowed": true}))
        })
        .await;
        let server = Arc::new(TestServer::with(|options| {
            options.flow = FlowLimits {
                seats: 1,
                ..FlowLimits::default()
            }
        }));
        for who in ["jane", "joe"] {
            allow(&server, who, "admin").await;
        }
        narrow(&server, queuing).await;
        let body = json!({"metadata": {"name": "v"}, "webhooks": [hooks.hook("/hold", json!({}))]});
        server
            .post(
                "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
                body,
            )
            .await
            .expect(201);
        Held {
            server,
            release,
            inside,
            _hooks: hooks,
        }
    }

    fn create(&self, who: &'static str, name: &'static str) -> tokio::task::JoinHandle<Answer> {
        let server = self.server.clone();
        let made = config_map(name, json!({}));
        tokio::spawn(async move { ask(&server, who, "POST", CONFIG_MAPS, Some(made)).await })
    }
}

fn refused(answer: &Answer) {
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (429, "1"));
    assert_eq!(answer.text, "Too many requests, please try again later.\n");
    assert!(!answer.header(SCHEMA_UID).is_empty() && !answer.header(LEVEL_UID).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn one_users_crowd_waits_and_others_get_through() {
    let mut held = Held::start(json!({"queues": 1000, "handSize": 1, "queueLengthLimit": 1})).await;
    let first = held.create("jane", "a");
    held.inside.recv().await.unwrap();
    // The seat is taken. One more of hers may wait, the next one may not.
    let (mut no, mut waiting) = (Vec::new(), Vec::new());
    for name in ["b", "c", "d"] {
        let mut request = held.create("jane", name);
        match tokio::time::timeout(Duration::from_millis(300), &mut request).await {
            Ok(answer) => no.push(answer.unwrap()),
            Err(_) => waiting.push(request),
        }
    }
    assert_eq!((no.len(), waiting.len()), (2, 1));
    no.iter().for_each(refused);
    let other = held.create("joe", "e");
    // Administrators take no seat.
    held.server.get(CONFIG_MAPS).await.expect(200);
    for _ in 0..3 {
        held.release.send(()).unwrap();
    }
    for request in [first, waiting.pop().unwrap(), other] {
        request.await.unwrap().expect(201);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_level_without_queues_refuses_at_once() {
    let mut held = Held::start(Value::Null).await;
    let first = held.create("jane", "a");
    held.inside.recv().await.unwrap();
    refused(&held.create("joe", "b").await.unwrap());
    // What is not of this level gets through, and what nobody limits.
    held.server.get(CONFIG_MAPS).await.expect(200);
    held.release.send(()).unwrap();
    first.await.unwrap().expect(201);
    held.release.send(()).unwrap();
    held.create("joe", "b").await.unwrap().expect(201);
}

#[tokio::test]
async fn a_watch_has_a_seat_until_it_has_begun() {
    let server = TestServer::with(|options| {
        options.flow = FlowLimits {
            seats: 1,
            ..FlowLimits::default()
        }
    });
    allow(&server, "jane", "admin").await;
    narrow(&server, Value::Null).await;
    let request = http::Request::get(format!("{CONFIG_MAPS}?watch=1"))
        .extension(choreo_apiserver::UserInfo::new("jane", ["dev"]))
        .body(axum::body::Body::empty())
        .unwrap();
    let watch = tower::ServiceExt::oneshot(server.server.router(), request)
        .await
        .unwrap();
    assert_eq!(watch.status(), 200);
    assert!(watch.headers().contains_key(LEVEL_UID));
    ask(&server, "jane", "GET", CONFIG_MAPS, None).await.expect(200);
    drop(watch);
}

#[tokio::test]
async fn answers_say_how_the_request_was_counted() {
    let server = TestServer::start();
    let uid = async |path: &str| server.get(path).await.expect(200)["metadata"]["uid"].clone();
    let exempt = (
        uid(&format!("{SCHEMAS}/exempt")).await,
        uid(&format!("{LEVELS}/exempt")).await,
    );
    let other = (
        uid(&format!("{SCHEMAS}/global-default")).await,
        uid(&format!("{LEVELS}/global-default")).await,
    );
    let told = |answer: &Answer| (json!(answer.header(SCHEMA_UID)), json!(answer.header(LEVEL_UID)));
    assert_eq!(told(&server.get(CONFIG_MAPS).await), exempt);
    assert_eq!(told(&server.get("/apis/none/v1/such").await), exempt);
    // Who may not is counted as well.
    let forbidden = ask(&server, "jane", "GET", CONFIG_MAPS, None).await;
    assert_eq!((forbidden.status.as_u16(), told(&forbidden)), (403, other));
}

#[tokio::test]
async fn what_must_be_there_counts_while_it_is_deleted() {
    let server = TestServer::start();
    allow(&server, "jane", "admin").await;
    for path in [
        format!("{SCHEMAS}/global-default"),
        format!("{LEVELS}/catch-all"),
        format!("{SCHEMAS}/catch-all"),
    ] {
        server.delete(&path).await.expect(200);
    }
    server
        .until("requests that count for what is not there", async || {
            let answer = ask(&server, "jane", "GET", CONFIG_MAPS, None).await;
            assert_eq!(answer.status, 200);
            (answer.headers.contains_key(LEVEL_UID) && answer.header(LEVEL_UID).is_empty()).then_some(())
        })
        .await;
}
