//! The steps of `cargo xtask test`, in the order in which they fail fastest.

use std::{path::PathBuf, process::Command, time::Instant};

use anyhow::{Context, Result, bail};

use crate::{beside, containers, quickstart, tools};

/// Runs everything that a merge must pass, and stops at the first step that fails.
///
/// # Errors
/// When a step cannot be started or ends with a non-zero status; the message names the step.
pub(crate) fn test() -> Result<()> {
    let in_ci = std::env::var_os("CI").is_some();
    let client = |name: &str, found: Result<PathBuf>| match found {
        Ok(path) => Ok(Some(path)),
        Err(error) if in_ci => Err(error.context(format!("CI needs {name}"))),
        Err(error) => {
            eprintln!("note: NOT RUN: tests with {name}: {error:#}");
            Ok(None)
        }
    };
    let kubectl = client("kubectl", tools::kubectl())?;
    let helm = client("Helm", tools::helm())?;
    let engine = match containers::Engine::start() {
        Ok(engine) => Some(engine),
        Err(error) if in_ci => return Err(error.context("CI needs a container engine")),
        Err(error) => {
            eprintln!("note: NOT RUN: tests with containers: {error:#}");
            None
        }
    };
    for missing in beside::missing() {
        eprintln!("note: NOT RUN: {missing}");
    }
    step("format", cargo(&["fmt", "--all", "--check"]))?;
    step(
        "lints",
        cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    )?;
    let mut tests = cargo(&["test", "--workspace", "--no-fail-fast"]);
    for (variable, found) in [("CHOREO_TEST_KUBECTL", &kubectl), ("CHOREO_TEST_HELM_SDK", &helm)] {
        if let Some(found) = found {
            tests.env(variable, found);
        }
    }
    if let Some(engine) = &engine {
        tests.env(containers::HOST, engine.host());
    }
    step("tests", tests)?;
    drop(engine);
    let mut docs = cargo(&["doc", "--workspace", "--no-deps"]);
    // Links to private items are for those who read the source; a link to nothing is a mistake.
    docs.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links");
    step("docs", docs)?;
    quickstart::run_readme_command()?;
    // Told again at the end, where it is read.
    for missing in beside::missing() {
        eprintln!("note: NOT RUN: {missing}");
    }
    Ok(())
}

/// Runs the tests with containers alone.
///
/// # Errors
/// When there is no engine, or a test fails.
pub(crate) fn containers(only: Option<&str>) -> Result<()> {
    let engine = containers::Engine::start()?;
    let name = format!("containers::{}", only.unwrap_or_default());
    for package in ["choreo-node", "choreo"] {
        let mut tests = cargo(&["test", "-p", package, "--test", "it", &name]);
        tests.env(containers::HOST, engine.host());
        step(package, tests)?;
    }
    Ok(())
}

/// Rewrites what is expected of the corpus's cases, and shows which of them changed.
///
/// # Errors
/// When an input is wrong, or a case cannot be rendered.
pub(crate) fn corpus(only: Option<&str>) -> Result<()> {
    let mut tests = cargo(&["test", "-p", "choreo-engine", "--test", "it", "corpus::"]);
    tests.env("CHOREO_UPDATE_CORPUS", "1");
    if let Some(only) = only {
        tests.env("CHOREO_CORPUS", only);
    }
    step("corpus", tests)?;
    let mut changed = Command::new("git");
    changed
        .args(["status", "--short", "crates/engine/tests/corpus"])
        .current_dir(root());
    step("read what changed", changed)
}

/// The workspace's root folder.
pub(crate) fn root() -> PathBuf {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest
        .parent()
        .map_or_else(|| PathBuf::from("."), PathBuf::from)
}

/// Where builds go.
pub(crate) fn target_dir() -> PathBuf {
    // Cargo reads a relative path from where it is started, which is the root folder.
    root().join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// Cargo, in the repository's root folder.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    command
}

/// Runs a command, and tells what it is for and how long it took.
///
/// # Errors
/// When it cannot be started or fails.
pub(crate) fn step(name: &str, mut command: Command) -> Result<()> {
    println!("== {name}");
    let started = Instant::now();
    let status = command
        .status()
        .with_context(|| format!("starting step {name}"))?;
    if !status.success() {
        bail!("step {name} failed ({status})");
    }
    println!("== {name}: ok in {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}
