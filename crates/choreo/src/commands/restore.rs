//! `choreo restore`.

use std::path::PathBuf;

use choreo_apiserver::private_file::create_private_dir;
use choreo_store::{Store, StoreError};

use crate::data_dir::default_data_dir;
use crate::exit::ExitStatus;
use crate::failure::{Failure, Outcome};
use crate::output::Printer;

/// Arguments of `choreo restore`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Certificates and kubeconfig of the folder stay, or are made anew by the next `choreo up`.\n\nFor example: choreo restore monday.backup --data-dir ~/restored && choreo up --data-dir ~/restored"
)]
pub(crate) struct Args {
    /// A file that `choreo backup` wrote
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Folder of the platform [default: the one that `choreo up` uses]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Restore over what the folder has; the old objects are kept beside the new ones
    #[arg(long)]
    replace: bool,
}

pub(crate) fn run(args: &Args, printer: &mut Printer) -> Outcome {
    let folder =
        args.data_dir.clone().or_else(default_data_dir).ok_or_else(|| {
            Failure::new("the user has no home folder").hint("name a folder: --data-dir DIR")
        })?;
    create_private_dir(&folder)
        .map_err(|error| Failure::new(format!("cannot make {}", folder.display())).because(&error))?;
    let aside = format!(
        "store.before-{}.redb",
        jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ")
    );
    let restored = if args.replace {
        Store::restore_over(&args.file, &folder, &aside)
    } else {
        Store::restore(&args.file, &folder)
    };
    restored.map_err(|error| explain(args, &error))?;
    printer.note(format!(
        "restored {} into {}",
        args.file.display(),
        folder.display()
    ))?;
    if folder.join(&aside).exists() {
        printer.note(format!(
            "what was there before is {}",
            folder.join(&aside).display()
        ))?;
    }
    Ok(ExitStatus::Success)
}

fn explain(args: &Args, error: &StoreError) -> Failure {
    let failure = Failure::new(format!("cannot restore {}", args.file.display()));
    match error {
        StoreError::Held { path, holder } => failure
            .cause(format!(
                "the data folder {} is in use by {holder}",
                path.display()
            ))
            .hint("stop it first, or restore into another folder: --data-dir DIR"),
        StoreError::TargetExists { path } => failure
            .cause(format!("{} exists already", path.display()))
            .hint("--replace keeps it under another name, --data-dir DIR restores into another folder"),
        other => failure.because(other),
    }
}
