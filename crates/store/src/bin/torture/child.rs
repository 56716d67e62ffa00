//! The process that is killed: writes as fast as it can and says what it does.

use std::{io::Write as _, thread};

use choreo_store::{Cluster, Event, EventKind, Key, Store, StoreOptions, Watch, Write};
use futures::executor::block_on;
use serde_json::json;

use crate::{CLUSTERS, READY, RESOURCE, Random};

/// Threads, each with its own objects, so that each has at most one write under way.
const THREADS: u64 = 6;
const OBJECTS: u64 = 12;

/// `child DIR SEED SESSION`
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let [folder, seed, session] = args else {
        return Err("usage: child DIR SEED SESSION".into());
    };
    let seed: u64 = seed.parse().map_err(|error| format!("seed: {error}"))?;
    // Small journals are full often, so that kills also come while one is brought into the file.
    let options = StoreOptions {
        journal_bytes: if seed.is_multiple_of(4) {
            16 << 20
        } else {
            128 << 10
        },
        ..StoreOptions::default()
    };
    let store = Store::open_with(folder, options).map_err(|error| error.to_string())?;
    say(READY);
    thread::scope(|scope| {
        for name in CLUSTERS {
            let cluster = store.cluster(name);
            let from = cluster.revision();
            let watch = cluster
                .watch(None, None, from)
                .map_err(|error| error.to_string())?;
            scope.spawn(move || watch_everything(name, watch, from));
            scope.spawn(move || watch_with_breaks(&cluster, from));
        }
        for nth in 0..THREADS {
            let store = store.clone();
            let random = Random(seed.wrapping_add(nth.wrapping_mul(0x1234_5678_9abc)));
            scope.spawn(move || {
                if let Err(error) = write(&store, nth, session, random) {
                    say(&format!("bad thread {nth}: {error}"));
                }
            });
        }
        Ok(())
    })
}

fn say(line: &str) {
    // One call per line, so that a kill leaves no mixture; the parent drops a torn last line.
    let mut line = line.to_owned();
    line.push('\n');
    if std::io::stdout().write_all(line.as_bytes()).is_err() {
        std::process::exit(1);
    }
}

fn write(store: &Store, thread: u64, session: &str, mut random: Random) -> Result<(), String> {
    for nth in 0_u64.. {
        let cluster = store.cluster(CLUSTERS[random.below(2) as usize]);
        let name = format!("t{thread}-{}", random.below(OBJECTS));
        step(&cluster, &name, &format!("{session}.{thread}.{nth}"), &mut random)?;
    }
    Ok(())
}

fn step(cluster: &Cluster, name: &str, mark: &str, random: &mut Random) -> Result<(), String> {
    let key = Key::new(RESOURCE, "ns", name);
    let padding = if random.below(20) == 0 {
        200_000
    } else {
        random.below(3000)
    };
    let value = json!({"metadata": {"name": name}, "mark": mark, "padding": "x".repeat(padding as usize)});
    let (mark, write) = match cluster.get(&key) {
        None => (mark, Write::Create { key, value }),
        Some(current) if random.below(4) == 0 => (
            "-",
            Write::Delete {
                key,
                expect: current.revision(),
            },
        ),
        Some(current) => (
            mark,
            Write::Update {
                key,
                value,
                expect: current.revision(),
            },
        ),
    };
    say(&format!("try {} {name} {mark}", cluster.name()));
    let written = block_on(cluster.write(write)).map_err(|error| format!("{name}: {error}"))?;
    say(&format!(
        "ack {} {name} {mark} {}",
        cluster.name(),
        written.revision()
    ));
    Ok(())
}

/// Says what an event shows, for the parent to hold against what was acknowledged.
fn saw(cluster: &str, watcher: &str, event: &Event) {
    let value = event.object.value();
    let mark = match event.kind {
        EventKind::Deleted => "-",
        _ => value["mark"].as_str().unwrap_or_default(),
    };
    let name = event.object.key().name();
    say(&format!(
        "saw {cluster} {watcher} {} {name} {mark}",
        event.revision
    ));
}

/// All resources are watched, so the revisions must come without a gap.
fn watch_everything(cluster: &str, mut watch: Watch, from: u64) {
    let mut seen = from;
    loop {
        match block_on(watch.next()) {
            Ok(event) if event.revision == seen + 1 => {
                seen = event.revision;
                saw(cluster, "all", &event);
            }
            Ok(event) => {
                return say(&format!(
                    "bad watch of {cluster}: {} after {seen}",
                    event.revision
                ));
            }
            Err(error) => return say(&format!("bad watch of {cluster}: {error}")),
        }
    }
}

/// A client that loses its connection after every few events and goes on from the last that it saw.
fn watch_with_breaks(cluster: &Cluster, from: u64) {
    let mut seen = from;
    loop {
        let mut watch = match cluster.watch(Some(RESOURCE), Some("ns"), seen) {
            Ok(watch) => watch,
            Err(error) => return say(&format!("bad watch of {} from {seen}: {error}", cluster.name())),
        };
        for _ in 0..7 {
            match block_on(watch.next()) {
                Ok(event) => {
                    seen = event.revision;
                    saw(cluster.name(), "breaks", &event);
                }
                Err(error) => return say(&format!("bad watch of {}: {error}", cluster.name())),
            }
        }
    }
}
