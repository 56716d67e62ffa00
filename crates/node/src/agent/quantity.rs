//! Kubernetes' quantities as numbers.

/// A quantity in thousandths, rounded up. `None` when it is not one.
pub(crate) fn milli(text: &str) -> Option<i128> {
    const SUFFIXES: [(&str, i128, i128); 15] = [
        ("Ki", 1 << 10, 1),
        ("Mi", 1 << 20, 1),
        ("Gi", 1 << 30, 1),
        ("Ti", 1 << 40, 1),
        ("Pi", 1 << 50, 1),
        ("Ei", 1 << 60, 1),
        ("n", 1, 1_000_000_000),
        ("u", 1, 1_000_000),
        ("m", 1, 1000),
        ("k", 1000, 1),
        ("M", 1_000_000, 1),
        ("G", 1_000_000_000, 1),
        ("T", 1_000_000_000_000, 1),
        ("P", 1_000_000_000_000_000, 1),
        ("E", 1_000_000_000_000_000_000, 1),
    ];
    let text = text.trim();
    let (number, (_, times, over)) = SUFFIXES
        .iter()
        .find_map(|suffix| Some((text.strip_suffix(suffix.0)?, *suffix)))
        .unwrap_or((text, ("", 1, 1)));
    let (number, exponent) = match number.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, exponent.parse::<i32>().ok()?),
        None => (number, 0),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if !(-18..=18).contains(&exponent) || fraction.len() > 18 || whole.len() + fraction.len() == 0 {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = i32::try_from(fraction.len()).ok()? - exponent;
    let power = 10_i128.checked_pow(scale.unsigned_abs())?;
    let (above, below) = if scale >= 0 {
        (1000 * times, over * power)
    } else {
        (1000 * times * power, over)
    };
    let product = digits.checked_mul(above)?;
    Some((product + below - 1).div_euclid(below))
}

/// A quantity in whole units, rounded up; zero for what is none or negative.
pub(crate) fn whole(text: &str) -> u64 {
    let milli = milli(text).unwrap_or_default().max(0);
    u64::try_from((milli + 999) / 1000).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities() {
        for (text, expected) in [
            ("1", Some(1000)),
            ("100m", Some(100)),
            ("1.5", Some(1500)),
            ("64Mi", Some(67_108_864_000)),
            ("1k", Some(1_000_000)),
            ("1e3", Some(1_000_000)),
            ("12E", Some(12_000_000_000_000_000_000_000)),
            ("1n", Some(1)),
            ("0.5Gi", Some(536_870_912_000)),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(milli(text), expected, "{text}");
        }
        assert_eq!((whole("100m"), whole("2"), whole("-1")), (1, 2, 0));
    }
}
