//! `cargo xtask guided`: the program, compiled once more with a profile of its own work.
//!
//! What is to be fast is done with an instrumented build of the whole program, as a user would: `choreo up` with the load generator
//! of the API server on it, components that are applied, changed, promoted and deleted, requests through the gateway, a start over
//! all of it. The compiler then lays the program out for that. Cargo names symbols by packages, features, profile and target, so
//! both builds have the same of each; the target is named, so that build scripts and macros are not instrumented.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;

use crate::steps::{cargo, root, step, target_dir};

/// What is always built: the program, and who puts load on it.
const PROGRAM: [&str; 6] = ["-p", "choreo", "--bin", "choreo", "-p", "choreo-apiserver"];
const LOAD: [&str; 2] = ["--bench", "load"];
/// What `--benches` adds: everything that figures in `docs/performance.md` are of.
const BENCHES: [&str; 10] = [
    "--example",
    "serve",
    "-p",
    "choreo-controllers",
    "--bench",
    "scale",
    "-p",
    "choreo-manager",
    "--bench",
    "cluster",
];

/// Components that are applied, and how many of them go on to the next environment one by one.
const COMPONENTS: usize = 120;
const PROMOTED: usize = 15;
/// Connections to the gateway, and requests on each.
const CONNECTIONS: usize = 8;
const REQUESTS: usize = 2_000;
/// How long a part of the platform may take; an instrumented program takes several times as long as another.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    profile: String,
    target: String,
    benches: bool,
}

impl Wanted {
    /// Reads `[--profile NAME] [--target TRIPLE] [--benches]`; `host` is the target if none is named.
    ///
    /// # Errors
    /// When there is anything else, or a value is missing.
    pub(crate) fn parse(mut words: impl Iterator<Item = String>, host: &str) -> Result<Self> {
        let mut wanted = Self {
            profile: "release".to_owned(),
            target: host.to_owned(),
            benches: false,
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match word.as_str() {
                "--profile" => wanted.profile = value()?,
                "--target" => wanted.target = value()?,
                "--benches" => wanted.benches = true,
                other => bail!("unknown argument {other}; there are --profile, --target and --benches"),
            }
        }
        Ok(wanted)
    }

    fn arguments(&self) -> Vec<&str> {
        let mut all = vec![
            "build",
            "--locked",
            "--profile",
            &self.profile,
            "--target",
            &self.target,
            "--message-format",
            "json-render-diagnostics",
        ];
        all.extend(PROGRAM);
        all.extend(LOAD);
        if self.benches {
            all.extend(BENCHES);
        }
        all
    }
}

/// The target that this compiler builds for unless told otherwise.
///
/// # Errors
/// When there is no compiler.
pub(crate) fn host() -> Result<String> {
    let told = output(rustc().arg("-vV"))?;
    let host = told.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("`rustc -vV` names no host")?.to_owned())
}

/// Builds, trains and builds again. What comes out is in `guided` below the target folder.
///
/// # Errors
/// When the tool that reads profiles is missing, a build fails, or anything that is trained does not work.
pub(crate) fn run(wanted: &Wanted) -> Result<()> {
    let merger = merger()?;
    let all = target_dir().join("guided");
    let profiles = all.join("profiles");
    let guide = all.join("guide.profdata");
    match fs::remove_dir_all(&profiles) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("removing {}", profiles.display()));
        }
        _ => fs::create_dir_all(&profiles).with_context(|| format!("making {}", profiles.display()))?,
    }

    let generate = format!("-Cprofile-generate={}", profiles.display());
    let instrumented = build("instrumented", &all.join("instrumented"), wanted, &generate)?;
    let training = Training::new(&instrumented, &all.join("training"))?;
    let began = Instant::now();
    println!("== training");
    training.run()?;
    println!("== training: ok in {:.0} s", began.elapsed().as_secs_f64());

    let mut merge = Command::new(merger);
    merge.arg("merge").arg("-o").arg(&guide);
    let mut found = 0;
    for entry in fs::read_dir(&profiles)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "profraw") {
            merge.arg(path);
            found += 1;
        }
    }
    ensure!(
        found > 0,
        "the training wrote no profile to {}",
        profiles.display()
    );
    step("merge", merge)?;

    let using = format!("-Cprofile-use={}", guide.display());
    let guided = build("guided", &all.join("target"), wanted, &using)?;
    for (name, path) in guided {
        println!("{name}: {}", path.display());
    }
    Ok(())
}

/// The tool that reads profiles, of the compiler's own version.
fn merger() -> Result<PathBuf> {
    let libraries = output(rustc().args(["--print", "target-libdir"]))?;
    let folder = Path::new(libraries.trim())
        .parent()
        .context("no folder of tools")?;
    let tool = folder.join(format!("bin/llvm-profdata{}", std::env::consts::EXE_SUFFIX));
    if !tool.is_file() {
        bail!("the toolchain has no llvm-profdata: rustup component add llvm-tools");
    }
    Ok(tool)
}

fn rustc() -> Command {
    Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
}

/// What a command that must succeed prints.
fn output(command: &mut Command) -> Result<String> {
    let output = command
        .current_dir(root())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("starting {}", command.get_program().display()))?;
    ensure!(output.status.success(), "{command:?} failed ({})", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// Builds, and gives each program by its name.
fn build(name: &str, folder: &Path, wanted: &Wanted, flag: &str) -> Result<BTreeMap<String, PathBuf>> {
    println!("== {name} build");
    let began = Instant::now();
    let mut flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    let _ = write!(flags, " {flag}");
    let output = cargo(&wanted.arguments())
        .env("RUSTFLAGS", flags.trim())
        .env("CARGO_TARGET_DIR", folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .output()
        .context("starting cargo")?;
    ensure!(
        output.status.success(),
        "the {name} build failed ({})",
        output.status
    );
    println!("== {name} build: ok in {:.0} s", began.elapsed().as_secs_f64());
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(program)
        .collect())
}

/// The name and the place of a program that Cargo tells of in a line of its messages.
fn program(line: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(line).ok()?;
    let place = message.get("executable")?.as_str()?;
    let name = message.get("target")?.get("name")?.as_str()?;
    Some((name.to_owned(), place.into()))
}

/// What an instrumented program is made to do.
struct Training {
    choreo: PathBuf,
    load: PathBuf,
    folder: PathBuf,
}

impl Training {
    fn new(programs: &BTreeMap<String, PathBuf>, folder: &Path) -> Result<Self> {
        let find = |name: &str| {
            let found = programs.get(name);
            found
                .cloned()
                .with_context(|| format!("the build made no {name}"))
        };
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
        }
        fs::create_dir_all(folder)?;
        Ok(Self {
            choreo: find("choreo")?,
            load: find("load")?,
            folder: folder.to_owned(),
        })
    }

    fn run(&self) -> Result<()> {
        let outside = Outside::start()?;
        let up = self.up()?;
        self.serve_the_api()?;
        self.roll_out()?;
        self.pass_requests(&outside, up.http)?;
        up.stop()?;
        // Over everything that is there now.
        let up = self.up()?;
        self.choreo(&["get", "components"])?;
        let components = self.folder.join("components.yaml").display().to_string();
        self.choreo(&["delete", "-f", &components])?;
        up.stop()?;
        fs::remove_dir_all(&self.folder).ok();
        Ok(())
    }

    fn up(&self) -> Result<Up> {
        let mut child = Command::new(&self.choreo)
            .args(["up", "--api-port", "0", "--http-port", "0", "--https-port", "0"])
            .args(["--containers", "simulated", "--data-dir"])
            .arg(self.folder.join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting choreo up")?;
        let mut told = BufReader::new(child.stdout.take().context("no standard output")?);
        let mut up = Up { child, http: 0 };
        let mut line = String::new();
        while told.read_line(&mut line)? > 0 {
            if let Some(port) = gateway_port(&line) {
                up.http = port;
            }
            // The gateway is told of before the last line.
            if line.contains("Ctrl-C") {
                // Whoever writes to a pipe that nobody reads is stopped by it.
                thread::spawn(move || std::io::copy(&mut told, &mut std::io::sink()));
                return Ok(up);
            }
            line.clear();
        }
        bail!("`choreo up` ended before it was up")
    }

    fn kubeconfig(&self) -> PathBuf {
        self.folder.join("data/kubeconfig")
    }

    fn serve_the_api(&self) -> Result<()> {
        let mut load = Command::new(&self.load);
        load.args(["--objects", "3000", "--writes", "1000", "--kubeconfig"])
            .arg(self.kubeconfig());
        step("training: the API server", load)
    }

    fn roll_out(&self) -> Result<()> {
        let components = self.write("components.yaml", &services("1"))?;
        self.choreo(&["validate", "-f", &components])?;
        self.choreo(&["render", "-f", &components])?;
        self.choreo(&["apply", "-f", &components])?;
        self.wait("component")?;
        for nth in 0..PROMOTED {
            self.choreo(&["promote", &format!("service-{nth}"), "--to", "staging", "--wait"])?;
        }
        let changed = self.write("components.yaml", &services("2"))?;
        self.choreo(&["apply", "-f", &changed])?;
        self.wait("component")
    }

    fn wait(&self, what: &str) -> Result<()> {
        let patience = format!("--timeout={}s", PATIENCE.as_secs());
        self.choreo(&["wait", what, "--for=condition=Ready", &patience])
    }

    fn pass_requests(&self, outside: &Outside, gateway: u16) -> Result<()> {
        let route = self.write("route.yaml", &route(outside.port))?;
        self.choreo(&["apply", "-f", &route, "--context", "local"])?;
        println!("== training: the gateway");
        let began = Instant::now();
        while let Err(error) = ask(gateway, 1) {
            ensure!(began.elapsed() < PATIENCE, "{error:#}");
            thread::sleep(Duration::from_millis(20));
        }
        let clients: Vec<_> = (0..CONNECTIONS)
            .map(|_| thread::spawn(move || ask(gateway, REQUESTS)))
            .collect();
        for client in clients {
            client
                .join()
                .map_err(|_| anyhow!("a client of the gateway panicked"))??;
        }
        Ok(())
    }

    fn choreo(&self, arguments: &[&str]) -> Result<()> {
        let mut choreo = Command::new(&self.choreo);
        choreo
            .args(arguments)
            .env("KUBECONFIG", self.kubeconfig())
            .stdout(Stdio::null());
        step(&format!("training: choreo {}", arguments.join(" ")), choreo)
    }

    fn write(&self, name: &str, text: &str) -> Result<String> {
        let file = self.folder.join(name);
        fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
        Ok(file.display().to_string())
    }
}

/// A platform that runs.
struct Up {
    child: Child,
    http: u16,
}

impl Up {
    /// Ends it in order: only then is its profile written.
    fn stop(mut self) -> Result<()> {
        let mut kill = Command::new("kill");
        kill.args(["-TERM", &self.child.id().to_string()]);
        step("training: stop", kill)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "`choreo up` did not stop cleanly: {status}");
        Ok(())
    }
}

impl Drop for Up {
    /// When something before failed; one that has ended already is not there any more.
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The port in a line as `  Gateway  http://*.openchoreoapis.localhost:19080`.
fn gateway_port(line: &str) -> Option<u16> {
    let (_, address) = line.split_once("http://*.")?;
    let (_, port) = address.trim_end().rsplit_once(':')?;
    port.parse().ok()
}

/// A server outside of the platform that answers every request alike.
struct Outside {
    port: u16,
}

const HOST: &str = "outside.openchoreoapis.localhost";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 6\r\n\r\nhello\n";

impl Outside {
    /// Serves until this process ends.
    fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                thread::spawn(move || answer(stream));
            }
        });
        Ok(Self { port })
    }
}

/// Answers requests without a body, one after the other.
fn answer(stream: TcpStream) -> std::io::Result<()> {
    let mut writer = stream.try_clone()?;
    for line in BufReader::new(stream).lines() {
        if line?.is_empty() {
            writer.write_all(ANSWER)?;
        }
    }
    Ok(())
}

/// Sends so many requests for what is outside on one connection to the gateway.
fn ask(gateway: u16, requests: usize) -> Result<()> {
    let request = format!("GET /greeting HTTP/1.1\r\nhost: {HOST}\r\naccept: */*\r\n\r\n");
    let mut stream = TcpStream::connect(("127.0.0.1", gateway))?;
    stream.set_nodelay(true)?;
    let mut answers = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    for nth in 0..requests {
        stream.write_all(request.as_bytes())?;
        let (mut status, mut length) = (String::new(), 0);
        loop {
            line.clear();
            ensure!(
                answers.read_line(&mut line)? > 0,
                "the gateway closed after {nth} requests"
            );
            let text = line.trim_end();
            if status.is_empty() {
                text.clone_into(&mut status);
            }
            if text.is_empty() {
                break;
            }
            if let Some((_, value)) = text.split_once(':')
                && text.to_ascii_lowercase().starts_with("content-length:")
            {
                length = value.trim().parse()?;
            }
        }
        ensure!(status.contains(" 200 "), "the gateway answers {status}");
        answers.read_exact(&mut vec![0; length])?;
    }
    Ok(())
}

/// A route of the data plane itself to that server. An API of the platform may not name an address inside the machine.
fn route(port: u16) -> String {
    format!(
        "apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {{name: outside, namespace: openchoreo-data-plane}}
spec:
  endpoints: [{{ip: {{address: 127.0.0.1, port: {port}}}}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: outside, namespace: openchoreo-data-plane}}
spec:
  parentRefs: [{{name: gateway-external}}]
  hostnames: [{HOST}]
  rules:
    - matches: [{{path: {{type: PathPrefix, value: /}}}}]
      backendRefs: [{{group: gateway.envoyproxy.io, kind: Backend, name: outside}}]
"
    )
}

/// Services with an image of this tag, each with an API that is public.
fn services(tag: &str) -> String {
    let mut all = String::new();
    for nth in 0..COMPONENTS {
        let _ = write!(
            all,
            "---
apiVersion: openchoreo.dev/v1alpha1
kind: Component
metadata: {{name: service-{nth}}}
spec: {{owner: {{projectName: default}}, type: Service}}
---
apiVersion: openchoreo.dev/v1alpha1
kind: Workload
metadata: {{name: service-{nth}}}
spec:
  owner: {{projectName: default, componentName: service-{nth}}}
  containers:
    main:
      image: registry.example.com/app:{tag}
      env: [{{key: LEVEL, value: info}}]
  endpoints:
    api: {{type: REST, port: 8080}}
---
apiVersion: openchoreo.dev/v1alpha1
kind: Service
metadata: {{name: service-{nth}}}
spec:
  owner: {{projectName: default, componentName: service-{nth}}}
  workloadName: service-{nth}
  apis:
    api:
      type: REST
      rest: {{backend: {{port: 8080, basePath: /}}, exposeLevels: [Organization, Public]}}
"
        );
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Wanted> {
        Wanted::parse(words.iter().map(|word| (*word).to_owned()), "here")
    }

    #[test]
    fn what_is_wanted_is_read() {
        let wanted = parse(&["--profile", "dist", "--benches"]).unwrap();
        let arguments = wanted.arguments();
        assert!(
            arguments.windows(2).any(|pair| pair == ["--profile", "dist"]),
            "{arguments:?}"
        );
        assert!(
            arguments.windows(2).any(|pair| pair == ["--target", "here"]),
            "{arguments:?}"
        );
        assert!(arguments.contains(&"scale"), "{arguments:?}");
        assert!(!parse(&[]).unwrap().arguments().contains(&"scale"));
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let error = parse(&["--fast"]).unwrap_err();
        assert!(error.to_string().contains("--fast"), "{error}");
        let error = parse(&["--target"]).unwrap_err();
        assert!(error.to_string().contains("--target needs a value"), "{error}");
    }

    #[test]
    fn programs_and_ports_are_found_in_what_is_told() {
        let line = r#"{"reason":"compiler-artifact","target":{"name":"load"},"executable":"/t/load-1"}"#;
        assert_eq!(program(line), Some(("load".to_owned(), "/t/load-1".into())));
        assert_eq!(program(r#"{"reason":"build-finished","success":true}"#), None);
        let line = "  Gateway         http://*.openchoreoapis.localhost:19080\n";
        assert_eq!(gateway_port(line), Some(19080));
        assert_eq!(gateway_port("  Control plane   https://127.0.0.1:7443\n"), None);
    }
}
