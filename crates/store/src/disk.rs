//! The file: what is in it, how it is opened, written and copied. The newest commits are in a [journal](crate::journal) beside it.

use std::{
    collections::BTreeMap,
    fs,
    hash::{BuildHasher, RandomState},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use redb::{Builder, Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};

use crate::{
    EventKind, Key, Object, Snapshot, StoreError,
    journal::{self, Change, Journal, Refused},
    record::Record,
    writer::Staged,
};

/// Name of the file in the data folder.
pub(crate) const FILE: &str = "store.redb";

/// Revision of a cluster that has never been written to. Not 0, which means "any" to clients.
pub(crate) const FIRST_REVISION: u64 = 1;

/// Added to every revision when a backup is restored, since revisions after it have been handed out.
pub(crate) const RESTORE_GAP: u64 = 1_000_000;

/// Version of the layout below. Raise it when an older program could not read the file. In a file of version 1 is everything; since
/// version 2 there may be commits in a journal beside it. Copies are made as version 1, for older programs, and become version 2 when
/// they are first written to.
const FORMAT: u64 = 2;

/// The version that needs nothing beside the file.
const WHOLE: u64 = 1;

/// All objects are in memory, so the file's own cache only has to hold the inner pages that commits touch.
const CACHE_BYTES: usize = 16 << 20;

/// `format`; `sequence`: the number of the last commit that is in the file; `identity`: what the journal of this file names; `towards`:
/// the commit of which, and of those before it, the file has a part.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Cluster to its newest revision.
const CLUSTERS: TableDefinition<'_, &str, u64> = TableDefinition::new("clusters");
/// Cluster, NUL, key to [`Record`].
const OBJECTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("objects");

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

/// Objects, or that they are gone, by cluster and key.
type Changes<'a> = BTreeMap<(&'a str, &'a Key), Option<&'a Object>>;

/// How far a write brings the file.
#[derive(Clone, Copy)]
enum Progress {
    /// To this commit.
    At(u64),
    /// A part of what leads to this commit; the rest is in a journal.
    Towards(u64),
}

/// What is in the file: cluster name and objects.
type Contents = Vec<(String, Snapshot)>;

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

/// Opens a file and reads it: the number of its last commit, and what is in it.
fn read(path: &Path) -> Result<(Database, u64, Contents), StoreError> {
    let database = open_database(path)?;
    let sequence = guarded(path, || check_format(&database, path))?;
    let contents = guarded(path, || load(&database, path))?;
    Ok((database, sequence, contents))
}

/// Writes `clusters` to a new file at `target`, revisions raised by `gap`. Either the whole file is there or none.
pub(crate) fn write_new(
    target: &Path,
    clusters: &[(Arc<str>, Snapshot)],
    gap: u64,
) -> Result<(), StoreError> {
    if target.exists() {
        return Err(StoreError::TargetExists {
            path: target.to_owned(),
        });
    }
    let mut partial = target.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let unusable = |action, source| StoreError::Unusable {
        action,
        path: target.to_owned(),
        source,
    };
    if let Err(error) = fs::remove_file(&partial)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(unusable("replace an earlier partial copy of", error));
    }
    let written = open_database(&partial).and_then(|database| {
        guarded(&partial, || {
            initialise(&database)?;
            write_all(&database, clusters, gap)
        })
    });
    let placed = written.and_then(|()| {
        fs::rename(&partial, target)
            .and_then(|()| sync_folder(target))
            .map_err(|source| unusable("write to", source))
    });
    if placed.is_err() {
        let _ = fs::remove_file(&partial);
    }
    placed
}

/// Waits until the disk knows the name of a file.
pub(crate) fn sync_folder(file: &Path) -> io::Result<()> {
    let folder = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    fs::File::open(folder)?.sync_all()
}

fn open_database(path: &Path) -> Result<Database, StoreError> {
    // A file that is not ours must not be taken for an empty one and initialised.
    if let Ok(found) = fs::metadata(path) {
        if found.is_dir() {
            let source = io::Error::from(io::ErrorKind::IsADirectory);
            return Err(StoreError::Unusable {
                action: "open",
                path: path.to_owned(),
                source,
            });
        }
        if found.len() == 0 {
            return Err(StoreError::Damaged {
                path: path.to_owned(),
                detail: "it is empty".into(),
            });
        }
    }
    guarded(path, || {
        Ok(Builder::new().set_cache_size(CACHE_BYTES).create(path)?)
    })
}

/// Runs `step`, turning errors, and panics over a file that is not what it should be, into a message about `path`.
fn guarded<T>(path: &Path, step: impl FnOnce() -> Result<T, Failure>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(step)) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(Failure::Ours(error))) => Err(error),
        Ok(Err(Failure::Database(error))) => Err(translate(path, *error)),
        Err(_) => Err(StoreError::Damaged {
            path: path.to_owned(),
            detail: "its structure contradicts itself".into(),
        }),
    }
}

enum Failure {
    Ours(StoreError),
    Database(Box<redb::Error>),
}

impl<E: Into<redb::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Database(Box::new(error.into()))
    }
}

fn translate(path: &Path, error: redb::Error) -> StoreError {
    let path = path.to_owned();
    match error {
        redb::Error::Corrupted(detail) => StoreError::Damaged { path, detail },
        redb::Error::Io(source) if source.kind() == io::ErrorKind::InvalidData => StoreError::Damaged {
            path,
            detail: format!("it is not a store file ({source})"),
        },
        redb::Error::Io(source) if source.kind() == io::ErrorKind::UnexpectedEof => StoreError::Damaged {
            path,
            detail: "it is shorter than it says".into(),
        },
        redb::Error::Io(source) => StoreError::Unusable {
            action: "use",
            path,
            source,
        },
        redb::Error::UpgradeRequired(found) => StoreError::Damaged {
            path,
            detail: format!("its database format {found} is not supported"),
        },
        redb::Error::DatabaseAlreadyOpen => StoreError::Held {
            path,
            holder: "another process".into(),
        },
        other => StoreError::Damaged {
            path,
            detail: other.to_string(),
        },
    }
}

/// Makes the tables of a new file.
fn initialise(database: &Database) -> Result<(), Failure> {
    let transaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert("format", WHOLE)?;
        meta.insert("sequence", 0)?;
        transaction.open_table(CLUSTERS)?;
        transaction.open_table(OBJECTS)?;
    }
    transaction.commit()?;
    Ok(())
}

/// Refuses a file of another program or a newer version. Returns the number of the last commit.
fn check_format(database: &Database, path: &Path) -> Result<u64, Failure> {
    let path = || path.to_owned();
    let found = match database.begin_read()?.open_table(META) {
        Ok(meta) => meta.get("format")?.map(|version| version.value()),
        Err(redb::TableError::TableDoesNotExist(_)) => None,
        Err(error) => return Err(error.into()),
    };
    match found {
        Some(found) if found > FORMAT => Err(Failure::Ours(StoreError::NewerFormat {
            path: path(),
            found,
            supported: FORMAT,
        })),
        Some(_) => read_sequence(database),
        None => Err(Failure::Ours(StoreError::Damaged {
            path: path(),
            detail: "another program made it".into(),
        })),
    }
}

/// The identity of a file that is going to have a journal, made if it has none. A file that takes the place of another one, as a
/// restored backup does, must not be given what the journal of the other one says.
fn identify(database: &Database) -> Result<u64, Failure> {
    let transaction = database.begin_write()?;
    let identity = {
        let mut meta = transaction.open_table(META)?;
        let known = meta.get("identity")?.map(|identity| identity.value());
        if let Some(known) = known {
            return Ok(known);
        }
        // Seeded by the system, anew for each.
        let identity = RandomState::new().hash_one(std::time::SystemTime::now());
        meta.insert("identity", identity)?;
        meta.insert("format", FORMAT)?;
        identity
    };
    transaction.commit()?;
    Ok(identity)
}

fn read_sequence(database: &Database) -> Result<u64, Failure> {
    let meta = database.begin_read()?.open_table(META)?;
    Ok(meta.get("sequence")?.map_or(0, |sequence| sequence.value()))
}

/// The commit of which the file has a part only, if that is so.
fn read_towards(database: &Database) -> Result<Option<u64>, Failure> {
    let meta = database.begin_read()?.open_table(META)?;
    let number = |name| {
        let found = meta.get(name)?.map(|number| number.value());
        Ok::<_, Failure>(found)
    };
    let (towards, sequence) = (number("towards")?, number("sequence")?);
    Ok(towards.filter(|towards| *towards > sequence.unwrap_or_default()))
}

/// The error for a file without the journals that have the rest of what it has a part of.
fn in_part(path: &Path, towards: u64) -> StoreError {
    let [first, second] = journal::FILES;
    StoreError::Damaged {
        path: path.to_owned(),
        detail: format!(
            "it has a part of commit {towards}, and the rest is in {first} and {second}, which are not beside it or are older"
        ),
    }
}

fn write(
    database: &Database,
    progress: Progress,
    revisions: &BTreeMap<&str, u64>,
    changes: &Changes<'_>,
) -> Result<(), Failure> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    {
        let mut meta = transaction.open_table(META)?;
        match progress {
            Progress::At(number) => {
                meta.insert("sequence", number)?;
                meta.remove("towards")?;
            }
            Progress::Towards(number) => {
                meta.insert("towards", number)?;
            }
        }
        let mut clusters = transaction.open_table(CLUSTERS)?;
        for (cluster, revision) in revisions {
            clusters.insert(*cluster, revision)?;
        }
        let mut objects = transaction.open_table(OBJECTS)?;
        let mut record = Vec::new();
        for ((cluster, key), object) in changes {
            let key = disk_key(cluster, key);
            match object {
                None => {
                    objects.remove(key.as_str())?;
                }
                Some(object) => {
                    record.clear();
                    Record::append(object, &mut record);
                    objects.insert(key.as_str(), record.as_slice())?;
                }
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

fn write_all(database: &Database, snapshots: &[(Arc<str>, Snapshot)], gap: u64) -> Result<(), Failure> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    {
        let mut clusters = transaction.open_table(CLUSTERS)?;
        let mut objects = transaction.open_table(OBJECTS)?;
        let mut record = Vec::new();
        for (name, snapshot) in snapshots {
            clusters.insert(&**name, snapshot.revision() + gap)?;
            for object in snapshot.all() {
                record.clear();
                Record::append(object, &mut record);
                objects.insert(disk_key(name, object.key()).as_str(), record.as_slice())?;
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

fn load(database: &Database, path: &Path) -> Result<Contents, Failure> {
    let reading = database.begin_read()?;
    let (clusters, objects) = (reading.open_table(CLUSTERS)?, reading.open_table(OBJECTS)?);
    let mut contents = Vec::new();
    for entry in clusters.iter()? {
        let (name, revision) = entry?;
        contents.push((name.value().to_owned(), Snapshot::new(revision.value())));
    }
    let damaged = |detail: String| {
        Failure::Ours(StoreError::Damaged {
            path: path.to_owned(),
            detail,
        })
    };
    let mut current = 0;
    for entry in objects.iter()? {
        let (key, record) = entry?;
        let (cluster, key) = key.value().split_once('\0').unwrap_or_default();
        let Some(key) = Key::parse(key) else {
            return Err(damaged(format!("object {key:?} has no valid name")));
        };
        // Both tables are sorted by cluster name up to the separator, which sorts first.
        while contents.get(current).is_some_and(|(name, _)| name != cluster) {
            current += 1;
        }
        let Some((_, snapshot)) = contents.get_mut(current) else {
            return Err(damaged(format!(
                "object {key} belongs to unknown cluster {cluster:?}"
            )));
        };
        match Record::decode(key.clone(), record.value()) {
            Some(object) if object.revision() <= snapshot.revision() => snapshot.insert(Arc::new(object)),
            Some(object) => {
                let detail = format!(
                    "object {key} of cluster {cluster} has revision {}, the cluster {}",
                    object.revision(),
                    snapshot.revision()
                );
                return Err(damaged(detail));
            }
            None => {
                return Err(damaged(format!(
                    "object {key} of cluster {cluster} does not match its checksum"
                )));
            }
        }
    }
    Ok(contents)
}

fn disk_key(cluster: &str, key: &Key) -> String {
    format!("{cluster}\0{}", key.as_str())
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
