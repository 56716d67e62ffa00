//! One file per command.

pub(crate) mod apply;
pub(crate) mod backup;
pub(crate) mod cell;
pub(crate) mod completion;
pub(crate) mod convert;
pub(crate) mod crds;
pub(crate) mod decide;
pub(crate) mod delete;
pub(crate) mod describe;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod exec;
pub(crate) mod explain;
pub(crate) mod freeze;
pub(crate) mod get;
pub(crate) mod history;
pub(crate) mod kubeconfig;
pub(crate) mod logs;
pub(crate) mod manager;
pub(crate) mod open;
pub(crate) mod pipeline;
pub(crate) mod port_forward;
pub(crate) mod promote;
mod promotion;
pub(crate) mod render;
pub(crate) mod restart;
pub(crate) mod restore;
pub(crate) mod rollback;
pub(crate) mod run;
pub(crate) mod scale;
pub(crate) mod top;
pub(crate) mod tree;
pub(crate) mod up;
pub(crate) mod validate;
pub(crate) mod version;
pub(crate) mod wait;

use std::future::Future;

use crate::cli::{Cli, Command};
use crate::failure::{Failure, Outcome};
use crate::output::Printer;

/// Runs the command.
pub(crate) fn run(cli: Cli, printer: &mut Printer) -> Outcome {
    let connect = cli.connect;
    match cli.command {
        Command::Up(args) => up::run(&args, printer),
        Command::Run(args) => block_on(run::run(&args, &connect, printer)),
        Command::Logs(args) => block_on(logs::run(&args, &connect, printer)),
        Command::Exec(args) => block_on(exec::run(&args, &connect, printer)),
        Command::PortForward(args) => block_on(port_forward::run(&args, &connect, printer)),
        Command::Top(args) => block_on(top::run(&args, &connect, printer)),
        Command::Open(args) => block_on(open::run(&args, &connect, printer)),
        Command::Restart(args) => block_on(restart::run(&args, &connect, printer)),
        Command::Scale(args) => block_on(scale::run(&args, &connect, printer)),
        Command::Manager(args) => manager::run(&args, &connect),
        Command::Apply(args) => block_on(apply::run(&args, &connect, printer)),
        Command::Get(args) => block_on(get::run(&args, &connect, printer)),
        Command::Describe(args) => block_on(describe::run(&args, &connect, printer)),
        Command::Delete(args) => block_on(delete::run(&args, &connect, printer)),
        Command::Wait(args) => block_on(wait::run(&args, &connect, printer)),
        Command::Tree(args) => block_on(tree::run(&args, &connect, printer)),
        Command::Cell(args) => block_on(cell::run(&args, &connect, printer)),
        Command::Rollback(args) => block_on(rollback::run(&args, &connect, printer)),
        Command::Promote(args) => block_on(promote::run(&args, &connect, printer)),
        Command::Approve(args) => block_on(decide::approve(&args, &connect, printer)),
        Command::Reject(args) => block_on(decide::reject(&args, &connect, printer)),
        Command::Pipeline(args) => block_on(pipeline::run(&args, &connect, printer)),
        Command::History(args) => block_on(history::run(&args, &connect, printer)),
        Command::Freeze(args) => block_on(freeze::run(&args, &connect, printer)),
        Command::Render(args) => render::run(&args, &connect, printer),
        Command::Doctor(args) => block_on(doctor::run(&args, &connect, printer)),
        Command::Diff(args) => block_on(diff::run(&args, &connect, printer)),
        Command::Explain(args) => explain::run(&args, printer),
        Command::Validate(args) => validate::run(&args, &connect, printer),
        Command::Convert(args) => convert::run(&args, printer),
        Command::Crds(args) => crds::run(&args, printer),
        Command::Kubeconfig(args) => kubeconfig::run(args, &connect, printer),
        Command::Backup(args) => block_on(backup::run(&args, &connect, printer)),
        Command::Restore(args) => restore::run(&args, printer),
        Command::Version(args) => block_on(version::run(&args, &connect, printer)),
        Command::Completion(args) => completion::run(&args, printer),
    }
}

/// Clients need one thread only, and none to start.
fn block_on(command: impl Future<Output = Outcome>) -> Outcome {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new("cannot start").because(&error))?
        .block_on(command)
}
