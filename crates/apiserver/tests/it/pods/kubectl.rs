//! kubectl as a process, with WebSockets and with SPDY.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;

use super::{ECHO, Pods};
use crate::kubectl::Kubectl;

/// What kubectl speaks: WebSockets, which is the default since 1.31, or SPDY as before.
const TRANSPORTS: [bool; 2] = [true, false];

async fn start() -> Option<Pods> {
    if Kubectl::is_there().await {
        Some(Pods::start().await)
    } else {
        None
    }
}

fn command(pods: &Pods, args: &[&str], websockets: bool) -> Command {
    let mut command = pods.served.command("--namespace=default");
    command
        .args(args)
        .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets.to_string())
        .env("KUBECTL_PORT_FORWARD_WEBSOCKETS", websockets.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

#[tokio::test]
async fn logs() {
    let Some(pods) = start().await else { return };
    pods.served
        .says(&[
            ("logs p", &["first"]),
            ("logs two -c a --tail=5 --timestamps", &["first"]),
            ("logs -l app=p --prefix", &["[pod/p/main] first"]),
        ])
        .await;
    let why = "container \"main\" in pod \"waits\" is waiting to start: trying and failing to pull image";
    pods.served.refuses("logs waits", why).await;
    pods.served
        .refuses(
            "logs p --previous",
            "previous terminated container \"main\" in pod \"p\" not found",
        )
        .await;
}

#[tokio::test]
async fn exec_with_input_outputs_and_an_exit_code() {
    let Some(pods) = start().await else { return };
    for websockets in TRANSPORTS {
        let args = [
            "exec",
            "-i",
            "p",
            "--",
            "sh",
            "-c",
            "cat; echo problem >&2; exit 5",
        ];
        let mut process = command(&pods, &args, websockets).spawn().unwrap();
        let sent = "0123456789abcde\n".repeat(64 * 1024);
        let mut stdin = process.stdin.take().unwrap();
        let sending = {
            let sent = sent.clone();
            tokio::spawn(async move { stdin.write_all(sent.as_bytes()).await.unwrap() })
        };
        let output = process.wait_with_output().await.unwrap();
        sending.await.unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.stdout == sent.as_bytes(),
            "{} bytes: {stderr}",
            output.stdout.len()
        );
        assert_eq!(stderr, "problem\ncommand terminated with exit code 5\n");
        assert_eq!(output.status.code(), Some(5), "websockets: {websockets}");
        pods.left(0).await;
    }
}

#[tokio::test]
async fn commands_that_are_refused_say_why() {
    let Some(pods) = start().await else { return };
    for websockets in TRANSPORTS {
        for (args, part) in [
            (
                &["exec", "unreachable", "--", "ls"][..],
                "container \"main\" is not running: it crashed",
            ),
            (
                &["exec", "p", "--", "no-such-program"],
                "No such file or directory",
            ),
            (
                &["exec", "two", "-c", "c", "--", "ls"],
                "container c is not valid for pod two",
            ),
        ] {
            let output = command(&pods, args, websockets).output().await.unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(
                !output.status.success() && stderr.contains(part),
                "{args:?}: {stderr}"
            );
        }
    }
}

#[tokio::test]
async fn attach() {
    let Some(pods) = start().await else { return };
    for websockets in TRANSPORTS {
        let mut process = command(&pods, &["attach", "-i", "p"], websockets)
            .spawn()
            .unwrap();
        let mut stdin = process.stdin.take().unwrap();
        stdin.write_all(b"there and back\n").await.unwrap();
        drop(stdin);
        let output = process.wait_with_output().await.unwrap();
        assert!(output.stdout.ends_with(b"there and back\n"), "{output:?}");
    }
}

/// `kubectl cp` runs tar in the container.
#[tokio::test]
async fn files_are_copied_both_ways() {
    let Some(pods) = start().await else { return };
    let content: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    std::fs::write(pods.served.folder.path().join("there"), &content).unwrap();
    for websockets in TRANSPORTS {
        for args in [["cp", "there", "p:copied"], ["cp", "p:copied", "back"]] {
            let output = command(&pods, &args, websockets).output().await.unwrap();
            assert!(output.status.success(), "{args:?}: {output:?}");
        }
        for path in [
            pods.fake.folder.join("copied"),
            pods.served.folder.path().join("back"),
        ] {
            assert!(std::fs::read(&path).unwrap() == content, "{}", path.display());
            std::fs::remove_file(path).unwrap();
        }
    }
}

#[tokio::test]
async fn ports_are_forwarded_for_many_connections() {
    let Some(pods) = start().await else { return };
    for websockets in TRANSPORTS {
        let ports = format!(":{ECHO}");
        let mut process = command(&pods, &["port-forward", "p", &ports, ":9"], websockets)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut local = Vec::new();
        while local.len() < 2 {
            let line = lines
                .next_line()
                .await
                .unwrap()
                .expect("kubectl says where it listens");
            // It listens on both loopback addresses where there are two.
            if let Some(rest) = line.strip_prefix("Forwarding from 127.0.0.1:") {
                local.push(rest.split(' ').next().unwrap().parse::<u16>().unwrap());
            }
        }
        let content: Vec<u8> = (0..=255).cycle().take(512 * 1024).collect();
        let connections = (0..8).map(|_| async {
            let stream = TcpStream::connect(("127.0.0.1", local[0])).await.unwrap();
            let (mut read, mut write) = stream.into_split();
            let sent = content.clone();
            let sending = tokio::spawn(async move {
                write.write_all(&sent).await.unwrap();
                write.shutdown().await.unwrap();
            });
            let mut back = Vec::new();
            read.read_to_end(&mut back).await.unwrap();
            sending.await.unwrap();
            assert!(
                back == content,
                "{} bytes came back, websockets: {websockets}",
                back.len()
            );
        });
        futures::future::join_all(connections).await;
        // A port that nobody listens on: the connection ends, and kubectl says why.
        let mut refused = TcpStream::connect(("127.0.0.1", local[1])).await.unwrap();
        let mut nothing = Vec::new();
        let _ = refused.read_to_end(&mut nothing).await;
        assert!(nothing.is_empty());
        let mut errors = BufReader::new(process.stderr.take().unwrap()).lines();
        let why = errors.next_line().await.unwrap().unwrap();
        assert!(why.contains("port 9 is not running: connection refused"), "{why}");
        process.kill().await.unwrap();
    }
}

#[tokio::test]
async fn what_pods_and_nodes_use() {
    let Some(pods) = start().await else { return };
    let node = serde_json::json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"},
        "status": {"capacity": {"cpu": "2", "memory": "2Gi"}, "allocatable": {"cpu": "2", "memory": "2Gi"}},
    });
    let server = &pods.served.server;
    server.post("/api/v1/nodes", node.clone()).await.expect(201);
    server
        .patch("/api/v1/nodes/n1/status", "merge-patch", node)
        .await
        .expect(200);
    pods.served
        .says(&[
            (
                "top pods",
                &["two    251m         65Mi", "p      5m           10Mi"],
            ),
            ("top pods -l app=p --no-headers", &["p     5m    10Mi"]),
            (
                "top pods two --containers",
                &["two   a      250m         64Mi", "two   b      1m           1Mi"],
            ),
            ("top nodes", &["n1     256m         12%      75Mi            3%"]),
            (
                "get --raw /apis/metrics.k8s.io/v1beta1/namespaces/default/pods/p",
                &["\"cpu\":\"5000000n\""],
            ),
            (
                "api-resources --api-group=metrics.k8s.io",
                &["NodeMetrics", "PodMetrics"],
            ),
            ("get pod p", &["1/1", "Running"]),
        ])
        .await;
    pods.served
        .refuses("get pods.metrics.k8s.io x", "pods.metrics.k8s.io \"x\" not found")
        .await;
    let elsewhere = pods.served.run("--context local top pods").await;
    assert!(
        !elsewhere.ok && elsewhere.text.contains("Metrics API not available"),
        "{}",
        elsewhere.text
    );
}
