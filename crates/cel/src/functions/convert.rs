//! Conversions between types, `size` and `type`.

use super::{Cost, Function, Result, global, member, text, time};
use crate::error::EvalError;
use crate::value::Val;

pub(super) const FUNCTIONS: &[Function] = &[
    global("size", 1, "int", size),
    member("size", 1, "int", size),
    global("type", 1, "type", |_, args| Ok(Val::Type(args[0].type_name()))),
    global("dyn", 1, "", |_, args| Ok(args[0].clone())),
    global("bool", 1, "bool", to_bool),
    global("int", 1, "int", to_int),
    global("uint", 1, "uint", to_uint),
    global("double", 1, "double", to_double),
    global("string", 1, "string", to_string),
    member("string", 1, "string", to_string),
    global("bytes", 1, "bytes", to_bytes),
    global("timestamp", 1, "google.protobuf.Timestamp", to_timestamp),
    global("duration", 1, "google.protobuf.Duration", to_duration),
    global("base64.encode", 1, "string", |cost, args| {
        cost.charge(args[0].weight())?;
        match &args[0] {
            Val::Bytes(b) => Ok(Val::string(base64_encode(b))),
            _ => Err(EvalError::no_such_overload()),
        }
    }),
    global("base64.decode", 1, "bytes", |cost, args| {
        cost.charge(args[0].weight())?;
        let decoded =
            base64_decode(text(&args[0])?).ok_or_else(|| EvalError::other("illegal base64 data"))?;
        Ok(Val::Bytes(decoded.into()))
    }),
];

fn size<'a>(cost: &mut Cost, args: &[Val<'a>]) -> Result<Val<'a>> {
    if args[0].as_str().is_some() {
        cost.charge(args[0].weight())?;
    }
    let size = args[0].size().ok_or_else(EvalError::no_such_overload)?;
    Ok(Val::Int(i64::try_from(size).unwrap_or(i64::MAX)))
}

fn to_bool<'a>(_: &mut Cost, args: &[Val<'a>]) -> Result<Val<'a>> {
    match &args[0] {
        Val::Bool(b) => Ok(Val::Bool(*b)),
        other => match text(other)? {
            "1" | "t" | "true" | "True" | "TRUE" => Ok(Val::Bool(true)),
            "0" | "f" | "false" | "False" | "FALSE" => Ok(Val::Bool(false)),
            _ => Err(conversion(other, "bool")),
        },
    }
}

fn conversion(value: &Val<'_>, to: &str) -> EvalError {
    EvalError::other(format!(
        "type conversion error from '{}' to '{to}'",
        value.type_name()
    ))
}

fn overflow(kind: &str) -> EvalError {
    EvalError::other(format!("{kind} overflow"))
}

fn to_int<'a>(_: &mut Cost, args: &[Val<'a>]) -> Result<Val<'a>> {
    Ok(Val::Int(match &args[0] {
        Val::Int(i) => *i,
        Val::UInt(u) => i64::try_from(*u).map_err(|_| overflow("integer"))?,
        #[allow(clippy::cast_possible_truncation)] // in range
        Val::Double(d) if d.abs() < 9_223_372_036_854_775_807.0 => *d as i64,
        Val::Double(_) => return Err(overflow("integer")),
        Val::Timestamp(t) => t.as_second(),
        Val::Duration(d) => i64::try_from(d.as_nanos()).map_err(|_| overflow("integer"))?,
        other => text(other)?.parse().map_err(|_| conversion(other, "int"))?,
    }))
}

fn to_uint<'a>(_: &mut Cost, args: &[Val<'a>]) -> Result<Val<'a>> {
    Ok(Val::UInt(match &args[0] {
        Val::UInt(u) => *u,
        Val::Int(i) => u64::try_from(*i).map_err(|_| overflow("unsigned integer"))?,
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // in range
        Val::Double(d) if *d >= 0.0 && *d < 18_446_744_073_709_551_615.0 => *d as u64,
        Val::Double(_) => return Err(overflow("unsigned integer")),
        other => text(other)?.parse().map_err(|_| conversion(other, "uint"))?,
    }))
}

fn to_double<'a>(_: &mut Cost, args: &[Val<'a>]) -> Result<Val<'a>> {
    #[allow(clippy::cast_precision_loss)] // what a conversion to double is
    Ok(Val::Double(match &args[0] {
        Val::Double(d) => *d,
        Val::Int(i) => *i as f64,
        Val::UInt(u) => *u as f64,
        other => text(other)?.parse().map_err(|_| conversion(other, "double"))?,
    }))
}

fn to_string<'a>(cost: &mut Cost, args: &[Val<'a>]) -> Result<Val<'a>> {
    cost.charge(args[0].weight())?;
    match &args[0] {
        Val::Str(_) | Val::String(_) => Ok(args[0].clone()),
        Val::Bytes(b) => match std::str::from_utf8(b) {
            Ok(s) => Ok(Val::string(s)),
            Err(_) => Err(EvalError::other(
                "invalid UTF-8 in bytes, cannot convert to string",
            )),
        },
        other => other
            .text()
            .map(Val::string)
            .ok_or_else(EvalError::no_such_overload),
    }
}

fn to_bytes<'a>(cost: &mut Cost, args: &[Val<'a>]) -> Result<Val<'a>> {
    cost.charge(args[0].weight())?;
    match &args[0] {
        Val::Bytes(b) => Ok(Val::Bytes(b.clone())),
        other => Ok(Val::Bytes(text(other)?.as_bytes().into())),
    }
}

fn to_timestamp<'a>(_: &mut Cost, args: &[Val<'a>]) -> Result<Val<'a>> {
    match &args[0] {
        Val::Timestamp(t) => Ok(Val::Timestamp(*t)),
        Val::Int(i) => jiff::Timestamp::from_second(*i)
            .map(Val::Timestamp)
            .map_err(|_| EvalError::other("timestamp overflow")),
        other => time::parse_timestamp(text(other)?)
            .map(Val::Timestamp)
            .ok_or_else(|| conversion(other, "google.protobuf.Timestamp")),
    }
}

fn to_duration<'a>(_: &mut Cost, args: &[Val<'a>]) -> Result<Val<'a>> {
    match &args[0] {
        Val::Duration(d) => Ok(Val::Duration(*d)),
        Val::Int(i) => Ok(Val::Duration(jiff::SignedDuration::from_nanos(*i))),
        other => time::parse_duration(text(other)?)
            .map(Val::Duration)
            .ok_or_else(|| conversion(other, "google.protobuf.Duration")),
    }
}

/// A double as Go prints it with the verb `%g`.
pub(crate) fn double_text(d: f64) -> String {
    if d.is_nan() {
        return "NaN".to_owned();
    }
    if d.is_infinite() {
        return if d > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{d:e}");
    let exponent: i32 = scientific
        .split_once('e')
        .and_then(|(_, e)| e.parse().ok())
        .unwrap_or_default();
    if (-4..21).contains(&exponent) {
        return format!("{d}");
    }
    let mantissa = scientific.split_once('e').map_or(scientific.as_str(), |(m, _)| m);
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub(crate) fn base64_encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let n = chunk.iter().fold(0_u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            if i > chunk.len() {
                out.push('=');
            } else {
                out.push(char::from(ALPHABET[(n >> (18 - 6 * i) & 63) as usize]));
            }
        }
    }
    out
}

pub(crate) fn base64_decode(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0);
    for b in text.bytes() {
        let digit = ALPHABET.iter().position(|a| *a == b)?;
        bits = bits << 6 | u32::try_from(digit).ok()?;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    (count < 6).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_round_trips() {
        for text in ["", "f", "fo", "foo", "foob", "fooba", "foobar"] {
            let encoded = base64_encode(text.as_bytes());
            assert_eq!(
                base64_decode(&encoded).as_deref(),
                Some(text.as_bytes()),
                "{encoded}"
            );
        }
        assert_eq!(base64_encode(b"fooba"), "Zm9vYmE=");
        assert_eq!(base64_decode("?"), None);
    }

    #[test]
    fn doubles_print_like_go() {
        for (d, expected) in [
            (1.0, "1"),
            (1.5, "1.5"),
            (1e21, "1e+21"),
            (1e-7, "1e-07"),
            (0.0001, "0.0001"),
        ] {
            assert_eq!(double_text(d), expected);
        }
    }
}
