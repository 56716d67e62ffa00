//! Events: what a person sees at the end of `kubectl describe`.
//!
//! Only changes of `Ready` become events, so their number is bounded by what really happens; repeated ones are one
//! event with a count. Recording never holds a reconcile up: under pressure events are dropped, never work.

use std::time::Duration;

use choreo_api::conditions::ConditionStatus;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::core::DynamicObject;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::status::Transition;

/// Events not yet sent; beyond that they are dropped.
const BACKLOG: usize = 1024;
/// Longest that sending one event may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bound of an event's note in the API.
const NOTE_LIMIT: usize = 1024;

/// Takes events and sends them in the background. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Events {
    queue: mpsc::Sender<(ObjectReference, Event)>,
}

impl Events {
    /// Starts the sender; `reporter` is the name of the reporting program's part.
    pub fn start(client: Client, reporter: &str, shutdown: CancellationToken) -> Self {
        let (queue, mut events) = mpsc::channel::<(ObjectReference, Event)>(BACKLOG);
        let recorder = Recorder::new(
            client,
            Reporter {
                controller: reporter.to_owned(),
                instance: None,
            },
        );
        tokio::spawn(async move {
            loop {
                let next = tokio::select! {
                    () = shutdown.cancelled() => return,
                    next = events.recv() => next,
                };
                let Some((object, event)) = next else { return };
                match tokio::time::timeout(PATIENCE, recorder.publish(&event, &object)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::debug!(%error, "event not recorded"),
                    Err(_) => tracing::debug!("event not recorded in time"),
                }
            }
        });
        Self { queue }
    }

    /// Records that an object's `Ready` changed.
    pub fn transition(&self, controller: &str, object: &DynamicObject, transition: &Transition) {
        let condition = &transition.now;
        let type_ = match condition.status {
            ConditionStatus::False => EventType::Warning,
            ConditionStatus::True | ConditionStatus::Unknown => EventType::Normal,
        };
        self.record(object, type_, controller, &condition.reason, &condition.message);
    }

    /// Records an event about an object.
    pub fn record(&self, object: &DynamicObject, type_: EventType, action: &str, reason: &str, note: &str) {
        let types = object.types.clone().unwrap_or_default();
        let reference = ObjectReference {
            api_version: Some(types.api_version),
            kind: Some(types.kind),
            namespace: object.metadata.namespace.clone(),
            name: object.metadata.name.clone(),
            uid: object.metadata.uid.clone(),
            ..ObjectReference::default()
        };
        let note: String = note.chars().take(NOTE_LIMIT).collect();
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note),
            action: action.to_owned(),
            secondary: None,
        };
        if self.queue.try_send((reference, event)).is_err() {
            tracing::debug!("too many events, one dropped");
        }
    }
}
