//! How long it takes from applying a component to its objects being in its cell, with the whole platform in process.
//!
//! `cargo bench -p choreo-controllers --bench flow` prints the figures; they are quoted in the documentation.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

use std::time::{Duration, Instant};

use choreo_api::names::cell_namespace;
use choreo_testkit::Platform;
use futures::future::try_join_all;
use serde_json::Value;

const GREETER: &str = include_str!("../../../examples/greeter.yaml");
const GITHUB: &str = include_str!("../../../examples/github.yaml");

/// Components applied one after the other.
const SINGLE: usize = 30;
/// Components applied at once.
const MANY: usize = 200;

/// The program's own.
#[global_allocator]
static ALLOCATOR: choreo_allocator::Allocator = choreo_allocator::Allocator;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(run()).unwrap();
}

async fn run() -> anyhow::Result<()> {
    let started = Instant::now();
    let platform = Platform::start().await?;
    println!("start to ready             {:>9.1} ms", millis(started.elapsed()));
    platform.control.apply_yaml(GITHUB).await?;
    let cell = cell_namespace("default", "default", "development");

    let mut applied = Vec::new();
    let mut healthy = Vec::new();
    for index in 0..=SINGLE {
        let name = format!("single-{index}");
        let documents = documents(&name);
        let began = Instant::now();
        for document in documents {
            platform.control.apply(document).await?;
        }
        platform
            .local
            .wait_for("Deployment.apps", &cell, &name, "there", |_| true)
            .await?;
        platform
            .local
            .wait_all("HTTPRoute", &cell, "there", |routes| {
                routes.len() == 2 * (index + 1)
            })
            .await?;
        let took = began.elapsed();
        platform.control.wait_ready("Component", "default", &name).await?;
        // The first one makes the cell, and warms everything up.
        if index == 0 {
            println!("first component in the cell {:>8.1} ms", millis(took));
        } else {
            applied.push(took);
            healthy.push(began.elapsed());
        }
    }
    println!("apply to objects in cell   {}", figures(&mut applied));
    println!("apply to Ready             {}", figures(&mut healthy));

    let before = platform.metrics.calls();
    let began = Instant::now();
    let all: Vec<String> = (0..MANY).map(|index| format!("many-{index}")).collect();
    try_join_all(all.iter().map(|name| async {
        for document in documents(name) {
            platform.control.apply(document).await?;
        }
        platform.control.wait_ready("Component", "default", name).await
    }))
    .await?;
    let took = began.elapsed();
    let rate = MANY as f64 / took.as_secs_f64();
    println!(
        "{MANY} components to Ready     {:>9.1} ms, {rate:.0} per second",
        millis(took)
    );
    for (call, count) in platform.metrics.calls() {
        let made = count - before.get(&call).copied().unwrap_or_default();
        println!(
            "  calls per component: {:<8} {:<7} {:>6.1}",
            call.0,
            call.1,
            made as f64 / MANY as f64
        );
    }
    platform.stop().await;
    Ok(())
}

fn documents(name: &str) -> Vec<Value> {
    let text = GREETER
        .replace("name: greeter\n", &format!("name: {name}\n"))
        .replace("componentName: greeter\n", &format!("componentName: {name}\n"))
        .replace("workloadName: greeter\n", &format!("workloadName: {name}\n"));
    serde_saphyr::from_multiple(&text).unwrap()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn figures(times: &mut [Duration]) -> String {
    times.sort();
    let at = |part: usize| millis(times[(times.len() - 1) * part / 100]);
    format!(
        "{:>9.1} ms median, {:.1} ms p90, {:.1} ms max",
        at(50),
        at(90),
        at(100)
    )
}
