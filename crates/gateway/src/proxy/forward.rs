//! Sends a request to a backend, and once more where that is safe or asked for.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::Proxy;
use super::body::{AnswerBody, RequestBody};
use super::clock::Clock;
use super::idle::Activity;
use super::reply::{Answer, Failure};
use crate::config::policies::RetryPolicy;
use crate::config::table::{Cluster, Rule};
use crate::dial::Dial;
use crate::upstream::http1::{Connection, ResponseBody, SendError};
use crate::upstream::limits::Counted;
use crate::upstream::{Active, Address, Endpoint, Endpoints, Protocol, connect};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, Uri, Version, header, uri};
use hyper::body::Incoming;

/// Most endpoints that a request is offered to when they do not accept connections.
const MOST_CONNECTS: usize = 5;
/// Most connections that turn out to be closed before one is opened anew.
const MOST_STALE: usize = 3;

/// What is sent: the request without its body, and where it goes.
pub(crate) struct Outgoing<'a> {
    pub(crate) proxy: &'a Proxy,
    pub(crate) rule: &'a Rule,
    pub(crate) cluster: &'a Cluster,
    pub(crate) parts: &'a Parts,
    pub(crate) host: &'a HeaderValue,
    pub(crate) clock: Option<Arc<Clock>>,
    /// Of the request's body, if it is one that comes bit by bit.
    pub(crate) activity: Option<Activity>,
}

/// How an attempt ended without an answer.
enum Attempt {
    /// Nothing was sent: another endpoint may be asked.
    Unsent(Failure, RequestBody),
    /// Something was sent, so that only what may be repeated is.
    Sent(Failure),
    /// No other attempt can help.
    Final(Failure),
}

impl Outgoing<'_> {
    /// Forwards the request. With the answer comes the protocol that the backend spoke.
    pub(crate) async fn send(&self, body: RequestBody) -> Result<Answer, Failure> {
        let request = self.cluster.limits.request().map_err(|_| Failure::Overflow)?;
        let backend = self.cluster.choose().ok_or(Failure::Unresolved)?;
        let (endpoints, protocol) = backend.target.as_ref().ok_or(Failure::Unresolved)?;
        let attempts = self.attempts(endpoints, *protocol, backend, body);
        let mut answer = match &self.clock {
            None => attempts.await?,
            Some(clock) => tokio::select! {
                answer = attempts => answer?,
                () = clock.over() => return Err(Failure::Timeout),
            },
        };
        backend.filters.response.apply(answer.headers_mut());
        let (parts, body) = answer.into_parts();
        Ok(Response::from_parts(
            parts,
            body.guarded(self.clock.clone(), self.activity.clone(), request),
        ))
    }

    async fn attempts(
        &self,
        endpoints: &Endpoints,
        protocol: Protocol,
        backend: &crate::config::table::WeightedBackend,
        body: RequestBody,
    ) -> Result<Answer, Failure> {
        let policy = self.rule.retry.as_deref();
        let mut body = Some(body);
        let mut tried: Vec<Arc<Endpoint>> = Vec::new();
        let mut retries = 0;
        let mut repeated = false;
        let mut retrying: Option<Counted> = None;
        loop {
            let endpoint = endpoints
                .pick(self.cluster.balance, &tried)
                .ok_or(Failure::NoEndpoint)?;
            let Some(sent) = body.take() else {
                return Err(Failure::Unresolved);
            };
            let again = sent.replay();
            let attempt = self.attempt(&endpoint, protocol, backend, sent);
            let result = match self.rule.attempt_timeout {
                None => attempt.await,
                Some(limit) => match tokio::time::timeout(limit, attempt).await {
                    Ok(result) => result,
                    Err(_) => Err(Attempt::Sent(Failure::AttemptTimeout)),
                },
            };
            let may_retry = policy.filter(|policy| retries < policy.retries);
            let failure = match result {
                Ok(answer) => {
                    let wanted =
                        may_retry.filter(|policy| policy.after_answer(answer.status(), answer.headers()));
                    let (Some(policy), Some(again)) = (wanted, again) else {
                        return Ok(answer);
                    };
                    // A retry that is one too many leaves the answer that there is.
                    let Ok(counted) = self.cluster.limits.retry() else {
                        return Ok(answer);
                    };
                    drop(answer);
                    retrying.replace(counted);
                    body = Some(again);
                    self.back_off(policy, &mut retries).await;
                    tried.push(endpoint);
                    continue;
                }
                Err(Attempt::Final(failure)) => return Err(failure),
                Err(Attempt::Unsent(failure, unsent)) => {
                    endpoint.mark_failed();
                    tried.push(endpoint);
                    // Nobody has seen the request: offering it to others is no retry that anybody must ask for.
                    if tried.len() < MOST_CONNECTS && endpoints_left(endpoints, &tried) {
                        body = Some(unsent);
                        continue;
                    }
                    (failure, Some(unsent), may_retry)
                }
                Err(Attempt::Sent(failure)) => {
                    let wanted = may_retry.filter(|policy| match &failure {
                        Failure::AttemptTimeout => policy.after_timeout(),
                        _ => policy.after_reset(true),
                    });
                    tried.push(endpoint);
                    let cut = matches!(failure, Failure::Reset(_));
                    if cut
                        && !repeated
                        && is_idempotent(&self.parts.method)
                        && let Some(again) = again
                    {
                        // A pod that goes may cut a connection just when it is used. What may be repeated is, once.
                        repeated = true;
                        body = Some(again);
                        continue;
                    }
                    (failure, again, wanted)
                }
            };
            let (failure, again, policy) = failure;
            let (Some(policy), Some(again)) = (policy, again) else {
                return Err(failure);
            };
            let Ok(counted) = self.cluster.limits.retry() else {
                return Err(failure);
            };
            retrying.replace(counted);
            body = Some(again);
            self.back_off(policy, &mut retries).await;
        }
    }

    async fn back_off(&self, policy: &RetryPolicy, retries: &mut u32) {
        let wait = policy.back_off(*retries);
        *retries += 1;
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    async fn attempt(
        &self,
        endpoint: &Arc<Endpoint>,
        protocol: Protocol,
        backend: &crate::config::table::WeightedBackend,
        body: RequestBody,
    ) -> Result<Answer, Attempt> {
        match protocol {
            Protocol::Http1 => self.by_http1(endpoint, backend, body).await,
            Protocol::Http2 => self.by_http2(endpoint, backend, body).await,
        }
    }

    async fn by_http1(
        &self,
        endpoint: &Arc<Endpoint>,
        backend: &crate::config::table::WeightedBackend,
        mut body: RequestBody,
    ) -> Result<Answer, Attempt> {
        let permit = self
            .cluster
            .limits
            .connection()
            .await
            .map_err(|_| Attempt::Final(Failure::Overflow))?;
        let active = Active::new(Arc::clone(endpoint));
        for stale in 0.. {
            let known = if stale < MOST_STALE {
                Connection::reuse(endpoint)
            } else {
                None
            };
            let mut connection = match known {
                Some(connection) => connection,
                None => match self.open(endpoint, Protocol::Http1).await {
                    Err(error) => return Err(cannot_connect(error, body)),
                    Ok(stream) => match Connection::new(stream).await {
                        Ok(connection) => connection,
                        Err(error) => return Err(Attempt::Unsent(Failure::Reset(error.to_string()), body)),
                    },
                },
            };
            let request = self.request(Protocol::Http1, endpoint, backend, body);
            match connection.send(request).await {
                Ok(response) => {
                    let (parts, incoming) = response.into_parts();
                    let keeps = parts.status == http::StatusCode::SWITCHING_PROTOCOLS;
                    let body =
                        AnswerBody::http1(ResponseBody::new(incoming, connection, active, permit, keeps));
                    return Ok(Response::from_parts(parts, body));
                }
                Err(SendError::Unsent(request)) if stale < MOST_STALE => body = request.into_body(),
                Err(SendError::Unsent(request)) => {
                    let failure = Failure::Reset("the backend closed the connection".to_owned());
                    return Err(Attempt::Unsent(failure, request.into_body()));
                }
                Err(SendError::Reset(error)) => return Err(Attempt::Sent(reset(&error))),
            }
        }
        Err(Attempt::Final(Failure::NoEndpoint))
    }

    async fn by_http2(
        &self,
        endpoint: &Arc<Endpoint>,
        backend: &crate::config::table::WeightedBackend,
        mut body: RequestBody,
    ) -> Result<Answer, Attempt> {
        let active = Active::new(Arc::clone(endpoint));
        for stale in 0.. {
            let known = endpoint.shared().open();
            let mut sender = match known {
                Some(sender) => sender,
                None => {
                    let _opening = endpoint.shared().opening.lock().await;
                    match endpoint.shared().open() {
                        Some(sender) => sender,
                        None => match self.open(endpoint, Protocol::Http2).await {
                            Err(error) => return Err(cannot_connect(error, body)),
                            Ok(stream) => match endpoint.shared().start(stream).await {
                                Ok(sender) => sender,
                                Err(error) => {
                                    return Err(Attempt::Unsent(Failure::Reset(error.to_string()), body));
                                }
                            },
                        },
                    }
                }
            };
            let request = self.request(Protocol::Http2, endpoint, backend, body);
            match sender.try_send_request(request).await {
                Ok(response) => {
                    let (parts, incoming): (_, Incoming) = response.into_parts();
                    return Ok(Response::from_parts(parts, AnswerBody::http2(incoming, active)));
                }
                Err(mut error) => {
                    if sender.is_closed() {
                        endpoint.shared().forget();
                    }
                    match error.take_message() {
                        Some(request) if stale < MOST_STALE => {
                            endpoint.shared().forget();
                            body = request.into_body();
                        }
                        Some(request) => {
                            let failure = Failure::Reset("the backend closed the connection".to_owned());
                            return Err(Attempt::Unsent(failure, request.into_body()));
                        }
                        None => return Err(Attempt::Sent(reset(&error.into_error()))),
                    }
                }
            }
        }
        Err(Attempt::Final(Failure::NoEndpoint))
    }

    async fn open(
        &self,
        endpoint: &Endpoint,
        protocol: Protocol,
    ) -> io::Result<Box<dyn crate::dial::Stream>> {
        let dial: &dyn Dial = &*self.proxy.dial;
        connect::connect(dial, &endpoint.address, protocol, self.cluster.connect_timeout).await
    }

    /// The request as the backend gets it.
    fn request(
        &self,
        protocol: Protocol,
        endpoint: &Endpoint,
        backend: &crate::config::table::WeightedBackend,
        body: RequestBody,
    ) -> Request<RequestBody> {
        let mut request = Request::new(body);
        *request.method_mut() = self.parts.method.clone();
        let mut headers = self.parts.headers.clone();
        backend.filters.request.apply(&mut headers);
        match protocol {
            Protocol::Http1 => {
                *request.uri_mut() = self.parts.uri.clone();
                headers.insert(header::HOST, self.host.clone());
                join_cookies(&mut headers);
            }
            Protocol::Http2 => {
                *request.version_mut() = Version::HTTP_2;
                headers.remove(header::HOST);
                let scheme = match &endpoint.address {
                    Address::Outside { tls: Some(_), .. } => uri::Scheme::HTTPS,
                    _ => uri::Scheme::HTTP,
                };
                let mut target = self.parts.uri.clone().into_parts();
                target.scheme = Some(scheme);
                target.authority = uri::Authority::try_from(self.host.as_bytes()).ok();
                *request.uri_mut() = Uri::from_parts(target).unwrap_or_else(|_| self.parts.uri.clone());
            }
        }
        *request.headers_mut() = headers;
        request
    }
}

fn endpoints_left(endpoints: &Endpoints, tried: &[Arc<Endpoint>]) -> bool {
    endpoints
        .pick(crate::api::envoy::LoadBalancerType::Random, tried)
        .is_some_and(|next| !tried.iter().any(|other| Arc::ptr_eq(other, &next)))
}

fn cannot_connect(error: io::Error, body: RequestBody) -> Attempt {
    match error.kind() {
        io::ErrorKind::Unsupported => Attempt::Final(Failure::Unreachable(error.to_string())),
        _ => Attempt::Unsent(Failure::Connect(error), body),
    }
}

/// The client's own fault is told apart from the backend's.
fn reset(error: &hyper::Error) -> Failure {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(inner) = cause {
        if inner.to_string() == super::body::TOO_SLOW {
            return Failure::RequestTimeout;
        }
        cause = inner.source();
    }
    Failure::Reset(error.to_string())
}

fn is_idempotent(method: &Method) -> bool {
    method.is_idempotent()
}

/// HTTP/2 may split cookies over several lines, HTTP/1.1 may not (RFC 9113, section 8.2.3).
fn join_cookies(headers: &mut http::HeaderMap) {
    if headers.get_all(header::COOKIE).iter().nth(1).is_none() {
        return;
    }
    let all: Vec<&[u8]> = headers
        .get_all(header::COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if let Ok(value) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
        headers.insert(header::COOKIE, value);
    }
}

/// Sends a copy of a request, and reads the answer away.
pub(crate) async fn mirror(
    proxy: Arc<Proxy>,
    rule: Arc<Rule>,
    at: usize,
    parts: Parts,
    host: HeaderValue,
    body: RequestBody,
) {
    let Some(mirror) = rule.mirrors.get(at) else {
        return;
    };
    let clock = Clock::new(MIRROR_TIMEOUT);
    clock.begin();
    let outgoing = Outgoing {
        proxy: &proxy,
        rule: &rule,
        cluster: &mirror.cluster,
        parts: &parts,
        host: &host,
        clock: Some(clock),
        activity: None,
    };
    if let Ok(answer) = outgoing.send(body).await {
        let mut body = answer.into_body();
        while let Some(Ok(_)) = http_body_util::BodyExt::frame(&mut body).await {}
    }
}

/// How long a mirrored request may take; nobody waits for it.
const MIRROR_TIMEOUT: Duration = Duration::from_secs(15);

/// The most of a body that is kept to be sent again, as Envoy Gateway keeps it.
pub(crate) const REPLAYED: u64 = 32 * 1024;

/// Collects a small body, so that it can be sent again.
pub(crate) async fn collect(body: Incoming) -> Result<Bytes, hyper::Error> {
    http_body_util::BodyExt::collect(body)
        .await
        .map(http_body_util::Collected::to_bytes)
}
