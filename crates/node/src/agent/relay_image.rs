//! The image of relays and sandboxes: our own executable with the shared libraries that it maps, and nothing that is downloaded.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use futures::{StreamExt, stream};
use ring::digest::{Context as Digest, SHA256};
use serde_json::json;

use super::engine::{ContainerEngine, EngineError};

/// The repository that the images are in.
pub(crate) const REPOSITORY: &str = "localhost/choreo-relay";
/// Where the executable is in the image.
pub(crate) const PROGRAM: &str = "/choreo";

/// How much of the archive is sent at once.
const PIECE: usize = 256 << 10;

/// Makes sure that the engine has the image of this very executable, and gives its name.
pub(crate) async fn ensure(
    engine: &dyn ContainerEngine,
    executable: &Path,
    folder: &Path,
) -> Result<String, EngineError> {
    let failed = |error: io::Error| {
        EngineError::Refused(format!(
            "cannot make an image of {}: {error}",
            executable.display()
        ))
    };
    let tag = identity(executable).map_err(failed)?;
    let name = format!("{REPOSITORY}:{tag}");
    match engine.image(&name).await {
        Ok(_) => return Ok(name),
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error),
    }
    let (from, to) = (executable.to_owned(), folder.to_owned());
    let for_archive = name.clone();
    let archive = tokio::task::spawn_blocking(move || write(&from, &to, &for_archive))
        .await
        .map_err(|error| EngineError::Refused(error.to_string()))?
        .map_err(failed)?;
    let pieces = stream::try_unfold(archive, |mut archive| async move {
        let mut piece = vec![0; PIECE];
        let size = archive.read(&mut piece)?;
        piece.truncate(size);
        Ok((size > 0).then(|| (Bytes::from(piece), archive)))
    });
    engine.load(pieces.boxed()).await?;
    // Those of earlier builds go as soon as nothing uses them.
    for old in engine.images(&format!("{REPOSITORY}:")).await.unwrap_or_default() {
        if old != name {
            let _ = engine.remove_image(&old).await;
        }
    }
    Ok(name)
}

/// Something that is another one for another build. The contents would be a better one, and take long to read.
fn identity(executable: &Path) -> io::Result<String> {
    let meta = fs::metadata(executable)?;
    let text = format!(
        "{} {} {} {} {}",
        executable.display(),
        meta.len(),
        meta.mtime(),
        meta.mtime_nsec(),
        meta.ino()
    );
    let mut digest = Digest::new(&SHA256);
    digest.update(text.as_bytes());
    Ok(hex::encode(&digest.finish().as_ref()[..8]))
}

/// Writes a `docker-archive` into an unnamed file.
fn write(executable: &Path, folder: &Path, name: &str) -> io::Result<File> {
    let mut layer = tempfile::tempfile_in(folder)?;
    {
        let mut tar = tar::Builder::new(&layer);
        add(&mut tar, executable, PROGRAM.trim_start_matches('/'), 0o755)?;
        for (name, path) in libraries()? {
            add(&mut tar, &path, &format!("lib/{name}"), 0o755)?;
        }
        // The loader is looked for here on some machines.
        let mut header = header(tar::EntryType::Symlink, 0, 0o777);
        tar.append_link(&mut header, "lib64", "lib")?;
        let mut folder = header_of_folder();
        tar.append_data(&mut folder, "run/choreo", io::empty())?;
        tar.finish()?;
    }
    layer.seek(SeekFrom::Start(0))?;
    let (digest, size) = digest_of(&mut layer)?;
    let config = json!({
        "architecture": architecture(), "os": "linux",
        "config": {
            "Entrypoint": [PROGRAM],
            "Env": ["LD_LIBRARY_PATH=/lib"],
            "WorkingDir": "/",
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
        "history": [{"created_by": "choreo"}],
    })
    .to_string();
    let config_name = format!(
        "{}.json",
        hex::encode(ring::digest::digest(&SHA256, config.as_bytes()))
    );
    let layer_name = format!("{digest}.tar");
    let manifest = json!([{"Config": config_name, "RepoTags": [name], "Layers": [layer_name]}]).to_string();
    let mut archive = tempfile::tempfile_in(folder)?;
    {
        let mut tar = tar::Builder::new(&archive);
        for (name, text) in [(&config_name, &config), (&"manifest.json".to_owned(), &manifest)] {
            let mut header = header(tar::EntryType::Regular, text.len() as u64, 0o644);
            tar.append_data(&mut header, name, text.as_bytes())?;
        }
        layer.seek(SeekFrom::Start(0))?;
        let mut header = header(tar::EntryType::Regular, size, 0o644);
        tar.append_data(&mut header, &layer_name, &layer)?;
        tar.finish()?;
    }
    archive.flush()?;
    archive.seek(SeekFrom::Start(0))?;
    Ok(archive)
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn header(kind: tar::EntryType, size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(mode);
    header.set_mtime(0);
    header
}

fn header_of_folder() -> tar::Header {
    header(tar::EntryType::Directory, 0, 0o755)
}

fn add(tar: &mut tar::Builder<&File>, path: &Path, name: &str, mode: u32) -> io::Result<()> {
    let file = File::open(path)?;
    let mut header = header(tar::EntryType::Regular, file.metadata()?.len(), mode);
    tar.append_data(&mut header, name, file)
}

fn digest_of(file: &mut File) -> io::Result<(String, u64)> {
    let mut digest = Digest::new(&SHA256);
    let mut buffer = vec![0; PIECE];
    let mut total = 0;
    loop {
        let size = file.read(&mut buffer)?;
        if size == 0 {
            return Ok((hex::encode(digest.finish()), total));
        }
        digest.update(&buffer[..size]);
        total += size as u64;
    }
}

/// The shared libraries that this process has mapped, by every name that they go by in their folders. None where it is static.
fn libraries() -> io::Result<BTreeMap<String, PathBuf>> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let mapped = maps
        .lines()
        .filter_map(|line| line.split_ascii_whitespace().nth(5))
        .filter(|path| path.starts_with('/') && path.contains(".so"))
        .map(PathBuf::from);
    let mut found = BTreeMap::new();
    for path in mapped {
        let (Some(folder), Some(file)) = (path.parent(), path.file_name()) else {
            continue;
        };
        if found.contains_key(&*file.to_string_lossy()) {
            continue;
        }
        found.insert(file.to_string_lossy().into_owned(), path.clone());
        // Older systems name the file by its version, and link the name that programs ask for to it.
        for entry in fs::read_dir(folder)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            if is_link
                && name.contains(".so")
                && fs::canonicalize(entry.path()).is_ok_and(|real| real == path)
            {
                found.insert(name, path.clone());
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_has_the_program_and_what_it_needs() {
        let folder = tempfile::tempdir().unwrap();
        let executable = std::env::current_exe().unwrap();
        let archive = write(&executable, folder.path(), "localhost/choreo-relay:test").unwrap();
        let mut layers = Vec::new();
        let mut manifest = serde_json::Value::Null;
        for entry in tar::Archive::new(archive).entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            if name == "manifest.json" {
                manifest = serde_json::from_reader(&mut entry).unwrap();
            } else if name.ends_with(".tar") {
                let mut inner = tar::Archive::new(&mut entry);
                let names = inner.entries().unwrap();
                layers.extend(names.map(|entry| entry.unwrap().path().unwrap().display().to_string()));
            }
        }
        assert_eq!(manifest[0]["RepoTags"][0], "localhost/choreo-relay:test");
        assert!(layers.contains(&"choreo".to_owned()), "{layers:?}");
        let libc = layers.iter().any(|name| name.starts_with("lib/libc.so"));
        assert!(libc || libraries().unwrap().is_empty(), "{layers:?}");
    }

    #[test]
    fn the_identity_changes_with_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("program");
        fs::write(&file, "one").unwrap();
        let first = identity(&file).unwrap();
        assert_eq!(identity(&file).unwrap(), first);
        fs::write(&file, "another").unwrap();
        assert_ne!(identity(&file).unwrap(), first);
    }
}
