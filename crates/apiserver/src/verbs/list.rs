//! Listing a collection: consistent pages at a revision.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use choreo_apimachinery::status::{ApiError, Result, StatusCause};
use choreo_store::{Key, RevisionError, Snapshot};
use serde_json::{Value, json};

use super::{Filter, Target, View};
use crate::request::{ListOptions, ResourceVersionMatch};

/// One page of a collection.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The objects in key order.
    pub items: Vec<View>,
    /// The revision that they were read at.
    pub revision: u64,
    /// The token of the next page; empty on the last one.
    pub continue_token: String,
    /// How many objects are left behind this page; only known without selectors.
    pub remaining: Option<u64>,
}

/// Lists a collection.
///
/// # Errors
/// 410 when the revision or page asked for is gone, 504 when it is in the future, 400 for a malformed token.
pub async fn list(target: &Target, options: &ListOptions, filter: &Filter) -> Result<Listed> {
    let (snapshot, after) = start(target, options)?;
    let scope = filter.namespace().or(target.scope());
    if filter
        .namespace()
        .is_some_and(|ns| target.scope().is_some_and(|scope| scope != ns))
    {
        return Ok(Listed {
            items: Vec::new(),
            revision: snapshot.revision(),
            continue_token: String::new(),
            remaining: None,
        });
    }
    let scope = if target.resource.namespaced { scope } else { None };
    let mut objects = snapshot.iter(target.storage_resource(), scope, after.as_ref());
    let limit = if options.limit == 0 {
        usize::MAX
    } else {
        options.limit
    };
    let mut items = Vec::new();
    for object in objects.by_ref() {
        if filter.accepts(object) {
            items.push(object.clone());
            if items.len() == limit {
                break;
            }
        }
    }
    let mut continue_token = String::new();
    let mut remaining = None;
    if items.len() == limit
        && let Some(last) = items.last()
    {
        let left = if filter.is_everything() {
            let left = objects.count() as u64;
            remaining = (left > 0).then_some(left);
            left > 0
        } else {
            // Another page only if something on it would match; an empty last page is allowed but costs a request.
            objects.any(|object| filter.accepts(object))
        };
        if left {
            continue_token = encode_token(snapshot.revision().cast_signed(), last.key());
        }
    }
    let mut items: Vec<View> = items.into_iter().map(|object| target.view(object)).collect();
    target.settle(&mut items).await?;
    Ok(Listed {
        items,
        revision: snapshot.revision(),
        continue_token,
        remaining,
    })
}

/// The state to read and the key to begin behind.
fn start(target: &Target, options: &ListOptions) -> Result<(Snapshot, Option<Key>)> {
    let store = target.cluster.store();
    if let Some(token) = &options.continue_token {
        if options.resource_version.as_deref().is_some_and(|v| v != "0") {
            return Err(ApiError::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        let (revision, after) = decode_token(token, target)?;
        let Some(revision) = revision else {
            return Ok((store.snapshot(), Some(after)));
        };
        return match store.snapshot_at(revision) {
            Ok(snapshot) => Ok((snapshot, Some(after))),
            Err(_) => Err(expired_token(&after)),
        };
    }
    let wanted = match options.resource_version.as_deref() {
        None | Some("0") => return Ok((store.snapshot(), None)),
        Some(text) => parse_revision(text)?,
    };
    if wanted > store.revision() {
        return Err(too_large(wanted, store.revision()));
    }
    // With a limit and no match rule, a resource version means exactly that one, as it always did.
    let exact = options.resource_version_match == Some(ResourceVersionMatch::Exact)
        || (options.resource_version_match.is_none() && options.limit > 0);
    if !exact {
        return Ok((store.snapshot(), None));
    }
    match store.snapshot_at(wanted) {
        Ok(snapshot) => Ok((snapshot, None)),
        Err(RevisionError::Expired { oldest, .. }) => Err(ApiError::too_old_resource_version(wanted, oldest)),
        Err(RevisionError::Future { current, .. }) => Err(too_large(wanted, current)),
    }
}

/// Reads a resource version of a client.
///
/// # Errors
/// 400 when it is no revision of ours.
pub(crate) fn parse_revision(text: &str) -> Result<u64> {
    text.parse().map_err(|_| {
        ApiError::bad_request(format!(
            "invalid resource version: resourceVersion: Invalid value: {}: strconv.ParseUint: parsing {}: invalid syntax",
            choreo_apimachinery::field::quote(text),
            choreo_apimachinery::field::quote(text)
        ))
    })
}

/// 504 for a revision that the cluster has not reached.
pub(crate) fn too_large(wanted: u64, current: u64) -> ApiError {
    let mut error = ApiError::timeout(
        &format!("Too large resource version: {wanted}, current: {current}"),
        1,
    );
    error.details.get_or_insert_default().causes.push(StatusCause {
        cause: "ResourceVersionTooLarge".to_owned(),
        message: "Too large resource version".to_owned(),
        field: String::new(),
    });
    error
}

/// The token of the page behind `last`; at revision -1 it is the page of what is there by then. Opaque to clients.
fn encode_token(revision: i64, last: &Key) -> String {
    let token = json!({"v": "meta.k8s.io/v1", "rv": revision, "start": format!("{}/{}", last.namespace(), last.name())});
    URL_SAFE_NO_PAD.encode(token.to_string())
}

fn decode_token(token: &str, target: &Target) -> Result<(Option<u64>, Key)> {
    let read = || -> Option<(Option<u64>, Key)> {
        let value: Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.trim_end_matches('=')).ok()?).ok()?;
        let (namespace, name) = value.get("start")?.as_str()?.split_once('/')?;
        let revision = match value.get("rv")?.as_i64()? {
            // A token that a 410 handed out: go on with what is there now, inconsistently.
            -1 => None,
            revision => Some(u64::try_from(revision).ok()?),
        };
        Some((revision, Key::new(target.storage_resource(), namespace, name)))
    };
    read().ok_or_else(|| {
        ApiError::bad_request(
            "invalid continue token: continue key is not valid: it was not handed out by this server",
        )
    })
}

/// 410 with a token to go on with all the same, at the price of a list that was never true at one moment.
fn expired_token(after: &Key) -> ApiError {
    ApiError::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list without the \
         continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with \
         the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the \
         first chunk was returned and now may show up in the list.",
    )
    .with_continue(encode_token(-1, after))
}

/// Checks that the cluster has reached the revision that a client wants at least.
///
/// # Errors
/// 504 when it has not, 400 for what is no revision.
pub fn require_revision(target: &Target, wanted: Option<&str>) -> Result<()> {
    let Some(wanted) = wanted else { return Ok(()) };
    let wanted = parse_revision(wanted)?;
    let current = target.cluster.store().revision();
    if wanted > current {
        Err(too_large(wanted, current))
    } else {
        Ok(())
    }
}
