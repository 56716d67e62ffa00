//! What all requests to an API server over HTTP go through: they are counted, they end in time, and they slow down when the
//! server asks for it.
//!
//! # Slowing down
//!
//! A server that answers 429 has not done anything, so the request is sent again after the wait that the server asked for. All
//! other requests of the same client wait with it, and fewer are let through at a time: half as many after each 429, one more
//! after each round that went well. One client is one cluster, so that a busy cluster slows nobody else down.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tower::{BoxError, Layer, Service};
use tracing::Instrument as _;

use super::metrics::Metrics;

/// Longest wait for the first byte of an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// How often a request that was refused with 429 is sent again before the caller hears of it.
const ATTEMPTS: u32 = 4;
/// Requests that wait for an answer at a time; more wait their turn.
const MOST: usize = 64;
/// As few as it gets for a server that is always busy.
const LEAST: usize = 2;
/// Longest wait that a server may ask for; a proxy's error page must not stop us for a day.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A client for the server of `config`, counted as `plane` (`control` or `data`).
///
/// # Errors
/// When TLS or credentials cannot be prepared.
pub fn client(mut config: Config, metrics: &Metrics, plane: &'static str) -> kube::Result<Client> {
    // Trying again is the work queues' business, which knows what is worth it; 429 is seen to here.
    config.default_retry = false;
    let layer = TransportLayer {
        metrics: metrics.clone(),
        plane,
        pace: Arc::new(Pace::default()),
    };
    Ok(ClientBuilder::try_from(config)?.with_layer(&layer).build())
}

/// How fast a server takes requests.
#[derive(Debug)]
struct Pace {
    turns: Semaphore,
    state: Mutex<PaceState>,
}

#[derive(Debug)]
struct PaceState {
    /// Turns that there are, taken or free.
    limit: usize,
    /// Turns that are to be taken away as they come back.
    surplus: usize,
    /// Answers without 429 since the limit last changed.
    good: usize,
    /// Nobody sends before this.
    not_before: Option<Instant>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            turns: Semaphore::new(MOST),
            state: Mutex::new(PaceState {
                limit: MOST,
                surplus: 0,
                good: 0,
                not_before: None,
            }),
        }
    }
}

impl Pace {
    /// Waits for a turn. It is given back with [`Pace::done`].
    async fn turn(&self) -> Turn<'_> {
        loop {
            let pause = self.state.lock().not_before;
            match pause {
                Some(until) if until > Instant::now() => tokio::time::sleep_until(until).await,
                _ => break,
            }
        }
        if let Ok(permit) = self.turns.acquire().await {
            permit.forget();
        }
        Turn { pace: self }
    }

    fn answered(&self, pause: Option<Duration>) {
        let mut state = self.state.lock();
        match pause {
            Some(pause) => {
                let until = Instant::now() + pause.min(LONGEST_PAUSE);
                // Those that were on their way together count once.
                if state.not_before.is_none_or(|before| before <= Instant::now()) {
                    let limit = (state.limit / 2).max(LEAST);
                    state.surplus += state.limit - limit;
                    state.limit = limit;
                    state.good = 0;
                }
                state.not_before = Some(state.not_before.map_or(until, |before| before.max(until)));
            }
            None if state.limit < MOST => {
                state.good += 1;
                if state.good >= state.limit {
                    state.good = 0;
                    state.limit += 1;
                    if state.surplus > 0 {
                        state.surplus -= 1;
                    } else {
                        self.turns.add_permits(1);
                    }
                }
            }
            None => {}
        }
    }
}

/// The right to have one request on its way.
struct Turn<'a> {
    pace: &'a Pace,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.pace.state.lock();
        if state.surplus > 0 {
            state.surplus -= 1;
        } else {
            self.pace.turns.add_permits(1);
        }
    }
}

#[derive(Clone)]
struct TransportLayer {
    metrics: Metrics,
    plane: &'static str,
    pace: Arc<Pace>,
}

impl<S> Layer<S> for TransportLayer {
    type Service = Transport<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Transport {
            // One task calls the service underneath, others wait for it: the lock is held for no longer than a call takes to
            // begin.
            inner: Arc::new(tokio::sync::Mutex::new(inner)),
            shared: self.clone(),
        }
    }
}

struct Transport<S> {
    inner: Arc<tokio::sync::Mutex<S>>,
    shared: TransportLayer,
}

impl<S, B> Service<Request<Body>> for Transport<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError> + Send + 'static,
    S::Future: Send + 'static,
    B: Send + 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<B>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (inner, shared) = (Arc::clone(&self.inner), self.shared.clone());
        // Below the log's usual level: it is for traces.
        let span = tracing::debug_span!(
            "request",
            plane = shared.plane,
            verb = verb_of(&request),
            path = request.uri().path(),
            status = tracing::field::Empty,
        );
        Box::pin(send(inner, shared, request).instrument(span))
    }
}

async fn send<S, B>(
    inner: Arc<tokio::sync::Mutex<S>>,
    shared: TransportLayer,
    request: Request<Body>,
) -> Result<Response<B>, BoxError>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
{
    let verb = verb_of(&request);
    let mut next = Some(request);
    let mut attempt = 1;
    loop {
        let Some(request) = next.take() else {
            return Err("a request was lost on its way".into());
        };
        let again = copy(&request);
        // Whether the server is there at all is asked past all queues: a busy server is not an unreachable one.
        let turn = match request.uri().path().ends_with("/version") {
            true => None,
            false => Some(shared.pace.turn().await),
        };
        let answer = async {
            let future = {
                let mut inner = inner.lock().await;
                std::future::poll_fn(|context| inner.poll_ready(context)).await?;
                inner.call(request)
            };
            future.await
        };
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, answer).await;
        drop(turn);
        let response = match answer {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                shared.metrics.requested(shared.plane, verb, 0);
                return Err(error);
            }
            Err(_) => {
                shared.metrics.requested(shared.plane, verb, 0);
                let seconds = ANSWER_TIMEOUT.as_secs();
                let error = std::io::Error::new(
                    std::io::ErrorKind::TimedOut,
                    format!("no answer within {seconds} s"),
                );
                return Err(error.into());
            }
        };
        let status = response.status();
        shared.metrics.requested(shared.plane, verb, status.as_u16());
        tracing::Span::current().record("status", status.as_u16());
        if status != StatusCode::TOO_MANY_REQUESTS {
            shared.pace.answered(None);
            return Ok(response);
        }
        shared.pace.answered(Some(retry_after(response.headers())));
        match again {
            Some(again) if attempt < ATTEMPTS => next = Some(again),
            _ => return Ok(response),
        }
        attempt += 1;
    }
}

/// A second one of a request; `None` if its body can be sent only once.
fn copy(request: &Request<Body>) -> Option<Request<Body>> {
    let mut copy = Request::new(request.body().try_clone()?);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    Some(copy)
}

fn retry_after(headers: &HeaderMap) -> Duration {
    let seconds = headers
        .get(http::header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.trim().parse::<u64>().ok())
        .unwrap_or(1);
    // A little more for some, so that not all clients come back at the same moment.
    Duration::from_secs(seconds) + Duration::from_millis(u64::from(rand::random::<u8>()))
}

/// The verb of a request, as an authorizer calls it; `apply` for server-side apply.
fn verb_of<B>(request: &Request<B>) -> &'static str {
    let query = request.uri().query().unwrap_or_default();
    let watches = query
        .split('&')
        .any(|pair| matches!(pair, "watch=true" | "watch=1"));
    let applies = request
        .headers()
        .get(http::header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/apply-patch"));
    let named = names_an_object(request.uri().path());
    match *request.method() {
        Method::GET if watches => "watch",
        Method::GET if named => "get",
        Method::GET => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH if applies => "apply",
        Method::PATCH => "patch",
        Method::DELETE if named => "delete",
        Method::DELETE => "deletecollection",
        _ => "other",
    }
}

/// Whether a path names one object, and not a collection. What is no resource at all (`/version`) counts as an object.
fn names_an_object(path: &str) -> bool {
    let mut parts = path.split('/').filter(|part| !part.is_empty()).peekable();
    let skip = loop {
        match parts.next() {
            Some("api") => break 1,
            Some("apis") => break 2,
            // A logical cluster, or a proxy's prefix.
            Some(_) => {}
            None => return true,
        }
    };
    let rest: Vec<&str> = parts.skip(skip).collect();
    match rest.as_slice() {
        [] => true,
        ["namespaces", _, rest @ ..] if !rest.is_empty() => rest.len() > 1,
        rest => rest.len() > 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[rstest]
    #[case("GET", "/api/v1/namespaces", "list")]
    #[case("GET", "/api/v1/namespaces/a", "get")]
    #[case("GET", "/api/v1/namespaces/a/pods", "list")]
    #[case("GET", "/api/v1/namespaces/a/pods?watch=true", "watch")]
    #[case("GET", "/clusters/local/apis/apps/v1/namespaces/a/deployments/b", "get")]
    #[case("GET", "/apis/openchoreo.dev/v1alpha1/projects", "list")]
    #[case("GET", "/version", "get")]
    #[case("DELETE", "/apis/apps/v1/namespaces/a/deployments/b", "delete")]
    #[case("PATCH", "/api/v1/nodes/a/status", "patch")]
    fn verbs(#[case] method: &str, #[case] path: &str, #[case] verb: &str) {
        let request = Request::builder().method(method).uri(path).body(()).unwrap();
        assert_eq!(verb_of(&request), verb);
    }

    /// Answers 429 to the first `refusals` requests.
    fn busy(
        refusals: u32,
        calls: &Arc<AtomicU32>,
    ) -> (
        Transport<
            impl Service<Request<Body>, Response = Response<()>, Error = BoxError, Future: Send> + Send + use<>,
        >,
        Metrics,
    ) {
        let calls = Arc::clone(calls);
        let service = tower::service_fn(move |_: Request<Body>| {
            let call = calls.fetch_add(1, Ordering::SeqCst);
            async move {
                let status = if call < refusals { 429 } else { 200 };
                let answer = Response::builder().status(status).header("retry-after", "2");
                Ok::<_, BoxError>(answer.body(())?)
            }
        });
        let metrics = Metrics::default();
        let layer = TransportLayer {
            metrics: metrics.clone(),
            plane: "data",
            pace: Arc::new(Pace::default()),
        };
        (layer.layer(service), metrics)
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_server_is_left_alone_for_as_long_as_it_asks_and_asked_again() {
        let calls = Arc::new(AtomicU32::new(0));
        let (mut transport, metrics) = busy(2, &calls);
        let began = Instant::now();
        let request = Request::builder()
            .uri("/api/v1/pods")
            .body(Body::empty())
            .unwrap();
        let answer = transport.call(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        let waited = began.elapsed();
        assert!(
            waited >= Duration::from_secs(4) && waited < Duration::from_secs(5),
            "{waited:?}"
        );
        let requests = metrics.requests();
        assert_eq!(requests.get(&("data", "list", 429)), Some(&2));
        assert_eq!(requests.get(&("data", "list", 200)), Some(&1));
        // 64, halved twice.
        assert_eq!(transport.shared.pace.state.lock().limit, MOST / 4);
        // And it grows back.
        for _ in 0..2000 {
            let request = Request::builder()
                .uri("/api/v1/pods")
                .body(Body::empty())
                .unwrap();
            transport.call(request).await.unwrap();
        }
        assert_eq!(transport.shared.pace.state.lock().limit, MOST);
        assert_eq!(transport.shared.pace.turns.available_permits(), MOST);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_stays_busy_is_told_to_the_caller() {
        let calls = Arc::new(AtomicU32::new(0));
        let (mut transport, _) = busy(100, &calls);
        let request = Request::builder()
            .uri("/api/v1/pods")
            .body(Body::empty())
            .unwrap();
        assert_eq!(transport.call(request).await.unwrap().status(), 429);
        assert_eq!(calls.load(Ordering::SeqCst), ATTEMPTS);
    }
}
