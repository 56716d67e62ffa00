//! Who may call: authentication, origins, addresses, scopes and claims. All of it becomes a `SecurityPolicy`.

use std::net::IpAddr;

use choreo_api::v1alpha1::{
    Authentication, AuthenticationType, ConnectionSecurity, Cors, JwtAuthentication, JwtClaim,
};
use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::{Part, duration};
use crate::{expose::ScopedOperation, operations};

/// The one provider of tokens that a policy names.
const PROVIDER: &str = "default";
/// Longest address of a key set or issuer that the gateway's policies take.
const LONGEST_NAME: usize = 253;

pub(super) fn authenticate(authentication: &Authentication, more_keys: &[String]) -> Part {
    match authentication.type_ {
        AuthenticationType::Jwt | AuthenticationType::OAuth2 => {
            let Some(jwt) = token(authentication)? else {
                return Err("type is jwt, but jwt is not given".to_owned());
            };
            Ok(Some(("jwt", json!({"providers": [provider(&jwt)?]}))))
        }
        AuthenticationType::ApiKey => {
            let key = authentication
                .api_key
                .as_ref()
                .ok_or("type is apikey, but apikey is not given")?;
            let secrets: Vec<Value> = key
                .secret_ref
                .iter()
                .chain(more_keys)
                .map(|name| json!({"group": "", "kind": "Secret", "name": name}))
                .collect();
            if secrets.is_empty() {
                return Err(
                    "apikey.secretRef: not given; name the Secret in the cell that holds the accepted keys"
                        .to_owned(),
                );
            }
            // Each source names one place only.
            let mut from = Vec::new();
            from.extend(key.header.iter().map(|name| json!({"headers": [name]})));
            from.extend(key.query_param.iter().map(|name| json!({"params": [name]})));
            if from.is_empty() {
                return Err("apikey: header or queryParam must say where the key is".to_owned());
            }
            Ok(Some((
                "apiKeyAuth",
                json!({"credentialRefs": secrets, "extractFrom": from}),
            )))
        }
        AuthenticationType::Basic => {
            let basic = authentication.basic.as_ref().ok_or(
                "type is basic, but basic is not given: name the Secret in the cell that lists the users",
            )?;
            Ok(Some((
                "basicAuth",
                json!({"users": {"group": "", "kind": "Secret", "name": basic.secret_ref}}),
            )))
        }
    }
}

/// What is demanded of tokens, for the ways of authentication that use them.
fn token(authentication: &Authentication) -> Result<Option<JwtAuthentication>, String> {
    match authentication.type_ {
        AuthenticationType::Jwt => Ok(authentication.jwt.clone()),
        AuthenticationType::OAuth2 => {
            let oauth2 = authentication
                .oauth2
                .as_ref()
                .ok_or("type is oauth2, but oauth2 is not given")?;
            let jwks = oauth2.jwks.clone().ok_or(
                "oauth2.jwks: not given; a token cannot be checked by the address where it is issued alone, so name the key set of the server",
            )?;
            Ok(Some(JwtAuthentication {
                jwks,
                issuer: oauth2.issuer.clone().unwrap_or_default(),
                scopes: oauth2.scopes.clone(),
                ..JwtAuthentication::default()
            }))
        }
        AuthenticationType::ApiKey | AuthenticationType::Basic => Ok(None),
    }
}

fn provider(jwt: &JwtAuthentication) -> Result<Value, String> {
    let scheme = jwt.jwks.split_once("://").map(|(scheme, _)| scheme);
    if !matches!(scheme, Some("http" | "https")) {
        return Err(format!(
            "jwt.jwks: {:?} is not the http or https address of a key set",
            jwt.jwks
        ));
    }
    for (field, text) in [("jwks", &jwt.jwks), ("issuer", &jwt.issuer)] {
        if text.len() > LONGEST_NAME {
            return Err(format!(
                "jwt.{field}: the gateway takes at most {LONGEST_NAME} characters, found {}",
                text.len()
            ));
        }
    }
    if jwt.audience.len() > 8 {
        return Err(format!(
            "jwt.audience: the gateway takes at most 8, found {}",
            jwt.audience.len()
        ));
    }
    let mut provider = Map::new();
    provider.insert("name".to_owned(), json!(PROVIDER));
    if !jwt.issuer.is_empty() {
        provider.insert("issuer".to_owned(), json!(jwt.issuer));
    }
    if !jwt.audience.is_empty() {
        provider.insert("audiences".to_owned(), json!(jwt.audience));
    }
    if !jwt.claims_to_headers.is_empty() {
        let headers: Vec<Value> = jwt
            .claims_to_headers
            .iter()
            .map(|c| json!({"claim": c.name, "header": c.header}))
            .collect();
        provider.insert("claimToHeaders".to_owned(), json!(headers));
    }
    provider.insert("remoteJWKS".to_owned(), json!({"uri": jwt.jwks}));
    Ok(Value::Object(provider))
}

pub(super) fn cors(cors: &Cors) -> Part {
    let Cors {
        allow_origins,
        allow_methods,
        allow_headers,
        expose_headers,
        max_age,
        allow_credentials,
    } = cors;
    let mut out = Map::new();
    if let Some((i, origin)) = allow_origins.iter().enumerate().find(|(_, o)| !is_origin(o)) {
        return Err(format!(
            "allowOrigins[{i}]: {origin:?} is not an origin such as https://app.example.com, https://*.example.com or *"
        ));
    }
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
        let written = u64::try_from(*seconds)
            .ok()
            .and_then(|s| s.checked_mul(1_000))
            .and_then(duration::gateway)
            .ok_or_else(|| format!("maxAge: {seconds} is not a number of seconds that the gateway takes"))?;
        out.insert("maxAge".to_owned(), json!(written));
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
    Ok((!out.is_empty()).then_some(("cors", Value::Object(out))))
}

/// `*`, or a scheme, a host of which the first label may be `*`, and perhaps a port: what the gateway's schema takes.
fn is_origin(text: &str) -> bool {
    if text == "*" {
        return true;
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return false;
    };
    let good_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c));
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (rest, None),
    };
    let good_port = port.is_none_or(|p| (1..=5).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_digit()));
    let host = host.strip_prefix("*.").unwrap_or(host);
    let good_host = host == "*"
        || host.split('.').all(|label| {
            !label.is_empty()
                && label
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
        });
    good_scheme && good_port && good_host
}

/// Who is let through: the rules are tried in order, and the first that matches decides.
pub(super) fn authorize(
    authentication: Option<&Authentication>,
    security: Option<&ConnectionSecurity>,
    operations: &[ScopedOperation],
    path: &str,
) -> Part {
    let none = ConnectionSecurity::default();
    // What is demanded of the connection itself is met, or refused, where the route's listener is chosen.
    let ConnectionSecurity {
        allowed_ips,
        blocked_ips,
        require_tls: _,
        min_tls_version: _,
    } = security.unwrap_or(&none);
    let allowed = cidrs("allowedIPs", allowed_ips)?;
    let blocked = cidrs("blockedIPs", blocked_ips)?;
    // Without a usable way of authentication the part `authentication` says what is wrong.
    let jwt = authentication.map_or(Ok(None), token).unwrap_or_default();
    let (scopes, claims) = jwt
        .as_ref()
        .map_or((&[][..], &[][..]), |j| (&j.scopes[..], &j.claims[..]));
    let mut rules = Vec::new();
    // Who is blocked is blocked even when allowed.
    if !blocked.is_empty() {
        rules.push(json!({"name": "blocked", "action": "Deny", "principal": {"clientCIDRs": blocked}}));
    }
    for operation in operations {
        let mut demanded = scopes.to_vec();
        demanded.extend(operation.scopes.iter().cloned());
        demanded.sort();
        demanded.dedup();
        let matched = json!({
            "methods": operation.methods,
            // Many servers take a path with a slash at its end for the same.
            "path": {"type": "RegularExpression", "value": format!("{}/?", operations::pattern(path, &operation.path))},
        });
        let principal = principal(&allowed, &demanded, claims)?;
        rules.push(
            json!({"name": operation.name, "action": "Allow", "operation": matched, "principal": principal}),
        );
        rules.push(json!({
            "name": format!("{}-otherwise", operation.name), "action": "Deny", "operation": matched,
            "principal": {"clientCIDRs": ["0.0.0.0/0", "::/0"]},
        }));
    }
    let general = principal(&allowed, scopes, claims)?;
    let restricted = general.as_object().is_some_and(|p| !p.is_empty());
    if restricted {
        rules.push(json!({"name": "allowed", "action": "Allow", "principal": general}));
    }
    if rules.is_empty() {
        return Ok(None);
    }
    // A list of blocked addresses alone must not block everybody else.
    let default = if restricted { "Deny" } else { "Allow" };
    Ok(Some((
        "authorization",
        json!({"defaultAction": default, "rules": rules}),
    )))
}

/// Somebody who meets all of it.
fn principal(allowed: &[String], scopes: &[String], claims: &[JwtClaim]) -> Result<Value, String> {
    let mut principal = Map::new();
    if !allowed.is_empty() {
        principal.insert("clientCIDRs".to_owned(), json!(allowed));
    }
    if scopes.len() > 16 || claims.len() > 16 {
        return Err("the gateway takes at most 16 scopes and 16 claims".to_owned());
    }
    let mut token = Map::new();
    if !scopes.is_empty() {
        token.insert("scopes".to_owned(), json!(scopes));
    }
    if !claims.is_empty() {
        if let Some(claim) = claims.iter().find(|c| c.values.is_empty()) {
            return Err(format!(
                "claim {:?} has no accepted value, so that no token could pass: name one",
                claim.key
            ));
        }
        let claims: Vec<Value> = claims
            .iter()
            .map(|c| json!({"name": c.key, "values": c.values}))
            .collect();
        token.insert("claims".to_owned(), json!(claims));
    }
    if !token.is_empty() {
        token.insert("provider".to_owned(), json!(PROVIDER));
        principal.insert("jwt".to_owned(), Value::Object(token));
    }
    Ok(Value::Object(principal))
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

#[cfg(test)]
mod tests {
    use choreo_api::v1alpha1::{ApiKeyAuthentication, OAuth2Authentication};
    use serde_json::json;

    use super::*;

    fn security(allowed: &[&str], blocked: &[&str]) -> ConnectionSecurity {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        ConnectionSecurity {
            allowed_ips: own(allowed),
            blocked_ips: own(blocked),
            ..ConnectionSecurity::default()
        }
    }

    fn by_address(allowed: &[&str], blocked: &[&str]) -> Option<Value> {
        let rendered = authorize(None, Some(&security(allowed, blocked)), &[], "/").unwrap();
        rendered.map(|(_, value)| value)
    }

    fn jwt(scopes: &[&str], claims: &[(&str, &[&str])]) -> Authentication {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<String>>();
        Authentication {
            jwt: Some(JwtAuthentication {
                jwks: "https://id.example.com/keys".to_owned(),
                scopes: own(scopes),
                claims: claims
                    .iter()
                    .map(|(key, values)| JwtClaim {
                        key: (*key).to_owned(),
                        values: own(values),
                    })
                    .collect(),
                ..JwtAuthentication::default()
            }),
            ..Authentication::default()
        }
    }

    #[test]
    fn a_list_of_blocked_addresses_blocks_only_them() {
        assert_eq!(
            by_address(&[], &["203.0.113.7", "198.51.100.9/24"]).unwrap(),
            json!({"defaultAction": "Allow", "rules": [
                {"name": "blocked", "action": "Deny", "principal": {"clientCIDRs": ["203.0.113.7/32", "198.51.100.0/24"]}}]})
        );
    }

    #[test]
    fn a_list_of_allowed_addresses_denies_the_rest_and_blocked_ones_come_first() {
        let rendered = by_address(&["10.0.0.0/8"], &["10.1.1.1"]).unwrap();
        assert_eq!(rendered["defaultAction"], "Deny");
        assert_eq!(rendered["rules"][0]["action"], "Deny");
        assert_eq!(rendered["rules"][1]["action"], "Allow");
    }

    #[test]
    fn no_addresses_mean_no_restriction_and_bad_ones_are_refused() {
        assert_eq!(by_address(&[], &[]), None);
        let error = authorize(None, Some(&security(&["10.0.0"], &[])), &[], "/").unwrap_err();
        assert!(error.contains("allowedIPs[0]"), "{error}");
    }

    #[test]
    fn scopes_claims_and_addresses_must_all_be_met() {
        let token = jwt(&["read"], &[("team", &["a", "b"])]);
        let blocked_and_allowed = security(&["10.0.0.0/8"], &[]);
        let (_, value) = authorize(Some(&token), Some(&blocked_and_allowed), &[], "/")
            .unwrap()
            .unwrap();
        assert_eq!(
            value,
            json!({"defaultAction": "Deny", "rules": [{"name": "allowed", "action": "Allow", "principal": {
                "clientCIDRs": ["10.0.0.0/8"],
                "jwt": {"provider": "default", "scopes": ["read"], "claims": [{"name": "team", "values": ["a", "b"]}]},
            }}]})
        );
        // A token alone is demanded by the part that checks it; nothing more is to be said here.
        assert_eq!(authorize(Some(&jwt(&[], &[])), None, &[], "/").unwrap(), None);
        // A claim without values would let nobody through, which nobody means.
        assert!(authorize(Some(&jwt(&[], &[("team", &[])])), None, &[], "/").is_err());
    }

    #[test]
    fn an_operation_with_scopes_is_closed_to_tokens_without_them_and_leaves_the_others_open() {
        let operation = ScopedOperation {
            name: "write".to_owned(),
            methods: vec!["POST".to_owned()],
            path: "/books/{id}".to_owned(),
            scopes: vec!["write:books".to_owned()],
        };
        let (_, value) = authorize(Some(&jwt(&[], &[])), None, &[operation], "/shop/list/v1")
            .unwrap()
            .unwrap();
        assert_eq!(value["defaultAction"], "Allow");
        let rules = value["rules"].as_array().unwrap();
        assert_eq!(rules.len(), 2);
        assert_eq!(
            rules[0]["operation"],
            json!({"methods": ["POST"], "path": {"type": "RegularExpression", "value": "/shop/list/v1/books/[^/]+/?"}})
        );
        assert_eq!(rules[0]["principal"]["jwt"]["scopes"], json!(["write:books"]));
        assert_eq!(rules[1]["action"], "Deny");
        assert_eq!(rules[0]["operation"], rules[1]["operation"]);
    }

    #[test]
    fn a_key_may_be_in_a_header_or_a_parameter_and_each_is_a_source_of_its_own() {
        let key = |secret: Option<&str>| Authentication {
            type_: AuthenticationType::ApiKey,
            api_key: Some(ApiKeyAuthentication {
                header: Some("X-Key".to_owned()),
                query_param: Some("key".to_owned()),
                secret_ref: secret.map(str::to_owned),
            }),
            ..Authentication::default()
        };
        let (field, value) = authenticate(&key(Some("keys")), &["more".to_owned()])
            .unwrap()
            .unwrap();
        assert_eq!(field, "apiKeyAuth");
        assert_eq!(
            value["extractFrom"],
            json!([{"headers": ["X-Key"]}, {"params": ["key"]}])
        );
        assert_eq!(value["credentialRefs"][1]["name"], "more");
        assert!(authenticate(&key(None), &[]).unwrap_err().contains("secretRef"));
    }

    #[test]
    fn a_token_of_an_oauth2_server_needs_its_keys() {
        let oauth2 = |jwks: Option<&str>| Authentication {
            type_: AuthenticationType::OAuth2,
            oauth2: Some(OAuth2Authentication {
                token_url: "https://id.example.com/token".to_owned(),
                scopes: vec!["read".to_owned()],
                jwks: jwks.map(str::to_owned),
                issuer: None,
            }),
            ..Authentication::default()
        };
        assert!(
            authenticate(&oauth2(None), &[])
                .unwrap_err()
                .contains("oauth2.jwks: not given")
        );
        let with = oauth2(Some("https://id.example.com/keys"));
        let (_, value) = authenticate(&with, &[]).unwrap().unwrap();
        assert_eq!(
            value["providers"][0]["remoteJWKS"]["uri"],
            "https://id.example.com/keys"
        );
        let (_, value) = authorize(Some(&with), None, &[], "/").unwrap().unwrap();
        assert_eq!(value["rules"][0]["principal"]["jwt"]["scopes"], json!(["read"]));
        assert_eq!(value["defaultAction"], "Deny");
    }

    #[test]
    fn credentials_need_named_origins_and_origins_are_origins() {
        let origins = |list: &[&str], allow_credentials| Cors {
            allow_origins: list.iter().map(|s| (*s).to_owned()).collect(),
            allow_credentials,
            ..Cors::default()
        };
        assert!(cors(&origins(&["*"], true)).is_err());
        assert_eq!(cors(&Cors::default()).unwrap(), None);
        assert!(cors(&origins(&["https://*.example.com:8443", "app://x"], true)).is_ok());
        for bad in ["example.com", "https://a/path", "https://", "https://a:b"] {
            assert!(
                cors(&origins(&[bad], false))
                    .unwrap_err()
                    .contains("allowOrigins[0]")
            );
        }
    }
}
