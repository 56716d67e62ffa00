//! The encodings of objects. A further one is a variant here and an arm in each function.

use choreo_apimachinery::status::{ApiError, Result};
use serde::Serialize;
use serde_json::Value;

use serde_saphyr::DuplicateKeyPolicy;

use super::repeated::{self, Repeated};
use super::{MediaType, protobuf};

/// An encoding of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// `application/json`.
    Json,
    /// `application/yaml`.
    Yaml,
    /// `application/vnd.kubernetes.protobuf`; for built-in kinds, and for what is said about others: errors and metadata.
    Protobuf,
}

impl Codec {
    /// The media types that are read and written, as messages list them.
    pub const MEDIA_TYPES: [&'static str; 3] = [
        "application/json",
        "application/yaml",
        "application/vnd.kubernetes.protobuf",
    ];

    /// The encoding that a clause of an `Accept` header allows.
    pub fn for_accept(clause: &MediaType) -> Option<Codec> {
        match clause.name.as_str() {
            "application/json" | "*/*" | "application/*" => Some(Codec::Json),
            "application/yaml" => Some(Codec::Yaml),
            "application/vnd.kubernetes.protobuf" => Some(Codec::Protobuf),
            _ => None,
        }
    }

    /// The encoding that a `Content-Type` names; nothing named is JSON.
    ///
    /// # Errors
    /// 415 listing what can be read.
    pub fn for_content(content_type: &str) -> Result<Codec> {
        match MediaType::parse(content_type).name.as_str() {
            "" | "application/json" => Ok(Codec::Json),
            "application/yaml" => Ok(Codec::Yaml),
            "application/vnd.kubernetes.protobuf" => Ok(Codec::Protobuf),
            _ => Err(ApiError::unsupported_media_type(&Codec::MEDIA_TYPES)),
        }
    }

    /// The media type without parameters.
    pub fn media_type(self) -> &'static str {
        match self {
            Codec::Json => "application/json",
            Codec::Yaml => "application/yaml",
            Codec::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }

    /// Reads a document.
    ///
    /// # Errors
    /// 400 saying what is malformed and where.
    pub fn decode(self, bytes: &[u8]) -> Result<Value> {
        match self {
            Codec::Json => serde_json::from_slice(bytes).map_err(|e| malformed(&e)),
            // JSON is YAML, but the JSON reader is much faster and clients send it under both names.
            Codec::Yaml => serde_json::from_slice(bytes)
                .or_else(|_| yaml(bytes))
                .map_err(|e| malformed(&e)),
            Codec::Protobuf => protobuf::decode(bytes)
                .map_err(|e| ApiError::bad_request(format!("couldn't get version/kind; {e}"))),
        }
    }

    /// Reads a document and notes the keys that it has more than once.
    ///
    /// # Errors
    /// As [`Codec::decode`].
    pub fn decode_noting(self, bytes: &[u8]) -> Result<(Value, Repeated)> {
        match self {
            Codec::Json => repeated::read(bytes).map_err(|e| malformed(&e)),
            Codec::Yaml => {
                if let Ok(read) = repeated::read(bytes) {
                    return Ok(read);
                }
                match serde_saphyr::from_slice::<Value>(bytes) {
                    Ok(value) => Ok((value, Repeated::default())),
                    Err(error) => match error.without_snippet() {
                        serde_saphyr::Error::DuplicateMappingKey { key, location } => {
                            let noted =
                                Repeated::at_line(location.line(), key.as_deref().unwrap_or_default());
                            yaml(bytes).map(|value| (value, noted)).map_err(|e| malformed(&e))
                        }
                        _ => Err(malformed(&error)),
                    },
                }
            }
            // A map that has a key twice has the last one, and there is nothing to tell.
            Codec::Protobuf => self.decode(bytes).map(|value| (value, Repeated::default())),
        }
    }

    /// Writes a document.
    ///
    /// # Errors
    /// 500 when the value cannot be written, which no API object brings about.
    pub fn encode<T: Serialize + ?Sized>(self, value: &T, pretty: bool) -> Result<Vec<u8>> {
        match self {
            Codec::Json if pretty => serde_json::to_vec_pretty(value).map_err(ApiError::internal),
            Codec::Json => serde_json::to_vec(value).map_err(ApiError::internal),
            Codec::Protobuf => {
                let value = serde_json::to_value(value).map_err(ApiError::internal)?;
                protobuf::encode(&value).map_err(ApiError::internal)
            }
            Codec::Yaml => serde_saphyr::to_string(&value)
                .map(String::into_bytes)
                .map_err(ApiError::internal),
        }
    }
}

/// A key that is there more than once counts as the last of them says, as in JSON.
fn yaml(bytes: &[u8]) -> std::result::Result<Value, serde_saphyr::Error> {
    let options = serde_saphyr::options! { duplicate_keys: DuplicateKeyPolicy::LastWins };
    serde_saphyr::from_slice_with_options(bytes, options)
}

fn malformed(error: &dyn std::fmt::Display) -> ApiError {
    ApiError::bad_request(format!("couldn't get version/kind; json parse error: {error}"))
}
