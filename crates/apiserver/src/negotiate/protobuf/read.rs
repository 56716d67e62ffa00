//! From messages to JSON values.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::Malformed;
use super::table::{Id, Kind, Shape, Spec, Table};
use super::wire::{self, Field, Fields};

/// Messages may be nested this deep; JSON schemas in definitions are the deepest that occur.
const DEPTH: usize = 100;

/// Reads a message into the members of a JSON object.
pub(super) fn object(message: Id, bytes: &[u8], depth: usize) -> Result<Map<String, Value>, Malformed> {
    let mut object = Map::new();
    read_into(&mut object, message, bytes, depth)?;
    Ok(object)
}

fn read_into(
    object: &mut Map<String, Value>,
    message: Id,
    bytes: &[u8],
    depth: usize,
) -> Result<(), Malformed> {
    if depth > DEPTH {
        return Err(Malformed::Wire("messages are nested too deeply"));
    }
    let Some(message) = Table::get().message(message) else {
        return Err(Malformed::Wire("unknown message"));
    };
    for field in Fields(bytes) {
        let (number, field) = field?;
        // A field of a newer version: dropped, as an unknown field of JSON would be.
        let Some(spec) = message.field(number) else {
            continue;
        };
        if spec.is_embedded()
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
        (Kind::Message(id), Field::Bytes(bytes)) => shaped(id, bytes, depth)?,
        _ => return Err(wrong()),
    })
}

/// A message as what it is in JSON.
fn shaped(id: Id, bytes: &[u8], depth: usize) -> Result<Value, Malformed> {
    let mut members = object(id, bytes, depth + 1)?;
    let mut one = |field: &str| members.remove(field);
    let shape = Table::get().message(id).map_or(Shape::Object, |m| m.shape);
    Ok(match shape {
        Shape::Items => one("items").unwrap_or_else(|| Value::Array(Vec::new())),
        Shape::OrBool => one("schema")
            .or_else(|| one("allows"))
            .unwrap_or(Value::Bool(false)),
        Shape::OrArray => one("schema")
            .or_else(|| one("jSONSchemas"))
            .unwrap_or(Value::Null),
        Shape::OrTexts => one("schema").or_else(|| one("property")).unwrap_or(Value::Null),
        Shape::Object => Value::Object(members),
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

/// Text of the wire.
pub(super) fn utf8<'a>(bytes: &'a [u8], name: &str) -> Result<&'a str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed::Value(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_and_numbers() {
        assert_eq!(time(&[8, 1], false), Some("1970-01-01T00:00:01Z".into()));
        assert_eq!(time(&[], false), Some(Value::Null));
        assert_eq!(int_or_string(&[8, 0, 16, 80], "port").unwrap(), json!(80));
        assert_eq!(int_or_string(&[8, 1, 26, 1, b'x'], "port").unwrap(), json!("x"));
    }
}
