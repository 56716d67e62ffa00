//! Puts the definitions of `definitions/` into the program, without the white space that makes them readable.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, error::Error, fs};

use sha2::{Digest as _, Sha256};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("definitions");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    let mut code = String::from("&[\n");
    for file in files {
        let name = file
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let definition: serde_json::Value = serde_json::from_str(&fs::read_to_string(&file)?)
            .map_err(|error| format!("{}: {error}", file.display()))?;
        let kind = definition["spec"]["names"]["kind"].as_str().unwrap_or_default();
        let compact = serde_json::to_string(&definition)?;
        let digest = hex::encode(Sha256::digest(&compact));
        writeln!(
            code,
            "    Definition {{ name: {name:?}, kind: {kind:?}, digest: {digest:?}, json: {compact:?} }},"
        )?;
    }
    code.push(']');
    fs::write(Path::new(&env::var("OUT_DIR")?).join("definitions.rs"), code)?;
    Ok(())
}
