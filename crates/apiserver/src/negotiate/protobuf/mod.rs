//! Kubernetes' protobuf: the form in which client-go speaks of built-in kinds unless it is told otherwise.
//!
//! Descriptor-driven: `messages.txt` says for each message which field has which number, and one reader and one writer
//! serve all kinds. Objects come in an envelope: four magic bytes and a message with `apiVersion`, `kind` and the object's
//! bytes. A watch is a sequence of messages, each behind its length, that carry a type and an object in its envelope.

pub(crate) mod blocks;
pub(crate) mod openapi;
mod read;
mod table;
mod wire;
mod write;

use std::collections::VecDeque;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::de::Deserializer;
use serde_json::Value;

use self::table::Table;
use self::wire::{Field, Fields, put_bytes, put_nested, put_raw_varint, put_tag_of_bytes};
use self::write::Writer;

/// What every document begins with.
const MAGIC: &[u8] = b"k8s\0";

/// Why a document cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Malformed {
    /// Not in the envelope.
    #[error("the document does not begin with the magic bytes of Kubernetes' protobuf form")]
    Magic,
    /// Bytes that are no protobuf.
    #[error("the document is no valid protobuf: {0}")]
    Wire(&'static str),
    /// A kind without a message.
    #[error("no protobuf message is known for {0}; send the object as JSON")]
    Unknown(String),
    /// A field with a value that it cannot have.
    #[error("field {0} has a malformed value")]
    Value(String),
}

/// Why an object cannot be written, with the path of the field whose value does not fit its type.
#[derive(Debug, thiserror::Error)]
#[error("the object cannot be written as protobuf: {0}; ask for JSON")]
pub(crate) struct Unwritable(String);

/// Reads a document.
pub(crate) fn decode(bytes: &[u8]) -> Result<Value, Malformed> {
    let envelope = bytes.strip_prefix(MAGIC).ok_or(Malformed::Magic)?;
    let (mut api_version, mut kind, mut raw, mut content_type) =
        (String::new(), String::new(), &[][..], String::new());
    for field in Fields(envelope) {
        match field? {
            (1, Field::Bytes(meta)) => {
                for field in Fields(meta) {
                    match field? {
                        (1, Field::Bytes(text)) => api_version = read::utf8(text, "apiVersion")?.to_owned(),
                        (2, Field::Bytes(text)) => kind = read::utf8(text, "kind")?.to_owned(),
                        _ => {}
                    }
                }
            }
            (2, Field::Bytes(object)) => raw = object,
            (4, Field::Bytes(text)) => content_type = read::utf8(text, "contentType")?.to_owned(),
            _ => {}
        }
    }
    if content_type == "application/json" {
        return serde_json::from_slice(raw).map_err(|_| Malformed::Value("raw".to_owned()));
    }
    let unknown = || Malformed::Unknown(format!("{kind} of {api_version}"));
    let message = Table::get().of_kind(&api_version, &kind).ok_or_else(unknown)?;
    let mut object = read::object(message, raw, 0)?;
    object.insert("apiVersion".to_owned(), api_version.into());
    object.insert("kind".to_owned(), kind.into());
    Ok(Value::Object(object))
}

/// Writes an object, which says itself of which kind it is.
pub(crate) fn encode(object: &Value) -> Result<Vec<u8>, Unwritable> {
    let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
    written((text("apiVersion"), text("kind")), 1024, object)
}

/// Writes an object of that `apiVersion` and kind from its JSON text.
pub(crate) fn encode_text(kind: (&str, &str), json: &[u8]) -> Result<Vec<u8>, Unwritable> {
    written(kind, json.len(), &mut serde_json::Deserializer::from_slice(json))
}

fn written<'de>(
    (api_version, kind): (&str, &str),
    capacity: usize,
    json: impl Deserializer<'de>,
) -> Result<Vec<u8>, Unwritable> {
    let message = Table::get()
        .of_kind(api_version, kind)
        .ok_or_else(|| Unwritable(format!("no message is known for {kind} of {api_version}")))?;
    let mut writer = Writer::new(capacity);
    envelope(&mut writer, api_version, kind, |writer| {
        writer.object(message, json)
    })?;
    Ok(writer.out)
}

/// Writes objects as the members of a list. `kind` is their `apiVersion` and kind, `items` are their JSON texts.
pub(crate) fn encode_items<T: AsRef<[u8]>>(
    kind: (&str, &str),
    items: impl ExactSizeIterator<Item = T>,
) -> Result<Vec<u8>, Unwritable> {
    let item = Table::get()
        .of_kind(kind.0, kind.1)
        .ok_or_else(|| Unwritable(format!("no message is known for {}", kind.1)))?;
    // Most objects are about this large; a list of thousands should not be copied each time that it has doubled.
    let mut writer = Writer::new(1024 * items.len());
    for text in items {
        // Looked at once in one go, instead of each string again when it is read.
        let text = std::str::from_utf8(text.as_ref()).map_err(|_| Unwritable("no UTF-8".to_owned()))?;
        let json = &mut serde_json::Deserializer::from_str(text);
        writer.nested_about(2, text.len(), |writer| writer.object(item, json))?;
    }
    Ok(writer.out)
}

/// Writes a list of what [`encode_items`] gave, in pieces. `of` is the `apiVersion` and kind of the list.
pub(crate) fn encode_list(
    of: (&str, &str),
    metadata: &Value,
    items: Vec<Bytes>,
) -> Result<Vec<Bytes>, Unwritable> {
    let list_meta = Table::get()
        .named("meta.v1.ListMeta")
        .ok_or_else(|| Unwritable("no message is known for ListMeta".to_owned()))?;
    let mut inner = Writer::new(256);
    inner.nested(1, |writer| writer.object(list_meta, metadata))?;
    let length = inner.out.len() + items.iter().map(Bytes::len).sum::<usize>();
    let mut head = Writer::new(256);
    type_meta(&mut head, of.0, of.1)?;
    put_tag_of_bytes(&mut head.out, 2);
    put_raw_varint(&mut head.out, length as u64);
    head.out.append(&mut inner.out);
    let mut parts = vec![head.out.into()];
    parts.extend(items);
    let mut end = Vec::new();
    no_encoding(&mut end);
    parts.push(end.into());
    Ok(parts)
}

/// The envelope around an object's bytes.
fn envelope(
    writer: &mut Writer,
    api_version: &str,
    kind: &str,
    write: impl FnOnce(&mut Writer) -> Result<(), Unwritable>,
) -> Result<(), Unwritable> {
    type_meta(writer, api_version, kind)?;
    writer.nested(2, write)?;
    no_encoding(&mut writer.out);
    Ok(())
}

/// How a document begins: what kind of object follows.
fn type_meta(writer: &mut Writer, api_version: &str, kind: &str) -> Result<(), Unwritable> {
    writer.out.extend_from_slice(MAGIC);
    writer.nested(1, |writer| {
        put_bytes(&mut writer.out, 1, api_version.as_bytes());
        put_bytes(&mut writer.out, 2, kind.as_bytes());
        Ok(())
    })
}

/// How a document ends. Encoding and content type: none. kube-apiserver writes them too.
fn no_encoding(out: &mut Vec<u8>) {
    put_bytes(out, 3, b"");
    put_bytes(out, 4, b"");
}

/// Appends the frame of a watch: the length of the message in four bytes, and the message with the type of the event and
/// the object as [`encode`] wrote it.
pub(crate) fn frame(out: &mut Vec<u8>, event: &str, object: &[u8]) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    put_bytes(out, 1, event.as_bytes());
    let raw = put_nested(out, 2, |out| {
        put_bytes(out, 1, object);
        Ok::<(), std::convert::Infallible>(())
    });
    match raw {
        Ok(()) => {}
        Err(never) => match never {},
    }
    // Objects are bounded by the size of bodies, far below four GiB.
    let length = u32::try_from(out.len() - at - 4).unwrap_or(u32::MAX);
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

/// Objects of the latest changes as [`encode`] wrote them, so that many watches cost one encoding. By revision, of which
/// every change has its own.
#[derive(Debug, Default)]
pub(crate) struct Recent(Mutex<VecDeque<(u64, Bytes)>>);

impl Recent {
    /// Watches that are further apart than this encode for themselves.
    const KEPT: usize = 256;

    /// The object of a revision; `make` is called if nobody asked for it lately.
    pub(crate) fn get(
        &self,
        revision: u64,
        make: impl FnOnce() -> Result<Vec<u8>, Unwritable>,
    ) -> Result<Bytes, Unwritable> {
        let known = |recent: &VecDeque<(u64, Bytes)>| {
            let found = recent.iter().rev().find(|(of, _)| *of == revision);
            found.map(|(_, bytes)| bytes.clone())
        };
        if let Some(bytes) = known(&self.0.lock()) {
            return Ok(bytes);
        }
        let bytes: Bytes = make()?.into();
        let mut recent = self.0.lock();
        if recent.len() >= Self::KEPT {
            recent.pop_front();
        }
        recent.push_back((revision, bytes.clone()));
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests;
