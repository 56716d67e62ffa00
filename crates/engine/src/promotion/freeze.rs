//! Freezes: times in which nothing is promoted to an environment.

use std::str::FromStr as _;

use choreo_api::v1alpha1::{Environment, EnvironmentFreeze};
use choreo_promotion::{Freeze, Millis, Text};
use croner::Cron;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use super::policy::milliseconds;

/// How soon a freeze whose form cannot be understood is looked at again.
const AGAIN: Millis = 60_000;

/// The freeze of an environment that is on, the one that lasts longest if there are several.
pub fn active(environment: &Environment, now: Millis) -> Option<Freeze> {
    let on = environment.spec.freezes.iter().filter_map(|f| frozen(f, now));
    on.max_by_key(|freeze| freeze.until.unwrap_or(Millis::MAX))
}

/// What is wrong with a freeze, as the end of a sentence.
///
/// # Errors
/// When its schedule or its time zone cannot be understood.
pub fn check(freeze: &EnvironmentFreeze) -> Result<(), String> {
    if let Some(schedule) = &freeze.schedule {
        crate::cron::check(schedule)?;
        Cron::from_str(schedule).map_err(|error| format!("{schedule:?} is not a schedule: {error}"))?;
    }
    zone(freeze).map(drop)
}

fn zone(freeze: &EnvironmentFreeze) -> Result<TimeZone, String> {
    match freeze.time_zone.as_deref() {
        None | Some("UTC" | "Etc/UTC") => Ok(TimeZone::UTC),
        Some(name) => TimeZone::get(name)
            .map_err(|_| format!("time zone {name:?} is not known where the controllers run")),
    }
}

fn frozen(freeze: &EnvironmentFreeze, now: Millis) -> Option<Freeze> {
    let named = |until| {
        Some(Freeze {
            name: Text::from(freeze.name.as_str()),
            until,
        })
    };
    let Some(schedule) = &freeze.schedule else {
        let from = freeze.from.as_ref().map(|t| t.0.as_millisecond());
        let until = freeze.until.as_ref().map(|t| t.0.as_millisecond());
        let on = from.is_none_or(|from| from <= now) && until.is_none_or(|until| now < until);
        return if on { named(until) } else { None };
    };
    // A freeze with a mistake is on: what it was to keep out would otherwise get in.
    let (Ok(cron), Ok(zone), Ok(at)) = (
        Cron::from_str(schedule),
        zone(freeze),
        Timestamp::from_millisecond(now),
    ) else {
        return named(Some(now + AGAIN));
    };
    let long = milliseconds(freeze.duration.as_deref().unwrap_or_default());
    let started = cron.find_previous_occurrence(&at.to_zoned(zone), true).ok()?;
    let end = started
        .timestamp()
        .checked_add(SignedDuration::from_millis(long))
        .ok()?
        .as_millisecond();
    if now < end { named(Some(end)) } else { None }
}
