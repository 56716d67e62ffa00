//! The store: a set of logical clusters over one file and one writer thread.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
};

use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;

use crate::{
    Cluster, Snapshot, StoreError,
    cluster::State,
    database,
    disk::{self, Disk},
    journal,
    lock::FolderLock,
    log::Window,
    writer::{Request, Writer},
};

/// Bounds of what a store keeps of the past: in memory, per logical cluster, and on disk.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// Number of changes that watches and older lists can reach back to.
    pub history_events: usize,
    /// Bytes of JSON text that these changes may hold.
    pub history_bytes: usize,
    /// Bytes that each of the two journals may have before what it says is brought into the store's file.
    pub journal_bytes: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            history_events: 20_000,
            history_bytes: 32 << 20,
            journal_bytes: journal::LIMIT,
        }
    }
}

/// A durable store of JSON objects in logical clusters. Cheap to clone; the last clone that is dropped closes it.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    clusters: RwLock<BTreeMap<Arc<str>, Arc<State>>>,
    window: Window,
    queue: Mutex<Option<mpsc::Sender<Request>>>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
    path: Option<PathBuf>,
}

impl Shared {
    /// Hands `request` to the writer thread; gives it back when the store is closed.
    pub(crate) fn send(&self, request: Request) -> Result<(), Box<Request>> {
        match &*self.queue.lock() {
            Some(queue) => queue.send(request).map_err(|refused| Box::new(refused.0)),
            None => Err(Box::new(request)),
        }
    }

    fn state(&self, name: &str) -> Arc<State> {
        if let Some(state) = self.clusters.read().get(name) {
            return Arc::clone(state);
        }
        let mut clusters = self.clusters.write();
        let name: Arc<str> = name.into();
        let new = || {
            Arc::new(State::new(
                Arc::clone(&name),
                Snapshot::new(database::FIRST_REVISION),
                self.window,
            ))
        };
        Arc::clone(clusters.entry(Arc::clone(&name)).or_insert_with(new))
    }

    /// Stops taking writes, finishes the ones under way, ends the watches and releases the folder.
    fn close(&self) {
        // Without its sender the writer thread finishes what is queued and ends.
        drop(self.queue.lock().take());
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the store's writer thread panicked");
        }
        self.clusters.read().values().for_each(|state| state.close());
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.close();
    }
}

impl Store {
    /// Opens the store in `folder`, which is made if it is missing, with all its objects read into memory.
    ///
    /// # Errors
    /// When the folder is held by another process, cannot be used, or its file is damaged or of a newer format. Nothing is changed then.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with(folder, StoreOptions::default())
    }

    /// [`Store::open`] with other bounds.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with(folder: impl AsRef<Path>, options: StoreOptions) -> Result<Self, StoreError> {
        let folder = folder.as_ref();
        std::fs::create_dir_all(folder).map_err(|source| StoreError::Unusable {
            action: "create",
            path: folder.to_owned(),
            source,
        })?;
        let lock = FolderLock::acquire(folder)?;
        let (disk, clusters) = Disk::open(&folder.join(disk::FILE), options.journal_bytes)?;
        Self::start(Some((disk, lock)), clusters, options, Some(folder.to_owned()))
    }

    /// A store that forgets everything when it is dropped. All else is the same.
    pub fn in_memory() -> Self {
        Self::in_memory_with(StoreOptions::default())
    }

    /// [`Store::in_memory`] with other bounds.
    pub fn in_memory_with(options: StoreOptions) -> Self {
        match Self::start(None, Vec::new(), options, None) {
            Ok(store) => store,
            Err(error) => {
                // No thread to be had: every write will say `Closed`.
                tracing::error!(%error, "in-memory store");
                Self::idle(options, None)
            }
        }
    }

    fn idle(options: StoreOptions, path: Option<PathBuf>) -> Self {
        let window = Window {
            events: options.history_events.max(1),
            bytes: options.history_bytes,
        };
        let shared = Shared {
            clusters: RwLock::default(),
            window,
            queue: Mutex::new(None),
            thread: Mutex::new(None),
            path,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    fn start(
        disk: Option<(Disk, FolderLock)>,
        clusters: Vec<(String, Snapshot)>,
        options: StoreOptions,
        path: Option<PathBuf>,
    ) -> Result<Self, StoreError> {
        let store = Self::idle(options, path);
        let shared = &store.shared;
        for (name, snapshot) in clusters {
            let name: Arc<str> = name.into();
            let state = Arc::new(State::new(Arc::clone(&name), snapshot, shared.window));
            shared.clusters.write().insert(name, state);
        }
        let (queue, requests) = mpsc::channel();
        let writer = Writer::new(disk);
        let thread = thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run(&requests))
            .map_err(|source| StoreError::Unusable {
                action: "start a thread for",
                path: "store".into(),
                source,
            })?;
        *shared.queue.lock() = Some(queue);
        *shared.thread.lock() = Some(thread);
        Ok(store)
    }

    /// The logical cluster of that name. One that has never been written to is empty and at revision 1.
    ///
    /// It is made by asking for it: check names that come from outside first.
    pub fn cluster(&self, name: &str) -> Cluster {
        Cluster {
            state: self.shared.state(&name.replace('\0', "\u{fffd}")),
            shared: Arc::clone(&self.shared),
        }
    }

    /// Names of the clusters that have been used, sorted.
    pub fn clusters(&self) -> Vec<String> {
        self.shared
            .clusters
            .read()
            .keys()
            .map(|name| name.to_string())
            .collect()
    }

    /// The data folder; `None` in memory.
    pub fn folder(&self) -> Option<&Path> {
        self.shared.path.as_deref()
    }

    /// Finishes the writes under way, ends all watches and releases the folder, whoever else still has a clone. Blocks
    /// for as long as the last commit takes. Dropping the last clone does the same.
    pub fn close(&self) {
        self.shared.close();
    }

    /// Writes everything as it is at this moment, over all clusters, to a new file at `target`, while the store stays in
    /// use. [`Store::restore`] makes a store of it.
    ///
    /// # Errors
    /// When `target` exists or cannot be written. No partial file is left there.
    pub async fn backup(&self, target: impl AsRef<Path>) -> Result<(), StoreError> {
        let target = target.as_ref().to_owned();
        let states: Vec<_> = self.shared.clusters.read().values().cloned().collect();
        let (reply, answer) = oneshot::channel();
        self.shared
            .send(Request::Capture {
                clusters: states,
                reply,
            })
            .map_err(|_| StoreError::Closed)?;
        let clusters = answer.await.map_err(|_| StoreError::Closed)?;
        let (reply, answer) = oneshot::channel();
        thread::Builder::new()
            .name("store-backup".into())
            .spawn(move || reply.send(database::write_new(&target, &clusters, 0)))
            .map_err(|source| StoreError::Unusable {
                action: "start a thread for",
                path: "backup".into(),
                source,
            })?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Makes the store of `folder`, which must not have one, from a file of [`Store::backup`].
    ///
    /// Revisions go on well above the backup's, so that no client that saw later ones mistakes new objects for old.
    ///
    /// # Errors
    /// When `backup` cannot be read, or `folder` has a store, is held or cannot be written.
    pub fn restore(backup: impl AsRef<Path>, folder: impl AsRef<Path>) -> Result<(), StoreError> {
        Self::restore_from(backup.as_ref(), folder.as_ref(), None)
    }

    /// [`Store::restore`] over the store that `folder` has, which is kept as `aside` beside the new one. On an error the
    /// old one stays in use. If there is none this is the same as [`Store::restore`].
    ///
    /// # Errors
    /// When `backup` cannot be read, `folder` is held or cannot be written, or has a file called `aside` already.
    pub fn restore_over(
        backup: impl AsRef<Path>,
        folder: impl AsRef<Path>,
        aside: &str,
    ) -> Result<(), StoreError> {
        Self::restore_from(backup.as_ref(), folder.as_ref(), Some(aside))
    }

    fn restore_from(backup: &Path, folder: &Path, aside: Option<&str>) -> Result<(), StoreError> {
        if !backup.is_file() {
            let source = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(StoreError::Unusable {
                action: "read",
                path: backup.to_owned(),
                source,
            });
        }
        std::fs::create_dir_all(folder).map_err(|source| StoreError::Unusable {
            action: "create",
            path: folder.to_owned(),
            source,
        })?;
        let _lock = FolderLock::acquire(folder)?;
        let clusters: Vec<_> = Disk::read(backup)?
            .into_iter()
            .map(|(name, snapshot)| (name.into(), snapshot))
            .collect();
        let target = folder.join(disk::FILE);
        let Some(aside) = aside.map(|name| folder.join(name)).filter(|_| target.exists()) else {
            return database::write_new(&target, &clusters, database::RESTORE_GAP);
        };
        if aside.exists() {
            return Err(StoreError::TargetExists { path: aside });
        }
        let moved = |action, source| StoreError::Unusable {
            action,
            path: target.clone(),
            source,
        };
        let (gap, is_whole) = gap_over(&target, &clusters);
        std::fs::rename(&target, &aside).map_err(|source| moved("move aside", source))?;
        let kept = |file: &str| {
            let ending = file.trim_start_matches("store");
            PathBuf::from(format!("{}{ending}", aside.display()))
        };
        let journals: Vec<_> = journal::FILES
            .into_iter()
            .map(|file| (folder.join(file), kept(file)))
            .filter(|(journal, _)| !is_whole && journal.exists())
            .collect();
        let back = || {
            // The first error is the one to tell; the old store is still there under its other name.
            let _ = std::fs::rename(&aside, &target);
            for (journal, kept) in &journals {
                let _ = std::fs::rename(kept, journal);
            }
        };
        for (journal, kept) in &journals {
            std::fs::rename(journal, kept)
                .map_err(|source| moved("move aside the journal of", source))
                .inspect_err(|_| back())?;
        }
        database::write_new(&target, &clusters, gap).inspect_err(|_| back())
    }
}

/// How far revisions must jump so that none of the store that is replaced comes again. One that cannot be read is what
/// backups are for; then it is the gap of any restore. And whether the file that is replaced needs no journal.
fn gap_over(replaced: &Path, clusters: &[(Arc<str>, Snapshot)]) -> (u64, bool) {
    let Ok((mut disk, old)) = Disk::open(replaced, journal::LIMIT) else {
        return (database::RESTORE_GAP, false);
    };
    let is_whole = disk.make_whole().is_ok();
    let ahead = old.iter().map(|(name, was)| {
        let now = clusters
            .iter()
            .find(|(other, _)| **other == **name)
            .map_or(0, |(_, snapshot)| snapshot.revision());
        was.revision().saturating_sub(now)
    });
    (ahead.max().unwrap_or_default() + database::RESTORE_GAP, is_whole)
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("folder", &self.shared.path)
            .field("clusters", &self.clusters())
            .finish()
    }
}
