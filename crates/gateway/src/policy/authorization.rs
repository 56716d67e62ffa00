//! Authorization rules (Envoy's `rbac`): the first that matches decides, else the default, which is to deny.

use http::{HeaderMap, HeaderName, Method, StatusCode};
use ipnet::IpNet;
use serde_json::{Map, Value};

use super::{Call, Refusal, client_ip::networks, pattern::PathPattern};
use crate::api::envoy::{self, Action};

/// The rules.
#[derive(Debug)]
pub(crate) struct Authorization {
    default: Action,
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    action: Action,
    methods: Vec<Method>,
    path: Option<PathPattern>,
    networks: Option<Vec<IpNet>>,
    headers: Vec<(HeaderName, Vec<String>)>,
    token: Option<TokenRule>,
}

#[derive(Debug)]
struct TokenRule {
    provider: String,
    scopes: Vec<String>,
    claims: Vec<Claim>,
}

#[derive(Debug)]
struct Claim {
    path: Vec<String>,
    list: bool,
    values: Vec<String>,
}

/// The verified claims of a request, with the provider that they were verified by.
pub(crate) type Claims = Option<(String, Map<String, Value>)>;

impl Authorization {
    pub(crate) fn new(spec: &envoy::Authorization, providers: &[&str], at: &str) -> Result<Self, String> {
        let rules = spec.rules.iter().enumerate();
        let rules = rules.map(|(i, rule)| Rule::new(rule, providers, &format!("{at}.rules[{i}]")));
        Ok(Self {
            default: spec.default_action.unwrap_or(Action::Deny),
            rules: rules.collect::<Result<_, _>>()?,
        })
    }

    /// Whether it speaks of nothing but the client's address, which is all that a connection without requests has.
    pub(crate) fn is_by_address(&self) -> bool {
        self.rules.iter().all(|rule| {
            rule.methods.is_empty() && rule.path.is_none() && rule.headers.is_empty() && rule.token.is_none()
        })
    }

    /// Lets a request through, or refuses it.
    pub(crate) fn check(&self, call: &Call<'_>, headers: &HeaderMap, claims: &Claims) -> Result<(), Refusal> {
        let rule = self.rules.iter().find(|rule| rule.matches(call, headers, claims));
        match rule.map_or(self.default, |rule| rule.action) {
            Action::Allow => Ok(()),
            Action::Deny => Err(Refusal::new(StatusCode::FORBIDDEN, "RBAC: access denied")),
        }
    }

    /// Whether a connection of this client is let through.
    pub(crate) fn admits(&self, client: std::net::IpAddr) -> bool {
        let rule = self.rules.iter().find(|rule| rule.is_from(client));
        rule.map_or(self.default, |rule| rule.action) == Action::Allow
    }
}

impl Rule {
    fn new(spec: &envoy::AuthorizationRule, providers: &[&str], at: &str) -> Result<Self, String> {
        let (mut methods, mut path) = (Vec::new(), None);
        if let Some(operation) = &spec.operation {
            for method in &operation.methods {
                let parsed = method.parse();
                methods
                    .push(parsed.map_err(|_| format!("{at}.operation.methods: {method:?} is not a method"))?);
            }
            if let Some(selector) = &operation.path {
                path = Some(PathPattern::new(selector, &format!("{at}.operation.path"))?);
            }
        }
        let mut rule = Self {
            action: spec.action,
            methods,
            path,
            networks: None,
            headers: Vec::new(),
            token: None,
        };
        let Some(principal) = &spec.principal else {
            return Ok(rule);
        };
        if !principal.client_cidrs.is_empty() {
            rule.networks = Some(networks(
                &principal.client_cidrs,
                &format!("{at}.principal.clientCIDRs"),
            )?);
        }
        for header in &principal.headers {
            let name = header.name.parse();
            let name = name.map_err(|_| {
                format!(
                    "{at}.principal.headers: {:?} is not the name of a header",
                    header.name
                )
            })?;
            rule.headers.push((name, header.values.clone()));
        }
        if let Some(jwt) = &principal.jwt {
            if !providers.contains(&jwt.provider.as_str()) {
                return Err(format!(
                    "{at}.principal.jwt.provider: spec.jwt.providers has no {:?}, so that no token could be checked",
                    jwt.provider
                ));
            }
            let claim = |(i, claim): (usize, &envoy::ClaimPrincipal)| {
                let list = match claim.value_type.as_deref().unwrap_or("String") {
                    "String" => false,
                    "StringArray" => true,
                    other => {
                        return Err(format!(
                            "{at}.principal.jwt.claims[{i}].valueType: {other:?}: the gateway does not implement it"
                        ));
                    }
                };
                Ok(Claim {
                    path: claim.name.split('.').map(str::to_owned).collect(),
                    list,
                    values: claim.values.clone(),
                })
            };
            rule.token = Some(TokenRule {
                provider: jwt.provider.clone(),
                scopes: jwt.scopes.clone(),
                claims: jwt
                    .claims
                    .iter()
                    .enumerate()
                    .map(claim)
                    .collect::<Result<_, _>>()?,
            });
        }
        Ok(rule)
    }

    fn is_from(&self, client: std::net::IpAddr) -> bool {
        self.networks
            .as_ref()
            .is_none_or(|networks| networks.iter().any(|network| network.contains(&client)))
    }

    fn matches(&self, call: &Call<'_>, headers: &HeaderMap, claims: &Claims) -> bool {
        (self.methods.is_empty() || self.methods.contains(call.method))
            && self
                .path
                .as_ref()
                .is_none_or(|path| path.matches(call.path_and_query, false))
            && self.is_from(call.client)
            && self
                .headers
                .iter()
                .all(|(name, values)| is_one_of(headers, name, values))
            && self.token.as_ref().is_none_or(|token| token.matches(claims))
    }
}

/// Whether a header has one of these values. Several lines count as one whose values are joined by commas (RFC 9110, section 5.3):
/// a second line must not add what the first one, which a proxy in front may have written, does not say.
fn is_one_of(headers: &HeaderMap, name: &HeaderName, values: &[String]) -> bool {
    let lines: Vec<&[u8]> = headers
        .get_all(name)
        .iter()
        .map(http::HeaderValue::as_bytes)
        .collect();
    if lines.is_empty() {
        return false;
    }
    let whole = lines.join(&b","[..]);
    values.iter().any(|accepted| accepted.as_bytes() == whole)
}

impl TokenRule {
    fn matches(&self, claims: &Claims) -> bool {
        let Some((provider, claims)) = claims else {
            return false;
        };
        *provider == self.provider
            && self.scopes.iter().all(|scope| has_scope(claims, scope))
            && self.claims.iter().all(|claim| claim.matches(claims))
    }
}

/// Scopes are words of `scope` or `scp` (RFC 8693, section 4.2), or a list of them as some issuers write it.
fn has_scope(claims: &Map<String, Value>, scope: &str) -> bool {
    ["scope", "scp"]
        .iter()
        .filter_map(|name| claims.get(*name))
        .any(|value| match value {
            Value::String(text) => text.split(' ').any(|word| word == scope),
            Value::Array(list) => list.iter().any(|word| word == scope),
            _ => false,
        })
}

impl Claim {
    fn matches(&self, claims: &Map<String, Value>) -> bool {
        let mut steps = self.path.iter();
        let Some(mut value) = steps.next().and_then(|name| claims.get(name)) else {
            return false;
        };
        for name in steps {
            match value.get(name) {
                Some(inner) => value = inner,
                None => return false,
            }
        }
        let accepted = |value: &Value| {
            value
                .as_str()
                .is_some_and(|text| self.values.iter().any(|v| v == text))
        };
        match value {
            Value::Array(list) if self.list => list.iter().any(accepted),
            value if !self.list => accepted(value),
            _ => false,
        }
    }
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::policy::testing::call;

    fn rules(spec: Value) -> Authorization {
        Authorization::new(
            &crate::api::read(&spec, "spec").unwrap(),
            &["default"],
            "spec.authorization",
        )
        .unwrap()
    }

    fn claims(value: Value) -> Claims {
        Some(("default".to_owned(), value.as_object().unwrap().clone()))
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let authorization = rules(json!({"defaultAction": "Allow", "rules": [
            {"action": "Deny", "principal": {"clientCIDRs": ["192.0.2.0/24"]}},
            {"action": "Allow", "principal": {"clientCIDRs": ["192.0.2.7/32"]}},
        ]}));
        assert!(
            authorization
                .check(&call(&Method::GET, "/"), &HeaderMap::new(), &None)
                .is_err()
        );
        assert!(authorization.admits([192, 0, 3, 1].into()));
    }

    #[test]
    fn a_second_line_of_a_header_adds_no_value() {
        let authorization = rules(
            json!({"rules": [{"action": "Allow", "principal": {"headers": [{"name": "x-role", "values": ["admin"]}]}}]}),
        );
        let ask = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("x-role", line.parse().unwrap());
            }
            authorization
                .check(&call(&Method::GET, "/"), &headers, &None)
                .is_ok()
        };
        assert!(ask(&["admin"]));
        assert!(!ask(&["guest", "admin"]));
        assert!(!ask(&[]));
    }

    #[test]
    fn nobody_is_let_through_by_omission() {
        let authorization = rules(json!({"rules": []}));
        assert!(
            authorization
                .check(&call(&Method::GET, "/"), &HeaderMap::new(), &None)
                .is_err()
        );
    }

    #[test]
    fn all_scopes_and_one_value_of_each_claim_are_demanded() {
        let authorization = rules(json!({"rules": [{"action": "Allow", "principal": {"jwt": {
            "provider": "default", "scopes": ["read", "list"], "claims": [{"name": "realm.team", "values": ["shop", "billing"]}]}}}]}));
        let check = |value: Value| {
            authorization
                .check(&call(&Method::GET, "/"), &HeaderMap::new(), &claims(value))
                .is_ok()
        };
        assert!(check(json!({"scope": "list read", "realm": {"team": "shop"}})));
        assert!(check(
            json!({"scp": ["list", "read"], "realm": {"team": "billing"}})
        ));
        assert!(!check(json!({"scope": "listread", "realm": {"team": "shop"}})));
        assert!(!check(json!({"scope": "list read", "realm": {"team": ["shop"]}})));
        assert!(
            authorization
                .check(&call(&Method::GET, "/"), &HeaderMap::new(), &None)
                .is_err()
        );
    }

    #[test]
    fn operations_are_matched_without_their_query() {
        let authorization = rules(
            json!({"defaultAction": "Allow", "rules": [{"action": "Deny", "operation": {
            "methods": ["DELETE"], "path": {"type": "RegularExpression", "value": "/orders/[^/]+/?"}}}]}),
        );
        let denied = |method: Method, path: &str| {
            authorization
                .check(&call(&method, path), &HeaderMap::new(), &None)
                .is_err()
        };
        assert!(denied(Method::DELETE, "/orders/1?force=true"));
        assert!(denied(Method::DELETE, "/orders/1/"));
        assert!(!denied(Method::GET, "/orders/1"));
        assert!(!denied(Method::DELETE, "/orders/1/items"));
    }
}
