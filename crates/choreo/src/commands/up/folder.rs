//! The data folder: made, checked and held by one process.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use choreo_apiserver::private_file::create_private_dir;
use choreo_store::{Store, StoreError};

use crate::failure::Failure;

/// The folder, and the store in it.
pub(crate) struct DataFolder {
    path: PathBuf,
    store: Store,
    /// Held for as long as we run; the store has a lock of its own when it is on disk.
    _lock: Option<File>,
    temporary: bool,
}

impl DataFolder {
    /// Makes the folder if need be and opens the store. `named` says that the user chose the folder.
    pub(crate) fn open(path: Option<PathBuf>, named: bool, in_memory: bool) -> Result<Self, Failure> {
        let temporary = in_memory && !named;
        let path = if temporary {
            std::env::temp_dir().join(format!("choreo-{}", std::process::id()))
        } else {
            path.ok_or_else(|| {
                Failure::new("the user has no home folder").hint("name a folder: --data-dir DIR")
            })?
        };
        create_private_dir(&path).map_err(|error| unusable(&path, &error))?;
        let (store, lock) = if in_memory {
            (Store::in_memory(), Some(lock(&path)?))
        } else {
            (
                Store::open(&path).map_err(|error| store_failure(&path, &error))?,
                None,
            )
        };
        Ok(Self {
            path,
            store,
            _lock: lock,
            temporary,
        })
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The store.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Where the kubeconfig goes.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.path.join("kubeconfig")
    }

    /// Where the certificates are.
    pub(crate) fn pki(&self) -> PathBuf {
        self.path.join("pki")
    }
}

impl Drop for DataFolder {
    fn drop(&mut self) {
        self.store.close();
        if self.temporary {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Holds a folder without a store on disk. The file is the store's own lock, so that both kinds of run see each other.
fn lock(path: &Path) -> Result<File, Failure> {
    let file_path = path.join("store.lock");
    let file = File::options()
        .read(true)
        .append(true)
        .create(true)
        .open(&file_path);
    let file = file.map_err(|error| unusable(&file_path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let holder = std::fs::read_to_string(&file_path).unwrap_or_default();
            let holder = holder.trim();
            Err(held(
                path,
                if holder.is_empty() {
                    "another process"
                } else {
                    holder
                },
            ))
        }
        Err(TryLockError::Error(error)) => Err(unusable(&file_path, &error)),
    }
}

fn held(path: &Path, holder: &str) -> Failure {
    Failure::new(format!(
        "the data folder {} is in use by {holder}",
        path.display()
    ))
    .hint("stop it first, or give this one another folder: --data-dir DIR")
}

fn unusable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("cannot write to {}", path.display()))
        .because(error)
        .hint("choose a folder that you may write to: --data-dir DIR")
}

fn store_failure(path: &Path, error: &StoreError) -> Failure {
    match error {
        StoreError::Held { holder, .. } => held(path, holder),
        StoreError::Damaged { path, detail } => {
            Failure::new(format!("the store {} is damaged", path.display()))
                .cause(detail)
                .hint("restore a backup of it, or move the file away to start empty")
        }
        StoreError::Unusable { path, source, .. } => unusable(path, source),
        other => Failure::new("cannot open the store").because(other),
    }
}
