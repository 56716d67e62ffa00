//! The [file](crate::database) and its [journals](crate::journal), which have the newest commits.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use redb::Database;

use crate::{
    EventKind, Object, Snapshot, StoreError,
    database::{
        Changes, Contents, FIRST_REVISION, Progress, guarded, identify, in_part, open_database, read,
        read_sequence, read_towards, write, write_new,
    },
    journal::{self, Change, Journal, Refused},
    writer::Staged,
};

/// Name of the file in the data folder.
pub(crate) const FILE: &str = "store.redb";

/// The open file and its journals.
///
/// Commits go into one of two journals. When it is full, they go into the other one, while a thread brings what the first one has
/// into the file: no commit waits for that, unless the other one is full before it is done.
pub(crate) struct Disk {
    file: Arc<Mutex<File>>,
    journals: [Journal; 2],
    /// The journal that is written to.
    active: usize,
    /// Number of the last commit that was made, or may have been.
    last: u64,
    /// What the active journal has and the file has not; and the other one, if `is_behind`.
    pending: Pending,
    /// How much of a journal goes into the file at once.
    part: usize,
    /// What is under way from the other journal into the file.
    under_way: Option<(Arc<Pending>, Checkpoint)>,
    /// Whether the other journal has what the file has not, and nothing is under way.
    is_behind: bool,
    /// Whether a journal may hold a commit that was refused. Nothing may follow it.
    is_unsure: bool,
}

/// The thread that brings a journal into the file, and whether somebody waits for it.
struct Checkpoint {
    thread: JoinHandle<Result<(), String>>,
    is_awaited: Arc<AtomicBool>,
}

/// The database file.
struct File {
    path: PathBuf,
    /// `None` after an error that could not be repaired by opening the file again.
    database: Option<Database>,
    /// Number of the last commit that is known to be in the file.
    sequence: u64,
}

/// Commits on their way into the file.
#[derive(Default)]
struct Pending {
    revisions: BTreeMap<Arc<str>, u64>,
    changes: Vec<Change>,
}

impl Pending {
    fn add(&mut self, staged: &Staged) {
        self.revisions
            .insert(Arc::clone(staged.cluster()), staged.revision());
        self.changes.extend(staged.events().iter().map(|event| Change {
            cluster: Arc::clone(staged.cluster()),
            key: event.object.key().clone(),
            object: (event.kind != EventKind::Deleted).then(|| Arc::clone(&event.object)),
        }));
    }

    fn revisions(&self) -> BTreeMap<&str, u64> {
        let revisions = self.revisions.iter();
        revisions
            .map(|(cluster, revision)| (&**cluster, *revision))
            .collect()
    }

    /// What each object came to be.
    fn changes(&self) -> Changes<'_> {
        let changes = self.changes.iter();
        changes
            .map(|change| ((&*change.cluster, &change.key), change.object.as_deref()))
            .collect()
    }

    /// Puts what came earlier before it.
    fn follow(&mut self, earlier: &Pending) {
        for (cluster, revision) in &earlier.revisions {
            self.revisions.entry(Arc::clone(cluster)).or_insert(*revision);
        }
        self.changes.splice(0..0, earlier.changes.iter().cloned());
    }
}

impl Disk {
    /// Opens or makes the file and its journals, of which each may have `limit` bytes, and reads everything.
    pub(crate) fn open(path: &Path, limit: u64) -> Result<(Self, Contents), StoreError> {
        if !path.exists() {
            // Made elsewhere and moved into place, so that a crash cannot leave half a file.
            write_new(path, &[], 0)?;
        }
        let (database, sequence, mut contents) = read(path)?;
        let identity = guarded(path, || identify(&database))?;
        let towards = guarded(path, || read_towards(&database))?;
        let mut pending = Pending::default();
        let journal = |name| Journal::open(&path.with_file_name(name), identity, limit);
        let [first, second] = journal::FILES;
        let mut journals = [journal(first)?, journal(second)?];
        let found = journal::replay(&mut journals, sequence, |parts| {
            for part in parts {
                let snapshot = part_of(&mut contents, &part.cluster);
                for change in &part.changes {
                    match &change.object {
                        Some(object) => snapshot.insert(Arc::clone(object)),
                        None => snapshot.remove(&change.key),
                    }
                }
                snapshot.set_revision(part.revision);
                pending.revisions.insert(part.cluster, part.revision);
                pending.changes.extend(part.changes);
            }
        })?;
        if let Some(towards) = towards.filter(|towards| *towards > found.last) {
            return Err(in_part(path, towards));
        }
        let file = File {
            path: path.to_owned(),
            database: Some(database),
            sequence,
        };
        let disk = Self {
            file: Arc::new(Mutex::new(file)),
            journals,
            active: found.active,
            last: found.last,
            pending,
            part: usize::try_from(limit).unwrap_or(usize::MAX) / PARTS,
            under_way: None,
            is_behind: found.in_both,
            is_unsure: false,
        };
        Ok((disk, contents))
    }

    /// What a file has that nobody writes to: a backup.
    pub(crate) fn read(path: &Path) -> Result<Contents, StoreError> {
        let (database, _, contents) = read(path)?;
        match guarded(path, || read_towards(&database))? {
            Some(towards) => Err(in_part(path, towards)),
            None => Ok(contents),
        }
    }

    /// Writes `staged` and waits until the disk has it. On an error nothing has been written.
    pub(crate) fn commit<'a>(
        &mut self,
        staged: &(impl Iterator<Item = &'a Staged> + Clone),
    ) -> Result<(), String> {
        let next = self.last + 1;
        if self.is_unsure {
            return self.checkpoint(next, staged.clone());
        }
        let mut appended = self.journals[self.active].append(next, staged.clone());
        if matches!(appended, Err(Refused::Full(_))) && self.change_journals() {
            appended = self.journals[self.active].append(next, staged.clone());
        }
        match appended {
            Ok(()) => {
                self.last = next;
                staged.clone().for_each(|staged| self.pending.add(staged));
                Ok(())
            }
            Err(Refused::Full(full)) => self
                .checkpoint(next, staged.clone())
                .map_err(|error| format!("{full}: {error}")),
            Err(Refused::Failed(failed)) => {
                // Once the file has this number, or a later one, it does not matter what the journal has.
                self.is_unsure = true;
                self.last = next;
                tracing::error!(error = %failed, "the store's journal cannot be written");
                self.checkpoint(next, staged.clone()).map_err(|error| {
                    self.journals[self.active].forget();
                    format!("{failed}: {error}")
                })
            }
        }
    }

    /// Has what is pending brought into the file and goes on in the other journal. Gives whether that is so.
    fn change_journals(&mut self) -> bool {
        self.settle();
        if self.is_behind || self.pending.changes.is_empty() {
            return false;
        }
        let pending = Arc::new(std::mem::take(&mut self.pending));
        let (file, changes, number) = (Arc::clone(&self.file), Arc::clone(&pending), self.last);
        let is_awaited = Arc::new(AtomicBool::new(false));
        let pace = Pace {
            part: self.part,
            is_awaited: Arc::clone(&is_awaited),
        };
        let started = thread::Builder::new()
            .name("store-checkpoint".into())
            .spawn(move || {
                give_way();
                file.lock().take_in_by_parts(number, &changes, &pace)
            });
        match started {
            Ok(thread) => {
                self.under_way = Some((pending, Checkpoint { thread, is_awaited }));
                self.active = 1 - self.active;
                self.journals[self.active].rewind();
                true
            }
            Err(error) => {
                tracing::warn!(%error, "no thread for a checkpoint");
                self.pending.follow(&pending);
                false
            }
        }
    }

    /// Waits for what is under way into the file. What did not get there is pending again.
    fn settle(&mut self) {
        let Some((pending, checkpoint)) = self.under_way.take() else {
            return;
        };
        checkpoint.is_awaited.store(true, Ordering::Release);
        checkpoint.thread.thread().unpark();
        let error = match checkpoint.thread.join() {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(_) => "the thread panicked".to_owned(),
        };
        tracing::error!(%error, "a checkpoint failed; it will be tried again");
        self.pending.follow(&pending);
        self.is_behind = true;
    }

    /// Brings all that is pending, and `staged` with it, into the file, as commit `number`. On an error nothing has been written.
    fn checkpoint<'a>(
        &mut self,
        number: u64,
        staged: impl Iterator<Item = &'a Staged>,
    ) -> Result<(), String> {
        self.settle();
        self.file.lock().take_in(number, &self.pending, staged)?;
        self.last = number;
        self.pending = Pending::default();
        self.is_behind = false;
        self.is_unsure = false;
        self.journals[self.active].rewind();
        Ok(())
    }

    /// Brings everything into the file, so that it can be copied, and read without journals.
    pub(crate) fn make_whole(&mut self) -> Result<(), String> {
        self.settle();
        if self.last == self.file.lock().sequence {
            return Ok(());
        }
        self.checkpoint(self.last, std::iter::empty())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = self.make_whole() {
            tracing::warn!(%error, "the newest commits stay in the journals beside the store's file");
        }
    }
}

/// A full journal goes into the file in about so many parts. The disk takes a few milliseconds for each, and a commit that comes
/// meanwhile waits so long.
const PARTS: usize = 16;

/// How fast a checkpoint works: as long as nobody waits for it, it leaves the disk and the processor to others most of the time.
struct Pace {
    /// Bytes of objects that are written at once.
    part: usize,
    is_awaited: Arc<AtomicBool>,
}

impl Pace {
    /// So many times as long as a part took nothing is done after it.
    const REST: u32 = 3;
    /// The longest rest: the file should have a journal before the other one is full.
    const LONGEST: Duration = Duration::from_millis(20);

    fn rest_after(&self, part: Duration) {
        if !self.is_awaited.load(Ordering::Acquire) {
            // Ends when somebody begins to wait.
            thread::park_timeout((part * Self::REST).min(Self::LONGEST));
        }
    }
}

impl File {
    /// Takes in what is `pending`, all of which a journal has, as commit `number`, in parts that are on the disk one after the other:
    /// whoever asks the disk for something waits for one of them at most. Should the process end in between, the journal says the
    /// rest.
    fn take_in_by_parts(&mut self, number: u64, pending: &Pending, pace: &Pace) -> Result<(), String> {
        let (revisions, changes) = (pending.revisions(), pending.changes());
        let (mut part, mut size) = (BTreeMap::new(), 0);
        for (key, object) in changes {
            size += object.map_or(0, Object::size);
            part.insert(key, object);
            if size < pace.part {
                continue;
            }
            let began = Instant::now();
            self.write(Progress::Towards(number), &revisions, &part)
                .or_else(|error| self.look_again(number, error))?;
            (part, size) = (BTreeMap::new(), 0);
            pace.rest_after(began.elapsed());
        }
        self.finish(number, &revisions, &part)
    }

    /// Takes in what is `pending` and `staged`, as commit `number`, and waits until the disk has it. On an error nothing has been
    /// written.
    fn take_in<'a>(
        &mut self,
        number: u64,
        pending: &Pending,
        staged: impl Iterator<Item = &'a Staged>,
    ) -> Result<(), String> {
        let (mut revisions, mut changes) = (pending.revisions(), pending.changes());
        for staged in staged {
            revisions.insert(staged.cluster(), staged.revision());
            changes.extend(staged.events().iter().map(|event| {
                let object = (event.kind != EventKind::Deleted).then_some(&*event.object);
                ((&**staged.cluster(), event.object.key()), object)
            }));
        }
        self.finish(number, &revisions, &changes)
    }

    fn finish(
        &mut self,
        number: u64,
        revisions: &BTreeMap<&str, u64>,
        changes: &Changes<'_>,
    ) -> Result<(), String> {
        self.write(Progress::At(number), revisions, changes)
            .or_else(|error| self.look_again(number, error))?;
        self.sequence = number;
        Ok(())
    }

    fn write(
        &self,
        progress: Progress,
        revisions: &BTreeMap<&str, u64>,
        changes: &Changes<'_>,
    ) -> Result<(), String> {
        match &self.database {
            Some(database) => guarded(&self.path, || write(database, progress, revisions, changes))
                .map_err(|error| error.to_string()),
            None => Err("the file could not be opened again after an earlier error".to_owned()),
        }
    }

    /// Finds out whether commit `number` is in the file after an error. A database that has seen an I/O error refuses everything
    /// from then on, and whether the commit reached the disk is open. Opening the file again answers that and, for example after a
    /// full disk, lets later writes succeed.
    fn look_again(&mut self, number: u64, error: String) -> Result<(), String> {
        self.database = None;
        let database =
            open_database(&self.path).map_err(|again| format!("{error}; opening again: {again}"))?;
        let found = guarded(&self.path, || read_sequence(&database))
            .map_err(|again| format!("{error}; reading again: {again}"))?;
        if found == self.sequence {
            self.database = Some(database);
            Err(error)
        } else if found == number {
            self.database = Some(database);
            Ok(())
        } else {
            Err(format!(
                "{error}; the file is at commit {found}, expected {}: restart to continue from it",
                self.sequence
            ))
        }
    }
}

/// The cluster of that name among the contents.
fn part_of<'a>(contents: &'a mut Contents, cluster: &str) -> &'a mut Snapshot {
    let nth = contents.iter().position(|(name, _)| name == cluster);
    let nth = nth.unwrap_or_else(|| {
        contents.push((cluster.to_owned(), Snapshot::new(FIRST_REVISION)));
        contents.len() - 1
    });
    &mut contents[nth].1
}

/// Has this thread run after those of requests where processors are few: nobody waits for a checkpoint before the other journal is
/// full, but it takes a tenth of a second.
fn give_way() {
    // On Linux this is of a thread. Its share stays large enough to be done in time when all others are busy.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, 5) {
        tracing::debug!(%error, "a checkpoint runs with the priority of all others");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Disk {
        pub(crate) fn journal(&mut self) -> &mut Journal {
            &mut self.journals[self.active]
        }

        /// The file can neither be used nor opened again.
        pub(crate) fn lose_database(&mut self) {
            let mut file = self.file.lock();
            file.database = None;
            file.path.push("gone");
        }

        /// A checkpoint has written the first of its parts, with one object, and not yet the next one.
        pub(crate) fn take_a_part(&mut self) {
            let first = self.pending.changes().into_iter().take(1).collect();
            let progress = Progress::Towards(self.last);
            let file = self.file.lock();
            file.write(progress, &self.pending.revisions(), &first).unwrap();
        }

        /// It can be opened again.
        pub(crate) fn find_database(&mut self) {
            self.file.lock().path.pop();
        }

        /// Number of the last commit in the file, and of the last one.
        pub(crate) fn numbers(&self) -> (u64, u64) {
            (self.file.lock().sequence, self.last)
        }

        /// The last commit, which is on disk from `end` on, counts as refused.
        pub(crate) fn refuse_last(&mut self, end: u64) {
            self.journals[self.active].step_back(end);
            self.is_unsure = true;
            self.pending.changes.pop();
        }
    }
}
