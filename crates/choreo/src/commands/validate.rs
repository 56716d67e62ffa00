//! `choreo validate`.

use std::collections::BTreeMap;

use crate::exit::ExitStatus;
use crate::failure::Outcome;
use crate::offline::findings::{Finding, report};
use crate::offline::schemas::Schemas;
use crate::offline::whole::{render_world, world};
use crate::offline::{self, files::Filenames};
use crate::online::Connect;
use crate::output::Printer;
use crate::text::count;

/// Arguments of `choreo validate`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Checks syntax, fields and rules of each object, and all of them together with the defaults of `choreo up`.
Errors are FILE:LINE:COLUMN; what is merely missing, and may be on the server, is a warning.")]
pub(crate) struct Args {
    #[command(flatten)]
    files: Filenames,
    /// What is missing is an error, too: the files and the defaults are all there is
    #[arg(long)]
    strict: bool,
    /// Without the defaults that `choreo up` installs: the files say everything
    #[arg(long)]
    no_defaults: bool,
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
    let mut seen = BTreeMap::new();
    for manifest in &manifests {
        findings.extend(schemas.check(manifest));
        if !schemas.knows(&manifest.object) {
            let what = format!(
                "{} of {} is not checked: only the server knows it",
                manifest.kind(),
                manifest.api_version()
            );
            findings.push(Finding::warning(manifest.position("kind"), what));
        }
        let key = (manifest.kind(), manifest.namespace(), manifest.name());
        if let Some(first) = seen.insert(key, manifest.position("metadata.name")) {
            let what = format!(
                "metadata.name: {} {} is already at {first}",
                manifest.kind(),
                manifest.name()
            );
            findings.push(Finding::error(manifest.position("metadata.name"), what));
        }
    }
    // Objects that are wrong by themselves would only be told again in other words.
    if findings.iter().all(|finding| finding.warning) {
        let world = world(&manifests, &schemas, !args.no_defaults)?;
        findings.extend(render_world(&world, &manifests).1);
    }
    for finding in &mut findings {
        finding.warning &= !args.strict;
    }
    let warnings = findings.iter().filter(|finding| finding.warning).count();
    report(findings, "", printer)?;
    let warnings = if warnings > 0 {
        format!(", {}", count(warnings, "warning"))
    } else {
        String::new()
    };
    printer.line(format!("{} valid{warnings}", count(manifests.len(), "object")))?;
    Ok(ExitStatus::Success)
}
