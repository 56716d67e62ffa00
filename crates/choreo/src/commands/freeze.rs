//! `choreo freeze`.

use std::time::Duration;

use choreo_api::v1alpha1::{Environment, EnvironmentFreeze};
use choreo_engine::promotion::freeze;
use http::Method;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::promotion::{MANAGER, kind};
use crate::exit::ExitStatus;
use crate::failure::{Failure, Outcome};
use crate::online::{Body, Connect, Kinds, Session};
use crate::output::Printer;
use crate::text::parse_duration;

/// The freeze that this command makes, if it is given no name.
const MANUAL: &str = "manual";

/// Arguments of `choreo freeze`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
While an environment is frozen nothing is promoted to it, but for emergencies and ways back. Freezes that come again are
in spec.freezes of the Environment, with a schedule and a time zone.

For example: choreo freeze production --for 2h -m 'audit'
             choreo freeze production --list
             choreo freeze production --off")]
pub(crate) struct Args {
    /// The environment
    #[arg(value_name = "ENVIRONMENT")]
    environment: String,
    /// For how long [default: until --off]
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    long: Option<Duration>,
    /// What it is called
    #[arg(long, value_name = "NAME", default_value = MANUAL)]
    name: String,
    /// What for
    #[arg(long, short = 'm', value_name = "TEXT")]
    reason: Option<String>,
    /// End it
    #[arg(long, conflicts_with_all = ["long", "list"])]
    off: bool,
    /// Only show the freezes
    #[arg(long)]
    list: bool,
}

pub(crate) async fn run(args: &Args, connect: &Connect, printer: &mut Printer) -> Outcome {
    let session = Session::open(connect).await?;
    let kinds = Kinds::fetch(&session).await?;
    let kind = kind(&kinds, "Environment")?;
    let path = kind.path(Some(&session.namespace), Some(&args.environment));
    let title = kind.title_of(&args.environment);
    let live = session
        .get(&path)
        .await
        .map_err(|error| error.failure(format!("cannot get {title}")))?;
    let environment: Environment = serde_json::from_value(live.clone())
        .map_err(|error| Failure::new(format!("cannot read {title}")).because(&error))?;
    let now = Timestamp::now();
    if args.list {
        for one in &environment.spec.freezes {
            let when = match (&one.schedule, &one.until) {
                (Some(schedule), _) => format!(
                    "{schedule} for {} ({})",
                    one.duration.as_deref().unwrap_or_default(),
                    one.time_zone.as_deref().unwrap_or("UTC")
                ),
                (None, Some(until)) => format!("until {}", until.0),
                (None, None) => "until it is ended".to_owned(),
            };
            printer.line(format!(
                "{:<20} {when}  {}",
                one.name,
                one.reason.as_deref().unwrap_or_default()
            ))?;
        }
        let active = freeze::active(&environment, now.as_millisecond());
        printer.line(match active {
            Some(active) => format!("{title} is frozen by {:?}", &*active.name),
            None => format!("{title} is not frozen"),
        })?;
        return Ok(ExitStatus::Success);
    }
    let mut freezes: Vec<EnvironmentFreeze> = environment.spec.freezes.clone();
    let before = freezes.len();
    freezes.retain(|one| one.name != args.name);
    if args.off && freezes.len() == before {
        printer.line(format!("{title} has no freeze {:?}", args.name))?;
        return Ok(ExitStatus::Success);
    }
    let until = match args.long {
        None => None,
        Some(long) => {
            let long = SignedDuration::try_from(long)
                .map_err(|error| Failure::usage("--for is too long").because(&error))?;
            Some(
                now.checked_add(long)
                    .map_err(|error| Failure::usage("--for is too long").because(&error))?,
            )
        }
    };
    let mut objects: Vec<Value> = freezes.iter().map(|one| json!(one)).collect();
    if !args.off {
        let mut own = json!({"name": args.name});
        if let Some(until) = until {
            own["until"] = json!(until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        }
        if let Some(reason) = &args.reason {
            own["reason"] = json!(reason);
        }
        objects.push(own);
    }
    let operations = json!([
        {"op": "test", "path": "/metadata/resourceVersion", "value": live["metadata"]["resourceVersion"]},
        {"op": "add", "path": "/spec/freezes", "value": objects},
    ]);
    session
        .send(
            Method::PATCH,
            &format!("{path}?fieldManager={MANAGER}"),
            Body::Patch(operations),
        )
        .await
        .map_err(|error| error.failure(format!("cannot change {title}")))?;
    printer.line(match (args.off, until) {
        (true, _) => format!("{title} is not frozen by {:?} any more", args.name),
        (false, Some(until)) => format!("{title} is frozen until {}", until.strftime("%Y-%m-%dT%H:%M:%SZ")),
        (false, None) => format!(
            "{title} is frozen until `choreo freeze {} --off`",
            args.environment
        ),
    })?;
    Ok(ExitStatus::Success)
}
