//! The server that is measured, and how figures are taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::Method;
use parking_lot::Mutex;
use serde_json::Value;

use crate::Settings;
use crate::line::{Address, Line};

pub(crate) type Outcome<T> = Result<T, String>;

/// A server.
#[derive(Clone)]
pub(crate) struct Target {
    address: Arc<Address>,
    idle: Arc<Mutex<Vec<Line>>>,
}

impl Target {
    pub(crate) async fn connect(settings: &Settings) -> Outcome<Target> {
        Ok(Target {
            address: Arc::new(Address::read(settings).await?),
            idle: Arc::default(),
        })
    }

    /// Sends a request and reads the answer to its end. Gives status and body.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, &'static str)],
        body: Vec<u8>,
    ) -> Outcome<(u16, Vec<u8>)> {
        let mut answer = Vec::new();
        let take = |chunk: &[u8]| answer.extend_from_slice(chunk);
        let status = self.exchange(method, path, headers, body, take).await?;
        Ok((status, answer))
    }

    /// Sends a request and gives each piece of the answer to `take`. Gives the status.
    async fn exchange(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, &'static str)],
        body: Vec<u8>,
        mut take: impl FnMut(&[u8]),
    ) -> Outcome<u16> {
        let idle = self.idle.lock().pop().filter(Line::is_open);
        let mut line = match idle {
            Some(line) => line,
            None => Line::open(&self.address).await?,
        };
        let status = line.send(&self.address, method, path, headers, body).await?;
        while let Some(chunk) = line.chunk().await? {
            take(&chunk);
        }
        self.idle.lock().push(line);
        Ok(status)
    }

    /// Reads the whole answer without keeping it. Gives its length.
    pub(crate) async fn length(&self, path: &str, accept: &'static str) -> Outcome<usize> {
        let mut length = 0;
        let take = |chunk: &[u8]| length += chunk.len();
        match self
            .exchange(Method::GET, path, &[("accept", accept)], Vec::new(), take)
            .await?
        {
            200 => Ok(length),
            status => Err(format!("GET {path}: {status}")),
        }
    }

    /// Sends a request whose answer is read as it comes, on a connection of its own.
    pub(crate) async fn follow(&self, path: &str) -> Outcome<Line> {
        let mut line = Line::open(&self.address).await?;
        match line
            .send(&self.address, Method::GET, path, &[], Vec::new())
            .await?
        {
            200 => Ok(line),
            status => Err(format!("GET {path}: {status}")),
        }
    }

    /// A request that must succeed.
    pub(crate) async fn must(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, &'static str)],
        body: Vec<u8>,
    ) -> Outcome<Vec<u8>> {
        let (status, bytes) = self.send(method.clone(), path, headers, body).await?;
        if (200..300).contains(&status) {
            return Ok(bytes);
        }
        let text = String::from_utf8_lossy(&bytes);
        Err(format!(
            "{method} {path}: {status} {}",
            text.chars().take(400).collect::<String>()
        ))
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Outcome<Vec<u8>> {
        self.post_text(path, body.to_string()).await
    }

    pub(crate) async fn post_text(&self, path: &str, body: String) -> Outcome<Vec<u8>> {
        let kind = [("content-type", "application/json")];
        self.must(Method::POST, path, &kind, body.into_bytes()).await
    }

    pub(crate) async fn get(&self, path: &str, accept: &'static str) -> Outcome<Vec<u8>> {
        self.must(Method::GET, path, &[("accept", accept)], Vec::new())
            .await
    }

    /// Does `work` for every number below `total`, so many at once, and takes the time of each.
    pub(crate) async fn each<F>(
        &self,
        clients: usize,
        total: usize,
        work: impl Fn(Target, usize) -> F + Clone + Send + 'static,
    ) -> Outcome<Times>
    where
        F: Future<Output = Outcome<()>> + Send,
    {
        let next = Arc::new(AtomicUsize::new(0));
        let started = Instant::now();
        let tasks: Vec<_> = (0..clients)
            .map(|_| {
                let (target, next, work) = (self.clone(), next.clone(), work.clone());
                tokio::spawn(async move {
                    let mut times = Vec::new();
                    loop {
                        let nth = next.fetch_add(1, Ordering::Relaxed);
                        if nth >= total {
                            return Ok::<_, String>(times);
                        }
                        let begun = Instant::now();
                        work(target.clone(), nth).await?;
                        times.push(begun.elapsed());
                    }
                })
            })
            .collect();
        let mut all = Vec::with_capacity(total);
        for task in tasks {
            all.extend(task.await.map_err(|e| e.to_string())??);
        }
        Ok(Times::new(all, started.elapsed()))
    }
}

/// How long many things took.
pub(crate) struct Times {
    sorted: Vec<Duration>,
    whole: Duration,
}

impl Times {
    pub(crate) fn new(mut all: Vec<Duration>, whole: Duration) -> Times {
        all.sort_unstable();
        Times { sorted: all, whole }
    }

    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let at = (self.sorted.len() * percent / 100).min(self.sorted.len().saturating_sub(1));
        self.sorted.get(at).copied().unwrap_or_default()
    }

    /// `1234/s, median 1.2 ms, p99 3.4 ms`.
    pub(crate) fn rate(&self) -> String {
        let rate = self.sorted.len() as f64 / self.whole.as_secs_f64().max(1e-9);
        format!("{rate:>8.0}/s   {}", self.spread())
    }

    pub(crate) fn spread(&self) -> String {
        format!(
            "median {}, p99 {}",
            ms(self.percentile(50)),
            ms(self.percentile(99))
        )
    }
}

pub(crate) fn ms(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}

/// Resident memory of a process, in KiB.
pub(crate) fn memory(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    line.trim().split(' ').next()?.parse::<u64>().ok()
}

/// Processor time that a process has had, in user space and kernel together; `self` is this one.
pub(crate) fn processor(pid: &str) -> Option<Duration> {
    // The name of the program, in brackets, may contain spaces. What follows begins with the third field.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields = stat.rsplit(')').next()?;
    let ticks = |nth: usize| fields.split_whitespace().nth(nth)?.parse::<u64>().ok();
    // Ticks of Linux are hundredths of a second wherever there is a /proc.
    Some(Duration::from_millis(10 * (ticks(11)? + ticks(12)?)))
}
