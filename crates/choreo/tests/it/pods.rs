//! Commands that go through to containers, against an API server whose containers are processes of this machine.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use choreo_apiserver::kubeconfig::{self, Context};
use choreo_apiserver::pods::{
    AccessError, AttachRequest, Connection, ContainerStats, ExecRequest, ExecSession, LogQuery, LogStream,
    Output, PodAccess, PodStats,
};
use choreo_apiserver::serve::{ServeOptions, serve, tls_settings};
use choreo_apiserver::tls::{Pki, local_names};
use choreo_apiserver::{ApiServer, Options, UserInfo};
use choreo_controllers::{defaults, install};
use choreo_store::Store;
use futures::{FutureExt as _, StreamExt as _, stream};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::{Background, Said, program, run, run_with_input};

/// The port of the pods that sends back what comes.
const ECHO: u16 = 7;

/// A node: commands run here, and logs say whose they are.
struct Node {
    echo: std::net::SocketAddr,
}

#[async_trait]
impl PodAccess for Node {
    async fn logs(&self, _: &str, pod: &str, query: LogQuery) -> Result<LogStream, AccessError> {
        let life = if query.previous { "before" } else { "now" };
        let tail = query.tail_lines.map(|n| format!(" tail={n}")).unwrap_or_default();
        let line = Bytes::from(format!("{pod} {life}{tail}\n"));
        let lines = stream::iter([Ok(line)]);
        Ok(if query.follow {
            lines.chain(stream::pending()).boxed()
        } else {
            lines.boxed()
        })
    }

    /// The command `size` prints the size of its terminal.
    async fn exec(&self, _: &str, _: &str, request: ExecRequest) -> Result<ExecSession, AccessError> {
        if request.command == ["size"] && request.tty {
            let (resize, mut sizes) = tokio::sync::mpsc::channel(1);
            let output = stream::once(async move {
                let size = sizes.recv().await;
                Ok(Output::Stdout(format!("{size:?}\r\n").into()))
            });
            return Ok(ExecSession {
                stdin: None,
                output: output.boxed(),
                resize,
                exit: async { Ok(5) }.boxed(),
            });
        }
        let mut child = tokio::process::Command::new(&request.command[0])
            .args(&request.command[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| AccessError::Unavailable {
                why: error.to_string(),
            })?;
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let stdin = child.stdin.take().map(|stdin| Box::new(stdin) as _);
        let out = tokio_util::io::ReaderStream::new(out).map(|piece| piece.map(Output::Stdout));
        let err = tokio_util::io::ReaderStream::new(err).map(|piece| piece.map(Output::Stderr));
        Ok(ExecSession {
            stdin,
            output: stream::select(out, err).boxed(),
            resize: tokio::sync::mpsc::channel(1).0,
            exit: async move {
                child
                    .wait()
                    .await
                    .map(|status| i64::from(status.code().unwrap_or(137)))
            }
            .boxed(),
        })
    }

    async fn attach(&self, _: &str, _: &str, _: AttachRequest) -> Result<ExecSession, AccessError> {
        Err(AccessError::Unavailable {
            why: "not in this test".to_owned(),
        })
    }

    async fn port_forward(&self, _: &str, _: &str, port: u16) -> Result<Box<dyn Connection>, AccessError> {
        if port != ECHO {
            return Err(AccessError::NotRunning {
                what: format!("port {port}"),
                why: "connection refused".to_owned(),
            });
        }
        let connected = tokio::net::TcpStream::connect(self.echo).await;
        let stream = connected.map_err(|error| AccessError::Unavailable {
            why: error.to_string(),
        })?;
        Ok(Box::new(stream))
    }

    async fn stats(&self) -> Result<Vec<PodStats>, AccessError> {
        let main = ContainerStats {
            name: "main".to_owned(),
            cpu_nanos_per_second: 1_500_000,
            memory_bytes: 10 << 20,
        };
        Ok(vec![PodStats {
            namespace: cell(),
            pod: "greeter-1".to_owned(),
            containers: vec![main],
        }])
    }
}

fn cell() -> String {
    choreo_api::names::cell_namespace("default", "default", "development")
}

/// An API server with a component, and no platform that would do anything about it.
struct Cluster {
    runtime: tokio::runtime::Runtime,
    folder: tempfile::TempDir,
    server: ApiServer,
    shutdown: CancellationToken,
}

impl Cluster {
    fn start() -> Cluster {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            clusters: vec!["control".to_owned(), "local".to_owned()],
            ..Options::default()
        };
        let server = ApiServer::new(Store::in_memory(), options).unwrap();
        let cluster = Cluster {
            runtime,
            folder,
            server,
            shutdown: CancellationToken::new(),
        };
        cluster.runtime.block_on(cluster.prepare());
        cluster
    }

    async fn prepare(&self) {
        self.server.start_controllers(&self.shutdown);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let echo = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        let local = self.server.cluster("local").unwrap();
        local.connect_pods(Arc::new(Node { echo })).await;
        let pki = Pki::ephemeral(&local_names(), jiff::Timestamp::now()).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let context = Context {
            name: "choreo".to_owned(),
            server: format!("https://{}", listener.local_addr().unwrap()),
            namespace: "default".to_owned(),
        };
        kubeconfig::write(&self.kubeconfig(), &[context], pki.authority_pem(), pki.admin()).unwrap();
        let tls = tls_settings(pki.server_config().unwrap());
        let (router, options) = (self.server.router(), ServeOptions::default());
        let known = Arc::new(self.server.authenticator());
        tokio::spawn(serve(
            listener,
            tls,
            known,
            router,
            options,
            self.shutdown.clone(),
        ));

        let control = self.client("control");
        install::definitions(&control, &install::control_plane())
            .await
            .unwrap();
        install::defaults_once(&control, &defaults::defaults())
            .await
            .unwrap();
        let ours = "/apis/openchoreo.dev/v1alpha1/namespaces/default";
        let owner = json!({"projectName": "default", "componentName": "greeter"});
        let component = json!({"owner": {"projectName": "default"}, "type": "Service"});
        for (plural, kind, name, spec) in [
            ("components", "Component", "greeter", component),
            (
                "servicebindings",
                "ServiceBinding",
                "greeter-development",
                json!({"owner": owner, "environment": "development"}),
            ),
        ] {
            let object = json!({
                "apiVersion": "openchoreo.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec,
            });
            self.send("control", "POST", &format!("{ours}/{plural}"), &object)
                .await;
        }
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": cell()}});
        self.send("local", "POST", "/api/v1/namespaces", &namespace).await;
        // A pod may name an account before its controller has made it.
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "greeter"}});
        let accounts = format!("/api/v1/namespaces/{}/serviceaccounts", cell());
        self.send("local", "POST", &accounts, &account).await;
        self.pod("greeter-1").await;
    }

    fn client(&self, cluster: &str) -> kube::Client {
        self.server.cluster_client(cluster, &UserInfo::admin())
    }

    fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    async fn send(&self, cluster: &str, method: &str, path: &str, body: &Value) {
        let kind = if method == "PATCH" {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", kind);
        let request = request.body(body.to_string().into_bytes()).unwrap();
        self.client(cluster).request::<Value>(request).await.unwrap();
    }

    /// A pod of the component that runs and is ready.
    async fn pod(&self, name: &str) {
        let labels =
            json!({"openchoreo.dev/component": "greeter", "openchoreo.dev/deployment-track": "default"});
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels},
            "spec": {"nodeName": "n", "serviceAccountName": "greeter", "containers": [{"name": "main", "image": "i"}]},
        });
        let pods = format!("/api/v1/namespaces/{}/pods", cell());
        self.send("local", "POST", &pods, &pod).await;
        let container = json!({
            "name": "main", "image": "i", "imageID": "i", "ready": true, "restartCount": 0,
            "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
        });
        let status = json!({"status": {
            "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [container],
        }});
        self.send("local", "PATCH", &format!("{pods}/{name}/status"), &status)
            .await;
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program();
        command.env("KUBECONFIG", self.kubeconfig()).args(arguments);
        command
    }

    #[track_caller]
    fn choreo(&self, arguments: &[&str]) -> Said {
        run(&mut self.command(arguments))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

#[test]
fn logs_of_one_pod_and_of_several() {
    let cluster = Cluster::start();
    assert_eq!(cluster.choreo(&["logs", "greeter"]).ok(), "greeter-1 now\n");
    assert_eq!(
        cluster.choreo(&["logs", "greeter", "--tail", "5"]).ok(),
        "greeter-1 now tail=5\n"
    );
    cluster.runtime.block_on(cluster.pod("greeter-2"));
    let out = cluster.choreo(&["logs", "greeter"]).ok();
    let mut lines: Vec<&str> = out.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        ["greeter-1 main | greeter-1 now", "greeter-2 main | greeter-2 now"]
    );
    let err = cluster.choreo(&["logs", "greeter", "--previous"]).fails(1);
    assert!(
        err.contains("previous terminated container \"main\" in pod"),
        "{err}"
    );
    let err = cluster.choreo(&["logs", "greeter", "-c", "side"]).fails(4);
    assert!(
        err.contains("no container side of greeter in development has started"),
        "{err}"
    );
    let err = cluster.choreo(&["logs", "greter"]).fails(4);
    assert!(err.contains("is it greeter?"), "{err}");
    let err = cluster.choreo(&["logs", "greeter", "-e", "staging"]).fails(4);
    assert!(err.contains("-e chooses: it is in development"), "{err}");
}

#[test]
fn pods_that_come_are_followed() {
    let cluster = Cluster::start();
    let log = Background::start(&mut cluster.command(&["logs", "greeter", "-f"]));
    assert_eq!(log.line_with("greeter-1"), "greeter-1 now");
    cluster.runtime.block_on(cluster.pod("greeter-2"));
    assert_eq!(log.line_with("greeter-2"), "greeter-2 main | greeter-2 now");
}

#[test]
fn commands_get_input_and_give_their_exit_code() {
    let cluster = Cluster::start();
    let exec = |rest: &[&str]| cluster.command(&[&["exec", "greeter", "--"], rest].concat());
    let said = run_with_input(
        &mut exec(&["sh", "-c", "cat; echo problem >&2; exit 7"]),
        "typed\n",
    );
    assert_eq!(
        (said.status, said.out.as_str(), said.err.as_str()),
        (7, "typed\n", "problem\n")
    );
    let said = run(&mut exec(&["echo", "two words"]));
    assert_eq!(said.ok(), "two words\n");
    let err = run(&mut exec(&["no-such-program"])).fails(1);
    assert!(
        err.contains("cannot run no-such-program in pod greeter-1"),
        "{err}"
    );
    let err = cluster
        .choreo(&["exec", "greeter", "--pod", "x", "--", "ls"])
        .fails(4);
    assert!(err.contains("its pods are greeter-1"), "{err}");
}

/// `script` gives a terminal, of which the command in the container is told the size.
#[test]
fn a_command_on_a_terminal_gets_one() {
    let cluster = Cluster::start();
    let program = env!("CARGO_BIN_EXE_choreo");
    let line = format!("stty cols 132 rows 43; {program} exec greeter -- size");
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]);
    command
        .env("KUBECONFIG", cluster.kubeconfig())
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    let said = run(&mut command);
    assert!(said.out.contains("Some((132, 43))"), "{said:?}");
    assert!(said.out.contains("in pod greeter-1"), "{said:?}");
    assert_eq!(said.status, 5, "{said:?}");
}

#[test]
fn ports_are_forwarded_to_whichever_pod_is_ready() {
    let cluster = Cluster::start();
    let forward = Background::start(&mut cluster.command(&["port-forward", "greeter", &format!("0:{ECHO}")]));
    let line = forward.line_with("127.0.0.1:");
    assert!(
        line.ends_with("-> greeter in development, port 7 (pod greeter-1)"),
        "{line}"
    );
    let address = line.split(' ').next().unwrap();
    for text in ["first", "second"] {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        let mut back = vec![0; text.len()];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(back, text.as_bytes());
    }
}

#[test]
fn what_pods_use() {
    let cluster = Cluster::start();
    let out = cluster.choreo(&["top", "greeter"]).ok();
    let lines: Vec<Vec<&str>> = out
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines,
        [
            vec!["COMPONENT", "POD", "CPU", "MEMORY"],
            vec!["greeter", "greeter-1", "2m", "10Mi"],
        ]
    );
    assert_eq!(cluster.choreo(&["top"]).ok(), out);
}
