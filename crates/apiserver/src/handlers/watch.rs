//! Following a collection.
//!
//! A watch is a stream of frames: one JSON document per line, or protobuf messages behind their length. Each is put together
//! from the object's own bytes, which were encoded once, however many clients follow.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use choreo_apimachinery::status::{ApiError, Result};
use choreo_store::{Event, EventKind, Object, RevisionError, Watch, WatchError};
use futures::stream::{self, BoxStream, StreamExt as _};
use http::HeaderValue;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use rand::RngExt;
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::dispatch::Context;
use crate::negotiate::{Codec, Transform, protobuf};
use crate::request::{ListOptions, Query};
use crate::seldom::Seldom;
use crate::transform;
use crate::verbs::{self, Filter, Target, View, metadata_mut};

/// How often a client that takes bookmarks gets one.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);

/// Shortest time that a watch runs when the client does not say; the longest is twice that.
const DEFAULT_TIMEOUT: u64 = 1800;

/// Frames are gathered up to this size before they are sent.
const CHUNK: usize = 64 * 1024;

/// The annotation of the bookmark that ends the initial events.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// Answers with a stream of changes.
pub(super) async fn watch(context: &Context, target: &Target) -> Result<Response> {
    let answer = context.negotiate(target, true)?;
    let options = ListOptions::parse(&context.query, true)?;
    let mut filter = Filter::parse(&target.resource, &options.label_selector, &options.field_selector)?;
    if !context.info.name.is_empty() {
        filter = filter.named(&context.info.name)?;
    }
    let timeout = match options.timeout_seconds {
        Some(seconds) if seconds > 0 => Duration::from_secs(seconds.unsigned_abs()),
        _ => Duration::from_secs(rand::rng().random_range(DEFAULT_TIMEOUT..2 * DEFAULT_TIMEOUT)),
    };
    let mut frames = Frames {
        target: target.clone(),
        filter,
        codec: answer.codec,
        transform: answer.transform,
        query: context.query.clone(),
        titled: false,
        bookmarks: options.allow_watch_bookmarks,
        waiting: VecDeque::new(),
        source: None,
        aside: Seldom::new(aside(
            timeout,
            context.server.draining().clone(),
            context.cluster.registry_changed.subscribe(),
        )),
    };
    frames.start(&options).await?;
    let body = Body::from_stream(stream::unfold(frames, |mut frames| async move {
        let chunk = frames.next().await?;
        Some((Ok::<_, Infallible>(chunk), frames))
    }));
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::OK;
    let kind = HeaderValue::from_static(match answer.codec {
        Codec::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        _ => Codec::Json.media_type(),
    });
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    Ok(response)
}

/// The frames of one watch.
struct Frames {
    target: Target,
    filter: Filter,
    codec: Codec,
    transform: Transform,
    query: Query,
    /// Whether a Table with column definitions has been sent; later ones come without.
    titled: bool,
    bookmarks: bool,
    waiting: VecDeque<Bytes>,
    /// Where changes come from; none once the watch is over.
    source: Option<Watch>,
    /// What else there is to wait for.
    aside: Seldom<BoxStream<'static, Wake>>,
}

/// What ended a wait.
enum Wake {
    Event(std::result::Result<Arc<Event>, WatchError>),
    Bookmark,
    Registry,
    Over,
}

/// What may come besides events, one after another.
fn aside(
    timeout: Duration,
    draining: CancellationToken,
    registry: tokio::sync::watch::Receiver<u64>,
) -> BoxStream<'static, Wake> {
    let now = Instant::now();
    let deadline = Box::pin(sleep_until(now + timeout));
    let mut bookmark = interval_at(now + BOOKMARK_EVERY, BOOKMARK_EVERY);
    bookmark.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let draining = Box::pin(draining.cancelled_owned());
    let state = (draining, deadline, bookmark, registry);
    stream::unfold(
        state,
        |(mut draining, mut deadline, mut bookmark, mut registry)| async move {
            let wake = tokio::select! {
                biased;
                () = &mut draining => Wake::Over,
                () = &mut deadline => Wake::Over,
                _ = bookmark.tick() => Wake::Bookmark,
                changed = registry.changed() => if changed.is_ok() { Wake::Registry } else { Wake::Over },
            };
            // Nobody asks again after the end.
            Some((wake, (draining, deadline, bookmark, registry)))
        },
    )
    .boxed()
}

impl Frames {
    /// Finds the revision to start at; queues the present objects where they come first.
    async fn start(&mut self, options: &ListOptions) -> Result<()> {
        let cluster = self.target.cluster.clone();
        let store = cluster.store();
        let revision = match options.resource_version.as_deref() {
            None => None,
            Some(text) => Some(verbs::parse_revision(text)?),
        };
        let from_now = matches!(revision, None | Some(0));
        let initial = options.send_initial_events.unwrap_or(from_now);
        let from = if initial || from_now {
            if let Some(wanted) = revision.filter(|wanted| *wanted > store.revision()) {
                return Err(verbs::too_large(wanted, store.revision()));
            }
            let snapshot = store.snapshot();
            if initial {
                self.queue_present(&snapshot, options).await;
            }
            snapshot.revision()
        } else {
            revision.unwrap_or_default()
        };
        match store.watch(
            Some(self.target.storage_resource()),
            self.scope().as_deref(),
            from,
        ) {
            Ok(watch) => self.source = Some(watch),
            // Told in the stream, as clients expect it; they list again.
            Err(RevisionError::Expired { requested, oldest }) => {
                self.queue_error(&ApiError::too_old_resource_version(requested, oldest));
            }
            // The revision is another cluster's, or this one was restored: what the client knows is worth nothing.
            Err(RevisionError::Future { requested, current }) => {
                self.queue_error(&ApiError::expired(format!(
                    "resource version {requested} is newer than the newest: {current}"
                )));
            }
        }
        Ok(())
    }

    /// The namespace that is followed; none for all.
    fn scope(&self) -> Option<String> {
        self.target.scope().map(str::to_owned)
    }

    async fn queue_present(&mut self, snapshot: &choreo_store::Snapshot, options: &ListOptions) {
        let scope = self.scope();
        let mut views: Vec<View> = snapshot
            .iter(self.target.storage_resource(), scope.as_deref(), None)
            .filter(|object| self.filter.accepts(object))
            .map(|object| self.target.view(object.clone()))
            .collect();
        if let Err(error) = self.target.settle(&mut views).await {
            self.queue_error(&error);
            return;
        }
        let mut buffer = Vec::new();
        for view in &views {
            self.frame(&mut buffer, "ADDED", view);
            if buffer.len() >= CHUNK {
                self.waiting.push_back(std::mem::take(&mut buffer).into());
            }
        }
        if options.send_initial_events == Some(true) && self.bookmarks {
            self.bookmark_frame(&mut buffer, snapshot.revision(), true);
        }
        if !buffer.is_empty() {
            self.waiting.push_back(buffer.into());
        }
    }

    fn queue_error(&mut self, error: &ApiError) {
        let mut buffer = Vec::new();
        self.put(&mut buffer, "ERROR", &error.to_value());
        self.waiting.push_back(buffer.into());
    }

    /// The next piece of the stream; none at its end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(chunk) = self.waiting.pop_front() {
                return Some(chunk);
            }
            let (source, aside) = (self.source.as_mut()?, &mut self.aside);
            let wake = tokio::select! {
                biased;
                event = source.next() => Wake::Event(event),
                // The stream has no end of its own.
                wake = poll_fn(|cx| aside.poll_with(cx, |aside, cx| aside.poll_next_unpin(cx))) => {
                    wake.unwrap_or(Wake::Over)
                }
            };
            match wake {
                Wake::Event(Ok(event)) => self.take(&event).await,
                Wake::Event(Err(WatchError::Lagged { seen })) => {
                    self.source = None;
                    let oldest = self.target.cluster.store().revision();
                    self.queue_error(&ApiError::too_old_resource_version(seen, oldest));
                }
                Wake::Event(Err(WatchError::Closed)) => self.source = None,
                Wake::Bookmark => self.queue_bookmark(),
                Wake::Registry => {
                    if !self.still_served() {
                        self.source = None;
                    }
                }
                Wake::Over => {
                    self.queue_bookmark();
                    self.source = None;
                }
            }
        }
    }

    /// A definition that is gone takes its watches with it.
    fn still_served(&self) -> bool {
        let info = &self.target.resource;
        !info.is_crd
            || self
                .target
                .cluster
                .served()
                .registry()
                .lookup(&info.group, &info.version, &info.plural)
                .is_some()
    }

    /// Queues an event and those that are there already.
    async fn take(&mut self, first: &Event) {
        let mut changes = Vec::new();
        let mut views = Vec::new();
        let mut size = 0;
        let mut add = |(change, object): (Change, &Arc<Object>)| {
            size += object.json().len();
            changes.push(change);
            views.push(self.target.view(object.clone()));
            size < CHUNK
        };
        let mut more = change(&self.filter, first).is_none_or(&mut add);
        while more {
            more = match self.source.as_mut().map(Watch::try_next) {
                Some(Ok(Some(event))) => change(&self.filter, &event).is_none_or(&mut add),
                // An error comes again with the next wait.
                _ => false,
            };
        }
        if let Err(error) = self.target.settle(&mut views).await {
            self.queue_error(&error);
            self.source = None;
            return;
        }
        // What a frame adds to its object fits into as many bytes.
        let mut buffer = Vec::with_capacity(size + 64 * views.len());
        for (change, view) in changes.iter().zip(&views) {
            match change.left {
                None => self.frame(&mut buffer, change.kind, view),
                Some(revision) => {
                    // It left the selection: its last selected state, at the revision at which it left.
                    let mut value = (*view.value()).clone();
                    metadata_mut(&mut value)
                        .insert("resourceVersion".to_owned(), revision.to_string().into());
                    self.frame(&mut buffer, change.kind, &View::Made(value.into(), revision));
                }
            }
        }
        if !buffer.is_empty() {
            self.waiting.push_back(buffer.into());
        }
    }

    fn frame(&mut self, buffer: &mut Vec<u8>, kind: &str, view: &View) {
        match (self.transform, self.codec) {
            (Transform::None, Codec::Protobuf) => {
                let info = &self.target.resource;
                let bytes = match view {
                    View::Stored(object) => self.target.cluster.binary.get(object.revision(), || {
                        protobuf::encode_text((&info.api_version(), &info.kind), object.json())
                    }),
                    View::Made(..) | View::Foreign(_) => protobuf::encode(&view.value()).map(Bytes::from),
                };
                match bytes {
                    Ok(bytes) => protobuf::frame(buffer, kind, &bytes),
                    Err(error) => self.put(buffer, "ERROR", &ApiError::internal(error).to_value()),
                }
            }
            (Transform::None, _) => json_frame(buffer, kind, &view.text()),
            _ => {
                let shown = transform::object(self.transform, &self.target.resource, view, &self.query);
                let mut shown = shown.unwrap_or_else(|error| error.to_value());
                if matches!(self.transform, Transform::Table(_)) {
                    if self.titled {
                        shown["columnDefinitions"] = Value::Null;
                    }
                    self.titled = true;
                }
                self.put(buffer, kind, &shown);
            }
        }
    }

    /// Adds a frame with an object that is not encoded yet.
    fn put(&self, buffer: &mut Vec<u8>, kind: &str, object: &Value) {
        if self.codec == Codec::Protobuf {
            match protobuf::encode(object) {
                Ok(bytes) => protobuf::frame(buffer, kind, &bytes),
                // Everything that comes here has a message: errors, metadata and bookmarks.
                Err(error) => tracing::error!(%error, "frame of a watch"),
            }
        } else {
            json_frame(buffer, kind, &serde_json::to_vec(object).unwrap_or_default());
        }
    }

    fn queue_bookmark(&mut self) {
        if !self.bookmarks {
            return;
        }
        let Some(Ok(revision)) = self.source.as_mut().map(Watch::progress) else {
            return;
        };
        let mut buffer = Vec::new();
        self.bookmark_frame(&mut buffer, revision, false);
        self.waiting.push_back(buffer.into());
    }

    fn bookmark_frame(&self, buffer: &mut Vec<u8>, revision: u64, initial_end: bool) {
        let info = &self.target.resource;
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if initial_end {
            metadata["annotations"] = json!({INITIAL_EVENTS_END: "true"});
        }
        let object = match self.transform {
            Transform::None => {
                json!({"kind": info.kind, "apiVersion": info.api_version(), "metadata": metadata})
            }
            Transform::Table(version) => {
                json!({"kind": "Table", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": metadata, "columnDefinitions": null, "rows": []})
            }
            Transform::Metadata(version) => {
                json!({"kind": "PartialObjectMetadata", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": metadata})
            }
        };
        self.put(buffer, "BOOKMARK", &object);
    }
}

/// What a change is for a client with selectors.
struct Change {
    kind: &'static str,
    /// The revision at which the object left the selection, if that is what happened.
    left: Option<u64>,
}

/// A change as the client's selectors see it, with the object to show; none if it does not concern the selection.
fn change<'a>(filter: &Filter, event: &'a Event) -> Option<(Change, &'a Arc<Object>)> {
    let now = event.kind != EventKind::Deleted && filter.accepts(&event.object);
    let before = match &event.previous {
        Some(previous) => filter.accepts(previous),
        None => event.kind == EventKind::Deleted && filter.accepts(&event.object),
    };
    let seen = |kind| Some((Change { kind, left: None }, &event.object));
    match (before, now) {
        (false, false) => None,
        (true, true) => seen("MODIFIED"),
        (false, true) => seen("ADDED"),
        (true, false) if event.kind == EventKind::Deleted => seen("DELETED"),
        (true, false) => {
            let left = Some(event.revision);
            let previous = event.previous.as_ref()?;
            Some((
                Change {
                    kind: "DELETED",
                    left,
                },
                previous,
            ))
        }
    }
}

fn json_frame(buffer: &mut Vec<u8>, kind: &str, object: &[u8]) {
    buffer.extend_from_slice(b"{\"type\":\"");
    buffer.extend_from_slice(kind.as_bytes());
    buffer.extend_from_slice(b"\",\"object\":");
    buffer.extend_from_slice(object);
    buffer.extend_from_slice(b"}\n");
}
