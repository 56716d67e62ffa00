//! The folder that everything of a local platform is in.

use std::path::PathBuf;

use crate::env_vars;

/// The folder that `choreo up` uses unless told otherwise, and that other commands look for a kubeconfig in: the one that
/// the environment names, else `choreo` in the user's data folder (`~/.local/share` on Linux).
pub(crate) fn default_data_dir() -> Option<PathBuf> {
    match std::env::var_os(env_vars::DATA_DIR) {
        Some(named) if !named.is_empty() => Some(named.into()),
        _ => directories::ProjectDirs::from("dev", "choreo", "choreo").map(|dirs| dirs.data_dir().to_owned()),
    }
}
