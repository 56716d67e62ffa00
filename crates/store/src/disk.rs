//! The file: what is in it, how it is opened, written and copied.

use std::{
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use redb::{Builder, Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};

use crate::{EventKind, Key, Object, Snapshot, StoreError, writer::Staged};

/// Name of the file in the data folder.
pub(crate) const FILE: &str = "store.redb";

/// Revision of a cluster that has never been written to. Not 0, which means "any" to clients.
pub(crate) const FIRST_REVISION: u64 = 1;

/// Added to every revision when a backup is restored, since revisions after it have been handed out.
pub(crate) const RESTORE_GAP: u64 = 1_000_000;

/// Version of the layout below. Raise it when an older program could not read the file.
const FORMAT: u64 = 1;

/// All objects are in memory, so the file's own cache only has to hold the inner pages that commits touch.
const CACHE_BYTES: usize = 16 << 20;

/// `format`, and `sequence`: the number of commits.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Cluster to its newest revision.
const CLUSTERS: TableDefinition<'_, &str, u64> = TableDefinition::new("clusters");
/// Cluster, NUL, key to [`Record`].
const OBJECTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("objects");

/// The open file.
pub(crate) struct Disk {
    path: PathBuf,
    /// `None` after an error that could not be repaired by opening the file again.
    database: Option<Database>,
    /// Number of the last commit that is known to be in the file.
    sequence: u64,
}

/// What is in the file: cluster name and objects.
type Contents = Vec<(String, Snapshot)>;

impl Disk {
    /// Opens or makes the file and reads everything.
    pub(crate) fn open(path: &Path) -> Result<(Self, Contents), StoreError> {
        if !path.exists() {
            // Made elsewhere and moved into place, so that a crash cannot leave half a file.
            write_new(path, &[], 0)?;
        }
        let database = open_database(path)?;
        let sequence = guarded(path, || check_format(&database, path))?;
        let contents = guarded(path, || load(&database, path))?;
        Ok((
            Self {
                path: path.to_owned(),
                database: Some(database),
                sequence,
            },
            contents,
        ))
    }

    /// Writes `staged` in one transaction and waits until the disk has it. On an error nothing has been written.
    pub(crate) fn commit<'a>(
        &mut self,
        staged: &(impl Iterator<Item = &'a Staged> + Clone),
    ) -> Result<(), String> {
        let next = self.sequence + 1;
        let error = match &self.database {
            Some(database) => match guarded(&self.path, || write(database, next, staged.clone())) {
                Ok(()) => {
                    self.sequence = next;
                    return Ok(());
                }
                Err(error) => error.to_string(),
            },
            None => "the file could not be opened again after an earlier error".to_owned(),
        };
        // A database that has seen an I/O error refuses everything from then on, and whether the commit reached the disk is
        // open. Opening the file again answers that and, for example after a full disk, lets later writes succeed.
        self.database = None;
        let database =
            open_database(&self.path).map_err(|again| format!("{error}; opening again: {again}"))?;
        let found = guarded(&self.path, || read_sequence(&database))
            .map_err(|again| format!("{error}; reading again: {again}"))?;
        if found == self.sequence {
            self.database = Some(database);
            Err(error)
        } else if found == next {
            self.database = Some(database);
            self.sequence = next;
            Ok(())
        } else {
            Err(format!(
                "{error}; the file is at commit {found}, expected {}: restart to continue from it",
                self.sequence
            ))
        }
    }
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
        fs::rename(&partial, target).map_err(|source| unusable("write to", source))?;
        let folder = target
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        fs::File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|source| unusable("write to", source))
    });
    if placed.is_err() {
        let _ = fs::remove_file(&partial);
    }
    placed
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
        meta.insert("format", FORMAT)?;
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

fn read_sequence(database: &Database) -> Result<u64, Failure> {
    let meta = database.begin_read()?.open_table(META)?;
    Ok(meta.get("sequence")?.map_or(0, |sequence| sequence.value()))
}

fn write<'a>(
    database: &Database,
    sequence: u64,
    staged: impl Iterator<Item = &'a Staged>,
) -> Result<(), Failure> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    {
        transaction.open_table(META)?.insert("sequence", sequence)?;
        let mut clusters = transaction.open_table(CLUSTERS)?;
        let mut objects = transaction.open_table(OBJECTS)?;
        let mut record = Vec::new();
        for staged in staged {
            clusters.insert(staged.cluster(), staged.revision())?;
            for event in staged.events() {
                let key = disk_key(staged.cluster(), event.object.key());
                if event.kind == EventKind::Deleted {
                    objects.remove(key.as_str())?;
                } else {
                    Record::encode(&event.object, &mut record);
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
                Record::encode(object, &mut record);
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

/// The bytes of one object: checksum of the rest (4), revision (8), creation revision (8), where the digits of the
/// resource version begin in the text (4), all little-endian; then the JSON text.
struct Record;

impl Record {
    const HEADER: usize = 24;

    fn encode(object: &Object, into: &mut Vec<u8>) {
        into.clear();
        into.extend_from_slice(&[0; 4]);
        into.extend_from_slice(&object.revision().to_le_bytes());
        into.extend_from_slice(&object.created().to_le_bytes());
        into.extend_from_slice(&object.version_at().to_le_bytes());
        into.extend_from_slice(object.json());
        let checksum = crc32fast::hash(&into[4..]);
        into[..4].copy_from_slice(&checksum.to_le_bytes());
    }

    fn decode(key: Key, record: &[u8]) -> Option<Object> {
        let (header, json) = record.split_at_checked(Self::HEADER)?;
        let (checksum, numbers) = header.split_first_chunk::<4>()?;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(numbers);
        hasher.update(json);
        if hasher.finalize() != u32::from_le_bytes(*checksum) {
            return None;
        }
        let (revision, numbers) = numbers.split_first_chunk::<8>()?;
        let (created, numbers) = numbers.split_first_chunk::<8>()?;
        let version_at = numbers.first_chunk::<4>()?;
        Some(Object::load(
            key,
            u64::from_le_bytes(*revision),
            u64::from_le_bytes(*created),
            u32::from_le_bytes(*version_at),
            Bytes::copy_from_slice(json),
        ))
    }
}
