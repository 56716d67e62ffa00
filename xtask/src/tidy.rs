//! The repository's rules, as tests: what a crate must not depend on, what must not be in the lock file, how long a file may get, and that documents point at files that exist.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use crate::steps::root;

/// Past this many lines a file has more than one subject.
const MAX_LINES: usize = 900;

/// Crates that must never be linked: a second crypto provider, C libraries, and YAML libraries without a maintainer.
const BANNED: [&str; 7] = [
    "aws-lc-rs",
    "aws-lc-sys",
    "openssl-sys",
    "native-tls",
    "libsqlite3-sys",
    "serde_yaml",
    "serde_yml",
];

/// Crates whose types cross our interfaces: two versions of one would not fit together.
const ONE_VERSION: [&str; 10] = [
    "kube",
    "kube-core",
    "k8s-openapi",
    "rustls",
    "ring",
    "cel",
    "schemars",
    "json-patch",
    "redb",
    "serde-saphyr",
];

/// For each crate, dependencies that its place in the architecture forbids (see ARCHITECTURE.md).
const FORBIDDEN: &[(&str, &[&str])] = &[
    (
        "api",
        &[
            "tokio",
            "axum",
            "hyper",
            "redb",
            "choreo-engine",
            "choreo-controllers",
            "choreo-apiserver",
        ],
    ),
    (
        "apimachinery",
        &[
            "tokio",
            "axum",
            "hyper",
            "redb",
            "futures",
            "choreo-api",
            "choreo-store",
            "cel",
        ],
    ),
    ("cel", &["tokio", "choreo-api", "choreo-apimachinery"]),
    (
        "store",
        &[
            "axum",
            "hyper",
            "http",
            "kube",
            "k8s-openapi",
            "choreo-api",
            "choreo-apimachinery",
        ],
    ),
    (
        "apiserver",
        &["choreo-api", "choreo-engine", "choreo-controllers", "cel"],
    ),
    (
        "engine",
        &[
            "tokio",
            "axum",
            "hyper",
            "redb",
            "rand",
            "choreo-store",
            "choreo-apiserver",
            "choreo-controllers",
            "cel",
        ],
    ),
    (
        "controllers",
        &["axum", "hyper", "redb", "choreo-store", "choreo-apiserver", "cel"],
    ),
    (
        "gateway",
        &[
            "choreo-api",
            "choreo-engine",
            "choreo-controllers",
            "choreo-node",
            "choreo-store",
            "choreo-apiserver",
        ],
    ),
    (
        "node",
        &[
            "choreo-gateway",
            "choreo-api",
            "choreo-engine",
            "choreo-controllers",
            "choreo-store",
        ],
    ),
    (
        "pod-access",
        &["kube", "choreo-apimachinery", "choreo-apiserver", "choreo-node"],
    ),
    (
        "reach",
        &["tokio", "kube", "k8s-openapi", "choreo-api", "choreo-engine"],
    ),
    ("choreo", &["redb", "cel", "choreo-testkit"]),
];

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn files_below(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            let name = entry.file_name();
            if path.is_dir() {
                if name != "target" && name != ".git" {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// `[section]` -> the names of the keys below it, as our manifests write them (one `name.workspace = true` a line).
fn manifest_keys(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut sections: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut section = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name.to_owned();
        } else if let Some((key, _)) = line.split_once('=') {
            let key = key.trim().trim_end_matches(".workspace");
            sections
                .entry(section.clone())
                .or_default()
                .insert(key.to_owned());
        }
    }
    sections
}

#[test]
fn crates_keep_to_their_place() {
    for (folder, forbidden) in FORBIDDEN {
        let manifest = read(&root().join("crates").join(folder).join("Cargo.toml"));
        let sections = manifest_keys(&manifest);
        let dependencies = sections.get("dependencies").cloned().unwrap_or_default();
        assert!(
            !dependencies.is_empty(),
            "crates/{folder}/Cargo.toml: no [dependencies] was read"
        );
        for name in *forbidden {
            assert!(
                !dependencies.contains(*name),
                "crates/{folder} depends on {name}: ARCHITECTURE.md says why it must not"
            );
        }
        assert!(
            manifest.contains("[lints]\nworkspace = true"),
            "crates/{folder} does not inherit the workspace's lints"
        );
    }
}

#[test]
fn the_lock_file_has_one_of_each_that_matters() {
    let lock = read(&root().join("Cargo.lock"));
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut name = "";
    for line in lock.lines() {
        if let Some(value) = line.strip_prefix("name = ") {
            name = value.trim_matches('"');
        } else if let Some(value) = line.strip_prefix("version = ") {
            versions.entry(name).or_default().insert(value.trim_matches('"'));
        }
    }
    for banned in BANNED {
        assert!(!versions.contains_key(banned), "Cargo.lock has {banned}");
    }
    for single in ONE_VERSION {
        let found = versions.get(single).cloned().unwrap_or_default();
        assert_eq!(
            found.len(),
            1,
            "Cargo.lock should have one version of {single}, has {found:?}"
        );
    }
}

#[test]
fn source_files_have_one_subject_and_no_unfinished_marks() {
    // Written so that this file does not contain what it looks for.
    let marks = [
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("#[", "ignore"),
        concat!("FIX", "ME"),
    ];
    let mut complaints = Vec::new();
    for folder in ["crates", "xtask"] {
        for path in files_below(&root().join(folder), "rs") {
            let text = read(&path);
            let lines = text.lines().count();
            if lines > MAX_LINES {
                complaints.push(format!(
                    "{}: {lines} lines, more than {MAX_LINES}",
                    path.display()
                ));
            }
            for mark in marks {
                if text.contains(mark) {
                    complaints.push(format!("{}: {mark}", path.display()));
                }
            }
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn documents_link_to_files_that_exist() {
    let mut complaints = Vec::new();
    for path in files_below(&root(), "md") {
        let text = read(&path);
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") || file.contains(' ') {
                continue;
            }
            let folder = path.parent().unwrap();
            if !folder.join(file).exists() {
                complaints.push(format!("{}: {target}", path.display()));
            }
        }
    }
    assert!(
        complaints.is_empty(),
        "links to nowhere:\n{}",
        complaints.join("\n")
    );
}

#[test]
fn the_readme_has_the_two_commands_that_ci_runs() {
    let readme = read(&root().join("README.md"));
    assert!(
        crate::quickstart::marked_command(&readme, "run").is_some(),
        "README.md: no command under <!-- ci:run -->"
    );
    assert_eq!(
        crate::quickstart::marked_command(&readme, "test").as_deref(),
        Some("cargo xtask test")
    );
}
