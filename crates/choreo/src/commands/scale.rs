//! `choreo scale`.

use std::time::Duration;

use serde_json::json;

use crate::exit::ExitStatus;
use crate::failure::{Failure, Outcome};
use crate::online::Connect;
use crate::output::Printer;
use crate::running::{Place, Target};
use crate::text::{count, parse_duration};

/// Arguments of `choreo scale`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Writes `overrides.replicas` of the environment's binding, which is a revision of its own. The class's number counts again once
the field is gone: choreo scale greeter --reset

For example: choreo scale greeter 3
             choreo scale greeter 0 -e staging")]
pub(crate) struct Args {
    /// The component
    #[arg(value_name = "COMPONENT")]
    component: String,
    /// How many pods; 0 stops it and keeps everything else
    #[arg(value_name = "N", value_parser = clap::value_parser!(u16).range(0..=1000), required_unless_present = "reset")]
    replicas: Option<u16>,
    /// As many as the component's class says
    #[arg(long, conflicts_with = "replicas")]
    reset: bool,
    #[command(flatten)]
    target: Target,
    /// Wait until the pods are ready
    #[arg(long)]
    wait: bool,
    /// How long to wait
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = parse_duration)]
    timeout: Duration,
}

pub(crate) async fn run(args: &Args, connect: &Connect, printer: &mut Printer) -> Outcome {
    let place = Place::find(&args.component, &args.target, connect).await?;
    place.check_long_running("scaled")?;
    if let Some(scaler) = place.released("HorizontalPodAutoscaler").first() {
        let bound = |field: &str| scaler["spec"][field].as_i64().unwrap_or(1);
        return Err(Failure::new(format!("{} is scaled by its load", place.title()))
            .cause(format!(
                "an autoscaler keeps between {} and {} pods; a number would not count",
                bound("minReplicas"),
                bound("maxReplicas")
            ))
            .hint(format!(
                "change spec.overrides.autoscaling of {}",
                place.binding.name()
            )));
    }
    // A merge patch takes away what it says null of.
    let changed = place.override_with(json!({"replicas": args.replicas})).await?;
    let title = place.title();
    match args.replicas {
        Some(replicas) => printer.line(format!("{title} gets {}", count(usize::from(replicas), "pod")))?,
        None => printer.line(format!("{title} gets as many pods as its class says"))?,
    }
    if args.wait {
        place.settle(&changed, args.timeout, printer).await?;
        printer.line(format!("{title} is ready"))?;
    }
    Ok(ExitStatus::Success)
}
