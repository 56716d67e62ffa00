//! JSON Web Tokens (Envoy's `jwt_authn`).

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use jsonwebtoken::{Validation, decode, decode_header, errors::ErrorKind};
use serde_json::{Map, Value};

use super::{Call, Refusal, authorization::Claims, cookie, duration, jwks};
use crate::api::envoy;

/// Seconds by which clocks may differ, Envoy's default.
const CLOCK_SKEW: u64 = 60;
/// Longest token that is looked at, in bytes.
const LONGEST: usize = 16 * 1024;

/// What is demanded of tokens.
#[derive(Debug)]
pub(crate) struct Jwt {
    optional: bool,
    providers: Vec<Provider>,
}

#[derive(Debug)]
struct Provider {
    name: String,
    issuer: String,
    audiences: Vec<String>,
    keys: Source,
    headers: Vec<(HeaderName, String)>,
    cookies: Vec<String>,
    parameters: Vec<String>,
    claims: Vec<(String, HeaderName)>,
}

enum Source {
    Inline(jwks::Keys),
    Remote(Arc<jwks::Remote>),
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Inline(_) => "Inline",
            Self::Remote(_) => "Remote",
        })
    }
}

impl Jwt {
    pub(crate) fn new(spec: &envoy::Jwt, at: &str) -> Result<Self, String> {
        let providers = spec.providers.iter().enumerate();
        let providers =
            providers.map(|(i, provider)| Provider::new(provider, &format!("{at}.providers[{i}]")));
        let providers: Vec<_> = providers.collect::<Result<_, _>>()?;
        if providers.is_empty() {
            return Err(format!(
                "{at}.providers: none is given, so that no token could be checked"
            ));
        }
        Ok(Self {
            optional: spec.optional,
            providers,
        })
    }

    /// Takes over the key sets that another one has fetched already.
    pub(crate) fn adopt(&mut self, before: &Self) {
        let known: Vec<_> = before
            .providers
            .iter()
            .filter_map(|provider| match &provider.keys {
                Source::Remote(remote) => Some(remote),
                Source::Inline(_) => None,
            })
            .collect();
        for provider in &mut self.providers {
            if let Source::Remote(remote) = &mut provider.keys
                && let Some(same) = known.iter().find(|other| other.identity() == remote.identity())
            {
                *remote = Arc::clone(same);
            }
        }
    }

    /// Checks the request's token. Headers that claims are copied to are set, or removed: nobody else may say them.
    pub(crate) async fn check(
        &self,
        call: &Call<'_>,
        headers: &mut HeaderMap,
        fetch: &dyn jwks::Fetch,
    ) -> Result<Claims, Refusal> {
        let mut failure = None;
        let mut verified = None;
        for provider in &self.providers {
            let Some(token) = provider.token(call, headers) else {
                continue;
            };
            match provider.verify(&token, fetch).await {
                Ok(claims) => {
                    verified = Some((provider, claims));
                    break;
                }
                Err(why) => failure = Some(why),
            }
        }
        for (_, name) in self.providers.iter().flat_map(|provider| &provider.claims) {
            headers.remove(name);
        }
        match (verified, failure) {
            (Some((provider, claims)), _) => {
                provider.copy(&claims, headers);
                Ok(Some((provider.name.clone(), claims)))
            }
            (None, Some(why)) => Err(why.refusal(call)),
            (None, None) if self.optional => Ok(None),
            (None, None) => Err(Failure::Missing.refusal(call)),
        }
    }
}

/// Why a token does not count. Texts are those of Envoy's `jwt_authn`.
enum Failure {
    Missing,
    Malformed,
    Expired,
    NotYetValid,
    Issuer,
    Audience,
    Signature,
    NoKey,
    KeysUnreachable,
}

impl Failure {
    fn refusal(&self, call: &Call<'_>) -> Refusal {
        let text = match self {
            Self::Missing => "Jwt is missing",
            Self::Malformed => {
                "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"
            }
            Self::Expired => "Jwt is expired",
            Self::NotYetValid => "Jwt not yet valid",
            Self::Issuer => "Jwt issuer is not configured",
            Self::Audience => "Audiences in Jwt are not allowed",
            Self::Signature => "Jwt verification fails",
            Self::NoKey => "Jwks doesn't have key to match kid or alg from Jwt",
            Self::KeysUnreachable => "Jwks remote fetch is failed",
        };
        if matches!(self, Self::Audience) {
            return Refusal::new(StatusCode::FORBIDDEN, text);
        }
        let error = if matches!(self, Self::Missing) {
            ""
        } else {
            ", error=\"invalid_token\""
        };
        Refusal::new(StatusCode::UNAUTHORIZED, text).with(
            header::WWW_AUTHENTICATE,
            &format!("Bearer realm=\"{}\"{error}", call.realm()),
        )
    }
}

impl Provider {
    fn new(spec: &envoy::JwtProvider, at: &str) -> Result<Self, String> {
        let header_name = |name: &str, field: &str| -> Result<HeaderName, String> {
            name.parse()
                .map_err(|_| format!("{at}.{field}: {name:?} is not the name of a header"))
        };
        let keys = match (&spec.remote_jwks, &spec.local_jwks) {
            (Some(remote), None) => {
                let parsed = url::Url::parse(&remote.uri).ok();
                if !parsed.is_some_and(|uri| matches!(uri.scheme(), "http" | "https") && uri.has_host()) {
                    return Err(format!(
                        "{at}.remoteJWKS.uri: {:?} is not the http or https address of a key set",
                        remote.uri
                    ));
                }
                let time = |text: &Option<String>, field: &str, default| match text {
                    None => Ok(default),
                    Some(text) => duration::parse(text, &format!("{at}.remoteJWKS.{field}")),
                };
                Source::Remote(Arc::new(jwks::Remote::new(
                    remote.uri.clone(),
                    time(&remote.cache_duration, "cacheDuration", Duration::from_secs(300))?,
                    time(
                        &remote.failed_refetch_duration,
                        "failedRefetchDuration",
                        Duration::from_secs(1),
                    )?,
                )))
            }
            (None, Some(local)) => match (local.type_.as_deref().unwrap_or("Inline"), &local.inline) {
                ("Inline", Some(text)) => Source::Inline(
                    jwks::parse(text.as_bytes()).map_err(|why| format!("{at}.localJWKS.inline: {why}"))?,
                ),
                _ => {
                    return Err(format!(
                        "{at}.localJWKS: only type Inline is implemented, with inline"
                    ));
                }
            },
            _ => {
                return Err(format!(
                    "{at}: exactly one of remoteJWKS and localJWKS must say where the keys are"
                ));
            }
        };
        let mut provider = Self {
            name: spec.name.clone(),
            issuer: spec.issuer.clone(),
            audiences: spec.audiences.clone(),
            keys,
            headers: Vec::new(),
            cookies: Vec::new(),
            parameters: Vec::new(),
            claims: Vec::new(),
        };
        for claim in &spec.claim_to_headers {
            provider
                .claims
                .push((claim.claim.clone(), header_name(&claim.header, "claimToHeaders")?));
        }
        match &spec.extract_from {
            None => {
                provider
                    .headers
                    .push((header::AUTHORIZATION, "Bearer ".to_owned()));
                provider.parameters.push("access_token".to_owned());
            }
            Some(from) => {
                for one in &from.headers {
                    provider.headers.push((
                        header_name(&one.name, "extractFrom.headers")?,
                        one.value_prefix.clone(),
                    ));
                }
                provider.cookies.clone_from(&from.cookies);
                provider.parameters.clone_from(&from.params);
            }
        }
        Ok(provider)
    }

    fn token(&self, call: &Call<'_>, headers: &HeaderMap) -> Option<String> {
        let from_headers = self.headers.iter().find_map(|(name, prefix)| {
            let value = headers.get(name)?.to_str().ok()?;
            let start = value.find(prefix.as_str())?;
            Some(value[start + prefix.len()..].trim().to_owned())
        });
        let from_parameters = || self.parameters.iter().find_map(|name| call.parameter(name));
        let from_cookies = || {
            let mut names = self.cookies.iter();
            names.find_map(|name| cookie(headers, name)).map(str::to_owned)
        };
        from_headers.or_else(from_parameters).or_else(from_cookies)
    }

    async fn verify(&self, token: &str, fetch: &dyn jwks::Fetch) -> Result<Map<String, Value>, Failure> {
        if token.len() > LONGEST {
            return Err(Failure::Malformed);
        }
        let header = decode_header(token).map_err(|_| Failure::Malformed)?;
        let keys = match &self.keys {
            Source::Inline(keys) => Arc::clone(keys),
            Source::Remote(remote) => remote.keys(fetch).await.ok_or(Failure::KeysUnreachable)?,
        };
        let mut validation = Validation::new(header.alg);
        validation.leeway = CLOCK_SKEW;
        validation.validate_nbf = true;
        // Envoy accepts tokens without an end; a token that has one is held to it.
        validation.required_spec_claims.clear();
        if self.audiences.is_empty() {
            validation.validate_aud = false;
        } else {
            validation.set_audience(&self.audiences);
            validation.required_spec_claims.insert("aud".to_owned());
        }
        if !self.issuer.is_empty() {
            validation.set_issuer(&[&self.issuer]);
            validation.required_spec_claims.insert("iss".to_owned());
        }
        let fitting = keys.iter().filter(|key| {
            key.algorithm.is_none_or(|algorithm| algorithm == header.alg)
                && (header.kid.is_none() || key.id.is_none() || key.id == header.kid)
        });
        let mut last = Failure::NoKey;
        for key in fitting {
            match decode::<Map<String, Value>>(token, &key.key, &validation) {
                Ok(token) => return Ok(token.claims),
                Err(error) => {
                    last = match error.kind() {
                        ErrorKind::ExpiredSignature => Failure::Expired,
                        ErrorKind::ImmatureSignature => Failure::NotYetValid,
                        ErrorKind::InvalidIssuer => Failure::Issuer,
                        ErrorKind::InvalidAudience => Failure::Audience,
                        ErrorKind::MissingRequiredClaim(name) if name == "iss" => Failure::Issuer,
                        ErrorKind::MissingRequiredClaim(_) => Failure::Audience,
                        _ => Failure::Signature,
                    }
                }
            }
        }
        Err(last)
    }

    /// Claims that are text, numbers or truth values go to the backend; others have no form in a header.
    fn copy(&self, claims: &Map<String, Value>, headers: &mut HeaderMap) {
        for (claim, name) in &self.claims {
            let mut steps = claim.split('.');
            let first = steps.next().and_then(|step| claims.get(step));
            let value = steps.fold(first, |value, step| value?.get(step));
            let text = match value {
                Some(Value::String(text)) => text.clone(),
                Some(value @ (Value::Number(_) | Value::Bool(_))) => value.to_string(),
                _ => continue,
            };
            if let Ok(value) = HeaderValue::from_str(&text) {
                headers.insert(name, value);
            }
        }
    }
}
