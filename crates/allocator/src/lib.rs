//! The program's allocator, and a runtime that gives memory back to the system when it has nothing to do.
//!
//! jemalloc keeps what was freed for as long as it may be asked for again, and looks at the clock when somebody asks for more. A
//! platform at rest asks for nothing: what the lists of a start were read into, a hundred megabytes and more, would stay for as
//! long as nothing happens. So each thread of a [`runtime`] gives its part back once after it has worked, and a burst of work costs
//! one round of it for every [`PAUSE`] that it lasts. After the first one without work the pages of the program itself are let go
//! as well, most of which only a start has touched. jemalloc has threads of its own for this, but not with every C library.

#[cfg(target_os = "linux")]
mod text;

use std::cell::Cell;
use std::convert::Infallible;
use std::ffi::CStr;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub use tikv_jemallocator::Jemalloc as Allocator;
use tokio::runtime::{Builder, Handle, Runtime};

/// How long a thread works at least before it gives back what it no longer uses. Shorter pauses return memory that is asked
/// for again at once.
pub const PAUSE: Duration = Duration::from_secs(5);

/// Less work than this, of all threads together, frees nothing to speak of: a lease that is renewed, a watch that says it is alive.
const WORTH_IT: Duration = Duration::from_millis(10);

/// With less work than this in a [`PAUSE`], one per cent of a processor, the platform is at rest.
#[cfg(target_os = "linux")]
const AT_REST: Duration = Duration::from_millis(50);

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
    #[cfg(target_os = "linux")]
    no_huge_pages();
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
    #[cfg(target_os = "linux")]
    let mut has_worked = false;
    loop {
        tokio::time::sleep(PAUSE).await;
        let now = worked(&runtime);
        let busy = now.saturating_sub(std::mem::replace(&mut before, now));
        #[cfg(target_os = "linux")]
        if busy >= AT_REST {
            has_worked = true;
        } else if std::mem::take(&mut has_worked) {
            text::let_go();
        }
        if busy < WORTH_IT {
            continue;
        }
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

/// Frees what this thread keeps to itself, and returns to the system what nobody uses.
fn collect() {
    // Nothing is lost where it fails: memory stays with the process until it is asked for again.
    for order in [c"thread.tcache.flush", EVERY_ARENA] {
        command(order);
    }
}

/// Has the kernel give this process no huge pages, which some systems do unasked: for heaps and stacks of which a little is used they
/// are 24 MB at rest that nobody needs.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn no_huge_pages() {
    // SAFETY: this takes numbers only, and changes how the kernel backs memory, not what is in it. A kernel that does not know it
    // refuses, and everything is as it was.
    let _ = unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1_u64, 0_u64, 0_u64, 0_u64) };
}

/// What `arena.<i>.purge` is for all of them: 4096 is `MALLCTL_ARENAS_ALL`.
const EVERY_ARENA: &CStr = c"arena.4096.purge";

/// Has jemalloc do something that takes no argument and gives no result.
#[allow(unsafe_code)]
fn command(name: &CStr) -> i32 {
    // SAFETY: the name ends with a zero byte, and the null pointers say that there is neither an argument nor room for a result,
    // which is what these commands want.
    unsafe { tikv_jemalloc_sys::mallctl(name.as_ptr(), null_mut(), null_mut(), null_mut(), 0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_runtime_has_no_huge_pages() {
        let _runtime = runtime().unwrap();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        // Kernels before 5.0 do not say.
        let told = status.lines().find_map(|line| line.strip_prefix("THP_enabled:"));
        assert!(told.is_none_or(|told| told.trim() == "0"), "{told:?}");
    }

    #[test]
    fn jemalloc_knows_the_commands() {
        for name in [c"thread.tcache.flush", EVERY_ARENA] {
            assert_eq!(command(name), 0, "{name:?}");
        }
        assert_ne!(command(c"no.such.thing"), 0);
    }
}
