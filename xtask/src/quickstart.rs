//! Runs the README's first command as a newcomer would: exactly as printed, in a home folder of its own, until the platform says that it is ready; then stops it as Ctrl-C would.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::steps::root;

/// What `choreo up` prints on standard output once everything serves.
const READY: &str = "Choreo is up";

/// A cold release build is in here, which takes two slow cores more than a quarter of an hour.
const PATIENCE: Duration = Duration::from_secs(45 * 60);

/// The command in the code block after the marker `<!-- ci:NAME -->` of a document.
pub(crate) fn marked_command(document: &str, name: &str) -> Option<String> {
    let (_, rest) = document.split_once(&format!("<!-- ci:{name} -->"))?;
    let (_, rest) = rest.split_once("```")?;
    let (_, rest) = rest.split_once('\n')?;
    let (block, _) = rest.split_once("```")?;
    Some(block.trim().to_owned())
}

/// Runs the README's first command and checks that it gets ready and stops cleanly.
///
/// # Errors
/// When the README has no such command, it does not become ready, or it does not end with status 0 after SIGTERM.
pub(crate) fn run_readme_command() -> Result<()> {
    let readme = fs::read_to_string(root().join("README.md")).context("reading README.md")?;
    let command = marked_command(&readme, "run").context("README.md has no command under <!-- ci:run -->")?;
    println!("== readme: {command}");
    let home = std::env::temp_dir().join(format!("choreo-readme-{}", std::process::id()));
    fs::create_dir_all(&home)?;
    let result = run(&command, &home);
    fs::remove_dir_all(&home).ok();
    result
}

fn run(command: &str, home: &std::path::Path) -> Result<()> {
    let started = Instant::now();
    let mut child = Command::new("sh")
        // `exec` so that the process we stop is the platform and not a shell around it.
        .args(["-c", &format!("exec {command}")])
        .current_dir(root())
        .env("XDG_DATA_HOME", home)
        .env("CHOREO_CONTAINERS", "simulated")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting the README's first command")?;
    let output = child.stdout.take().context("no standard output")?;
    let (lines, received) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            println!("   {line}");
            if lines.send(line).is_err() {
                break;
            }
        }
    });
    let ready = loop {
        let left = PATIENCE.saturating_sub(started.elapsed());
        match received.recv_timeout(left) {
            Ok(line) if line.contains(READY) => break true,
            Ok(_) => {}
            Err(_) => break false,
        }
    };
    let stopped = Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status();
    if !ready {
        child.kill().ok();
        child.wait().ok();
        bail!("the README's first command never printed {READY:?}");
    }
    stopped.context("sending SIGTERM")?;
    // The reader ends when the last process that holds the pipe ends.
    while received.recv_timeout(Duration::from_secs(60)).is_ok() {}
    let status = child.wait().context("waiting for the platform to stop")?;
    if !status.success() {
        bail!("the platform did not stop cleanly on SIGTERM: {status}");
    }
    println!("== readme: ok in {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}
