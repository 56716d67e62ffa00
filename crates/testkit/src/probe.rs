//! The image that tests run: a static program of our own and nothing else.

use std::io;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::json;
use sha2::{Digest as _, Sha256};

/// Its name, once [`archive`] is loaded.
pub const IMAGE: &str = "localhost/choreo-test-probe:1";

/// An image's two parts: its configuration and its one layer.
pub(crate) struct Parts {
    pub(crate) config: Vec<u8>,
    pub(crate) layer: Vec<u8>,
}

/// Compiles the probe (`image/probe.rs`, which says what it can do).
pub(crate) fn parts() -> anyhow::Result<Parts> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("image/probe.rs");
    let folder = tempfile::tempdir()?;
    let program = folder.path().join("probe");
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let compiled = Command::new(compiler)
        .args([
            "--edition",
            "2024",
            "-O",
            "-C",
            "target-feature=+crt-static",
            "-C",
            "strip=symbols",
            "-o",
        ])
        .arg(&program)
        .arg(&source)
        .status()
        .context("start rustc")?;
    if !compiled.success() {
        bail!("{} does not compile", source.display());
    }
    let layer = layer(&program)?;
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }, "os": "linux",
        "config": {"Entrypoint": ["/probe"], "Cmd": ["serve"], "User": "1000:1000", "ExposedPorts": {"8080/tcp": {}}},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", digest(&layer))]},
    })
    .to_string();
    Ok(Parts {
        config: config.into_bytes(),
        layer,
    })
}

/// The probe's image as the archive that engines load.
///
/// # Errors
/// When there is no compiler, or it cannot link statically.
pub fn archive() -> anyhow::Result<Vec<u8>> {
    let Parts { config, layer } = parts()?;
    let (config_name, layer_name) = (
        format!("{}.json", digest(&config)),
        format!("{}.tar", digest(&layer)),
    );
    let manifest = json!([{"Config": config_name, "RepoTags": [IMAGE], "Layers": [layer_name]}]).to_string();
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in [
        (config_name.as_str(), config.as_slice()),
        ("manifest.json", manifest.as_bytes()),
        (layer_name.as_str(), &layer),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, bytes)?;
    }
    Ok(archive.into_inner()?)
}

/// The program, and a folder that anybody may write to.
fn layer(program: &Path) -> io::Result<Vec<u8>> {
    let mut layer = tar::Builder::new(Vec::new());
    layer.append_path_with_name(program, "probe")?;
    let mut folder = tar::Header::new_gnu();
    folder.set_entry_type(tar::EntryType::Directory);
    folder.set_mode(0o1777);
    folder.set_size(0);
    layer.append_data(&mut folder, "tmp", io::empty())?;
    layer.into_inner()
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
