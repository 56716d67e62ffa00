//! Rate limits, local and global.
//!
//! A *local* limit is Envoy's token bucket of one instance: it starts full and is filled evenly over its unit. A *global* limit is
//! that of Envoy's rate limit service: a counter for each window of the clock. This gateway is one instance, so that both count
//! all requests; they differ in how they count.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use parking_lot::Mutex;
use regex::Regex;

use super::{Call, Refusal, client_ip::networks, pattern};
use crate::api::envoy::{self, LimitUnit};

/// Most clients that one rule with a `Distinct` selector counts apart. Beyond it, those whose count is over are forgotten first.
const MOST_CLIENTS: usize = 65_536;

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
/// Tells callers of Envoy that it was the limit service that refused.
const RATE_LIMITED: HeaderName = HeaderName::from_static("x-envoy-ratelimited");

/// The rules of a policy, without counts.
#[derive(Debug)]
pub(crate) struct Rules {
    global: bool,
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    requests: u32,
    unit: LimitUnit,
    selectors: Vec<Selector>,
    shared: bool,
    /// Tells whether counts can be kept when the policy is read anew.
    identity: u64,
}

#[derive(Debug, Default)]
struct Selector {
    headers: Vec<(HeaderName, Wanted)>,
    parameters: Vec<(String, Wanted)>,
    methods: Vec<(Method, bool)>,
    path: Option<pattern::PathPattern>,
    source: Option<Source>,
}

#[derive(Debug)]
enum Wanted {
    Exact(String, bool),
    Regex(Regex, bool),
    /// Every value counts for itself.
    Distinct,
}

#[derive(Debug)]
struct Source {
    networks: Vec<ipnet::IpNet>,
    invert: bool,
    distinct: bool,
}

impl LimitUnit {
    fn seconds(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
            Self::Week => 604_800,
            Self::Month => 2_592_000,
            Self::Year => 31_536_000,
        }
    }
}

impl Rules {
    pub(crate) fn new(spec: &envoy::RateLimit, at: &str) -> Result<Self, String> {
        let (global, of_type, key) = match (spec.type_.as_deref(), &spec.local, &spec.global) {
            (Some("Local") | None, Some(rules), None) => (false, rules, "local"),
            (Some("Global") | None, None, Some(rules)) => (true, rules, "global"),
            (_, Some(_), Some(_)) => {
                return Err(format!(
                    "{at}: only one of local and global is implemented at a time"
                ));
            }
            _ => {
                return Err(format!(
                    "{at}: type must be Local with local, or Global with global"
                ));
            }
        };
        let rules = of_type.rules.iter().enumerate();
        let rules = rules.map(|(i, rule)| Rule::new(rule, global, &format!("{at}.{key}.rules[{i}]")));
        Ok(Self {
            global,
            rules: rules.collect::<Result<_, _>>()?,
        })
    }
}

impl Rule {
    fn new(spec: &envoy::RateLimitRule, global: bool, at: &str) -> Result<Self, String> {
        let selectors = spec.client_selectors.iter().enumerate();
        let selectors =
            selectors.map(|(i, selector)| Selector::new(selector, &format!("{at}.clientSelectors[{i}]")));
        let mut identity = std::hash::DefaultHasher::new();
        // A local count is of tokens that are left, a global one of requests that came.
        format!("{global} {spec:?}").hash(&mut identity);
        Ok(Self {
            requests: spec.limit.requests,
            unit: spec.limit.unit,
            selectors: selectors.collect::<Result<_, _>>()?,
            shared: spec.shared,
            identity: identity.finish(),
        })
    }
}

fn wanted(spec: &envoy::SelectorMatch, at: &str) -> Result<Wanted, String> {
    let value = || spec.value.clone().ok_or_else(|| format!("{at}.value: not given"));
    match spec.type_.as_deref().unwrap_or("Exact") {
        "Exact" => Ok(Wanted::Exact(value()?, spec.invert)),
        "RegularExpression" => {
            let regex = pattern::whole(&value()?).map_err(|why| format!("{at}.value: {why}"))?;
            Ok(Wanted::Regex(regex, spec.invert))
        }
        "Distinct" if !spec.invert => Ok(Wanted::Distinct),
        other => Err(format!(
            "{at}.type: {other:?} with invert={}: the gateway does not implement it",
            spec.invert
        )),
    }
}

impl Selector {
    fn new(spec: &envoy::ClientSelector, at: &str) -> Result<Self, String> {
        let mut selector = Self::default();
        for (i, header) in spec.headers.iter().enumerate() {
            let at = format!("{at}.headers[{i}]");
            let name = header.name.parse();
            let name =
                name.map_err(|_| format!("{at}.name: {:?} is not the name of a header", header.name))?;
            selector.headers.push((name, wanted(header, &at)?));
        }
        for (i, parameter) in spec.query_params.iter().enumerate() {
            let wanted = wanted(parameter, &format!("{at}.queryParams[{i}]"))?;
            selector.parameters.push((parameter.name.clone(), wanted));
        }
        for (i, method) in spec.methods.iter().enumerate() {
            let parsed = method.value.parse();
            let parsed =
                parsed.map_err(|_| format!("{at}.methods[{i}].value: {:?} is not a method", method.value))?;
            selector.methods.push((parsed, method.invert));
        }
        if let Some(path) = &spec.path {
            selector.path = Some(pattern::PathPattern::new(path, &format!("{at}.path"))?);
        }
        if let Some(source) = &spec.source_cidr {
            let at = format!("{at}.sourceCIDR");
            selector.source = Some(Source {
                networks: networks(std::slice::from_ref(&source.value), &format!("{at}.value"))?,
                invert: source.invert,
                distinct: match source.type_.as_deref().unwrap_or("Exact") {
                    "Exact" => false,
                    "Distinct" => true,
                    other => return Err(format!("{at}.type: {other:?}: the gateway does not implement it")),
                },
            });
        }
        Ok(selector)
    }

    /// Whether the request is meant; what tells its client apart goes into `key`.
    fn matches(&self, call: &Call<'_>, headers: &HeaderMap, key: &mut Vec<u8>) -> bool {
        let mut tell_apart = |value: &[u8]| {
            key.extend_from_slice(&(value.len() as u64).to_le_bytes());
            key.extend_from_slice(value);
        };
        for (name, wanted) in &self.headers {
            let value = headers.get(name).map(HeaderValue::as_bytes);
            let found = match wanted {
                Wanted::Exact(text, invert) => (value == Some(text.as_bytes())) != *invert,
                Wanted::Regex(regex, invert) => {
                    let text = value.and_then(|value| std::str::from_utf8(value).ok());
                    text.is_some_and(|text| regex.is_match(text)) != *invert
                }
                Wanted::Distinct => value.is_some_and(|value| {
                    tell_apart(value);
                    true
                }),
            };
            if !found {
                return false;
            }
        }
        for (name, wanted) in &self.parameters {
            let value = call.parameter(name);
            let found = match wanted {
                Wanted::Exact(text, invert) => (value.as_deref() == Some(text)) != *invert,
                Wanted::Regex(regex, invert) => value.is_some_and(|text| regex.is_match(&text)) != *invert,
                Wanted::Distinct => value.is_some_and(|value| {
                    tell_apart(value.as_bytes());
                    true
                }),
            };
            if !found {
                return false;
            }
        }
        let method = |(method, invert): &(Method, bool)| (call.method == method) != *invert;
        if !self.methods.is_empty() && !self.methods.iter().any(method) {
            return false;
        }
        if self
            .path
            .as_ref()
            .is_some_and(|path| !path.matches(call.path_and_query, true))
        {
            return false;
        }
        if let Some(source) = &self.source {
            let inside = source
                .networks
                .iter()
                .any(|network| network.contains(&call.client));
            if inside == source.invert {
                return false;
            }
            if source.distinct {
                tell_apart(call.client.to_string().as_bytes());
            }
        }
        true
    }
}

/// The counts of the rules, for one route.
pub(crate) struct Limiter {
    rules: Arc<Rules>,
    counts: Vec<Arc<Counts>>,
}

struct Counts {
    identity: u64,
    by_client: Mutex<HashMap<Vec<u8>, Count>>,
}

/// Of a local rule: tokens, and when they were last filled. Of a global one: requests, and the window that they are of.
#[derive(Clone, Copy)]
struct Count {
    amount: f64,
    at: f64,
}

/// What callers are told about the limit that is closest to its end.
struct Report {
    limit: u32,
    remaining: u32,
    reset: u64,
    unit: u64,
    refused: bool,
}

impl Limiter {
    /// Counts of `before` that belong to an unchanged rule go on; `shared` are those of rules that count for all targets.
    pub(crate) fn new(
        rules: Arc<Rules>,
        before: Option<&Limiter>,
        shared: &mut HashMap<u64, Arc<SharedCounts>>,
    ) -> Self {
        let counts = rules.rules.iter().enumerate().map(|(i, rule)| {
            let fresh = || {
                let known = before.and_then(|before| before.counts.get(i));
                known
                    .filter(|counts| counts.identity == rule.identity)
                    .cloned()
                    .unwrap_or_else(|| {
                        Arc::new(Counts {
                            identity: rule.identity,
                            by_client: Mutex::default(),
                        })
                    })
            };
            match rule.shared {
                true => Arc::clone(
                    &shared
                        .entry(rule.identity)
                        .or_insert_with(|| Arc::new(SharedCounts(fresh())))
                        .0,
                ),
                false => fresh(),
            }
        });
        let counts = counts.collect();
        Self { rules, counts }
    }

    /// Whether it counts for exactly these rules.
    pub(crate) fn is_of(&self, rules: &Arc<Rules>) -> bool {
        Arc::ptr_eq(&self.rules, rules)
    }

    /// Counts a request in. Headers for the answer, or the refusal.
    pub(crate) fn check(
        &self,
        call: &Call<'_>,
        headers: &HeaderMap,
        report: bool,
    ) -> Result<HeaderMap, Refusal> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO)
            .as_secs_f64();
        self.check_at(call, headers, report, now)
    }

    fn check_at(
        &self,
        call: &Call<'_>,
        headers: &HeaderMap,
        report: bool,
        now: f64,
    ) -> Result<HeaderMap, Refusal> {
        let mut strictest: Option<Report> = None;
        for (rule, counts) in self.rules.rules.iter().zip(&self.counts) {
            let mut key = Vec::new();
            // All selectors must hold for the rule to count.
            if !rule
                .selectors
                .iter()
                .all(|selector| selector.matches(call, headers, &mut key))
            {
                continue;
            }
            let found = count(counts, key, rule, self.rules.global, now);
            let closer = strictest.as_ref().is_none_or(|other| {
                (found.refused, std::cmp::Reverse(found.remaining))
                    > (other.refused, std::cmp::Reverse(other.remaining))
            });
            if closer {
                strictest = Some(found);
            }
        }
        let mut out = HeaderMap::new();
        let Some(found) = strictest else {
            return Ok(out);
        };
        if report {
            // Draft 03 of the rate limit headers: the limit, and then the quota policy with its window.
            let limit = match self.rules.global {
                true => format!("{}, {};w={}", found.limit, found.limit, found.unit),
                false => found.limit.to_string(),
            };
            if let Ok(value) = HeaderValue::from_str(&limit) {
                out.insert(LIMIT, value);
            }
            out.insert(REMAINING, HeaderValue::from(found.remaining));
            out.insert(RESET, HeaderValue::from(found.reset));
        }
        if !found.refused {
            return Ok(out);
        }
        let mut refusal = Refusal::new(
            StatusCode::TOO_MANY_REQUESTS,
            if self.rules.global {
                ""
            } else {
                "local_rate_limited"
            },
        );
        if self.rules.global {
            out.insert(RATE_LIMITED, HeaderValue::from_static("true"));
        }
        refusal.headers = out
            .into_iter()
            .filter_map(|(name, value)| Some((name?, value)))
            .collect();
        Err(refusal)
    }
}

/// Counts that several routes share.
pub(crate) struct SharedCounts(Arc<Counts>);

fn count(counts: &Counts, key: Vec<u8>, rule: &Rule, global: bool, now: f64) -> Report {
    let unit = rule.unit.seconds();
    let (limit, window) = (f64::from(rule.requests), unit as f64);
    let mut by_client = counts.by_client.lock();
    if by_client.len() >= MOST_CLIENTS && !by_client.contains_key(&key) {
        // Whoever has not been seen for a whole unit begins anew anyway.
        by_client.retain(|_, count| now - count.at < window);
        // If that frees little, nearly every new client would have to look through all of them again.
        if by_client.len() > MOST_CLIENTS / 8 * 7 {
            by_client.clear();
        }
    }
    let start = if global {
        (now / window).floor() * window
    } else {
        now
    };
    let count = by_client.entry(key).or_insert(Count {
        amount: if global { 0.0 } else { limit },
        at: start,
    });
    if global {
        if count.at < start {
            *count = Count {
                amount: 0.0,
                at: start,
            };
        }
        count.amount += 1.0;
        let left = (limit - count.amount).max(0.0);
        return Report {
            limit: rule.requests,
            remaining: left as u32,
            reset: (start + window - now).ceil().max(0.0) as u64,
            unit,
            refused: count.amount > limit,
        };
    }
    count.amount = limit.min(count.amount + (now - count.at).max(0.0) * limit / window);
    count.at = now;
    let refused = count.amount < 1.0;
    if !refused {
        count.amount -= 1.0;
    }
    Report {
        limit: rule.requests,
        remaining: count.amount as u32,
        reset: ((1.0 - count.amount.fract()) * window / limit).ceil() as u64,
        unit,
        refused,
    }
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::policy::testing::call;

    fn limiter(spec: Value) -> Limiter {
        let rules = Rules::new(&crate::api::read(&spec, "spec").unwrap(), "spec.rateLimit").unwrap();
        Limiter::new(Arc::new(rules), None, &mut HashMap::new())
    }

    fn passes(limiter: &Limiter, headers: &HeaderMap, path: &str, at: f64) -> bool {
        limiter
            .check_at(&call(&Method::GET, path), headers, true, at)
            .is_ok()
    }

    #[test]
    fn a_bucket_is_filled_evenly_over_its_unit() {
        let limiter = limiter(
            json!({"type": "Local", "local": {"rules": [{"limit": {"requests": 10, "unit": "Minute"}}]}}),
        );
        let none = HeaderMap::new();
        assert_eq!(
            (0..15).filter(|_| passes(&limiter, &none, "/", 1000.0)).count(),
            10
        );
        assert!(!passes(&limiter, &none, "/", 1005.0));
        assert!(passes(&limiter, &none, "/", 1006.1));
        assert!(!passes(&limiter, &none, "/", 1006.2));
        assert_eq!(
            (0..15).filter(|_| passes(&limiter, &none, "/", 2000.0)).count(),
            10
        );
    }

    #[test]
    fn a_global_limit_counts_by_windows_of_the_clock() {
        let limiter = limiter(
            json!({"type": "Global", "global": {"rules": [{"limit": {"requests": 2, "unit": "Minute"}}]}}),
        );
        let none = HeaderMap::new();
        let pass = |at| passes(&limiter, &none, "/", at);
        assert_eq!(
            [pass(119.0), pass(119.5), pass(119.9), pass(120.0)],
            [true, true, false, true]
        );
        assert!(pass(121.0));
        let refusal = limiter
            .check_at(&call(&Method::GET, "/"), &none, true, 122.0)
            .unwrap_err();
        assert_eq!(refusal.status, StatusCode::TOO_MANY_REQUESTS);
        assert!(refusal.headers.contains(&(LIMIT, "2, 2;w=60".parse().unwrap())));
        assert!(refusal.headers.contains(&(RESET, "58".parse().unwrap())));
    }

    #[test]
    fn distinct_values_are_counted_apart_and_selectors_are_all_demanded() {
        let limiter = limiter(json!({"type": "Global", "global": {"rules": [{
            "clientSelectors": [{"headers": [{"name": "x-user", "type": "Distinct"}], "path": {"type": "RegularExpression", "value": "/a(\\?.*)?"}}],
            "limit": {"requests": 1, "unit": "Hour"}}]}}));
        let user = |name: &str| HeaderMap::from_iter([("x-user".parse().unwrap(), name.parse().unwrap())]);
        assert!(passes(&limiter, &user("ada"), "/a?x=1", 1.0));
        assert!(!passes(&limiter, &user("ada"), "/a", 1.0));
        assert!(passes(&limiter, &user("bob"), "/a", 1.0));
        assert!(passes(&limiter, &user("ada"), "/b", 1.0));
        assert!(passes(&limiter, &HeaderMap::new(), "/a", 1.0));
    }

    #[test]
    fn counts_of_unchanged_rules_go_on() {
        let spec = json!({"type": "Local", "local": {"rules": [{"limit": {"requests": 1, "unit": "Hour"}}]}});
        let first = limiter(spec.clone());
        assert!(passes(&first, &HeaderMap::new(), "/", 1.0));
        let again = Limiter::new(limiter(spec).rules, Some(&first), &mut HashMap::new());
        assert!(!passes(&again, &HeaderMap::new(), "/", 2.0));
    }
}
