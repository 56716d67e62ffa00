//! `resource.Quantity`: fixed-point numbers with the suffixes of Kubernetes, such as `500m`, `1.5Gi` or `1e3`.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// How a quantity is written: the family of its suffix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `12e6`
    DecimalExponent,
    /// `12Mi`
    BinarySi,
    /// `12M`
    DecimalSi,
}

/// A number with nine decimal places and a way to write it.
///
/// Finer parts are rounded up, away from zero. Values of more than about 10^29 are refused, where the original is unbounded.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

const NANO: i128 = 1_000_000_000;

/// The largest quantity that a binary suffix may express; larger ones are capped, as upstream does.
const MAX_BINARY: i128 = i64::MAX as i128;

/// Why a text is no quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// The text as a whole is malformed.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// The number is malformed or too large.
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    /// There is no such suffix.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

const DECIMAL: &[(&str, i32)] = &[
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];
const BINARY: &[(&str, u32)] = &[
    ("Ki", 10),
    ("Mi", 20),
    ("Gi", 30),
    ("Ti", 40),
    ("Pi", 50),
    ("Ei", 60),
];

enum Factor {
    Ten(i32),
    Two(u32),
}

fn suffix(text: &str) -> Option<(Factor, Format)> {
    if let Some((_, exponent)) = DECIMAL.iter().find(|(s, _)| *s == text) {
        return Some((Factor::Ten(*exponent), Format::DecimalSi));
    }
    if let Some((_, bits)) = BINARY.iter().find(|(s, _)| *s == text) {
        return Some((Factor::Two(*bits), Format::BinarySi));
    }
    let exponent = text.strip_prefix(['e', 'E'])?.parse().ok()?;
    Some((Factor::Ten(exponent), Format::DecimalExponent))
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let (negative, unsigned) = match text.as_bytes().first() {
            None => return Err(QuantityError::Format),
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            Some(_) => (false, text),
        };
        let digits = unsigned
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(unsigned.len());
        let (whole, rest) = unsigned.split_at(digits);
        let (fraction, rest) = match rest.strip_prefix('.') {
            Some(rest) => rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())),
            None => ("", rest),
        };
        let well_formed = {
            let letters = rest.find(|c| !"eEinumkKMGTP".contains(c)).unwrap_or(rest.len());
            let tail = &rest[letters..];
            tail.strip_prefix(['-', '+'])
                .unwrap_or(tail)
                .bytes()
                .all(|b| b.is_ascii_digit())
        };
        if !well_formed {
            return Err(QuantityError::Format);
        }
        let (factor, format) = suffix(rest).ok_or(QuantityError::Suffix)?;
        if whole.is_empty() && fraction.is_empty() {
            return Err(QuantityError::Numeric);
        }
        // Trailing zeros of the fraction carry nothing but could overflow.
        let fraction = fraction.trim_end_matches('0');
        let mut digits: i128 = 0;
        for d in whole.bytes().chain(fraction.bytes()) {
            digits = digits
                .checked_mul(10)
                .and_then(|n| n.checked_add(i128::from(d - b'0')))
                .ok_or(QuantityError::Numeric)?;
        }
        let mut scale = 9_i32 - i32::try_from(fraction.len()).map_err(|_| QuantityError::Numeric)?;
        let mut value = digits;
        match factor {
            Factor::Ten(exponent) => scale = scale.checked_add(exponent).ok_or(QuantityError::Numeric)?,
            Factor::Two(bits) => value = value.checked_mul(1_i128 << bits).ok_or(QuantityError::Numeric)?,
        }
        let mut nanos = if value == 0 {
            0
        } else {
            rescale(value, scale).ok_or(QuantityError::Numeric)?
        };
        let mut format = format;
        if format == Format::BinarySi {
            nanos = nanos.min(MAX_BINARY * NANO);
            if nanos < NANO && nanos > 0 {
                format = Format::DecimalSi;
            }
        }
        Ok(Self {
            nanos: if negative { -nanos } else { nanos },
            format,
        })
    }
}

/// `value * 10^scale`, rounded up. The value is not negative.
fn rescale(value: i128, scale: i32) -> Option<i128> {
    if scale >= 0 {
        10_i128.checked_pow(scale.unsigned_abs())?.checked_mul(value)
    } else {
        match 10_i128.checked_pow(scale.unsigned_abs()) {
            Some(divisor) => Some(value / divisor + i128::from(value % divisor != 0)),
            None => Some(1), // far below what can be expressed
        }
    }
}

impl Quantity {
    /// A whole number, written without suffix where possible.
    #[must_use]
    pub fn from_integer(value: i64) -> Self {
        Self {
            nanos: i128::from(value) * NANO,
            format: Format::DecimalSi,
        }
    }

    /// How the quantity is written.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// -1, 0 or 1.
    #[must_use]
    pub fn sign(&self) -> i64 {
        i64::try_from(self.nanos.signum()).unwrap_or_default()
    }

    /// Whether the value is zero.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// The value, if it is whole and fits.
    #[must_use]
    pub fn as_integer(&self) -> Option<i64> {
        (self.nanos % NANO == 0)
            .then(|| i64::try_from(self.nanos / NANO).ok())
            .flatten()
    }

    /// The value rounded up to a whole number, capped to what fits. This is what controllers take for a size in bytes.
    #[must_use]
    pub fn value(&self) -> i64 {
        self.round_up(NANO)
    }

    /// The value in thousandths, rounded up and capped: CPU in millicores.
    #[must_use]
    pub fn milli_value(&self) -> i64 {
        self.round_up(NANO / 1000)
    }

    fn round_up(&self, unit: i128) -> i64 {
        let rest = self.nanos % unit;
        // Away from zero.
        let rounded = self.nanos / unit + rest.signum();
        i64::try_from(rounded).unwrap_or(if rounded < 0 { i64::MIN } else { i64::MAX })
    }

    /// The value as a floating-point number.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // "approximate" is what is asked for
    pub fn as_f64(&self) -> f64 {
        self.nanos as f64 / NANO as f64
    }

    /// The sum, written like `self` unless that is zero. `None` when it is too large.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let format = if self.is_zero() { other.format } else { self.format };
        Some(Self {
            nanos: self.nanos.checked_add(other.nanos)?,
            format,
        })
    }

    /// The difference, written like `self` unless that is zero. `None` when it is too large.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.checked_add(Self {
            nanos: -other.nanos,
            ..other
        })
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, the largest suffix that allows that.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let small = self.nanos.abs() < 1024 * NANO;
        if self.format == Format::BinarySi && !small && self.nanos % NANO == 0 {
            let mut value = self.nanos / NANO;
            let mut suffix = "";
            for (name, _) in BINARY {
                if value % 1024 != 0 {
                    break;
                }
                value /= 1024;
                suffix = name;
            }
            return write!(f, "{value}{suffix}");
        }
        let mut value = self.nanos;
        let mut exponent = -9;
        while value % 1000 == 0 && (exponent < 18 || self.format == Format::DecimalExponent) {
            value /= 1000;
            exponent += 3;
        }
        if self.format == Format::DecimalExponent {
            return if exponent == 0 {
                write!(f, "{value}")
            } else {
                write!(f, "{value}e{exponent}")
            };
        }
        let suffix = DECIMAL
            .iter()
            .find(|(_, e)| *e == exponent)
            .map_or("", |(s, _)| *s);
        write!(f, "{value}{suffix}")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    fn parse(text: &str) -> Quantity {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    // The forms are those of resource.Quantity's own documentation and tests.
    #[rstest]
    #[case("0", "0")]
    #[case("0Ki", "0")]
    #[case("1", "1")]
    #[case("1.5", "1500m")]
    #[case("1500m", "1500m")]
    #[case("1000m", "1")]
    #[case("0.1", "100m")]
    #[case(".5", "500m")]
    #[case("5.", "5")]
    #[case("1000", "1k")]
    #[case("1024", "1024")]
    #[case("1024Ki", "1Mi")]
    #[case("1.5Gi", "1536Mi")]
    #[case("0.5Ki", "512")]
    #[case("1Ki", "1Ki")]
    #[case("1023", "1023")]
    #[case("0.3Mi", "314572800m")]
    #[case("1e3", "1e3")]
    #[case("1E3", "1e3")]
    #[case("12e6", "12e6")]
    #[case("100e-3", "100e-3")]
    #[case("1E", "1E")]
    #[case("-1.5", "-1500m")]
    #[case("+2", "2")]
    #[case("1n", "1n")]
    #[case("0.1n", "1n")]
    #[case("1.0000000001", "1000000001n")]
    #[case("3k", "3k")]
    #[case("9223372036854775807", "9223372036854775807")]
    fn canonical_forms(#[case] text: &str, #[case] expected: &str) {
        let quantity = parse(text);
        assert_eq!(quantity.to_string(), expected);
        assert_eq!(parse(expected), quantity, "the canonical form is the same value");
    }

    #[rstest]
    #[case("", QuantityError::Format)]
    #[case("1.1.M", QuantityError::Format)]
    #[case("1+1.0M", QuantityError::Format)]
    #[case("a", QuantityError::Format)]
    #[case("1 Gi", QuantityError::Format)]
    #[case("-", QuantityError::Numeric)]
    #[case(".", QuantityError::Numeric)]
    #[case("0.1mi", QuantityError::Suffix)]
    #[case("0.1am", QuantityError::Format)]
    #[case("1KI", QuantityError::Format)]
    #[case("1Kim", QuantityError::Suffix)]
    fn malformed(#[case] text: &str, #[case] expected: QuantityError) {
        assert_eq!(text.parse::<Quantity>().unwrap_err(), expected, "{text}");
    }

    #[test]
    fn arithmetic() {
        assert_eq!(parse("1Gi").checked_add(parse("1Gi")).unwrap().to_string(), "2Gi");
        assert_eq!(parse("0").checked_add(parse("1Gi")).unwrap().to_string(), "1Gi");
        assert_eq!(
            parse("500m").checked_sub(parse("1")).unwrap().to_string(),
            "-500m"
        );
        assert!(parse("1Gi") > parse("1G"));
        assert_eq!(parse("1").cmp(&parse("1000m")), Ordering::Equal);
        assert_eq!(parse("0.5").value(), 1);
        assert_eq!(parse("-0.5").value(), -1);
        assert_eq!(parse("250m").milli_value(), 250);
        assert_eq!(parse("1Ki").as_integer(), Some(1024));
        assert_eq!(parse("500m").as_integer(), None);
    }

    proptest! {
        #[test]
        fn canonical_form_is_stable(text in "[+-]?[0-9]{0,12}\\.?[0-9]{0,12}(Ki|Mi|Gi|m|k|M|e3|E|n|)") {
            if let Ok(quantity) = text.parse::<Quantity>() {
                let canonical = quantity.to_string();
                let again = parse(&canonical);
                prop_assert_eq!(again, quantity);
                prop_assert_eq!(again.to_string(), canonical);
            }
        }

        #[test]
        fn never_panics(text in "\\PC{0,24}") {
            let _ = text.parse::<Quantity>();
        }
    }
}
