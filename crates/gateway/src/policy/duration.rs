//! Durations of the Gateway API (GEP-2257): up to four pairs of a number and a unit among `h`, `m`, `s`, `ms`.

use std::time::Duration;

/// Reads a duration; `0s` is one.
///
/// # Errors
/// When the text is of another form.
pub(crate) fn parse(text: &str, at: &str) -> Result<Duration, String> {
    read(text)
        .ok_or_else(|| format!("{at}: {text:?} is not a duration such as 1h, 30s or 1m500ms (GEP-2257)"))
}

fn read(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = 0u64;
    let mut pairs = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = (1..=5).contains(&digits).then(|| rest[..digits].parse().ok())??;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let scale = match &rest[..unit] {
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1_000,
            "ms" => 1,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(scale)?)?;
        rest = &rest[unit..];
        pairs += 1;
    }
    (1..=4).contains(&pairs).then(|| Duration::from_millis(total))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("1h", Some(3_600_000))]
    #[case("1m500ms", Some(60_500))]
    #[case("0s", Some(0))]
    #[case("90", None)]
    #[case("1.5s", None)]
    #[case("", None)]
    #[case("123456s", None)]
    fn durations_are_those_of_gep_2257(#[case] text: &str, #[case] milliseconds: Option<u64>) {
        assert_eq!(read(text), milliseconds.map(Duration::from_millis));
    }
}
