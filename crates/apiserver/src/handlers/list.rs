//! GET of a collection.

use std::ops::Range;
use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;
use choreo_apimachinery::field::quote;
use choreo_apimachinery::registry::ResourceInfo;
use choreo_apimachinery::status::{ApiError, Result};
use http::StatusCode;
use memchr::memmem;

use crate::dispatch::Context;
use crate::negotiate::protobuf::blocks;
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
        (Transform::None, _) => respond::json_in_parts(answer, StatusCode::OK, plain(target, &listed)),
        _ => {
            let shown = transform::list(answer.transform, &target.resource, &listed, &context.query)?;
            respond::object(answer, StatusCode::OK, &shown, &[])
        }
    }
}

/// Objects that are encoded in one go. Encoding them takes about as long as handing over to another thread ten times.
const SHARE: usize = 512;

/// Objects of a block that is worth keeping: fewer are encoded as soon as they are found.
const WORTH_KEEPING: usize = 16;

/// Most threads that encode one list.
const SHARES: usize = 4;

/// Encodes blocks of a list, those of a large one in shares at the same time: nothing can be sent before all of them are encoded,
/// since the length comes first, and no worker that serves others is kept from it for milliseconds. What `encode` gave, in order.
async fn in_shares(
    items: Arc<Vec<View>>,
    blocks: Vec<Range<usize>>,
    encode: impl Fn(&[View]) -> Result<Vec<u8>> + Clone + Send + 'static,
) -> Result<Vec<Bytes>> {
    let count: usize = blocks.iter().map(ExactSizeIterator::len).sum();
    let shares = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(SHARES)
        .min(count / SHARE);
    let encode_all = move |items: &[View], blocks: Vec<Range<usize>>| -> Result<Vec<Bytes>> {
        let each = blocks.into_iter().map(|range| {
            let mut bytes = encode(items.get(range).unwrap_or_default())?;
            // It may be kept.
            bytes.shrink_to_fit();
            Ok(bytes.into())
        });
        each.collect()
    };
    if shares == 0 {
        return encode_all(&items, blocks);
    }
    let mut tasks = Vec::with_capacity(shares);
    let (mut share, mut size) = (Vec::new(), 0);
    let each = count.div_ceil(shares);
    let mut rest = blocks.into_iter().peekable();
    while let Some(block) = rest.next() {
        size += block.len();
        share.push(block);
        if size >= each || rest.peek().is_none() {
            let (items, encode_all, share) = (items.clone(), encode_all.clone(), std::mem::take(&mut share));
            size = 0;
            tasks.push(tokio::task::spawn_blocking(move || encode_all(&items, share)));
        }
    }
    let mut parts = Vec::new();
    for task in tasks {
        parts.append(&mut task.await.map_err(ApiError::internal)??);
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

/// The list as protobuf. Blocks of it that somebody was sent lately are not encoded again.
async fn binary(target: &Target, listed: Listed) -> Result<Vec<Bytes>> {
    let info = target.resource.clone();
    let api_version = info.api_version();
    let metadata = transform::list_metadata(&listed);
    let revisions: Vec<u64> = listed.items.iter().map(View::revision).collect();
    // What is made for a request has the revision of what it is made from.
    let is_stored = |range: &Range<usize>| {
        let items = listed.items.get(range.clone()).unwrap_or_default();
        items.iter().all(|item| matches!(item, View::Stored(_)))
    };
    let known = |range: &Range<usize>| blocks::Of {
        kind: (&api_version, &info.kind),
        revisions: revisions.get(range.clone()).unwrap_or_default(),
    };
    let lists = &target.cluster.lists;
    let mut cuts = Vec::new();
    for range in blocks::cut(&revisions) {
        let is_stored = is_stored(&range);
        let found = is_stored.then(|| lists.get(known(&range))).flatten();
        cuts.push((range, is_stored, found));
    }
    let unknown = cuts.iter().filter(|(.., found)| found.is_none());
    let unknown: Vec<_> = unknown.map(|(range, ..)| range.clone()).collect();
    let encode = {
        let info = info.clone();
        move |items: &[View]| {
            let of = (info.api_version(), info.kind.as_str());
            protobuf::encode_items((&of.0, of.1), items.iter().map(View::text)).map_err(ApiError::internal)
        }
    };
    let mut made = in_shares(Arc::new(listed.items), unknown, encode)
        .await?
        .into_iter();
    let mut parts = Vec::with_capacity(cuts.len());
    for (range, is_stored, found) in cuts {
        let part = match found {
            Some(part) => part,
            None => {
                let part = made
                    .next()
                    .ok_or_else(|| ApiError::internal("a block was not encoded"))?;
                if is_stored && range.len() >= WORTH_KEEPING {
                    lists.keep(known(&range), part.clone());
                }
                part
            }
        };
        parts.push(part);
    }
    protobuf::encode_list((&api_version, &target.resource.list_kind), &metadata, parts)
        .map_err(ApiError::internal)
}

/// Bytes of a part of a list. Memory for a large list in one piece would be asked of the system each time, which takes as long as
/// filling it.
const PART: usize = 256 << 10;

/// The list as JSON, put together from the objects' own bytes.
fn plain(target: &Target, listed: &Listed) -> Vec<Bytes> {
    // Each once: what was converted is encoded for it.
    let texts: Vec<_> = listed.items.iter().map(View::text).collect();
    let mut left: usize = texts.iter().map(|text| text.len() + 1).sum();
    let mut parts = Vec::with_capacity(left / PART + 1);
    let room = |left: usize| left.min(PART + PART / 8) + 256;
    let mut out = Vec::with_capacity(room(left));
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
        left -= text.len() + 1;
        if out.len() >= PART {
            parts.push(std::mem::replace(&mut out, Vec::with_capacity(room(left))).into());
        }
    }
    out.extend_from_slice(b"]}\n");
    parts.push(out.into());
    parts
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
            let revisions: Vec<u64> = (0..count as u64).collect();
            let parts = in_shares(Arc::new(views(count)), blocks::cut(&revisions), write);
            let parts = parts.await.unwrap();
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
            let parts = in_shares(
                Arc::new(views(count)),
                vec![0..count / 2, count / 2..count],
                write,
            );
            assert_eq!(parts.await.unwrap_err().code, 500);
        }
    }
}
