//! Waiting for an object to become something.

use std::time::Duration;

use futures::{AsyncBufReadExt, StreamExt};
use serde_json::Value;
use tokio::time::Instant;

use super::{Kind, Session, percent_encode};
use crate::failure::Failure;

/// What a condition says of the object as it is now.
pub(crate) enum Seen<T> {
    /// What was waited for.
    Done(T),
    /// Not yet.
    NotYet,
}

/// How waiting ended.
pub(crate) enum Watched<T> {
    /// It happened.
    Done(T),
    /// It did not in time; the object as it was last.
    TimedOut(Option<Value>),
}

/// Watches one object until `look` is satisfied with it (`None`: it does not exist) or `deadline` has passed.
///
/// Every state that the server tells is looked at, and nothing is asked twice: one read, then a watch from there.
pub(crate) async fn until<T>(
    session: &Session,
    kind: &Kind,
    namespace: Option<&str>,
    name: &str,
    deadline: Instant,
    mut look: impl FnMut(Option<&Value>) -> Seen<T>,
) -> Result<Watched<T>, Failure> {
    let mut last = None;
    let watching = watch(session, kind, namespace, name, &mut last, &mut look);
    match tokio::time::timeout_at(deadline, watching).await {
        Ok(result) => Ok(Watched::Done(result?)),
        Err(_) => Ok(Watched::TimedOut(last)),
    }
}

async fn watch<T>(
    session: &Session,
    kind: &Kind,
    namespace: Option<&str>,
    name: &str,
    last: &mut Option<Value>,
    look: &mut impl FnMut(Option<&Value>) -> Seen<T>,
) -> Result<T, Failure> {
    let failed = || format!("cannot watch {}", kind.title_of(name));
    let selector = format!(
        "fieldSelector={}",
        percent_encode(&format!("metadata.name={name}"))
    );
    let path = kind.path(namespace, None);
    loop {
        let mut list = session
            .get(&format!("{path}?{selector}"))
            .await
            .map_err(|error| error.failure(failed()))?;
        *last = list["items"].get_mut(0).map(Value::take);
        if let Seen::Done(done) = look(last.as_ref()) {
            return Ok(done);
        }
        let version = list["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        let url = format!("{path}?{selector}&watch=true&allowWatchBookmarks=true&resourceVersion={version}");
        let stream = session
            .stream(&url, "application/json")
            .await
            .map_err(|error| error.failure(failed()))?;
        let mut lines = stream.lines();
        while let Some(Ok(line)) = lines.next().await {
            let Ok(mut event) = serde_json::from_str::<Value>(&line) else {
                break;
            };
            match event["type"].as_str() {
                Some("ADDED" | "MODIFIED") => *last = Some(event["object"].take()),
                Some("DELETED") => *last = None,
                Some("BOOKMARK") => continue,
                // Expired, most likely: begin again with a list.
                _ => break,
            }
            if let Seen::Done(done) = look(last.as_ref()) {
                return Ok(done);
            }
        }
        // The server ended the watch, as it may at any time. A pause keeps a broken server from being flooded.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
