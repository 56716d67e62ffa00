//! The journal: the commits that are not in the database file yet, one behind the other.
//!
//! To commit is one write behind the last one, into blocks that the file has already, and one wait for the disk. The database
//! file, where a commit touches a page for nearly every object and all pages above, gets them at the next checkpoint: many at
//! once, sorted, and each object only as it came to be.
//!
//! # Layout
//!
//! Frames, each at a multiple of [`BLOCK`], so that no commit writes again where another one is. Numbers are little-endian.
//!
//! ```text
//! magic 8 │ identity of the store 8 │ number of the commit 8 │ length of the content 8 │ its checksum 4 │ checksum of all before 4
//! content: for each cluster: name, revision 8, number of changes 4; for each change: key, then 0 for a removal, or 1 and a record
//! (names, keys and records are preceded by their length, 4)
//! ```
//!
//! After a checkpoint the file is written from its beginning again. What is left of the round before says lower numbers than the
//! database file and means nothing, as does everything with another identity.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{EventKind, Key, Object, StoreError, database::sync_folder, record::Record, writer::Staged};

/// Names of the files in the data folder. One is written to, while the database file is given what the other one has.
pub(crate) const FILES: [&str; 2] = ["store.journal-1", "store.journal-2"];

/// Begins each frame. The last byte is the version of the layout.
const MAGIC: [u8; 8] = *b"choreoj\x01";

const HEADER: usize = 40;

/// Frames begin at multiples of this: the unit in which disks and page caches write.
const BLOCK: u64 = 4096;

/// The file grows by so much at once, filled with zeros: a commit into blocks that are there changes nothing about the file, so
/// that waiting for the disk does not include the file system's own journal.
const STEP: u64 = 1 << 20;

/// The frames of one file do not grow beyond this, unless the store is told otherwise: what does not fit brings about a checkpoint. It
/// bounds what a start has to read, and the space.
pub(crate) const LIMIT: u64 = 16 << 20;

/// Room that only removals may use: when the disk is full, they are what makes room again.
const RESERVE: u64 = 256 << 10;

/// The buffer of a frame is kept for the next one up to this size.
const KEPT: usize = 1 << 20;

/// One change of a commit.
#[derive(Clone)]
pub(crate) struct Change {
    pub(crate) cluster: Arc<str>,
    pub(crate) key: Key,
    /// The object as it is now; `None` when it was removed.
    pub(crate) object: Option<Arc<Object>>,
}

/// One cluster's part of a commit.
pub(crate) struct Part {
    pub(crate) revision: u64,
    pub(crate) changes: Vec<Change>,
    pub(crate) cluster: Arc<str>,
}

/// Why a commit is not in the journal.
pub(crate) enum Refused {
    /// There is no room. Nothing has been written.
    Full(io::Error),
    /// The disk failed. Whether the commit would be found again is open.
    Failed(io::Error),
}

/// The open file.
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    identity: u64,
    /// Where frames end at the latest.
    limit: u64,
    /// Where the next frame goes.
    end: u64,
    /// Size of the file.
    filled: u64,
    frame: Vec<u8>,
}

/// What [`replay`] found.
pub(crate) struct Found {
    /// Number of the last commit.
    pub(crate) last: u64,
    /// The journal that goes on.
    pub(crate) active: usize,
    /// Whether both have commits that the database file has not.
    pub(crate) in_both: bool,
}

/// Gives the commits of both journals after number `done` to `found`, in order.
///
/// # Errors
/// When a commit that was acknowledged cannot be read.
pub(crate) fn replay(
    journals: &mut [Journal; 2],
    done: u64,
    mut found: impl FnMut(Vec<Part>),
) -> Result<Found, StoreError> {
    let mut last = done;
    let mut had = [false; 2];
    let mut active = 0;
    // One begins where the other one ends, if both have something.
    for nth in [0, 1, 0] {
        if had[nth] {
            continue;
        }
        let reached = journals[nth].read_after(last, done, &mut found)?;
        if reached > last {
            (last, active, had[nth]) = (reached, nth, true);
        }
    }
    for journal in journals {
        journal.check_end(last)?;
    }
    Ok(Found {
        last,
        active,
        in_both: had == [true; 2],
    })
}

impl Journal {
    /// Opens or makes the file.
    ///
    /// # Errors
    /// When it cannot be used.
    pub(crate) fn open(path: &Path, identity: u64, limit: u64) -> Result<Self, StoreError> {
        let open = || {
            let is_new = !path.exists();
            let mut options = OpenOptions::new();
            let options = options.read(true).write(true).create(true).truncate(false);
            let file = options.open(path)?;
            if is_new {
                sync_folder(path)?;
            }
            let filled = file.metadata()?.len();
            Ok((file, filled))
        };
        let (file, filled) = open().map_err(|source| StoreError::Unusable {
            action: "open",
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            path: path.to_owned(),
            file,
            identity,
            limit,
            end: 0,
            filled,
            frame: Vec::new(),
        })
    }

    /// Gives the commits behind `last` to `found`, and the number of the last one. Those up to `done` are left from before.
    fn read_after(
        &mut self,
        mut last: u64,
        done: u64,
        found: &mut impl FnMut(Vec<Part>),
    ) -> Result<u64, StoreError> {
        let mut at = 0;
        while let Some(frame) = self.header(at)? {
            if frame.sequence == last + 1 {
                let Some(content) = self.content(at, &frame)? else {
                    break;
                };
                let parts = decode(&content)
                    .ok_or_else(|| self.damaged(format!("commit {} makes no sense", frame.sequence)))?;
                found(parts);
                last = frame.sequence;
                self.end = frame.end(at);
            } else if frame.sequence > done || self.end > 0 {
                break;
            }
            at = frame.end(at);
        }
        Ok(last)
    }

    /// The last commit may be there in part: it was never acknowledged. But one is begun only when the one before it is on disk, so
    /// that a later one than that after `last` tells that something in between was lost.
    fn check_end(&mut self, last: u64) -> Result<(), StoreError> {
        let mut at = self.end;
        while at < self.filled {
            let later = self.header(at)?.filter(|later| later.sequence > last + 1);
            if let Some(later) = later {
                let (found, missing) = (later.sequence, last + 1);
                return Err(self.damaged(format!("it has commit {found} but not commit {missing}")));
            }
            at += BLOCK;
        }
        Ok(())
    }

    fn damaged(&self, detail: String) -> StoreError {
        StoreError::Damaged {
            path: self.path.clone(),
            detail,
        }
    }

    fn unreadable(&self, source: io::Error) -> StoreError {
        StoreError::Unusable {
            action: "read",
            path: self.path.clone(),
            source,
        }
    }

    /// Writes a commit and waits until the disk has it.
    ///
    /// # Errors
    /// [`Refused`]
    pub(crate) fn append<'a>(
        &mut self,
        sequence: u64,
        staged: impl Iterator<Item = &'a Staged>,
    ) -> Result<(), Refused> {
        let mut frame = std::mem::take(&mut self.frame);
        let removes_only = encode(&mut frame, self.identity, sequence, staged);
        let appended = self.put(&frame, removes_only);
        if frame.capacity() <= KEPT {
            self.frame = frame;
        }
        appended
    }

    fn put(&mut self, frame: &[u8], removes_only: bool) -> Result<(), Refused> {
        let length = frame.len() as u64;
        self.make_room(length, removes_only).map_err(Refused::Full)?;
        self.file
            .seek(SeekFrom::Start(self.end))
            .and_then(|_| self.file.write_all(frame))
            .and_then(|()| self.file.sync_data())
            .map_err(Refused::Failed)?;
        self.end += length;
        Ok(())
    }

    fn make_room(&mut self, length: u64, removes_only: bool) -> io::Result<()> {
        let end = self.end + length;
        let (reserve, limit) = match removes_only {
            true => (0, self.limit.saturating_add(RESERVE)),
            false => (RESERVE, self.limit),
        };
        if end > limit {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "the store's journal has no room",
            ));
        }
        let wanted = end + reserve;
        if wanted <= self.filled {
            return Ok(());
        }
        let generous = wanted.next_multiple_of(STEP);
        match self.fill(generous) {
            Err(_) if self.filled >= wanted => Ok(()),
            outcome => outcome,
        }
    }

    fn fill(&mut self, size: u64) -> io::Result<()> {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        self.file.seek(SeekFrom::Start(self.filled))?;
        while self.filled < size {
            let missing = usize::try_from(size - self.filled).unwrap_or(usize::MAX);
            self.file.write_all(&ZEROS[..missing.min(ZEROS.len())])?;
            self.filled += missing.min(ZEROS.len()) as u64;
        }
        Ok(())
    }

    /// Begins anew: the database file has everything.
    pub(crate) fn rewind(&mut self) {
        self.end = 0;
    }

    /// Takes back, as well as may be, what a failed commit left behind the others, so that no start takes it for one that was made.
    pub(crate) fn forget(&mut self) {
        let blanked = self
            .file
            .seek(SeekFrom::Start(self.end))
            .and_then(|_| self.file.write_all(&[0; HEADER]))
            .and_then(|()| self.file.sync_data());
        if let Err(error) = blanked {
            tracing::warn!(path = %self.path.display(), %error, "a commit that failed may be found at the next start");
        }
    }

    fn header(&mut self, at: u64) -> Result<Option<Header>, StoreError> {
        if at.saturating_add(HEADER as u64) > self.filled {
            return Ok(None);
        }
        let mut bytes = [0; HEADER];
        self.read_at(at, &mut bytes)?;
        Ok(Header::read(&bytes, self.identity))
    }

    /// The content of a frame, if all of it is there.
    fn content(&mut self, at: u64, frame: &Header) -> Result<Option<Vec<u8>>, StoreError> {
        let begin = at + HEADER as u64;
        let length = usize::try_from(frame.length).unwrap_or(usize::MAX);
        if frame.length > self.filled - begin {
            return Ok(None);
        }
        let mut content = vec![0; length];
        self.read_at(begin, &mut content)?;
        Ok((crc32fast::hash(&content) == frame.checksum).then_some(content))
    }

    fn read_at(&mut self, at: u64, bytes: &mut [u8]) -> Result<(), StoreError> {
        self.file
            .seek(SeekFrom::Start(at))
            .and_then(|_| self.file.read_exact(bytes))
            .map_err(|source| self.unreadable(source))
    }
}

struct Header {
    sequence: u64,
    length: u64,
    checksum: u32,
}

impl Header {
    fn read(bytes: &[u8; HEADER], identity: u64) -> Option<Self> {
        let mut rest = Reader(bytes);
        if rest.take(8)? != MAGIC || rest.u64()? != identity {
            return None;
        }
        let header = Self {
            sequence: rest.u64()?,
            length: rest.u64()?,
            checksum: rest.u32()?,
        };
        (rest.u32()? == crc32fast::hash(&bytes[..HEADER - 4])).then_some(header)
    }

    /// Where the next frame begins.
    fn end(&self, at: u64) -> u64 {
        at.saturating_add(HEADER as u64)
            .saturating_add(self.length)
            .div_ceil(BLOCK)
            .saturating_mul(BLOCK)
    }
}

/// Makes the frame of a commit. Gives whether it only removes.
fn encode<'a>(
    frame: &mut Vec<u8>,
    identity: u64,
    sequence: u64,
    staged: impl Iterator<Item = &'a Staged>,
) -> bool {
    frame.clear();
    frame.resize(HEADER, 0);
    let mut removes_only = true;
    for staged in staged {
        put_bytes(frame, staged.cluster().as_bytes());
        frame.extend_from_slice(&staged.revision().to_le_bytes());
        frame.extend_from_slice(&(staged.events().len() as u32).to_le_bytes());
        for event in staged.events() {
            put_bytes(frame, event.object.key().as_str().as_bytes());
            if event.kind == EventKind::Deleted {
                frame.push(0);
            } else {
                removes_only = false;
                frame.push(1);
                frame.extend_from_slice(&(Record::length(&event.object) as u32).to_le_bytes());
                Record::append(&event.object, frame);
            }
        }
    }
    let content = &frame[HEADER..];
    let (length, checksum) = (content.len() as u64, crc32fast::hash(content));
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(&MAGIC);
    header[8..16].copy_from_slice(&identity.to_le_bytes());
    header[16..24].copy_from_slice(&sequence.to_le_bytes());
    header[24..32].copy_from_slice(&length.to_le_bytes());
    header[32..36].copy_from_slice(&checksum.to_le_bytes());
    let own = crc32fast::hash(&header[..HEADER - 4]);
    header[HEADER - 4..].copy_from_slice(&own.to_le_bytes());
    frame[..HEADER].copy_from_slice(&header);
    frame.resize(frame.len().next_multiple_of(BLOCK as usize), 0);
    removes_only
}

fn put_bytes(frame: &mut Vec<u8>, bytes: &[u8]) {
    frame.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    frame.extend_from_slice(bytes);
}

fn decode(content: &[u8]) -> Option<Vec<Part>> {
    let mut rest = Reader(content);
    let mut parts = Vec::new();
    while !rest.0.is_empty() {
        let cluster: Arc<str> = rest.text()?.into();
        let revision = rest.u64()?;
        let mut changes = Vec::new();
        for _ in 0..rest.u32()? {
            let key = Key::parse(rest.text()?)?;
            let object = match rest.take(1)? {
                [0] => None,
                _ => Some(Arc::new(Record::decode(key.clone(), rest.bytes()?)?)),
            };
            changes.push(Change {
                cluster: Arc::clone(&cluster),
                key,
                object,
            });
        }
        parts.push(Part {
            cluster,
            revision,
            changes,
        });
    }
    Some(parts)
}

/// Takes fields from the front of some bytes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Journal {
        /// Every write fails from now on.
        pub(crate) fn spoil(&mut self) {
            self.file = File::open(&self.path).unwrap();
        }

        /// Takes the last frame, at `end`, for one that failed, although it is on disk.
        pub(crate) fn step_back(&mut self, end: u64) {
            self.end = end;
        }

        pub(crate) fn end(&self) -> u64 {
            self.end
        }
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let mut content = Vec::new();
        put_bytes(&mut content, b"c");
        content.extend_from_slice(&7_u64.to_le_bytes());
        content.extend_from_slice(&1_u32.to_le_bytes());
        put_bytes(&mut content, b"things\0ns\0name");
        content.push(0);
        let parts = decode(&content).unwrap();
        assert_eq!(
            (parts.len(), parts[0].revision, parts[0].changes.len()),
            (1, 7, 1)
        );
        assert_eq!(parts[0].changes[0].key.name(), "name");
        for length in 1..content.len() {
            assert!(decode(&content[..length]).is_none(), "{length}");
        }
    }
}
