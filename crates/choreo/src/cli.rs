//! The command line.

use clap::{Parser, Subcommand};

use crate::commands::{
    apply, backup, cell, completion, convert, crds, decide, delete, describe, diff, doctor, exec, explain,
    freeze, get, history, kubeconfig, logs, manager, open, pipeline, port_forward, promote, render, restart,
    restore, rollback, run, scale, top, tree, up, validate, version, wait,
};
use crate::online::Connect;
use crate::output::ColorChoice;

const AFTER_HELP: &str = "\
Exit status:
  0  done
  1  failed, or something is not as it should be
  2  the command line is wrong
  3  what was waited for did not happen in time
  4  the object or kind that was named is not there
  5  no API server could be reached
     `exec` ends as the command did that it ran

Environment:
  KUBECONFIG       kubeconfig files, as for kubectl
  CHOREO_DATA_DIR  folder of `choreo up`
  NO_COLOR         no colour";

/// An internal developer platform in one binary.
#[derive(Debug, Parser)]
#[command(name = "choreo", version, after_help = AFTER_HELP, max_term_width = 100, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
    /// When to use colour; `auto` means on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: ColorChoice,
    /// Which server.
    #[command(flatten)]
    pub(crate) connect: Connect,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the platform: API server, controllers and a local data plane, in one process
    Up(up::Args),
    /// Run an image as a component, and say where it answers
    Run(Box<run::Args>),
    /// Show what a component's containers write
    Logs(logs::Args),
    /// Run a command in a component's container
    Exec(exec::Args),
    /// Reach a port of a component's pods from here
    PortForward(port_forward::Args),
    /// Show what components use of processors and memory
    Top(top::Args),
    /// Open a component's address in the browser
    Open(open::Args),
    /// Give a component new pods
    Restart(restart::Args),
    /// Say how many pods a component has in an environment
    Scale(scale::Args),
    /// Run the controllers on Kubernetes: one of several replicas acts, the others stand by
    Manager(manager::Args),
    /// Create or change objects from files; everything is checked before anything is written
    Apply(apply::Args),
    /// Show objects
    Get(get::Args),
    /// Show an object with its conditions, related objects and events
    Describe(describe::Args),
    /// Delete objects
    Delete(delete::Args),
    /// Wait until objects have a condition, or are gone
    Wait(wait::Args),
    /// Show what a component or project has become, down to the data plane, and why
    Tree(tree::Args),
    /// Ask a cell's network policies who may talk to whom
    Cell(cell::Args),
    /// Ask for what runs in one environment to run in the next
    Promote(promote::Args),
    /// Say yes to a promotion, or to its next step
    Approve(decide::ApproveArgs),
    /// Say no to a promotion, or stop its rollout
    Reject(decide::RejectArgs),
    /// Go back to what ran before in an environment
    Rollback(rollback::Args),
    /// Show environments in order, what runs where, and what waits for what
    Pipeline(pipeline::Args),
    /// Show who promoted what, when and why, and what became of it
    History(history::Args),
    /// Keep everything from being promoted to an environment
    Freeze(freeze::Args),
    /// Print the Kubernetes objects that files lead to, without a server
    Render(render::Args),
    /// Show what files would change, on a server or against other files
    Diff(diff::Args),
    /// Check this machine, and look for objects that nothing knows any more
    Doctor(doctor::Args),
    /// Check files without a server
    Validate(validate::Args),
    /// Rewrite older and short manifests as today's kinds
    Convert(convert::Args),
    /// Show the fields of a kind, without a server
    Explain(explain::Args),
    /// Print the custom resource definitions
    Crds(crds::Args),
    /// Print the path of the kubeconfig, or merge it into another one
    Kubeconfig(kubeconfig::Args),
    /// Write everything that a running platform has into one file
    Backup(backup::Args),
    /// Make a data folder from the file of a backup
    Restore(restore::Args),
    /// Print the version
    Version(version::Args),
    /// Print a completion script for a shell
    Completion(completion::Args),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }
}
