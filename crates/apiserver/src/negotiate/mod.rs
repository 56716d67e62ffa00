//! Which form a request's body has and which form the answer takes.
//!
//! Two choices are made from an `Accept` header: the [`Codec`] (JSON, YAML, protobuf; further ones slot in there) and the
//! [`Transform`] (the object itself, a `Table`, only its metadata).

mod body;
mod codec;
mod media;
pub(crate) mod protobuf;
mod repeated;

pub use body::{BODY_LIMIT, Body, read_body};
pub use codec::Codec;
pub use media::{MediaType, accepted};
pub use repeated::Repeated;

use choreo_apimachinery::status::{ApiError, Result};
use http::HeaderMap;
use http::header::{ACCEPT, ACCEPT_ENCODING, USER_AGENT};

use crate::request::Query;

/// What becomes of an object before it is encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transform {
    /// Nothing.
    #[default]
    None,
    /// `meta.k8s.io` `Table` of the given version.
    Table(&'static str),
    /// `PartialObjectMetadata`, or a list of them for a collection, of the given version.
    Metadata(&'static str),
}

/// The outcome of negotiation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The encoding.
    pub codec: Codec,
    /// The form.
    pub transform: Transform,
    /// Whether people read it: indented output.
    pub pretty: bool,
    /// Whether the client takes gzip.
    pub gzip: bool,
}

impl Answer {
    /// Plain JSON, for when nothing can be negotiated.
    pub const JSON: Answer = Answer {
        codec: Codec::Json,
        transform: Transform::None,
        pretty: false,
        gzip: false,
    };
}

/// What can be answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// Whether it is a collection.
    pub collection: bool,
    /// Whether the objects have a protobuf form, which custom resources do not. Their metadata has one all the same.
    pub protobuf: bool,
    /// Whether it is a stream of changes, of which there is no YAML.
    pub stream: bool,
}

/// The forms of a stream, as messages list them.
const STREAMS: [&str; 2] = [
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
];

impl Offer {
    fn has(self, codec: Codec, transform: Transform) -> bool {
        match (codec, transform) {
            (Codec::Json, _) => true,
            (Codec::Yaml, _) => !self.stream,
            (Codec::Protobuf, Transform::None) => self.protobuf,
            (Codec::Protobuf, Transform::Metadata(_)) => true,
            // Cells are of no type.
            (Codec::Protobuf, Transform::Table(_)) => false,
        }
    }
}

/// Negotiates the answer for what is on offer.
///
/// # Errors
/// 406 listing the encodings that are there.
pub fn negotiate(headers: &HeaderMap, query: &Query, offer: Offer) -> Result<Answer> {
    let accept = header(headers, ACCEPT.as_str());
    let clauses = accepted(accept);
    let base = Answer {
        pretty: wants_pretty(headers, query),
        gzip: header(headers, ACCEPT_ENCODING.as_str())
            .split(',')
            .any(|e| e.trim().split(';').next() == Some("gzip")),
        ..Answer::JSON
    };
    if clauses.is_empty() {
        return Ok(base);
    }
    for clause in &clauses {
        let Some(codec) = Codec::for_accept(clause) else {
            continue;
        };
        let Some(transform) = transform(clause, offer.collection) else {
            continue;
        };
        if !offer.has(codec, transform) {
            continue;
        }
        return Ok(Answer {
            codec,
            transform,
            ..base
        });
    }
    Err(if offer.stream {
        ApiError::not_acceptable(&STREAMS)
    } else {
        ApiError::not_acceptable(&Codec::MEDIA_TYPES)
    })
}

/// Negotiates the encoding of something that has only one form, such as a `Status` or a discovery document.
pub fn negotiate_plain(headers: &HeaderMap, query: &Query) -> Answer {
    let codec = accepted(header(headers, ACCEPT.as_str()))
        .iter()
        // A clause that wants something made of an object is not about this.
        .filter(|clause| clause.param("as").is_none())
        .find_map(Codec::for_accept)
        .unwrap_or(Codec::Json);
    Answer {
        codec,
        pretty: wants_pretty(headers, query),
        gzip: header(headers, ACCEPT_ENCODING.as_str()).contains("gzip"),
        ..Answer::JSON
    }
}

/// The transform of a clause; none when the clause asks for one that cannot be given here.
fn transform(clause: &MediaType, collection: bool) -> Option<Transform> {
    let Some(kind) = clause.param("as") else {
        return Some(Transform::None);
    };
    if clause.param("g") != Some("meta.k8s.io") {
        return None;
    }
    let version = match clause.param("v") {
        Some("v1") => "v1",
        Some("v1beta1") => "v1beta1",
        _ => return None,
    };
    match kind {
        "Table" => Some(Transform::Table(version)),
        "PartialObjectMetadata" => Some(Transform::Metadata(version)),
        "PartialObjectMetadataList" if collection => Some(Transform::Metadata(version)),
        _ => None,
    }
}

fn wants_pretty(headers: &HeaderMap, query: &Query) -> bool {
    match query.get("pretty") {
        Some(_) => query.flag("pretty"),
        None => {
            let agent = header(headers, USER_AGENT.as_str());
            ["curl", "Wget", "Mozilla"].iter().any(|a| agent.starts_with(a))
        }
    }
}

/// A header's text, empty when it is missing or no text.
pub fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers
        .get(name)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(accept: &str, collection: bool) -> Result<Answer> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        let offer = Offer {
            collection,
            protobuf: true,
            ..Offer::default()
        };
        negotiate(&headers, &Query::default(), offer)
    }

    fn ask_for_custom(accept: &str, stream: bool) -> Result<Answer> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        let offer = Offer {
            collection: true,
            protobuf: false,
            stream,
        };
        negotiate(&headers, &Query::default(), offer)
    }

    #[test]
    fn protobuf_is_for_built_in_kinds_and_for_metadata() {
        const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
        let metadata = format!("{PROTOBUF};as=PartialObjectMetadata;g=meta.k8s.io;v=v1");
        let table = format!("{PROTOBUF};as=Table;g=meta.k8s.io;v=v1");
        assert_eq!(ask(PROTOBUF, true).unwrap().codec, Codec::Protobuf);
        assert_eq!(ask_for_custom(&metadata, false).unwrap().codec, Codec::Protobuf);
        assert_eq!(
            ask_for_custom(&format!("{PROTOBUF},application/json"), true)
                .unwrap()
                .codec,
            Codec::Json
        );
        for answer in [ask(&table, true), ask_for_custom(PROTOBUF, false)] {
            assert_eq!(
                answer.unwrap_err().message,
                "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf"
            );
        }
        assert_eq!(
            ask_for_custom("application/yaml", true).unwrap_err().message,
            "only the following media types are accepted: application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch"
        );
    }

    #[test]
    fn kubectl_asks_for_tables_first() {
        let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(ask(accept, true).unwrap().transform, Transform::Table("v1"));
    }

    #[test]
    fn first_possible_clause_wins() {
        let answer = ask("application/vnd.kubernetes.protobuf,application/json", true).unwrap();
        assert_eq!(
            (answer.codec, answer.transform),
            (Codec::Protobuf, Transform::None)
        );
        let answer = ask(
            "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/yaml",
            false,
        )
        .unwrap();
        assert_eq!(answer.codec, Codec::Yaml);
        assert_eq!(ask("*/*", true).unwrap().codec, Codec::Json);
        assert_eq!(
            ask(
                "text/html;q=0.9, application/yaml;q=0.5, application/*;q=0.1",
                true
            )
            .unwrap()
            .codec,
            Codec::Yaml
        );
    }

    #[test]
    fn nothing_acceptable_is_406() {
        let error = ask("text/html", true).unwrap_err();
        assert_eq!(
            (error.code, error.message.as_str()),
            (
                406,
                "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf"
            )
        );
        assert_eq!(
            ask("application/json;as=Chair;v=v1;g=meta.k8s.io", true)
                .unwrap_err()
                .code,
            406
        );
    }
}
