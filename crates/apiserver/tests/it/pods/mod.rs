//! Access to containers with clients as they are: kube-rs and kubectl, each protocol that they speak.

mod fake;
mod kubectl;

use std::time::Duration;

use choreo_apiserver::{Audit, Options, UserInfo};
use futures::{AsyncBufReadExt, SinkExt};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{AttachParams, LogParams, TerminalSize};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use crate::kubectl::Kubectl;
use crate::support::TestServer;
use fake::{ECHO, Fake};

type Socket = tokio_tungstenite::WebSocketStream<hyper_util::rt::TokioIo<hyper::upgrade::Upgraded>>;

/// A server whose Pods are the fake node's, over HTTPS.
struct Pods {
    served: Kubectl,
    fake: Fake,
    client: kube::Client,
    _echo: tokio::task::JoinHandle<()>,
}

impl Pods {
    async fn start() -> Pods {
        Pods::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Options)) -> Pods {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let folder = tempfile::tempdir().unwrap().keep();
        let fake = Fake {
            folder,
            echo: listener.local_addr().unwrap(),
            asked: Default::default(),
            lines: Default::default(),
            running: watch::Sender::new(0),
        };
        let echo = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(echo(stream));
            }
        });
        let access = std::sync::Arc::new(fake.clone());
        let server = TestServer::with(|options| {
            options.pods.insert("control".to_owned(), access);
            change(options);
        });
        let served = Kubectl::over(server).await;
        let config = kube::config::Kubeconfig::read_from(served.folder.path().join("kubeconfig")).unwrap();
        let options = kube::config::KubeConfigOptions::default();
        let config = kube::Config::from_custom_kubeconfig(config, &options)
            .await
            .unwrap();
        let pods = Pods {
            client: kube::Client::try_from(config).unwrap(),
            served,
            fake,
            _echo: echo,
        };
        let running = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
        pods.pod("p", &["main"], &running).await;
        pods.pod("two", &["a", "b"], &running).await;
        pods.pod("unreachable", &["main"], &running).await;
        pods.pod(
            "waits",
            &["main"],
            &json!({"waiting": {"reason": "ImagePullBackOff"}}),
        )
        .await;
        pods
    }

    /// A Pod on a node, with a status as an agent would write it.
    async fn pod(&self, name: &str, containers: &[&str], state: &Value) {
        let server = &self.served.server;
        let list: Vec<Value> = containers
            .iter()
            .map(|c| json!({"name": c, "image": "i"}))
            .collect();
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
            "spec": {"nodeName": "n1", "containers": list},
        });
        let created = server.until("the default service account", async || {
            let answer = server.post("/api/v1/namespaces/default/pods", pod.clone()).await;
            (answer.status != 403).then_some(answer)
        });
        created.await.expect(201);
        let statuses: Vec<Value> = containers
            .iter()
            .map(|c| json!({"name": c, "image": "i", "imageID": "i", "ready": true, "restartCount": 0, "state": state}))
            .collect();
        let status =
            json!({"status": {"phase": "Running", "podIP": "10.0.0.1", "containerStatuses": statuses}});
        let path = format!("/api/v1/namespaces/default/pods/{name}/status");
        server.patch(&path, "merge-patch", status).await.expect(200);
    }

    fn api(&self) -> Api<Pod> {
        Api::default_namespaced(self.client.clone())
    }

    /// Waits until so many processes and followed logs are left.
    async fn left(&self, count: usize) {
        let mut running = self.fake.running.subscribe();
        let waited =
            tokio::time::timeout(Duration::from_secs(20), running.wait_for(|left| *left == count)).await;
        waited
            .expect("processes that nobody is connected with end")
            .unwrap();
    }

    /// A WebSocket with a subprotocol, and the one that it got; or what the server refused it with.
    async fn websocket(&self, path: &str, protocol: &str) -> Result<(Socket, String), String> {
        use tokio_tungstenite::tungstenite::{handshake::client::generate_key, protocol::Role};
        let request = http::Request::get(path)
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", generate_key())
            .header("sec-websocket-protocol", protocol);
        let answer = self
            .client
            .send(request.body(kube::client::Body::empty()).unwrap())
            .await
            .unwrap();
        if answer.status() != 101 {
            let body = http_body_util::BodyExt::collect(answer.into_body())
                .await
                .unwrap();
            return Err(String::from_utf8_lossy(&body.to_bytes()).into_owned());
        }
        let protocol = answer.headers()["sec-websocket-protocol"]
            .to_str()
            .unwrap()
            .to_owned();
        let connection = hyper_util::rt::TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
        let socket =
            tokio_tungstenite::WebSocketStream::from_raw_socket(connection, Role::Client, None).await;
        Ok((socket, protocol))
    }

    async fn refusal(&self, path: &str) -> (u16, String) {
        let answer = self
            .served
            .server
            .get(&format!("/api/v1/namespaces/default/pods/{path}"))
            .await;
        (
            answer.status.as_u16(),
            answer.json()["message"].as_str().unwrap_or_default().to_owned(),
        )
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.fake.folder);
    }
}

/// Sends back what comes, and its end.
async fn echo(mut stream: TcpStream) {
    let (mut read, mut write) = stream.split();
    let _ = tokio::io::copy(&mut read, &mut write).await;
    let _ = write.shutdown().await;
}

#[tokio::test]
async fn a_followed_log_comes_as_it_is_written_and_ends_with_its_container() {
    let pods = Pods::start().await;
    let (lines, receiver) = mpsc::channel(1);
    *pods.fake.lines.lock() = Some(receiver);
    let params = LogParams {
        follow: true,
        tail_lines: Some(10),
        timestamps: true,
        since_seconds: Some(60),
        limit_bytes: Some(1000),
        ..LogParams::default()
    };
    let mut log = pods.api().log_stream("p", &params).await.unwrap().lines();
    assert_eq!(
        futures::StreamExt::next(&mut log).await.unwrap().unwrap(),
        "first"
    );
    for line in ["second\n", "third\n"] {
        lines.send(line).await.unwrap();
        assert_eq!(
            futures::StreamExt::next(&mut log).await.unwrap().unwrap(),
            line.trim()
        );
    }
    drop(lines);
    assert!(futures::StreamExt::next(&mut log).await.is_none());
    let asked = pods.fake.asked.lock()[0].clone();
    let since = asked.since.unwrap().duration_until(jiff::Timestamp::now());
    assert!(since >= jiff::SignedDuration::from_secs(60) && since < jiff::SignedDuration::from_secs(120));
    assert_eq!(asked.container.as_deref(), Some("main"));
    assert_eq!((asked.tail_lines, asked.limit_bytes), (Some(10), Some(1000)));
    assert!(asked.follow && asked.timestamps && !asked.previous);
    pods.left(0).await;
}

#[tokio::test]
async fn a_followed_log_ends_when_the_client_goes() {
    let pods = Pods::start().await;
    let (_lines, receiver) = mpsc::channel(1);
    *pods.fake.lines.lock() = Some(receiver);
    let params = LogParams {
        follow: true,
        ..LogParams::default()
    };
    let mut log = pods.api().log_stream("p", &params).await.unwrap().lines();
    assert_eq!(
        futures::StreamExt::next(&mut log).await.unwrap().unwrap(),
        "first"
    );
    pods.left(1).await;
    drop(log);
    pods.left(0).await;
}

#[tokio::test]
async fn logs_in_process() {
    let pods = Pods::start().await;
    let api: Api<Pod> = Api::default_namespaced(pods.served.server.client());
    assert_eq!(api.logs("p", &LogParams::default()).await.unwrap(), "first\n");
}

#[tokio::test]
async fn refusals_are_kubernetes_own() {
    let pods = Pods::start().await;
    let bad = |text: &str| (400, text.to_owned());
    for (path, expected) in [
        ("x/log", (404, "pods \"x\" not found".to_owned())),
        (
            "two/log",
            bad("a container name must be specified for pod two, choose one of: [a b]"),
        ),
        ("two/log?container=c", bad("container c is not valid for pod two")),
        (
            "waits/log",
            bad("container \"main\" in pod \"waits\" is waiting to start: trying and failing to pull image"),
        ),
        (
            "p/log?previous=true",
            bad("previous terminated container \"main\" in pod \"p\" not found"),
        ),
        ("unreachable/log", (503, "the node does not answer".to_owned())),
        ("p/exec?command=ls&stdout=1", bad("Upgrade request required")),
        ("p/portforward", bad("Upgrade request required")),
    ] {
        assert_eq!(pods.refusal(path).await, expected, "{path}");
    }
    let answer = pods
        .served
        .server
        .delete("/api/v1/namespaces/default/pods/p/log")
        .await;
    assert_eq!(answer.status, 405);
}

/// Who may read logs may not run commands, whichever method a client uses for that.
#[tokio::test]
async fn rights_are_those_of_the_subresource() {
    let pods = Pods::start().await;
    let server = &pods.served.server;
    let role = json!({"metadata": {"name": "reader"}, "rules": [{"apiGroups": [""], "resources": ["pods/log", "pods/exec"], "verbs": ["get"]}]});
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    server.post(&format!("{rbac}/roles"), role).await.expect(201);
    let binding = json!({
        "metadata": {"name": "reader"}, "subjects": [{"kind": "User", "name": "jane", "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
    });
    server
        .post(&format!("{rbac}/rolebindings"), binding)
        .await
        .expect(201);
    let jane = UserInfo::new("jane", ["system:authenticated"]);
    for (method, path, expected) in [
        ("GET", "p/log", 200),
        ("GET", "p/exec?command=ls&stdout=1", 403),
        ("POST", "p/exec?command=ls&stdout=1", 403),
        ("GET", "p/attach?stdout=1", 403),
        ("GET", "p/portforward", 403),
    ] {
        let request = http::Request::builder().method(method).extension(jane.clone());
        let request = request.uri(format!("/api/v1/namespaces/default/pods/{path}"));
        let answer = server
            .send(request.body(axum::body::Body::empty()).unwrap())
            .await;
        assert_eq!(answer.status, expected, "{method} {path}: {}", answer.text);
        // To open a connection is no reading, although WebSockets ask for one with GET.
        if path.contains("exec") {
            let why = "cannot create resource \\\"pods/exec\\\"";
            assert!(answer.text.contains(why), "{}", answer.text);
        }
    }
}

#[tokio::test]
async fn a_command_with_input_and_an_exit_code() {
    let pods = Pods::start().await;
    let params = AttachParams::default().stdin(true).stdout(true).stderr(true);
    let command = ["sh", "-c", "cat; echo done >&2; exit 3"];
    let mut process = pods.api().exec("p", command, &params).await.unwrap();
    let (mut stdin, status) = (process.stdin().unwrap(), process.take_status().unwrap());
    let (mut stdout, mut stderr) = (process.stdout().unwrap(), process.stderr().unwrap());
    // More than all that is kept on the way, so that both directions are worked on at a time.
    let sent: Vec<u8> = (0..=255).cycle().take(3 << 20).collect();
    let expected = sent.clone();
    let sending = tokio::spawn(async move {
        stdin.write_all(&sent).await.unwrap();
        stdin.shutdown().await.unwrap();
    });
    let (mut out, mut err) = (Vec::new(), String::new());
    tokio::join!(async { stdout.read_to_end(&mut out).await.unwrap() }, async {
        stderr.read_to_string(&mut err).await.unwrap()
    });
    sending.await.unwrap();
    assert!(out == expected, "{} bytes came back", out.len());
    assert_eq!(err, "done\n");
    let status = serde_json::to_value(status.await.unwrap()).unwrap();
    assert_eq!(status["reason"], "NonZeroExitCode", "{status}");
    assert_eq!(
        status["details"]["causes"][0],
        json!({"reason": "ExitCode", "message": "3"})
    );
    process.join().await.unwrap();
    pods.left(0).await;
}

#[tokio::test]
async fn a_command_ends_when_the_client_goes() {
    let pods = Pods::start().await;
    let params = AttachParams::default().stdin(true).stdout(true).stderr(false);
    let mut process = pods.api().exec("p", ["cat"], &params).await.unwrap();
    process.stdin().unwrap().write_all(b"here").await.unwrap();
    let mut there = [0; 4];
    process.stdout().unwrap().read_exact(&mut there).await.unwrap();
    pods.left(1).await;
    process.abort();
    drop(process);
    pods.left(0).await;
}

#[tokio::test]
async fn sessions_end_with_the_server() {
    let pods = Pods::start().await;
    let params = AttachParams::default().stdin(true).stdout(true).stderr(false);
    let mut process = pods.api().attach("p", &params).await.unwrap();
    process.stdin().unwrap().write_all(b"here").await.unwrap();
    let mut there = [0; 4];
    let mut stdout = process.stdout().unwrap();
    stdout.read_exact(&mut there).await.unwrap();
    let status = process.take_status().unwrap();
    pods.served.server.server.drain();
    let status = status.await.unwrap();
    assert!(status.message.unwrap().contains("the server is going down"));
    assert_eq!(stdout.read(&mut there).await.unwrap(), 0);
    pods.left(0).await;
}

#[tokio::test]
async fn a_terminal_is_told_its_size() {
    let pods = Pods::start().await;
    let params = AttachParams::interactive_tty();
    let mut process = pods.api().exec("p", ["size"], &params).await.unwrap();
    let mut sizes = process.terminal_size().unwrap();
    sizes
        .send(TerminalSize {
            width: 132,
            height: 43,
        })
        .await
        .unwrap();
    let mut out = String::new();
    process.stdout().unwrap().read_to_string(&mut out).await.unwrap();
    assert_eq!(out, "132 by 43\r\n");
}

#[tokio::test]
async fn ports_are_forwarded_over_channels() {
    let pods = Pods::start().await;
    let mut forwarded = pods.api().portforward("p", &[ECHO, 9]).await.unwrap();
    let mut stream = forwarded.take_stream(ECHO).unwrap();
    let refused = forwarded.take_error(9).unwrap();
    stream.write_all(b"hello").await.unwrap();
    let mut back = [0; 5];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"hello");
    let why = refused.await.unwrap();
    let expected =
        "error forwarding port 9 to pod p in namespace default: port 9 is not running: connection refused";
    assert_eq!(why, expected);
}

/// What browsers speak, and clients that close nothing: text of digits and base64.
#[tokio::test]
async fn channels_in_base64() {
    use base64::Engine as _;
    use futures::StreamExt as _;
    let pods = Pods::start().await;
    let path = "/api/v1/namespaces/default/pods/p/exec?command=echo&command=hi&stdout=true";
    let (mut socket, protocol) = pods.websocket(path, "v4.base64.channel.k8s.io").await.unwrap();
    assert_eq!(protocol, "v4.base64.channel.k8s.io");
    let mut said = Vec::new();
    while let Some(Ok(message)) = socket.next().await {
        if let tokio_tungstenite::tungstenite::Message::Text(text) = message {
            let (channel, data) = text.as_str().split_at(1);
            let data = base64::engine::general_purpose::STANDARD.decode(data).unwrap();
            said.push((channel.to_owned(), String::from_utf8(data).unwrap()));
        }
    }
    let expected = [("1", "hi\n"), ("3", "{\"metadata\":{},\"status\":\"Success\"}")];
    assert_eq!(
        said,
        expected.map(|(channel, text)| (channel.to_owned(), text.to_owned()))
    );
}

#[tokio::test]
async fn what_nobody_speaks_is_told_what_is_spoken() {
    let pods = Pods::start().await;
    let path = "/api/v1/namespaces/default/pods/p/exec?command=ls&stdout=true";
    let said = pods.websocket(path, "v9.channel.k8s.io").await.unwrap_err();
    assert!(
        said.contains(
            "client supports [v9.channel.k8s.io], server accepts [v5.channel.k8s.io v4.channel.k8s.io"
        ),
        "{said}"
    );
}

/// The audit's last event of a session is written when the session ends. The file is a pipe, so that its lines can be waited for.
#[tokio::test]
async fn sessions_are_in_the_audit_from_their_begin_to_their_end() {
    let folder = tempfile::tempdir().unwrap();
    let (policy, log) = (folder.path().join("policy.yaml"), folder.path().join("log"));
    let rules = "rules: [{level: Metadata, resources: [{resources: [pods/exec]}]}, {level: None}]";
    std::fs::write(
        &policy,
        format!("apiVersion: audit.k8s.io/v1\nkind: Policy\n{rules}"),
    )
    .unwrap();
    let made = tokio::process::Command::new("mkfifo").arg(&log).status().await;
    assert!(made.unwrap().success());
    let pipe = tokio::net::unix::pipe::OpenOptions::new()
        .read_write(true)
        .open_receiver(&log)
        .unwrap();
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(pipe));
    let mut stage = async || {
        let line = tokio::time::timeout(Duration::from_secs(20), lines.next_line()).await;
        let event: Value = serde_json::from_str(&line.unwrap().unwrap().unwrap()).unwrap();
        (event["stage"].clone(), event["responseStatus"]["code"].clone())
    };
    let pods = Pods::with(|options| options.audit = Some(Audit::open(&policy, &log).unwrap())).await;
    let params = AttachParams::default().stdin(true).stdout(true).stderr(false);
    let mut process = pods.api().exec("p", ["cat"], &params).await.unwrap();
    assert_eq!(stage().await, (json!("RequestReceived"), json!(null)));
    assert_eq!(stage().await, (json!("ResponseStarted"), json!(101)));
    process.stdin().unwrap().write_all(b"here").await.unwrap();
    let mut there = [0; 4];
    process.stdout().unwrap().read_exact(&mut there).await.unwrap();
    process.abort();
    assert_eq!(stage().await, (json!("ResponseComplete"), json!(101)));
}
