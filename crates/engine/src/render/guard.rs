//! Guards: an API class's policies as policies of the gateway (Envoy Gateway), attached to one route.
//!
//! Each is rendered exactly as asked for or refused. A limit of 10 requests in 30 seconds is not 20 in a minute, and an
//! API whose callers should be authenticated is not opened to everybody because the way of authentication is unknown.

use std::net::IpAddr;

use choreo_api::{
    conditions::reasons,
    v1alpha1::{
        APIClassSpec, ApiCircuitBreaker, ApiPolicy, Authentication, AuthenticationType, Backoff,
        ConnectionSecurity, Cors, JwtAuthentication, PolicySet, RateLimit, Retry, Transformation,
        TransformationAction, common::EndpointType,
    },
};
use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::meta::Meta;
use crate::{
    expose::Exposure,
    place::Place,
    problem::{Problem, Problems},
};

const ENVOY_GATEWAY: &str = "gateway.envoyproxy.io/v1alpha1";

/// The environment may demand tokens of all callers of APIs; a class's own authentication stands instead of it.
pub(super) fn environment_jwt(
    policy: &mut ApiPolicy,
    jwks: Option<&Option<String>>,
    place: &Place,
    declared_by: &str,
) -> Result<(), Problems> {
    let Some(jwks) = jwks.filter(|_| policy.authentication.is_none()) else {
        return Ok(());
    };
    let Some(uri) = jwks else {
        return Err(Problem::error(
            reasons::RENDER_FAILED,
            format!(
                "{declared_by}: Environment {:?} spec.gateway.enableJWTAuth is set but security.remoteJwks.uri is not: name the key set",
                place.environment
            ),
        )
        .into());
    };
    policy.authentication = Some(Authentication {
        type_: AuthenticationType::Jwt,
        jwt: Some(JwtAuthentication {
            jwks: uri.clone(),
            ..JwtAuthentication::default()
        }),
        ..Authentication::default()
    });
    Ok(())
}

/// The policies that are attached to a route.
pub(super) fn render(
    meta: &Meta,
    route: &str,
    exposure: &Exposure,
    policy: &ApiPolicy,
    by: &str,
) -> Result<Vec<Value>, Problems> {
    // Exhaustive on purpose: a policy that is not rendered must not pass unseen.
    let ApiPolicy {
        rate_limit,
        authentication,
        cors,
        security,
        mediation: _,
        circuit_breaker,
        retry,
        timeout,
    } = policy;
    let kind = if exposure.type_ == EndpointType::GRPC {
        "GRPCRoute"
    } else {
        "HTTPRoute"
    };
    let target = json!([{"group": "gateway.networking.k8s.io", "kind": kind, "name": route}]);
    let mut problems = Problems::new();
    let mut refuse =
        |field: &str, result: Result<(&str, Option<Value>), String>, into: &mut Map<String, Value>| {
            match result {
                Ok((key, Some(value))) => {
                    into.insert(key.to_owned(), value);
                }
                Ok((_, None)) => {}
                Err(why) => problems.push(Problem::error(
                    reasons::RENDER_FAILED,
                    format!(
                        "{by} {field}: {why}; endpoint {:?} is not exposed without it",
                        exposure.name
                    ),
                )),
            }
        };

    let mut secure = Map::new();
    if let Some(a) = authentication {
        refuse("authentication", authenticate(a), &mut secure);
    }
    if let Some(c) = cors {
        refuse("cors", self::cors(c), &mut secure);
    }
    if let Some(s) = security {
        refuse("security", addresses(s), &mut secure);
    }
    let mut traffic = Map::new();
    if let Some(r) = rate_limit {
        refuse("rateLimit", self::rate_limit(r), &mut traffic);
    }
    if let Some(c) = circuit_breaker {
        refuse("circuitBreaker", Ok(("circuitBreaker", breaker(c))), &mut traffic);
    }
    if let Some(r) = retry {
        refuse("retry", self::retry(r), &mut traffic);
    }
    if let Some(t) = timeout {
        refuse("timeout", self::timeout(t), &mut traffic);
    }

    let object = |kind: &str, mut spec: Map<String, Value>| {
        (!spec.is_empty()).then(|| {
            spec.insert("targetRefs".to_owned(), target.clone());
            let mut object = meta.declared(ENVOY_GATEWAY, kind, route, by);
            object.insert("spec".to_owned(), Value::Object(spec));
            Value::Object(object)
        })
    };
    let objects = [
        object("SecurityPolicy", secure),
        object("BackendTrafficPolicy", traffic),
    ];
    problems.or_ok(objects.into_iter().flatten().collect())
}

/// What in an API class can never be rendered.
pub fn api_class_problems(class: &APIClassSpec) -> Vec<Problem> {
    let mut all = Vec::new();
    for (set, name) in [
        (&class.rest_policy, "restPolicy"),
        (&class.grpc_policy, "grpcPolicy"),
    ] {
        let Some(PolicySet {
            defaults,
            public,
            organization,
        }) = set
        else {
            continue;
        };
        for (policy, level) in [
            (defaults, "defaults"),
            (public, "public"),
            (organization, "organization"),
        ] {
            let Some(policy) = policy else { continue };
            let field = |part: &str| format!("spec.{name}.{level}.{part}");
            let mut check = |part: &str, result: Option<Rendered>| {
                if let Some(Err(why)) = result {
                    all.push(Problem::error(
                        reasons::INVALID,
                        format!("{}: {why}", field(part)),
                    ));
                }
            };
            check("authentication", policy.authentication.as_ref().map(authenticate));
            check("cors", policy.cors.as_ref().map(cors));
            check("security", policy.security.as_ref().map(addresses));
            check("rateLimit", policy.rate_limit.as_ref().map(rate_limit));
            check("retry", policy.retry.as_ref().map(retry));
            if let Err(problems) = filters(policy, &format!("spec.{name}.{level}")) {
                all.extend(
                    problems
                        .into_iter()
                        .map(|p| Problem::error(reasons::INVALID, p.message)),
                );
            }
        }
    }
    all
}

/// What a policy does to headers, as filters of the route.
pub(super) fn filters(policy: &ApiPolicy, by: &str) -> Result<Vec<Value>, Problems> {
    let Some(mediation) = &policy.mediation else {
        return Ok(Vec::new());
    };
    let mut problems = Problems::new();
    let mut filters = Vec::new();
    for (list, field, kind, key) in [
        (
            &mediation.request_transformations,
            "requestTransformations",
            "RequestHeaderModifier",
            "requestHeaderModifier",
        ),
        (
            &mediation.response_transformations,
            "responseTransformations",
            "ResponseHeaderModifier",
            "responseHeaderModifier",
        ),
    ] {
        let (mut add, mut remove) = (Vec::new(), Vec::new());
        for (i, change) in list.iter().enumerate() {
            if let Err(why) = header_change(change, &mut add, &mut remove) {
                problems.push(Problem::error(
                    reasons::RENDER_FAILED,
                    format!("{by} mediation.{field}[{i}]: {why}; the endpoint is not exposed without it"),
                ));
            }
        }
        let mut modifier = Map::new();
        if !add.is_empty() {
            modifier.insert("add".to_owned(), Value::Array(add));
        }
        if !remove.is_empty() {
            modifier.insert("remove".to_owned(), json!(remove));
        }
        if !modifier.is_empty() {
            filters.push(json!({"type": kind, key: modifier}));
        }
    }
    problems.or_ok(filters)
}

fn header_change(
    change: &Transformation,
    add: &mut Vec<Value>,
    remove: &mut Vec<String>,
) -> Result<(), String> {
    match change.action {
        TransformationAction::AddHeader => match (&change.header_name, &change.header_value) {
            (Some(name), Some(value)) => add.push(json!({"name": name, "value": value})),
            _ => return Err("addHeader needs headerName and headerValue".to_owned()),
        },
        TransformationAction::RemoveHeaders => remove.extend(change.headers.iter().cloned()),
        TransformationAction::AddFields | TransformationAction::RemoveFields => {
            return Err("the gateway cannot change bodies, only headers".to_owned());
        }
    }
    Ok(())
}

type Rendered = Result<(&'static str, Option<Value>), String>;

fn authenticate(authentication: &Authentication) -> Rendered {
    match authentication.type_ {
        AuthenticationType::Jwt => {
            let jwt = authentication
                .jwt
                .as_ref()
                .ok_or("type is jwt, but jwt is not given")?;
            let scheme = jwt.jwks.split_once("://").map(|(scheme, _)| scheme);
            if !matches!(scheme, Some("http" | "https")) {
                return Err(format!(
                    "jwt.jwks: {:?} is not the http or https address of a key set",
                    jwt.jwks
                ));
            }
            let mut provider = Map::new();
            provider.insert("name".to_owned(), json!("default"));
            if !jwt.issuer.is_empty() {
                provider.insert("issuer".to_owned(), json!(jwt.issuer));
            }
            if !jwt.audience.is_empty() {
                provider.insert("audiences".to_owned(), json!(jwt.audience));
            }
            provider.insert("remoteJWKS".to_owned(), json!({"uri": jwt.jwks}));
            Ok(("jwt", Some(json!({"providers": [provider]}))))
        }
        AuthenticationType::ApiKey => {
            let key = authentication
                .api_key
                .as_ref()
                .ok_or("type is apikey, but apiKey is not given")?;
            let secret = key
                .secret_ref
                .as_ref()
                .ok_or("apiKey.secretRef is needed: the Secret in the cell with the accepted keys")?;
            let mut from = Map::new();
            if let Some(header) = &key.header {
                from.insert("headers".to_owned(), json!([header]));
            }
            if let Some(param) = &key.query_param {
                from.insert("params".to_owned(), json!([param]));
            }
            if from.is_empty() {
                return Err("apiKey: header or queryParam must say where the key is".to_owned());
            }
            let credentials = json!([{"group": "", "kind": "Secret", "name": secret}]);
            Ok((
                "apiKeyAuth",
                Some(json!({"credentialRefs": credentials, "extractFrom": [from]})),
            ))
        }
        AuthenticationType::Basic => {
            let basic = authentication
                .basic
                .as_ref()
                .ok_or("type is basic, but basic is not given")?;
            Ok((
                "basicAuth",
                Some(json!({"users": {"group": "", "kind": "Secret", "name": basic.secret_ref}})),
            ))
        }
        AuthenticationType::OAuth2 => {
            Err("type oauth2 is not supported yet: use jwt with the key set of the same server".to_owned())
        }
    }
}

fn cors(cors: &Cors) -> Rendered {
    let Cors {
        allow_origins,
        allow_methods,
        allow_headers,
        expose_headers,
        max_age,
        allow_credentials,
    } = cors;
    let mut out = Map::new();
    for (key, values) in [
        ("allowOrigins", allow_origins),
        ("allowMethods", allow_methods),
        ("allowHeaders", allow_headers),
        ("exposeHeaders", expose_headers),
    ] {
        if !values.is_empty() {
            out.insert(key.to_owned(), json!(values));
        }
    }
    if let Some(seconds) = max_age {
        // A Gateway API duration has at most five digits in each unit (GEP-2257).
        out.insert(
            "maxAge".to_owned(),
            json!(duration(
                u64::try_from(*seconds).map_err(|_| "maxAge must not be negative")?
            )),
        );
    }
    if *allow_credentials {
        if allow_origins.iter().any(|o| o == "*") {
            return Err(
                "allowCredentials with origin \"*\" would let every site act as the user: name the origins"
                    .to_owned(),
            );
        }
        out.insert("allowCredentials".to_owned(), json!(true));
    }
    Ok(("cors", (!out.is_empty()).then_some(Value::Object(out))))
}

/// Seconds as a Gateway API duration, in the largest units.
fn duration(seconds: u64) -> String {
    let (hours, minutes, rest) = (seconds / 3600, seconds % 3600 / 60, seconds % 60);
    let mut out = String::new();
    for (value, unit) in [(hours, 'h'), (minutes, 'm'), (rest, 's')] {
        if value > 0 {
            out.push_str(&value.to_string());
            out.push(unit);
        }
    }
    if out.is_empty() { "0s".to_owned() } else { out }
}

fn addresses(security: &ConnectionSecurity) -> Rendered {
    let ConnectionSecurity {
        allowed_ips,
        blocked_ips,
        require_tls: _,
        min_tls_version,
    } = security;
    // Routes hang on the gateways' HTTPS listeners only, so requireTLS is always met; the version is the listener's.
    if let Some(version) = min_tls_version {
        return Err(format!(
            "minTLSVersion {version:?} is a property of the gateway's listener and cannot be set for one route"
        ));
    }
    let mut rules = Vec::new();
    // The first rule that matches decides: who is blocked is blocked even when allowed.
    if !blocked_ips.is_empty() {
        rules.push(json!({"name": "blocked", "action": "Deny", "principal": {"clientCIDRs": cidrs("blockedIPs", blocked_ips)?}}));
    }
    if !allowed_ips.is_empty() {
        rules.push(json!({"name": "allowed", "action": "Allow", "principal": {"clientCIDRs": cidrs("allowedIPs", allowed_ips)?}}));
    }
    if rules.is_empty() {
        return Ok(("authorization", None));
    }
    // A list of blocked addresses alone must not block everybody else.
    let default = if allowed_ips.is_empty() { "Allow" } else { "Deny" };
    Ok((
        "authorization",
        Some(json!({"defaultAction": default, "rules": rules})),
    ))
}

fn cidrs(field: &str, list: &[String]) -> Result<Vec<String>, String> {
    list.iter()
        .enumerate()
        .map(|(i, text)| {
            let net = text
                .parse::<IpNet>()
                .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            net.map(|n| n.trunc().to_string()).map_err(|_| {
                format!("{field}[{i}]: {text:?} is neither an address nor a network such as 10.0.0.0/8")
            })
        })
        .collect()
}

fn rate_limit(limit: &RateLimit) -> Rendered {
    let unit = window_unit(&limit.window).ok_or_else(|| {
        format!(
            "window {:?} cannot be enforced exactly: the gateway counts by the second, minute, hour, day or week; write 1s, 1m, 1h, 1d or 7d",
            limit.window
        )
    })?;
    if limit.requests < 1 {
        return Err(format!("requests must be at least 1, found {}", limit.requests));
    }
    let rule = json!({"limit": {"requests": limit.requests, "unit": unit}});
    Ok((
        "rateLimit",
        Some(json!({"type": "Local", "local": {"rules": [rule]}})),
    ))
}

/// The gateway's unit that is exactly this window.
fn window_unit(window: &str) -> Option<&'static str> {
    Some(match seconds(window)? {
        1 => "Second",
        60 => "Minute",
        3600 => "Hour",
        86_400 => "Day",
        604_800 => "Week",
        _ => return None,
    })
}

/// A duration such as `90s`, `1h30m` or `1d`, in whole seconds.
fn seconds(text: &str) -> Option<u64> {
    let mut total: u64 = 0;
    let mut number = String::new();
    let mut any = false;
    for c in text.chars() {
        if c.is_ascii_digit() {
            number.push(c);
            continue;
        }
        let factor = match c {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => return None,
        };
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(factor)?)?;
        number.clear();
        any = true;
    }
    (any && number.is_empty()).then_some(total)
}

fn breaker(breaker: &ApiCircuitBreaker) -> Option<Value> {
    let ApiCircuitBreaker {
        enabled,
        max_connections,
        max_pending_requests,
        max_parallel_requests,
        max_parallel_retries,
    } = breaker;
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
    enabled.then_some(Value::Object(out))
}

fn retry(retry: &Retry) -> Rendered {
    let Retry {
        attempts,
        backoff,
        initial_interval,
        max_interval,
    } = retry;
    let mut back_off = Map::new();
    match backoff {
        Backoff::Exponential => {
            if let Some(base) = initial_interval {
                back_off.insert("baseInterval".to_owned(), json!(base));
            }
            if let Some(max) = max_interval {
                back_off.insert("maxInterval".to_owned(), json!(max));
            }
        }
        Backoff::Fixed => {
            let interval = initial_interval
                .as_ref()
                .ok_or("backoff fixed needs initialInterval")?;
            back_off.insert("baseInterval".to_owned(), json!(interval));
            back_off.insert("maxInterval".to_owned(), json!(interval));
        }
        Backoff::Linear => {
            return Err(
                "backoff linear is not something that the gateway can do: use exponential or fixed"
                    .to_owned(),
            );
        }
    }
    let mut out = Map::new();
    out.insert("numRetries".to_owned(), json!(attempts));
    if !back_off.is_empty() {
        out.insert("perRetry".to_owned(), json!({"backOff": back_off}));
    }
    Ok(("retry", Some(Value::Object(out))))
}

fn timeout(text: &str) -> Rendered {
    Ok(("timeout", Some(json!({"http": {"requestTimeout": text}}))))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::{ConnectionSecurity, Cors, RateLimit, addresses, cors, duration, rate_limit, seconds};

    #[rstest]
    #[case("1s", Some(1))]
    #[case("60s", Some(60))]
    #[case("1h30m", Some(5400))]
    #[case("1d", Some(86_400))]
    #[case("", None)]
    #[case("10", None)]
    #[case("m", None)]
    #[case("1w", None)]
    fn durations(#[case] text: &str, #[case] expected: Option<u64>) {
        assert_eq!(seconds(text), expected);
    }

    #[rstest]
    #[case("1m", Some("Minute"))]
    #[case("60s", Some("Minute"))]
    #[case("24h", Some("Day"))]
    #[case("30s", None)]
    #[case("2m", None)]
    fn windows_are_exact_or_refused(#[case] window: &str, #[case] unit: Option<&str>) {
        let rendered = rate_limit(&RateLimit {
            requests: 10,
            window: window.to_owned(),
        });
        match unit {
            Some(unit) => assert_eq!(
                rendered.unwrap().1.unwrap(),
                json!({"type": "Local", "local": {"rules": [{"limit": {"requests": 10, "unit": unit}}]}})
            ),
            None => assert!(rendered.unwrap_err().contains("exactly")),
        }
    }

    fn security(allowed: &[&str], blocked: &[&str]) -> ConnectionSecurity {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        ConnectionSecurity {
            allowed_ips: own(allowed),
            blocked_ips: own(blocked),
            ..ConnectionSecurity::default()
        }
    }

    #[test]
    fn a_list_of_blocked_addresses_blocks_only_them() {
        let (_, rendered) = addresses(&security(&[], &["203.0.113.7", "198.51.100.9/24"])).unwrap();
        assert_eq!(
            rendered.unwrap(),
            json!({"defaultAction": "Allow", "rules": [
                {"name": "blocked", "action": "Deny", "principal": {"clientCIDRs": ["203.0.113.7/32", "198.51.100.0/24"]}}]})
        );
    }

    #[test]
    fn a_list_of_allowed_addresses_denies_the_rest_and_blocked_ones_come_first() {
        let (_, rendered) = addresses(&security(&["10.0.0.0/8"], &["10.1.1.1"])).unwrap();
        let rendered = rendered.unwrap();
        assert_eq!(rendered["defaultAction"], "Deny");
        assert_eq!(rendered["rules"][0]["action"], "Deny");
        assert_eq!(rendered["rules"][1]["action"], "Allow");
    }

    #[test]
    fn no_addresses_mean_no_restriction_and_bad_ones_are_refused() {
        assert_eq!(addresses(&security(&[], &[])).unwrap().1, None);
        assert!(
            addresses(&security(&["10.0.0"], &[]))
                .unwrap_err()
                .contains("allowedIPs[0]")
        );
    }

    #[test]
    fn credentials_need_named_origins() {
        let any = Cors {
            allow_origins: vec!["*".to_owned()],
            allow_credentials: true,
            ..Cors::default()
        };
        assert!(cors(&any).is_err());
        assert_eq!(cors(&Cors::default()).unwrap().1, None);
        assert_eq!(duration(86_400), "24h");
        assert_eq!(duration(90), "1m30s");
    }
}
