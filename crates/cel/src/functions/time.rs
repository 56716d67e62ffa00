//! Timestamps and durations.

use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp, Zoned};

use super::{Cost, Function, Result, member, text};
use crate::error::EvalError;
use crate::value::Val;

pub(super) const FUNCTIONS: &[Function] = &[
    member("getFullYear", 1, "int", |_, a| part(a, |z| i64::from(z.year()))).up_to(2),
    member("getMonth", 1, "int", |_, a| part(a, |z| i64::from(z.month()) - 1)).up_to(2),
    member("getDate", 1, "int", |_, a| part(a, |z| i64::from(z.day()))).up_to(2),
    member("getDayOfMonth", 1, "int", |_, a| {
        part(a, |z| i64::from(z.day()) - 1)
    })
    .up_to(2),
    member("getDayOfWeek", 1, "int", |_, a| {
        part(a, |z| i64::from(z.weekday().to_sunday_zero_offset()))
    })
    .up_to(2),
    member("getDayOfYear", 1, "int", |_, a| {
        part(a, |z| i64::from(z.day_of_year()) - 1)
    })
    .up_to(2),
    member("getHours", 1, "int", |_, a| {
        span(a, 3600, |z| i64::from(z.hour()))
    })
    .up_to(2),
    member("getMinutes", 1, "int", |_, a| {
        span(a, 60, |z| i64::from(z.minute()))
    })
    .up_to(2),
    member("getSeconds", 1, "int", |_, a| {
        span(a, 1, |z| i64::from(z.second()))
    })
    .up_to(2),
    member("getMilliseconds", 1, "int", milliseconds).up_to(2),
];

fn zoned(args: &[Val<'_>]) -> Result<Zoned> {
    let Val::Timestamp(t) = &args[0] else {
        return Err(EvalError::no_such_overload());
    };
    let zone = match args.get(1) {
        None => TimeZone::UTC,
        Some(name) => zone(text(name)?)?,
    };
    Ok(t.to_zoned(zone))
}

fn zone(name: &str) -> Result<TimeZone> {
    let unknown = || EvalError::other(format!("unknown time zone {name}"));
    if name == "UTC" {
        return Ok(TimeZone::UTC);
    }
    // Fixed offsets: 02:00, +02:00, -02:00.
    if let Some((hours, minutes)) = name.trim_start_matches(['+', '-']).split_once(':') {
        let hours: i32 = hours.parse().map_err(|_| unknown())?;
        let minutes: i32 = minutes.parse().map_err(|_| unknown())?;
        let seconds = hours
            .saturating_mul(3600)
            .saturating_add(minutes.saturating_mul(60));
        let seconds = if name.starts_with('-') { -seconds } else { seconds };
        return Offset::from_seconds(seconds)
            .map(TimeZone::fixed)
            .map_err(|_| unknown());
    }
    TimeZone::get(name).map_err(|_| unknown())
}

fn part<'a>(args: &[Val<'_>], get: fn(&Zoned) -> i64) -> Result<Val<'a>> {
    Ok(Val::Int(get(&zoned(args)?)))
}

/// Of a timestamp the part within its day, of a duration the whole.
fn span<'a>(args: &[Val<'_>], seconds: i64, get: fn(&Zoned) -> i64) -> Result<Val<'a>> {
    match &args[0] {
        Val::Duration(d) if args.len() == 1 => Ok(Val::Int(d.as_secs() / seconds)),
        _ => part(args, get),
    }
}

fn milliseconds<'a>(_: &mut Cost, args: &[Val<'a>]) -> Result<Val<'a>> {
    match &args[0] {
        Val::Duration(d) if args.len() == 1 => Ok(Val::Int(i64::from(d.subsec_millis()))),
        _ => part(args, |z| i64::from(z.millisecond())),
    }
}

pub(crate) fn parse_timestamp(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// A date, which stands for its first moment in UTC.
pub(crate) fn parse_date(text: &str) -> Option<Timestamp> {
    let date: jiff::civil::Date = text.parse().ok().filter(|_| text.len() == 10)?;
    Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// A duration as Go's `time.ParseDuration` reads it.
pub(crate) fn parse_duration(text: &str) -> Option<SignedDuration> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(SignedDuration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanos: i128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let unit_end = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let unit: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return None;
        }
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        nanos = nanos.checked_add(whole.checked_mul(unit)?)?;
        let mut scale = unit;
        for d in fraction.bytes() {
            // Tenths, hundredths ... of the unit; what is finer than a nanosecond is cut off.
            nanos += i128::from(d - b'0') * scale / 10;
            scale /= 10;
            if scale == 0 {
                break;
            }
        }
        rest = after;
    }
    let nanos = i64::try_from(if negative { -nanos } else { nanos }).ok()?;
    Some(SignedDuration::from_nanos(nanos))
}

/// A duration in seconds, as CEL converts one to a string.
pub(crate) fn duration_text(duration: SignedDuration) -> String {
    let nanos = duration.as_nanos();
    let (whole, fraction) = (nanos / 1_000_000_000, (nanos % 1_000_000_000).unsigned_abs());
    if fraction == 0 {
        return format!("{whole}s");
    }
    let fraction = format!("{fraction:09}");
    let sign = if nanos < 0 && whole == 0 { "-" } else { "" };
    format!("{sign}{whole}.{}s", fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let cases = [
            ("1h30m", Some("5400s")),
            ("1.5s", Some("1.5s")),
            ("-500ms", Some("-0.5s")),
            ("0", Some("0s")),
            ("100us", Some("0.0001s")),
            ("1", None),
            ("", None),
            ("s", None),
            ("1x", None),
            ("99999999999h", None),
        ];
        for (text, expected) in cases {
            assert_eq!(
                parse_duration(text).map(duration_text).as_deref(),
                expected,
                "{text}"
            );
        }
    }
}
