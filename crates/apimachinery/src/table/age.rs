//! Spans of time as `kubectl` shows them.

use jiff::Timestamp;
use serde_json::Value;

/// A span in seconds, short: two units at most, and the smaller only where the larger is small.
///
/// ```
/// use choreo_apimachinery::table::human_duration;
/// assert_eq!(human_duration(90), "90s");
/// assert_eq!(human_duration(600), "10m");
/// assert_eq!(human_duration(3600 * 30), "30h");
/// assert_eq!(human_duration(86400 * 400), "400d");
/// ```
#[must_use]
pub fn human_duration(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let two = |large: i64, large_unit: &str, small: i64, small_unit: &str| {
        if small == 0 {
            format!("{large}{large_unit}")
        } else {
            format!("{large}{large_unit}{small}{small_unit}")
        }
    };
    match seconds {
        // A clock that is a little ahead makes things look as if they were from the future.
        s if s < -1 => "<invalid>".to_owned(),
        s if s < 0 => "0s".to_owned(),
        s if s < 2 * MINUTE => format!("{s}s"),
        s if s < 10 * MINUTE => two(s / MINUTE, "m", s % MINUTE, "s"),
        s if s < 3 * HOUR => format!("{}m", s / MINUTE),
        s if s < 8 * HOUR => two(s / HOUR, "h", s % HOUR / MINUTE, "m"),
        s if s < 2 * DAY => format!("{}h", s / HOUR),
        s if s < 8 * DAY => two(s / DAY, "d", s % DAY / HOUR, "h"),
        s if s < 2 * YEAR => format!("{}d", s / DAY),
        s if s < 8 * YEAR => two(s / YEAR, "y", s % YEAR / DAY, "d"),
        s => format!("{}y", s / YEAR),
    }
}

/// How long ago a moment was.
pub(crate) fn since(then: Timestamp, now: Timestamp) -> String {
    human_duration(now.as_second() - then.as_second())
}

/// How long ago the moment in this text was; `<unknown>` without one.
pub(crate) fn since_text(text: Option<&str>, now: Timestamp) -> String {
    match text.map(str::parse::<Timestamp>) {
        None => "<unknown>".to_owned(),
        Some(Err(_)) => "<invalid>".to_owned(),
        Some(Ok(then)) => since(then, now),
    }
}

/// The age of an object.
pub(crate) fn age(object: &Value, now: Timestamp) -> Value {
    since_text(
        object
            .pointer("/metadata/creationTimestamp")
            .and_then(Value::as_str),
        now,
    )
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_print_as_kubectl_prints_them() {
        // The cases are those of k8s.io/apimachinery/pkg/util/duration.
        let minute = 60;
        let hour = 60 * minute;
        let day = 24 * hour;
        let year = 365 * day;
        for (seconds, expected) in [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (1, "1s"),
            (70, "70s"),
            (119, "119s"),
            (120, "2m"),
            (190, "3m10s"),
            (10 * minute, "10m"),
            (70 * minute, "70m"),
            (3 * hour - 1, "179m"),
            (3 * hour, "3h"),
            (4 * hour + 30 * minute, "4h30m"),
            (8 * hour, "8h"),
            (47 * hour, "47h"),
            (2 * day, "2d"),
            (2 * day + 3 * hour, "2d3h"),
            (8 * day - 1, "7d23h"),
            (8 * day, "8d"),
            (370 * day, "370d"),
            (2 * year + 365 * day / 2, "2y182d"),
            (2 * year, "2y"),
            (8 * year, "8y"),
        ] {
            assert_eq!(human_duration(seconds), expected, "{seconds}");
        }
    }
}
