//! From JSON to messages, without a tree in between.
//!
//! A message is written while its JSON is read: what a member is written as depends on nothing but the message's type. JSON's
//! members come in any order and are put into that of their numbers afterwards, as other writers have them.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{
    self, Deserialize as _, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;

use super::Unwritable;
use super::table::{Id, Kind, Member, Message, Place, Shape, Spec, Table};
use super::wire::{
    bytes_of_length, put_bytes, put_fixed64, put_length, put_length_of, put_tag_of_bytes, put_varint,
};

/// Where messages are written to.
pub(super) struct Writer {
    /// The bytes.
    pub(super) out: Vec<u8>,
    /// Members of the messages that are being written, the innermost message's last.
    parts: Vec<Part>,
    /// The members of one message in another order, for a moment.
    spare: Vec<u8>,
    /// The fields on the way to the value that is being written.
    path: Vec<&'static str>,
}

/// One member of a message: its place in the message and its bytes, tags included.
#[derive(Clone, Copy)]
struct Part {
    place: Place,
    start: usize,
    end: usize,
}

impl Writer {
    pub(super) fn new(capacity: usize) -> Writer {
        Writer {
            out: Vec::with_capacity(capacity),
            parts: Vec::new(),
            spare: Vec::new(),
            path: Vec::new(),
        }
    }

    /// Appends the fields of a message that is an object in JSON. Members that the message does not know are left out.
    pub(super) fn object<'de, D: Deserializer<'de>>(&mut self, id: Id, json: D) -> Result<(), Unwritable> {
        let message = Table::get()
            .message(id)
            .ok_or_else(|| Unwritable("message of no type".to_owned()))?;
        self.path.clear();
        self.parts.clear();
        let members = Members {
            writer: self,
            message,
        };
        json.deserialize_map(members).map_err(|_| {
            let place = self.path.iter().map(|name| format!("{name}: "));
            let place: String = place.collect();
            let what = if place.is_empty() {
                message.name
            } else {
                "the field's type"
            };
            Unwritable(format!("{place}the value does not fit {what}"))
        })
    }

    /// Appends a field whose bytes `write` appends.
    pub(super) fn nested<E>(
        &mut self,
        number: u32,
        write: impl FnOnce(&mut Writer) -> Result<(), E>,
    ) -> Result<(), E> {
        self.nested_about(number, 0, write)
    }

    /// The same for what is about so long.
    pub(super) fn nested_about<E>(
        &mut self,
        number: u32,
        length: usize,
        write: impl FnOnce(&mut Writer) -> Result<(), E>,
    ) -> Result<(), E> {
        put_tag_of_bytes(&mut self.out, number);
        let (at, kept) = (self.out.len(), bytes_of_length(length));
        self.out.resize(at + kept, 0);
        write(self)?;
        put_length_of(&mut self.out, at, kept);
        Ok(())
    }

    /// Puts the members since `first`, whose bytes begin at `begin`, into the order of their places.
    fn arrange(&mut self, first: usize, begin: usize) {
        let parts = self.parts.get_mut(first..).unwrap_or_default();
        let are_direct = parts.iter().all(|part| part.place.is_direct());
        let is_plain = are_direct && parts.is_sorted_by_key(|part| part.place);
        if let [one, two] = parts
            && are_direct
            && !is_plain
        {
            // The common case, of data before metadata: the longer one moves once.
            let (begin, middle) = (one.start, two.start);
            if let Some(both) = self.out.get_mut(begin..) {
                both.rotate_left(middle - begin);
            }
        } else if !is_plain {
            parts.sort_by_key(|part| part.place);
            let mut spare = std::mem::take(&mut self.spare);
            spare.clear();
            emit(&mut spare, &self.out, parts, 0);
            self.out.truncate(begin);
            self.out.extend_from_slice(&spare);
            self.spare = spare;
        }
        self.parts.truncate(first);
    }
}

/// Appends sorted members. Those that have the same number at `depth` of their place are fields of one message, unless that is
/// where their place ends.
fn emit(to: &mut Vec<u8>, from: &[u8], mut parts: &[Part], depth: usize) {
    while let Some(first) = parts.first() {
        let number = first.place.number(depth);
        if first.place.ends_at(depth) {
            to.extend_from_slice(from.get(first.start..first.end).unwrap_or_default());
            parts = parts.get(1..).unwrap_or_default();
            continue;
        }
        let same = parts.partition_point(|part| part.place.number(depth) == number);
        let (inner, rest) = parts.split_at(same);
        put_tag_of_bytes(to, number);
        let at = to.len();
        to.push(0);
        emit(to, from, inner, depth + 1);
        put_length(to, at);
        parts = rest;
    }
}

/// Reads an object's members into a message.
struct Members<'w> {
    writer: &'w mut Writer,
    message: &'static Message,
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Members { writer, message } = self;
        let (first, begin) = (writer.parts.len(), writer.out.len());
        let mut from = 0;
        while let Some(member) = map.next_key_seed(Name { message, from })? {
            let Some((next, member)) = member else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            from = next;
            let start = writer.out.len();
            writer.path.push(member.spec.name);
            map.next_value_seed(Field {
                writer,
                spec: &member.spec,
            })?;
            writer.path.pop();
            let end = writer.out.len();
            if end > start {
                writer.parts.push(Part {
                    place: member.place,
                    start,
                    end,
                });
            }
        }
        writer.arrange(first, begin);
        Ok(())
    }
}

/// The member that a key names, and where the next one is looked for first.
struct Name {
    message: &'static Message,
    from: usize,
}

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Option<(usize, &'static Member)>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Option<(usize, &'static Member)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.message.member_from(self.from, key))
    }
}

/// Writes a field with all its values. Nothing is written for `null`.
struct Field<'w> {
    writer: &'w mut Writer,
    spec: &'static Spec,
}

impl<'de> DeserializeSeed<'de> for Field<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Field<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.spec.map { "an object" } else { "a list" })
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        if self.spec.map {
            return json.deserialize_map(self);
        }
        if self.spec.repeated {
            return json.deserialize_seq(self);
        }
        Single::of(self.writer, self.spec).deserialize(json)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        // A list is asked for as a list, so that no object comes here for one.
        while let Some(Key(key)) = map.next_key()? {
            self.writer.nested(self.spec.number, |writer| {
                put_bytes(&mut writer.out, 1, key.as_bytes());
                map.next_value_seed(Single {
                    number: 2,
                    ..Single::of(writer, self.spec)
                })
            })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items
            .next_element_seed(Single::of(&mut *self.writer, self.spec))?
            .is_some()
        {}
        Ok(())
    }
}

/// A key of a map, borrowed where its text has no escapes.
#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] std::borrow::Cow<'a, str>);

/// Writes one value.
struct Single<'w> {
    writer: &'w mut Writer,
    number: u32,
    kind: Kind,
}

impl<'w> Single<'w> {
    fn of(writer: &'w mut Writer, spec: &Spec) -> Single<'w> {
        Single {
            writer,
            number: spec.number,
            kind: spec.kind,
        }
    }

    fn integer<E: de::Error>(self, value: i64) -> Result<(), E> {
        let Single { writer, number, kind } = self;
        let out = &mut writer.out;
        match kind {
            Kind::Int => put_varint(out, number, value.cast_unsigned()),
            Kind::Double => {
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "what is a double is one in JSON as well"
                )]
                put_fixed64(out, number, (value as f64).to_bits());
            }
            Kind::Quantity => {
                return writer.nested(number, |writer| {
                    put_bytes(&mut writer.out, 1, value.to_string().as_bytes());
                    Ok(())
                });
            }
            Kind::IntOrString => {
                return writer.nested(number, |writer| {
                    put_varint(&mut writer.out, 1, 0);
                    put_varint(&mut writer.out, 2, value.cast_unsigned());
                    Ok(())
                });
            }
            _ => return Err(E::custom("a number")),
        }
        Ok(())
    }

    /// A number that is no whole one, or too large for one.
    fn number<E: de::Error>(self, value: f64, text: &str) -> Result<(), E> {
        match self.kind {
            Kind::Double => {
                put_fixed64(&mut self.writer.out, self.number, value.to_bits());
                Ok(())
            }
            Kind::Quantity => self.visit_str(text),
            _ => Err(E::custom("a number")),
        }
    }

    fn message(&self) -> Option<&'static Message> {
        match self.kind {
            Kind::Message(id) => Table::get().message(id),
            _ => None,
        }
    }

    /// A field of the message, if it is one that has this shape in JSON.
    fn part(&self, shape: Shape, name: &str) -> Option<&'static Spec> {
        let message = self.message().filter(|message| message.shape == shape)?;
        message.member(name).map(|member| &member.spec)
    }
}

impl<'de> DeserializeSeed<'de> for Single<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        if self.kind == Kind::Raw {
            let raw = Box::<RawValue>::deserialize(json)?;
            return self.writer.nested(self.number, |writer| {
                put_bytes(&mut writer.out, 1, raw.get().as_bytes());
                Ok(())
            });
        }
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Single<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value of {:?}", self.kind)
    }

    /// In a list or map, nothing is the type's zero.
    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        match self.kind {
            Kind::String | Kind::Bytes => {
                put_bytes(&mut self.writer.out, self.number, b"");
                Ok(())
            }
            Kind::Message(_) => self.writer.nested(self.number, |_| Ok(())),
            _ => Err(E::custom("null")),
        }
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        let allows = self.part(Shape::OrBool, "allows");
        let Single { writer, number, kind } = self;
        if kind == Kind::Bool {
            put_varint(&mut writer.out, number, u64::from(value));
            return Ok(());
        }
        let allows = allows.ok_or_else(|| E::custom("a truth value"))?;
        writer.nested(number, |writer| Single::of(writer, allows).visit_bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        self.integer(value)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        match i64::try_from(value) {
            Ok(value) => self.integer(value),
            #[expect(
                clippy::cast_precision_loss,
                reason = "what is a double is one in JSON as well"
            )]
            Err(_) => self.number(value as f64, &value.to_string()),
        }
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        // Patches can leave 3.0 behind where 3 is meant.
        if matches!(self.kind, Kind::Int | Kind::IntOrString) && value.fract() == 0.0 && value.abs() < 9e15 {
            #[expect(clippy::cast_possible_truncation, reason = "whole and within the range")]
            return self.integer(value as i64);
        }
        let text = serde_json::Number::from_f64(value).map(|number| number.to_string());
        self.number(value, &text.unwrap_or_default())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        let Single { writer, number, kind } = self;
        let wrong = || E::custom("text");
        match kind {
            Kind::String => put_bytes(&mut writer.out, number, text.as_bytes()),
            Kind::Bytes => put_bytes(&mut writer.out, number, &decode(text).ok_or_else(wrong)?),
            Kind::Time { micro } => {
                let (seconds, nanos) = match whole_seconds(text) {
                    Some(seconds) => (seconds, 0),
                    None => {
                        let time: jiff::Timestamp = text.parse().map_err(|_| wrong())?;
                        (time.as_second(), i64::from(time.subsec_nanosecond()))
                    }
                };
                let nanos = if micro { nanos / 1000 * 1000 } else { 0 };
                return writer.nested(number, |writer| {
                    put_varint(&mut writer.out, 1, seconds.cast_unsigned());
                    put_varint(&mut writer.out, 2, nanos.cast_unsigned());
                    Ok(())
                });
            }
            Kind::Quantity => {
                return writer.nested(number, |writer| {
                    put_bytes(&mut writer.out, 1, text.as_bytes());
                    Ok(())
                });
            }
            Kind::IntOrString => {
                return writer.nested(number, |writer| {
                    put_varint(&mut writer.out, 1, 1);
                    put_bytes(&mut writer.out, 3, text.as_bytes());
                    Ok(())
                });
            }
            _ => return Err(wrong()),
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let schema = self
            .part(Shape::OrBool, "schema")
            .or_else(|| self.part(Shape::OrArray, "schema"))
            .or_else(|| self.part(Shape::OrTexts, "schema"));
        let allows = self.part(Shape::OrBool, "allows");
        let message = self.message().filter(|message| message.shape != Shape::Items);
        let message = message.ok_or_else(|| de::Error::custom("an object"))?;
        let Single { writer, number, .. } = self;
        writer.nested(number, |writer| {
            let Some(schema) = schema else {
                return Members { writer, message }.visit_map(map);
            };
            if let Some(allows) = allows {
                Single::of(writer, allows).visit_bool(true)?;
            }
            Single::of(writer, schema).visit_map(map)
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<(), A::Error> {
        let list = self
            .part(Shape::Items, "items")
            .or_else(|| self.part(Shape::OrArray, "jSONSchemas"))
            .or_else(|| self.part(Shape::OrTexts, "property"));
        let spec = list.ok_or_else(|| de::Error::custom("a list"))?;
        let Single { writer, number, .. } = self;
        writer.nested(number, |writer| Field { writer, spec }.visit_seq(items))
    }
}

/// Seconds since 1970 of a time as the server itself writes it: whole seconds in UTC, from 1970 on. Every object has two of them, and a
/// reader of all that RFC 3339 allows takes as long as the rest of the metadata.
fn whole_seconds(text: &str) -> Option<i64> {
    let [
        y0,
        y1,
        y2,
        y3,
        b'-',
        o0,
        o1,
        b'-',
        d0,
        d1,
        b'T',
        h0,
        h1,
        b':',
        m0,
        m1,
        b':',
        s0,
        s1,
        b'Z',
    ] = *text.as_bytes()
    else {
        return None;
    };
    let digit = |byte: u8| byte.is_ascii_digit().then(|| i64::from(byte - b'0'));
    let two = |tens, ones| Some(digit(tens)? * 10 + digit(ones)?);
    let (year, month, day) = (two(y0, y1)? * 100 + two(y2, y3)?, two(o0, o1)?, two(d0, d1)?);
    let (hour, minute, second) = (two(h0, h1)?, two(m0, m1)?, two(s0, s1)?);
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let plain = year >= 1970
        && (1..=12).contains(&month)
        && (1..=days).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !plain {
        return None;
    }
    // Years that begin in March have the day that only some of them have at their end.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    let days = year * 365 + leap_days + (153 * month + 2) / 5 + day - 1;
    /// Days from the first of March of year 0 to 1970.
    const BEFORE: i64 = 719_468;
    Some((((days - BEFORE) * 24 + hour) * 60 + minute) * 60 + second)
}

/// Base64 as Go reads it: line breaks do not count.
fn decode(text: &str) -> Option<Vec<u8>> {
    let decoded = if text.contains(['\n', '\r']) {
        STANDARD.decode(text.replace(['\n', '\r'], ""))
    } else {
        STANDARD.decode(text)
    };
    decoded.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_seconds_are_what_the_calendar_says() {
        let mut day = jiff::civil::date(1970, 1, 1);
        // The century that is no leap year, and all around it.
        while day.year() < 2110 {
            let text = format!("{day}T23:59:07Z");
            let said: jiff::Timestamp = text.parse().unwrap();
            assert_eq!(whole_seconds(&text), Some(said.as_second()), "{text}");
            day = day.tomorrow().unwrap();
        }
        for other in [
            "2026-01-02T03:04:05.5Z",
            "2026-01-02T03:04:05+00:00",
            "2026-01-02t03:04:05Z",
            "2026-13-02T03:04:05Z",
            "2026-00-02T03:04:05Z",
            "2026-01-00T03:04:05Z",
            "2026-01-32T03:04:05Z",
            "2026-02-29T03:04:05Z",
            "2028-02-30T03:04:05Z",
            "2100-02-29T03:04:05Z",
            "2026-04-31T03:04:05Z",
            "2026-01-02T24:04:05Z",
            "2026-01-02T03:60:05Z",
            "2026-01-02T03:04:60Z",
            "1969-12-28T03:04:05Z",
            "20a6-01-02T03:04:05Z",
            "",
        ] {
            assert_eq!(whole_seconds(other), None, "{other}");
        }
    }
}
