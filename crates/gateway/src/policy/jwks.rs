//! Key sets (RFC 7517): given in the policy, or fetched when they are needed and kept for as long as the policy says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey};
use tokio::sync::Mutex;

/// Gets the bytes of a key set. The proxy gives the implementation that goes over the network.
#[async_trait]
pub(crate) trait Fetch: Send + Sync {
    /// The body of a 200 answer to `GET uri`.
    async fn fetch(&self, uri: &str) -> Result<Bytes, String>;
}

/// A key that tokens can be checked with.
pub(crate) struct Key {
    pub(crate) id: Option<String>,
    pub(crate) algorithm: Option<Algorithm>,
    pub(crate) key: DecodingKey,
}

/// The usable keys of a set.
pub(crate) type Keys = Arc<Vec<Key>>;

/// Reads a key set. Keys for other uses, of unknown kinds and with shared secrets are left out, as RFC 7517 (section 5) asks.
///
/// # Errors
/// When it is no key set.
pub(crate) fn parse(bytes: &[u8]) -> Result<Keys, String> {
    #[derive(serde::Deserialize)]
    struct Loose {
        keys: Vec<serde_json::Value>,
    }
    let loose: Loose = serde_json::from_slice(bytes).map_err(|error| format!("not a JWKS: {error}"))?;
    let keys = loose.keys.into_iter().filter_map(|value| {
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        let for_signatures = jwk
            .common
            .public_key_use
            .as_ref()
            .is_none_or(|used| *used == jsonwebtoken::jwk::PublicKeyUse::Signature);
        if !for_signatures || matches!(jwk.algorithm, jsonwebtoken::jwk::AlgorithmParameters::OctetKey(_)) {
            return None;
        }
        Some(Key {
            id: jwk.common.key_id.clone(),
            algorithm: jwk
                .common
                .key_algorithm
                .and_then(|known| known.to_string().parse().ok()),
            key: DecodingKey::from_jwk(&jwk).ok()?,
        })
    });
    Ok(Arc::new(keys.collect()))
}

/// A key set at an address.
pub(crate) struct Remote {
    uri: String,
    keep: Duration,
    retry_after: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    keys: Option<Keys>,
    /// Until when the keys, or the last failure, count.
    until: Option<Instant>,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote")
            .field("uri", &self.uri)
            .finish_non_exhaustive()
    }
}

impl Remote {
    /// `keep` is how long a fetched set is used (Envoy Gateway's default is 5 minutes), `retry_after` how long a failure stands
    /// (Envoy's default is 1 second).
    pub(crate) fn new(uri: String, keep: Duration, retry_after: Duration) -> Self {
        Self {
            uri,
            keep,
            retry_after,
            state: Mutex::default(),
        }
    }

    /// What makes two the same: their keys can then be kept when a policy is read anew.
    pub(crate) fn identity(&self) -> (&str, Duration, Duration) {
        (&self.uri, self.keep, self.retry_after)
    }

    /// The keys; fetched by the first who needs them, while the others wait for it.
    pub(crate) async fn keys(&self, fetch: &dyn Fetch) -> Option<Keys> {
        let mut state = self.state.lock().await;
        let now = Instant::now();
        if state.until.is_some_and(|until| now < until) {
            return state.keys.clone();
        }
        let fetched = match fetch.fetch(&self.uri).await {
            Ok(bytes) => parse(&bytes),
            Err(why) => Err(why),
        };
        let (keys, wait) = match fetched {
            Ok(keys) => (Some(keys), self.keep),
            Err(why) => {
                tracing::warn!(uri = %self.uri, "cannot fetch the JWKS: {why}");
                (None, self.retry_after)
            }
        };
        state.keys.clone_from(&keys);
        state.until = Some(Instant::now() + wait);
        keys
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    struct Counting(AtomicUsize);

    #[async_trait]
    impl Fetch for Counting {
        async fn fetch(&self, _: &str) -> Result<Bytes, String> {
            match self.0.fetch_add(1, Ordering::SeqCst) {
                0 => Err("down".to_owned()),
                _ => Ok(Bytes::from_static(
                    br#"{"keys": [{"kty": "oct", "k": "c2VjcmV0"}, {"kty": "new"}]}"#,
                )),
            }
        }
    }

    #[tokio::test]
    async fn failures_are_tried_again_and_sets_are_kept() {
        let remote = Remote::new("http://keys".to_owned(), Duration::from_secs(600), Duration::ZERO);
        let fetch = Counting(AtomicUsize::new(0));
        assert!(remote.keys(&fetch).await.is_none());
        // Neither a shared secret nor an unknown kind is a key that tokens are checked with.
        assert!(remote.keys(&fetch).await.unwrap().is_empty());
        assert!(remote.keys(&fetch).await.is_some());
        assert_eq!(fetch.0.load(Ordering::SeqCst), 2);
    }
}
