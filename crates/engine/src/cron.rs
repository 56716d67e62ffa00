//! Schedules in the form that Kubernetes takes: five fields, or a word such as `@hourly`.
//!
//! Kubernetes refuses a CronJob with a malformed schedule when it is applied; here it is found when somebody writes it.
//! The form is that of the cron library that Kubernetes uses: names of months and days, lists, ranges and steps.

/// One of the five fields: its name, its bounds, and the names that stand for numbers.
struct Field {
    name: &'static str,
    first: u8,
    last: u8,
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field {
        name: "minute",
        first: 0,
        last: 59,
        names: &[],
    },
    Field {
        name: "hour",
        first: 0,
        last: 23,
        names: &[],
    },
    Field {
        name: "day of month",
        first: 1,
        last: 31,
        names: &[],
    },
    Field {
        name: "month",
        first: 1,
        last: 12,
        names: &[
            "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
        ],
    },
    Field {
        name: "day of week",
        first: 0,
        last: 6,
        names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    },
];

const WORDS: [&str; 7] = [
    "@yearly",
    "@annually",
    "@monthly",
    "@weekly",
    "@daily",
    "@midnight",
    "@hourly",
];

/// Whether a text is a schedule.
///
/// # Errors
/// What is wrong with it, as the end of a sentence.
pub(crate) fn check(schedule: &str) -> Result<(), String> {
    let failed = |why: &str| Err(format!("{schedule:?} is not a schedule: {why}"));
    if schedule.starts_with('@') {
        return if WORDS.contains(&schedule) {
            Ok(())
        } else {
            failed(&format!("known words are {}", WORDS.join(", ")))
        };
    }
    if schedule.contains("TZ=") {
        return failed("a time zone is given in timeZone");
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return failed(&format!(
            "it has {} fields instead of 5: minute, hour, day of month, month, day of week",
            fields.len()
        ));
    }
    for (text, field) in fields.iter().zip(&FIELDS) {
        for item in text.split(',') {
            if let Err(why) = field.check(item) {
                return failed(&format!("{} {item:?}: {why}", field.name));
            }
        }
    }
    Ok(())
}

impl Field {
    /// One item of a list: `*`, a number or name, or a range, with a step if need be.
    fn check(&self, item: &str) -> Result<(), String> {
        let (range, step) = item
            .split_once('/')
            .map_or((item, None), |(range, step)| (range, Some(step)));
        if let Some(step) = step
            && step.parse::<u8>().ok().filter(|step| *step > 0).is_none()
        {
            return Err("the step must be a number above 0".to_owned());
        }
        if matches!(range, "*" | "?") {
            return Ok(());
        }
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (self.number(first)?, self.number(last)?);
        if first > last {
            return Err("the range ends before it begins".to_owned());
        }
        Ok(())
    }

    fn number(&self, text: &str) -> Result<u8, String> {
        let lower = text.to_ascii_lowercase();
        let named = self.names.iter().position(|name| *name == lower);
        if let Some(position) = named.and_then(|p| u8::try_from(p).ok()) {
            return Ok(position + self.first);
        }
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse()
            .ok()
            .filter(|n| digits && (self.first..=self.last).contains(n))
            .ok_or_else(|| format!("expected a number from {} to {}", self.first, self.last))
    }
}

/// Whether a text has the form of a time zone's name. Which ones there are, the cluster knows.
///
/// # Errors
/// What is wrong with it, as the end of a sentence.
pub(crate) fn check_time_zone(zone: &str) -> Result<(), String> {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic())
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'+' | b'-'))
    };
    if zone.eq_ignore_ascii_case("local") || !zone.split('/').all(part) {
        return Err(format!(
            "{zone:?} is not a time zone: expected a name such as Europe/Berlin or UTC"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("*/5 * * * *")]
    #[case("0 3 1-7 JAN,jul mon-FRI")]
    #[case("0 0 ? * 0")]
    #[case("5/15 0-23/2 * * *")]
    #[case("@hourly")]
    fn schedules(#[case] text: &str) {
        assert_eq!(check(text), Ok(()));
    }

    #[rstest]
    #[case("* * * *", "4 fields")]
    #[case("60 * * * *", "minute \"60\": expected a number from 0 to 59")]
    #[case("* * 0 * *", "day of month \"0\"")]
    // Kubernetes' library has no day 7.
    #[case("* * * * 7", "day of week \"7\": expected a number from 0 to 6")]
    #[case("*/0 * * * *", "the step must be a number above 0")]
    #[case("30-10 * * * *", "the range ends before it begins")]
    #[case("* +1 * * *", "expected a number")]
    #[case("CRON_TZ=UTC * * * * *", "timeZone")]
    #[case("@often", "known words")]
    #[case("", "0 fields")]
    fn not_schedules(#[case] text: &str, #[case] why: &str) {
        let error = check(text).unwrap_err();
        assert!(error.contains(why), "{error}");
    }

    #[test]
    fn time_zones() {
        for zone in [
            "UTC",
            "Europe/Berlin",
            "America/Argentina/Buenos_Aires",
            "Etc/GMT+5",
        ] {
            assert_eq!(check_time_zone(zone), Ok(()));
        }
        for zone in ["", "Local", "Europe/", "../etc/passwd", "Europe Berlin"] {
            assert!(check_time_zone(zone).is_err(), "{zone}");
        }
    }
}
