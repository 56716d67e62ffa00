//! TCP and UDP listeners.

use std::net::Ipv4Addr;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use crate::support::{Cluster, SECURITY, Server, TCP_ROUTE, UDP_ROUTE, backend_ref, condition};

async fn echoing() -> Server {
    Server::raw(|mut stream| {
        Box::pin(async move {
            let (mut read, mut write) = stream.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
        })
    })
    .await
}

async fn exchange(port: u16) -> Vec<u8> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    let _ = stream.write_all(b"hello").await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    answer
}

#[tokio::test]
async fn a_tcp_listener_leads_to_its_route_and_to_allowed_addresses_only() {
    let cluster = Cluster::start().await;
    let server = echoing().await;
    cluster.service("db", &[&server]).await;
    assert_eq!(exchange(cluster.ports.tcp).await, b"");
    cluster
        .create(TCP_ROUTE, "db", json!({"parentRefs": [{"name": "public", "sectionName": "tcp"}], "rules": [{"backendRefs": [backend_ref("db")]}]}))
        .await;
    cluster.accepted(TCP_ROUTE, "db").await;
    assert_eq!(exchange(cluster.ports.tcp).await, b"hello");
    let policy = |network: &str| {
        json!({
        "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "TCPRoute", "name": "db"}],
        "authorization": {"defaultAction": "Allow", "rules": [{"action": "Deny", "principal": {"clientCIDRs": [network]}}]}})
    };
    cluster.create(SECURITY, "db", policy("127.0.0.0/8")).await;
    cluster
        .until(SECURITY, "db", |policy| {
            condition(policy, "ancestors", "Accepted") == Some("True".into())
        })
        .await;
    assert_eq!(exchange(cluster.ports.tcp).await, b"");
    // What only requests have closes a route of connections.
    cluster
        .patch(
            SECURITY,
            "db",
            json!({"spec": {"authorization": null, "cors": {"allowOrigins": ["*"]}}}),
        )
        .await;
    cluster
        .until(SECURITY, "db", |policy| {
            condition(policy, "ancestors", "Accepted") == Some("False".into())
        })
        .await;
    assert_eq!(exchange(cluster.ports.tcp).await, b"");
}

#[tokio::test]
async fn datagrams_go_to_the_backend_and_answers_back() {
    let cluster = Cluster::start().await;
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = server.local_addr().unwrap().port();
    let answering = tokio::spawn(async move {
        let mut buffer = [0; 64];
        loop {
            let (length, from) = server.recv_from(&mut buffer).await.unwrap();
            buffer[..length].reverse();
            server.send_to(&buffer[..length], from).await.unwrap();
        }
    });
    // Datagrams are sent from this host, so that the endpoint is a server outside.
    cluster
        .create(
            crate::support::BACKEND,
            "dns",
            json!({"endpoints": [{"ip": {"address": "127.0.0.1", "port": port}}]}),
        )
        .await;
    cluster
        .create(UDP_ROUTE, "dns", json!({"parentRefs": [{"name": "public", "sectionName": "udp"}],
            "rules": [{"backendRefs": [{"group": "gateway.envoyproxy.io", "kind": "Backend", "name": "dns"}]}]}))
        .await;
    cluster.accepted(UDP_ROUTE, "dns").await;
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    client
        .connect((Ipv4Addr::LOCALHOST, cluster.ports.udp))
        .await
        .unwrap();
    let mut buffer = [0; 64];
    for (sent, expected) in [("abc", "cba"), ("de", "ed")] {
        client.send(sent.as_bytes()).await.unwrap();
        let length = client.recv(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..length], expected.as_bytes());
    }
    answering.abort();
}
