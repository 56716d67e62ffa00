//! The table that requests are looked up in. It is never changed: a new one takes its place.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method};

use super::filters::Filters;
use super::matches::{Conditions, PathMatch};
use super::object::Name;
use super::policies::{ClientSettings, RetryPolicy, Security};
use crate::api::envoy::LoadBalancerType;
use crate::policy::authorization::Authorization;
use crate::policy::rate_limit::Limiter;
use crate::upstream::limits::Limits;
use crate::upstream::{Endpoints, Protocol};

/// TCP or UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Transport {
    Tcp,
    Udp,
}

/// A port that is listened on.
pub(crate) type Socket = (Transport, u16);

/// All ports.
#[derive(Default)]
pub(crate) struct Table {
    pub(crate) ports: HashMap<Socket, Port>,
}

/// What a port does with what arrives there.
#[derive(Clone)]
pub(crate) enum Port {
    Http(Arc<HttpPort>),
    /// Connections are told apart by the server name that they ask for.
    Tls(Arc<TlsPort>),
    /// TCP or UDP to one set of backends; nothing, if no route leads on.
    Raw(Option<Arc<RawRoute>>),
}

/// Listeners of one port for HTTP, those with the most specific host first.
#[derive(Default)]
pub(crate) struct HttpPort {
    pub(crate) listeners: Vec<Arc<HttpListener>>,
}

#[derive(Default)]
pub(crate) struct TlsPort {
    /// Most specific host first.
    pub(crate) entries: Vec<(HostPattern, TlsEntry)>,
    /// What requests of decrypted connections are looked up in.
    pub(crate) http: Arc<HttpPort>,
}

#[derive(Clone)]
pub(crate) enum TlsEntry {
    /// TLS ends here.
    Terminate {
        certificate: Certificate,
        settings: Arc<ClientSettings>,
    },
    /// TLS goes on to a backend, unread.
    Passthrough(Arc<RawRoute>),
    /// A listener, or route, that is closed.
    Closed,
}

/// Where the certificate of a listener comes from.
#[derive(Clone)]
pub(crate) enum Certificate {
    Given(Arc<rustls::sign::CertifiedKey>),
    /// Made when a name is asked for, and signed by the local authority.
    Minted,
}

/// A listener of a Gateway.
pub(crate) struct HttpListener {
    pub(crate) host: HostPattern,
    pub(crate) routes: HostTable,
    pub(crate) settings: Arc<ClientSettings>,
    /// Answers everything with 500: a policy of the listener cannot be followed.
    pub(crate) closed: bool,
}

/// Which hosts are meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum HostPattern {
    Any,
    /// All names that end with this, which begins with a dot.
    Suffix(Box<str>),
    Exact(Box<str>),
}

impl HostPattern {
    pub(crate) fn new(host: Option<&str>) -> Self {
        match host.filter(|host| !host.is_empty()) {
            None => Self::Any,
            Some(host) => match host.strip_prefix('*') {
                Some(suffix) => Self::Suffix(suffix.into()),
                None => Self::Exact(host.into()),
            },
        }
    }

    pub(crate) fn matches(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Suffix(suffix) => host.len() > suffix.len() && host.ends_with(&**suffix),
            Self::Exact(name) => **name == *host,
        }
    }

    /// What both have in common, which is the more specific one; nothing if there is no such name.
    pub(crate) fn intersect(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Any, one) | (one, Self::Any) => Some(one.clone()),
            (Self::Exact(a), Self::Exact(b)) => (a == b).then(|| self.clone()),
            (Self::Exact(name), wild @ Self::Suffix(_)) => wild.matches(name).then(|| self.clone()),
            (wild @ Self::Suffix(_), Self::Exact(name)) => wild.matches(name).then(|| other.clone()),
            (Self::Suffix(a), Self::Suffix(b)) => match () {
                () if a.ends_with(&**b) => Some(self.clone()),
                () if b.ends_with(&**a) => Some(other.clone()),
                () => None,
            },
        }
    }

    /// The most specific first.
    pub(crate) fn rank(&self) -> (u8, Reverse<usize>) {
        match self {
            Self::Exact(name) => (0, Reverse(name.len())),
            Self::Suffix(suffix) => (1, Reverse(suffix.len())),
            Self::Any => (2, Reverse(0)),
        }
    }
}

impl std::fmt::Display for HostPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Suffix(suffix) => write!(f, "*{suffix}"),
            Self::Exact(name) => f.write_str(name),
        }
    }
}

/// The rules of a listener by host.
#[derive(Default)]
pub(crate) struct HostTable {
    exact: HashMap<Box<str>, PathTable>,
    suffixes: HashMap<Box<str>, PathTable>,
    any: PathTable,
}

/// The rules of a host by path.
#[derive(Default)]
struct PathTable {
    exact: HashMap<Box<str>, Vec<Entry>>,
    /// By prefix, without a slash at its end.
    prefixes: HashMap<Box<str>, Vec<Entry>>,
    /// Longest expression first.
    expressions: Vec<(regex::Regex, Entry)>,
}

/// A rule, and what a request must have besides its path.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) conditions: Conditions,
    pub(crate) rule: Arc<Rule>,
    pub(crate) order: Order,
}

/// What decides between matches that are equally specific: the age of the route, its name, the rule's place in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Order {
    pub(crate) created: i64,
    pub(crate) name: Name,
    pub(crate) rule: usize,
    pub(crate) place: usize,
}

/// A rule that was found, with the prefix by which.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) rule: Arc<Rule>,
    /// Length of the prefix in the path.
    pub(crate) prefix: usize,
}

/// A rule that requests are handled by.
pub(crate) struct Rule {
    /// The route, for logs: `HTTPRoute ns/name`.
    pub(crate) route: Arc<str>,
    /// The rule's name in its route, or nothing.
    pub(crate) name: String,
    pub(crate) action: Action,
    pub(crate) filters: Filters,
    pub(crate) mirrors: Vec<Mirror>,
    pub(crate) security: Option<Arc<Security>>,
    pub(crate) limiter: Option<Arc<Limiter>>,
    /// The whole request, until the last byte of the answer; `None` is no limit.
    pub(crate) timeout: Option<Duration>,
    /// One attempt, until the head of the answer.
    pub(crate) attempt_timeout: Option<Duration>,
    pub(crate) retry: Option<Arc<RetryPolicy>>,
}

impl std::fmt::Debug for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rule")
            .field("route", &self.route)
            .finish_non_exhaustive()
    }
}

pub(crate) enum Action {
    Forward(Cluster),
    /// A redirect or direct response of the filters.
    Answer,
    /// Nothing can be done: the rule or its policies cannot be followed.
    Fail,
}

/// A mirror with its backend.
pub(crate) struct Mirror {
    pub(crate) cluster: Cluster,
    pub(crate) share: (u32, u32),
}

/// The backends of a rule, with their limits.
pub(crate) struct Cluster {
    pub(crate) backends: Vec<WeightedBackend>,
    pub(crate) total: u32,
    pub(crate) limits: Arc<Limits>,
    pub(crate) balance: LoadBalancerType,
    pub(crate) connect_timeout: Duration,
}

pub(crate) struct WeightedBackend {
    pub(crate) weight: u32,
    /// `None` stands for a reference that cannot be resolved: its share of requests fails.
    pub(crate) target: Option<(Arc<Endpoints>, Protocol)>,
    pub(crate) filters: Filters,
}

impl Cluster {
    /// A backend by its weight. Nothing if all weights are zero.
    pub(crate) fn choose(&self) -> Option<&WeightedBackend> {
        match self.backends.as_slice() {
            [only] => return (only.weight > 0).then_some(only),
            _ if self.total == 0 => return None,
            _ => {}
        }
        let mut at = rand::random_range(0..self.total);
        self.backends.iter().find(|backend| {
            let found = at < backend.weight;
            at = at.saturating_sub(backend.weight);
            found
        })
    }
}

/// Connections that go to backends as they are.
pub(crate) struct RawRoute {
    pub(crate) route: Arc<str>,
    pub(crate) cluster: Cluster,
    pub(crate) authorization: Option<Arc<Authorization>>,
}

impl HttpPort {
    /// The listener that a host is of: the one with the most specific name.
    pub(crate) fn listener(&self, host: &str) -> Option<&Arc<HttpListener>> {
        self.listeners.iter().find(|listener| listener.host.matches(host))
    }
}

impl TlsPort {
    pub(crate) fn entry(&self, host: &str) -> Option<&TlsEntry> {
        self.entries
            .iter()
            .find(|(pattern, _)| pattern.matches(host))
            .map(|(_, entry)| entry)
    }
}

impl HostTable {
    pub(crate) fn insert(&mut self, host: &HostPattern, path: &PathMatch, entry: Entry) {
        let table = match host {
            HostPattern::Exact(name) => self.exact.entry(name.clone()).or_default(),
            HostPattern::Suffix(suffix) => self.suffixes.entry(suffix.clone()).or_default(),
            HostPattern::Any => &mut self.any,
        };
        match path {
            PathMatch::Exact(value) => table.exact.entry(value.as_str().into()).or_default().push(entry),
            PathMatch::Prefix(value) => table
                .prefixes
                .entry(value.as_str().into())
                .or_default()
                .push(entry),
            PathMatch::Regex(regex) => table.expressions.push((regex.clone(), entry)),
        }
    }

    /// Brings everything into the order of precedence.
    pub(crate) fn sort(&mut self) {
        let tables = self
            .exact
            .values_mut()
            .chain(self.suffixes.values_mut())
            .chain([&mut self.any]);
        for table in tables {
            for entries in table.exact.values_mut().chain(table.prefixes.values_mut()) {
                entries.sort_by(|a, b| a.rank().cmp(&b.rank()));
            }
            table.expressions.sort_by(|(a, x), (b, y)| {
                (Reverse(a.as_str().len()), x.rank()).cmp(&(Reverse(b.as_str().len()), y.rank()))
            });
        }
    }

    /// The rule for a request, in the precedence of the Gateway API: the most specific host, then an exact path, an expression, the
    /// longest prefix, then a method, the most headers, the most query parameters, then the oldest route, and the first by name.
    pub(crate) fn find(
        &self,
        host: &str,
        path: &str,
        method: &Method,
        headers: &HeaderMap,
        query: Option<&str>,
    ) -> Option<Found> {
        let find = |table: &PathTable| table.find(path, method, headers, query);
        if let Some(found) = self.exact.get(host).and_then(find) {
            return Some(found);
        }
        if !self.suffixes.is_empty() {
            for (i, _) in host.match_indices('.').filter(|(i, _)| *i > 0) {
                if let Some(found) = self.suffixes.get(&host[i..]).and_then(find) {
                    return Some(found);
                }
            }
        }
        find(&self.any)
    }
}

#[cfg(test)]
impl HostTable {
    /// Everything in it, as text in a certain order.
    pub(crate) fn dump(&self) -> Vec<String> {
        let mut all = Vec::new();
        let mut tables: Vec<(String, &PathTable)> = vec![("*".to_owned(), &self.any)];
        tables.extend(self.exact.iter().map(|(host, table)| (host.to_string(), table)));
        tables.extend(
            self.suffixes
                .iter()
                .map(|(host, table)| (format!("*{host}"), table)),
        );
        for (host, table) in tables {
            let mut lists: Vec<(String, Vec<&Entry>)> = Vec::new();
            for (path, entries) in &table.exact {
                lists.push((format!("={path}"), entries.iter().collect()));
            }
            for (path, entries) in &table.prefixes {
                lists.push((format!("{path}/"), entries.iter().collect()));
            }
            let expressions = table.expressions.iter();
            lists.push(("~".to_owned(), expressions.map(|(_, entry)| entry).collect()));
            for (path, entries) in lists {
                for entry in entries {
                    all.push(format!(
                        "{host} {path} {:?} {}",
                        entry.order,
                        entry.rule.describe()
                    ));
                }
            }
        }
        all.sort();
        all
    }
}

#[cfg(test)]
impl Rule {
    fn describe(&self) -> String {
        let action = match &self.action {
            Action::Fail => "fails".to_owned(),
            Action::Answer => "answers".to_owned(),
            Action::Forward(cluster) => {
                let targets = cluster.backends.iter().map(|backend| {
                    let to = backend.target.as_ref();
                    (
                        backend.weight,
                        to.map(|(to, protocol)| (Arc::as_ptr(to).addr(), *protocol)),
                    )
                });
                format!("forwards {:?}", targets.collect::<Vec<_>>())
            }
        };
        let security = self.security.as_ref().map(|security| {
            let users = security.basic.as_ref().map(|(users, _)| users.describe());
            (users, security.cors.is_some(), security.authorization.is_some())
        });
        format!(
            "{} {:?} {action} {security:?} {} {:?}",
            self.route,
            self.name,
            self.limiter.is_some(),
            self.timeout
        )
    }
}

impl Entry {
    fn rank(&self) -> (impl Ord + use<>, &Order) {
        (self.conditions.rank(), &self.order)
    }
}

impl PathTable {
    fn find(&self, path: &str, method: &Method, headers: &HeaderMap, query: Option<&str>) -> Option<Found> {
        let among = |entries: &Vec<Entry>, prefix: usize| {
            let entry = entries
                .iter()
                .find(|entry| entry.conditions.hold(method, headers, query))?;
            Some(Found {
                rule: Arc::clone(&entry.rule),
                prefix,
            })
        };
        if let Some(found) = self
            .exact
            .get(path)
            .and_then(|entries| among(entries, path.len()))
        {
            return Some(found);
        }
        for (regex, entry) in &self.expressions {
            if regex.is_match(path) && entry.conditions.hold(method, headers, query) {
                return Some(Found {
                    rule: Arc::clone(&entry.rule),
                    prefix: 0,
                });
            }
        }
        if self.prefixes.is_empty() {
            return None;
        }
        // From the whole path down, one element less each time.
        let mut end = path.trim_end_matches('/').len();
        loop {
            if let Some(found) = self
                .prefixes
                .get(&path[..end])
                .and_then(|entries| among(entries, end))
            {
                return Some(found);
            }
            end = path[..end].rfind('/')?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_intersect_as_the_gateway_api_says() {
        let intersect = |a: &str, b: &str| {
            let both = HostPattern::new(Some(a)).intersect(&HostPattern::new(Some(b)));
            both.map(|host| host.to_string())
        };
        assert_eq!(
            intersect("*.example.com", "a.b.example.com").as_deref(),
            Some("a.b.example.com")
        );
        assert_eq!(intersect("*.example.com", "example.com"), None);
        assert_eq!(
            intersect("a.example.com", "*.example.com").as_deref(),
            Some("a.example.com")
        );
        assert_eq!(
            intersect("*.example.com", "*.a.example.com").as_deref(),
            Some("*.a.example.com")
        );
        assert_eq!(intersect("*.example.com", "a.example.org"), None);
        assert_eq!(intersect("*.example.com", "*.myexample.com"), None);
        assert_eq!(intersect("", "a.example.org").as_deref(), Some("a.example.org"));
    }
}
