//! API keys (Envoy's `api_key_auth`): a key that is in one of the Secrets lets the request through.

use std::collections::HashMap;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use ring::digest::{SHA256, digest};

use super::{Call, Refusal, cookie};
use crate::api::envoy;

/// The accepted keys, by their digest. Looking digests up instead of comparing keys tells nobody by time how much of a guess is right.
pub(crate) struct Keys(HashMap<[u8; 32], String>);

fn digest_of(key: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, key).as_ref());
    out
}

impl Keys {
    /// `pairs` are client and key. For a client that is named twice the first key counts, as Envoy Gateway reads Secrets.
    pub(crate) fn new<'a>(pairs: impl Iterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut clients = std::collections::HashSet::new();
        let mut keys = HashMap::new();
        for (client, key) in pairs {
            // A line feed at the end is what editors and `--from-file` add.
            let key = key.strip_suffix(b"\n").unwrap_or(key);
            if clients.insert(client) && !key.is_empty() {
                keys.entry(digest_of(key)).or_insert_with(|| client.to_owned());
            }
        }
        Self(keys)
    }
}

/// Where keys are looked for, and what is told to the backend.
#[derive(Debug)]
pub(crate) struct Sources {
    from: Vec<Source>,
    forward: Option<HeaderName>,
    sanitize: bool,
}

#[derive(Debug)]
enum Source {
    Header(HeaderName),
    Parameter(String),
    Cookie(String),
}

impl Sources {
    pub(crate) fn new(spec: &envoy::ApiKeyAuth, at: &str) -> Result<Self, String> {
        let mut from = Vec::new();
        for (i, source) in spec.extract_from.iter().enumerate() {
            for name in &source.headers {
                let name = name.parse().map_err(|_| {
                    format!("{at}.extractFrom[{i}].headers: {name:?} is not the name of a header")
                })?;
                from.push(Source::Header(name));
            }
            from.extend(source.params.iter().cloned().map(Source::Parameter));
            from.extend(source.cookies.iter().cloned().map(Source::Cookie));
        }
        if from.is_empty() {
            return Err(format!("{at}.extractFrom: says nowhere where the key is"));
        }
        let forward =
            match &spec.forward_client_id_header {
                None => None,
                Some(name) => Some(name.parse().map_err(|_| {
                    format!("{at}.forwardClientIDHeader: {name:?} is not the name of a header")
                })?),
            };
        if spec.sanitize && from.iter().any(|source| !matches!(source, Source::Header(_))) {
            return Err(format!(
                "{at}.sanitize: the gateway removes keys from headers only, not from parameters or cookies"
            ));
        }
        Ok(Self {
            from,
            forward,
            sanitize: spec.sanitize,
        })
    }

    /// Lets the request through, or says why not.
    pub(crate) fn check(&self, keys: &Keys, call: &Call<'_>, headers: &mut HeaderMap) -> Result<(), Refusal> {
        let refused = || {
            Err(Refusal::new(
                StatusCode::UNAUTHORIZED,
                "Client authentication failed.",
            ))
        };
        let found = self.from.iter().find_map(|source| match source {
            Source::Header(name) => {
                let value = headers.get(name)?.as_bytes();
                let bearer = *name == header::AUTHORIZATION;
                Some(match value.strip_prefix(b"Bearer ") {
                    Some(key) if bearer => key.to_vec(),
                    _ => value.to_vec(),
                })
            }
            Source::Parameter(name) => call.parameter(name).map(String::into_bytes),
            Source::Cookie(name) => cookie(headers, name).map(|value| value.as_bytes().to_vec()),
        });
        let Some(client) = found.and_then(|key| keys.0.get(&digest_of(&key))) else {
            return refused();
        };
        if self.sanitize {
            for source in &self.from {
                if let Source::Header(name) = source {
                    headers.remove(name);
                }
            }
        }
        // Nobody else says who the client is, not even where the name fits no header.
        if let Some(name) = &self.forward {
            headers.remove(name);
        }
        if let Some(name) = &self.forward
            && let Ok(value) = HeaderValue::from_str(client)
        {
            headers.insert(name, value);
        }
        Ok(())
    }
}
