//! A proxy between a client and an API server, over real sockets, that does harm on demand.
//!
//! Unlike [`crate::Faults`], which sits inside the client, it can do what only a network does: accept a connection and never
//! answer, end one in the middle of an answer, carry a request out and lose the answer.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{Stream, StreamExt, TryStreamExt};
use http::{Method, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyDataStream, BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::client::Body;
use kube::{Client, Config};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::BoxError;

type Answer = UnsyncBoxBody<Bytes, io::Error>;
type Chunks = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// What is done with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Harm {
    /// It is passed on.
    None,
    /// It is passed on after a while.
    Late(Duration),
    /// It is answered with this status and not passed on; the number is for `Retry-After`, in seconds.
    Refuse(u16, Option<u32>),
    /// The connection ends without an answer; the request is not passed on.
    Cut,
    /// It is passed on and carried out, and the connection ends without an answer.
    LoseAnswer,
    /// Nothing happens, ever.
    Hang,
    /// Each piece of the answer is held back for a while.
    Slow(Duration),
    /// A watch is answered, and ends with `410 Gone` as its first event.
    Expire,
}

/// What is known of a request when its fate is decided.
#[derive(Debug)]
pub struct Asked<'a> {
    /// Which request of this proxy it is, counted from 0.
    pub number: u64,
    /// GET, POST and so on.
    pub method: &'a Method,
    /// Path and query.
    pub path: &'a str,
    /// The bearer token, or empty.
    pub token: &'a str,
}

impl Asked<'_> {
    /// Whether it would change something.
    pub fn is_write(&self) -> bool {
        *self.method != Method::GET
    }

    /// Whether it is a watch.
    pub fn is_watch(&self) -> bool {
        self.path.contains("watch=true") || self.path.contains("watch=1")
    }
}

type Rule = dyn Fn(&Asked<'_>) -> Harm + Send + Sync;

/// A running proxy.
#[derive(Clone)]
pub struct Proxy {
    address: SocketAddr,
    rule: Arc<watch::Sender<Arc<Rule>>>,
    /// Goes up when every connection is to end.
    generation: Arc<watch::Sender<u64>>,
    requests: Arc<AtomicU64>,
    _end: Arc<tokio_util::sync::DropGuard>,
}

impl Proxy {
    /// Starts one in front of the server of `upstream`. Credentials come from the requests alone.
    ///
    /// # Errors
    /// When there is no port, or the upstream's settings are of no use.
    pub async fn start(upstream: &Config) -> anyhow::Result<Self> {
        let mut config = upstream.clone();
        config.auth_info = kube::config::AuthInfo::default();
        config.default_retry = false;
        config.read_timeout = None;
        let client = Client::try_from(config).context("the proxy's client")?;
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let end = CancellationToken::new();
        let nothing: Arc<Rule> = Arc::new(|_| Harm::None);
        let proxy = Self {
            address,
            rule: Arc::new(watch::channel(nothing).0),
            generation: Arc::new(watch::channel(0).0),
            requests: Arc::default(),
            _end: Arc::new(end.clone().drop_guard()),
        };
        let shared = Shared {
            client,
            rule: Arc::clone(&proxy.rule),
            generation: Arc::clone(&proxy.generation),
            requests: Arc::clone(&proxy.requests),
        };
        tokio::spawn(accept(listener, shared, end));
        Ok(proxy)
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Settings of a client that goes through it with the credentials of `config`.
    pub fn config(&self, config: &Config) -> Config {
        let mut through = config.clone();
        // The path of the upstream's URL is added by the proxy's own client.
        if let Ok(url) = self.url().parse() {
            through.cluster_url = url;
        }
        through.root_cert = None;
        through.root_cert_file = None;
        through.tls_server_name = None;
        through
    }

    /// Decides the fate of each request from now on.
    pub fn rule(&self, rule: impl Fn(&Asked<'_>) -> Harm + Send + Sync + 'static) {
        self.rule.send_replace(Arc::new(rule));
    }

    /// Does no harm from now on.
    pub fn heal(&self) {
        self.rule(|_| Harm::None);
    }

    /// Ends every connection where it stands.
    pub fn cut_all(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }

    /// From now on every connection ends, those that there are too.
    pub fn down(&self) {
        self.rule(|_| Harm::Cut);
        self.cut_all();
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

#[derive(Clone)]
struct Shared {
    client: Client,
    rule: Arc<watch::Sender<Arc<Rule>>>,
    generation: Arc<watch::Sender<u64>>,
    requests: Arc<AtomicU64>,
}

async fn accept(listener: TcpListener, shared: Shared, end: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = end.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        if let Ok((stream, _)) = accepted {
            tokio::spawn(connection(stream, shared.clone(), end.clone()));
        }
    }
}

async fn connection(stream: TcpStream, shared: Shared, end: CancellationToken) {
    let _ = stream.set_nodelay(true);
    let mut generation = shared.generation.subscribe();
    let service = service_fn(move |request| {
        let shared = shared.clone();
        shared.answer(request)
    });
    let serve = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        () = end.cancelled() => {}
        _ = generation.changed() => {}
        _ = serve => {}
    }
}

impl Shared {
    fn answer(self, request: Request<Incoming>) -> BoxFuture<'static, io::Result<Response<Answer>>> {
        Box::pin(async move { self.pass(request).await.map_err(io::Error::other) })
    }

    async fn pass(&self, request: Request<Incoming>) -> Result<Response<Answer>, BoxError> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let (parts, body) = request.into_parts();
        let path = parts
            .uri
            .path_and_query()
            .map_or("/", |path| path.as_str())
            .to_owned();
        let token = parts
            .headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let asked = Asked {
            number,
            method: &parts.method,
            path: &path,
            token: token.strip_prefix("Bearer ").unwrap_or_default(),
        };
        let rule = Arc::clone(&self.rule.borrow());
        let harm = rule(&asked);
        match harm {
            Harm::Cut => return Err("cut on purpose".into()),
            Harm::Hang => return std::future::pending().await,
            Harm::Refuse(code, wait) => return refusal(code, wait),
            Harm::Expire if asked.is_watch() => return expired(),
            Harm::Late(wait) => tokio::time::sleep(wait).await,
            _ => {}
        }
        let body = body.collect().await?.to_bytes();
        let mut onward = Request::builder().method(parts.method.clone()).uri(path);
        for (name, value) in &parts.headers {
            if !matches!(
                *name,
                header::HOST | header::CONNECTION | header::CONTENT_LENGTH | header::TRANSFER_ENCODING
            ) {
                onward = onward.header(name, value);
            }
        }
        let onward = onward.body(Body::from(body))?;
        let (parts, body) = self.client.send(onward).await?.into_parts();
        let mut chunks: Chunks = Box::pin(BodyDataStream::new(body).map_err(io::Error::other));
        match harm {
            Harm::LoseAnswer => {
                // Carried out is what has been answered.
                while chunks.next().await.is_some() {}
                return Err("answer lost on purpose".into());
            }
            Harm::Slow(wait) => {
                chunks = Box::pin(chunks.then(move |chunk| async move {
                    tokio::time::sleep(wait).await;
                    chunk
                }));
            }
            _ => {}
        }
        let mut answer = Response::builder().status(parts.status);
        for (name, value) in &parts.headers {
            if !matches!(*name, header::CONNECTION | header::TRANSFER_ENCODING) {
                answer = answer.header(name, value);
            }
        }
        Ok(answer.body(StreamBody::new(chunks.map_ok(Frame::data)).boxed_unsync())?)
    }
}

fn full(bytes: Vec<u8>) -> Answer {
    Full::new(Bytes::from(bytes))
        .map_err(|never: Infallible| match never {})
        .boxed_unsync()
}

fn status(code: u16) -> serde_json::Value {
    let reason = match code {
        401 => "Unauthorized",
        409 => "Conflict",
        410 => "Expired",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        _ => "InternalError",
    };
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "on purpose", "reason": reason, "code": code,
    })
}

fn refusal(code: u16, wait: Option<u32>) -> Result<Response<Answer>, BoxError> {
    let mut answer = Response::builder()
        .status(code)
        .header(header::CONTENT_TYPE, "application/json");
    if let Some(wait) = wait {
        answer = answer.header(header::RETRY_AFTER, wait);
    }
    Ok(answer.body(full(serde_json::to_vec(&status(code))?))?)
}

fn expired() -> Result<Response<Answer>, BoxError> {
    let event = json!({"type": "ERROR", "object": status(410)});
    let mut line = serde_json::to_vec(&event)?;
    line.push(b'\n');
    let answer = Response::builder()
        .status(StatusCode::OK)
        .header(header::CONTENT_TYPE, "application/json");
    Ok(answer.body(full(line))?)
}
