//! Events: what a person sees at the end of `kubectl describe`.
//!
//! Only changes of `Ready` become events, so their number is bounded by what really happens; repeated ones are one
//! event with a count. Recording never holds a reconcile up: under pressure events are dropped, never work.
//!
//! The client library has a recorder, too. It remembers every event for six minutes and looks at all of them for each new
//! one, which a platform that starts thousands of components pays for with memory and time.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use choreo_api::conditions::{ConditionStatus, reasons};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::status::Transition;

/// Events not yet sent; beyond that they are dropped.
const BACKLOG: usize = 1024;
/// Longest that sending one event may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bound of an event's note in the API.
const NOTE_LIMIT: usize = 1024;
/// Events of which a repetition is counted instead of told anew: the latest ones. What repeats itself does so soon.
const REMEMBERED: usize = 256;
/// A repetition after this time is an event of its own; the same as upstream's recorders.
const SERIES_ENDS: SignedDuration = SignedDuration::from_mins(6);

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Weight {
    /// Something went as it should, or is on its way.
    Normal,
    /// Somebody may have to do something.
    Warning,
}

impl Weight {
    fn as_str(self) -> &'static str {
        match self {
            Weight::Normal => "Normal",
            Weight::Warning => "Warning",
        }
    }
}

/// What is told.
struct News {
    regarding: ObjectReference,
    weight: Weight,
    action: String,
    reason: String,
    note: String,
}

/// Takes events and sends them in the background. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Events {
    queue: mpsc::Sender<News>,
}

impl Events {
    /// Starts the sender; `reporter` is the name of the reporting program's part.
    pub fn start(client: Client, reporter: &str, shutdown: CancellationToken) -> Self {
        let (queue, mut news) = mpsc::channel::<News>(BACKLOG);
        let mut recorder = Recorder {
            client,
            reporter: reporter.to_owned(),
            told: Told::default(),
        };
        tokio::spawn(async move {
            loop {
                let next = tokio::select! {
                    () = shutdown.cancelled() => return,
                    next = news.recv() => next,
                };
                let Some(next) = next else { return };
                match tokio::time::timeout(PATIENCE, recorder.tell(next)).await {
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
        let weight = match condition.status {
            ConditionStatus::False if condition.reason != reasons::PROGRESSING => Weight::Warning,
            _ => Weight::Normal,
        };
        self.record(object, weight, controller, &condition.reason, &condition.message);
    }

    /// Records an event about an object.
    pub fn record(&self, object: &DynamicObject, weight: Weight, action: &str, reason: &str, note: &str) {
        let types = object.types.clone().unwrap_or_default();
        let regarding = ObjectReference {
            api_version: Some(types.api_version),
            kind: Some(types.kind),
            namespace: object.metadata.namespace.clone(),
            name: object.metadata.name.clone(),
            uid: object.metadata.uid.clone(),
            ..ObjectReference::default()
        };
        let news = News {
            regarding,
            weight,
            action: action.to_owned(),
            reason: reason.to_owned(),
            note: note.chars().take(NOTE_LIMIT).collect(),
        };
        if self.queue.try_send(news).is_err() {
            tracing::debug!("too many events, one dropped");
        }
    }
}

/// An event that was sent.
struct Sent {
    /// What it says about what, but for its words.
    digest: u64,
    name: String,
    count: i32,
    last: Timestamp,
}

/// The events that were sent last, the newest at the end.
#[derive(Default)]
struct Told {
    /// Random for each process, so that nobody can make two events look like one.
    hasher: RandomState,
    sent: VecDeque<Sent>,
}

impl Told {
    fn digest(&self, news: &News) -> u64 {
        let about = &news.regarding;
        self.hasher.hash_one((
            (&about.kind, &about.namespace, &about.name, &about.uid),
            (news.weight, &news.action, &news.reason),
        ))
    }

    /// Takes out the event that is repeated by one at `now`.
    fn take(&mut self, digest: u64, now: Timestamp) -> Option<Sent> {
        let at = self.sent.iter().rposition(|sent| sent.digest == digest)?;
        let sent = self.sent.remove(at)?;
        (now.duration_since(sent.last) < SERIES_ENDS).then_some(sent)
    }

    fn put(&mut self, sent: Sent) {
        if self.sent.len() >= REMEMBERED {
            self.sent.pop_front();
        }
        self.sent.push_back(sent);
    }
}

struct Recorder {
    client: Client,
    reporter: String,
    told: Told,
}

impl Recorder {
    async fn tell(&mut self, news: News) -> kube::Result<()> {
        let now = Timestamp::now();
        // Events about what is in no namespace are in this one.
        let namespace = news.regarding.namespace.as_deref().unwrap_or("default");
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let digest = self.told.digest(&news);
        if let Some(sent) = self.told.take(digest, now) {
            let sent = Sent {
                count: sent.count.saturating_add(1),
                last: now,
                ..sent
            };
            let series = json!({
                "note": news.note,
                "series": {"count": sent.count, "lastObservedTime": MicroTime(now)},
            });
            match api
                .patch(&sent.name, &PatchParams::default(), &Patch::Merge(series))
                .await
            {
                Ok(_) => {
                    self.told.put(sent);
                    return Ok(());
                }
                // Events end after a while, or somebody has removed it.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
        let about = news.regarding.name.as_deref().unwrap_or(&self.reporter);
        let name = format!("{about}.{:x}", now.as_nanosecond());
        let event = Event {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(now)),
            reporting_controller: Some(self.reporter.clone()),
            reporting_instance: Some(self.reporter.clone()),
            type_: Some(news.weight.as_str().to_owned()),
            action: Some(news.action),
            reason: Some(news.reason),
            note: Some(news.note),
            regarding: Some(news.regarding),
            ..Event::default()
        };
        api.create(&PostParams::default(), &event).await?;
        self.told.put(Sent {
            digest,
            name,
            count: 1,
            last: now,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(name: &str, reason: &str) -> News {
        News {
            regarding: ObjectReference {
                kind: Some("Release".to_owned()),
                name: Some(name.to_owned()),
                ..ObjectReference::default()
            },
            weight: Weight::Normal,
            action: "release".to_owned(),
            reason: reason.to_owned(),
            note: String::new(),
        }
    }

    fn sent(digest: u64, last: Timestamp) -> Sent {
        Sent {
            digest,
            name: digest.to_string(),
            count: 1,
            last,
        }
    }

    #[test]
    fn a_repetition_is_known_for_some_minutes() {
        let mut told = Told::default();
        let began = Timestamp::UNIX_EPOCH;
        let (same, other) = (
            told.digest(&news("a", "Ready")),
            told.digest(&news("a", "Failed")),
        );
        assert_eq!(same, told.digest(&news("a", "Ready")));
        assert_ne!(same, other);
        assert_ne!(same, told.digest(&news("b", "Ready")));
        told.put(sent(same, began));
        assert!(told.take(other, began).is_none());
        let later = began + SignedDuration::from_mins(5);
        let found = told.take(same, later).unwrap();
        told.put(Sent { last: later, ..found });
        assert!(told.take(same, later + SERIES_ENDS).is_none());
        assert!(told.sent.is_empty());
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut told = Told::default();
        for digest in 0..1000 {
            told.put(sent(digest, Timestamp::UNIX_EPOCH));
        }
        assert_eq!(told.sent.len(), REMEMBERED);
        assert!(told.take(0, Timestamp::UNIX_EPOCH).is_none());
        assert!(told.take(999, Timestamp::UNIX_EPOCH).is_some());
    }
}
