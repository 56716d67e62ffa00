//! `serviceaccounts/token`: a token for an account.

use choreo_apimachinery::field::{FieldError, FieldPath};
use choreo_apimachinery::status::{ApiError, Result};
use choreo_store::{Key, Snapshot};
use serde_json::{Map, Value, json};

use super::token::Grant;
use crate::verbs::{Target, now, text};

const GROUP: &str = "authentication.k8s.io";
const KIND: &str = "TokenRequest";

/// For how long a token is when nobody says, in seconds.
const USUAL: i64 = 60 * 60;

/// The shortest, and the longest.
const SHORTEST: i64 = 10 * 60;
const LONGEST: i64 = 1 << 32;

/// What kubelets ask for, for the volumes of Pods. Old clients read such a token only once, so it is valid for a year; that
/// it should have been read again is noted in it.
const OF_VOLUMES: i64 = 60 * 60 + 7;
const YEAR: i64 = 365 * 24 * 60 * 60;

/// Refuses a document of another kind.
///
/// # Errors
/// 400 for one.
pub(crate) fn check_kind(body: &Value) -> Result<()> {
    let (version, kind) = (text(body, "/apiVersion"), text(body, "/kind"));
    if (!kind.is_empty() && kind != KIND)
        || (!version.is_empty() && version != format!("{GROUP}/v1").as_str())
    {
        return Err(ApiError::bad_request(format!(
            "expected a {KIND} of {GROUP}/v1, found {kind} of {version}"
        )));
    }
    Ok(())
}

/// Fills a request for a token of the account `name` in: for whom it is, and for how long.
///
/// # Errors
/// 404 when the account is not there, 400 and 422 for a request that makes no sense.
pub(crate) fn complete(target: &Target, name: &str, body: &Value) -> Result<Value> {
    let spec = &body["spec"];
    let seconds = spec["expirationSeconds"].as_i64().unwrap_or(USUAL);
    check_time(seconds)?;
    let namespace = target.namespace.as_str();
    for (field, wanted, what) in [
        ("name", name, "must match the service account name if specified"),
        (
            "namespace",
            namespace,
            "must match the service account namespace if specified",
        ),
    ] {
        let found = text(body, &format!("/metadata/{field}"));
        if !found.is_empty() && found != wanted {
            let path = FieldPath::new("metadata");
            let error = FieldError::invalid(&path.child(field), found, what);
            return Err(ApiError::invalid(GROUP, KIND, name, &[error]));
        }
    }
    let account = target.stored(name)?.value();
    let given = spec["audiences"].as_array().filter(|given| !given.is_empty());
    let audiences = given.map_or_else(
        || json!(target.cluster.issuer().audiences()),
        |given| json!(given),
    );
    Ok(json!({
        "kind": KIND,
        "apiVersion": format!("{GROUP}/v1"),
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": text(&account, "/metadata/uid"),
            "creationTimestamp": now(),
        },
        "spec": {"audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": spec["boundObjectRef"]},
    }))
}

/// Answers a request that has been filled in, with a token.
///
/// # Errors
/// 404 when what the token is to be bound to is not there, 409 when that is another one, 400 when that makes no sense.
pub(crate) fn issue(target: &Target, mut request: Value) -> Result<Value> {
    let (namespace, name) = (
        target.namespace.as_str(),
        text(&request, "/metadata/name").to_owned(),
    );
    let spec = &request["spec"];
    let seconds = spec["expirationSeconds"].as_i64().unwrap_or(USUAL);
    let all = spec["audiences"].as_array().into_iter().flatten();
    let audiences: Vec<String> = all.filter_map(Value::as_str).map(str::to_owned).collect();
    let snapshot = target.cluster.store().snapshot();
    let issuer = target.cluster.issuer();
    let mut bound = bound(&snapshot, namespace, &name, &spec["boundObjectRef"])?;
    let from = jiff::Timestamp::now().as_second();
    let until = if bound.contains_key("pod") && seconds == OF_VOLUMES && audiences == issuer.audiences() {
        bound.insert("warnafter".to_owned(), (from + seconds).into());
        from + YEAR
    } else {
        from + seconds
    };
    let token = issuer.issue(Grant {
        namespace,
        account: &name,
        uid: text(&request, "/metadata/uid"),
        audiences: &audiences,
        bound,
        from,
        until,
    })?;
    let expires = jiff::Timestamp::from_second(from + seconds).unwrap_or(jiff::Timestamp::MAX);
    request["status"] = json!({
        "token": token,
        "expirationTimestamp": expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    });
    Ok(request)
}

fn check_time(seconds: i64) -> Result<()> {
    let why = if seconds < SHORTEST {
        "may not specify a duration less than 10 minutes"
    } else if seconds > LONGEST {
        "may not specify a duration larger than 2^32 seconds"
    } else {
        return Ok(());
    };
    let path = FieldPath::new("spec");
    let error = FieldError::invalid(&path.child("expirationSeconds"), seconds, why);
    Err(ApiError::invalid(GROUP, KIND, "", &[error]))
}

/// The claims about the object that a token is to be bound to.
fn bound(
    snapshot: &Snapshot,
    namespace: &str,
    account: &str,
    reference: &Value,
) -> Result<Map<String, Value>> {
    let mut claims = Map::new();
    if reference.is_null() {
        return Ok(claims);
    }
    let (version, kind) = (text(reference, "/apiVersion"), text(reference, "/kind"));
    let (plural, scope) = match (version, kind) {
        ("v1", "Pod") => ("pods", namespace),
        ("v1", "Secret") => ("secrets", namespace),
        ("v1", "Node") => ("nodes", ""),
        _ => {
            let version = if version.contains('/') {
                version.to_owned()
            } else {
                format!("/{version}")
            };
            return Err(ApiError::bad_request(format!(
                "cannot bind token to object of type {version}, Kind={kind}"
            )));
        }
    };
    let name = text(reference, "/name");
    let object = snapshot
        .get(&Key::new(plural, scope, name))
        .ok_or_else(|| ApiError::not_found("", plural, name))?
        .value();
    let uid = text(&object, "/metadata/uid");
    if kind == "Pod" {
        let runs_as = text(&object, "/spec/serviceAccountName");
        if runs_as != account {
            return Err(ApiError::bad_request(format!(
                "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
            )));
        }
        let node = text(&object, "/spec/nodeName");
        if !node.is_empty() {
            let mut claim = json!({"name": node});
            if let Some(found) = snapshot.get(&Key::new("nodes", "", node)) {
                claim["uid"] = text(&found.value(), "/metadata/uid").into();
            }
            claims.insert("node".to_owned(), claim);
        }
    }
    let wanted = text(reference, "/uid");
    if !wanted.is_empty() && wanted != uid {
        let why = format!(
            "the UID in the bound object reference ({wanted}) does not match the UID in record. The object might have been \
             deleted and then recreated"
        );
        return Err(ApiError::conflict("", kind, name, &why));
    }
    claims.insert(kind.to_lowercase(), json!({"name": name, "uid": uid}));
    Ok(claims)
}
