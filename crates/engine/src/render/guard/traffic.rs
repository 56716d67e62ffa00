//! How much, how often and how long: rate limits, breakers, retries and time-outs. All of it becomes a
//! `BackendTrafficPolicy`.

use choreo_api::v1alpha1::{ApiCircuitBreaker, Backoff, RateLimit, RateLimitScope, Retry};
use serde_json::{Map, Value, json};

use super::{Part, duration};
use crate::{expose::OperationLimit, operations, render::route::RouteKind};

/// Most requests that the gateway can count to.
const MOST_REQUESTS: i64 = 4_294_967_295;

/// The limit of all operations together, and those of single ones. The strictest one that matches a request holds.
pub(super) fn rate_limit(limit: Option<&RateLimit>, single: &[OperationLimit], path: &str) -> Part {
    let mut rules = Vec::new();
    for of_one in single {
        let selector = json!({
            "methods": [{"value": of_one.method}],
            "path": {"type": "RegularExpression", "value": operations::pattern_with_query(path, &of_one.path)},
        });
        let mut rule = limit_rule(of_one.requests, &of_one.window)?;
        rule.insert("clientSelectors".to_owned(), json!([selector]));
        rules.push(Value::Object(rule));
    }
    let scope = limit.and_then(|l| l.scope).unwrap_or_default();
    if let Some(RateLimit {
        requests,
        window,
        scope: _,
    }) = limit
    {
        rules.push(Value::Object(limit_rule(*requests, window)?));
    }
    if rules.is_empty() {
        return Ok(None);
    }
    if rules.len() > 16 {
        return Err(format!(
            "the gateway takes at most 16 limits for one route, found {}",
            rules.len()
        ));
    }
    let (type_, key) = match scope {
        RateLimitScope::Local => ("Local", "local"),
        RateLimitScope::Global => ("Global", "global"),
    };
    Ok(Some(("rateLimit", json!({"type": type_, key: {"rules": rules}}))))
}

fn limit_rule(requests: i64, window: &str) -> Result<Map<String, Value>, String> {
    let unit = window_unit(window).ok_or_else(|| {
        format!(
            "window {window:?} cannot be enforced exactly: the gateway counts by the second, minute, hour, day or week; write 1s, 1m, 1h, 1d or 7d"
        )
    })?;
    if !(1..=MOST_REQUESTS).contains(&requests) {
        return Err(format!(
            "requests must be from 1 to {MOST_REQUESTS}, found {requests}"
        ));
    }
    let mut rule = Map::new();
    rule.insert("limit".to_owned(), json!({"requests": requests, "unit": unit}));
    Ok(rule)
}

/// The gateway's unit that is exactly this window.
fn window_unit(window: &str) -> Option<&'static str> {
    Some(match duration::milliseconds(window)? {
        1_000 => "Second",
        60_000 => "Minute",
        3_600_000 => "Hour",
        86_400_000 => "Day",
        604_800_000 => "Week",
        _ => return None,
    })
}

pub(super) fn breaker(breaker: &ApiCircuitBreaker, kind: RouteKind) -> Part {
    let ApiCircuitBreaker {
        enabled,
        max_connections,
        max_pending_requests,
        max_parallel_requests,
        max_parallel_retries,
    } = breaker;
    if !enabled {
        return Ok(None);
    }
    let of_requests = [max_pending_requests, max_parallel_requests, max_parallel_retries];
    match kind {
        RouteKind::Http | RouteKind::Grpc => {}
        RouteKind::Udp => return Err("a UDPRoute has no connections that could be limited".to_owned()),
        RouteKind::Tcp | RouteKind::Tls => {
            if of_requests.iter().any(|limit| limit.is_some()) {
                return Err(format!(
                    "a {} carries connections and not requests: only maxConnections can be limited",
                    kind.as_str()
                ));
            }
        }
    }
    let mut out = Map::new();
    for (key, value) in [
        ("maxConnections", max_connections),
        ("maxPendingRequests", max_pending_requests),
        ("maxParallelRequests", max_parallel_requests),
        ("maxParallelRetries", max_parallel_retries),
    ] {
        if let Some(value) = value {
            out.insert(key.to_owned(), json!(value));
        }
    }
    // Enabled without limits means the gateway's own limits, which is what an empty object says.
    Ok(Some(("circuitBreaker", Value::Object(out))))
}

pub(super) fn retry(retry: &Retry) -> Part {
    let Retry {
        attempts,
        backoff,
        initial_interval,
        max_interval,
        per_try_timeout,
    } = retry;
    let mut back_off = Map::new();
    let mut interval = |key: &str, field: &str, text: &Option<String>| -> Result<(), String> {
        if let Some(text) = text {
            back_off.insert(key.to_owned(), json!(duration::exactly(field, text)?));
        }
        Ok(())
    };
    match backoff {
        Backoff::Exponential => {
            interval("baseInterval", "initialInterval", initial_interval)?;
            interval("maxInterval", "maxInterval", max_interval)?;
            let both = initial_interval.as_deref().zip(max_interval.as_deref());
            if both.is_some_and(|(a, b)| duration::milliseconds(a) > duration::milliseconds(b)) {
                return Err("maxInterval must not be shorter than initialInterval".to_owned());
            }
            if initial_interval.is_none() && max_interval.is_some() {
                return Err("maxInterval needs initialInterval".to_owned());
            }
        }
        Backoff::Fixed => {
            if initial_interval.is_none() {
                return Err("backoff fixed needs initialInterval".to_owned());
            }
            interval("baseInterval", "initialInterval", initial_interval)?;
            interval("maxInterval", "initialInterval", initial_interval)?;
        }
        Backoff::Linear => {
            return Err(
                "backoff linear is not something that the gateway can do: use exponential or fixed"
                    .to_owned(),
            );
        }
    }
    let mut per_retry = Map::new();
    if !back_off.is_empty() {
        per_retry.insert("backOff".to_owned(), Value::Object(back_off));
    }
    if let Some(text) = per_try_timeout {
        per_retry.insert(
            "timeout".to_owned(),
            json!(duration::exactly("perTryTimeout", text)?),
        );
    }
    let mut out = Map::new();
    out.insert("numRetries".to_owned(), json!(attempts));
    if !per_retry.is_empty() {
        out.insert("perRetry".to_owned(), Value::Object(per_retry));
    }
    Ok(Some(("retry", Value::Object(out))))
}

pub(super) fn timeout(text: &str) -> Part {
    let written = duration::exactly("timeout", text)?;
    Ok(Some(("timeout", json!({"http": {"requestTimeout": written}}))))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn limit(requests: i64, window: &str, scope: Option<RateLimitScope>) -> RateLimit {
        RateLimit {
            requests,
            window: window.to_owned(),
            scope,
        }
    }

    #[rstest]
    #[case("1s", Some("Second"))]
    #[case("1m", Some("Minute"))]
    #[case("60s", Some("Minute"))]
    #[case("24h", Some("Day"))]
    #[case("7d", Some("Week"))]
    #[case("30s", None)]
    #[case("2m", None)]
    #[case("30d", None)]
    fn windows_are_exact_or_refused(#[case] window: &str, #[case] unit: Option<&str>) {
        let rendered = rate_limit(Some(&limit(10, window, None)), &[], "/");
        match unit {
            Some(unit) => assert_eq!(
                rendered.unwrap().unwrap().1,
                json!({"type": "Local", "local": {"rules": [{"limit": {"requests": 10, "unit": unit}}]}})
            ),
            None => assert!(rendered.unwrap_err().contains("exactly")),
        }
    }

    #[test]
    fn a_global_limit_is_counted_by_all_and_counts_have_bounds() {
        let global = limit(5, "1h", Some(RateLimitScope::Global));
        assert_eq!(
            rate_limit(Some(&global), &[], "/").unwrap().unwrap().1,
            json!({"type": "Global", "global": {"rules": [{"limit": {"requests": 5, "unit": "Hour"}}]}})
        );
        assert!(rate_limit(Some(&limit(0, "1h", None)), &[], "/").is_err());
        assert!(rate_limit(Some(&limit(4_294_967_296, "1h", None)), &[], "/").is_err());
    }

    #[test]
    fn a_limit_of_one_operation_selects_it() {
        let single = OperationLimit {
            method: "GET".to_owned(),
            path: "/a/{b}".to_owned(),
            requests: 3,
            window: "1m".to_owned(),
        };
        let (_, value) = rate_limit(None, &[single], "/p/c").unwrap().unwrap();
        assert_eq!(
            value["local"]["rules"],
            json!([{"limit": {"requests": 3, "unit": "Minute"}, "clientSelectors": [
                {"methods": [{"value": "GET"}], "path": {"type": "RegularExpression", "value": "/p/c/a/[^/]+(\\?.*)?"}}]}])
        );
    }

    #[test]
    fn a_retry_is_what_was_asked_for_or_refused() {
        let with = |backoff, initial: Option<&str>, max: Option<&str>| Retry {
            attempts: 3,
            backoff,
            initial_interval: initial.map(str::to_owned),
            max_interval: max.map(str::to_owned),
            per_try_timeout: Some("1.5s".to_owned()),
        };
        assert_eq!(
            retry(&with(Backoff::Exponential, Some("100ms"), Some("1m")))
                .unwrap()
                .unwrap()
                .1,
            json!({"numRetries": 3, "perRetry": {"backOff": {"baseInterval": "100ms", "maxInterval": "1m"}, "timeout": "1s500ms"}})
        );
        for refused in [
            with(Backoff::Exponential, Some("2s"), Some("1s")),
            with(Backoff::Exponential, None, Some("1s")),
            with(Backoff::Fixed, None, None),
            with(Backoff::Linear, Some("1s"), None),
        ] {
            assert!(retry(&refused).is_err(), "{refused:?}");
        }
    }

    #[test]
    fn a_breaker_of_requests_does_not_fit_connections() {
        let limits = ApiCircuitBreaker {
            enabled: true,
            max_connections: Some(5),
            max_pending_requests: None,
            max_parallel_requests: None,
            max_parallel_retries: None,
        };
        let rendered = breaker(&limits, RouteKind::Tcp).unwrap().unwrap();
        assert_eq!(rendered, ("circuitBreaker", json!({"maxConnections": 5})));
        let of_requests = ApiCircuitBreaker {
            max_parallel_requests: Some(1),
            ..limits.clone()
        };
        assert!(breaker(&of_requests, RouteKind::Tls).is_err());
        assert!(breaker(&of_requests, RouteKind::Http).is_ok());
        assert!(breaker(&limits, RouteKind::Udp).is_err());
        let off = ApiCircuitBreaker {
            enabled: false,
            ..limits
        };
        assert_eq!(breaker(&off, RouteKind::Http).unwrap(), None);
    }
}
