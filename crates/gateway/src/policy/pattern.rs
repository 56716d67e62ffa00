//! Patterns of paths and values, compiled once.

use regex::{Regex, RegexBuilder};

use crate::api::envoy::PathSelector;

/// Largest program of a compiled expression, in bytes. It keeps one route's expression from taking the memory of all.
const REGEX_SIZE: usize = 256 * 1024;

/// Compiles an expression that must match the whole text, as Envoy's RE2 matches do.
///
/// # Errors
/// When it is not an expression, or a too large one.
pub(crate) fn whole(pattern: &str) -> Result<Regex, String> {
    compile(&format!("^(?:{pattern})$"))
}

/// Compiles an expression that is looked for anywhere.
pub(crate) fn compile(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern)
        .size_limit(REGEX_SIZE)
        .dfa_size_limit(REGEX_SIZE)
        .build()
        .map_err(|error| {
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default().trim();
            format!("not a regular expression that can be followed: {last}")
        })
}

/// A path that is selected by value, prefix (whole elements) or expression.
#[derive(Clone, Debug)]
pub(crate) struct PathPattern {
    kind: PathKind,
    invert: bool,
}

#[derive(Clone, Debug)]
enum PathKind {
    Exact(String),
    Prefix(String),
    Regex(Regex),
}

impl PathPattern {
    pub(crate) fn new(selector: &PathSelector, at: &str) -> Result<Self, String> {
        let value = selector.value.clone().unwrap_or_else(|| "/".to_owned());
        let kind = match selector.type_.as_deref().unwrap_or("PathPrefix") {
            "Exact" => PathKind::Exact(value),
            "PathPrefix" => PathKind::Prefix(value.trim_end_matches('/').to_owned()),
            "RegularExpression" => {
                PathKind::Regex(whole(&value).map_err(|why| format!("{at}.value: {why}"))?)
            }
            other => return Err(format!("{at}.type: {other:?}: the gateway does not implement it")),
        };
        Ok(Self {
            kind,
            invert: selector.invert,
        })
    }

    /// Whether it is meant. `with_query` says what expressions see: authorization rules match the path alone, and selectors of
    /// rate limits the whole `:path`, with the query, as Envoy's filters do.
    pub(crate) fn matches(&self, path_and_query: &str, with_query: bool) -> bool {
        let path = path_and_query
            .split_once('?')
            .map_or(path_and_query, |(path, _)| path);
        let found = match &self.kind {
            PathKind::Exact(value) => path == value,
            PathKind::Prefix(value) => starts_with_elements(path, value),
            PathKind::Regex(regex) => regex.is_match(if with_query { path_and_query } else { path }),
        };
        found != self.invert
    }
}

/// Whether a path begins with all elements of a prefix that has no slash at its end: `/a` is a prefix of `/a/b`, not of `/ab`.
pub(crate) fn starts_with_elements(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
