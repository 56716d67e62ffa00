//! A socket in front of the container engine's that tells when the engine had something to do.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Requests whose answers come when something happens, and not when the engine is done.
const FOLLOWING: [&str; 4] = ["/wait", "/events", "/logs", "/attach"];

type Times = Arc<Mutex<Vec<(Instant, Instant)>>>;

pub(crate) struct Tap {
    path: PathBuf,
    times: Times,
}

impl Tap {
    /// Passes on what comes to `path`, a socket that is made, to the engine's.
    pub(crate) fn between(engine: &Path, path: &Path) -> Tap {
        let listener = UnixListener::bind(path).unwrap();
        let times = Times::default();
        let (engine, kept) = (engine.to_owned(), times.clone());
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, times) = (client.unwrap(), kept.clone());
                let server = UnixStream::connect(&engine).unwrap();
                // When the request that the engine has not answered yet began.
                let asked = Arc::new(Mutex::new(None));
                let (from, to, question) = (
                    client.try_clone().unwrap(),
                    server.try_clone().unwrap(),
                    asked.clone(),
                );
                std::thread::spawn(move || {
                    pass(from, to, |bytes| {
                        if let Some(began) = begins(bytes) {
                            *question.lock().unwrap() = began;
                        }
                    });
                });
                std::thread::spawn(move || {
                    pass(server, client, |_| {
                        if let Some(began) = asked.lock().unwrap().take() {
                            times.lock().unwrap().push((began, Instant::now()));
                        }
                    });
                });
            }
        });
        Tap {
            path: path.to_owned(),
            times,
        }
    }

    pub(crate) fn address(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    /// How much of the time between two moments at least one request was not answered.
    pub(crate) fn waited(&self, from: Instant, to: Instant) -> Duration {
        let mut times = self.times.lock().unwrap().clone();
        times.sort_unstable();
        let (mut sum, mut end) = (Duration::ZERO, from);
        for (began, ended) in times {
            let ended = ended.min(to);
            sum += ended.saturating_duration_since(began.max(end));
            end = end.max(ended);
        }
        sum
    }
}

/// Whether a request begins here; with the time, unless it follows something. Clients send its head at once.
fn begins(bytes: &[u8]) -> Option<Option<Instant>> {
    let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = std::str::from_utf8(line).ok()?;
    line.ends_with("HTTP/1.1").then(|| {
        let follows = FOLLOWING.iter().any(|path| line.contains(path));
        (!follows).then(Instant::now)
    })
}

fn pass(mut from: UnixStream, mut to: UnixStream, mut see: impl FnMut(&[u8])) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        see(&buffer[..count]);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}
