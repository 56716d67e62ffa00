//! The writer thread: the only place where anything changes.

use std::{
    collections::BTreeMap,
    sync::{Arc, mpsc},
};

use tokio::sync::oneshot;

use crate::{
    Event, EventKind, Key, Object, Snapshot, WriteError, cluster::State, disk::Disk, lock::FolderLock,
    object::Encoded,
};

/// Requests that are committed together at most.
const BATCH: usize = 512;

/// Answers to one request for writes.
type Answer = Result<Vec<Arc<Object>>, (usize, WriteError)>;

/// What the thread is asked to do.
pub(crate) enum Request {
    /// All of `writes` or none.
    Write {
        cluster: Arc<State>,
        writes: Vec<Prepared>,
        reply: oneshot::Sender<Answer>,
    },
    /// The clusters as they are between two commits.
    Capture {
        clusters: Vec<Arc<State>>,
        reply: oneshot::Sender<Vec<(Arc<str>, Snapshot)>>,
    },
}

/// A write whose value has been encoded.
pub(crate) enum Prepared {
    Create { key: Key, value: Encoded },
    Update { key: Key, value: Encoded, expect: u64 },
    Delete { key: Key, expect: u64 },
}

/// What one commit puts on disk for one cluster.
pub(crate) struct Staged {
    state: Arc<State>,
    snapshot: Snapshot,
    events: Vec<Arc<Event>>,
}

impl Staged {
    pub(crate) fn cluster(&self) -> &Arc<str> {
        &self.state.name
    }

    pub(crate) fn revision(&self) -> u64 {
        self.snapshot.revision()
    }

    pub(crate) fn events(&self) -> &[Arc<Event>] {
        &self.events
    }
}

pub(crate) struct Writer {
    disk: Option<(Disk, FolderLock)>,
}

impl Writer {
    pub(crate) fn new(disk: Option<(Disk, FolderLock)>) -> Self {
        Self { disk }
    }

    /// Works until every sender is gone.
    pub(crate) fn run(mut self, requests: &mpsc::Receiver<Request>) {
        let mut batch = Vec::with_capacity(BATCH);
        while let Ok(first) = requests.recv() {
            batch.push(first);
            while batch.len() < BATCH {
                let Ok(next) = requests.try_recv() else { break };
                batch.push(next);
            }
            self.process(&mut batch);
        }
    }

    fn process(&mut self, batch: &mut Vec<Request>) {
        let mut staged = BTreeMap::new();
        let mut answers = Vec::with_capacity(batch.len());
        let mut captures = Vec::new();
        for request in batch.drain(..) {
            match request {
                Request::Write {
                    cluster,
                    writes,
                    reply,
                } => answers.push((reply, stage(&mut staged, &cluster, writes))),
                Request::Capture { clusters, reply } => captures.push((clusters, reply)),
            }
        }

        staged.retain(|_, staged: &mut Staged| !staged.events.is_empty());
        let committed = match &mut self.disk {
            Some((disk, _)) if !staged.is_empty() => disk.commit(&staged.values()),
            _ => Ok(()),
        };
        match committed {
            Ok(()) => {
                staged.into_values().for_each(publish);
                for (reply, answer) in answers {
                    // Nobody there to hear it is no error: the caller was cancelled.
                    let _ = reply.send(answer);
                }
            }
            Err(error) => {
                tracing::error!(%error, "commit failed");
                for (reply, _) in answers {
                    // Also for writes that were refused: they may have been judged by ones that did not happen.
                    let _ = reply.send(Err((0, WriteError::Io(error.clone()))));
                }
            }
        }
        for (clusters, reply) in captures {
            let snapshots = clusters
                .iter()
                .map(|state| (Arc::clone(&state.name), state.inner.read().snapshot.clone()))
                .collect();
            let _ = reply.send(snapshots);
        }
    }
}

/// Carries out `writes` on the cluster's next snapshot, all or none.
fn stage(staged: &mut BTreeMap<Arc<str>, Staged>, cluster: &Arc<State>, writes: Vec<Prepared>) -> Answer {
    let staged = staged.entry(Arc::clone(&cluster.name)).or_insert_with(|| Staged {
        state: Arc::clone(cluster),
        snapshot: cluster.inner.read().snapshot.clone(),
        events: Vec::new(),
    });
    // A write that fails has changed nothing yet, so that only several need a way back. Without one, the maps are changed where they
    // are: a copy would share all their nodes and so have each of them copied for each write.
    let before = (writes.len() > 1).then(|| staged.snapshot.clone());
    let first = staged.events.len();
    for (nth, write) in writes.into_iter().enumerate() {
        match step(&staged.snapshot, write) {
            Ok(event) => {
                staged.snapshot.apply(&event);
                staged.events.push(Arc::new(event));
            }
            Err(error) => {
                if let Some(before) = before {
                    staged.snapshot = before;
                    staged.events.truncate(first);
                }
                return Err((nth, error));
            }
        }
    }
    let made = staged.events.iter().skip(first);
    Ok(made.map(|event| Arc::clone(&event.object)).collect())
}

fn step(snapshot: &Snapshot, write: Prepared) -> Result<Event, WriteError> {
    let revision = snapshot.revision() + 1;
    let expected = |key: &Key, expect: u64| match snapshot.get(key) {
        None => Err(WriteError::NotFound),
        Some(current) if current.revision() != expect => Err(WriteError::Conflict {
            current: Arc::clone(current),
        }),
        Some(current) => Ok(Arc::clone(current)),
    };
    Ok(match write {
        Prepared::Create { key, value } => {
            if let Some(current) = snapshot.get(&key) {
                return Err(WriteError::Exists {
                    current: Arc::clone(current),
                });
            }
            let object = Arc::new(value.finish(key, revision, None));
            Event {
                kind: EventKind::Added,
                object,
                previous: None,
                revision,
            }
        }
        Prepared::Update { key, value, expect } => {
            let previous = expected(&key, expect)?;
            let object = Arc::new(value.finish(key, revision, Some(previous.created())));
            Event {
                kind: EventKind::Modified,
                object,
                previous: Some(previous),
                revision,
            }
        }
        Prepared::Delete { key, expect } => {
            let previous = expected(&key, expect)?;
            let object = Arc::new(previous.at_revision(revision));
            Event {
                kind: EventKind::Deleted,
                object,
                previous: Some(previous),
                revision,
            }
        }
    })
}

/// Lets readers and watches see what has been committed.
fn publish(staged: Staged) {
    let Staged {
        state,
        snapshot,
        events,
    } = staged;
    let mut dropped = Vec::new();
    let before = {
        let mut inner = state.inner.write();
        let before = inner.snapshot.revision();
        inner.snapshot = snapshot;
        for event in events {
            inner.log.push(event, &mut dropped);
        }
        before
    };
    state.inner.read().log.notify(before);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::log::Window;

    fn writer_with(folder: &Path, limit: u64) -> (Writer, Arc<State>) {
        let lock = FolderLock::acquire(folder).unwrap();
        let (disk, mut contents) = Disk::open(&folder.join(crate::disk::FILE), limit).unwrap();
        let snapshot = contents
            .pop()
            .map_or_else(|| Snapshot::new(1), |(_, snapshot)| snapshot);
        let window = Window {
            events: 100,
            bytes: 1 << 20,
        };
        let state = Arc::new(State::new("c".into(), snapshot, window));
        (Writer::new(Some((disk, lock))), state)
    }

    fn writer(folder: &Path) -> (Writer, Arc<State>) {
        writer_with(folder, crate::journal::LIMIT)
    }

    impl Writer {
        fn disk(&mut self) -> &mut Disk {
            &mut self.disk.as_mut().unwrap().0
        }

        /// Makes objects: all of a list or none, the lists in one commit.
        fn create_all(&mut self, cluster: &Arc<State>, lists: &[&[&str]]) -> Vec<Answer> {
            let made = lists.iter().map(|names| {
                let (reply, answer) = oneshot::channel();
                let create = |name: &&str| Prepared::Create {
                    key: Key::new("things", "ns", name),
                    value: Encoded::new(json!({"metadata": {"name": name}})).unwrap(),
                };
                let writes = names.iter().map(create).collect();
                let cluster = Arc::clone(cluster);
                let request = Request::Write {
                    cluster,
                    writes,
                    reply,
                };
                (request, answer)
            });
            let (mut requests, answers): (Vec<_>, Vec<_>) = made.unzip();
            self.process(&mut requests);
            let answers = answers.into_iter();
            answers.map(|mut answer| answer.try_recv().unwrap()).collect()
        }

        fn create(&mut self, cluster: &Arc<State>, name: &str) -> Answer {
            self.create_all(cluster, &[&[name]]).pop().unwrap()
        }
    }

    fn names(cluster: &State) -> Vec<String> {
        let inner = cluster.inner.read();
        let objects = inner.snapshot.all();
        objects.map(|object| object.key().name().to_owned()).collect()
    }

    /// What would be found if the process was killed now.
    fn found(folder: &Path) -> Vec<String> {
        let copy = tempfile::tempdir().unwrap();
        let [first, second] = crate::journal::FILES;
        for file in [crate::disk::FILE, first, second] {
            std::fs::copy(folder.join(file), copy.path().join(file)).unwrap();
        }
        let (_writer, cluster) = writer(copy.path());
        names(&cluster)
    }

    #[test]
    fn several_writes_that_fail_leave_the_others_of_their_commit() {
        let folder = tempfile::tempdir().unwrap();
        let (mut writer, cluster) = writer(folder.path());
        let answers = writer.create_all(&cluster, &[&["a"], &["b", "a"], &["c"], &["a"], &["d", "e"]]);
        let revisions = answers.into_iter().map(|answer| match answer {
            Ok(objects) => objects.iter().map(|object| object.revision()).collect(),
            Err((nth, _)) => vec![1000 + nth as u64],
        });
        assert_eq!(
            revisions.collect::<Vec<_>>(),
            [vec![2], vec![1001], vec![3], vec![1000], vec![4, 5]]
        );
        assert_eq!(names(&cluster), ["a", "c", "d", "e"]);
        assert_eq!(found(folder.path()), ["a", "c", "d", "e"]);
    }

    #[test]
    fn a_journal_that_fails_is_done_without() {
        let folder = tempfile::tempdir().unwrap();
        let (mut writer, cluster) = writer(folder.path());
        writer.create(&cluster, "a").unwrap();
        assert_eq!(writer.disk().numbers(), (0, 1));
        writer.disk().journal().spoil();
        for (name, number) in [("b", 2), ("c", 3)] {
            writer.create(&cluster, name).unwrap();
            assert_eq!(writer.disk().numbers(), (number, number));
        }
        assert_eq!(found(folder.path()), ["a", "b", "c"]);
    }

    #[test]
    fn what_neither_takes_has_not_happened() {
        let folder = tempfile::tempdir().unwrap();
        let (mut writer, cluster) = writer(folder.path());
        writer.create(&cluster, "a").unwrap();
        writer.disk().journal().spoil();
        writer.disk().lose_database();
        for name in ["b", "c"] {
            assert!(matches!(
                writer.create(&cluster, name),
                Err((0, WriteError::Io(_)))
            ));
        }
        assert_eq!(names(&cluster), ["a"]);
        assert_eq!(cluster.inner.read().snapshot.revision(), 2);
        drop(writer);
        assert_eq!(found(folder.path()), ["a"]);
    }

    #[test]
    fn what_a_checkpoint_could_not_take_is_not_lost() {
        let folder = tempfile::tempdir().unwrap();
        // Each commit takes a block: three fit.
        let (mut writer, cluster) = writer_with(folder.path(), 3 * 4096);
        writer.disk().lose_database();
        // The fourth begins the other journal, while the file cannot have the first three.
        for name in ["a", "b", "c", "d", "e", "f"] {
            writer.create(&cluster, name).unwrap();
        }
        assert!(matches!(
            writer.create(&cluster, "refused"),
            Err((0, WriteError::Io(_)))
        ));
        assert_eq!(found(folder.path()), ["a", "b", "c", "d", "e", "f"]);
        writer.disk().find_database();
        // The next one opens the file again, and the one after it finds it in order.
        let again = ["g", "h"].map(|name| writer.create(&cluster, name).is_ok());
        assert_eq!(again, [false, true]);
        for name in ["i", "j", "k", "l", "m"] {
            writer.create(&cluster, name).unwrap();
        }
        let expected = ["a", "b", "c", "d", "e", "f", "h", "i", "j", "k", "l", "m"];
        assert_eq!(names(&cluster), expected);
        assert_eq!(found(folder.path()), expected);
        drop(writer);
        assert_eq!(found(folder.path()), expected);
    }

    #[test]
    fn a_part_of_a_checkpoint_is_made_whole_by_the_journals_and_by_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let (mut writer, cluster) = writer(folder.path());
        for name in ["a", "b", "c"] {
            writer.create(&cluster, name).unwrap();
        }
        writer.disk().take_a_part();
        assert_eq!(found(folder.path()), ["a", "b", "c"]);
        let alone = || {
            let copy = tempfile::tempdir().unwrap();
            let file = copy.path().join(crate::disk::FILE);
            std::fs::copy(folder.path().join(crate::disk::FILE), &file).unwrap();
            let read = Disk::read(&file).map(drop);
            let opened = Disk::open(&file, crate::journal::LIMIT).map(drop);
            [read, opened].map(|result| result.map_err(|error| error.to_string()))
        };
        for refused in alone() {
            let error = refused.unwrap_err();
            assert!(
                error.contains("a part of commit 3, and the rest is in store.journal-1 and store.journal-2"),
                "{error}"
            );
        }
        writer.create(&cluster, "d").unwrap();
        assert_eq!(found(folder.path()), ["a", "b", "c", "d"]);
        writer.disk().make_whole().unwrap();
        assert_eq!(alone(), [Ok(()), Ok(())]);
        assert_eq!(found(folder.path()), ["a", "b", "c", "d"]);
    }

    #[test]
    fn a_checkpoint_of_many_parts_has_everything() {
        let folder = tempfile::tempdir().unwrap();
        let (mut writer, cluster) = writer_with(folder.path(), 4 << 20);
        // Both are full several times.
        let name = |nth: usize| format!("{nth:05}-{}", "x".repeat(200));
        let all: Vec<String> = (0..40_000).map(name).collect();
        for names in all.chunks(1_000) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let made = writer.create_all(&cluster, &[&names]).pop().unwrap();
            assert_eq!(made.unwrap().len(), 1_000);
        }
        let (in_file, last) = writer.disk().numbers();
        assert!(in_file > 0 && in_file < last, "{in_file} of {last}");
        assert_eq!(found(folder.path()), all);
        drop(writer);
        assert_eq!(found(folder.path()), all);
    }

    #[test]
    fn a_refused_commit_that_is_on_disk_does_not_come_back() {
        for goes_on in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let (mut writer, cluster) = writer(folder.path());
            writer.create(&cluster, "a").unwrap();
            let before = cluster.inner.read().snapshot.clone();
            let end = writer.disk().journal().end();
            writer.create(&cluster, "refused").unwrap();
            cluster.inner.write().snapshot = before;
            writer.disk().refuse_last(end);
            if goes_on {
                writer.create(&cluster, "b").unwrap();
                assert_eq!(found(folder.path()), ["a", "b"]);
            } else {
                drop(writer);
                assert_eq!(found(folder.path()), ["a"]);
            }
        }
        // Nor when there was no more than a moment to take it back.
        let folder = tempfile::tempdir().unwrap();
        let (mut writer, cluster) = writer(folder.path());
        writer.create(&cluster, "a").unwrap();
        let end = writer.disk().journal().end();
        writer.create(&cluster, "refused").unwrap();
        writer.disk().refuse_last(end);
        writer.disk().journal().forget();
        writer.disk().lose_database();
        assert_eq!(found(folder.path()), ["a"]);
    }
}
