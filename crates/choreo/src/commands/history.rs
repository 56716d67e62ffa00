//! `choreo history`.

use choreo_api::v1alpha1::Promotion;
use jiff::Timestamp;
use kube::ResourceExt as _;

use super::promotion::show;
use crate::exit::ExitStatus;
use crate::failure::{Failure, Outcome};
use crate::online::{Connect, Kinds, Session, world};
use crate::output::{Column, Printer, Table};
use crate::text::age;

/// Arguments of `choreo history`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Who promoted what, when and why, and what became of it; with the name of a promotion, everything about it.

For example: choreo history
             choreo history greeter -e production
             choreo history greeter-production-019a3c")]
pub(crate) struct Args {
    /// A component or a promotion [default: all components]
    #[arg(value_name = "COMPONENT|PROMOTION")]
    what: Option<String>,
    /// Only promotions to this environment
    #[arg(long, short, value_name = "NAME")]
    environment: Option<String>,
}

pub(crate) async fn run(args: &Args, connect: &Connect, printer: &mut Printer) -> Outcome {
    let session = Session::open(connect).await?;
    let kinds = Kinds::fetch(&session).await?;
    let world = world(&session, &kinds).await?;
    let namespace = session.namespace.as_str();
    if let Some(word) = &args.what {
        let word = word.strip_prefix("promotion/").unwrap_or(word);
        if let Some(promotion) = world.get::<Promotion>(namespace, word) {
            let object = serde_json::to_value(promotion.as_ref()).unwrap_or_default();
            show(&object, printer)?;
            printer.line("history")?;
            for event in promotion.status.iter().flat_map(|status| &status.history) {
                let time = event.time.as_ref().map(|t| t.0.to_string()).unwrap_or_default();
                let phase = format!("{:?}", event.phase);
                printer.line(format!("  {time}  {phase:<16} {}", event.message))?;
            }
            return Ok(ExitStatus::Success);
        }
    }
    let mut all: Vec<&Promotion> = world
        .in_namespace::<Promotion>(namespace)
        .map(AsRef::as_ref)
        .filter(|p| {
            args.what
                .as_deref()
                .is_none_or(|what| p.spec.owner.component_name == what)
        })
        .filter(|p| {
            args.environment
                .as_deref()
                .is_none_or(|e| p.spec.target_environment == e)
        })
        .collect();
    all.sort_by_cached_key(|p| {
        let (order, ..) = choreo_engine::promotion::place_of(&world, p);
        let lane = choreo_engine::promotion::LaneKey::of(p);
        // Each lane has an order of its own; among lanes there is only the time.
        (p.metadata.creation_timestamp.as_ref().map(|t| t.0), lane, order)
    });
    if all.is_empty() {
        if let Some(what) = &args.what {
            return Err(Failure::new(format!("nothing of {what} was promoted yet"))
                .status(ExitStatus::NotFound)
                .hint("`choreo promote` asks for a promotion"));
        }
        printer.note("nothing was promoted yet")?;
        return Ok(ExitStatus::Success);
    }
    let titles = [
        "promotion",
        "from",
        "to",
        "artifact",
        "phase",
        "by",
        "approved by",
        "age",
        "why",
    ];
    let mut table = Table::new(titles.map(Column::new).to_vec());
    for promotion in all {
        let status = promotion.status.clone().unwrap_or_default();
        let created = promotion.metadata.creation_timestamp.as_ref().map(|t| t.0);
        let mut phase = format!("{:?}", status.phase.unwrap_or_default());
        if let Some(reason) = &status.reason {
            phase += &format!(" ({reason})");
        }
        if status.bypass.is_some() {
            phase += " BYPASSED";
        }
        table.row([
            promotion.name_any(),
            promotion
                .spec
                .source_environment
                .clone()
                .unwrap_or_else(|| "(back)".to_owned()),
            promotion.spec.target_environment.clone(),
            status.artifact.unwrap_or_default(),
            phase,
            promotion.spec.requested_by.clone().unwrap_or_default(),
            status.approved_by.join(", "),
            created
                .map(|created| age(created, Timestamp::now()))
                .unwrap_or_default(),
            promotion.spec.reason.clone().unwrap_or_default(),
        ]);
    }
    printer.text(table.render())?;
    Ok(ExitStatus::Success)
}
