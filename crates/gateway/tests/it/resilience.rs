//! What happens when backends fail, are slow, or change under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use choreo_gateway::Refuse;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::support::{Cluster, HTTP_ROUTE, Server, TRAFFIC, backend_ref, text};

/// Requests that were answered.
type Answered = Arc<AtomicUsize>;

/// Asks over one kept connection until told to stop. How many answers there were, and those that were no 200.
fn load(
    cluster: &Cluster,
    stop: &Arc<AtomicBool>,
    answered: &Answered,
    host: &'static str,
) -> tokio::task::JoinHandle<(usize, Vec<String>)> {
    let (port, stop, answered) = (cluster.ports.http, Arc::clone(stop), Arc::clone(answered));
    tokio::spawn(async move {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        let driver = tokio::spawn(connection);
        let (mut count, mut bad) = (0, Vec::new());
        while !stop.load(Ordering::SeqCst) {
            let request = Request::get("/")
                .header("host", format!("{host}.localhost"))
                .body(Empty::<Bytes>::new())
                .unwrap();
            let response = sender.send_request(request).await.unwrap();
            let status = response.status();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            count += 1;
            answered.fetch_add(1, Ordering::SeqCst);
            if status != StatusCode::OK {
                bad.push(format!("{status} {}", String::from_utf8_lossy(&body)));
            }
        }
        driver.abort();
        (count, bad)
    })
}

/// Waits until so many more requests were answered.
async fn after(answered: &Answered, more: usize) {
    let enough = answered.load(Ordering::SeqCst) + more;
    while answered.load(Ordering::SeqCst) < enough {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_update_fails_no_request() {
    let cluster = Cluster::start().await;
    let mut servers = vec![Server::echo("web").await, Server::echo("web").await];
    let mut addresses = cluster.service("web", &[&servers[0], &servers[1]]).await;
    cluster
        .route("web", json!([{"backendRefs": [backend_ref("web")]}]))
        .await;
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Answered::default();
    let loads: Vec<_> = (0..4).map(|_| load(&cluster, &stop, &answered, "web")).collect();
    for _ in 0..10 {
        after(&answered, 20).await;
        // A new pod comes, an old one goes: the slice is told, and the pod ends at once, whether or not the gateway has seen it.
        let server = Server::echo("web").await;
        addresses.push(cluster.pod(server.address));
        servers.push(server);
        cluster.endpoints("web", &addresses).await;
        addresses.remove(0);
        cluster.endpoints("web", &addresses).await;
        drop(servers.remove(0));
    }
    after(&answered, 20).await;
    stop.store(true, Ordering::SeqCst);
    let mut total = 0;
    for load in loads {
        let (count, bad) = load.await.unwrap();
        assert!(
            bad.is_empty(),
            "{} of {count} failed: {:?}",
            bad.len(),
            &bad[..bad.len().min(3)]
        );
        total += count;
    }
    assert!(total >= 200, "{total}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_are_replaced_under_load() {
    let cluster = Cluster::start().await;
    let server = Server::echo("web").await;
    cluster.service("web", &[&server]).await;
    cluster
        .route("web", json!([{"backendRefs": [backend_ref("web")]}]))
        .await;
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Answered::default();
    let loads: Vec<_> = (0..2).map(|_| load(&cluster, &stop, &answered, "web")).collect();
    for i in 0..20 {
        after(&answered, 5).await;
        let name = format!("other-{i}");
        cluster
            .route(&name, json!([{"backendRefs": [backend_ref("web")]}]))
            .await;
        cluster.patch(HTTP_ROUTE, "web", json!({"spec": {"rules": [{"backendRefs": [backend_ref("web")], "timeouts": {"request": format!("{}s", i + 1)}}]}})).await;
        cluster.accepted(HTTP_ROUTE, "web").await;
    }
    stop.store(true, Ordering::SeqCst);
    for load in loads {
        let (count, bad) = load.await.unwrap();
        assert!(bad.is_empty() && count > 0, "{count} {bad:?}");
    }
}

#[tokio::test]
async fn a_stream_goes_on_when_its_endpoint_and_route_are_gone() {
    let cluster = Cluster::start().await;
    let gate = Arc::new(Semaphore::new(0));
    let open = Arc::clone(&gate);
    let server = Server::http(move |_| {
        let gate = Arc::clone(&open);
        Box::pin(async move {
            let frames = futures::stream::unfold((0, gate), |(i, gate)| async move {
                if i == 3 {
                    return None;
                }
                gate.acquire().await.unwrap().forget();
                Some((
                    Ok(http_body::Frame::data(Bytes::from(format!("{i}\n")))),
                    (i + 1, gate),
                ))
            });
            http::Response::new(StreamBody::new(Box::pin(frames)).boxed())
        })
    })
    .await;
    cluster.service("web", &[&server]).await;
    cluster
        .route("web", json!([{"backendRefs": [backend_ref("web")]}]))
        .await;
    let stream = TcpStream::connect(("127.0.0.1", cluster.ports.http))
        .await
        .unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    let driver = tokio::spawn(connection);
    let request = Request::get("/")
        .header("host", "web.localhost")
        .body(Empty::<Bytes>::new())
        .unwrap();
    gate.add_permits(1);
    let mut body = sender.send_request(request).await.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "0\n");
    cluster.endpoints("web", &[]).await;
    cluster.delete(HTTP_ROUTE, "web").await;
    cluster
        .eventually("web", "/", |reply| reply.status == StatusCode::NOT_FOUND)
        .await;
    gate.add_permits(2);
    let rest = body.collect().await.unwrap().to_bytes();
    assert_eq!(rest, "1\n2\n");
    driver.abort();
}

#[tokio::test]
async fn without_endpoints_or_reachable_ones_the_answer_is_503() {
    let cluster = Cluster::start().await;
    cluster.service("web", &[]).await;
    cluster
        .route("web", json!([{"backendRefs": [backend_ref("web")]}]))
        .await;
    let reply = cluster.get("web", "/").await;
    assert_eq!(
        (reply.status, reply.body.as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, "no healthy upstream")
    );
    let gone = Server::echo("gone").await;
    let address = cluster.pod(gone.address);
    drop(gone);
    cluster.endpoints("web", &[address]).await;
    cluster
        .eventually("web", "/", |reply| {
            reply.body.contains("remote connection failure")
        })
        .await;
}

#[tokio::test]
async fn simulated_pods_say_so() {
    let cluster = Cluster::bare(Arc::new(Refuse("pods are simulated here".to_owned()))).await;
    cluster.gateway().await;
    let server = Server::echo("web").await;
    cluster.service("web", &[&server]).await;
    cluster
        .route("web", json!([{"backendRefs": [backend_ref("web")]}]))
        .await;
    let reply = cluster.get("web", "/").await;
    assert_eq!(
        (reply.status, reply.body.as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, "pods are simulated here")
    );
}

/// A server that fails the first `count` requests with a status.
async fn failing(count: usize, status: u16) -> (Server, Arc<AtomicUsize>) {
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&seen);
    let server = Server::http(move |request| {
        let i = counter.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let status = if i < count { status } else { 200 };
            http::Response::builder().status(status).body(text(body)).unwrap()
        })
    })
    .await;
    (server, seen)
}

#[tokio::test]
async fn retries_are_those_that_were_asked_for() {
    let cluster = Cluster::start().await;
    let (server, seen) = failing(2, 503).await;
    cluster.service("web", &[&server]).await;
    cluster
        .route("web", json!([{"backendRefs": [backend_ref("web")]}]))
        .await;
    assert_eq!(
        cluster.get("web", "/").await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(seen.swap(0, Ordering::SeqCst), 1);
    let retry =
        json!({"numRetries": 3, "perRetry": {"backOff": {"baseInterval": "1ms", "maxInterval": "2ms"}}});
    cluster.policy(TRAFFIC, "web", json!({"retry": retry})).await;
    // The body is sent again as it was.
    let reply = cluster
        .send_body("web", Request::post("/"), Bytes::from_static(b"again"))
        .await;
    assert_eq!((reply.status, reply.body.as_str()), (StatusCode::OK, "again"));
    assert_eq!(seen.load(Ordering::SeqCst), 3);
    // Another status is no reason.
    let (server, seen) = failing(1, 500).await;
    let address = cluster.pod(server.address);
    cluster.endpoints("web", &[address]).await;
    cluster
        .eventually("web", "/", |_| seen.load(Ordering::SeqCst) > 0)
        .await;
    assert_eq!(seen.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn attempts_and_requests_end_in_time() {
    let cluster = Cluster::start().await;
    let slow = Server::http(|_| Box::pin(std::future::pending())).await;
    cluster.service("web", &[&slow]).await;
    cluster
        .route(
            "web",
            json!([{"backendRefs": [backend_ref("web")], "timeouts": {"request": "100ms"}}]),
        )
        .await;
    let began = Instant::now();
    let reply = cluster.get("web", "/").await;
    assert_eq!(
        (reply.status, reply.body.as_str()),
        (StatusCode::GATEWAY_TIMEOUT, "upstream request timeout")
    );
    assert!(began.elapsed() >= Duration::from_millis(100));
    // One attempt is cut, and the next goes to another endpoint.
    let good = Server::echo("good").await;
    let (bad, good_address) = (cluster.pod(slow.address), cluster.pod(good.address));
    cluster.endpoints("web", &[bad, good_address]).await;
    let retry = json!({"numRetries": 1, "retryOn": {"triggers": ["reset"]}, "perRetry": {"timeout": "50ms", "backOff": {"baseInterval": "1ms"}}});
    cluster
        .policy(
            TRAFFIC,
            "web",
            json!({"retry": retry, "timeout": {"http": {"requestTimeout": "10s"}}}),
        )
        .await;
    for _ in 0..4 {
        assert_eq!(cluster.get("web", "/").await.seen()["name"], "good");
    }
}

#[tokio::test]
async fn an_upload_takes_as_long_as_it_takes() {
    let cluster = Cluster::start().await;
    let server = Server::echo("web").await;
    cluster.service("web", &[&server]).await;
    let rule = json!([{"backendRefs": [backend_ref("web")], "timeouts": {"request": "100ms"}}]);
    cluster.route("web", rule).await;
    let stream = TcpStream::connect(("127.0.0.1", cluster.ports.http))
        .await
        .unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    let driver = tokio::spawn(connection);
    // The pause is longer than the whole request may take once it has come.
    let chunks = futures::stream::unfold(0, |i| async move {
        if i == 2 {
            return None;
        }
        if i == 1 {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        let frame = http_body::Frame::data(Bytes::from(format!("{i}")));
        Some((Ok::<_, std::convert::Infallible>(frame), i + 1))
    });
    let request = Request::post("/")
        .header("host", "web.localhost")
        .body(StreamBody::new(Box::pin(chunks)))
        .unwrap();
    let reply = crate::support::Reply::of(sender.send_request(request).await.unwrap()).await;
    assert_eq!(
        (reply.status, reply.seen()["body"].as_str()),
        (StatusCode::OK, Some("01"))
    );
    driver.abort();
}

#[tokio::test]
async fn an_answer_that_does_not_end_in_time_is_cut() {
    let cluster = Cluster::start().await;
    let server = Server::http(|_| {
        Box::pin(async {
            let frames =
                futures::stream::once(async { Ok(http_body::Frame::data(Bytes::from_static(b"begin"))) });
            let frames = futures::StreamExt::chain(frames, futures::stream::pending());
            http::Response::new(StreamBody::new(Box::pin(frames)).boxed())
        })
    })
    .await;
    cluster.service("web", &[&server]).await;
    cluster
        .route(
            "web",
            json!([{"backendRefs": [backend_ref("web")], "timeouts": {"request": "200ms"}}]),
        )
        .await;
    let stream = TcpStream::connect(("127.0.0.1", cluster.ports.http))
        .await
        .unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    let driver = tokio::spawn(connection);
    let request = Request::get("/")
        .header("host", "web.localhost")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let body = sender.send_request(request).await.unwrap().into_body();
    assert!(body.collect().await.is_err());
    driver.abort();
}

#[tokio::test]
async fn the_breaker_refuses_instead_of_queueing() {
    let cluster = Cluster::start().await;
    let gate = Arc::new(Semaphore::new(0));
    let inside = Arc::clone(&gate);
    let (arrived, mut arrivals) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::http(move |_| {
        let (gate, arrived) = (Arc::clone(&inside), arrived.clone());
        Box::pin(async move {
            arrived.send(()).unwrap();
            gate.acquire().await.unwrap().forget();
            http::Response::new(text("done"))
        })
    })
    .await;
    cluster.service("web", &[&server]).await;
    cluster
        .route("web", json!([{"backendRefs": [backend_ref("web")]}]))
        .await;
    cluster
        .policy(
            TRAFFIC,
            "web",
            json!({"circuitBreaker": {"maxParallelRequests": 2}}),
        )
        .await;
    let cluster = Arc::new(cluster);
    let ask = || {
        let cluster = Arc::clone(&cluster);
        tokio::spawn(async move { cluster.get("web", "/").await })
    };
    let waiting = [ask(), ask()];
    arrivals.recv().await.unwrap();
    arrivals.recv().await.unwrap();
    let reply = cluster.get("web", "/").await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(reply.headers["x-envoy-overloaded"], "true");
    assert!(reply.body.ends_with("reset reason: overflow"), "{}", reply.body);
    gate.add_permits(2);
    for one in waiting {
        assert_eq!(one.await.unwrap().status, StatusCode::OK);
    }
    gate.add_permits(1);
    assert_eq!(cluster.get("web", "/").await.status, StatusCode::OK);
}
