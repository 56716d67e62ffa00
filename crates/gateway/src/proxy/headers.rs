//! Headers that belong to one connection, and those that a proxy adds.

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Version};

use crate::api::envoy::RequestIdAction;
use crate::policy::client_ip::{Detection, X_FORWARDED_FOR};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(crate) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// What a proxy in front says of a client's certificate. Nobody in front is known to check one, so that nobody's word counts.
const X_FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Removes what is said to the next hop only (RFC 9110, section 7.6.1). `te: trailers` stays: gRPC needs it.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            // What decides where the request goes, and who may send it, is never only the next hop's business.
            .filter(|name| {
                *name != header::HOST
                    && *name != header::AUTHORIZATION
                    && *name != header::COOKIE
                    && *name != header::TE
            })
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(header::CONNECTION);
    }
    for name in [
        KEEP_ALIVE,
        PROXY_CONNECTION,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ] {
        headers.remove(name);
    }
    if let Some(te) = headers.get(header::TE) {
        let trailers = te
            .to_str()
            .is_ok_and(|te| te.split(',').any(|coding| coding.trim() == "trailers"));
        if trailers {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        } else {
            headers.remove(header::TE);
        }
    }
}

/// The protocol that a client wants to change to: WebSocket is the only one, as in Envoy Gateway.
pub(crate) fn wants_websocket(version: Version, headers: &HeaderMap) -> bool {
    let names = |name: HeaderName, wanted: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|value| value.trim().eq_ignore_ascii_case(wanted))
    };
    version == Version::HTTP_11 && names(header::CONNECTION, "upgrade") && names(header::UPGRADE, "websocket")
}

/// Tells the backend where the request comes from. Headers that only Envoys say to each other are not taken from clients.
pub(crate) fn forwarded(
    headers: &mut HeaderMap,
    peer: std::net::IpAddr,
    scheme: &'static str,
    detection: &Detection,
    request_id: RequestIdAction,
) {
    if headers.keys().any(|name| name.as_str().starts_with("x-envoy-")) {
        let named: Vec<HeaderName> = headers
            .keys()
            .filter(|name| name.as_str().starts_with("x-envoy-"))
            .cloned()
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    headers.remove(X_FORWARDED_CLIENT_CERT);
    let mut chain = String::new();
    for value in headers.get_all(X_FORWARDED_FOR) {
        if let Ok(text) = value.to_str() {
            chain.push_str(text);
            chain.push_str(", ");
        }
    }
    let peer = peer.to_canonical();
    chain.push_str(&peer.to_string());
    if let Ok(value) = HeaderValue::try_from(chain) {
        headers.insert(X_FORWARDED_FOR, value);
    }
    if !detection.trusts(peer) || !headers.contains_key(X_FORWARDED_PROTO) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
    }
    let given = headers.contains_key(X_REQUEST_ID);
    let generate = match request_id {
        RequestIdAction::Generate => true,
        RequestIdAction::PreserveOrGenerate => !given,
        RequestIdAction::Preserve | RequestIdAction::Disable => false,
    };
    if generate {
        let mut text = uuid::Uuid::encode_buffer();
        let id = uuid::Uuid::new_v4();
        if let Ok(value) = HeaderValue::from_str(id.hyphenated().encode_lower(&mut text)) {
            headers.insert(X_REQUEST_ID, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_for_one_hop_goes_no_further() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Secret-Hop, authorization"),
            ("x-secret-hop", "1"),
            ("authorization", "Bearer x"),
            ("te", "trailers, deflate"),
            ("transfer-encoding", "chunked"),
            ("keep-alive", "timeout=5"),
            ("x-kept", "1"),
        ] {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        strip_hop_by_hop(&mut headers);
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["authorization", "te", "x-kept"]);
        assert_eq!(headers["te"], "trailers");
    }

    #[test]
    fn nobody_speaks_for_envoy_and_the_chain_grows() {
        let mut headers = HeaderMap::new();
        headers.insert("x-envoy-original-path", "/".parse().unwrap());
        headers.insert("x-forwarded-for", "203.0.113.1".parse().unwrap());
        headers.insert("x-forwarded-proto", "https".parse().unwrap());
        headers.insert("x-forwarded-client-cert", "Subject=\"CN=admin\"".parse().unwrap());
        forwarded(
            &mut headers,
            [127, 0, 0, 1].into(),
            "http",
            &Detection::Peer,
            RequestIdAction::Generate,
        );
        assert_eq!(headers["x-forwarded-for"], "203.0.113.1, 127.0.0.1");
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert!(!headers.contains_key("x-envoy-original-path"));
        assert!(!headers.contains_key("x-forwarded-client-cert"));
        assert_eq!(headers["x-request-id"].len(), 36);
    }

    #[test]
    fn only_a_trusted_peer_says_how_the_client_came() {
        let trusted = Detection::Trusted(vec!["10.0.0.0/8".parse().unwrap()]);
        for (peer, scheme) in [([10, 1, 2, 3], "https"), ([192, 0, 2, 1], "http")] {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-proto", "https".parse().unwrap());
            forwarded(
                &mut headers,
                peer.into(),
                "http",
                &trusted,
                RequestIdAction::Disable,
            );
            assert_eq!(headers["x-forwarded-proto"], scheme, "{peer:?}");
        }
    }
}
