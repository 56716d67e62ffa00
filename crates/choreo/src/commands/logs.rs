//! `choreo logs`.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::{AsyncBufReadExt, StreamExt};
use kube::Api;
use kube::api::LogParams;
use kube::runtime::{WatchStreamExt as _, watcher};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::exit::ExitStatus;
use crate::failure::{Failure, Outcome};
use crate::online::{Connect, Session};
use crate::output::{Printer, style};
use crate::running::{Place, Pod, Stream, Target, check_real, list, refused, streams};
use crate::text::parse_duration;

/// Lines that wait to be printed.
const WAITING: usize = 256;

/// Arguments of `choreo logs`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Lines of several pods, or containers, begin with whose they are. With -f, pods that come while a new revision is rolled out are
followed as well, and so is a container that is started again.

For example: choreo logs greeter -f
             choreo logs greeter -e production --since 5m
             choreo logs greeter --previous")]
pub(crate) struct Args {
    /// The component
    #[arg(value_name = "COMPONENT")]
    component: String,
    #[command(flatten)]
    target: Target,
    /// Go on with what will be written, until Ctrl-C
    #[arg(short, long, conflicts_with = "previous")]
    follow: bool,
    /// What the containers wrote in their life before this one
    #[arg(long)]
    previous: bool,
    /// Only what was written within this time: 30s, 5m, 1h
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    since: Option<Duration>,
    /// Only so many lines of each container
    #[arg(long, value_name = "N")]
    tail: Option<u32>,
    /// Only this container
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// Begin each line with its time
    #[arg(long)]
    timestamps: bool,
}

pub(crate) async fn run(args: &Args, connect: &Connect, printer: &mut Printer) -> Outcome {
    let place = Place::find(&args.component, &args.target, connect).await?;
    let data_plane = place.data_plane(&args.target).await?;
    let pods = list(&place, &data_plane).await?;
    check_real(&place, &pods)?;
    let logs = Logs {
        args,
        place: &place,
        api: Api::namespaced(data_plane.client(), &place.namespace()),
        data_plane: &data_plane,
    };
    if args.follow {
        logs.follow(&pods, printer).await
    } else {
        logs.print(&pods, printer).await
    }
}

/// A line of a log, without its end.
struct Line {
    of: Stream,
    text: String,
}

struct Logs<'a> {
    args: &'a Args,
    place: &'a Place,
    api: Api<Pod>,
    data_plane: &'a Session,
}

impl Logs<'_> {
    fn params(&self, stream: &Stream, from_the_beginning: bool) -> LogParams {
        let args = self.args;
        LogParams {
            container: Some(stream.container.clone()),
            follow: args.follow,
            previous: args.previous,
            timestamps: args.timestamps,
            since_seconds: args
                .since
                .filter(|_| !from_the_beginning)
                .map(|since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX).max(1)),
            tail_lines: args.tail.filter(|_| !from_the_beginning).map(i64::from),
            ..LogParams::default()
        }
    }

    /// What there is, pod by pod, the oldest first.
    async fn print(&self, pods: &[Pod], printer: &mut Printer) -> Outcome {
        let found = streams(pods.iter().rev(), self.args.container.as_deref());
        if found.is_empty() {
            return Err(self.nothing(pods));
        }
        let several = found.len() > 1;
        // Containers that have not been started twice have no life before this one, which is no failure among several.
        let mut refusals = Vec::new();
        for stream in &found {
            let opened = self
                .api
                .log_stream(&stream.pod, &self.params(stream, false))
                .await;
            let mut lines = match opened {
                Ok(log) => log.lines(),
                Err(error) => {
                    let what = format!("cannot read the log of {}", title(stream));
                    refusals.push(refused(self.place, pods, self.data_plane.error(error), what));
                    continue;
                }
            };
            while let Some(line) = lines.next().await {
                let text = line.map_err(|error| broken(stream, &error))?;
                let of = stream.clone();
                show(&Line { of, text }, several, printer)?;
            }
        }
        match refusals.pop() {
            Some(failure) if refusals.len() + 1 == found.len() => Err(failure),
            _ => Ok(ExitStatus::Success),
        }
    }

    /// Everything that is written from now on, in the order in which it comes.
    async fn follow(&self, pods: &[Pod], printer: &mut Printer) -> Outcome {
        let (sender, mut lines) = mpsc::channel(WAITING);
        let mut known = BTreeSet::new();
        let mut reading = JoinSet::new();
        let only = self.args.container.as_deref();
        for stream in streams(pods, only) {
            self.open(&stream, false, pods, &sender, &mut reading).await?;
            known.insert(stream);
        }
        if known.is_empty() {
            printer.note(format!(
                "no container of {} has started yet; waiting",
                self.place.title()
            ))?;
        }
        let config = watcher::Config::default().labels(&self.place.selector());
        // Lost watches begin again by themselves, after a pause that grows.
        let mut changes = watcher(self.api.clone(), config)
            .default_backoff()
            .applied_objects()
            .boxed();
        loop {
            tokio::select! {
                line = lines.recv() => {
                    let Some(line) = line else { return Ok(ExitStatus::Success) };
                    show(&line, known.len() > 1, printer)?;
                }
                // A log that ends is that of a container that ended. What comes of that is told by the watch.
                Some(_) = reading.join_next() => {}
                change = changes.next() => match change {
                    Some(Ok(pod)) => {
                        check_real(self.place, std::slice::from_ref(&pod))?;
                        for stream in streams([&pod], only) {
                            if !known.contains(&stream) {
                                self.open(&stream, true, std::slice::from_ref(&pod), &sender, &mut reading).await?;
                                known.insert(stream);
                            }
                        }
                    }
                    Some(Err(error)) => tracing::debug!(%error, "the watch of pods was interrupted"),
                    None => return Ok(ExitStatus::Success),
                },
            }
        }
    }

    async fn open(
        &self,
        stream: &Stream,
        from_the_beginning: bool,
        pods: &[Pod],
        lines: &mpsc::Sender<Line>,
        reading: &mut JoinSet<()>,
    ) -> Result<(), Failure> {
        let params = self.params(stream, from_the_beginning);
        let opened = self.api.log_stream(&stream.pod, &params).await;
        let mut log = match opened {
            Ok(log) => log.lines(),
            Err(error) => {
                let error = self.data_plane.error(error);
                // A pod that has gone meanwhile is followed no more.
                if error.not_found() && from_the_beginning {
                    return Ok(());
                }
                let what = format!("cannot read the log of {}", title(stream));
                return Err(refused(self.place, pods, error, what));
            }
        };
        let (of, lines) = (stream.clone(), lines.clone());
        reading.spawn(async move {
            while let Some(Ok(text)) = log.next().await {
                let of = of.clone();
                if lines.send(Line { of, text }).await.is_err() {
                    return;
                }
            }
        });
        Ok(())
    }

    /// Why there is nothing to read.
    fn nothing(&self, pods: &[Pod]) -> Failure {
        let place = self.place;
        let of = match &self.args.container {
            Some(container) => format!("no container {container} of {} has started", place.title()),
            None => format!("no container of {} has started", place.title()),
        };
        let names: Vec<String> = pods.iter().map(kube::ResourceExt::name_any).collect();
        let failure = Failure::new(of).status(ExitStatus::NotFound);
        let failure = match names.as_slice() {
            [] => failure.cause("it has no pods"),
            names => failure.cause(format!("its pods are {}", names.join(", "))),
        };
        failure.hint(format!(
            "`choreo tree component/{}` says why; -f waits for it",
            place.component
        ))
    }
}

fn title(stream: &Stream) -> String {
    format!("container {} of pod {}", stream.container, stream.pod)
}

fn broken(stream: &Stream, error: &std::io::Error) -> Failure {
    Failure::new(format!("the log of {} broke off", title(stream))).because(error)
}

fn show(line: &Line, prefixed: bool, printer: &mut Printer) -> std::io::Result<()> {
    if !prefixed {
        return printer.line(&line.text);
    }
    let whose = format!("{} {}", line.of.pod, line.of.container);
    printer.line(format!(
        "{} {}",
        style::paint(style::DIM, whose + " |"),
        line.text
    ))
}
