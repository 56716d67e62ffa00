//! Serves a router over TLS.
//!
//! One task accepts, one task serves each connection. The number of connections is bounded: past the bound the listener
//! leaves new ones in the kernel's queue, so that a flood slows callers down instead of eating memory. On shutdown no new
//! connection is taken, idle ones are closed, running requests may finish, and streams that would never finish (watches)
//! are ended where they stand, which a client answers by watching again elsewhere.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Request, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tower::ServiceExt;

use crate::authn::{Authenticator, is_open_path, user_of_certificate};
use crate::seldom::Seldom;
use crate::user::UserInfo;

/// The bounds of a server.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// How many connections are served at a time; more wait.
    pub max_connections: usize,
    /// How long a client may take for the TLS handshake.
    pub handshake_timeout: Duration,
    /// How long a client may take to send the headers of an HTTP/1 request.
    pub header_timeout: Duration,
    /// How long running requests may go on after shutdown has begun.
    pub drain_timeout: Duration,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            max_connections: 2048,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(5),
        }
    }
}

/// The TLS settings that new connections get; storing others renews the certificate without a restart.
pub type TlsSettings = Arc<ArcSwap<rustls::ServerConfig>>;

/// Wraps settings for [`serve`].
pub fn tls_settings(config: Arc<rustls::ServerConfig>) -> TlsSettings {
    Arc::new(ArcSwap::new(config))
}

/// Serves `router` on `listener` until `shutdown`, and returns when every connection has ended or
/// [`ServeOptions::drain_timeout`] is over.
///
/// Requests reach the router with [`UserInfo`] as an extension; anonymous ones only on [`is_open_path`] paths, without it.
pub async fn serve(
    listener: TcpListener,
    tls: TlsSettings,
    authenticator: Arc<Authenticator>,
    router: axum::Router,
    options: ServeOptions,
    shutdown: CancellationToken,
) {
    let limit = Arc::new(Semaphore::new(options.max_connections));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        // The permit comes before the connection: at the bound nothing is accepted.
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &limit) => accepted,
        };
        let (stream, peer, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                // Out of descriptors, most likely: give connections time to end instead of spinning.
                tokio::select! {
                    () = shutdown.cancelled() => break,
                    () = tokio::time::sleep(Duration::from_millis(100)) => continue,
                }
            }
        };
        while connections.try_join_next().is_some() {}
        let connection = Connection {
            acceptor: TlsAcceptor::from(tls.load_full()),
            authenticator: Arc::clone(&authenticator),
            router: router.clone(),
            options: options.clone(),
            shutdown: shutdown.clone(),
        };
        connections.spawn(connection.run(stream, peer, permit, graceful.watcher()));
    }
    drop(listener);
    let drained = async {
        graceful.shutdown().await;
        while connections.join_next().await.is_some() {}
    };
    if tokio::time::timeout(options.drain_timeout, drained)
        .await
        .is_err()
    {
        tracing::warn!(
            "requests still running after {:?} were cut off",
            options.drain_timeout
        );
    }
}

async fn accept(
    listener: &TcpListener,
    limit: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(limit)
        .acquire_owned()
        .await
        .map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, permit))
}

/// What a connection needs.
struct Connection {
    acceptor: TlsAcceptor,
    authenticator: Arc<Authenticator>,
    router: axum::Router,
    options: ServeOptions,
    shutdown: CancellationToken,
}

impl Connection {
    async fn run(
        self,
        stream: TcpStream,
        peer: SocketAddr,
        _permit: OwnedSemaphorePermit,
        watcher: hyper_util::server::graceful::Watcher,
    ) {
        // Small answers must not wait for more to send.
        let _ = stream.set_nodelay(true);
        let handshake =
            tokio::time::timeout(self.options.handshake_timeout, handshake(self.acceptor, stream));
        let stream = tokio::select! {
            () = self.shutdown.cancelled() => return,
            result = handshake => match result {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return tracing::debug!(%peer, %error, "TLS handshake failed"),
                Err(_) => return tracing::debug!(%peer, "TLS handshake took too long"),
            },
        };
        let user = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(|chain| chain.first())
            .and_then(user_of_certificate);
        let caller = Arc::new(Caller {
            address: peer,
            user,
            authenticator: self.authenticator,
            router: self.router,
            shutdown: self.shutdown,
        });
        let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
            let caller = Arc::clone(&caller);
            async move { Ok::<_, std::convert::Infallible>(caller.answer(request.map(Body::new)).await) }
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .max_buf_size(HEADER_LIMIT)
            .header_read_timeout(self.options.header_timeout);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(1000)
            .max_header_list_size(1 << 20)
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(20));
        let connection = builder
            .serve_connection_with_upgrades(TokioIo::new(stream), service)
            .into_owned();
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!(%peer, %error, "connection ended");
        }
    }
}

type TlsStream = tokio_rustls::server::TlsStream<TcpStream>;

/// The TLS handshake; somebody who speaks plain HTTP is told so, in plain HTTP.
async fn handshake(acceptor: TlsAcceptor, mut stream: TcpStream) -> std::io::Result<TlsStream> {
    const PLAIN: &[u8] = b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n\
        Client sent an HTTP request to an HTTPS server.\n";
    let mut first = [0u8; 1];
    // A TLS record begins with a byte under 0x20, an HTTP method with a letter.
    if stream.peek(&mut first).await? == 1 && first[0].is_ascii_uppercase() {
        stream.write_all(PLAIN).await?;
        stream.shutdown().await?;
        return Err(std::io::Error::other("plain HTTP on the TLS port"));
    }
    acceptor.accept(stream).await
}

/// Where a request came from. Travels as an extension of the request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientAddress(pub(crate) SocketAddr);

/// The most bytes that the headers of a request may have; more are answered with 431. The same as kube-apiserver's.
const HEADER_LIMIT: usize = 1 << 20;

/// The header by which a client finds its request in the audit.
pub(crate) const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// Answers the requests of one connection.
struct Caller {
    address: SocketAddr,
    user: Option<UserInfo>,
    authenticator: Arc<Authenticator>,
    router: axum::Router,
    shutdown: CancellationToken,
}

impl Caller {
    async fn answer(&self, mut request: Request<Body>) -> Response {
        request.extensions_mut().insert(ClientAddress(self.address));
        match self
            .authenticator
            .authenticate(self.user.as_ref(), request.uri().path(), request.headers())
        {
            Ok(Some(user)) => {
                request.extensions_mut().insert(user);
            }
            Ok(None) if is_open_path(request.uri().path()) => {}
            _ => {
                let (parts, _) = request.into_parts();
                let mut response = unauthorized();
                let written = self.authenticator.refused(&parts);
                if let Some(id) = written.and_then(|id| HeaderValue::from_str(&id).ok()) {
                    response.headers_mut().insert(AUDIT_ID, id);
                }
                return response;
            }
        }
        let response = match self.router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        response.map(|body| {
            if body.size_hint().exact().is_some() {
                body
            } else {
                Body::new(Ending::new(body, &self.shutdown))
            }
        })
    }
}

fn unauthorized() -> Response {
    const STATUS: &str = concat!(
        r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Unauthorized","#,
        r#""reason":"Unauthorized","code":401}"#
    );
    (
        StatusCode::UNAUTHORIZED,
        [
            (CONTENT_TYPE, "application/json"),
            (WWW_AUTHENTICATE, "Bearer realm=\"choreo\""),
        ],
        STATUS,
    )
        .into_response()
}

/// A body without a known length that ends when the server shuts down and nothing is ready to be sent. A body that is
/// still producing data is not cut.
struct Ending {
    body: Body,
    shutdown: Seldom<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl Ending {
    fn new(body: Body, shutdown: &CancellationToken) -> Self {
        Self {
            body,
            shutdown: Seldom::new(Box::pin(shutdown.clone().cancelled_owned())),
        }
    }
}

impl HttpBody for Ending {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(frame),
            Poll::Pending => {
                let over = self.shutdown.poll_with(cx, |over, cx| over.as_mut().poll(cx));
                over.map(|()| None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubeconfig;
    use crate::tls::{Pki, local_names};
    use axum::Extension;
    use axum::routing::get;
    use kube::config::{KubeConfigOptions, Kubeconfig};

    /// A server over TLS on a free port, with a client for it.
    struct Running {
        address: SocketAddr,
        tls: TlsSettings,
        client: kube::Client,
        config: kube::Config,
        shutdown: CancellationToken,
        task: tokio::task::JoinHandle<()>,
    }

    async fn start(router: axum::Router) -> Running {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let pki = Pki::ephemeral(&local_names(), jiff::Timestamp::now()).unwrap();
        start_as(router, &pki).await
    }

    async fn start_as(router: axum::Router, pki: &Pki) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let tls = tls_settings(pki.server_config().unwrap());
        let authenticator = Authenticator::new().with_token("t0ken", UserInfo::new("robot", ["machines"]));
        let task = tokio::spawn(serve(
            listener,
            Arc::clone(&tls),
            Arc::new(authenticator),
            router,
            ServeOptions::default(),
            shutdown.clone(),
        ));
        let context = kubeconfig::Context {
            name: "test".to_owned(),
            server: format!("https://{address}"),
            namespace: "default".to_owned(),
        };
        let text = kubeconfig::render(&[context], pki.authority_pem(), pki.admin()).unwrap();
        let kubeconfig = Kubeconfig::from_yaml(&text).unwrap();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .unwrap();
        let client = kube::Client::try_from(config.clone()).unwrap();
        Running {
            address,
            tls,
            client,
            config,
            shutdown,
            task,
        }
    }

    fn request(path: &str) -> Request<Vec<u8>> {
        Request::get(path).body(vec![]).unwrap()
    }

    fn whoami() -> axum::Router {
        let name = |user: Option<Extension<UserInfo>>| async move {
            user.map_or_else(|| "nobody".to_owned(), |Extension(user)| user.name)
        };
        axum::Router::new()
            .route("/whoami", get(name))
            .route("/version", get(name))
    }

    #[tokio::test]
    async fn the_client_certificate_becomes_the_user() {
        let running = start(whoami()).await;
        assert_eq!(
            running.client.request_text(request("/whoami")).await.unwrap(),
            "choreo-admin"
        );
        running.shutdown.cancel();
        running.task.await.unwrap();
    }

    #[tokio::test]
    async fn without_credentials_only_open_paths_answer() {
        let running = start(whoami()).await;
        let mut config = running.config.clone();
        config.auth_info = kube::config::AuthInfo::default();
        let anonymous = kube::Client::try_from(config.clone()).unwrap();
        assert_eq!(
            anonymous.request_text(request("/version")).await.unwrap(),
            "nobody"
        );
        let kube::Error::Api(status) = anonymous.request_text(request("/whoami")).await.unwrap_err() else {
            panic!("not a Status");
        };
        assert_eq!((status.code, status.reason.as_str()), (401, "Unauthorized"));
        let mut with_token = running.config.clone();
        with_token.auth_info = kube::config::AuthInfo {
            token: Some("t0ken".to_owned().into()),
            ..Default::default()
        };
        let robot = kube::Client::try_from(with_token).unwrap();
        assert_eq!(robot.request_text(request("/whoami")).await.unwrap(), "robot");
        running.shutdown.cancel();
        running.task.await.unwrap();
    }

    #[tokio::test]
    async fn a_watch_ends_with_the_server() {
        use futures::{AsyncBufReadExt, StreamExt};
        let stream = || async {
            let events =
                futures::stream::once(async { Ok::<_, std::io::Error>(Bytes::from_static(b"first\n")) })
                    .chain(futures::stream::pending());
            Body::from_stream(events)
        };
        let running = start(axum::Router::new().route("/watch", get(stream))).await;
        let mut lines = running
            .client
            .request_stream(request("/watch"))
            .await
            .unwrap()
            .lines();
        assert_eq!(lines.next().await.unwrap().unwrap(), "first");
        running.shutdown.cancel();
        assert!(lines.next().await.is_none());
        tokio::time::timeout(Duration::from_secs(4), running.task)
            .await
            .unwrap()
            .unwrap();
    }

    impl Running {
        /// A connection of its own, as nobody.
        async fn connect(&self) -> tokio_rustls::client::TlsStream<TcpStream> {
            use kube::client::ConfigExt;
            let mut config = self.config.clone();
            config.auth_info = kube::config::AuthInfo::default();
            let mut tls = config.rustls_client_config().unwrap();
            tls.alpn_protocols.clear();
            let name = rustls_pki_types::ServerName::try_from("127.0.0.1").unwrap();
            let stream = TcpStream::connect(self.address).await.unwrap();
            let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
            connector.connect(name, stream).await.unwrap()
        }
    }

    #[tokio::test]
    async fn a_renewed_certificate_counts_from_the_next_connection_on() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let now = jiff::Timestamp::now();
        let open = |at| Pki::open(folder.path(), &local_names(), at).unwrap();
        // Made so long ago that it is due, but holds still.
        let old = open(now - jiff::SignedDuration::from_hours(24 * 300));
        let running = start_as(whoami(), &old).await;
        let certificate = async || {
            let stream = running.connect().await;
            let chain = stream.get_ref().1.peer_certificates().unwrap();
            chain[0].clone()
        };
        let first = certificate().await;
        assert_eq!(certificate().await, first);
        let ask = async || running.client.request_text(request("/whoami")).await.unwrap();
        ask().await;
        let renewed = open(now);
        running.tls.store(renewed.server_config().unwrap());
        assert_ne!(certificate().await, first);
        // Who has the old client certificate, and an open connection, is not shut out.
        assert_eq!(ask().await, "choreo-admin");
        assert_eq!(old.authority_pem(), renewed.authority_pem());
        running.shutdown.cancel();
        running.task.await.unwrap();
    }

    #[tokio::test]
    async fn headers_have_a_limit() {
        use tokio::io::AsyncReadExt;
        let running = start(whoami()).await;
        // As many bytes as a Kubernetes API server takes; what is more is a refusal and not an endless wait.
        for (length, expected) in [(900 << 10, "HTTP/1.1 200"), (1100 << 10, "HTTP/1.1 431")] {
            let (mut reading, mut writing) = tokio::io::split(running.connect().await);
            let sending = async {
                let padding = "x".repeat(length);
                let request = format!(
                    "GET /version HTTP/1.1\r\nHost: x\r\nX-Padding: {padding}\r\nConnection: close\r\n\r\n"
                );
                // The server may have had enough before it has everything.
                let _ = writing.write_all(request.as_bytes()).await;
            };
            let mut answer = vec![0; expected.len()];
            let (_, read) = tokio::join!(sending, reading.read_exact(&mut answer));
            read.unwrap();
            assert_eq!(String::from_utf8_lossy(&answer), expected, "{length} bytes");
        }
        running.shutdown.cancel();
        running.task.await.unwrap();
    }

    #[tokio::test]
    async fn plain_http_is_told_so() {
        use tokio::io::AsyncReadExt;
        let running = start(whoami()).await;
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.0 400") && answer.contains("HTTPS server"),
            "{answer}"
        );
        running.shutdown.cancel();
        running.task.await.unwrap();
    }
}
