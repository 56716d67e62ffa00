//! Issuing and verifying tokens.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use choreo_apimachinery::status::{ApiError, Result};
use choreo_store::{Key, Snapshot};
use serde_json::{Map, Value, json};

use super::{RESOURCE, SigningKey};
use crate::user::UserInfo;
use crate::verbs::text;

/// The issuer of tokens that are kept in Secrets.
const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";

/// How far the clocks of two machines may be apart, in seconds.
const LEEWAY: i64 = 60;

/// For how long after its deletion has begun an account's or object's tokens still count, in seconds.
const DELETION_GRACE: i64 = 60;

/// Signs tokens, and knows its own.
#[derive(Debug)]
pub(crate) struct Issuer {
    url: String,
    key: SigningKey,
}

/// What a token says.
#[derive(Debug)]
pub(crate) struct Verified {
    /// Whose it is.
    pub(crate) user: UserInfo,
    /// Those of the wanted audiences that it is for.
    pub(crate) audiences: Vec<String>,
}

/// What a new token is for.
pub(super) struct Grant<'a> {
    pub(super) namespace: &'a str,
    pub(super) account: &'a str,
    pub(super) uid: &'a str,
    pub(super) audiences: &'a [String],
    /// Further claims of Kubernetes, about what the token is bound to.
    pub(super) bound: Map<String, Value>,
    /// Seconds since the epoch.
    pub(super) from: i64,
    pub(super) until: i64,
}

impl Issuer {
    pub(crate) fn new(url: &str, key: SigningKey) -> Issuer {
        Issuer {
            url: url.to_owned(),
            key,
        }
    }

    /// The audiences of this server: the issuer's address.
    pub(crate) fn audiences(&self) -> Vec<String> {
        vec![self.url.clone()]
    }

    /// The key set by which others verify tokens.
    pub(crate) fn keys(&self) -> Value {
        json!({"keys": [self.key.public()]})
    }

    /// What `/.well-known/openid-configuration` says.
    pub(crate) fn discovery(&self, base: &str) -> Value {
        json!({
            "issuer": self.url,
            "jwks_uri": format!("{base}/openid/v1/jwks"),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }

    pub(super) fn issue(&self, grant: Grant<'_>) -> Result<String> {
        let mut own = grant.bound;
        own.insert("namespace".to_owned(), grant.namespace.into());
        own.insert(
            "serviceaccount".to_owned(),
            json!({"name": grant.account, "uid": grant.uid}),
        );
        self.sign(&json!({
            "aud": grant.audiences,
            "exp": grant.until,
            "iat": grant.from,
            "iss": self.url,
            "jti": uuid::Uuid::new_v4().to_string(),
            "kubernetes.io": own,
            "nbf": grant.from,
            "sub": subject(grant.namespace, grant.account),
        }))
    }

    /// A token that is kept in a Secret: it ends with the Secret, and with nothing else.
    pub(super) fn issue_legacy(
        &self,
        namespace: &str,
        account: &str,
        uid: &str,
        secret: &str,
    ) -> Result<String> {
        self.sign(&json!({
            "iss": LEGACY_ISSUER,
            "kubernetes.io/serviceaccount/namespace": namespace,
            "kubernetes.io/serviceaccount/secret.name": secret,
            "kubernetes.io/serviceaccount/service-account.name": account,
            "kubernetes.io/serviceaccount/service-account.uid": uid,
            "sub": subject(namespace, account),
        }))
    }

    fn sign(&self, claims: &Value) -> Result<String> {
        let header = json!({"alg": "ES256", "kid": self.key.id()});
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&header), encode(claims));
        let signature = self.key.sign(signed.as_bytes()).ok_or_else(|| {
            ApiError::internal("the token cannot be signed: the system gives no randomness")
        })?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// Whose token it is, if it is one of this issuer for one of the wanted audiences.
    ///
    /// # Errors
    /// None for what is no token of this issuer at all, else why it does not count.
    pub(crate) fn verify(
        &self,
        snapshot: &Snapshot,
        token: &str,
        wanted: &[String],
        now: jiff::Timestamp,
    ) -> std::result::Result<Verified, Option<String>> {
        let (signed, signature) = token.rsplit_once('.').ok_or(None)?;
        let (header, body) = signed.split_once('.').ok_or(None)?;
        let (header, claims) = (part(header).ok_or(None)?, part(body).ok_or(None)?);
        let issuer = text(&claims, "/iss");
        if issuer != self.url && issuer != LEGACY_ISSUER {
            return Err(None);
        }
        let refuse = |why: &str| Err(Some(why.to_owned()));
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap_or_default();
        // The algorithm is ours to choose, not the token's.
        if text(&header, "/alg") != "ES256" || !self.key.verify(signed.as_bytes(), &signature) {
            return refuse("the signature of the token is not that of this server");
        }
        let now = now.as_second();
        if issuer == LEGACY_ISSUER {
            return legacy(snapshot, &claims, token, now, wanted, &self.url);
        }
        let number = |pointer: &str| claims.pointer(pointer).and_then(Value::as_i64);
        if number("/exp").is_none_or(|until| now > until + LEEWAY) {
            return refuse("service account token has expired");
        }
        if number("/nbf").is_none_or(|from| now < from - LEEWAY) {
            return refuse("service account token is not valid yet");
        }
        let given: Vec<&str> = claims["aud"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let audiences = common(wanted, &given);
        if audiences.is_empty() {
            return Err(Some(format!(
                "token audiences {given:?} is invalid for the target audiences {wanted:?}"
            )));
        }
        let own = &claims["kubernetes.io"];
        let namespace = text(own, "/namespace");
        let account = own.pointer("/serviceaccount").unwrap_or(&Value::Null);
        check_bound(
            snapshot,
            RESOURCE,
            "service account",
            (namespace, account),
            now,
            text(&claims, "/sub"),
        )?;
        let mut user = user(namespace, text(account, "/name"), text(account, "/uid"));
        let mut note = |key: &str, value: &str| {
            if !value.is_empty() {
                let key = format!("authentication.kubernetes.io/{key}");
                user.extra.insert(key, vec![value.to_owned()]);
            }
        };
        note("credential-id", &format!("JTI={}", text(&claims, "/jti")));
        for (field, resource, what, scope) in [
            ("pod", "pods", "pod", namespace),
            ("secret", "secrets", "secret", namespace),
            ("node", "nodes", "node", ""),
        ] {
            let Some(bound) = own.get(field) else { continue };
            note(&format!("{field}-name"), text(bound, "/name"));
            note(&format!("{field}-uid"), text(bound, "/uid"));
            // The node of a Pod's token only says where it ran.
            if field != "node" || own.get("pod").is_none() {
                check_bound(snapshot, resource, what, (scope, bound), now, "")?;
            }
        }
        user.extra
            .retain(|key, _| !key.ends_with("/secret-name") && !key.ends_with("/secret-uid"));
        Ok(Verified { user, audiences })
    }
}

fn common(wanted: &[String], given: &[&str]) -> Vec<String> {
    let both = wanted
        .iter()
        .filter(|audience| given.contains(&audience.as_str()));
    both.cloned().collect()
}

fn subject(namespace: &str, account: &str) -> String {
    format!("system:serviceaccount:{namespace}:{account}")
}

fn user(namespace: &str, account: &str, uid: &str) -> UserInfo {
    let groups = [
        "system:serviceaccounts".to_owned(),
        format!("system:serviceaccounts:{namespace}"),
    ];
    UserInfo {
        uid: uid.to_owned(),
        ..UserInfo::new(subject(namespace, account), groups)
    }
}

fn part(text: &str) -> Option<Value> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

/// What a token is bound to must be there, be the same, and not be gone for all practical purposes.
fn check_bound(
    snapshot: &Snapshot,
    resource: &str,
    what: &str,
    (namespace, bound): (&str, &Value),
    now: i64,
    sub: &str,
) -> std::result::Result<(), Option<String>> {
    let (name, uid) = (text(bound, "/name"), text(bound, "/uid"));
    let refuse = |why: String| Err(Some(why));
    if resource == RESOURCE && sub != subject(namespace, name) {
        return refuse("the subject of the token is not the service account that it names".to_owned());
    }
    let Some(found) = snapshot.get(&Key::new(resource, namespace, name)) else {
        return refuse(format!("{what} {name} has been deleted"));
    };
    let found = found.value();
    if text(&found, "/metadata/uid") != uid {
        return refuse(format!(
            "the UID of {what} {name} is another one than the token's"
        ));
    }
    let deleted = text(&found, "/metadata/deletionTimestamp").parse::<jiff::Timestamp>();
    if deleted.is_ok_and(|at| now > at.as_second() + DELETION_GRACE) {
        return refuse(format!("{what} {name} has been deleted"));
    }
    Ok(())
}

/// A token from a Secret: the Secret must still hold it.
fn legacy(
    snapshot: &Snapshot,
    claims: &Value,
    token: &str,
    now: i64,
    wanted: &[String],
    url: &str,
) -> std::result::Result<Verified, Option<String>> {
    let claim = |name: &str| {
        claims[format!("kubernetes.io/serviceaccount/{name}").as_str()]
            .as_str()
            .unwrap_or_default()
    };
    let (namespace, account) = (claim("namespace"), claim("service-account.name"));
    let uid = claim("service-account.uid");
    let bound = json!({"name": account, "uid": uid});
    check_bound(
        snapshot,
        RESOURCE,
        "service account",
        (namespace, &bound),
        now,
        text(claims, "/sub"),
    )?;
    let secret = snapshot
        .get(&Key::new("secrets", namespace, claim("secret.name")))
        .map(|secret| secret.value());
    let kept = secret.is_some_and(|secret| text(&secret, "/data/token") == STANDARD.encode(token));
    if !kept {
        return Err(Some("the token has been invalidated".to_owned()));
    }
    let audiences = common(wanted, &[url]);
    if audiences.is_empty() {
        return Err(Some(format!(
            "token audiences [{url:?}] is invalid for the target audiences {wanted:?}"
        )));
    }
    Ok(Verified {
        user: user(namespace, account, uid),
        audiences,
    })
}
