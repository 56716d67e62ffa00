//! Running the program and looking at what it says.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Longest wait for anything. Only a failing test waits that long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The program, in an environment that is the same everywhere.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_choreo"));
    for variable in [
        "KUBECONFIG",
        "CHOREO_DATA_DIR",
        "CHOREO_API_PORT",
        "CHOREO_LOG_LEVEL",
        "CHOREO_LOG_FORMAT",
    ] {
        command.env_remove(variable);
    }
    command
        // What is tested with containers says so itself.
        .env("CHOREO_CONTAINERS", "simulated")
        .env("NO_COLOR", "1")
        .env("HOME", "/nonexistent")
        .env_remove("XDG_DATA_HOME")
        .stdin(Stdio::null());
    command
}

/// What a finished process said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Said {
            status: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Said {
    /// The output of a command that must have succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.status, 0, "out: {}\nerr: {}", self.out, self.err);
        self.out
    }

    /// The errors of a command that must have ended with `status`.
    #[track_caller]
    pub(crate) fn fails(self, status: i32) -> String {
        assert_eq!(self.status, status, "out: {}\nerr: {}", self.out, self.err);
        self.err
    }

    /// Everything, for snapshots.
    pub(crate) fn transcript(&self) -> String {
        format!(
            "status: {}\n--- out\n{}--- err\n{}",
            self.status, self.out, self.err
        )
    }
}

/// Runs a command that ends by itself.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Said {
    command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"))
        .into()
}

/// Runs a command with a text as its standard input.
#[track_caller]
pub(crate) fn run_with_input(command: &mut Command, input: &str) -> Said {
    use std::io::Write;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap().into()
}

/// Runs the program without a platform.
#[track_caller]
pub(crate) fn choreo<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Said {
    run(program().args(arguments))
}

/// A running platform. Dropping it kills the process.
pub(crate) struct Up {
    child: Child,
    folder: PathBuf,
    lines: Receiver<String>,
    /// What it printed until it was ready.
    pub(crate) banner: Vec<String>,
    _temporary: Option<TempDir>,
}

impl Up {
    /// A platform in a new folder, with everything kept on disk.
    #[track_caller]
    pub(crate) fn fresh() -> Up {
        let temporary = tempfile::tempdir().unwrap();
        let mut up = Up::start(&temporary.path().join("data"), &[]);
        up._temporary = Some(temporary);
        up
    }

    /// A platform in a new folder, with its objects in memory: faster, for tests that are not about the disk.
    #[track_caller]
    pub(crate) fn in_memory() -> Up {
        let temporary = tempfile::tempdir().unwrap();
        let mut up = Up::start(&temporary.path().join("data"), &["--in-memory"]);
        up._temporary = Some(temporary);
        up
    }

    /// Starts it in this folder and waits until it says that it is up.
    #[track_caller]
    pub(crate) fn start(folder: &Path, more: &[&str]) -> Up {
        Up::start_with(folder, more, &[])
    }

    /// As [`Up::start`], with environment variables.
    #[track_caller]
    pub(crate) fn start_with(folder: &Path, more: &[&str], env: &[(&str, &str)]) -> Up {
        let mut child = program()
            .envs(env.iter().copied())
            .arg("up")
            .arg("--data-dir")
            .arg(folder)
            .args(["--api-port", "0", "--http-port", "0", "--https-port", "0"])
            .args(more)
            .stdout(Stdio::piped())
            // A failing test shows it; nothing reads it otherwise.
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let lines = follow(child.stdout.take().unwrap());
        let mut up = Up {
            child,
            folder: folder.to_owned(),
            lines,
            banner: vec![],
            _temporary: None,
        };
        let deadline = Instant::now() + PATIENCE;
        while !up.banner.iter().any(|line| line.contains("Ctrl-C")) {
            match up
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => up.banner.push(line),
                Err(_) => panic!("choreo up was never ready: {:?}", up.banner),
            }
        }
        up
    }

    /// Id of its process.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// The port of its gateway for HTTP.
    #[track_caller]
    pub(crate) fn gateway_port(&self) -> u16 {
        let of = |line: &String| line.split(".localhost:").nth(1)?.trim().parse().ok();
        self.banner.iter().find_map(of).unwrap()
    }

    /// The program with this platform's kubeconfig.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = program();
        command.env("KUBECONFIG", self.kubeconfig()).args(arguments);
        command
    }

    /// Runs the program against this platform.
    #[track_caller]
    pub(crate) fn choreo<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Said {
        run(&mut self.command(arguments))
    }

    /// Applies manifests.
    #[track_caller]
    pub(crate) fn apply(&self, manifests: &str) -> Said {
        run_with_input(&mut self.command(["apply", "-f", "-"]), manifests)
    }

    /// Sends SIGTERM and waits for the end.
    #[track_caller]
    pub(crate) fn stop(mut self) -> ExitStatus {
        signal(self.child.id(), "TERM");
        self.end()
    }

    /// Sends SIGINT and waits for the end.
    #[track_caller]
    pub(crate) fn interrupt(mut self) -> ExitStatus {
        signal(self.child.id(), "INT");
        self.end()
    }

    /// Sends SIGKILL: no handler runs.
    pub(crate) fn kill(self) {
        drop(self);
    }

    #[track_caller]
    fn end(&mut self) -> ExitStatus {
        // Its output ends with it.
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(_) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return self.child.wait().unwrap(),
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("choreo up did not stop"),
            }
        }
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn signal(process: u32, name: &str) {
    let status = Command::new("kill")
        .args([format!("-{name}"), process.to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

/// The lines that a process prints, as they come.
pub(crate) fn follow(output: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

/// A process that is stopped when the test is over.
pub(crate) struct Background {
    child: Child,
    pub(crate) lines: Receiver<String>,
}

impl Background {
    pub(crate) fn start(command: &mut Command) -> Background {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let lines = follow(child.stdout.take().unwrap());
        Background { child, lines }
    }

    /// The next line that contains `text`.
    #[track_caller]
    pub(crate) fn line_with(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) if line.contains(text) => return line,
                Ok(_) => {}
                Err(_) => panic!("no line with {text:?}"),
            }
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A path of the test's fixtures.
pub(crate) fn fixture(name: &str) -> String {
    format!("{}/tests/it/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Replaces what differs from run to run.
pub(crate) fn filters(up: Option<&Up>) -> Vec<(String, String)> {
    let mut filters = vec![
        // The defaults are made side by side: whether a pipeline is seen before its environments is chance.
        (
            r"(?m)^ *Warning +EnvironmentNotFound.*\n".to_owned(),
            String::new(),
        ),
        (r"https://127\.0\.0\.1:\d+".to_owned(), "https://HOST".to_owned()),
        (r"(openchoreoapis\.\w+):\d+".to_owned(), "$1:PORT".to_owned()),
        (r"on port \d+".to_owned(), "on port PORT".to_owned()),
        (
            r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z".to_owned(),
            "TIME".to_owned(),
        ),
        (
            r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}".to_owned(),
            "UID".to_owned(),
        ),
        (r"\b\d+( ms|ms|s|m|m\d+s)\b".to_owned(), "AGE".to_owned()),
        (
            r#"resourceVersion: "\d+""#.to_owned(),
            "resourceVersion: \"N\"".to_owned(),
        ),
        // Padding depends on the widths of what was replaced.
        (r"(\S) {2,}".to_owned(), "$1  ".to_owned()),
    ];
    if let Some(up) = up {
        filters.insert(0, (up.folder().display().to_string(), "DIR".to_owned()));
    }
    filters
}

/// Snapshot of a text with [`filters`] applied.
macro_rules! snapshot {
    ($name:expr, $text:expr, $up:expr) => {
        let filters = $crate::support::filters($up);
        let filters: Vec<(&str, &str)> =
            filters.iter().map(|(pattern, text)| (pattern.as_str(), text.as_str())).collect();
        insta::with_settings!({filters => filters, omit_expression => true, prepend_module_to_snapshot => false}, {
            insta::assert_snapshot!($name, $text);
        });
    };
}
pub(crate) use snapshot;
