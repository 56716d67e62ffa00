//! Finding and reading the files that `-f` names.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// The text of a file.
#[derive(Debug)]
pub(crate) struct Source {
    /// The path as it is shown, `<stdin>` for standard input.
    pub(crate) name: String,
    /// The text.
    pub(crate) text: String,
}

/// Reads files, the manifests of folders (sorted by name; those below only when `recursive`) and standard input (`-`).
pub(crate) fn read(paths: &[PathBuf], recursive: bool) -> Result<Vec<Source>, Failure> {
    let mut sources = vec![];
    for path in paths {
        if path.as_os_str() == "-" {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(|error| Failure::new("cannot read standard input").because(&error))?;
            sources.push(Source {
                name: "<stdin>".to_owned(),
                text,
            });
        } else if path.is_dir() {
            let mut files = vec![];
            collect(path, recursive, &mut files)?;
            if files.is_empty() {
                let failure = Failure::new(format!("there are no manifests in {}", path.display()))
                    .cause("no file there ends in .yaml, .yml or .json");
                return Err(if recursive {
                    failure
                } else {
                    failure.hint("--recursive looks into the folders below, too")
                });
            }
            for file in files {
                sources.push(read_file(&file)?);
            }
        } else {
            sources.push(read_file(path)?);
        }
    }
    Ok(sources)
}

fn read_file(path: &Path) -> Result<Source, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::new(format!("cannot read {}", path.display())).because(&error))?;
    Ok(Source {
        name: path.display().to_string(),
        text,
    })
}

fn collect(folder: &Path, recursive: bool, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let failed =
        |error: std::io::Error| Failure::new(format!("cannot read {}", folder.display())).because(&error);
    let entries = std::fs::read_dir(folder)
        .map_err(failed)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    let mut paths: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let hidden = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let manifest = path
            .extension()
            .is_some_and(|end| matches!(end.to_str(), Some("yaml" | "yml" | "json")));
        if hidden {
            continue;
        } else if path.is_dir() {
            if recursive {
                collect(&path, true, files)?;
            }
        } else if manifest {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_read_in_order_and_below_on_request() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("below")).unwrap();
        for file in ["b.yaml", "a.yml", "c.txt", ".hidden.yaml", "below/d.json"] {
            std::fs::write(folder.path().join(file), "x").unwrap();
        }
        let names = |recursive| -> Vec<String> {
            let sources = read(&[folder.path().to_owned()], recursive).unwrap();
            sources
                .iter()
                .map(|source| source.name.rsplit('/').next().unwrap().to_owned())
                .collect()
        };
        assert_eq!(names(false), ["a.yml", "b.yaml"]);
        assert_eq!(names(true), ["a.yml", "b.yaml", "d.json"]);
    }

    #[test]
    fn a_folder_without_manifests_is_a_mistake() {
        let folder = tempfile::tempdir().unwrap();
        let failure = read(&[folder.path().to_owned()], false).unwrap_err();
        assert!(failure.what.contains("no manifests"), "{failure:?}");
    }
}
