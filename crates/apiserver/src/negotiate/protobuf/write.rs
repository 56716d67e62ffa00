//! From JSON values to messages.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::Unwritable;
use super::table::{Id, Kind, Shape, Spec, Table};
use super::wire::{put_bytes, put_fixed64, put_nested, put_varint};

/// Appends the fields of a message that is an object in JSON. Members that the message does not know are left out.
pub(super) fn object(out: &mut Vec<u8>, id: Id, value: &Value) -> Result<(), Unwritable> {
    let Some(message) = Table::get().message(id) else {
        return Err(Unwritable("message of no type".to_owned()));
    };
    let Value::Object(members) = value else {
        return Err(Unwritable(message.name.to_owned()));
    };
    for spec in message.fields() {
        if let (true, Kind::Message(inner)) = (spec.is_embedded(), spec.kind) {
            embedded(out, spec.number, inner, value)?;
            continue;
        }
        match members.get(spec.name) {
            None | Some(Value::Null) => {}
            Some(value) => field(out, spec, value).map_err(|error| error.within(spec.name))?,
        }
    }
    Ok(())
}

/// A message whose fields are members of its parent; left out when none of them is there.
fn embedded(out: &mut Vec<u8>, number: u32, inner: Id, parent: &Value) -> Result<(), Unwritable> {
    let before = out.len();
    let mut empty = true;
    put_nested(out, number, |out| {
        let start = out.len();
        object(out, inner, parent)?;
        empty = out.len() == start;
        Ok(())
    })?;
    if empty {
        out.truncate(before);
    }
    Ok(())
}

fn field(out: &mut Vec<u8>, spec: &Spec, value: &Value) -> Result<(), Unwritable> {
    if spec.map {
        let Value::Object(map) = value else {
            return Err(Unwritable::here());
        };
        for (key, value) in map {
            put_nested(out, spec.number, |out| {
                put_bytes(out, 1, key.as_bytes());
                single(out, 2, spec.kind, value)
            })?;
        }
        return Ok(());
    }
    if spec.repeated {
        let Value::Array(items) = value else {
            return Err(Unwritable::here());
        };
        return items
            .iter()
            .try_for_each(|item| single(out, spec.number, spec.kind, item));
    }
    single(out, spec.number, spec.kind, value)
}

/// Appends one value.
fn single(out: &mut Vec<u8>, number: u32, kind: Kind, value: &Value) -> Result<(), Unwritable> {
    let text = || value.as_str().ok_or_else(Unwritable::here);
    match kind {
        // In a list or map, nothing is the type's zero.
        Kind::String | Kind::Bytes if value.is_null() => put_bytes(out, number, b""),
        Kind::String => put_bytes(out, number, text()?.as_bytes()),
        Kind::Bool => put_varint(
            out,
            number,
            u64::from(value.as_bool().ok_or_else(Unwritable::here)?),
        ),
        Kind::Int => put_varint(out, number, integer(value)?.cast_unsigned()),
        Kind::Double => put_fixed64(
            out,
            number,
            value.as_f64().ok_or_else(Unwritable::here)?.to_bits(),
        ),
        Kind::Bytes => put_bytes(out, number, &decode(text()?)?),
        Kind::Time { micro } => {
            let time: jiff::Timestamp = text()?.parse().map_err(|_| Unwritable::here())?;
            let nanos = i64::from(time.subsec_nanosecond());
            put_nested(out, number, |out| {
                put_varint(out, 1, time.as_second().cast_unsigned());
                let nanos = if micro { nanos / 1000 * 1000 } else { 0 };
                put_varint(out, 2, nanos.cast_unsigned());
                Ok(())
            })?;
        }
        Kind::Quantity => put_nested(out, number, |out| {
            match value {
                Value::String(text) => put_bytes(out, 1, text.as_bytes()),
                Value::Number(number) => put_bytes(out, 1, number.to_string().as_bytes()),
                _ => return Err(Unwritable::here()),
            }
            Ok(())
        })?,
        Kind::IntOrString => put_nested(out, number, |out| {
            match value {
                Value::String(text) => {
                    put_varint(out, 1, 1);
                    put_bytes(out, 3, text.as_bytes());
                }
                number => {
                    put_varint(out, 1, 0);
                    put_varint(out, 2, integer(number)?.cast_unsigned());
                }
            }
            Ok(())
        })?,
        Kind::Raw => {
            let json = serde_json::to_vec(value).map_err(|_| Unwritable::here())?;
            put_nested(out, number, |out| {
                put_bytes(out, 1, &json);
                Ok(())
            })?;
        }
        Kind::Message(id) => put_nested(out, number, |out| shaped(out, id, value))?,
    }
    Ok(())
}

/// Appends the fields of a message from what it is in JSON.
fn shaped(out: &mut Vec<u8>, id: Id, value: &Value) -> Result<(), Unwritable> {
    let shape = Table::get().message(id).map_or(Shape::Object, |m| m.shape);
    let alone = |name: &str| Value::Object(Map::from_iter([(name.to_owned(), value.clone())]));
    let wrapped = match (shape, value) {
        (_, Value::Null) => return Ok(()),
        (Shape::Object, _) => return object(out, id, value),
        (Shape::Items, _) => alone("items"),
        (Shape::OrBool, Value::Bool(_)) => alone("allows"),
        (Shape::OrBool, _) => {
            let mut both = alone("schema");
            both["allows"] = true.into();
            both
        }
        (Shape::OrArray, Value::Array(_)) => alone("jSONSchemas"),
        (Shape::OrTexts, Value::Array(_)) => alone("property"),
        (Shape::OrArray | Shape::OrTexts, _) => alone("schema"),
    };
    object(out, id, &wrapped)
}

fn integer(value: &Value) -> Result<i64, Unwritable> {
    if let Some(number) = value.as_i64() {
        return Ok(number);
    }
    // Patches can leave 3.0 behind where 3 is meant.
    match value.as_f64() {
        #[expect(clippy::cast_possible_truncation, reason = "whole and within the range")]
        Some(number) if number.fract() == 0.0 && number.abs() < 9e15 => Ok(number as i64),
        _ => Err(Unwritable::here()),
    }
}

/// Base64 as Go reads it: line breaks do not count.
fn decode(text: &str) -> Result<Vec<u8>, Unwritable> {
    let decoded = if text.contains(['\n', '\r']) {
        STANDARD.decode(text.replace(['\n', '\r'], ""))
    } else {
        STANDARD.decode(text)
    };
    decoded.map_err(|_| Unwritable::here())
}
