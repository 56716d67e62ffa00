//! `choreo restart`.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use crate::exit::ExitStatus;
use crate::failure::Outcome;
use crate::online::Connect;
use crate::output::Printer;
use crate::running::{Place, Target};
use crate::text::parse_duration;

/// Arguments of `choreo restart`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Writes the time into `overrides.restartedAt` of the environment's binding. It becomes a revision of its own and reaches the pod
template, so that the pods are replaced as in any rollout, and nothing that heals drift takes it back.

For example: choreo restart greeter
             choreo restart greeter -e production --wait")]
pub(crate) struct Args {
    /// The component
    #[arg(value_name = "COMPONENT")]
    component: String,
    #[command(flatten)]
    target: Target,
    /// Wait until the new pods are ready
    #[arg(long)]
    wait: bool,
    /// How long to wait
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = parse_duration)]
    timeout: Duration,
}

pub(crate) async fn run(args: &Args, connect: &Connect, printer: &mut Printer) -> Outcome {
    let place = Place::find(&args.component, &args.target, connect).await?;
    place.check_long_running("restarted")?;
    // Seconds, as Kubernetes' own tools write it: two within one second are one.
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let changed = place.override_with(json!({"restartedAt": now})).await?;
    printer.line(format!("{} gets new pods", place.title()))?;
    if args.wait {
        place.settle(&changed, args.timeout, printer).await?;
        printer.line(format!("{} is ready", place.title()))?;
    } else {
        printer.note(format!(
            "`choreo tree component/{}` shows how far they are",
            place.component
        ))?;
    }
    Ok(ExitStatus::Success)
}
