//! `choreo kubeconfig`.

use std::path::{Path, PathBuf};

use choreo_apiserver::private_file::write_private;
use kube::config::Kubeconfig;

use crate::exit::ExitStatus;
use crate::failure::{Failure, Outcome};
use crate::online::{Connect, kubeconfig_path};
use crate::output::Printer;

/// Arguments of `choreo kubeconfig`.
#[derive(Debug, clap::Args)]
#[command(after_help = "For example: export KUBECONFIG=$(choreo kubeconfig)")]
pub(crate) struct Args {
    /// Merge its contexts into this file, or into the one that kubectl uses; `choreo` becomes the current context
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "")]
    merge: Option<PathBuf>,
}

pub(crate) fn run(args: Args, connect: &Connect, printer: &mut Printer) -> Outcome {
    let Some(path) = connect.kubeconfig.clone().or_else(kubeconfig_path) else {
        return Err(Failure::new("the user has no home folder").hint("name the file with --kubeconfig"));
    };
    if !path.exists() {
        return Err(
            Failure::new(format!("there is no kubeconfig at {}", path.display())).hint(
                "`choreo up` writes it; with --data-dir it is in that folder, and --kubeconfig names it",
            ),
        );
    }
    let Some(target) = args.merge else {
        printer.line(path.display().to_string())?;
        return Ok(ExitStatus::Success);
    };
    let target = if target.as_os_str().is_empty() {
        users_own()?
    } else {
        target
    };
    merge(&path, &target)?;
    printer.note(format!(
        "merged the contexts of {} into {}",
        path.display(),
        target.display()
    ))?;
    Ok(ExitStatus::Success)
}

/// The file that kubectl writes to: the first of `KUBECONFIG`, else `~/.kube/config`.
fn users_own() -> Result<PathBuf, Failure> {
    let named = std::env::var_os(crate::env_vars::KUBECONFIG)
        .and_then(|list| std::env::split_paths(&list).find(|path| !path.as_os_str().is_empty()));
    let own = || directories::UserDirs::new().map(|dirs| dirs.home_dir().join(".kube").join("config"));
    named
        .or_else(own)
        .ok_or_else(|| Failure::new("the user has no home folder").hint("name the file: --merge FILE"))
}

fn merge(from: &Path, into: &Path) -> Result<(), Failure> {
    let read = |path: &Path| {
        Kubeconfig::read_from(path).map_err(|error| {
            Failure::new(format!("cannot read the kubeconfig {}", path.display())).because(&error)
        })
    };
    let ours = read(from)?;
    let mut merged = if into.exists() {
        read(into)?
    } else {
        Kubeconfig::default()
    };
    // Ours replace older ones of the same name, such as those of an earlier run.
    merged
        .clusters
        .retain(|old| !ours.clusters.iter().any(|new| new.name == old.name));
    merged
        .contexts
        .retain(|old| !ours.contexts.iter().any(|new| new.name == old.name));
    merged
        .auth_infos
        .retain(|old| !ours.auth_infos.iter().any(|new| new.name == old.name));
    merged.current_context.clone_from(&ours.current_context);
    let merged = merged
        .merge(ours)
        .map_err(|error| Failure::new("cannot merge the kubeconfigs").because(&error))?;
    let write = || -> std::io::Result<()> {
        if let Some(folder) = into.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let text = serde_saphyr::to_string(&merged).map_err(std::io::Error::other)?;
        write_private(into, text.as_bytes())
    };
    write().map_err(|error| Failure::new(format!("cannot write {}", into.display())).because(&error))
}
