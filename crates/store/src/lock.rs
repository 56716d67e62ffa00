//! One process per data folder.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    path::Path,
};

use crate::StoreError;

/// Name of the lock file in the data folder. It stays there; the lock is the operating system's, so that it ends with the process.
pub(crate) const FILE: &str = "store.lock";

/// Holds the lock until it is dropped.
pub(crate) struct FolderLock {
    _file: File,
}

impl FolderLock {
    pub(crate) fn acquire(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join(FILE);
        let unusable = |action, source| StoreError::Unusable {
            action,
            path: path.clone(),
            source,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|source| unusable("create", source))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Who it is only helps the reader; not knowing is no reason to fail differently.
                let _ = file.take(512).read_to_string(&mut holder);
                let holder = match holder.trim() {
                    "" => "another process".to_owned(),
                    known => known.to_owned(),
                };
                return Err(StoreError::Held {
                    path: folder.to_owned(),
                    holder,
                });
            }
            Err(TryLockError::Error(source)) => return Err(unusable("lock", source)),
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(holder().as_bytes())
        };
        write(&mut file).map_err(|source| unusable("write to", source))?;
        Ok(Self { _file: file })
    }
}

/// This process, for whoever finds the folder taken.
fn holder() -> String {
    let mut args = std::env::args();
    let program = args.next().unwrap_or_default();
    let program = Path::new(&program)
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    // The first word tells which command it is; the rest could hold secrets.
    let command = match args.next().filter(|arg| !arg.starts_with('-')) {
        Some(first) => format!("{program} {first}"),
        None => program,
    };
    format!("process {} ({command})", std::process::id())
}
