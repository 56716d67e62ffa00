//! Cross-origin resource sharing (the Fetch standard, as Envoy's `cors` filter does it).

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use regex::Regex;

use super::{duration, pattern};
use crate::api::envoy;

/// What pages of other origins may do.
#[derive(Debug)]
pub(crate) struct Cors {
    origins: Vec<Origin>,
    methods: Option<HeaderValue>,
    headers: Option<HeaderValue>,
    expose: Option<HeaderValue>,
    max_age: Option<HeaderValue>,
    credentials: bool,
}

#[derive(Debug)]
enum Origin {
    Exact(String),
    Pattern(Regex),
    Any,
}

/// What the request means for the answer.
pub(crate) enum Verdict {
    /// An allowed preflight: it is answered with these headers, and goes no further.
    Preflight(HeaderMap),
    /// A request of an allowed origin: these go with the answer.
    Allowed(HeaderMap),
    /// Nothing: no origin, or one that is not allowed. Browsers then keep the answer from the page.
    Nothing,
}

impl Cors {
    pub(crate) fn new(spec: &envoy::Cors, at: &str) -> Result<Self, String> {
        let list = |values: &[String], field: &str| -> Result<Option<HeaderValue>, String> {
            if values.is_empty() {
                return Ok(None);
            }
            HeaderValue::from_str(&values.join(", "))
                .map(Some)
                .map_err(|_| format!("{at}.{field}: holds characters that no header may have"))
        };
        let origins = spec.allow_origins.iter().enumerate().map(|(i, origin)| {
            Ok(match origin.as_str() {
                "*" => Origin::Any,
                text if text.contains('*') => {
                    let expression = regex::escape(text).replace(r"\*", ".*");
                    Origin::Pattern(
                        pattern::whole(&expression)
                            .map_err(|why| format!("{at}.allowOrigins[{i}]: {why}"))?,
                    )
                }
                text => Origin::Exact(text.to_owned()),
            })
        });
        let max_age = match &spec.max_age {
            None => None,
            Some(text) => {
                let seconds = duration::parse(text, &format!("{at}.maxAge"))?.as_secs();
                Some(HeaderValue::from(seconds))
            }
        };
        Ok(Self {
            origins: origins.collect::<Result<_, String>>()?,
            methods: list(&spec.allow_methods, "allowMethods")?,
            headers: list(&spec.allow_headers, "allowHeaders")?,
            expose: list(&spec.expose_headers, "exposeHeaders")?,
            max_age,
            credentials: spec.allow_credentials,
        })
    }

    fn allows(&self, origin: &str) -> bool {
        self.origins.iter().any(|allowed| match allowed {
            Origin::Exact(text) => text == origin,
            Origin::Pattern(regex) => regex.is_match(origin),
            Origin::Any => true,
        })
    }

    pub(crate) fn judge(&self, method: &Method, headers: &HeaderMap) -> Verdict {
        let Some(origin) = headers.get(header::ORIGIN) else {
            return Verdict::Nothing;
        };
        if !origin.to_str().is_ok_and(|text| self.allows(text)) {
            return Verdict::Nothing;
        }
        let mut answer = HeaderMap::new();
        answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if self.credentials {
            answer.insert(
                header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
                HeaderValue::from_static("true"),
            );
        }
        let preflight =
            method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        let mut put = |name: header::HeaderName, value: &Option<HeaderValue>| {
            if let Some(value) = value {
                answer.insert(name, value.clone());
            }
        };
        if preflight {
            put(header::ACCESS_CONTROL_ALLOW_METHODS, &self.methods);
            put(header::ACCESS_CONTROL_ALLOW_HEADERS, &self.headers);
            put(header::ACCESS_CONTROL_MAX_AGE, &self.max_age);
            return Verdict::Preflight(answer);
        }
        put(header::ACCESS_CONTROL_EXPOSE_HEADERS, &self.expose);
        Verdict::Allowed(answer)
    }
}

/// Status of an answered preflight.
pub(crate) const PREFLIGHT: StatusCode = StatusCode::OK;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cors() -> Cors {
        let spec = crate::api::read(
            &json!({"allowOrigins": ["https://app.example.com", "https://*.example.org"], "allowMethods": ["GET", "PUT"], "maxAge": "1h"}),
            "spec.cors",
        );
        Cors::new(&spec.unwrap(), "spec.cors").unwrap()
    }

    fn headers(origin: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::ORIGIN, origin.parse().unwrap())])
    }

    #[test]
    fn origins_are_exact_or_have_a_star() {
        for (origin, allowed) in [
            ("https://app.example.com", true),
            ("http://app.example.com", false),
            ("https://a.example.org", true),
            ("https://a.example.org.evil.test", false),
            ("https://aXexample.org", false),
        ] {
            let verdict = cors().judge(&Method::GET, &headers(origin));
            assert_eq!(matches!(verdict, Verdict::Allowed(_)), allowed, "{origin}");
        }
    }

    #[test]
    fn a_preflight_is_answered_and_plain_options_are_not() {
        let mut request = headers("https://app.example.com");
        assert!(matches!(
            cors().judge(&Method::OPTIONS, &request),
            Verdict::Allowed(_)
        ));
        request.insert(header::ACCESS_CONTROL_REQUEST_METHOD, "PUT".parse().unwrap());
        let Verdict::Preflight(answer) = cors().judge(&Method::OPTIONS, &request) else {
            panic!("no preflight")
        };
        assert_eq!(answer[header::ACCESS_CONTROL_ALLOW_METHODS], "GET, PUT");
        assert_eq!(answer[header::ACCESS_CONTROL_MAX_AGE], "3600");
    }
}
