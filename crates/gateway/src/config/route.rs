//! A route as it is written, read once when it changes.

use std::collections::BTreeSet;
use std::time::Duration;

use kube::core::DynamicObject;
use serde_json::Value;

use super::filters::Filters;
use super::matches::Match;
use super::object::{Kind, Meta, Name, spec};
use crate::api::gateway::{BackendRef, HttpRule, ParentReference, RawRule, RouteSpec};
use crate::api::read;
use crate::policy::duration;

/// Most rules that a route may have (Gateway API).
const MOST_RULES: usize = 16;

/// A route.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) kind: Kind,
    pub(crate) meta: Meta,
    /// Each reference as it is written, since statuses repeat it, and as it is read.
    pub(crate) parents: Vec<(Value, ParentReference)>,
    pub(crate) hostnames: Vec<String>,
    pub(crate) rules: Vec<Rule>,
    /// What cannot be followed; the route is closed then.
    pub(crate) problem: Option<String>,
}

/// A rule. What could not be read is empty, and the route has a problem.
#[derive(Debug, Default)]
pub(crate) struct Rule {
    pub(crate) name: Option<String>,
    pub(crate) matches: Vec<Match>,
    pub(crate) filters: Filters,
    pub(crate) backends: Vec<(BackendRef, Filters)>,
    /// The whole request, and one attempt.
    pub(crate) request_timeout: Option<Duration>,
    pub(crate) backend_timeout: Option<Duration>,
}

impl Route {
    pub(crate) fn read(kind: Kind, object: &DynamicObject) -> Self {
        let mut route = Self {
            kind,
            meta: Meta::of(object),
            parents: Vec::new(),
            hostnames: Vec::new(),
            rules: Vec::new(),
            problem: None,
        };
        if let Err(why) = route.fill(spec(object)) {
            route.problem = Some(why);
        }
        route
    }

    fn fill(&mut self, spec: &Value) -> Result<(), String> {
        // Parents are read by themselves, so that a route with an error has somebody to report it.
        for value in spec
            .get("parentRefs")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            if let Ok(parent) = read(value, "spec.parentRefs") {
                self.parents.push((value.clone(), parent));
            }
        }
        let RouteSpec {
            parent_refs,
            hostnames,
            rules,
        } = read(spec, "spec")?;
        if parent_refs.len() != self.parents.len() {
            return Err("spec.parentRefs: one of them is not a reference to a parent".to_owned());
        }
        if rules.len() > MOST_RULES {
            return Err(format!("spec.rules: at most {MOST_RULES}, found {}", rules.len()));
        }
        for (i, host) in hostnames.iter().enumerate() {
            if matches!(self.kind, Kind::TcpRoute | Kind::UdpRoute) {
                return Err(format!("spec.hostnames[{i}]: a {} has none", self.kind.as_str()));
            }
            if !is_hostname(host) {
                return Err(format!(
                    "spec.hostnames[{i}]: {host:?} is not a host name, with or without *. before it"
                ));
            }
        }
        self.hostnames = hostnames;
        if self.kind == Kind::TlsRoute && self.hostnames.is_empty() {
            return Err(
                "spec.hostnames: a TLSRoute needs one, since connections are told apart by it".to_owned(),
            );
        }
        let mut problem = None;
        for (i, value) in rules.iter().enumerate() {
            let at = format!("spec.rules[{i}]");
            let mut rule = Rule::default();
            let result = match self.kind.is_http() {
                true => rule.fill_http(self.kind, value, &at),
                false => rule.fill_raw(value, &at),
            };
            problem = problem.or(result.err());
            self.rules.push(rule);
        }
        // A route without rules is about everything, and leads nowhere.
        if self.rules.is_empty() {
            self.rules.push(Rule {
                matches: vec![Match::everything()],
                ..Rule::default()
            });
        }
        if !self.kind.is_http() && self.rules.len() > 1 {
            problem = problem.or(Some(format!(
                "spec.rules: a {} has exactly one, since connections cannot be told apart",
                self.kind.as_str()
            )));
        }
        match problem {
            None => Ok(()),
            Some(why) => Err(why),
        }
    }
}

impl Route {
    /// The Services that it names, each once.
    pub(crate) fn services(&self) -> BTreeSet<Name> {
        let own = &self.meta.name.namespace;
        let mirrors = |filters: &Filters| {
            filters
                .mirrors
                .iter()
                .map(|mirror| mirror.backend.clone())
                .collect::<Vec<_>>()
        };
        self.rules
            .iter()
            .flat_map(|rule| {
                let backends = rule.backends.iter().map(|(backend, _)| backend.clone());
                backends.chain(mirrors(&rule.filters)).collect::<Vec<_>>()
            })
            .filter(|backend| backend.kind.as_deref().unwrap_or("Service") == "Service")
            .map(|backend| Name::new(backend.namespace.as_deref().unwrap_or(own), &backend.name))
            .collect()
    }
}

impl Rule {
    fn fill_http(&mut self, kind: Kind, value: &Value, at: &str) -> Result<(), String> {
        // Matches come first: what is wrong elsewhere must close the requests that the rule is about, and no others.
        let matches = value.get("matches").and_then(Value::as_array);
        for (i, value) in matches.into_iter().flatten().enumerate() {
            let at = format!("{at}.matches[{i}]");
            self.matches.push(match kind {
                Kind::GrpcRoute => Match::grpc(&read(value, &at)?, &at)?,
                _ => Match::http(&read(value, &at)?, &at)?,
            });
        }
        if self.matches.is_empty() {
            self.matches.push(Match::everything());
        }
        let HttpRule {
            name,
            matches: _,
            filters,
            backend_refs,
            timeouts,
        } = read(value, at)?;
        self.name = name;
        self.filters = Filters::new(&filters, &format!("{at}.filters"))?;
        for (i, backend) in backend_refs.into_iter().enumerate() {
            let filters = Filters::new(&backend.filters, &format!("{at}.backendRefs[{i}].filters"))?;
            let on_rules_only =
                filters.redirect.is_some() || !filters.extensions.is_empty() || !filters.mirrors.is_empty();
            if on_rules_only || filters.host.is_some() || filters.path.is_some() {
                return Err(format!(
                    "{at}.backendRefs[{i}].filters: only header modifiers are implemented for single backends"
                ));
            }
            self.backends.push((backend, filters));
        }
        if let Some(timeouts) = timeouts {
            let time = |text: &Option<String>, field: &str| match text {
                None => Ok(None),
                Some(text) => duration::parse(text, &format!("{at}.timeouts.{field}")).map(Some),
            };
            self.request_timeout = time(&timeouts.request, "request")?;
            self.backend_timeout = time(&timeouts.backend_request, "backendRequest")?;
        }
        Ok(())
    }

    fn fill_raw(&mut self, value: &Value, at: &str) -> Result<(), String> {
        let RawRule { name, backend_refs } = read(value, at)?;
        self.name = name;
        for (i, backend) in backend_refs.into_iter().enumerate() {
            if !backend.filters.is_empty() {
                return Err(format!(
                    "{at}.backendRefs[{i}].filters: a connection cannot be filtered"
                ));
            }
            self.backends.push((backend, Filters::default()));
        }
        Ok(())
    }
}

/// A DNS name, the first label of which may be `*` (Gateway API, `Hostname`).
pub(crate) fn is_hostname(text: &str) -> bool {
    let rest = text.strip_prefix("*.").unwrap_or(text);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && rest.parse::<std::net::IpAddr>().is_err() && rest.split('.').all(label)
}
