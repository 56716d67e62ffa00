//! Acting as somebody else: `Impersonate-User` and its companions, for who has the verb `impersonate` on each of what they
//! name.

use choreo_apimachinery::status::{ApiError, Result};
use choreo_store::Snapshot;
use http::HeaderMap;

use super::{Attributes, decide};
use crate::user::UserInfo;

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";
/// The API group of what can be impersonated besides users, groups and service accounts.
const AUTHENTICATION: &str = "authentication.k8s.io";

/// As whom a request counts, if its headers name somebody.
///
/// # Errors
/// 403 when the one who asks may not act as what the headers name, 400 for headers that do not go together.
pub(crate) fn effective_user(
    snapshot: &Snapshot,
    user: &UserInfo,
    headers: &HeaderMap,
) -> Result<Option<UserInfo>> {
    let all = |name: &str| -> Vec<String> {
        let values = headers.get_all(name).iter();
        values
            .filter_map(|value| value.to_str().ok())
            .map(str::to_owned)
            .collect()
    };
    let (name, groups, uid) = (all(USER).pop(), all(GROUP), all(UID).pop());
    let extra: Vec<(String, String)> = headers
        .iter()
        .filter_map(|(header, value)| {
            let key = header.as_str().strip_prefix(EXTRA)?;
            Some((decode(key), value.to_str().ok()?.to_owned()))
        })
        .collect();
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        if groups.is_empty() && uid.is_none() && extra.is_empty() {
            return Ok(None);
        }
        return Err(ApiError::bad_request(
            "impersonation of groups, a uid or extra attributes needs a user, too: give Impersonate-User",
        ));
    };
    let may = |group: &str, resource: &str, namespace: &str, name: &str| {
        let wanted = Attributes::on("impersonate", group, resource, namespace, name);
        let decision = decide(snapshot, user, &wanted);
        if decision.allowed {
            Ok(())
        } else {
            Err(crate::authz::refusal(user, &wanted, &decision.reason))
        }
    };
    let service_account = name
        .strip_prefix(SERVICE_ACCOUNT)
        .and_then(|rest| rest.split_once(':'));
    match service_account {
        Some((namespace, account)) => may("", "serviceaccounts", namespace, account)?,
        None => may("", "users", "", &name)?,
    }
    for group in &groups {
        may("", "groups", "", group)?;
    }
    if let Some(uid) = &uid {
        may(AUTHENTICATION, "uids", "", uid)?;
    }
    let mut other = UserInfo {
        name: name.clone(),
        uid: uid.unwrap_or_default(),
        groups,
        ..UserInfo::default()
    };
    for (key, value) in extra {
        may(AUTHENTICATION, &format!("userextras/{key}"), "", &value)?;
        other.extra.entry(key).or_default().push(value);
    }
    if let Some((namespace, _)) = service_account.filter(|_| other.groups.is_empty()) {
        other.groups = vec![
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
        ];
    }
    let everybody = if name == "system:anonymous" {
        "system:unauthenticated"
    } else {
        "system:authenticated"
    };
    if !other.is_in(everybody) {
        other.groups.push(everybody.to_owned());
    }
    Ok(Some(other))
}

/// Keys of extras are percent-encoded, since headers know neither case nor every character.
fn decode(key: &str) -> String {
    let form = format!("k={}", key.replace('+', "%2B"));
    let decoded = form_urlencoded::parse(form.as_bytes())
        .next()
        .map(|(_, value)| value.into_owned());
    decoded.unwrap_or_else(|| key.to_owned())
}
