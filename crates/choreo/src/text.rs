//! Small pieces of text: durations, ages, near misses.

use jiff::{SignedDuration, Timestamp};

/// Parses `90s`, `5m`, `1h30m` or a plain number of seconds.
pub(crate) fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    let expected = || format!("`{text}` is no duration; write for example 30s, 5m or 1h30m");
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(std::time::Duration::from_secs(seconds));
    }
    let duration: SignedDuration = text.parse().map_err(|_| expected())?;
    std::time::Duration::try_from(duration).map_err(|_| expected())
}

/// An age as Kubernetes tools print it: the two leading units while they matter (`45s`, `5m10s`, `3h4m`, `12d`).
pub(crate) fn age(since: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(since).as_secs().max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |big: i64, unit: &str, small: i64, small_unit: &str| {
        if small == 0 {
            format!("{big}{unit}")
        } else {
            format!("{big}{unit}{small}{small_unit}")
        }
    };
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        () if hours < 3 => format!("{minutes}m"),
        () if hours < 8 => two(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if days < 8 => two(days, "d", hours % 24, "h"),
        () => format!("{days}d"),
    }
}

/// The candidate that `word` is most likely a typing error of, if one is near enough.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    let limit = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, &candidate.to_ascii_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replace = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

/// `1 object`, `2 objects`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{number} {noun}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[rstest::rstest]
    #[case("30s", Some(30))]
    #[case("1h30m", Some(5400))]
    #[case("0", Some(0))]
    #[case("15", Some(15))]
    #[case("-5s", None)]
    #[case("soon", None)]
    fn durations(#[case] text: &str, #[case] seconds: Option<u64>) {
        assert_eq!(parse_duration(text).ok(), seconds.map(Duration::from_secs));
    }

    #[rstest::rstest]
    #[case(0, "0s")]
    #[case(119, "119s")]
    #[case(120, "2m")]
    #[case(310, "5m10s")]
    #[case(3600, "60m")]
    #[case(4 * 3600, "4h")]
    #[case(4 * 3600 + 60, "4h1m")]
    #[case(30 * 3600, "30h")]
    #[case(3 * 86_400, "3d")]
    #[case(40 * 86_400, "40d")]
    fn ages(#[case] seconds: i64, #[case] expected: &str) {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        assert_eq!(age(now - SignedDuration::from_secs(seconds), now), expected);
    }

    #[test]
    fn near_misses() {
        let kinds = ["components", "workloads", "services"];
        assert_eq!(nearest("componets", kinds), Some("components"));
        assert_eq!(nearest("Service", kinds), Some("services"));
        assert_eq!(nearest("pods", kinds), None);
    }
}
