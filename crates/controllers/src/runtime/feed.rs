//! Watches that keep a [`Cache`] up to date.

use std::fmt::Debug;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use kube::core::{ApiResource, DynamicObject, PartialObjectMeta};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::cache::{Cache, View};
use super::decode::Seen;
use super::object::{GroupKind, ObjectRef, with_types};

/// Where a watch stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedState {
    /// The first list is not complete.
    Starting,
    /// Listed once and following.
    Following,
    /// Listed before, and the watch does not start again, with the exact error. What is cached may be old. A watch that
    /// goes on without news says nothing, so that this stays until the next news.
    Interrupted(String),
    /// It cannot be listed, with the exact error; it is being tried again.
    Failing(String),
}

/// What is watched.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The kind.
    pub resource: ApiResource,
    /// Label selector, empty for everything.
    pub labels: String,
}

impl Subject {
    /// Group and kind of the watched objects.
    pub fn kind(&self) -> GroupKind {
        GroupKind::new(&self.resource.group, &self.resource.kind)
    }

    /// As [`Subject::stream`], of metadata alone.
    pub fn outlines(
        &self,
        client: Client,
    ) -> impl Stream<Item = watcher::Result<Event<PartialObjectMeta<DynamicObject>>>> + Send + use<> {
        let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(client, &self.resource);
        watcher::watcher(api, self.config())
    }

    fn config(&self) -> watcher::Config {
        let config = watcher::Config::default();
        match self.labels.as_str() {
            "" => config,
            labels => config.labels(labels),
        }
    }

    /// The events of this subject in all namespaces of a cluster, forever.
    pub fn stream(&self, client: Client) -> impl Stream<Item = watcher::Result<Event<Seen>>> + Send + use<> {
        let api: Api<Seen> = Api::all_with(client, &self.resource);
        watcher::watcher(api, self.config())
    }
}

/// Objects of a list that are taken into the cache at once. A tree of one is some tens of kilobytes.
const TAKEN_AT_ONCE: usize = 100;

/// An object as a watch brings it.
pub trait Delivered: Send + 'static {
    /// Namespace (empty: none), name and revision.
    fn address(&self) -> (&str, &str, &str);
    /// All there is of it; data are null if there are metadata only.
    ///
    /// # Errors
    /// When it is no object: which one, and why not.
    fn object(self) -> Result<DynamicObject, String>;
}

impl Delivered for Seen {
    fn address(&self) -> (&str, &str, &str) {
        Seen::address(self)
    }

    fn object(self) -> Result<DynamicObject, String> {
        let (namespace, name, _) = Seen::address(&self);
        self.whole()
            .map_err(|error| format!("{namespace}/{name}: {error}"))
    }
}

impl Delivered for PartialObjectMeta<DynamicObject> {
    fn address(&self) -> (&str, &str, &str) {
        let metadata = &self.metadata;
        (
            metadata.namespace.as_deref().unwrap_or_default(),
            metadata.name.as_deref().unwrap_or_default(),
            metadata.resource_version.as_deref().unwrap_or_default(),
        )
    }

    fn object(self) -> Result<DynamicObject, String> {
        Ok(DynamicObject {
            // What it says it is, is `PartialObjectMetadata`.
            types: None,
            metadata: self.metadata,
            data: Value::Null,
        })
    }
}

/// Follows `events` into `cache` until `shutdown`, reporting where it stands.
///
/// A failing watch is tried again with back-off; meanwhile the cache keeps what it has, so that nothing looks deleted.
pub async fn follow<V, S, D>(
    subject: Subject,
    events: S,
    cache: Arc<Cache<V>>,
    state: watch::Sender<FeedState>,
    backoff: Backoff,
    shutdown: CancellationToken,
) where
    V: View + Default,
    S: Stream<Item = watcher::Result<Event<D>>> + Send,
    D: Delivered,
{
    let kind = subject.kind();
    let resource = Arc::new(subject.resource.clone());
    let mut events = std::pin::pin!(events);
    let mut listed = Vec::new();
    let mut failures = 0;
    loop {
        let event = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            event = events.next() => event,
        };
        match event {
            None => return,
            Some(Ok(event)) => {
                match event {
                    Event::Init => {
                        listed.clear();
                        cache.listing(&kind);
                        continue;
                    }
                    Event::InitApply(object) => {
                        listed.extend(whole(object, &resource));
                        if listed.len() >= TAKEN_AT_ONCE {
                            cache.lists(&kind, std::mem::take(&mut listed));
                        }
                        continue;
                    }
                    Event::InitDone => {
                        cache.lists(&kind, std::mem::take(&mut listed));
                        cache.listed(&kind);
                    }
                    Event::Apply(object) => {
                        // Most events say what the answer to our own write has said already.
                        let (namespace, name, revision) = object.address();
                        if !cache.repeats(&kind, namespace, name, revision) {
                            take(&cache, &kind, &resource, object);
                        }
                    }
                    Event::Delete(object) => {
                        if let Some(object) = whole(object, &resource) {
                            cache.deleted(&object);
                        }
                    }
                }
                failures = 0;
                set(&state, FeedState::Following);
            }
            Some(Err(error)) => {
                failures += 1;
                let message = describe(&error);
                tracing::debug!(kind = %kind, failures, error = %message, "watch interrupted");
                // A watch that ends is normal (time-outs, 410); one that cannot be started, or a list, tells more.
                match error {
                    watcher::Error::InitialListFailed(_) => set(&state, FeedState::Failing(message)),
                    watcher::Error::WatchStartFailed(_) => set(&state, FeedState::Interrupted(message)),
                    _ => {}
                }
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(backoff.delay(failures)) => {}
                }
            }
        }
    }
}

/// All of an object, if it can be read.
fn whole<D: Delivered>(seen: D, resource: &ApiResource) -> Option<DynamicObject> {
    match seen.object() {
        Ok(object) => Some(with_types(object, &resource.api_version, &resource.kind)),
        Err(error) => {
            // It was JSON with metadata; that one object is not as all others are must not stop the watch.
            tracing::error!(kind = %resource.kind, %error, "an object cannot be read and is passed over");
            None
        }
    }
}

/// Puts what an event brings into the cache, now or when the answer to our own write has come.
fn take<V, D>(cache: &Cache<V>, kind: &GroupKind, resource: &Arc<ApiResource>, object: D)
where
    V: View + Default,
    D: Delivered,
{
    let (namespace, name, revision) = object.address();
    let address = ObjectRef {
        kind: kind.clone(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    let (revision, resource) = (revision.to_owned(), Arc::clone(resource));
    let later = {
        let resource = Arc::clone(&resource);
        move |object| whole(object, &resource)
    };
    if let Some(object) = cache.hold(&address, &revision, object, later)
        && let Some(object) = whole(object, &resource)
    {
        cache.watched(object);
    }
}

fn set(state: &watch::Sender<FeedState>, new: FeedState) {
    state.send_if_modified(|old| {
        let changed = *old != new;
        *old = new;
        changed
    });
}

/// An error with all its causes: the outer ones alone ("failed to perform initial object list") help nobody.
pub fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !message.contains(&text) {
            message.push_str(": ");
            message.push_str(&text);
        }
        source = cause.source();
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::cache::{Change, Snapshot};
    use futures::stream;
    use kube::core::GroupVersionKind;
    use serde_json::json;
    use std::time::Duration;

    fn thing(name: &str, revision: u64) -> Seen {
        let object = json!({
            "metadata": {"name": name, "uid": name, "resourceVersion": revision.to_string()},
        });
        serde_json::from_str(&object.to_string()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn an_interrupted_watch_keeps_the_cache_and_a_new_list_corrects_it() {
        let subject = Subject {
            resource: ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Thing")),
            labels: String::new(),
        };
        let kind = subject.kind();
        let cache = Arc::new(Cache::<()>::new(
            |_: &Snapshot<()>, _: &Snapshot<()>, _: &Change| {},
        ));
        let (state, mut seen) = watch::channel(FeedState::Starting);
        let count = {
            let (cache, kind) = (Arc::clone(&cache), kind.clone());
            move || cache.snapshot().of_kind(&kind).count()
        };
        let (send, receive) = futures::channel::mpsc::unbounded();
        let run = tokio::spawn(follow(
            subject,
            receive.chain(stream::pending()),
            cache,
            state,
            Backoff {
                base: Duration::from_secs(1),
                cap: Duration::from_secs(5),
                jitter: 0.0,
            },
            CancellationToken::new(),
        ));
        for event in [
            Event::Init,
            Event::InitApply(thing("a", 1)),
            Event::InitApply(thing("b", 2)),
            Event::InitDone,
        ] {
            send.unbounded_send(Ok(event)).unwrap();
        }
        seen.wait_for(|state| *state == FeedState::Following)
            .await
            .unwrap();
        assert_eq!(count(), 2);

        send.unbounded_send(Err(watcher::Error::NoResourceVersion))
            .unwrap();
        let refused = std::io::Error::other("connection refused");
        let failed = watcher::Error::InitialListFailed(kube::Error::Service(refused.into()));
        send.unbounded_send(Err(failed)).unwrap();
        let failing = seen
            .wait_for(|state| matches!(state, FeedState::Failing(_)))
            .await
            .unwrap()
            .clone();
        let FeedState::Failing(message) = failing else {
            unreachable!()
        };
        assert!(message.ends_with("connection refused"), "{message}");
        assert_eq!(count(), 2);

        for event in [Event::Init, Event::InitApply(thing("b", 3)), Event::InitDone] {
            send.unbounded_send(Ok(event)).unwrap();
        }
        seen.wait_for(|state| *state == FeedState::Following)
            .await
            .unwrap();
        assert_eq!(count(), 1);
        run.abort();
    }
}
