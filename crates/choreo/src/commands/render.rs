//! `choreo render`.

use crate::failure::{Failure, Outcome};
use crate::online::Connect;
use crate::output::Printer;

/// Arguments of `choreo render`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: Args, _connect: &Connect, _printer: &mut Printer) -> Outcome {
    Err(Failure::new("not there yet"))
}
