//! `choreo crds`.

use serde_json::Value;

use crate::exit::ExitStatus;
use crate::failure::Outcome;
use crate::output::{Format, Printer, print_objects, yaml_documents};
use choreo_controllers::install;

/// Arguments of `choreo crds`.
#[derive(Debug, clap::Args)]
#[command(after_help = "For example: choreo crds | kubectl apply --server-side -f -")]
pub(crate) struct Args {
    /// The definitions of other projects that the local data plane has, instead of ours
    #[arg(long)]
    foreign: bool,
    /// Output format: yaml (documents), json (a list) or name
    #[arg(short, long, value_name = "FORMAT", default_value = "yaml")]
    output: Format,
}

pub(crate) fn run(args: &Args, printer: &mut Printer) -> Outcome {
    let definitions = if args.foreign {
        install::data_plane()
    } else {
        install::control_plane()
    };
    let values: Vec<Value> = definitions.iter().map(install::Definition::to_value).collect();
    let names: Vec<String> = definitions
        .into_iter()
        .map(|definition| definition.name)
        .collect();
    match args.output {
        Format::Json | Format::Name => print_objects(printer, args.output, values, false, &names)?,
        Format::Table | Format::Wide | Format::Yaml => printer.text(yaml_documents(&values)?)?,
    }
    Ok(ExitStatus::Success)
}
