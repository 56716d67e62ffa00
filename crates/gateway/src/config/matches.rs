//! Which requests a rule is about.

use http::{HeaderMap, HeaderName, Method};
use regex::Regex;

use crate::api::gateway::{GrpcMatch, HttpMatch, ValueMatch};
use crate::policy::pattern;

/// One match of a rule.
#[derive(Clone, Debug)]
pub(crate) struct Match {
    pub(crate) path: PathMatch,
    pub(crate) conditions: Conditions,
}

/// The path of a match, which is what rules are found by.
#[derive(Clone, Debug)]
pub(crate) enum PathMatch {
    Exact(String),
    /// Without a slash at its end; all paths begin with the empty one.
    Prefix(String),
    Regex(Regex),
}

/// Everything else that a match demands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conditions {
    pub(crate) method: Option<Method>,
    pub(crate) headers: Vec<(HeaderName, Value)>,
    pub(crate) query: Vec<(String, Value)>,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Exact(String),
    Regex(Regex),
}

impl Value {
    fn new(spec: &ValueMatch, at: &str) -> Result<Self, String> {
        match spec.type_.as_deref().unwrap_or("Exact") {
            "Exact" => Ok(Self::Exact(spec.value.clone())),
            "RegularExpression" => pattern::whole(&spec.value)
                .map(Self::Regex)
                .map_err(|why| format!("{at}.value: {why}")),
            other => Err(format!("{at}.type: {other:?}: the gateway does not implement it")),
        }
    }

    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(value) => value == text,
            Self::Regex(regex) => regex.is_match(text),
        }
    }
}

impl Conditions {
    /// Whether a request meets them. A header with several lines counts as one whose values are joined by commas (RFC 9110,
    /// section 5.3); of a query parameter the first counts.
    pub(crate) fn hold(&self, method: &Method, headers: &HeaderMap, query: Option<&str>) -> bool {
        if self.method.as_ref().is_some_and(|wanted| wanted != method) {
            return false;
        }
        let header = |(name, value): &(HeaderName, Value)| {
            let mut lines = headers.get_all(name).iter();
            let (first, second) = (lines.next(), lines.next());
            match (first, second) {
                (None, _) => false,
                (Some(line), None) => line.to_str().is_ok_and(|text| value.matches(text)),
                (Some(_), Some(_)) => {
                    let all: Option<Vec<&str>> = headers
                        .get_all(name)
                        .iter()
                        .map(|line| line.to_str().ok())
                        .collect();
                    all.is_some_and(|all| value.matches(&all.join(",")))
                }
            }
        };
        if !self.headers.iter().all(header) {
            return false;
        }
        self.query.iter().all(|(name, value)| {
            form_urlencoded::parse(query.unwrap_or_default().as_bytes())
                .find(|(key, _)| key == name)
                .is_some_and(|(_, text)| value.matches(&text))
        })
    }

    /// How specific they are, the most specific first: a method, then the number of headers, then that of query parameters.
    pub(crate) fn rank(&self) -> (bool, std::cmp::Reverse<usize>, std::cmp::Reverse<usize>) {
        (
            self.method.is_none(),
            std::cmp::Reverse(self.headers.len()),
            std::cmp::Reverse(self.query.len()),
        )
    }
}

/// Of several conditions on one name the first counts (Gateway API, `HTTPHeaderMatch.name`).
fn headers(specs: &[ValueMatch], at: &str) -> Result<Vec<(HeaderName, Value)>, String> {
    let mut all: Vec<(HeaderName, Value)> = Vec::new();
    for (i, spec) in specs.iter().enumerate() {
        let at = format!("{at}.headers[{i}]");
        let name = spec.name.parse::<HeaderName>();
        let name = name.map_err(|_| format!("{at}.name: {:?} is not the name of a header", spec.name))?;
        if !all.iter().any(|(known, _)| *known == name) {
            all.push((name, Value::new(spec, &at)?));
        }
    }
    Ok(all)
}

impl Match {
    /// What a rule without matches is about: everything.
    pub(crate) fn everything() -> Self {
        Self {
            path: PathMatch::Prefix(String::new()),
            conditions: Conditions::default(),
        }
    }

    pub(crate) fn http(spec: &HttpMatch, at: &str) -> Result<Self, String> {
        let (kind, value) = match &spec.path {
            None => ("PathPrefix", "/"),
            Some(path) => (
                path.type_.as_deref().unwrap_or("PathPrefix"),
                path.value.as_deref().unwrap_or("/"),
            ),
        };
        let path = match kind {
            "Exact" | "PathPrefix" if !value.starts_with('/') => {
                return Err(format!("{at}.path.value: {value:?} does not begin with a slash"));
            }
            "Exact" => PathMatch::Exact(value.to_owned()),
            "PathPrefix" => PathMatch::Prefix(value.trim_end_matches('/').to_owned()),
            "RegularExpression" => {
                PathMatch::Regex(pattern::whole(value).map_err(|why| format!("{at}.path.value: {why}"))?)
            }
            other => {
                return Err(format!(
                    "{at}.path.type: {other:?}: the gateway does not implement it"
                ));
            }
        };
        let method = match &spec.method {
            None => None,
            Some(text) => {
                let method = text.parse::<Method>();
                Some(method.map_err(|_| format!("{at}.method: {text:?} is not a method"))?)
            }
        };
        let mut query: Vec<(String, Value)> = Vec::new();
        for (i, parameter) in spec.query_params.iter().enumerate() {
            if !query.iter().any(|(known, _)| *known == parameter.name) {
                let value = Value::new(parameter, &format!("{at}.queryParams[{i}]"))?;
                query.push((parameter.name.clone(), value));
            }
        }
        Ok(Self {
            path,
            conditions: Conditions {
                method,
                headers: headers(&spec.headers, at)?,
                query,
            },
        })
    }

    /// A gRPC method is a path of HTTP/2: `/service/method`.
    pub(crate) fn grpc(spec: &GrpcMatch, at: &str) -> Result<Self, String> {
        let mut path = PathMatch::Prefix(String::new());
        if let Some(method) = &spec.method {
            let (service, name) = (method.service.as_deref(), method.method.as_deref());
            path = match (method.type_.as_deref().unwrap_or("Exact"), service, name) {
                (_, None, None) => return Err(format!("{at}.method: service or method must be given")),
                ("Exact", Some(service), Some(name)) => PathMatch::Exact(format!("/{service}/{name}")),
                ("Exact", Some(service), None) => PathMatch::Prefix(format!("/{service}")),
                ("Exact", None, Some(name)) => {
                    PathMatch::Regex(pattern::whole(&format!("/[^/]+/{}", regex::escape(name)))?)
                }
                ("RegularExpression", service, name) => {
                    let any = "[^/]+";
                    let expression = format!("/({})/({})", service.unwrap_or(any), name.unwrap_or(any));
                    PathMatch::Regex(
                        pattern::whole(&expression).map_err(|why| format!("{at}.method: {why}"))?,
                    )
                }
                (other, _, _) => {
                    return Err(format!(
                        "{at}.method.type: {other:?}: the gateway does not implement it"
                    ));
                }
            };
        }
        Ok(Self {
            path,
            conditions: Conditions {
                method: None,
                headers: headers(&spec.headers, at)?,
                query: Vec::new(),
            },
        })
    }
}
