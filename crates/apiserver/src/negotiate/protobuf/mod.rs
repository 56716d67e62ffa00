//! Reading Kubernetes' protobuf: the form in which client-go, and with it `kubectl create`, writes built-in kinds.
//!
//! Descriptor-driven: [`messages.txt`](self) says for each message which field has which number, and one reader serves all.
//! Objects come in an envelope: four magic bytes and a message with `apiVersion`, `kind` and the object's bytes.

mod wire;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use self::wire::{Field, Fields};

/// What every document begins with.
const MAGIC: &[u8] = b"k8s\0";

/// Messages may be nested this deep; JSON schemas in definitions are the deepest that occur.
const DEPTH: usize = 100;

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

/// One field of a message.
#[derive(Debug)]
struct Spec {
    name: &'static str,
    kind: Kind,
    repeated: bool,
    map: bool,
    zero_is_absent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    String,
    Bool,
    Int,
    Double,
    Bytes,
    /// A point in time, with microseconds or without.
    Time {
        micro: bool,
    },
    Quantity,
    IntOrString,
    /// JSON text.
    Raw,
    Message(&'static str),
}

type Message = BTreeMap<u32, Spec>;

/// The table, read on first use.
fn messages() -> &'static BTreeMap<&'static str, Message> {
    static TABLE: OnceLock<BTreeMap<&'static str, Message>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut table: BTreeMap<&'static str, Message> = BTreeMap::new();
        let mut current = "";
        for line in include_str!("messages.txt")
            .lines()
            .filter(|l| !l.starts_with('#'))
        {
            let Some(row) = line.strip_prefix(' ') else {
                current = line;
                table.entry(current).or_default();
                continue;
            };
            let mut words = row.split(' ');
            let number = words.next().and_then(|n| n.parse().ok());
            let (Some(number), Some(name), Some(kind)) = (number, words.next(), words.next()) else {
                continue;
            };
            let zero_is_absent = words.next() == Some("z");
            let (repeated, kind) = kind.strip_prefix('*').map_or((false, kind), |k| (true, k));
            let (map, kind) = kind.strip_prefix("map:").map_or((false, kind), |k| (true, k));
            let kind = match kind {
                "string" => Kind::String,
                "bool" => Kind::Bool,
                "int" => Kind::Int,
                "double" => Kind::Double,
                "bytes" => Kind::Bytes,
                "time" => Kind::Time { micro: false },
                "microtime" => Kind::Time { micro: true },
                "quantity" => Kind::Quantity,
                "intstr" => Kind::IntOrString,
                "raw" => Kind::Raw,
                other => Kind::Message(other),
            };
            table.entry(current).or_default().insert(
                number,
                Spec {
                    name,
                    kind,
                    repeated,
                    map,
                    zero_is_absent,
                },
            );
        }
        table
    })
}

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
                        (1, Field::Bytes(text)) => api_version = utf8(text, "apiVersion")?.to_owned(),
                        (2, Field::Bytes(text)) => kind = utf8(text, "kind")?.to_owned(),
                        _ => {}
                    }
                }
            }
            (2, Field::Bytes(object)) => raw = object,
            (4, Field::Bytes(text)) => content_type = utf8(text, "contentType")?.to_owned(),
            _ => {}
        }
    }
    if content_type == "application/json" {
        return serde_json::from_slice(raw).map_err(|_| Malformed::Value("raw".to_owned()));
    }
    let message = message_of(&api_version, &kind)?;
    let mut object = read(message, raw, 0)?;
    object.insert("apiVersion".to_owned(), api_version.into());
    object.insert("kind".to_owned(), kind.into());
    Ok(Value::Object(object))
}

/// The message of a kind.
fn message_of(api_version: &str, kind: &str) -> Result<&'static str, Malformed> {
    let (group, version) = api_version.split_once('/').unwrap_or(("core", api_version));
    // Packages are named after the first word of the group.
    let package = group.split('.').next().unwrap_or_default();
    let candidates = [format!("{package}.{version}.{kind}"), format!("meta.v1.{kind}")];
    let found = candidates
        .iter()
        .find_map(|name| messages().get_key_value(name.as_str()));
    found
        .map(|(name, _)| *name)
        .ok_or_else(|| Malformed::Unknown(format!("{kind} of {api_version}")))
}

/// Reads a message into the members of a JSON object.
fn read(message: &str, bytes: &[u8], depth: usize) -> Result<Map<String, Value>, Malformed> {
    let mut object = Map::new();
    read_into(&mut object, message, bytes, depth)?;
    Ok(object)
}

fn read_into(
    object: &mut Map<String, Value>,
    message: &str,
    bytes: &[u8],
    depth: usize,
) -> Result<(), Malformed> {
    if depth > DEPTH {
        return Err(Malformed::Wire("messages are nested too deeply"));
    }
    let Some(specs) = messages().get(message) else {
        return Err(Malformed::Unknown(message.to_owned()));
    };
    for field in Fields(bytes) {
        let (number, field) = field?;
        // A field of a newer version: dropped, as an unknown field of JSON would be.
        let Some(spec) = specs.get(&number) else { continue };
        if spec.name == "-"
            && let (Kind::Message(inner), Field::Bytes(bytes)) = (spec.kind, &field)
        {
            read_into(object, inner, bytes, depth + 1)?;
            continue;
        }
        if spec.map {
            let Field::Bytes(entry) = field else {
                return Err(Malformed::Value(spec.name.to_owned()));
            };
            let (key, value) = map_entry(spec, entry, depth)?;
            if let Value::Object(map) = object
                .entry(spec.name)
                .or_insert_with(|| Value::Object(Map::new()))
            {
                map.insert(key, value);
            }
            continue;
        }
        if spec.repeated {
            let list = object
                .entry(spec.name)
                .or_insert_with(|| Value::Array(Vec::new()));
            let Value::Array(list) = list else { continue };
            match field {
                // Numbers may come packed.
                Field::Bytes(packed) if matches!(spec.kind, Kind::Int | Kind::Bool) => {
                    for number in wire::varints(packed) {
                        list.push(value(spec, Field::Varint(number?), depth)?);
                    }
                }
                field => list.push(value(spec, field, depth)?),
            }
            continue;
        }
        let value = value(spec, field, depth)?;
        let zero = match &value {
            Value::Null => true,
            Value::String(text) => spec.zero_is_absent && text.is_empty(),
            Value::Bool(truth) => spec.zero_is_absent && !truth,
            Value::Number(number) => spec.zero_is_absent && number.as_f64() == Some(0.0),
            _ => false,
        };
        if !zero {
            object.insert(spec.name.to_owned(), value);
        }
    }
    Ok(())
}

fn map_entry(spec: &Spec, entry: &[u8], depth: usize) -> Result<(String, Value), Malformed> {
    let (mut key, mut found) = (String::new(), None);
    for field in Fields(entry) {
        match field? {
            (1, Field::Bytes(text)) => key = utf8(text, spec.name)?.to_owned(),
            (2, field) => found = Some(value(spec, field, depth)?),
            _ => {}
        }
    }
    let value = match found {
        Some(value) => value,
        None => value(spec, Field::Bytes(&[]), depth)?,
    };
    Ok((key, value))
}

fn value(spec: &Spec, field: Field<'_>, depth: usize) -> Result<Value, Malformed> {
    let wrong = || Malformed::Value(spec.name.to_owned());
    Ok(match (spec.kind, field) {
        (Kind::String, Field::Bytes(text)) => utf8(text, spec.name)?.into(),
        (Kind::Bool, Field::Varint(number)) => (number != 0).into(),
        (Kind::Int, Field::Varint(number)) => number.cast_signed().into(),
        (Kind::Double, Field::Fixed64(bits)) => f64::from_bits(bits).into(),
        (Kind::Bytes, Field::Bytes(bytes)) => STANDARD.encode(bytes).into(),
        (Kind::Time { micro }, Field::Bytes(bytes)) => time(bytes, micro).ok_or_else(wrong)?,
        (Kind::Quantity, Field::Bytes(bytes)) => match Fields(bytes).next().transpose()? {
            Some((1, Field::Bytes(text))) => utf8(text, spec.name)?.into(),
            _ => "0".into(),
        },
        (Kind::IntOrString, Field::Bytes(bytes)) => int_or_string(bytes, spec.name)?,
        (Kind::Raw, Field::Bytes(bytes)) => match Fields(bytes).next().transpose()? {
            Some((1, Field::Bytes(json))) => serde_json::from_slice(json).map_err(|_| wrong())?,
            _ => Value::Null,
        },
        (Kind::Message(name), Field::Bytes(bytes)) => special(name, bytes, depth)?,
        _ => return Err(wrong()),
    })
}

/// A message that is not an object in JSON, or an ordinary one.
fn special(name: &str, bytes: &[u8], depth: usize) -> Result<Value, Malformed> {
    let mut object = read(name, bytes, depth + 1)?;
    let one = |object: &mut Map<String, Value>, field: &str| object.remove(field);
    Ok(match name.rsplit('.').next().unwrap_or_default() {
        "Verbs" | "ExtraValue" => one(&mut object, "items").unwrap_or_else(|| Value::Array(Vec::new())),
        "JSONSchemaPropsOrBool" => one(&mut object, "schema")
            .or_else(|| one(&mut object, "allows"))
            .unwrap_or(Value::Bool(false)),
        "JSONSchemaPropsOrArray" => one(&mut object, "schema")
            .or_else(|| one(&mut object, "jSONSchemas"))
            .unwrap_or(Value::Null),
        "JSONSchemaPropsOrStringArray" => one(&mut object, "schema")
            .or_else(|| one(&mut object, "property"))
            .unwrap_or(Value::Null),
        _ => Value::Object(object),
    })
}

/// Seconds and nanoseconds since 1970; nothing at all is no time.
fn time(bytes: &[u8], micro: bool) -> Option<Value> {
    let (mut seconds, mut nanos) = (0i64, 0i64);
    let mut some = false;
    for field in Fields(bytes) {
        match field.ok()? {
            (1, Field::Varint(number)) => (seconds, some) = (number.cast_signed(), true),
            (2, Field::Varint(number)) => nanos = number.cast_signed(),
            _ => {}
        }
    }
    if !some {
        return Some(Value::Null);
    }
    let time = jiff::Timestamp::new(seconds, i32::try_from(nanos).ok()?).ok()?;
    let format = if micro {
        "%Y-%m-%dT%H:%M:%S.%6fZ"
    } else {
        "%Y-%m-%dT%H:%M:%SZ"
    };
    Some(time.strftime(format).to_string().into())
}

fn int_or_string(bytes: &[u8], name: &str) -> Result<Value, Malformed> {
    let (mut is_text, mut number, mut text) = (false, 0i64, "");
    for field in Fields(bytes) {
        match field? {
            (1, Field::Varint(kind)) => is_text = kind == 1,
            (2, Field::Varint(value)) => number = value.cast_signed(),
            (3, Field::Bytes(value)) => text = utf8(value, name)?,
            _ => {}
        }
    }
    Ok(if is_text { text.into() } else { number.into() })
}

fn utf8<'a>(bytes: &'a [u8], name: &str) -> Result<&'a str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed::Value(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use choreo_apimachinery::registry::Registry;
    use choreo_apimachinery::schema::Schema;
    use serde_json::json;

    fn bytes_field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2, u8::try_from(bytes.len()).unwrap()];
        out.extend_from_slice(bytes);
        out
    }

    #[test]
    fn a_config_map() {
        let meta = [bytes_field(1, b"cm"), bytes_field(2, b"")].concat();
        let entry = [bytes_field(1, b"k"), bytes_field(2, b"v")].concat();
        let map = [bytes_field(1, &meta), bytes_field(2, &entry)].concat();
        let kind = [bytes_field(1, b"v1"), bytes_field(2, b"ConfigMap")].concat();
        let document = [MAGIC.to_vec(), bytes_field(1, &kind), bytes_field(2, &map)].concat();
        assert_eq!(
            decode(&document).unwrap(),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cm"}, "data": {"k": "v"}})
        );
        for cut in 5..document.len() {
            // Cut anywhere it is an error or something shorter, never a panic.
            let _ = decode(&document[..cut]);
        }
    }

    #[test]
    fn times_and_numbers() {
        assert_eq!(time(&[8, 1], false), Some("1970-01-01T00:00:01Z".into()));
        assert_eq!(time(&[], false), Some(Value::Null));
        assert_eq!(int_or_string(&[8, 0, 16, 80], "port").unwrap(), json!(80));
        assert_eq!(int_or_string(&[8, 1, 26, 1, b'x'], "port").unwrap(), json!("x"));
    }

    /// Every field of every message of a served kind is a property of the kind's schema: a slip in the table would lose data.
    #[test]
    fn the_table_agrees_with_the_schemas() {
        let mut missing = Vec::new();
        for info in Registry::builtin().resources() {
            let name = message_of(&info.api_version(), &info.kind).unwrap();
            compare(name, &info.schema(), &info.kind, 0, &mut missing);
        }
        assert!(missing.is_empty(), "{missing:#?}");
    }

    fn compare(message: &str, schema: &Schema, path: &str, depth: usize, missing: &mut Vec<String>) {
        if depth > 12 || schema.preserve_unknown || schema.properties.is_empty() {
            return;
        }
        for spec in messages()[message].values() {
            if spec.name == "-" {
                if let Kind::Message(inner) = spec.kind {
                    compare(inner, schema, path, depth + 1, missing);
                }
                continue;
            }
            let at = format!("{path}.{}", spec.name);
            let Some(property) = schema.properties.get(spec.name) else {
                missing.push(at);
                continue;
            };
            let Kind::Message(inner) = spec.kind else { continue };
            let inner_schema = if spec.repeated {
                property.items.clone()
            } else if spec.map {
                property.additional.schema().cloned()
            } else {
                Some(property.clone())
            };
            if let Some(inner_schema) = inner_schema {
                compare(inner, &inner_schema, &at, depth + 1, missing);
            }
        }
    }
}
