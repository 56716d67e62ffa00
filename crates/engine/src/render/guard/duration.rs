//! Durations: what people write, and what the gateway's policies take (GEP-2257).

/// A duration such as `90s`, `1.5s`, `1h30m` or `1d`, in whole milliseconds; `None` when it is none, or not whole.
pub(super) fn milliseconds(text: &str) -> Option<u64> {
    let mut total: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let factor: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let mut value = whole.parse::<u64>().ok()?.checked_mul(factor)?;
        if !fraction.is_empty() {
            let scale = 10_u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
            let parts = fraction.parse::<u64>().ok()?.checked_mul(factor)?;
            if parts % scale != 0 {
                return None;
            }
            value = value.checked_add(parts / scale)?;
        }
        total = total.checked_add(value)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

/// Milliseconds as the gateway writes durations: at most five digits in each of the units.
pub(super) fn gateway(milliseconds: u64) -> Option<String> {
    let (seconds, ms) = (milliseconds / 1_000, milliseconds % 1_000);
    let (hours, minutes, seconds) = (seconds / 3_600, seconds % 3_600 / 60, seconds % 60);
    let mut out = String::new();
    for (value, unit) in [(hours, "h"), (minutes, "m"), (seconds, "s"), (ms, "ms")] {
        if value > 0 {
            out.push_str(&format!("{value}{unit}"));
        }
    }
    if out.is_empty() {
        out.push_str("0s");
    }
    (hours <= 99_999).then_some(out)
}

/// A written duration as the gateway writes it.
pub(super) fn exactly(field: &str, text: &str) -> Result<String, String> {
    milliseconds(text).and_then(gateway).ok_or_else(|| {
        format!("{field}: {text:?} is not a duration of whole milliseconds such as 250ms, 15s or 1m30s")
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::{gateway, milliseconds};

    #[rstest]
    #[case("1s", Some(1_000))]
    #[case("60s", Some(60_000))]
    #[case("1h30m", Some(5_400_000))]
    #[case("1d", Some(86_400_000))]
    #[case("1.5s", Some(1_500))]
    #[case("250ms", Some(250))]
    #[case("0.5ms", None)]
    #[case("", None)]
    #[case("10", None)]
    #[case("m", None)]
    #[case("1w", None)]
    #[case(".s", None)]
    fn durations(#[case] text: &str, #[case] expected: Option<u64>) {
        assert_eq!(milliseconds(text), expected);
    }

    #[test]
    fn written_in_the_largest_units() {
        assert_eq!(gateway(86_400_000).as_deref(), Some("24h"));
        assert_eq!(gateway(90_250).as_deref(), Some("1m30s250ms"));
        assert_eq!(gateway(0).as_deref(), Some("0s"));
        assert_eq!(gateway(u64::MAX), None);
    }
}
