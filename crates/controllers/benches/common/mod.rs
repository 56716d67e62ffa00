//! What the benches of many components have in common.

use std::time::Duration;

use choreo_testkit::Platform;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};

/// Requests of the one who applies that are in flight at once.
pub(crate) const CONCURRENCY: usize = 16;
/// After this much time without a finished run of any controller, all is done.
pub(crate) const QUIET: Duration = Duration::from_millis(500);
/// After this much time without a change, memory is as it stays.
pub(crate) const REST: Duration = Duration::from_secs(8);

/// The program's own.
#[global_allocator]
static ALLOCATOR: choreo_allocator::Allocator = choreo_allocator::Allocator;

/// Runs a bench with the number that was given, or with a thousand.
pub(crate) fn run(bench: impl AsyncFnOnce(usize) -> anyhow::Result<()>) {
    let number = std::env::args()
        .skip(1)
        .find_map(|argument| argument.parse().ok());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(bench(number.unwrap_or(1_000))).unwrap();
}

/// An object of the platform's own kinds.
pub(crate) fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": kind,
           "metadata": {"name": name, "namespace": "default"}, "spec": spec})
}

/// Applies all of these.
pub(crate) async fn apply(platform: &Platform, documents: Vec<Value>) -> anyhow::Result<()> {
    let sent = stream::iter(documents).map(|document| platform.control.apply(document));
    let sent = sent.buffer_unordered(CONCURRENCY);
    sent.try_for_each(|_| std::future::ready(Ok(()))).await
}

/// Waits until the controllers have nothing more to do.
pub(crate) async fn settle(platform: &Platform) {
    // The runs that ended, and the keys that wait for one.
    let figures = || {
        let figures = platform.metrics.figures();
        let all = figures.values();
        all.fold((0, 0), |(runs, depth), f| {
            (runs + f.succeeded + f.failed, depth + f.depth)
        })
    };
    let mut last = figures();
    loop {
        tokio::time::sleep(QUIET).await;
        let now = figures();
        if now == last && now.1 == 0 {
            return;
        }
        last = now;
    }
}

/// What is allocated, in kilobytes, as the allocator counts it: what the kernel says of a process hides what is freed before it is
/// used again, and a counter that all threads share would be a seventh of all that is measured here.
pub(crate) fn memory() -> f64 {
    tikv_jemalloc_ctl::epoch::advance().unwrap();
    tikv_jemalloc_ctl::stats::allocated::read().unwrap() as f64 / 1024.0
}
