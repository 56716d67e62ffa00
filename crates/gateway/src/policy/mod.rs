//! Policies of Envoy Gateway, as they act on one request. Order, status codes and bodies are Envoy's.
//!
//! | Part | Envoy's filter | Refusal |
//! | --- | --- | --- |
//! | [`cors`] | `cors` | none; a preflight is answered |
//! | [`api_key`] | `api_key_auth` | 401 |
//! | [`basic`] | `basic_auth` | 401 |
//! | [`jwt`] | `jwt_authn` | 401, 403 for the audience |
//! | [`authorization`] | `rbac` | 403 |
//! | [`rate_limit`] | `local_ratelimit`, `ratelimit` | 429 |

pub(crate) mod api_key;
pub(crate) mod authorization;
pub(crate) mod basic;
pub(crate) mod client_ip;
pub(crate) mod cors;
pub(crate) mod duration;
pub(crate) mod jwks;
pub(crate) mod jwt;
pub(crate) mod jwt_crypto;
pub(crate) mod pattern;
pub(crate) mod rate_limit;

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

/// A request as policies see it.
pub(crate) struct Call<'a> {
    pub(crate) method: &'a Method,
    /// The path with the query, as the client sent it after it was normalized.
    pub(crate) path_and_query: &'a str,
    pub(crate) scheme: &'static str,
    pub(crate) host: &'a str,
    pub(crate) client: IpAddr,
}

impl Call<'_> {
    /// The path without the query.
    pub(crate) fn path(&self) -> &str {
        self.path_and_query
            .split_once('?')
            .map_or(self.path_and_query, |(path, _)| path)
    }

    /// The first value of a query parameter.
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        let (_, query) = self.path_and_query.split_once('?')?;
        form_urlencoded::parse(query.as_bytes())
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }

    /// The address of the request, as challenges name it.
    pub(crate) fn realm(&self) -> String {
        // Quotes would end the quoted string that this goes into.
        let text = format!("{}://{}{}", self.scheme, self.host, self.path());
        text.replace(['"', '\\'], "")
    }
}

/// A cookie's value.
pub(crate) fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers
        .get_all(http::header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value.trim_matches('"'))
}

/// An answer in the place of the backend's.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) body: std::borrow::Cow<'static, str>,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, body: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        Self {
            status,
            body: body.into(),
            headers: Vec::new(),
        }
    }

    pub(crate) fn with(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    pub(crate) fn call<'a>(method: &'a Method, path: &'a str) -> Call<'a> {
        Call {
            method,
            path_and_query: path,
            scheme: "https",
            host: "shop.localhost",
            client: IpAddr::from([192, 0, 2, 7]),
        }
    }
}
