//! The log of what runs for long.

use choreo_manager::traces::Recorder;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer};

use crate::failure::Failure;

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// A line of text for each event
    Text,
    /// A JSON object for each event
    Json,
}

/// Starts logging to standard error, and recording traces if something records them.
pub(crate) fn start(level: &str, format: LogFormat, traces: Option<Recorder>) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(level).map_err(|error| {
        Failure::usage(format!("--log-level: `{level}` is no level"))
            .because(&error)
            .hint("for example: info")
    })?;
    let started = match traces {
        None => tracing_subscriber::registry()
            .with(filter)
            .with(filter_fn(may_be_said))
            .with(layer(format, std::io::stderr))
            .try_init(),
        // Each has a filter of its own: what is traced need not be logged.
        Some(traces) => tracing_subscriber::registry()
            .with(layer(format, std::io::stderr).with_filter(filter.and(filter_fn(may_be_said))))
            .with(traces.with_filter(filter_fn(Recorder::wants)))
            .try_init(),
    };
    started.map_err(|error| Failure::new("cannot start the log").because(&error))
}

/// Whatever the level: the client of container engines writes down what it asks and is answered, and containers have secrets in
/// their environment.
fn may_be_said(metadata: &Metadata<'_>) -> bool {
    !metadata.target().starts_with("bollard") || *metadata.level() <= Level::INFO
}

fn layer<S, W>(format: LogFormat, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let log = tracing_subscriber::fmt::layer().with_writer(writer);
    match format {
        LogFormat::Text => {
            let color = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
            log.with_ansi(color).with_target(false).boxed()
        }
        LogFormat::Json => log.json().flatten_event(true).boxed(),
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use serde_json::Value;

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_container_engines_answer_is_never_logged() {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let subscriber = tracing_subscriber::registry()
            .with(EnvFilter::new("trace,bollard::docker=trace"))
            .with(filter_fn(may_be_said))
            .with(layer(LogFormat::Json, move || writer.clone()));
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!(target: "bollard::docker", "PASSWORD=secret");
            tracing::warn!(target: "bollard::docker", "gone");
            tracing::debug!(target: "choreo_node", "said");
        });
        let text = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
        assert!(
            !text.contains("secret") && text.contains("gone") && text.contains("said"),
            "{text}"
        );
    }

    /// The span is the one that the controllers' workers open.
    #[test]
    fn every_line_of_json_says_which_object_it_is_about() {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let log = layer(LogFormat::Json, move || writer.clone());
        let subscriber = tracing_subscriber::registry()
            .with(EnvFilter::new("warn"))
            .with(log);
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::error_span!("reconcile", controller = "release", key = "acme/greeter");
            span.in_scope(|| {
                tracing::warn!(object = "Service acme/greeter", "not applied");
                tracing::info!("not said");
            });
        });
        let text = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
        let line: Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!(line["span"]["controller"], "release");
        assert_eq!(line["span"]["key"], "acme/greeter");
        assert_eq!(
            (&line["level"], &line["message"], &line["object"]),
            (
                &"WARN".into(),
                &"not applied".into(),
                &"Service acme/greeter".into()
            )
        );
    }
}
