//! GET of a collection.

use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;
use choreo_apimachinery::field::quote;
use choreo_apimachinery::registry::ResourceInfo;
use choreo_apimachinery::status::{ApiError, Result};
use http::StatusCode;
use memchr::memmem;

use crate::dispatch::Context;
use crate::negotiate::{Answer, Codec, Transform, protobuf};
use crate::request::ListOptions;
use crate::respond;
use crate::transform;
use crate::verbs::{self, Filter, Listed, Target, View};

/// Answers with the selected objects of a collection.
pub(super) async fn list(context: &Context, target: &Target) -> Result<Response> {
    let answer = context.negotiate(target, true)?;
    let options = ListOptions::parse(&context.query, false)?;
    let filter = Filter::parse(&target.resource, &options.label_selector, &options.field_selector)?;
    let listed = verbs::list(target, &options, &filter).await?;
    listed_as(context, answer, target, listed).await
}

/// Answers with a list in the negotiated form.
pub(crate) async fn listed_as(
    context: &Context,
    answer: Answer,
    target: &Target,
    listed: Listed,
) -> Result<Response> {
    match (answer.transform, answer.codec) {
        (Transform::None, Codec::Protobuf) => {
            let parts = binary(target, listed).await?;
            Ok(respond::parts_response(answer, StatusCode::OK, parts))
        }
        (Transform::None, _) => respond::json(answer, StatusCode::OK, plain(target, &listed).into(), &[]),
        _ => {
            let shown = transform::list(answer.transform, &target.resource, &listed, &context.query)?;
            respond::object(answer, StatusCode::OK, &shown, &[])
        }
    }
}

/// Objects that are encoded in one go. Encoding them takes about as long as handing over to another thread ten times.
const SHARE: usize = 512;

/// Most threads that encode one list.
const SHARES: usize = 4;

/// Encodes the objects of a list, a large one's in shares at the same time: nothing can be sent before all of them are encoded,
/// since the length comes first, and no worker that serves others is kept from it for milliseconds. What `encode` gave, in order.
async fn in_shares(
    items: Vec<View>,
    encode: impl Fn(&[View]) -> Result<Vec<u8>> + Clone + Send + 'static,
) -> Result<Vec<Bytes>> {
    let shares = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(SHARES)
        .min(items.len() / SHARE);
    if shares == 0 {
        return Ok(vec![encode(&items)?.into()]);
    }
    let each = items.len().div_ceil(shares);
    let items = Arc::new(items);
    let tasks: Vec<_> = (0..shares)
        .map(|nth| {
            let (items, encode) = (items.clone(), encode.clone());
            tokio::task::spawn_blocking(move || {
                let end = items.len().min((nth + 1) * each);
                encode(items.get(nth * each..end).unwrap_or_default())
            })
        })
        .collect();
    let mut parts = Vec::with_capacity(shares);
    for task in tasks {
        parts.push(task.await.map_err(ApiError::internal)??.into());
    }
    Ok(parts)
}

/// Leaves out what the list says already: objects of built-in kinds are listed without `apiVersion` and `kind`.
struct Untyped {
    /// What the text of an object begins with.
    version: Vec<u8>,
    /// Kind and the beginning of the metadata: members are sorted, and within strings quotes are escaped, so that this is
    /// found nowhere else before.
    kind: memmem::Finder<'static>,
    /// Of these, the kind alone.
    kind_length: usize,
}

impl Untyped {
    fn new(info: &ResourceInfo) -> Untyped {
        let kind = format!(",\"kind\":{}", quote(&info.kind));
        let place = format!("{kind},\"metadata\":{{");
        Untyped {
            version: format!("{{\"apiVersion\":{},", quote(&info.api_version())).into_bytes(),
            kind: memmem::Finder::new(place.as_bytes()).into_owned(),
            kind_length: kind.len(),
        }
    }

    fn append(&self, out: &mut Vec<u8>, item: &[u8]) {
        let found = item
            .strip_prefix(&self.version[..])
            .and_then(|_| self.kind.find(item));
        let Some(at) = found else {
            // An event says when it was last seen in between; it is listed as it is.
            out.extend_from_slice(item);
            return;
        };
        out.push(b'{');
        let rest = &item[at + self.kind_length..];
        match item.get(self.version.len()..at) {
            Some(before) if !before.is_empty() => {
                out.extend_from_slice(before);
                out.extend_from_slice(rest);
            }
            // Nothing in between: the comma goes, too.
            _ => out.extend_from_slice(&rest[1..]),
        }
    }
}

/// The list as protobuf.
async fn binary(target: &Target, listed: Listed) -> Result<Vec<Bytes>> {
    let info = target.resource.clone();
    let api_version = info.api_version();
    let metadata = transform::list_metadata(&listed);
    let items = in_shares(listed.items, move |items| {
        let of = (info.api_version(), info.kind.as_str());
        protobuf::encode_items((&of.0, of.1), items.iter().map(View::text)).map_err(ApiError::internal)
    })
    .await?;
    protobuf::encode_list((&api_version, &target.resource.list_kind), &metadata, items)
        .map_err(ApiError::internal)
}

/// The list as JSON, put together from the objects' own bytes.
fn plain(target: &Target, listed: &Listed) -> Vec<u8> {
    // Each once: what was converted is encoded for it.
    let texts: Vec<_> = listed.items.iter().map(View::text).collect();
    let size: usize = texts.iter().map(|text| text.len() + 1).sum();
    let mut out = Vec::with_capacity(size + 256);
    out.extend_from_slice(b"{\"kind\":");
    out.extend_from_slice(quote(&target.resource.list_kind).as_bytes());
    out.extend_from_slice(b",\"apiVersion\":");
    out.extend_from_slice(quote(&target.resource.api_version()).as_bytes());
    out.extend_from_slice(b",\"metadata\":{\"resourceVersion\":\"");
    out.extend_from_slice(listed.revision.to_string().as_bytes());
    out.push(b'"');
    if !listed.continue_token.is_empty() {
        out.extend_from_slice(b",\"continue\":\"");
        out.extend_from_slice(listed.continue_token.as_bytes());
        out.push(b'"');
    }
    if let Some(remaining) = listed.remaining {
        out.extend_from_slice(format!(",\"remainingItemCount\":{remaining}").as_bytes());
    }
    out.extend_from_slice(b"},\"items\":[");
    let untyped = (!target.resource.is_crd).then(|| Untyped::new(&target.resource));
    for (index, text) in texts.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        match &untyped {
            Some(untyped) => untyped.append(&mut out, text),
            None => out.extend_from_slice(text),
        }
    }
    out.extend_from_slice(b"]}\n");
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn views(count: usize) -> Vec<View> {
        (0..count)
            .map(|nth| View::Made(Arc::new(json!(nth)), 0))
            .collect()
    }

    #[tokio::test]
    async fn shares_are_all_of_it_in_order() {
        for count in [0, 1, SHARE - 1, SHARE, 2 * SHARE + 1, 20 * SHARE + 7] {
            let write = |items: &[View]| {
                let texts = items.iter().map(|item| [&item.text()[..], b"\n"].concat());
                Ok(texts.collect::<Vec<_>>().concat())
            };
            let parts = in_shares(views(count), write).await.unwrap();
            let expected: String = (0..count).map(|nth| format!("{nth}\n")).collect();
            assert_eq!(String::from_utf8(parts.concat()).unwrap(), expected);
        }
    }

    #[tokio::test]
    async fn a_share_that_cannot_be_written_fails_the_list() {
        for count in [1, 4 * SHARE] {
            let last = count - 1;
            let write = move |items: &[View]| match items.iter().any(|item| *item.value() == json!(last)) {
                true => Err(ApiError::internal("not this one")),
                false => Ok(Vec::new()),
            };
            assert_eq!(in_shares(views(count), write).await.unwrap_err().code, 500);
        }
    }
}
