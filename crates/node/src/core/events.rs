//! Events: what happened, for `kubectl describe` and `kubectl get events`. Written in the background; losing one is no error.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::writes::{MANAGER, now};

/// Events that are remembered so that repetitions count up instead of adding one.
const REMEMBERED: usize = 2048;

/// Events that may wait to be written. More at once than this are dropped.
const QUEUE: usize = 4096;

/// Hands events to the task that writes them.
pub(crate) struct Recorder {
    queue: mpsc::Sender<Event>,
}

impl Recorder {
    pub(crate) fn start(client: Client, shutdown: CancellationToken) -> Self {
        let (queue, mut events) = mpsc::channel::<Event>(QUEUE);
        tokio::spawn(async move {
            let mut known = BTreeMap::new();
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    event = events.recv() => match event {
                        Some(event) => write(&client, &mut known, event).await,
                        None => return,
                    },
                }
            }
        });
        Self { queue }
    }

    /// Something normal happened to `object`.
    pub(crate) fn normal<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        component: &str,
        reason: &str,
        message: String,
    ) {
        self.send(object, component, "Normal", reason, message);
    }

    /// Something went wrong with `object`.
    pub(crate) fn warning<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        component: &str,
        reason: &str,
        message: String,
    ) {
        self.send(object, component, "Warning", reason, message);
    }

    fn send<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        component: &str,
        kind: &str,
        reason: &str,
        message: String,
    ) {
        let meta = object.meta();
        let now = now();
        let event = Event {
            metadata: ObjectMeta {
                namespace: meta.namespace.clone(),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                api_version: Some(K::api_version(&()).into_owned()),
                kind: Some(K::kind(&()).into_owned()),
                name: meta.name.clone(),
                namespace: meta.namespace.clone(),
                uid: meta.uid.clone(),
                resource_version: meta.resource_version.clone(),
                field_path: None,
            },
            type_: Some(kind.into()),
            reason: Some(reason.into()),
            message: Some(message),
            count: Some(1),
            first_timestamp: Some(now.clone()),
            last_timestamp: Some(now),
            source: Some(EventSource {
                component: Some(component.into()),
                host: None,
            }),
            reporting_component: Some(component.into()),
            ..Event::default()
        };
        // A full queue means a storm; the objects' status says what matters.
        let _ = self.queue.try_send(event);
    }
}

type Known = BTreeMap<(Option<String>, Option<String>, Option<String>), (String, i32)>;

async fn write(client: &Client, known: &mut Known, mut event: Event) {
    let namespace = event
        .metadata
        .namespace
        .clone()
        .unwrap_or_else(|| "default".into());
    let api = Api::<Event>::namespaced(client.clone(), &namespace);
    let key = (
        event.involved_object.uid.clone(),
        event.reason.clone(),
        event.message.clone(),
    );
    if let Some((name, count)) = known.get_mut(&key) {
        *count += 1;
        let patch = json!({"count": *count, "lastTimestamp": event.last_timestamp});
        let params = PatchParams {
            field_manager: Some(MANAGER.into()),
            ..PatchParams::default()
        };
        if api.patch(name, &params, &Patch::Merge(&patch)).await.is_ok() {
            return;
        }
        known.remove(&key);
    }
    let name = format!(
        "{}.{:016x}",
        event.involved_object.name.as_deref().unwrap_or_default(),
        rand::random::<u64>()
    );
    event.metadata.name = Some(name.clone());
    event.metadata.namespace = Some(namespace);
    match api
        .create(
            &PostParams {
                field_manager: Some(MANAGER.into()),
                ..PostParams::default()
            },
            &event,
        )
        .await
    {
        Ok(_) => {
            if known.len() >= REMEMBERED {
                known.clear();
            }
            known.insert(key, (name, 1));
        }
        Err(error) => tracing::debug!("an event was not written: {error}"),
    }
}
