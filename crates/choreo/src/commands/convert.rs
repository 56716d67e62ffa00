//! `choreo convert`.

use serde_json::Value;

use crate::exit::ExitStatus;
use crate::failure::Outcome;
use crate::offline::files::{self, Filenames};
use crate::offline::findings::report;
use crate::output::{Format, Printer, to_json, yaml_documents};

/// Arguments of `choreo convert`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Reads the groups choreo.dev/v1 and choreo.dev/v1alpha1, ComponentV2, BuildV2, older names of fields and the short form of
Component, and prints the objects of openchoreo.dev/v1alpha1 that they stand for.")]
pub(crate) struct Args {
    #[command(flatten)]
    files: Filenames,
    /// Output format: yaml (documents) or json (a list)
    #[arg(short, long, value_name = "FORMAT", default_value = "yaml")]
    output: Format,
}

pub(crate) fn run(args: &Args, printer: &mut Printer) -> Outcome {
    let loaded = files::load(&args.files.filename, args.files.recursive)?;
    for note in &loaded.notes {
        printer.warning(note)?;
    }
    report(loaded.findings, "; nothing was converted", printer)?;
    let objects: Vec<Value> = loaded
        .manifests
        .into_iter()
        .map(|manifest| manifest.object)
        .collect();
    match args.output {
        Format::Json => printer.text(to_json(&Value::Array(objects))?)?,
        _ => printer.text(yaml_documents(&objects)?)?,
    }
    Ok(ExitStatus::Success)
}
