//! Objects of a world that are read when somebody looks at them.
//!
//! Of the objects of a platform at rest nobody looks at any, and as typed structs they would take most of its memory. So an object
//! that can be read back ([`Source`]) need not stay: the world forgets it ([`super::World::rest`]) and reads it at the next look.
//! A world that was cloned before keeps what it has.

use std::{
    cell::Cell,
    fmt,
    sync::{Arc, OnceLock},
};

use super::{AnyObject, Known};

/// Where an object comes back from that a world does not keep.
pub trait Source: fmt::Debug + Send + Sync {
    /// The object; `None` if it does not come back, and then whoever keeps it has said so in the log.
    fn read(self: Arc<Self>) -> Option<AnyObject>;
}

thread_local! {
    /// How many looks of this thread were at objects that did not come back.
    static MISSED: Cell<u64> = const { Cell::new(0) };
}

/// An object that is there and does not come back: nothing can be said of what depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "an object that is needed for this is there, but cannot be read back from memory; it is read anew when it changes, or when the program starts again"
)]
pub struct Unreadable;

/// What somebody finds out from worlds on this thread, if all objects that were looked at came back. One that does not looks as if
/// it were not there, and nobody must act on that.
///
/// # Errors
/// When an object did not come back.
pub fn complete<R>(look: impl FnOnce() -> R) -> Result<R, Unreadable> {
    let before = MISSED.get();
    let found = look();
    if MISSED.get() == before {
        Ok(found)
    } else {
        Err(Unreadable)
    }
}

/// One object of a world.
pub struct Entry<T> {
    /// What was read, and `None` if it did not come back.
    typed: OnceLock<Option<Arc<T>>>,
    source: Option<Arc<dyn Source>>,
}

impl<T> fmt::Debug for Entry<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_read = self.typed.get().is_some();
        f.debug_struct("Entry")
            .field("is_read", &is_read)
            .finish_non_exhaustive()
    }
}

impl<T: Known> Entry<T> {
    pub(super) fn new(object: Arc<T>, source: Option<Arc<dyn Source>>) -> Self {
        Self {
            typed: OnceLock::from(Some(object)),
            source,
        }
    }

    /// The object, read if nobody has looked at it for a while.
    pub(super) fn get(&self) -> Option<&Arc<T>> {
        let read = || T::of_any(Arc::clone(self.source.as_ref()?).read()?);
        let found = self.typed.get_or_init(read).as_ref();
        if found.is_none() {
            MISSED.set(MISSED.get() + 1);
        }
        found
    }

    /// The same without the object; `None` if it has none, or could not be read back.
    pub(super) fn rested(&self) -> Option<Self> {
        self.typed.get()?;
        Some(Self {
            typed: OnceLock::new(),
            source: Some(Arc::clone(self.source.as_ref()?)),
        })
    }

    /// Whether the object itself is here.
    pub(super) fn is_read(&self) -> bool {
        self.typed.get().is_some()
    }
}
