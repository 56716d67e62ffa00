//! What a run has written itself is no news to it.
//!
//! The answer to a write goes into the cache at once, and from there to everybody whom the change concerns: most often that is first
//! of all whoever wrote it. A run that has taken in what it wrote, or that cannot be changed by it, says so around the write, and is not asked
//! to look again. What anybody else writes in between is news as ever, and so is what a watch brings.

use choreo_engine::plan::Target;

use crate::runtime::Key;

/// What a run is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AtWork {
    /// A target whose plan is carried out. A plan made again from what it has just told would tell the same; and what a binding makes
    /// is heard of again when it has come to something.
    Planning(Target),
    /// A release, which looks at everything after it has written.
    Releasing(Key),
}

tokio::task_local! {
    static AT_WORK: AtWork;
}

impl AtWork {
    /// Runs something whose writes are no news to this.
    pub(crate) async fn unasked<F: Future>(self, writes: F) -> F::Output {
        AT_WORK.scope(self, writes).await
    }

    /// Whether the change that is being told was written by a run that need not hear of it.
    pub(crate) fn wrote_this(is_this: impl FnOnce(&Self) -> bool) -> bool {
        AT_WORK.try_with(is_this).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_is_written_inside_is_known() {
        let key = Key::new("org", "a");
        let ours = || AtWork::wrote_this(|work| *work == AtWork::Releasing(Key::new("org", "a")));
        assert!(!ours());
        let inside = AtWork::Releasing(key).unasked(async {
            // Other tasks are other writers.
            let elsewhere = tokio::spawn(async { AtWork::wrote_this(|_| true) });
            (
                ours(),
                AtWork::wrote_this(|work| matches!(work, AtWork::Planning(_))),
                elsewhere.await,
            )
        });
        let (own, other, elsewhere) = inside.await;
        assert!(own && !other && !elsewhere.unwrap());
        assert!(!ours());
    }
}
