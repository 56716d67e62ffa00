//! From a request to a connection: which protocol is spoken from now on.

use std::any::Any;
use std::sync::{Arc, OnceLock};

use axum::body::Body;
use axum::response::Response;
use choreo_apimachinery::status::{ApiError, Result};
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::dispatch::Context;

/// The header that SPDY connections are agreed on by.
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");

/// What the server would have spoken, for who asked for something else.
const ACCEPTED_PROTOCOLS: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");

/// The name of SPDY in `Upgrade`.
const SPDY: &str = "SPDY/3.1";

/// Holds on to whatever waits for the end of a session: the audit's last event of its request. Travels as an extension of the
/// response, and with the session.
#[derive(Clone, Default)]
pub(crate) struct Lasting(Arc<OnceLock<Box<dyn Any + Send + Sync>>>);

impl Lasting {
    /// Keeps something until the session is over.
    pub(crate) fn keep(&self, what: impl Any + Send + Sync) {
        // It is set once; a second one would be dropped here, which is its end as well.
        let _ = self.0.set(Box::new(what));
    }
}

/// How both sides agreed to go on.
pub(super) struct Agreed {
    pub(super) transport: Transport,
    /// The subprotocol, one of those that were offered.
    pub(super) protocol: &'static str,
    key: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    WebSocket,
    Spdy,
}

/// The connection behind a request, once the answer has been sent.
pub(super) struct Pending(OnUpgrade);

impl Pending {
    /// The connection; none when the client has gone before.
    pub(super) async fn connection(self) -> Option<TokioIo<Upgraded>> {
        match self.0.await {
            Ok(upgraded) => Some(TokioIo::new(upgraded)),
            Err(error) => {
                tracing::debug!(%error, "a connection was to be upgraded and is gone");
                None
            }
        }
    }
}

/// Finds what the client and the server both speak. The first of the client's protocols that the server has counts.
///
/// # Errors
/// 400 when the request asks for no upgrade or for one that is not spoken here.
pub(super) fn agree(
    headers: &HeaderMap,
    websocket: &[&'static str],
    spdy: &[&'static str],
) -> std::result::Result<Agreed, Box<Response>> {
    let refuse = |message: String| Box::new(refused(&ApiError::bad_request(message), None));
    if !names(headers, &CONNECTION).any(|name| name.eq_ignore_ascii_case("upgrade")) {
        return Err(refuse("Upgrade request required".to_owned()));
    }
    let (transport, offered, header) =
        if names(headers, &UPGRADE).any(|n| n.eq_ignore_ascii_case("websocket")) {
            (Transport::WebSocket, websocket, SEC_WEBSOCKET_PROTOCOL)
        } else if names(headers, &UPGRADE).any(|n| n.eq_ignore_ascii_case(SPDY)) {
            (Transport::Spdy, spdy, STREAM_PROTOCOL)
        } else {
            return Err(refuse(format!(
                "unable to upgrade: Upgrade must be websocket or {SPDY}"
            )));
        };
    let mut key = String::new();
    if transport == Transport::WebSocket {
        if names(headers, &SEC_WEBSOCKET_VERSION).next() != Some("13") {
            return Err(refuse(
                "unable to upgrade: Sec-WebSocket-Version must be 13".to_owned(),
            ));
        }
        names(headers, &SEC_WEBSOCKET_KEY)
            .next()
            .unwrap_or_default()
            .clone_into(&mut key);
        if key.is_empty() {
            return Err(refuse(
                "unable to upgrade: Sec-WebSocket-Key is missing".to_owned(),
            ));
        }
    }
    let wanted: Vec<&str> = names(headers, &header).collect();
    let unnamed = [""];
    let wanted = if wanted.is_empty() { &unnamed[..] } else { &wanted };
    let found = wanted
        .iter()
        .find_map(|wanted| offered.iter().copied().find(|offered| offered == wanted));
    match found {
        Some(protocol) => Ok(Agreed {
            transport,
            protocol,
            key,
        }),
        None => {
            let offered: Vec<&str> = offered.iter().copied().filter(|name| !name.is_empty()).collect();
            let message = format!(
                "unable to upgrade: unable to negotiate protocol: client supports [{}], server accepts [{}]",
                wanted.join(" "),
                offered.join(" ")
            );
            Err(Box::new(refused(&ApiError::bad_request(message), Some(&offered))))
        }
    }
}

fn refused(error: &ApiError, accepted: Option<&[&str]>) -> Response {
    let answer = crate::negotiate::negotiate_plain(&HeaderMap::new(), &crate::request::Query::default());
    let mut response = crate::respond::error(answer, error);
    for protocol in accepted.into_iter().flatten() {
        if let Ok(value) = HeaderValue::from_str(protocol) {
            response.headers_mut().append(ACCEPTED_PROTOCOLS, value);
        }
    }
    response
}

/// The names in a header, wherever commas separate them.
fn names<'a>(headers: &'a HeaderMap, header: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(header).into_iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|name| !name.is_empty())
}

/// The connection of a request that is going to be upgraded.
///
/// # Errors
/// 400 when it cannot be: it is a function call in process, or HTTP/2.
pub(super) fn pending(context: &Context) -> Result<Pending> {
    let upgrade = context.upgrade.lock().take();
    upgrade.map(Pending).ok_or_else(|| {
        ApiError::bad_request(
            "this connection cannot be upgraded: ask over HTTP/1.1, on a connection of its own",
        )
    })
}

/// The answer after which the connection speaks what was agreed on.
pub(super) fn switch(agreed: &Agreed, lasting: Lasting) -> Result<Response> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let value = |text: &str| HeaderValue::from_str(text).map_err(ApiError::internal);
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    match agreed.transport {
        Transport::WebSocket => {
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(
                SEC_WEBSOCKET_ACCEPT,
                value(&derive_accept_key(agreed.key.as_bytes()))?,
            );
            if !agreed.protocol.is_empty() {
                headers.insert(SEC_WEBSOCKET_PROTOCOL, value(agreed.protocol)?);
            }
        }
        Transport::Spdy => {
            headers.insert(UPGRADE, HeaderValue::from_static(SPDY));
            headers.insert(STREAM_PROTOCOL, value(agreed.protocol)?);
        }
    }
    response.extensions_mut().insert(lasting);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(list: &[(&'static str, &'static str)]) -> std::result::Result<(Transport, &'static str), u16> {
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            headers.append(*name, HeaderValue::from_static(value));
        }
        agree(&headers, &["", "v5", "v4"], &["v4", "v3"])
            .map(|agreed| (agreed.transport, agreed.protocol))
            .map_err(|response| response.status().as_u16())
    }

    #[test]
    fn the_clients_first_wish_that_can_be_met_counts() {
        let socket = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let with = |more: &[(&'static str, &'static str)]| asked(&[&socket[..], more].concat());
        assert_eq!(with(&[]), Ok((Transport::WebSocket, "")));
        let protocol = "sec-websocket-protocol";
        assert_eq!(
            with(&[(protocol, "v9, v4, v5")]),
            Ok((Transport::WebSocket, "v4"))
        );
        assert_eq!(with(&[(protocol, "v9")]), Err(400));
        let spdy = [("connection", "upgrade"), ("upgrade", "SPDY/3.1")];
        let stream = "x-stream-protocol-version";
        let with = |more: &[(&'static str, &'static str)]| asked(&[&spdy[..], more].concat());
        assert_eq!(
            with(&[(stream, "v5"), (stream, "v3")]),
            Ok((Transport::Spdy, "v3"))
        );
        assert_eq!(with(&[]), Err(400));
        assert_eq!(asked(&[]), Err(400));
        assert_eq!(asked(&[("connection", "upgrade"), ("upgrade", "h2c")]), Err(400));
        assert_eq!(asked(&socket[..3]), Err(400));
    }
}
