//! The program's allocator, and a runtime that gives memory back to the system when it has nothing to do.
//!
//! mimalloc keeps what was freed in the thread that had asked for it, and gives it back when that thread asks for more. A
//! platform at rest asks for nothing: what the lists of a start were read into, a hundred megabytes and more, would stay for as
//! long as nothing happens. So each thread of a [`runtime`] gives its part back once after it has worked, and a burst of work costs
//! one round of it for every [`PAUSE`] that it lasts.

use std::cell::Cell;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub use mimalloc::MiMalloc as Allocator;
use tokio::runtime::{Builder, Handle, Runtime};

/// How long a thread works at least before it gives back what it no longer uses. Shorter pauses return memory that is asked
/// for again at once.
pub const PAUSE: Duration = Duration::from_secs(5);

/// Less work than this, of all threads together, frees nothing to speak of: a lease that is renewed, a watch that says it is alive.
const WORTH_IT: Duration = Duration::from_millis(10);

/// How many rounds there have been. A thread that has not taken part in the last one does so before it sleeps.
static ROUND: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static TAKEN_PART: Cell<u64> = const { Cell::new(0) };
}

/// A runtime of many threads with all drivers, whose threads take part in the rounds of [`giving_back`].
///
/// # Errors
/// If the system has no threads or file descriptors left.
pub fn runtime() -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .enable_all()
        .thread_name("choreo")
        .on_thread_park(take_part)
        .build()
}

/// Polls `main` and, beside it, gives back what is free after every [`PAUSE`] in which the runtime had something to do. In one task,
/// because the thread that blocks on `main` is none of the runtime's own.
pub async fn giving_back<T>(main: impl Future<Output = T>) -> T {
    tokio::select! {
        result = main => result,
        never = give_back() => match never {},
    }
}

async fn give_back() -> Infallible {
    let runtime = Handle::current();
    let mut before = Duration::ZERO;
    loop {
        tokio::time::sleep(PAUSE).await;
        let busy = worked(&runtime);
        if busy.saturating_sub(before) < WORTH_IT {
            continue;
        }
        before = busy;
        ROUND.fetch_add(1, Ordering::Relaxed);
        take_part();
        // Threads that sleep are woken by something to do, and take part before they sleep again.
        for _ in 0..2 * runtime.metrics().num_workers() {
            runtime.spawn(tokio::task::yield_now());
        }
    }
}

/// For how long the threads of the runtime have worked since it started, together.
fn worked(runtime: &Handle) -> Duration {
    let metrics = runtime.metrics();
    (0..metrics.num_workers())
        .map(|worker| metrics.worker_total_busy_duration(worker))
        .sum()
}

fn take_part() {
    let round = ROUND.load(Ordering::Relaxed);
    if TAKEN_PART.replace(round) != round {
        collect();
    }
}

/// Frees the empty pages of this thread, also those that others have emptied, and returns to the system what nobody uses.
#[allow(unsafe_code)]
fn collect() {
    // SAFETY: the function has no preconditions: it works on the heap of the thread that calls it, and on shared parts under locks.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
