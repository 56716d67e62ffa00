//! GET of a collection.

use axum::response::Response;
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
use crate::verbs::{self, Filter, Listed, Target};

/// Answers with the selected objects of a collection.
pub(super) async fn list(context: &Context, target: &Target) -> Result<Response> {
    let answer = context.negotiate(target, true)?;
    let options = ListOptions::parse(&context.query, false)?;
    let filter = Filter::parse(&target.resource, &options.label_selector, &options.field_selector)?;
    let listed = verbs::list(target, &options, &filter).await?;
    listed_as(context, answer, target, &listed)
}

/// Answers with a list in the negotiated form.
pub(crate) fn listed_as(
    context: &Context,
    answer: Answer,
    target: &Target,
    listed: &Listed,
) -> Result<Response> {
    match (answer.transform, answer.codec) {
        (Transform::None, Codec::Protobuf) => {
            let bytes = binary(target, listed)?;
            Ok(respond::bytes_response(answer, StatusCode::OK, bytes.into(), &[]))
        }
        (Transform::None, _) => respond::json(answer, StatusCode::OK, plain(target, listed).into(), &[]),
        _ => {
            let shown = transform::list(answer.transform, &target.resource, listed, &context.query)?;
            respond::object(answer, StatusCode::OK, &shown, &[])
        }
    }
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
fn binary(target: &Target, listed: &Listed) -> Result<Vec<u8>> {
    let info = &target.resource;
    let api_version = info.api_version();
    protobuf::encode_list(
        (&api_version, &info.list_kind),
        (&api_version, &info.kind),
        &transform::list_metadata(listed),
        listed.items.iter().map(verbs::View::json),
    )
    .map_err(ApiError::internal)
}

/// The list as JSON, put together from the objects' own bytes.
fn plain(target: &Target, listed: &Listed) -> Vec<u8> {
    let items: Vec<bytes::Bytes> = listed.items.iter().map(verbs::View::json).collect();
    let size: usize = items.iter().map(|item| item.len() + 1).sum();
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
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        match &untyped {
            Some(untyped) => untyped.append(&mut out, item),
            None => out.extend_from_slice(item),
        }
    }
    out.extend_from_slice(b"]}\n");
    out
}
