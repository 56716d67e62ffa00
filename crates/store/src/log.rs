//! The recent past of a cluster: what watches read and what older snapshots are made from.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use tokio::sync::watch;

use crate::{Event, RevisionError, Snapshot};

/// How much of the past is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) events: usize,
    pub(crate) bytes: usize,
}

/// As many events are looked at from the newest on before all of them are searched.
const NEAR: usize = 8;

/// The newest events, all together and by resource, so that a watch of a quiet resource survives much traffic elsewhere.
pub(crate) struct Log {
    window: Window,
    bytes: usize,
    /// Where this process began: nothing at or before this revision can be replayed.
    base: u64,
    all: Topic,
    resources: HashMap<Box<str>, Topic>,
}

/// The events of one resource, or of all.
pub(crate) struct Topic {
    events: VecDeque<Arc<Event>>,
    /// Revision of the newest event that has been dropped from here.
    dropped: u64,
    /// Revision of the newest event; its receivers are the watches.
    newest: watch::Sender<u64>,
}

impl Topic {
    fn new(base: u64) -> Self {
        Self {
            events: VecDeque::new(),
            dropped: base,
            newest: watch::Sender::new(base),
        }
    }

    fn drop_oldest(&mut self) -> Option<Arc<Event>> {
        let event = self.events.pop_front()?;
        self.dropped = event.revision;
        Some(event)
    }

    /// Oldest revision from which this topic can be replayed without a gap.
    pub(crate) fn oldest(&self) -> u64 {
        self.dropped
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// The events behind `revision`, in order.
    pub(crate) fn after(&self, revision: u64) -> impl Iterator<Item = &Arc<Event>> {
        // Who follows is close behind: a search among all of them would touch a dozen old events for one new one.
        let later = |event: &&Arc<Event>| event.revision > revision;
        let few = self.events.iter().rev().take(NEAR + 1).take_while(later).count();
        let start = if few <= NEAR {
            self.events.len() - few
        } else {
            self.events.partition_point(|event| event.revision <= revision)
        };
        self.events.range(start..)
    }
}

impl Log {
    pub(crate) fn new(base: u64, window: Window) -> Self {
        Self {
            window,
            bytes: 0,
            base,
            all: Topic::new(base),
            resources: HashMap::new(),
        }
    }

    /// The topic of `resource`, or of everything.
    pub(crate) fn topic(&mut self, resource: Option<&str>) -> &Topic {
        match resource {
            None => &self.all,
            Some(resource) => {
                if !self.resources.contains_key(resource) {
                    self.resources.insert(resource.into(), Topic::new(self.base));
                }
                &self.resources[resource]
            }
        }
    }

    /// The topic if there is one already.
    pub(crate) fn known_topic(&self, resource: Option<&str>) -> Option<&Topic> {
        match resource {
            None => Some(&self.all),
            Some(resource) => self.resources.get(resource),
        }
    }

    /// Appends `event` and drops what no longer fits; what was dropped is returned, to be freed outside any lock.
    pub(crate) fn push(&mut self, event: Arc<Event>, dropped: &mut Vec<Arc<Event>>) {
        self.bytes += event.object.size();
        let resource = event.object.key().resource();
        if !self.resources.contains_key(resource) {
            self.resources.insert(resource.into(), Topic::new(self.base));
        }
        if let Some(topic) = self.resources.get_mut(resource) {
            topic.events.push_back(Arc::clone(&event));
        }
        self.all.events.push_back(event);
        while self.all.events.len() > self.window.events
            || (self.bytes > self.window.bytes && self.all.events.len() > 1)
        {
            let Some(oldest) = self.all.drop_oldest() else {
                break;
            };
            self.bytes = self.bytes.saturating_sub(oldest.object.size());
            if let Some(topic) = self.resources.get_mut(oldest.object.key().resource()) {
                topic.drop_oldest();
            }
            dropped.push(oldest);
        }
    }

    /// Wakes the watches of the resources that got events after `before`.
    pub(crate) fn notify(&self, before: u64) {
        if let Some(newest) = self.all.events.back().map(|event| event.revision) {
            self.all.newest.send_replace(newest);
        }
        let mut last = None;
        for event in self.all.after(before) {
            let resource = event.object.key().resource();
            // Neighbours are mostly of one resource; waking twice would only be waste.
            if last == Some(resource) {
                continue;
            }
            last = Some(resource);
            if let Some(topic) = self.resources.get(resource) {
                topic.newest.send_replace(event.revision);
            }
        }
    }

    /// Wakes everybody, so that they see that the store is closed.
    pub(crate) fn notify_all(&self) {
        self.all.newest.send_modify(|_| {});
        self.resources
            .values()
            .for_each(|topic| topic.newest.send_modify(|_| {}));
    }

    /// The cluster as it was at `revision`, from `now`, by taking back what came later.
    pub(crate) fn rewind(&self, now: &Snapshot, revision: u64) -> Result<Snapshot, RevisionError> {
        let current = now.revision();
        if revision > current {
            return Err(RevisionError::Future {
                requested: revision,
                current,
            });
        }
        if revision < self.all.dropped {
            return Err(RevisionError::Expired {
                requested: revision,
                oldest: self.all.dropped,
            });
        }
        let mut snapshot = now.clone();
        let later = self
            .all
            .events
            .partition_point(|event| event.revision <= revision);
        for event in self.all.events.range(later..).rev() {
            snapshot.undo(event);
        }
        snapshot.set_revision(revision);
        Ok(snapshot)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{EventKind, Key, object::Encoded};

    #[test]
    fn what_is_after_a_revision_is_found_near_and_far() {
        let window = Window {
            events: 40,
            bytes: 1 << 20,
        };
        let mut log = Log::new(1, window);
        let mut dropped = Vec::new();
        for count in 0..60 {
            // Revisions of others are in between.
            let revision = 3 + 2 * count;
            let key = Key::new("things", "ns", &format!("a{count}"));
            let value = Encoded::new(json!({"metadata": {"name": format!("a{count}")}})).unwrap();
            let object = Arc::new(value.finish(key, revision, None));
            let event = Event {
                kind: EventKind::Added,
                object,
                previous: None,
                revision,
            };
            log.push(Arc::new(event), &mut dropped);
            let topic = log.known_topic(Some("things")).unwrap();
            let all: Vec<u64> = topic.events.iter().map(|event| event.revision).collect();
            for from in 0..=revision + 1 {
                let found: Vec<u64> = topic.after(from).map(|event| event.revision).collect();
                let expected: Vec<u64> = all.iter().copied().filter(|later| *later > from).collect();
                assert_eq!(found, expected, "after {from} of {count}");
            }
        }
        assert_eq!(dropped.len(), 20);
    }
}
