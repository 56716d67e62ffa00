//! Traces: what the controllers do, and the requests that it takes, to a collector of OpenTelemetry.
//!
//! A [`Recorder`] is a layer of `tracing`: every span of our own crates (a reconcile, a request) becomes a span of a trace when it
//! ends, with the events in it. An [`Exporter`] sends them by OTLP over HTTP, in the protocol's JSON form. Nothing of this exists
//! unless an endpoint is named. Nobody waits for it either: what a slow collector does not take is dropped, and counted.

mod export;
mod json;

use std::time::SystemTime;

use serde_json::Value;
use tokio::sync::mpsc;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

pub use export::{Exporter, TracesError};

/// Finished spans that wait to be sent.
const WAITING: usize = 4096;
/// Events that are kept of one span.
const EVENTS: usize = 32;
/// First part of the names of our own crates.
const OURS: &str = "choreo";

/// A name and what it is.
type Named = (&'static str, Value);

/// A span that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    trace: u128,
    span: u64,
    parent: Option<u64>,
    name: &'static str,
    fields: Vec<Named>,
    events: Vec<Happened>,
    failed: bool,
    start: SystemTime,
    end: SystemTime,
}

/// Something that happened in a span.
#[derive(Debug)]
struct Happened {
    at: SystemTime,
    level: Level,
    fields: Vec<Named>,
}

/// A span that goes on.
struct Open {
    trace: u128,
    span: u64,
    parent: Option<u64>,
    fields: Vec<Named>,
    events: Vec<Happened>,
    failed: bool,
    start: SystemTime,
}

/// Records spans; see the module's documentation.
pub struct Recorder {
    finished: mpsc::Sender<Finished>,
}

/// Something that records, and what it records. Whoever starts the log takes the first, whoever runs the program the second.
pub fn channel() -> (Recorder, Recorded) {
    let (finished, recorded) = mpsc::channel(WAITING);
    (Recorder { finished }, Recorded(recorded))
}

/// What is recorded, for an [`Exporter`].
pub struct Recorded(mpsc::Receiver<Finished>);

impl Recorder {
    /// Whether a span or event is one of ours: those of the libraries would make traces of traces.
    pub fn wants(metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with(OURS) && *metadata.level() <= Level::DEBUG
    }
}

impl<S> Layer<S> for Recorder
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let parent = span.parent().and_then(|parent| {
            let extensions = parent.extensions();
            extensions.get::<Open>().map(|open| (open.trace, open.span))
        });
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(Open {
            trace: parent.map_or_else(rand::random, |(trace, _)| trace),
            span: rand::random(),
            parent: parent.map(|(_, span)| span),
            fields: fields.0,
            events: Vec::new(),
            failed: false,
            start: SystemTime::now(),
        });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(open) = span.extensions_mut().get_mut::<Open>() {
            let mut fields = Fields::default();
            values.record(&mut fields);
            open.fields.extend(fields.0);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let Some(span) = context.event_span(event) else {
            return;
        };
        let mut extensions = span.extensions_mut();
        let Some(open) = extensions.get_mut::<Open>() else {
            return;
        };
        let level = *event.metadata().level();
        open.failed |= level == Level::ERROR;
        if open.events.len() < EVENTS {
            let mut fields = Fields::default();
            event.record(&mut fields);
            open.events.push(Happened {
                at: SystemTime::now(),
                level,
                fields: fields.0,
            });
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let Some(open) = span.extensions_mut().remove::<Open>() else {
            return;
        };
        let finished = Finished {
            trace: open.trace,
            span: open.span,
            parent: open.parent,
            name: span.name(),
            fields: open.fields,
            events: open.events,
            failed: open.failed,
            start: open.start,
            end: SystemTime::now(),
        };
        // Rather a hole in a trace than a controller that waits.
        let _ = self.finished.try_send(finished);
    }
}

#[derive(Default)]
struct Fields(Vec<Named>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.push((field.name(), format!("{value:?}").into()));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.push((field.name(), value.into()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.push((field.name(), value.into()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.push((field.name(), value.into()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.push((field.name(), value.into()));
    }
}
