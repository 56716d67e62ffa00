//! Which backend a request reaches, over which protocol.

use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Cluster, GRPC_ROUTE, HTTP_ROUTE, Server, backend_ref, text};

#[tokio::test]
async fn the_most_specific_match_wins() {
    let cluster = Cluster::start().await;
    let (a, b, c, d) = (
        Server::echo("exact").await,
        Server::echo("long").await,
        Server::echo("method").await,
        Server::echo("any").await,
    );
    for (name, server) in [("exact", &a), ("long", &b), ("method", &c), ("any", &d)] {
        cluster.service(name, &[server]).await;
    }
    cluster
        .route("web", json!([
            {"backendRefs": [backend_ref("any")]},
            {"matches": [{"path": {"type": "PathPrefix", "value": "/a/b"}}], "backendRefs": [backend_ref("long")]},
            {"matches": [{"path": {"type": "PathPrefix", "value": "/a/b"}, "method": "PUT"}], "backendRefs": [backend_ref("method")]},
            {"matches": [{"path": {"type": "Exact", "value": "/a/b/c"}}], "backendRefs": [backend_ref("exact")]},
        ]))
        .await;
    for (method, path, expected) in [
        ("GET", "/a/b/c", "exact"),
        ("GET", "/a/b/c/d", "long"),
        ("GET", "/a/bc", "any"),
        ("PUT", "/a/b", "method"),
        ("PUT", "/a/b/c", "exact"),
        ("GET", "/", "any"),
    ] {
        let reply = cluster
            .send("web", Request::builder().method(method).uri(path))
            .await;
        assert_eq!(reply.seen()["name"], expected, "{method} {path}");
    }
    assert_eq!(cluster.get("other", "/").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn headers_and_query_parameters_choose() {
    let cluster = Cluster::start().await;
    let (a, b) = (Server::echo("plain").await, Server::echo("tester").await);
    cluster.service("plain", &[&a]).await;
    cluster.service("tester", &[&b]).await;
    cluster
        .route("web", json!([
            {"backendRefs": [backend_ref("plain")]},
            {"matches": [{"headers": [{"name": "X-Tester", "value": "yes"}]}, {"queryParams": [{"name": "try", "value": "[0-9]+", "type": "RegularExpression"}]}],
             "backendRefs": [backend_ref("tester")]},
        ]))
        .await;
    let name =
        async |request: http::request::Builder| cluster.send("web", request).await.seen()["name"].clone();
    assert_eq!(name(Request::get("/")).await, "plain");
    assert_eq!(name(Request::get("/").header("x-tester", "yes")).await, "tester");
    assert_eq!(name(Request::get("/").header("x-tester", "yesno")).await, "plain");
    assert_eq!(name(Request::get("/?try=12")).await, "tester");
    assert_eq!(name(Request::get("/?try=x")).await, "plain");
}

#[tokio::test]
async fn weights_are_shares_of_requests() {
    let cluster = Cluster::start().await;
    let (a, b) = (Server::echo("stable").await, Server::echo("canary").await);
    cluster.service("stable", &[&a]).await;
    cluster.service("canary", &[&b]).await;
    cluster
        .route("web", json!([{"backendRefs": [{"name": "stable", "port": 80, "weight": 90}, {"name": "canary", "port": 80, "weight": 10}]}]))
        .await;
    let mut canary = 0;
    for _ in 0..600 {
        if cluster.get("web", "/").await.seen()["name"] == "canary" {
            canary += 1;
        }
    }
    // 60 are expected, with a standard deviation of 7.3; this is more than 4 of them on either side.
    assert!((30..=90).contains(&canary), "{canary} of 600");
}

#[tokio::test]
async fn requests_are_spread_over_replicas() {
    let cluster = Cluster::start().await;
    let servers = [
        Server::echo("1").await,
        Server::echo("2").await,
        Server::echo("3").await,
    ];
    cluster
        .service("web", &[&servers[0], &servers[1], &servers[2]])
        .await;
    cluster
        .route("web", json!([{"backendRefs": [backend_ref("web")]}]))
        .await;
    let mut counts = std::collections::BTreeMap::new();
    for _ in 0..60 {
        *counts
            .entry(cluster.get("web", "/").await.seen()["name"].to_string())
            .or_insert(0) += 1;
    }
    assert_eq!(counts.len(), 3);
    assert!(counts.values().all(|count| *count >= 10), "{counts:?}");
}

#[tokio::test]
async fn one_connection_carries_requests_of_several_hosts() {
    let cluster = Cluster::start().await;
    let (a, b) = (Server::echo("a").await, Server::echo("b").await);
    cluster.service("a", &[&a]).await;
    cluster.service("b", &[&b]).await;
    cluster
        .route("a", json!([{"backendRefs": [backend_ref("a")]}]))
        .await;
    cluster
        .route("b", json!([{"backendRefs": [backend_ref("b")]}]))
        .await;
    let stream = TcpStream::connect(("127.0.0.1", cluster.ports.http))
        .await
        .unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    let driver = tokio::spawn(connection);
    for host in ["a", "b", "a"] {
        let request = Request::get("/").header("host", format!("{host}.localhost:{}", cluster.ports.http));
        let response = sender
            .send_request(request.body(Empty::<bytes::Bytes>::new()).unwrap())
            .await
            .unwrap();
        assert_eq!(crate::support::Reply::of(response).await.seen()["name"], host);
    }
    driver.abort();
}

#[tokio::test]
async fn web_sockets_are_passed_on_after_the_upgrade() {
    let cluster = Cluster::start().await;
    let server = Server::http(|mut request| {
        Box::pin(async move {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut stream = TokioIo::new(upgrade.await.unwrap());
                let mut bytes = [0; 4];
                stream.read_exact(&mut bytes).await.unwrap();
                bytes.reverse();
                stream.write_all(&bytes).await.unwrap();
                stream.shutdown().await.unwrap();
            });
            assert_eq!(request.headers()["sec-websocket-key"], "dGhlIHNhbXBsZSBub25jZQ==");
            http::Response::builder()
                .status(101)
                .header("connection", "upgrade")
                .header("upgrade", "websocket")
                .header("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
                .body(text(""))
                .unwrap()
        })
    })
    .await;
    cluster.service("chat", &[&server]).await;
    cluster
        .route("chat", json!([{"backendRefs": [backend_ref("chat")]}]))
        .await;
    let mut stream = TcpStream::connect(("127.0.0.1", cluster.ports.http))
        .await
        .unwrap();
    let head = "GET /socket HTTP/1.1\r\nhost: chat.localhost\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\
                sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap().to_lowercase();
    assert!(answer.starts_with("http/1.1 101"), "{answer}");
    assert!(
        answer.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="),
        "{answer}"
    );
    stream.write_all(b"ping").await.unwrap();
    let mut echoed = String::new();
    stream.read_to_string(&mut echoed).await.unwrap();
    assert_eq!(echoed, "gnip");
}

#[tokio::test]
async fn grpc_goes_over_http2_with_its_trailers() {
    let cluster = Cluster::start().await;
    let server = Server::http(|request| {
        Box::pin(async move {
            assert_eq!(request.version(), http::Version::HTTP_2);
            assert_eq!(request.headers()["te"], "trailers");
            let path = request.uri().path().to_owned();
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let trailers =
                http::HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
            let frames = [
                Ok(http_body::Frame::data(body)),
                Ok(http_body::Frame::data(path.into())),
                Ok(http_body::Frame::trailers(trailers)),
            ];
            http::Response::builder()
                .header("content-type", "application/grpc")
                .body(StreamBody::new(futures::stream::iter(frames)).boxed())
                .unwrap()
        })
    })
    .await;
    cluster.service("carts", &[&server]).await;
    cluster
        .create(
            GRPC_ROUTE,
            "carts",
            json!({"parentRefs": [{"name": "public"}], "hostnames": ["carts.localhost"], "rules": [
            {"matches": [{"method": {"service": "shop.v1.Carts"}}], "backendRefs": [backend_ref("carts")]}]}),
        )
        .await;
    cluster.accepted(GRPC_ROUTE, "carts").await;
    let stream = TcpStream::connect(("127.0.0.1", cluster.ports.http))
        .await
        .unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let driver = tokio::spawn(connection);
    let mut call = async |path: &str| {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://carts.localhost{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(http_body_util::Full::new(bytes::Bytes::from_static(b"message")))
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        let head = response.headers().get("grpc-status").cloned();
        let collected = response.into_body().collect().await.unwrap();
        let trailers = collected
            .trailers()
            .and_then(|trailers| trailers.get("grpc-status").cloned());
        (
            head.or(trailers),
            String::from_utf8(collected.to_bytes().to_vec()).unwrap(),
        )
    };
    let (status, body) = call("/shop.v1.Carts/Get").await;
    assert_eq!(
        (status.unwrap(), body.as_str()),
        ("0".parse().unwrap(), "message/shop.v1.Carts/Get")
    );
    // What no route is about is `UNIMPLEMENTED`.
    let (status, _) = call("/shop.v1.Items/Get").await;
    assert_eq!(status.unwrap(), "12");
    driver.abort();
}

#[tokio::test]
async fn bodies_are_streamed_in_both_directions() {
    let cluster = Cluster::start().await;
    let server = Server::http(|request| {
        // Answers each chunk as it comes.
        Box::pin(async move {
            let frames = futures::stream::unfold(request.into_body(), |mut body| async move {
                let frame = body.frame().await?.unwrap();
                Some((Ok(frame), body))
            });
            http::Response::new(StreamBody::new(frames).boxed())
        })
    })
    .await;
    cluster.service("stream", &[&server]).await;
    cluster
        .route("stream", json!([{"backendRefs": [backend_ref("stream")]}]))
        .await;
    let stream = TcpStream::connect(("127.0.0.1", cluster.ports.http))
        .await
        .unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let driver = tokio::spawn(connection);
    let (chunks, receiver) = tokio::sync::mpsc::channel::<&'static [u8]>(1);
    let body = futures::stream::unfold(receiver, |mut receiver| async move {
        let chunk = receiver.recv().await?;
        Some((
            Ok::<_, std::convert::Infallible>(http_body::Frame::data(bytes::Bytes::from_static(chunk))),
            receiver,
        ))
    });
    let request = Request::post("http://stream.localhost/")
        .body(StreamBody::new(Box::pin(body)))
        .unwrap();
    let sending = sender.send_request(request);
    chunks.send(b"one").await.unwrap();
    let mut body = sending.await.unwrap().into_body();
    for chunk in [&b"two"[..], b"three"] {
        let before = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(!before.is_empty());
        chunks.send(chunk).await.unwrap();
    }
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "three");
    drop(chunks);
    assert!(body.collect().await.unwrap().to_bytes().is_empty());
    driver.abort();
}

#[tokio::test]
async fn a_more_specific_host_goes_first_and_leaves_the_rest_to_others() {
    let cluster = Cluster::start().await;
    let (a, b) = (Server::echo("wild").await, Server::echo("own").await);
    cluster.service("wild", &[&a]).await;
    cluster.service("own", &[&b]).await;
    let route = |hosts: serde_json::Value, rules: serde_json::Value| json!({"parentRefs": [{"name": "public"}], "hostnames": hosts, "rules": rules});
    cluster
        .create(
            HTTP_ROUTE,
            "wild",
            route(
                json!(["*.shop.localhost"]),
                json!([{"backendRefs": [backend_ref("wild")]}]),
            ),
        )
        .await;
    cluster
        .create(HTTP_ROUTE, "own", route(json!(["a.shop.localhost"]), json!([
            {"matches": [{"path": {"type": "PathPrefix", "value": "/own"}}], "backendRefs": [backend_ref("own")]}])))
        .await;
    cluster.accepted(HTTP_ROUTE, "wild").await;
    cluster.accepted(HTTP_ROUTE, "own").await;
    assert_eq!(cluster.get("a.shop", "/own/x").await.seen()["name"], "own");
    assert_eq!(cluster.get("a.shop", "/else").await.seen()["name"], "wild");
    assert_eq!(cluster.get("b.c.shop", "/own").await.seen()["name"], "wild");
    assert_eq!(cluster.get("shop", "/").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn malformed_requests_are_refused() {
    let cluster = Cluster::start().await;
    let server = Server::echo("web").await;
    cluster.service("web", &[&server]).await;
    cluster
        .route("web", json!([{"backendRefs": [backend_ref("web")]}]))
        .await;
    let ask = async |bytes: &[u8]| {
        let mut stream = TcpStream::connect(("127.0.0.1", cluster.ports.http))
            .await
            .unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let mut chunk = [0; 4096];
        // The head is enough; some of these connections stay open.
        while !String::from_utf8_lossy(&answer).contains("\r\n\r\n") {
            match stream.read(&mut chunk).await {
                Ok(0) | Err(_) => break,
                Ok(read) => answer.extend_from_slice(&chunk[..read]),
            }
        }
        String::from_utf8_lossy(&answer).into_owned()
    };
    let status = |answer: &str| answer.split(' ').nth(1).map(str::to_owned);
    for (name, request) in [
        ("no host", "GET / HTTP/1.1\r\n\r\n"),
        (
            "two hosts",
            "GET / HTTP/1.1\r\nhost: web.localhost\r\nhost: other.localhost\r\n\r\n",
        ),
        (
            "two lengths",
            "POST / HTTP/1.1\r\nhost: web.localhost\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        ),
        (
            "bad length",
            "POST / HTTP/1.1\r\nhost: web.localhost\r\ncontent-length: +5\r\n\r\nhello",
        ),
        (
            "chunked not last",
            "POST / HTTP/1.1\r\nhost: web.localhost\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        ),
        (
            "space before colon",
            "GET / HTTP/1.1\r\nhost : web.localhost\r\n\r\n",
        ),
        (
            "above the root",
            "GET /../../etc/passwd HTTP/1.1\r\nhost: web.localhost\r\n\r\n",
        ),
        (
            "a path in host",
            "GET / HTTP/1.1\r\nhost: web.localhost/..\r\n\r\n",
        ),
        ("user in host", "GET / HTTP/1.1\r\nhost: a@web.localhost\r\n\r\n"),
    ] {
        let answer = ask(request.as_bytes()).await;
        assert_eq!(status(&answer).as_deref(), Some("400"), "{name}: {answer}");
    }
    // Of both a length and chunks, the chunks count, and the backend is told of one only.
    let both = "POST /one HTTP/1.1\r\nhost: web.localhost\r\ncontent-length: 40\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let answer = ask(both.as_bytes()).await;
    if status(&answer).as_deref() == Some("200") {
        assert!(
            answer.contains(r#""body":"abc""#) && !answer.contains("content-length\":\"40"),
            "{answer}"
        );
    } else {
        assert_eq!(status(&answer).as_deref(), Some("400"), "{answer}");
    }
    let many: String = (0..200).map(|i| format!("x-{i}: 1\r\n")).collect();
    let answer = ask(format!("GET / HTTP/1.1\r\nhost: web.localhost\r\n{many}\r\n").as_bytes()).await;
    assert_eq!(status(&answer).as_deref(), Some("431"), "{answer}");
    let long = "a".repeat(100_000);
    let answer = ask(format!("GET / HTTP/1.1\r\nhost: web.localhost\r\nx: {long}\r\n\r\n").as_bytes()).await;
    assert_eq!(status(&answer).as_deref(), Some("431"), "{answer}");
}
