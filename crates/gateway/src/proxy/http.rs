//! One request, from its head to its answer.

use std::net::SocketAddr;
use std::sync::Arc;

use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;

use super::body::{AnswerBody, RequestBody, StreamBody};
use super::clock::Clock;
use super::forward::{self, Outgoing};
use super::idle::Activity;
use super::path::{Normalized, normalize};
use super::reply::{self, Answer};
use super::{Proxy, headers, idle};
use crate::config::filters::HostChange;
use crate::config::table::{Action, Found, HttpListener, HttpPort, Port, Rule, Transport};
use crate::policy::cors::{self, Verdict};
use crate::policy::{Call, Refusal};

/// Chunks that a mirror may lag behind before it is given up.
const MIRROR_LAG: usize = 64;

/// The connection that a request came over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Via {
    pub(crate) peer: SocketAddr,
    pub(crate) port: u16,
    pub(crate) secure: bool,
}

impl Via {
    fn scheme(self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }
}

/// Answers a request, whatever it takes.
pub(crate) async fn handle(proxy: Arc<Proxy>, via: Via, request: Request<Incoming>) -> Answer {
    let grpc = reply::is_grpc(request.headers());
    let bare = |status| reply::text(grpc, status, "");
    let Ok(host) = host_of(&request) else {
        return bare(StatusCode::BAD_REQUEST);
    };
    let Some(listener) = listener(&proxy, via, &host) else {
        return bare(StatusCode::NOT_FOUND);
    };
    if listener.closed {
        return bare(StatusCode::INTERNAL_SERVER_ERROR);
    }
    let settings = &listener.settings;
    let authority = authority_of(&request);
    let (mut parts, body) = request.into_parts();
    if parts.method == Method::CONNECT {
        return bare(StatusCode::NOT_FOUND);
    }
    match normalize(parts.uri.path(), settings.slashes, settings.merge_slashes) {
        Normalized::Reject => return bare(StatusCode::BAD_REQUEST),
        // A gRPC client follows no redirect.
        Normalized::Redirect(_) if grpc => return bare(StatusCode::BAD_REQUEST),
        Normalized::Redirect(path) => return redirect_to(&path, parts.uri.query()),
        Normalized::Path(path) => {
            if path != parts.uri.path() || parts.uri.authority().is_some() {
                let Some(uri) = with_path(&path, parts.uri.query()) else {
                    return bare(StatusCode::BAD_REQUEST);
                };
                parts.uri = uri;
            }
        }
    }
    let client = match settings.detection.client(via.peer, &parts.headers) {
        Ok(client) => client,
        Err(refusal) => return reply::refusal(grpc, &refusal),
    };
    let found = listener.routes.find(
        &host,
        parts.uri.path(),
        &parts.method,
        &parts.headers,
        parts.uri.query(),
    );
    let Some(Found { rule, prefix }) = found else {
        return bare(StatusCode::NOT_FOUND);
    };
    let upgrade = headers::wants_websocket(parts.version, &parts.headers);
    headers::strip_hop_by_hop(&mut parts.headers);
    headers::forwarded(
        &mut parts.headers,
        via.peer.ip(),
        via.scheme(),
        &settings.detection,
        settings.request_id,
    );
    let target = parts.uri.clone();
    let call = Call {
        method: &parts.method,
        path_and_query: target.path_and_query().map_or("/", PathAndQuery::as_str),
        scheme: via.scheme(),
        host: &host,
        client,
    };
    let mut added = HeaderMap::new();
    let guarded = guard(&proxy, &rule, &listener, &call, &mut parts.headers, &mut added).await;
    let mut answer = match guarded {
        Err(Stop::Refused(refusal)) => reply::refusal(grpc, &refusal),
        Err(Stop::Preflight(headers)) => {
            let mut answer = Response::new(AnswerBody::empty());
            *answer.status_mut() = cors::PREFLIGHT;
            *answer.headers_mut() = headers;
            return answer;
        }
        Ok(()) => {
            let request = Ready {
                proxy: &proxy,
                via,
                listener: &listener,
                rule: &rule,
                host: &host,
                authority: &authority,
                prefix: &target.path()[..prefix.min(target.path().len())],
                upgrade,
                grpc,
            };
            Box::pin(request.act(parts, body)).await
        }
    };
    for (name, value) in added {
        if let Some(name) = name {
            answer.headers_mut().insert(name, value);
        }
    }
    answer
}

/// The listener of the port that a host is of.
fn listener(proxy: &Proxy, via: Via, host: &str) -> Option<Arc<HttpListener>> {
    let table = proxy.table.load();
    let port: &HttpPort = match table.ports.get(&(Transport::Tcp, via.port))? {
        Port::Http(port) => port,
        Port::Tls(port) => &port.http,
        Port::Raw(_) => return None,
    };
    port.listener(host).cloned()
}

/// The host that a request is for, in lower case and without port.
fn host_of(request: &Request<Incoming>) -> Result<String, ()> {
    let mut lines = request.headers().get_all(header::HOST).iter();
    let line = lines.next();
    if lines.next().is_some() {
        return Err(());
    }
    // What the request line says counts more than the header (RFC 9112, section 3.2.2).
    let text = match (request.uri().authority(), line) {
        (Some(authority), _) => authority.as_str(),
        (None, Some(line)) => line.to_str().map_err(|_| ())?,
        (None, None) if request.version() == Version::HTTP_11 => return Err(()),
        (None, None) => "",
    };
    // What cannot be a host could mean another one to whoever reads it next (RFC 9112, section 3.2).
    if text.contains('@') || !text.is_empty() && text.parse::<http::uri::Authority>().is_err() {
        return Err(());
    }
    let host = match text.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => text,
    };
    Ok(host.trim_end_matches('.').to_ascii_lowercase())
}

/// What [`host_of`] is made from.
fn authority_of(request: &Request<Incoming>) -> String {
    let line = request
        .headers()
        .get(header::HOST)
        .and_then(|line| line.to_str().ok());
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    authority.or(line).unwrap_or_default().to_owned()
}

fn with_path(path: &str, query: Option<&str>) -> Option<Uri> {
    match query {
        Some(query) => format!("{path}?{query}").parse().ok(),
        None => path.parse().ok(),
    }
}

fn redirect_to(path: &str, query: Option<&str>) -> Answer {
    let location = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let mut answer = reply::text(false, StatusCode::TEMPORARY_REDIRECT, "");
    if let Ok(value) = HeaderValue::try_from(location) {
        answer.headers_mut().insert(header::LOCATION, value);
    }
    answer
}

enum Stop {
    Refused(Refusal),
    Preflight(HeaderMap),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// The policies of the rule, in Envoy's order. What goes with the answer is added to `added`.
async fn guard(
    proxy: &Proxy,
    rule: &Rule,
    listener: &HttpListener,
    call: &Call<'_>,
    headers: &mut HeaderMap,
    added: &mut HeaderMap,
) -> Result<(), Stop> {
    if let Some(security) = &rule.security {
        if let Some(cors) = &security.cors {
            match cors.judge(call.method, headers) {
                Verdict::Preflight(answer) => return Err(Stop::Preflight(answer)),
                Verdict::Allowed(answer) => added.extend(answer),
                Verdict::Nothing => {}
            }
        }
        if let Some((sources, keys)) = &security.api_key {
            sources.check(keys, call, headers)?;
        }
        if let Some((users, forward)) = &security.basic {
            users.check(call, headers, forward.as_ref())?;
        }
        let claims = match &security.jwt {
            Some(jwt) => jwt.check(call, headers, &proxy.fetch).await?,
            None => None,
        };
        if let Some(authorization) = &security.authorization {
            authorization.check(call, headers, &claims)?;
        }
    }
    if let Some(limiter) = &rule.limiter {
        added.extend(limiter.check(call, headers, listener.settings.rate_limit_headers)?);
    }
    Ok(())
}

/// A request that has passed its policies.
struct Ready<'a> {
    proxy: &'a Arc<Proxy>,
    via: Via,
    listener: &'a HttpListener,
    rule: &'a Arc<Rule>,
    host: &'a str,
    /// The host as the client said it, with its port.
    authority: &'a str,
    /// The part of the path that the rule was found by.
    prefix: &'a str,
    upgrade: bool,
    grpc: bool,
}

impl Ready<'_> {
    async fn act(&self, mut parts: Parts, body: Incoming) -> Answer {
        let rule = self.rule;
        let filters = &rule.filters;
        let cluster = match &rule.action {
            Action::Fail => return reply::text(self.grpc, StatusCode::INTERNAL_SERVER_ERROR, ""),
            Action::Answer => return self.own_answer(&parts.uri),
            Action::Forward(cluster) => cluster,
        };
        filters.request.apply(&mut parts.headers);
        let mut host = match HeaderValue::from_str(self.authority) {
            Ok(host) => host,
            Err(_) => return reply::text(self.grpc, StatusCode::BAD_REQUEST, ""),
        };
        if let Some(change) = &filters.host {
            parts.headers.insert(headers::X_FORWARDED_HOST, host.clone());
            match change {
                HostChange::To(name) => host = name.clone(),
                HostChange::FromHeader(name) => {
                    if let Some(value) = parts.headers.get(name) {
                        host = value.clone();
                    }
                }
            }
        }
        if let Some(change) = &filters.path {
            let path = change.apply(parts.uri.path(), self.prefix);
            let Some(uri) = with_path(&path, parts.uri.query()) else {
                return reply::text(self.grpc, StatusCode::INTERNAL_SERVER_ERROR, "");
            };
            parts.uri = uri;
        }
        // The gateway has said "continue" itself by reading the body.
        parts.headers.remove(header::EXPECT);
        let on_upgrade = self.upgrade.then(|| {
            parts
                .headers
                .insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            parts
                .headers
                .insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            parts.extensions.remove::<hyper::upgrade::OnUpgrade>()
        });
        let clock = rule.timeout.map(Clock::new);
        let mut activity = None;
        let body = match self
            .body(&parts, &host, body, clock.as_ref(), &mut activity)
            .await
        {
            Ok(body) => body,
            Err(status) => return reply::text(self.grpc, status, ""),
        };
        let outgoing = Outgoing {
            proxy: self.proxy,
            rule,
            cluster,
            parts: &parts,
            host: &host,
            clock,
            activity,
        };
        let mut answer = match outgoing.send(body).await {
            Ok(answer) => answer,
            Err(failure) => {
                tracing::debug!(route = %rule.route, rule = %rule.name, "no answer: {}", failure.detail());
                return failure.answer(self.grpc);
            }
        };
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return match on_upgrade.flatten() {
                Some(client) => self.upgraded(client, answer),
                None => reply::text(self.grpc, StatusCode::BAD_GATEWAY, ""),
            };
        }
        *answer.version_mut() = Version::HTTP_11;
        headers::strip_hop_by_hop(answer.headers_mut());
        filters.response.apply(answer.headers_mut());
        answer
    }

    /// The body, kept if it may have to be sent again, and copied if there are mirrors.
    async fn body(
        &self,
        parts: &Parts,
        host: &HeaderValue,
        body: Incoming,
        clock: Option<&Arc<Clock>>,
        activity: &mut Option<Activity>,
    ) -> Result<RequestBody, StatusCode> {
        let complete = || clock.iter().for_each(|clock| clock.begin());
        let mut copies = Vec::new();
        let empty = body.is_end_stream();
        for (at, mirror) in self.rule.mirrors.iter().enumerate() {
            let (numerator, denominator) = mirror.share;
            if numerator == 0 || rand::random_range(0..denominator.max(1)) >= numerator {
                continue;
            }
            let copy = match empty {
                true => RequestBody::Empty,
                false => {
                    let (sender, receiver) = mpsc::channel(MIRROR_LAG);
                    copies.push(sender);
                    RequestBody::Copy(receiver)
                }
            };
            let mut copied = Request::new(()).into_parts().0;
            copied.method = parts.method.clone();
            copied.uri = parts.uri.clone();
            copied.headers = parts.headers.clone();
            copied.headers.remove(header::CONTENT_LENGTH);
            let sending = forward::mirror(
                Arc::clone(self.proxy),
                Arc::clone(self.rule),
                at,
                copied,
                host.clone(),
                copy,
            );
            self.proxy.tasks.spawn(Box::pin(sending));
        }
        if empty {
            complete();
            return Ok(RequestBody::Empty);
        }
        let small = body
            .size_hint()
            .exact()
            .is_some_and(|length| length <= forward::REPLAYED);
        let received = self.listener.settings.request_received;
        if self.rule.retry.is_some() && small && copies.is_empty() && !self.upgrade {
            let limit = received.unwrap_or(std::time::Duration::from_secs(60));
            let collected = tokio::time::timeout(limit, forward::collect(body)).await;
            return match collected {
                Err(_) => Err(StatusCode::REQUEST_TIMEOUT),
                Ok(Err(_)) => Err(StatusCode::BAD_REQUEST),
                Ok(Ok(bytes)) => {
                    complete();
                    Ok(RequestBody::Full(Some(bytes)))
                }
            };
        }
        Ok(RequestBody::Stream(Box::new(StreamBody {
            body,
            deadline: received.map(|limit| Box::pin(tokio::time::sleep(limit))),
            copies,
            clock: clock.map(Arc::clone),
            idle: idle::Watch::new(activity.get_or_insert_with(Activity::new).clone()),
        })))
    }

    /// The answer of a redirect or of a direct response.
    fn own_answer(&self, uri: &Uri) -> Answer {
        let filters = &self.rule.filters;
        let mut answer = if let Some(redirect) = &filters.redirect {
            let location = redirect.location(self.via.scheme(), self.host, self.via.port, uri, self.prefix);
            let mut answer = reply::text(false, redirect.status, "");
            match HeaderValue::try_from(location) {
                Ok(value) => drop(answer.headers_mut().insert(header::LOCATION, value)),
                Err(_) => return reply::text(self.grpc, StatusCode::INTERNAL_SERVER_ERROR, ""),
            }
            answer
        } else if let Some(direct) = &filters.direct {
            let mut answer = Response::new(AnswerBody::full(direct.body.clone()));
            *answer.status_mut() = direct.status;
            if let Some(kind) = &direct.content_type {
                answer.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
            } else if !direct.body.is_empty() {
                answer
                    .headers_mut()
                    .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            }
            answer
        } else {
            reply::text(self.grpc, StatusCode::INTERNAL_SERVER_ERROR, "")
        };
        filters.response.apply(answer.headers_mut());
        answer
    }

    /// Copies bytes in both directions once both sides have changed the protocol.
    fn upgraded(&self, client: hyper::upgrade::OnUpgrade, mut answer: Answer) -> Answer {
        let backend = hyper::upgrade::on(&mut answer);
        let (mut parts, body) = answer.into_parts();
        let Some((connection, permit)) = body
            .into_http1()
            .and_then(crate::upstream::http1::ResponseBody::into_connection)
        else {
            return reply::text(self.grpc, StatusCode::BAD_GATEWAY, "");
        };
        connection.detach();
        let draining = self.proxy.draining.clone();
        self.proxy.tasks.spawn(async move {
            let _permit = permit;
            let (Ok(client), Ok(backend)) = tokio::join!(client, backend) else {
                return;
            };
            let (mut client, mut backend) = (TokioIo::new(client), TokioIo::new(backend));
            tokio::select! {
                // Either side may end it as it likes.
                _ = idle::join(&mut client, &mut backend, idle::STREAM) => {}
                () = draining.cancelled() => {}
            }
        });
        headers::strip_hop_by_hop(&mut parts.headers);
        self.rule.filters.response.apply(&mut parts.headers);
        parts
            .headers
            .insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        parts
            .headers
            .insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        Response::from_parts(parts, AnswerBody::empty())
    }
}
