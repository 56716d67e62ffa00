//! TLS that ends at the gateway, and TLS that goes through it.

use std::sync::Arc;

use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::support::{CLIENT, Cluster, GATEWAY, SECRET, Server, TLS_ROUTE, backend_ref, condition};

async fn connect(
    port: u16,
    authority: &str,
    host: &str,
    alpn: &[&str],
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap())
        .unwrap();
    let mut config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let name = ServerName::try_from(host.to_owned()).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

const BOTH: [&rustls::SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

async fn ask(stream: TlsStream<TcpStream>, host: &str) -> serde_json::Value {
    let request = Request::get(format!("https://{host}/x"))
        .header("host", host)
        .body(Empty::<bytes::Bytes>::new())
        .unwrap();
    let io = TokioIo::new(stream);
    let response = if io.inner().get_ref().1.alpn_protocol() == Some(b"h2") {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io)
                .await
                .unwrap();
        tokio::spawn(connection);
        let mut request = request;
        request.headers_mut().remove("host");
        sender.send_request(request).await.unwrap()
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        let mut request = request;
        *request.uri_mut() = "/x".parse().unwrap();
        sender.send_request(request).await.unwrap()
    };
    assert_eq!(response.status(), 200);
    serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

#[tokio::test]
async fn every_host_has_a_certificate_of_the_local_authority() {
    let cluster = Cluster::start().await;
    let server = Server::echo("web").await;
    cluster.service("web", &[&server]).await;
    cluster
        .route("web", json!([{"backendRefs": [backend_ref("web")]}]))
        .await;
    for alpn in [&["h2", "http/1.1"][..], &["http/1.1"], &[]] {
        let stream = connect(
            cluster.ports.https,
            &cluster.authority,
            "web.localhost",
            alpn,
            &BOTH,
        )
        .await
        .unwrap();
        let seen = ask(stream, "web.localhost").await;
        assert_eq!(seen["headers"]["x-forwarded-proto"], "https");
        assert_eq!(seen["headers"]["host"], "web.localhost", "{alpn:?}");
    }
    // A name that no listener has is not served.
    let error = connect(
        cluster.ports.https,
        &cluster.authority,
        "web.example.com",
        &[],
        &BOTH,
    )
    .await
    .unwrap_err();
    assert!(error.to_string().contains("UnrecognisedName"), "{error}");
}

#[tokio::test]
async fn a_policy_raises_the_version_of_tls() {
    let cluster = Cluster::start().await;
    let server = Server::echo("web").await;
    cluster.service("web", &[&server]).await;
    cluster
        .route("web", json!([{"backendRefs": [backend_ref("web")]}]))
        .await;
    let old = [&rustls::version::TLS12];
    connect(
        cluster.ports.https,
        &cluster.authority,
        "web.localhost",
        &[],
        &old,
    )
    .await
    .unwrap();
    let target = json!([{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "public"}]);
    cluster
        .create(
            CLIENT,
            "strict",
            json!({"targetRefs": target, "tls": {"minVersion": "1.3"}}),
        )
        .await;
    cluster
        .until(CLIENT, "strict", |policy| {
            condition(policy, "ancestors", "Accepted") == Some("True".into())
        })
        .await;
    assert!(
        connect(
            cluster.ports.https,
            &cluster.authority,
            "web.localhost",
            &[],
            &old
        )
        .await
        .is_err()
    );
    let stream = connect(
        cluster.ports.https,
        &cluster.authority,
        "web.localhost",
        &[],
        &BOTH,
    )
    .await
    .unwrap();
    ask(stream, "web.localhost").await;
    // One that cannot be followed closes the listener.
    cluster
        .patch(CLIENT, "strict", json!({"spec": {"tls": {"minVersion": "1.0"}}}))
        .await;
    let policy = cluster
        .until(CLIENT, "strict", |policy| {
            condition(policy, "ancestors", "Accepted") == Some("False".into())
        })
        .await;
    let message = policy["status"]["ancestors"][0]["conditions"][0]["message"]
        .as_str()
        .unwrap();
    assert!(message.contains("spec.tls.minVersion"), "{message}");
    assert!(
        connect(
            cluster.ports.https,
            &cluster.authority,
            "web.localhost",
            &[],
            &BOTH
        )
        .await
        .is_err()
    );
    assert_eq!(cluster.get("web", "/").await.status, 500);
}

fn own_certificate(host: &str) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new([host.to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    (certificate.pem(), key.serialize_pem())
}

#[tokio::test]
async fn a_secret_may_hold_the_certificate() {
    let cluster = Cluster::start().await;
    let server = Server::echo("web").await;
    cluster.service("web", &[&server]).await;
    cluster
        .route("web", json!([{"backendRefs": [backend_ref("web")]}]))
        .await;
    let listener = |found: &serde_json::Value| found["status"]["listeners"][1]["conditions"].clone();
    cluster
        .patch(GATEWAY, "public", json!({"spec": {"listeners": [
            {"name": "http", "port": cluster.ports.http, "protocol": "HTTP", "hostname": "*.localhost"},
            {"name": "https", "port": cluster.ports.https, "protocol": "HTTPS", "hostname": "web.localhost", "tls": {"certificateRefs": [{"name": "own"}]}}]}}))
        .await;
    let resolved = |found: &serde_json::Value| {
        listener(found)
            .as_array()
            .into_iter()
            .flatten()
            .find(|c| c["type"] == "ResolvedRefs")
            .cloned()
    };
    let gateway = cluster
        .until(GATEWAY, "public", |found| {
            resolved(found).is_some_and(|c| c["status"] == "False")
        })
        .await;
    assert_eq!(resolved(&gateway).unwrap()["reason"], "InvalidCertificateRef");
    let (certificate, key) = own_certificate("web.localhost");
    let object = json!({"metadata": {"name": "own"}, "type": "kubernetes.io/tls", "stringData": {"tls.crt": certificate, "tls.key": key}});
    cluster.object(SECRET, "default", object).await;
    cluster
        .until(GATEWAY, "public", |found| {
            resolved(found).is_some_and(|c| c["status"] == "True")
        })
        .await;
    let stream = connect(cluster.ports.https, &certificate, "web.localhost", &[], &BOTH)
        .await
        .unwrap();
    ask(stream, "web.localhost").await;
}

#[tokio::test]
async fn connections_are_passed_through_by_the_name_they_ask_for() {
    let cluster = Cluster::start().await;
    let (certificate, key) = own_certificate("mail.localhost");
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let server = Server::raw(move |stream| {
        let acceptor = acceptor.clone();
        Box::pin(async move {
            let mut stream = acceptor.accept(stream).await.unwrap();
            stream.write_all(b"* OK").await.unwrap();
            let _ = stream.shutdown().await;
        })
    })
    .await;
    cluster.service("mail", &[&server]).await;
    cluster
        .create(TLS_ROUTE, "mail", json!({"parentRefs": [{"name": "public", "sectionName": "tls"}], "hostnames": ["mail.localhost"], "rules": [{"backendRefs": [backend_ref("mail")]}]}))
        .await;
    cluster.accepted(TLS_ROUTE, "mail").await;
    // The certificate is the backend's own: the gateway has not looked inside.
    let mut stream = connect(cluster.ports.tls, &certificate, "mail.localhost", &[], &BOTH)
        .await
        .unwrap();
    let mut greeting = String::new();
    stream.read_to_string(&mut greeting).await.unwrap();
    assert_eq!(greeting, "* OK");
    assert!(
        connect(cluster.ports.tls, &certificate, "other.localhost", &[], &BOTH)
            .await
            .is_err()
    );
}
