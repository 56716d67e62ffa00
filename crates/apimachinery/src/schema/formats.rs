//! The string formats that are checked, and the numbers' formats.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use regex::Regex;

use super::{Schema, Type};
use crate::meta::names;

macro_rules! pattern {
    ($name:ident, $pattern:expr) => {
        #[allow(clippy::expect_used)] // the pattern is a constant, compiled by a test
        static $name: LazyLock<Regex> = LazyLock::new(|| Regex::new($pattern).expect("constant pattern"));
    };
}

pattern!(
    HOSTNAME,
    r"^([a-zA-Z0-9\p{S}\p{L}]((-?[a-zA-Z0-9\p{S}\p{L}]{0,62})?)|([a-zA-Z0-9\p{S}\p{L}](([a-zA-Z0-9\-\p{S}\p{L}]{0,61}[a-zA-Z0-9\p{S}\p{L}])?)(\.)){1,}([a-zA-Z\p{L}]){2,63})$"
);
pattern!(
    UUID,
    r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$"
);
pattern!(
    UUID3,
    r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?3[0-9a-f]{3}-?[0-9a-f]{4}-?[0-9a-f]{12}$"
);
pattern!(
    UUID4,
    r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?4[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$"
);
pattern!(
    UUID5,
    r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?5[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$"
);
pattern!(
    TIME,
    r"(?i)^([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?(z|([+-][0-9]{2}:[0-9]{2}))$"
);
pattern!(
    CARD,
    r"^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35[0-9]{3})[0-9]{11})$"
);
pattern!(SSN, r"^[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}$");
pattern!(HEX_COLOR, r"^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$");
pattern!(
    RGB_COLOR,
    r"^rgb\( *(0|[1-9][0-9]?|1[0-9][0-9]?|2[0-4][0-9]|25[0-5]) *, *(0|[1-9][0-9]?|1[0-9][0-9]?|2[0-4][0-9]|25[0-5]) *, *(0|[1-9][0-9]?|1[0-9][0-9]?|2[0-4][0-9]|25[0-5]) *\)$"
);
pattern!(DURATION_PARTS, r"([0-9]+)\s*([A-Za-zµ]+)");
pattern!(
    GO_DURATION,
    r"^[+-]?(0|(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$"
);

impl Schema {
    /// The format as far as it is checked: one that exists for the type.
    pub(crate) fn checked_format(&self) -> Option<&str> {
        let format = self.format.as_deref()?;
        let known = match self.type_ {
            Some(Type::Integer) => matches!(format, "int32" | "int64"),
            Some(Type::Number) => matches!(format, "float" | "double"),
            Some(Type::String) | None => !self.int_or_string && string_format(format).is_some(),
            Some(_) => false,
        };
        known.then_some(format)
    }
}

type Check = fn(&str) -> bool;

/// The check of a string format. Dashes in its name do not matter.
pub(crate) fn string_format(name: &str) -> Option<Check> {
    // Every object has some of them.
    if name == "date-time" {
        return Some(is_date_time);
    }
    let plain;
    let name = if name.contains('-') {
        plain = name.replace('-', "");
        plain.as_str()
    } else {
        name
    };
    Some(match name {
        "bsonobjectid" => |s| s.len() == 24 && s.bytes().all(|b| b.is_ascii_hexdigit()),
        "uri" => is_request_uri,
        "email" => is_email,
        "hostname" => |s| s.len() <= 255 && s.split('.').all(|p| p.len() <= 63) && HOSTNAME.is_match(s),
        "ipv4" => |s| s.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => |s| s.parse::<Ipv6Addr>().is_ok(),
        "cidr" => |s| s.contains('/') && s.parse::<ipnet::IpNet>().is_ok(),
        "mac" => is_mac,
        "uuid" => |s| UUID.is_match(s),
        "uuid3" => |s| UUID3.is_match(s),
        "uuid4" => |s| UUID4.is_match(s),
        "uuid5" => |s| UUID5.is_match(s),
        "isbn" => |s| is_isbn10(s) || is_isbn13(s),
        "isbn10" => is_isbn10,
        "isbn13" => is_isbn13,
        "creditcard" => is_credit_card,
        "ssn" => |s| SSN.is_match(s),
        "hexcolor" => |s| HEX_COLOR.is_match(s),
        "rgbcolor" => |s| RGB_COLOR.is_match(s),
        "byte" => is_base64,
        "password" => |_| true,
        "date" => is_date,
        "duration" => is_duration,
        "datetime" => is_date_time,
        "k8sshortname" => |s| names::dns1123_label(s).is_empty(),
        "k8slongname" => |s| names::dns1123_subdomain(s).is_empty(),
        _ => return None,
    })
}

fn is_date(s: &str) -> bool {
    s.len() == 10 && s.parse::<jiff::civil::Date>().is_ok()
}

pub(crate) fn is_date_time(s: &str) -> bool {
    let Some((date, time)) = s.split_once(['t', 'T']) else {
        return false;
    };
    is_date(date) && (is_plain_time(time) || is_time(time))
}

/// Whether it is a time of whole seconds in UTC, which is how the server itself writes it.
fn is_plain_time(time: &str) -> bool {
    let two = |tens: u8, ones: u8, below: u8| (b'0'..below).contains(&tens) && ones.is_ascii_digit();
    match *time.as_bytes() {
        [h, hh, b':', m, mm, b':', s, ss, b'Z'] => {
            (two(h, hh, b'2') || (h == b'2' && (b'0'..=b'3').contains(&hh)))
                && two(m, mm, b'6')
                && two(s, ss, b'6')
        }
        _ => false,
    }
}

fn is_time(time: &str) -> bool {
    TIME.captures(time)
        .is_some_and(|c| &c[1] <= "23" && &c[2] <= "59" && &c[3] <= "59")
}

fn is_duration(s: &str) -> bool {
    const UNITS: &[(&[&str], &str)] = &[
        (&["ns"], "nano"),
        (&["us", "µs"], "micro"),
        (&["ms"], "milli"),
        (&["s"], "sec"),
        (&["m"], "min"),
        (&["h", "hr"], "hour"),
        (&["d"], "day"),
        (&["w", "wk"], "week"),
    ];
    if GO_DURATION.is_match(s) {
        return true;
    }
    let mut found = false;
    for part in DURATION_PARTS.captures_iter(s) {
        if part[1].parse::<i64>().is_err() {
            return false;
        }
        let unit = part[2].to_lowercase();
        found |= UNITS
            .iter()
            .any(|(short, long)| short.contains(&unit.as_str()) || unit.starts_with(long));
    }
    found
}

/// An absolute URI or an absolute path, as Go's `url.ParseRequestURI` takes it.
fn is_request_uri(s: &str) -> bool {
    if s.bytes().any(|b| b < 0x20 || b == 0x7f || b == b' ') {
        return false;
    }
    let bad_escape = s.match_indices('%').any(|(i, _)| {
        let digits = s.as_bytes().get(i + 1..i + 3);
        !digits.is_some_and(|d| d.iter().all(u8::is_ascii_hexdigit))
    });
    if bad_escape {
        return false;
    }
    if s.starts_with('/') {
        return true;
    }
    let Some((scheme, rest)) = s.split_once(':') else {
        return false;
    };
    scheme.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
        && (!rest.starts_with("//") || authority_is_sound(&rest[2..]))
}

fn authority_is_sound(rest: &str) -> bool {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let port = match host.strip_prefix('[') {
        Some(v6) => match v6.split_once(']') {
            Some((_, after)) => after,
            None => return false,
        },
        None => host.find(':').map_or("", |i| &host[i..]),
    };
    port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|p| p.bytes().all(|b| b.is_ascii_digit()))
}

fn is_email(s: &str) -> bool {
    let address = match (s.find('<'), s.strip_suffix('>')) {
        (Some(start), Some(without)) => &without[start + 1..],
        (None, None) => s.trim(),
        _ => return false,
    };
    let Some((local, domain)) = address.rsplit_once('@') else {
        return false;
    };
    let atom = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c))
    };
    let quoted = local.len() > 2 && local.starts_with('"') && local.ends_with('"');
    (quoted || local.split('.').all(atom)) && (domain.split('.').all(atom) || domain.starts_with('['))
}

fn is_mac(s: &str) -> bool {
    let separated = |separator: char, width: usize, counts: &[usize]| {
        let parts: Vec<&str> = s.split(separator).collect();
        counts.contains(&parts.len())
            && parts
                .iter()
                .all(|p| p.len() == width && p.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    separated(':', 2, &[6, 8, 20]) || separated('-', 2, &[6, 8, 20]) || separated('.', 4, &[3, 4, 10])
}

fn is_base64(s: &str) -> bool {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(s).is_ok()
}

fn is_isbn10(s: &str) -> bool {
    let digits: Vec<u8> = s.bytes().filter(|b| !matches!(b, b' ' | b'-')).collect();
    if digits.len() != 10 || !digits[..9].iter().all(u8::is_ascii_digit) {
        return false;
    }
    let last = match digits[9] {
        b'X' | b'x' => 10,
        d if d.is_ascii_digit() => u32::from(d - b'0'),
        _ => return false,
    };
    let sum: u32 = (1..)
        .zip(&digits[..9])
        .map(|(i, d)| i * u32::from(d - b'0'))
        .sum();
    (sum + 10 * last).is_multiple_of(11)
}

fn is_isbn13(s: &str) -> bool {
    let digits: Vec<u8> = s.bytes().filter(|b| !matches!(b, b' ' | b'-')).collect();
    digits.len() == 13
        && digits.iter().all(u8::is_ascii_digit)
        && digits
            .iter()
            .enumerate()
            .map(|(i, d)| u32::from(d - b'0') * if i % 2 == 0 { 1 } else { 3 })
            .sum::<u32>()
            % 10
            == 0
}

fn is_credit_card(s: &str) -> bool {
    let digits: String = s.chars().filter(char::is_ascii_digit).collect();
    CARD.is_match(&digits) && {
        let sum: u32 = digits
            .bytes()
            .rev()
            .enumerate()
            .map(|(i, d)| {
                let d = u32::from(d - b'0');
                if i % 2 == 1 {
                    if d > 4 { d * 2 - 9 } else { d * 2 }
                } else {
                    d
                }
            })
            .sum();
        sum.is_multiple_of(10)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn plain_times_are_times() {
        for time in [
            "00:00:00Z",
            "19:30:20Z",
            "09:59:59Z",
            "23:59:59Z",
            "24:00:00Z",
            "2a:00:00Z",
            "30:00:00Z",
            "23:60:00Z",
            "23:00:60Z",
            "1:00:00Z",
            "23:00:0Z",
            "23-00-00Z",
            ":3:00:00Z",
            "23:00:00z",
            "23:00:00.5Z",
            "23:00:00",
        ] {
            // The quick way takes nothing that the other does not, and all that the server writes.
            assert!(!is_plain_time(time) || is_time(time), "{time}");
        }
        for hour in 0..30 {
            for other in 0..70 {
                let time = format!("{hour:02}:{other:02}:{:02}Z", 69 - other);
                assert_eq!(is_plain_time(&time), is_time(&time), "{time}");
            }
        }
    }

    #[test]
    fn formats_accept_and_refuse() {
        let cases: &[(&str, &[&str], &[&str])] = &[
            (
                "date-time",
                &["2014-12-15T19:30:20.000Z", "2014-12-15t19:30:20+02:00"],
                &["2014-12-15", "now", "2014-12-15T25:00:00Z"],
            ),
            ("date", &["2006-01-02"], &["2006-1-2", "2006-13-01"]),
            (
                "duration",
                &["22 ns", "1h30m", "5s", "2 weeks", "0"],
                &["", "abc", "5"],
            ),
            (
                "uri",
                &["http://example.com/a", "/path", "urn:a:b", "https://[::1]:80/"],
                &["example.com", "http://a b", "http://a:b/", "/%zz"],
            ),
            ("email", &["a@b.c", "Barry <bg@example.com>"], &["a", "@b", "a@"]),
            (
                "hostname",
                &["example.com", "a", "1.example.com"],
                &["-a", "a..b", "a_b"],
            ),
            ("ipv4", &["10.0.0.1"], &["10.0.0", "10.0.0.01", "::1"]),
            ("ipv6", &["::1", "fe80::1"], &["10.0.0.1", "g::"]),
            ("cidr", &["10.0.0.0/8", "::/0"], &["10.0.0.0", "10.0.0.0/33"]),
            (
                "mac",
                &["00:00:5e:00:53:01", "0000.5e00.5301"],
                &["00:00:5e", "zz:00:5e:00:53:01"],
            ),
            ("uuid", &["6ba7b810-9dad-11d1-80b4-00c04fd430c8"], &["6ba7b810"]),
            ("isbn10", &["0321751043"], &["0321751044"]),
            ("isbn13", &["978-0321751041"], &["978-0321751042"]),
            ("creditcard", &["4111 1111 1111 1111"], &["4111 1111 1111 1112"]),
            ("hexcolor", &["#FFFFFF", "fff"], &["#ggg"]),
            ("rgbcolor", &["rgb(255,255,255)"], &["rgb(256,0,0)"]),
            ("byte", &["aGVsbG8=", ""], &["a"]),
            ("k8s-short-name", &["a-b"], &["A"]),
        ];
        for (format, good, bad) in cases {
            let check = string_format(format).unwrap();
            for text in *good {
                assert!(check(text), "{format}: {text}");
            }
            for text in *bad {
                assert!(!check(text), "{format}: {text}");
            }
        }
        assert!(string_format("int-or-string").is_none());
    }
}
