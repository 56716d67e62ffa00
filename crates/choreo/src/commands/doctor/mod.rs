//! `choreo doctor`.

mod machine;

use choreo_controllers::Embedded;
use choreo_controllers::doctor;

use crate::exit::ExitStatus;
use crate::failure::{Failure, Outcome};
use crate::online::{Connect, Session};
use crate::output::Printer;
use crate::text::count;

/// The logical cluster that is the local data plane.
const LOCAL: &str = "local";

/// Arguments of `choreo doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Says what is missing on this machine, and the command that helps. Then looks into every data plane for objects that carry the
platform's label and that no Release knows. Nothing is changed; each may be deleted by hand once it is clear that nobody needs it.")]
pub(crate) struct Args {}

pub(crate) async fn run(_: &Args, connect: &Connect, printer: &mut Printer) -> Outcome {
    let session = Session::open(connect).await?;
    // A cluster inside the process of `choreo up` is reached by the path of its own.
    let clusters = session.clone();
    let connector = Embedded::new(move |name| clusters.logical_cluster(name));
    // Whose local data plane it is not has none, and nothing to be told about it.
    if let Some(local) = session.in_logical_cluster(LOCAL)
        && let Ok(nodes) = local.get("/api/v1/nodes").await
    {
        // To simulate is a way to work: it does not make the platform ill.
        let mut missing = machine::of_nodes(&nodes);
        if !missing.is_empty() {
            let found = choreo_node::diagnose().await;
            missing.extend(found.into_iter().map(machine::Finding::from));
        }
        missing.extend(machine::open_to_containers(&nodes, &machine::listening()));
        machine::print(&missing, printer)?;
    }
    let findings = doctor::examine(&session.client(), &connector).await;
    let findings = findings.map_err(|error| Failure::new("cannot read the control plane").because(&error))?;
    let mut sick = false;
    for finding in &findings {
        match &finding.orphans {
            Err(why) => {
                sick = true;
                printer.line(format!("DataPlane {}: not looked at: {why}", finding.data_plane))?;
            }
            Ok(orphans) if orphans.is_empty() => printer.line(format!(
                "DataPlane {}: {}, all known",
                finding.data_plane,
                count(finding.objects, "object")
            ))?,
            Ok(orphans) => {
                sick = true;
                printer.line(format!(
                    "DataPlane {}: {}, of which no Release knows {}",
                    finding.data_plane,
                    count(finding.objects, "object"),
                    orphans.len()
                ))?;
                for orphan in orphans {
                    let belonged_to = match orphan.belonged_to.as_str() {
                        "" => String::new(),
                        whose => format!("   ({whose})"),
                    };
                    printer.line(format!("  {}{belonged_to}", orphan.object))?;
                }
            }
        }
    }
    if findings.is_empty() {
        printer.line("there is no data plane")?;
    }
    Ok(if sick {
        ExitStatus::Failure
    } else {
        ExitStatus::Success
    })
}
