//! Filters of routes, compiled.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use regex::Regex;

use crate::api::envoy::HttpRouteFilterSpec;
use crate::api::gateway::{
    BackendRef, Filter, FilterType, Header, HeaderModifier, PathModifier, RequestRedirect,
};
use crate::policy::pattern;

/// What is done to headers, in the order of the Gateway API: set, add, remove.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeaderChanges {
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
    remove: Vec<HeaderName>,
}

impl HeaderChanges {
    fn merge(&mut self, spec: &HeaderModifier, at: &str) -> Result<(), String> {
        let pair = |header: &Header, field: &str, i: usize| {
            let name = name(&header.name, &format!("{at}.{field}[{i}].name"))?;
            let value = HeaderValue::from_str(&header.value);
            let value = value.map_err(|_| format!("{at}.{field}[{i}].value: not the value of a header"))?;
            Ok::<_, String>((name, value))
        };
        for (i, header) in spec.set.iter().enumerate() {
            self.set.push(pair(header, "set", i)?);
        }
        for (i, header) in spec.add.iter().enumerate() {
            self.add.push(pair(header, "add", i)?);
        }
        for (i, header) in spec.remove.iter().enumerate() {
            self.remove.push(name(header, &format!("{at}.remove[{i}]"))?);
        }
        Ok(())
    }

    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
        for name in &self.remove {
            headers.remove(name);
        }
    }
}

fn name(text: &str, at: &str) -> Result<HeaderName, String> {
    let name: HeaderName = text
        .parse()
        .map_err(|_| format!("{at}: {text:?} is not the name of a header"))?;
    if name == http::header::HOST {
        return Err(format!(
            "{at}: the host is changed by a URLRewrite filter, not as a header"
        ));
    }
    Ok(name)
}

/// How a path is changed.
#[derive(Clone, Debug)]
pub(crate) enum PathChange {
    Full(String),
    Prefix(String),
    Regex(Regex, String),
}

impl PathChange {
    fn new(spec: &PathModifier, at: &str) -> Result<Self, String> {
        match (
            spec.type_.as_str(),
            &spec.replace_full_path,
            &spec.replace_prefix_match,
        ) {
            ("ReplaceFullPath", Some(path), None) => Ok(Self::Full(path.clone())),
            ("ReplacePrefixMatch", None, Some(prefix)) => Ok(Self::Prefix(prefix.clone())),
            (other, _, _) => Err(format!(
                "{at}: type is {other:?}, which needs exactly the field that goes with it"
            )),
        }
    }

    /// The new path. `matched` is the prefix that the request was matched by.
    pub(crate) fn apply(&self, path: &str, matched: &str) -> String {
        match self {
            Self::Full(full) => full.clone(),
            Self::Prefix(prefix) => {
                let rest = path.strip_prefix(matched).unwrap_or(path);
                let joined = format!(
                    "{}/{}",
                    prefix.trim_end_matches('/'),
                    rest.trim_start_matches('/')
                );
                match (rest.is_empty(), prefix.is_empty() || prefix == "/") {
                    // A prefix that is replaced alone stays as it is written, with its slash at the end or without.
                    (true, false) => prefix.clone(),
                    (true, true) => "/".to_owned(),
                    (false, _) => joined,
                }
            }
            Self::Regex(regex, substitution) => regex.replace_all(path, substitution.as_str()).into_owned(),
        }
    }
}

/// The host that the backend is asked for.
#[derive(Clone, Debug)]
pub(crate) enum HostChange {
    To(HeaderValue),
    FromHeader(HeaderName),
}

/// An answer that is no backend's.
#[derive(Clone, Debug)]
pub(crate) struct Direct {
    pub(crate) status: StatusCode,
    pub(crate) content_type: Option<HeaderValue>,
    pub(crate) body: bytes::Bytes,
}

#[derive(Clone, Debug)]
pub(crate) struct Redirect {
    scheme: Option<String>,
    host: Option<String>,
    path: Option<PathChange>,
    port: Option<u16>,
    pub(crate) status: StatusCode,
}

impl Redirect {
    fn new(spec: &RequestRedirect, at: &str) -> Result<Self, String> {
        let code = spec.status_code.unwrap_or(302);
        if !matches!(code, 301 | 302 | 303 | 307 | 308) {
            return Err(format!("{at}.statusCode: {code} is not the code of a redirect"));
        }
        if let Some(scheme) = &spec.scheme
            && !matches!(scheme.as_str(), "http" | "https")
        {
            return Err(format!("{at}.scheme: {scheme:?} is neither http nor https"));
        }
        Ok(Self {
            scheme: spec.scheme.clone(),
            host: spec.hostname.clone(),
            path: match &spec.path {
                None => None,
                Some(path) => Some(PathChange::new(path, &format!("{at}.path"))?),
            },
            port: spec.port,
            status: StatusCode::from_u16(code).map_err(|_| format!("{at}.statusCode: {code}"))?,
        })
    }

    /// The address that the client is sent to. Without a port in the filter it is the scheme's own if the filter names a scheme,
    /// and else the listener's (Gateway API, `HTTPRequestRedirectFilter.port`).
    pub(crate) fn location(&self, scheme: &str, host: &str, port: u16, uri: &Uri, matched: &str) -> String {
        let new_scheme = self.scheme.as_deref().unwrap_or(scheme);
        let new_host = self.host.as_deref().unwrap_or(host);
        let well_known = |scheme: &str| if scheme == "https" { 443 } else { 80 };
        let new_port = self.port.unwrap_or(match &self.scheme {
            Some(scheme) => well_known(scheme),
            None => port,
        });
        let path = match &self.path {
            Some(change) => change.apply(uri.path(), matched),
            None => uri.path().to_owned(),
        };
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let port = match new_port == well_known(new_scheme) {
            true => String::new(),
            false => format!(":{new_port}"),
        };
        format!("{new_scheme}://{new_host}{port}{path}{query}")
    }
}

/// A copy of requests for another backend, whose answers nobody reads.
#[derive(Clone, Debug)]
pub(crate) struct MirrorTo {
    pub(crate) backend: BackendRef,
    /// Of how many requests: `numerator` in `denominator`.
    pub(crate) share: (u32, u32),
}

/// The filters of a rule, or of one of its backends.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filters {
    pub(crate) request: HeaderChanges,
    pub(crate) response: HeaderChanges,
    pub(crate) host: Option<HostChange>,
    pub(crate) path: Option<PathChange>,
    pub(crate) redirect: Option<Redirect>,
    pub(crate) direct: Option<Direct>,
    pub(crate) mirrors: Vec<MirrorTo>,
    /// Names of HTTPRouteFilters in the route's namespace that are to be looked up.
    pub(crate) extensions: Vec<String>,
}

impl Filters {
    pub(crate) fn new(specs: &[Filter], at: &str) -> Result<Self, String> {
        let mut filters = Self::default();
        for (i, spec) in specs.iter().enumerate() {
            filters.add(spec, &format!("{at}[{i}]"))?;
        }
        if filters.redirect.is_some() && (filters.path.is_some() || filters.host.is_some()) {
            return Err(format!(
                "{at}: a RequestRedirect and a URLRewrite exclude each other"
            ));
        }
        Ok(filters)
    }

    fn add(&mut self, spec: &Filter, at: &str) -> Result<(), String> {
        let absent = |field: &str| format!("{at}.{field}: not given, although type says so");
        match spec.type_ {
            FilterType::RequestHeaderModifier => {
                let modifier = spec.request_header_modifier.as_ref();
                let modifier = modifier.ok_or_else(|| absent("requestHeaderModifier"))?;
                self.request
                    .merge(modifier, &format!("{at}.requestHeaderModifier"))
            }
            FilterType::ResponseHeaderModifier => {
                let modifier = spec.response_header_modifier.as_ref();
                let modifier = modifier.ok_or_else(|| absent("responseHeaderModifier"))?;
                self.response
                    .merge(modifier, &format!("{at}.responseHeaderModifier"))
            }
            FilterType::UrlRewrite => {
                let rewrite = spec.url_rewrite.as_ref().ok_or_else(|| absent("urlRewrite"))?;
                if let Some(host) = &rewrite.hostname {
                    let host = HeaderValue::from_str(host);
                    let host = host.map_err(|_| format!("{at}.urlRewrite.hostname: not a host name"))?;
                    self.host = Some(HostChange::To(host));
                }
                if let Some(path) = &rewrite.path {
                    self.path = Some(PathChange::new(path, &format!("{at}.urlRewrite.path"))?);
                }
                Ok(())
            }
            FilterType::RequestRedirect => {
                let redirect = spec
                    .request_redirect
                    .as_ref()
                    .ok_or_else(|| absent("requestRedirect"))?;
                self.redirect = Some(Redirect::new(redirect, &format!("{at}.requestRedirect"))?);
                Ok(())
            }
            FilterType::RequestMirror => {
                let mirror = spec
                    .request_mirror
                    .as_ref()
                    .ok_or_else(|| absent("requestMirror"))?;
                let share = match (&mirror.percent, &mirror.fraction) {
                    (Some(_), Some(_)) => {
                        return Err(format!(
                            "{at}.requestMirror: only one of percent and fraction can hold"
                        ));
                    }
                    (Some(percent), None) => (*percent, 100),
                    (None, Some(fraction)) => {
                        (fraction.numerator, fraction.denominator.unwrap_or(100).max(1))
                    }
                    (None, None) => (1, 1),
                };
                self.mirrors.push(MirrorTo {
                    backend: mirror.backend_ref.clone(),
                    share,
                });
                Ok(())
            }
            FilterType::ExtensionRef => {
                let reference = spec
                    .extension_ref
                    .as_ref()
                    .ok_or_else(|| absent("extensionRef"))?;
                let kind = (reference.group.as_deref(), reference.kind.as_deref());
                if kind != (Some(crate::api::ENVOY_GATEWAY), Some("HTTPRouteFilter")) {
                    return Err(format!(
                        "{at}.extensionRef: only an HTTPRouteFilter of gateway.envoyproxy.io is implemented"
                    ));
                }
                self.extensions.push(reference.name.clone());
                Ok(())
            }
        }
    }

    /// Takes in what an HTTPRouteFilter says.
    pub(crate) fn extend(&mut self, other: &Extension) {
        if let Some(path) = &other.path {
            self.path = Some(path.clone());
        }
        if let Some(host) = &other.host {
            self.host = Some(host.clone());
        }
        if let Some(direct) = &other.direct {
            self.direct = Some(direct.clone());
        }
    }
}

/// An HTTPRouteFilter.
#[derive(Debug, Default)]
pub(crate) struct Extension {
    path: Option<PathChange>,
    host: Option<HostChange>,
    direct: Option<Direct>,
}

impl Extension {
    pub(crate) fn new(spec: &HttpRouteFilterSpec) -> Result<Self, String> {
        let mut extension = Self::default();
        if let Some(rewrite) = &spec.url_rewrite {
            if let Some(path) = &rewrite.path {
                let at = "spec.urlRewrite.path";
                let replace = path
                    .replace_regex_match
                    .as_ref()
                    .filter(|_| path.type_ == "ReplaceRegexMatch");
                let replace =
                    replace.ok_or_else(|| format!("{at}: only ReplaceRegexMatch is implemented"))?;
                let regex = pattern::compile(&replace.pattern)
                    .map_err(|why| format!("{at}.replaceRegexMatch.pattern: {why}"))?;
                extension.path = Some(PathChange::Regex(regex, substitution(&replace.substitution)));
            }
            if let Some(host) = &rewrite.hostname {
                let at = "spec.urlRewrite.hostname";
                let name = host.header.as_ref().filter(|_| host.type_ == "Header");
                let name =
                    name.ok_or_else(|| format!("{at}: only type Header is implemented, with header"))?;
                let name = name
                    .parse()
                    .map_err(|_| format!("{at}.header: {name:?} is not the name of a header"))?;
                extension.host = Some(HostChange::FromHeader(name));
            }
        }
        if let Some(direct) = &spec.direct_response {
            let at = "spec.directResponse";
            let code = direct.status_code.unwrap_or(200);
            let content_type = match &direct.content_type {
                None => None,
                Some(text) => Some(
                    HeaderValue::from_str(text)
                        .map_err(|_| format!("{at}.contentType: not the value of a header"))?,
                ),
            };
            let body = match &direct.body {
                None => String::new(),
                Some(body) => match (body.type_.as_deref().unwrap_or("Inline"), &body.inline) {
                    ("Inline", Some(text)) => text.clone(),
                    _ => return Err(format!("{at}.body: only type Inline is implemented, with inline")),
                },
            };
            extension.direct = Some(Direct {
                status: StatusCode::from_u16(code)
                    .ok()
                    .filter(|status| status.as_u16() >= 200)
                    .ok_or_else(|| format!("{at}.statusCode: {code} is not the code of an answer"))?,
                content_type,
                body: body.into(),
            });
        }
        Ok(extension)
    }
}

/// RE2 writes groups as `\1`, and a dollar sign is a dollar sign.
fn substitution(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match (c, rest.peek()) {
            ('$', _) => out.push_str("$$"),
            ('\\', Some(digit)) if digit.is_ascii_digit() => {
                out.push_str(&format!("${{{digit}}}"));
                rest.next();
            }
            ('\\', Some('\\')) => {
                out.push('\\');
                rest.next();
            }
            (other, _) => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    // The table of `HTTPPathModifier.replacePrefixMatch` in the Gateway API.
    #[rstest]
    #[case("/foo/bar", "/foo", "/xyz", "/xyz/bar")]
    #[case("/foo/bar", "/foo", "/xyz/", "/xyz/bar")]
    #[case("/foo/", "/foo", "/xyz", "/xyz/")]
    #[case("/foo", "/foo", "/xyz", "/xyz")]
    #[case("/foo/", "/foo", "", "/")]
    #[case("/foo/bar", "/foo", "", "/bar")]
    #[case("/foo", "/foo", "", "/")]
    #[case("/foo/", "/foo", "/", "/")]
    #[case("/foo", "/foo", "/", "/")]
    #[case("/foo/bar", "/foo", "/", "/bar")]
    #[case("/bar", "", "/base", "/base/bar")]
    fn prefixes_are_replaced_as_the_gateway_api_says(
        #[case] path: &str,
        #[case] matched: &str,
        #[case] prefix: &str,
        #[case] expected: &str,
    ) {
        assert_eq!(
            PathChange::Prefix(prefix.to_owned()).apply(path, matched),
            expected
        );
    }

    #[test]
    fn groups_are_written_as_in_re2() {
        let regex = pattern::compile("^/service/([^/]+)(/.*)$").unwrap();
        let change = PathChange::Regex(regex, substitution(r"\2/instance/\1$"));
        assert_eq!(change.apply("/service/foo/v1/api", ""), "/v1/api/instance/foo$");
    }

    #[test]
    fn a_redirect_keeps_what_it_does_not_name() {
        let with = |spec: serde_json::Value| {
            Redirect::new(&crate::api::read(&spec, "r").unwrap(), "r")
                .unwrap()
                .location("http", "a.localhost", 9080, &"/x/y?q=1".parse().unwrap(), "/x")
        };
        assert_eq!(with(serde_json::json!({})), "http://a.localhost:9080/x/y?q=1");
        assert_eq!(
            with(serde_json::json!({"scheme": "https"})),
            "https://a.localhost/x/y?q=1"
        );
        assert_eq!(
            with(serde_json::json!({"scheme": "https", "port": 9443})),
            "https://a.localhost:9443/x/y?q=1"
        );
        assert_eq!(
            with(
                serde_json::json!({"hostname": "b", "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/z"}})
            ),
            "http://b:9080/z/y?q=1"
        );
    }
}
