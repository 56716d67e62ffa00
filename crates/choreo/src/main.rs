//! The `choreo` program: an internal developer platform in one binary.
//!
//! `main` reads the command line, runs one command and turns its outcome into an exit status. Each command is a file under
//! [`commands`]; what they share is [`online`] (talking to the API), [`offline`] (files in, objects out), [`running`]
//! (a component's pods) and [`output`].

mod cli;
mod commands;
mod data_dir;
mod env_vars;
mod exit;
mod failure;
mod offline;
mod online;
mod output;
mod running;
mod service;
mod text;

use choreo_allocator::Allocator;
use clap::Parser;

/// Objects are trees of small allocations that one thread makes and another one drops, which the system's allocator does slowly
/// and gives back late.
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> std::process::ExitCode {
    // Relays and sandboxes of cells are this program, too. There are many of them, so that they begin before anything else does.
    if let Some(status) = choreo_node::command(&std::env::args_os().collect::<Vec<_>>()) {
        return status;
    }
    // Before anything can open a connection: rustls panics at the first handshake when it has to guess a provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = cli::Cli::parse();
    let mut printer = output::Printer::new(cli.color);
    let status = match commands::run(cli, &mut printer) {
        Ok(status) => status,
        Err(failure) => printer.failure(&failure),
    };
    status.into()
}
