//! The database file: its tables, how it is opened and read, and how far a write brings it.

use std::{
    collections::BTreeMap,
    fs,
    hash::{BuildHasher, RandomState},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};

use redb::{Builder, Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};

use crate::{Key, Object, Snapshot, StoreError, journal, record::Record};

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

/// Objects, or that they are gone, by cluster and key.
pub(super) type Changes<'a> = BTreeMap<(&'a str, &'a Key), Option<&'a Object>>;

/// How far a write brings the file.
#[derive(Clone, Copy)]
pub(super) enum Progress {
    /// To this commit.
    At(u64),
    /// A part of what leads to this commit; the rest is in a journal.
    Towards(u64),
}

/// What is in the file: cluster name and objects.
pub(super) type Contents = Vec<(String, Snapshot)>;

/// Opens a file and reads it: the number of its last commit, and what is in it.
pub(super) fn read(path: &Path) -> Result<(Database, u64, Contents), StoreError> {
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

pub(super) fn open_database(path: &Path) -> Result<Database, StoreError> {
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
pub(super) fn guarded<T>(path: &Path, step: impl FnOnce() -> Result<T, Failure>) -> Result<T, StoreError> {
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

pub(super) enum Failure {
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
pub(super) fn identify(database: &Database) -> Result<u64, Failure> {
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

pub(super) fn read_sequence(database: &Database) -> Result<u64, Failure> {
    let meta = database.begin_read()?.open_table(META)?;
    Ok(meta.get("sequence")?.map_or(0, |sequence| sequence.value()))
}

/// The commit of which the file has a part only, if that is so.
pub(super) fn read_towards(database: &Database) -> Result<Option<u64>, Failure> {
    let meta = database.begin_read()?.open_table(META)?;
    let number = |name| {
        let found = meta.get(name)?.map(|number| number.value());
        Ok::<_, Failure>(found)
    };
    let (towards, sequence) = (number("towards")?, number("sequence")?);
    Ok(towards.filter(|towards| *towards > sequence.unwrap_or_default()))
}

/// The error for a file without the journals that have the rest of what it has a part of.
pub(super) fn in_part(path: &Path, towards: u64) -> StoreError {
    let [first, second] = journal::FILES;
    StoreError::Damaged {
        path: path.to_owned(),
        detail: format!(
            "it has a part of commit {towards}, and the rest is in {first} and {second}, which are not beside it or are older"
        ),
    }
}

pub(super) fn write(
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
