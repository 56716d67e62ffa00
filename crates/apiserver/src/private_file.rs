//! Files that only their owner may read: private keys and kubeconfigs.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Writes `bytes` to `path` so that a reader sees the old or the new content and never a part of either, and so that
/// nobody but the owner can read it (mode 0600 where the system has modes).
///
/// The content is on disk when this returns: a file beside the target is written, synced and renamed over it. A file that says this
/// already, to its owner only, is left as it is, so that a start needs no room on a full disk.
///
/// # Errors
/// What the file system answered.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if is_private(path) && fs::read(path).is_ok_and(|known| known == bytes) {
        return Ok(());
    }
    let beside = beside(path);
    let result = write_and_sync(&beside, bytes).and_then(|()| fs::rename(&beside, path));
    if result.is_err() {
        // The first error is the one to tell; a leftover is only untidy.
        let _ = fs::remove_file(&beside);
    }
    result?;
    sync_folder_of(path)
}

/// A file that is written piece by piece, that nobody but its owner can read, and that gets its name when it is complete.
/// Dropped before that, it leaves nothing behind.
#[derive(Debug)]
pub struct PrivateFile {
    target: PathBuf,
    beside: PathBuf,
    file: fs::File,
    written: u64,
}

impl PrivateFile {
    /// Begins a file that will be called `target`.
    ///
    /// # Errors
    /// What the file system answered.
    pub fn create(target: &Path) -> io::Result<PrivateFile> {
        let beside = beside(target);
        Ok(PrivateFile {
            file: open_private(&beside)?,
            target: target.to_owned(),
            beside,
            written: 0,
        })
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// What the file system answered.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    /// Gives the file its name once it is on disk. Returns its size in bytes.
    ///
    /// # Errors
    /// What the file system answered.
    pub fn finish(self) -> io::Result<u64> {
        self.file.sync_all()?;
        fs::rename(&self.beside, &self.target)?;
        sync_folder_of(&self.target)?;
        Ok(self.written)
    }
}

impl Drop for PrivateFile {
    fn drop(&mut self) {
        // After `finish` there is none of that name any more; otherwise a leftover would only be untidy.
        let _ = fs::remove_file(&self.beside);
    }
}

/// Makes a folder, and those above it, that only its owner may enter (mode 0700 for the ones that it makes).
///
/// # Errors
/// What the file system answered.
pub fn create_private_dir(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// The name beside `path` that it is written under first; the process id keeps two writers apart.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.new", std::process::id()));
    path.with_file_name(name)
}

fn write_and_sync(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = open_private(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn open_private(path: &Path) -> io::Result<fs::File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // A leftover of a killed process with our id must not be in the way, and must not lend its mode.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    options.open(path)
}

/// Whether there is a file that only its owner may read.
#[cfg(unix)]
fn is_private(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o077 == 0)
}

#[cfg(not(unix))]
fn is_private(path: &Path) -> bool {
    path.is_file()
}

#[cfg(unix)]
fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder_of(_path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_the_content_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubeconfig");
        write_private(&path, b"one").unwrap();
        write_private(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn what_is_there_already_is_not_written_again() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubeconfig");
        let which = || fs::metadata(&path).unwrap().ino();
        write_private(&path, b"one").unwrap();
        let first = which();
        // As on a full disk: nothing new can be made here.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o500)).unwrap();
        write_private(&path, b"one").unwrap();
        assert_eq!(which(), first);
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        write_private(&path, b"two").unwrap();
        assert_ne!(which(), first);
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_read() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("a/pki");
        create_private_dir(&keys).unwrap();
        let path = keys.join("key");
        // A file that is there with a wider mode is replaced, not written into.
        fs::write(&path, b"old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        write_private(&path, b"secret").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        // Nor is it left readable because it says the same.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        write_private(&path, b"secret").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&keys).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
