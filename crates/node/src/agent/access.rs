//! What people do with Pods that run: logs, commands, terminals, ports, figures.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use choreo_pod_access::{
    AccessError, AttachRequest, Connection, ContainerStats, ExecRequest, ExecSession, LogQuery, LogSource,
    LogStream, Output, PodAccess, PodStats,
};
use futures::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod};
use tokio::{sync::mpsc, time::Instant};

use super::{
    Agent, Runtime,
    engine::{EngineError, ExecSpec, LogOptions, Streams},
};
use crate::{NODE, core::Name};

fn refused(error: &EngineError) -> AccessError {
    AccessError::Unavailable {
        why: error.to_string(),
    }
}

/// How long an engine may take to know with which code a command ended.
const TOLD_OF_AN_END: Duration = Duration::from_secs(30);

/// The time over which the use of the processor is measured.
const MEASURED: Duration = Duration::from_millis(500);

/// The longest piece of a line that is kept until its end comes.
const LONGEST_LINE: usize = 1 << 20;

/// A container of a Pod as it is now.
struct Chosen {
    what: String,
    spec: Container,
    status: Option<ContainerStatus>,
}

impl Chosen {
    /// The engine's id of a run.
    fn id(status: Option<&str>) -> Option<String> {
        let (_, id) = status?.split_once("://")?;
        (!id.is_empty()).then(|| id.to_owned())
    }

    /// The id of the run that runs.
    fn running(&self) -> Result<String, AccessError> {
        let status = self.status.as_ref();
        let state = status.and_then(|status| status.state.as_ref());
        let why = match state {
            Some(state) if state.running.is_some() => {
                if let Some(id) = Self::id(status.and_then(|status| status.container_id.as_deref())) {
                    return Ok(id);
                }
                "it has no id yet".to_owned()
            }
            Some(state) => match (&state.waiting, &state.terminated) {
                (Some(waiting), _) => {
                    let reason = waiting.reason.clone().unwrap_or_default();
                    match &waiting.message {
                        Some(message) => format!("waiting to start: {reason}: {message}"),
                        None => format!("waiting to start: {reason}"),
                    }
                }
                (None, Some(ended)) => format!("it ended with exit code {}", ended.exit_code),
                (None, None) => "it has not been started yet".to_owned(),
            },
            None => "it has not been started yet".to_owned(),
        };
        Err(AccessError::NotRunning {
            what: self.what.clone(),
            why,
        })
    }

    /// The id of the run whose log is meant.
    fn logged(&self, previous: bool) -> Result<String, AccessError> {
        let status = self.status.as_ref();
        let ended = |state: Option<&k8s_openapi::api::core::v1::ContainerState>| {
            let id = state?.terminated.as_ref()?.container_id.clone();
            Self::id(id.as_deref())
        };
        if previous {
            return ended(status.and_then(|status| status.last_state.as_ref())).ok_or_else(|| {
                AccessError::NotFound {
                    what: format!("previous terminated {}", self.what),
                }
            });
        }
        let current = Self::id(status.and_then(|status| status.container_id.as_deref()));
        match current {
            Some(id) => Ok(id),
            None => self.running(),
        }
    }
}

impl Agent {
    fn at_work(&self) -> Result<Arc<Runtime>, AccessError> {
        let runtime = self
            .shared
            .runtime
            .load_full()
            .ok_or_else(|| AccessError::Unavailable {
                why: "the node agent does not run".to_owned(),
            })?;
        let away = runtime.away.borrow().clone();
        match away {
            Some(why) => Err(AccessError::Unavailable {
                why: format!("the container engine does not answer: {why}"),
            }),
            None => Ok(runtime),
        }
    }

    fn pod(runtime: &Runtime, namespace: &str, name: &str) -> Result<Arc<Pod>, AccessError> {
        let found = runtime.context.world.pods.get(&Name::new(namespace, name));
        found.ok_or_else(|| AccessError::NotFound {
            what: format!("pod {namespace}/{name}"),
        })
    }

    fn choose(
        runtime: &Runtime,
        namespace: &str,
        name: &str,
        container: Option<&str>,
    ) -> Result<Chosen, AccessError> {
        const DEFAULT: &str = "kubectl.kubernetes.io/default-container";
        let pod = Self::pod(runtime, namespace, name)?;
        let spec = pod.spec.clone().unwrap_or_default();
        let said = pod.metadata.annotations.as_ref().and_then(|all| all.get(DEFAULT));
        let wanted = match container
            .filter(|name| !name.is_empty())
            .or(said.map(String::as_str))
        {
            Some(name) => name.to_owned(),
            None => match spec.containers.as_slice() {
                [only] => only.name.clone(),
                several => {
                    return Err(AccessError::ContainerRequired {
                        names: several.iter().map(|container| container.name.clone()).collect(),
                    });
                }
            },
        };
        let what = format!("container {wanted:?} in pod {namespace}/{name}");
        let mut all = spec
            .containers
            .into_iter()
            .chain(spec.init_containers.into_iter().flatten());
        let Some(found) = all.find(|container| container.name == wanted) else {
            return Err(AccessError::NotFound { what });
        };
        let status = pod.status.clone().unwrap_or_default();
        let mut statuses = status
            .container_statuses
            .into_iter()
            .chain(status.init_container_statuses)
            .flatten();
        Ok(Chosen {
            what,
            spec: found,
            status: statuses.find(|status| status.name == wanted),
        })
    }
}

#[async_trait]
impl PodAccess for Agent {
    async fn logs(&self, namespace: &str, pod: &str, query: LogQuery) -> Result<LogStream, AccessError> {
        let runtime = self.at_work()?;
        let chosen = Self::choose(&runtime, namespace, pod, query.container.as_deref())?;
        let id = chosen.logged(query.previous)?;
        let options = LogOptions {
            follow: query.follow && !query.previous,
            stdout: query.stream != LogSource::Stderr,
            stderr: query.stream != LogSource::Stdout,
            since: query.since,
            tail: query.tail_lines,
            // Engines take whole seconds: what is before the time within its second is left out here.
            timestamps: query.timestamps || query.since.is_some(),
        };
        let pieces = runtime
            .engine
            .logs(&id, &options)
            .await
            .map_err(|error| match error {
                EngineError::NotFound(_) => AccessError::NotFound {
                    what: format!("log of {}", chosen.what),
                },
                other => refused(&other),
            })?;
        let bytes = pieces.map(|piece| {
            piece.map(|piece| match piece {
                Output::Stdout(bytes) | Output::Stderr(bytes) => bytes,
            })
        });
        let bytes = match query.since {
            Some(since) => lines_since(bytes.boxed(), since, query.timestamps),
            None => bytes.boxed(),
        };
        Ok(match query.limit_bytes {
            Some(limit) => limited(bytes, limit),
            None => bytes,
        })
    }

    async fn exec(
        &self,
        namespace: &str,
        pod: &str,
        request: ExecRequest,
    ) -> Result<ExecSession, AccessError> {
        let runtime = self.at_work()?;
        let id = Self::choose(&runtime, namespace, pod, request.container.as_deref())?.running()?;
        let spec = ExecSpec {
            command: request.command,
            stdin: request.stdin,
            stdout: request.stdout || request.tty,
            stderr: request.stderr && !request.tty,
            tty: request.tty,
        };
        let exec = runtime
            .engine
            .create_exec(&id, &spec)
            .await
            .map_err(|error| refused(&error))?;
        let streams = runtime
            .engine
            .start_exec(&exec, spec.tty)
            .await
            .map_err(|error| refused(&error))?;
        let (resize, sizes) = mpsc::channel(4);
        let (engine, of_resize) = (runtime.engine.clone(), exec.clone());
        tokio::spawn(follow_size(sizes, move |columns, rows| {
            let (engine, exec) = (engine.clone(), of_resize.clone());
            async move { engine.resize_exec(&exec, columns, rows).await }
        }));
        let engine = runtime.engine.clone();
        let exit = async move {
            let found = ended_with(|| engine.exec_code(&exec)).await;
            found.map_err(io::Error::other)
        };
        Ok(session(streams, request.stdin, resize, exit.boxed()))
    }

    async fn attach(
        &self,
        namespace: &str,
        pod: &str,
        request: AttachRequest,
    ) -> Result<ExecSession, AccessError> {
        let runtime = self.at_work()?;
        let chosen = Self::choose(&runtime, namespace, pod, request.container.as_deref())?;
        let id = chosen.running()?;
        let stdin = request.stdin && chosen.spec.stdin == Some(true);
        let mut streams = runtime
            .engine
            .attach(&id, stdin)
            .await
            .map_err(|error| refused(&error))?;
        let (stdout, stderr) = (request.stdout || request.tty, request.stderr);
        streams.output = streams
            .output
            .filter(move |piece| {
                let wanted = match piece {
                    Ok(Output::Stdout(_)) => stdout,
                    Ok(Output::Stderr(_)) => stderr,
                    Err(_) => true,
                };
                std::future::ready(wanted)
            })
            .boxed();
        let (resize, sizes) = mpsc::channel(4);
        let (engine, of_resize) = (runtime.engine.clone(), id.clone());
        tokio::spawn(follow_size(sizes, move |columns, rows| {
            let (engine, id) = (engine.clone(), of_resize.clone());
            async move { engine.resize(&id, columns, rows).await }
        }));
        let engine = runtime.engine.clone();
        let exit = async move {
            let found = engine.inspect(&id).await.map_err(io::Error::other)?;
            Ok(match found.phase {
                super::engine::Phase::Exited { code, .. } => code,
                // Who was attached has gone, and the container has not.
                _ => 0,
            })
        };
        Ok(session(streams, stdin, resize, exit.boxed()))
    }

    async fn port_forward(
        &self,
        namespace: &str,
        pod: &str,
        port: u16,
    ) -> Result<Box<dyn Connection>, AccessError> {
        let runtime = self.at_work()?;
        let found = Self::pod(&runtime, namespace, pod)?;
        let what = format!("pod {namespace}/{pod}");
        let status = found.status.clone().unwrap_or_default();
        let phase = status.phase.unwrap_or_default();
        let address = status.pod_ip.as_deref().and_then(|ip| ip.parse().ok());
        let (Some(address), "Running") = (address, phase.as_str()) else {
            return Err(AccessError::NotRunning {
                what,
                why: format!("it is {phase}"),
            });
        };
        let stream = runtime.dial(namespace, SocketAddr::new(address, port)).await;
        stream.map_err(|error| AccessError::NotRunning {
            what: format!("port {port} of {what}"),
            why: error.to_string(),
        })
    }

    async fn stats(&self) -> Result<Vec<PodStats>, AccessError> {
        let runtime = self.at_work()?;
        let mut running: Vec<(Name, String, String)> = Vec::new();
        for pod in runtime.context.world.pods.all() {
            if pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) != Some(NODE) {
                continue;
            }
            let status = pod.status.clone().unwrap_or_default();
            for status in status.container_statuses.into_iter().flatten() {
                let runs = status.state.as_ref().is_some_and(|state| state.running.is_some());
                if let Some(id) = Chosen::id(status.container_id.as_deref()).filter(|_| runs) {
                    running.push((Name::of(&*pod), status.name, id));
                }
            }
        }
        let measure = || {
            let engine = runtime.engine.clone();
            let ids: Vec<String> = running.iter().map(|(_, _, id)| id.clone()).collect();
            async move {
                let each = ids.into_iter().map(|id| {
                    let engine = engine.clone();
                    async move {
                        let usage = engine.usage(&id).await.ok()?;
                        Some((id, (Instant::now(), usage)))
                    }
                });
                let found: Vec<_> = stream::iter(each).buffer_unordered(8).collect().await;
                found.into_iter().flatten().collect::<HashMap<_, _>>()
            }
        };
        let first = measure().await;
        tokio::time::sleep(MEASURED).await;
        let second = measure().await;
        let mut pods: BTreeMap<Name, Vec<ContainerStats>> = BTreeMap::new();
        for (pod, name, id) in running {
            let (Some((from, before)), Some((to, after))) = (first.get(&id), second.get(&id)) else {
                continue;
            };
            let used = after.cpu.saturating_sub(before.cpu).as_secs_f64();
            let time = to.duration_since(*from).as_secs_f64().max(0.001);
            pods.entry(pod).or_default().push(ContainerStats {
                name,
                cpu_nanos_per_second: (used / time * 1e9) as u64,
                memory_bytes: after.memory,
            });
        }
        let stats = pods.into_iter().map(|(name, containers)| PodStats {
            namespace: name.namespace,
            pod: name.name,
            containers,
        });
        Ok(stats.collect())
    }
}

fn session(
    streams: Streams,
    stdin: bool,
    resize: mpsc::Sender<(u16, u16)>,
    exit: BoxFuture<'static, io::Result<i64>>,
) -> ExecSession {
    ExecSession {
        stdin: stdin.then_some(streams.input),
        output: streams.output,
        resize,
        exit,
    }
}

/// With which code a command ended whose output has ended. The engine can know of it a while later, the longer the busier its
/// machine is, and can fail to say so meanwhile.
async fn ended_with<F>(ask: impl Fn() -> F) -> Result<i64, EngineError>
where
    F: Future<Output = Result<Option<i64>, EngineError>>,
{
    let until = Instant::now() + TOLD_OF_AN_END;
    let mut wait = Duration::from_millis(10);
    loop {
        let why = match ask().await {
            Ok(Some(code)) => return Ok(code),
            Ok(None) => {
                EngineError::Refused("the engine does not say with which code the command ended".to_owned())
            }
            Err(error) => error,
        };
        if why.is_not_found() || Instant::now() >= until {
            return Err(why);
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(1));
    }
}

async fn follow_size<F>(mut sizes: mpsc::Receiver<(u16, u16)>, set: impl Fn(u16, u16) -> F)
where
    F: Future<Output = Result<(), EngineError>>,
{
    while let Some((columns, rows)) = sizes.recv().await {
        if let Err(error) = set(columns, rows).await {
            tracing::debug!("the size of a terminal was not set: {error}");
        }
    }
}

/// The lines that are not older than a time. Each begins with its own; it is left out again if it was not wanted.
fn lines_since(
    bytes: BoxStream<'static, io::Result<Bytes>>,
    since: Timestamp,
    keep_time: bool,
) -> BoxStream<'static, io::Result<Bytes>> {
    let state = (bytes, BytesMut::new(), false);
    stream::try_unfold(state, move |(mut bytes, mut rest, mut over)| async move {
        loop {
            let at = rest.iter().position(|byte| *byte == b'\n');
            let line = match at {
                Some(at) => rest.split_to(at + 1),
                // A line without an end is given in pieces. Those after the first have no time, and follow it.
                None if rest.len() >= LONGEST_LINE => rest.split(),
                None if over && !rest.is_empty() => rest.split(),
                None if over => return Ok(None),
                None => {
                    match bytes.next().await {
                        Some(piece) => rest.extend_from_slice(&piece?),
                        None => over = true,
                    }
                    continue;
                }
            };
            let space = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
            let time = std::str::from_utf8(&line[..space])
                .ok()
                .and_then(|text| text.parse::<Timestamp>().ok());
            if time.is_some_and(|time| time < since) {
                continue;
            }
            let from = if keep_time || time.is_none() {
                0
            } else {
                (space + 1).min(line.len())
            };
            let kept = line.freeze().slice(from..);
            return Ok(Some((kept, (bytes, rest, over))));
        }
    })
    .boxed()
}

fn limited(
    bytes: BoxStream<'static, io::Result<Bytes>>,
    limit: u64,
) -> BoxStream<'static, io::Result<Bytes>> {
    let state = (bytes, usize::try_from(limit).unwrap_or(usize::MAX));
    stream::try_unfold(state, |(mut bytes, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        match bytes.next().await {
            None => Ok(None),
            Some(piece) => {
                let mut piece = piece?;
                piece.truncate(left);
                let left = left - piece.len();
                Ok(Some((piece, (bytes, left))))
            }
        }
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn text(stream: BoxStream<'static, io::Result<Bytes>>) -> String {
        let pieces: Vec<_> = stream.map(|piece| piece.unwrap()).collect().await;
        String::from_utf8(pieces.concat()).unwrap()
    }

    fn pieces(all: &[&'static str]) -> BoxStream<'static, io::Result<Bytes>> {
        let all: Vec<_> = all
            .iter()
            .map(|piece| Ok(Bytes::from_static(piece.as_bytes())))
            .collect();
        stream::iter(all).boxed()
    }

    #[tokio::test]
    async fn lines_before_a_time_are_left_out_also_within_its_second() {
        let log = [
            "2026-11-30T01:00:00.100Z one\n2026-11-30T01:00:0",
            "0.900Z two\n2026-11-30T01:00:01Z three",
        ];
        let since: Timestamp = "2026-11-30T01:00:00.5Z".parse().unwrap();
        assert_eq!(text(lines_since(pieces(&log), since, false)).await, "two\nthree");
        assert_eq!(
            text(lines_since(pieces(&log), since, true)).await,
            "2026-11-30T01:00:00.900Z two\n2026-11-30T01:00:01Z three"
        );
    }

    #[tokio::test]
    async fn a_line_without_an_end_is_not_collected_for_ever() {
        let piece = Ok(Bytes::from("x".repeat(LONGEST_LINE / 4)));
        let endless = stream::repeat_with(move || {
            piece
                .as_ref()
                .map(Clone::clone)
                .map_err(|e: &io::Error| e.kind().into())
        });
        let since: Timestamp = "2026-11-30T01:00:00Z".parse().unwrap();
        let mut lines = lines_since(endless.boxed(), since, true);
        assert_eq!(lines.next().await.unwrap().unwrap().len(), LONGEST_LINE);
    }

    #[tokio::test]
    async fn a_log_ends_after_so_many_bytes() {
        assert_eq!(text(limited(pieces(&["abc", "def", "ghi"]), 5)).await, "abcde");
        assert_eq!(text(limited(pieces(&["abc"]), 0)).await, "");
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_has_time_to_know_how_a_command_ended() {
        let asked = std::cell::Cell::new(0);
        let after = |answers: i32, last: fn() -> Result<Option<i64>, EngineError>| {
            asked.set(0);
            let asked = &asked;
            ended_with(move || {
                asked.set(asked.get() + 1);
                let answer = match asked.get() {
                    n if n > answers => last(),
                    n if n % 2 == 0 => Err(EngineError::Refused("busy".into())),
                    _ => Ok(None),
                };
                std::future::ready(answer)
            })
        };
        assert_eq!(after(0, || Ok(Some(3))).await.unwrap(), 3);
        assert_eq!(after(20, || Ok(Some(4))).await.unwrap(), 4);
        let gone = after(2, || Err(EngineError::NotFound("no such exec".into()))).await;
        assert!(gone.unwrap_err().is_not_found());
        assert_eq!(asked.get(), 3);
        let began = Instant::now();
        let silent = after(i32::MAX, || Ok(None)).await.unwrap_err();
        assert!(matches!(silent, EngineError::Refused(_)), "{silent}");
        assert!(began.elapsed() >= TOLD_OF_AN_END && began.elapsed() < TOLD_OF_AN_END * 2);
    }
}
