//! `choreo completion`.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::exit::ExitStatus;
use crate::failure::Outcome;
use crate::output::Printer;

/// Arguments of `choreo completion`.
#[derive(Debug, clap::Args)]
#[command(after_help = "For example: source <(choreo completion bash)")]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(args: &Args, printer: &mut Printer) -> Outcome {
    let mut script = vec![];
    clap_complete::generate(args.shell, &mut Cli::command(), "choreo", &mut script);
    printer.text(String::from_utf8_lossy(&script))?;
    Ok(ExitStatus::Success)
}
