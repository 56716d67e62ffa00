//! `choreo render`.

use serde_json::Value;

use crate::exit::ExitStatus;
use crate::failure::{Failure, Outcome};
use crate::offline::findings::report;
use crate::offline::schemas::Schemas;
use crate::offline::whole::{released, render_world, world};
use crate::offline::{self, files::Filenames};
use crate::online::Connect;
use crate::output::{Format, Printer, print_objects, to_json, yaml_documents};

/// Arguments of `choreo render`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The objects are the ones that the platform applies for the same files, byte for byte.

For example: choreo render -f greeter.yaml -e development | kubectl diff -f -")]
pub(crate) struct Args {
    #[command(flatten)]
    files: Filenames,
    /// Only the objects of this environment
    #[arg(short, long, value_name = "NAME")]
    environment: Option<String>,
    /// Print what the platform derives in the control plane (artifacts, bindings, releases, ...) instead
    #[arg(long)]
    derived: bool,
    /// Without the defaults that `choreo up` installs: the files say everything
    #[arg(long)]
    no_defaults: bool,
    /// Output format: yaml (documents), json (a list) or name
    #[arg(short, long, value_name = "FORMAT", default_value = "yaml")]
    output: Format,
}

pub(crate) fn run(args: &Args, connect: &Connect, printer: &mut Printer) -> Outcome {
    let schemas = Schemas::load()?;
    let loaded = offline::load(
        &args.files.filename,
        args.files.recursive,
        &schemas,
        connect.namespace.as_deref(),
    )?;
    let (manifests, mut findings) = (loaded.manifests, loaded.findings);
    findings.extend(manifests.iter().flat_map(|manifest| schemas.check(manifest)));
    report(findings, "; nothing was rendered", printer)?;
    let world = world(&manifests, &schemas, !args.no_defaults)?;
    let (rendered, findings) = render_world(&world, &manifests);
    let in_environment = |release: &Value| {
        let own = release["spec"]["environmentName"]
            .as_str()
            .or_else(|| release["spec"]["environment"].as_str());
        args.environment
            .as_deref()
            .is_none_or(|wanted| own == Some(wanted))
    };
    let objects: Vec<Value> = if args.derived {
        rendered
            .objects
            .iter()
            .filter(|object| in_environment(object))
            .cloned()
            .collect()
    } else {
        released(&rendered)
            .filter(|(release, _)| in_environment(release))
            .map(|(_, object)| object.clone())
            .collect()
    };
    if let Some(wanted) = &args.environment
        && objects.is_empty()
        && findings.is_empty()
    {
        return Err(
            Failure::new(format!("nothing is deployed to environment {wanted}")).hint(
                "the first environment of a pipeline is deployed to by itself, the others by promotion",
            ),
        );
    }
    match args.output {
        Format::Json => printer.text(to_json(&Value::Array(objects))?)?,
        Format::Name => {
            let names: Vec<String> = objects.iter().map(name_of).collect();
            print_objects(printer, Format::Name, objects, false, &names)?;
        }
        Format::Table | Format::Wide | Format::Yaml => printer.text(yaml_documents(&objects)?)?,
    }
    report(findings, "; what they concern was not rendered", printer)?;
    Ok(ExitStatus::Success)
}

fn name_of(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let kind = text(&object["kind"]).to_lowercase();
    let group = object["apiVersion"]
        .as_str()
        .and_then(|version| version.split_once('/'))
        .map(|(group, _)| group);
    let group = group.map(|group| format!(".{group}")).unwrap_or_default();
    format!("{kind}{group}/{}", text(&object["metadata"]["name"]))
}
