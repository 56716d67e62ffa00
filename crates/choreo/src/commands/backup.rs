//! `choreo backup`.

use std::path::PathBuf;

use crate::exit::ExitStatus;
use crate::failure::{Failure, Outcome};
use crate::online::{Connect, Session};
use crate::output::Printer;

/// Arguments of `choreo backup`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The file has everything, Secrets included, as it was at one moment. `choreo restore` makes a data folder of it.\n\nFor example: choreo backup monday.backup"
)]
pub(crate) struct Args {
    /// The file to write; it must not be there yet
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(crate) async fn run(args: &Args, connect: &Connect, printer: &mut Printer) -> Outcome {
    let shown = args.file.display();
    if args.file.exists() {
        return Err(Failure::usage(format!("{shown} exists already")).hint("choose another name"));
    }
    let session = Session::open(connect).await?;
    let bytes = session.download("/backup", &args.file).await.map_err(|error| {
        let absent = error.not_found();
        let failure = error.failure("cannot make a backup");
        if absent {
            failure.hint("only `choreo up` can be backed up, and only by its context `choreo`")
        } else {
            failure
        }
    })?;
    printer.note(format!("wrote {shown} ({bytes} bytes)"))?;
    Ok(ExitStatus::Success)
}
