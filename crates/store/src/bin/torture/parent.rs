//! The process that kills and checks.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use choreo_store::{Cluster, EventKind, Key, RevisionError, Store, Write};
use futures::executor::block_on;
use serde_json::json;

use crate::{CLUSTERS, READY, RESOURCE, Random};

struct Options {
    kills: u64,
    seed: u64,
    folder: PathBuf,
    keep: bool,
}

impl Options {
    fn parse(args: &[String]) -> Result<Self, String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut options = Self {
            kills: 100,
            seed: now.as_micros() as u64,
            folder: PathBuf::new(),
            keep: false,
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut number = || {
                let text = args.next().ok_or(format!("{arg} needs a value"))?;
                text.parse::<u64>()
                    .map_err(|error| format!("{arg} {text}: {error}"))
            };
            match arg.as_str() {
                // Read as a word of its own for those who call it by its subject.
                "torture" => {}
                "--kills" => options.kills = number()?,
                "--seed" => options.seed = number()?,
                "--dir" => {
                    options.folder = args.next().ok_or("--dir needs a value")?.into();
                    options.keep = true;
                }
                _ => {
                    return Err(format!(
                        "unknown argument {arg}; usage: [--kills N] [--seed N] [--dir DIR]"
                    ));
                }
            }
        }
        if !options.keep {
            options.folder =
                std::env::temp_dir().join(format!("choreo-torture-{}-{}", std::process::id(), options.seed));
        }
        Ok(options)
    }
}

/// What a cluster must look like.
#[derive(Default)]
struct Expected {
    /// Name to mark of what was acknowledged last.
    objects: BTreeMap<String, String>,
    /// Name to mark (`-` = deletion) of writes that were begun and not acknowledged.
    under_way: BTreeMap<String, String>,
    /// Revisions that were handed out since the store was last opened.
    revisions: BTreeSet<u64>,
    /// Newest revision that anybody has seen.
    newest: u64,
    /// Name and mark of each revision that was acknowledged since the store was last opened.
    acknowledged: BTreeMap<u64, (String, String)>,
    /// By watcher: name and mark of each revision that it saw since the store was last opened.
    seen: BTreeMap<String, BTreeMap<u64, (String, String)>>,
}

impl Expected {
    /// Forgets what was said since the store was last opened.
    fn begin(&mut self) {
        self.revisions.clear();
        self.under_way.clear();
        self.acknowledged.clear();
        self.seen.clear();
    }

    /// Takes what a watcher saw: later than all before.
    fn saw(&mut self, watcher: &str, revision: u64, name: &str, mark: &str) -> Result<(), String> {
        let seen = self.seen.entry(watcher.to_owned()).or_default();
        match seen.last_key_value() {
            Some((last, _)) if *last >= revision => {
                Err(format!("watcher {watcher} saw {revision} after {last}"))
            }
            _ => {
                seen.insert(revision, (name.to_owned(), mark.to_owned()));
                Ok(())
            }
        }
    }

    /// Holds what the watchers saw against what was acknowledged. What was seen must be there after the kill, whether the
    /// writer lived to hear of it or not: it counts as acknowledged from now on.
    fn judge_watchers(&mut self) -> Result<u64, String> {
        let mut events = 0;
        for (watcher, seen) in &self.seen {
            events += seen.len() as u64;
            let Some((newest, _)) = seen.last_key_value() else {
                continue;
            };
            for (revision, written) in self.acknowledged.range(..=newest) {
                match seen.get(revision) {
                    Some(shown) if shown == written => {}
                    Some(shown) => {
                        return Err(format!(
                            "watcher {watcher} saw {shown:?} at {revision}, where {written:?} was written"
                        ));
                    }
                    None => return Err(format!("watcher {watcher} did not see {written:?} at {revision}")),
                }
            }
            for (revision, (name, mark)) in seen {
                self.newest = self.newest.max(*revision);
                if self.acknowledged.contains_key(revision) {
                    continue;
                }
                if self.under_way.get(name) != Some(mark) {
                    return Err(format!(
                        "watcher {watcher} saw {name} {mark} at {revision}, which nobody wrote"
                    ));
                }
            }
        }
        let unheard: BTreeMap<String, String> = self
            .seen
            .values()
            .flatten()
            .filter(|(revision, _)| !self.acknowledged.contains_key(revision))
            .map(|(_, written)| written.clone())
            .collect();
        for (name, mark) in unheard {
            self.under_way.remove(&name);
            match mark.as_str() {
                "-" => self.objects.remove(&name),
                _ => self.objects.insert(name, mark),
            };
        }
        Ok(events)
    }
}

pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let options = Options::parse(args)?;
    println!(
        "seed {} folder {} kills {}",
        options.seed,
        options.folder.display(),
        options.kills
    );
    let mut random = Random(options.seed);
    let mut expected: BTreeMap<&str, Expected> =
        CLUSTERS.iter().map(|name| (*name, Expected::default())).collect();
    let (mut acknowledged, mut seen, mut unacknowledged_landed, mut early) = (0, 0, 0, 0);
    let started = Instant::now();
    for session in 0..options.kills {
        let at = |message: String| format!("kill {session} of seed {}: {message}", options.seed);
        let lines = one_life(&options.folder, session, &mut random).map_err(at)?;
        if !lines.iter().any(|line| line == READY) {
            early += 1;
        }
        let (written, events) = note(&mut expected, &lines).map_err(at)?;
        acknowledged += written;
        seen += events;
        unacknowledged_landed += check(&options.folder, &mut expected).map_err(at)?;
    }
    println!(
        "ok: {} kills ({early} before the store was open), {acknowledged} acknowledged writes all there, \
         {unacknowledged_landed} more found whole, {seen} events seen once and in order, {:.1} s",
        options.kills,
        started.elapsed().as_secs_f64()
    );
    if !options.keep {
        std::fs::remove_dir_all(&options.folder).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Starts the child, kills it, returns what it said.
fn one_life(folder: &Path, session: u64, random: &mut Random) -> Result<Vec<String>, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut child = Command::new(program)
        .arg("child")
        .arg(folder)
        .args([random.next().to_string(), session.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let output = child.stdout.take().ok_or("child without output")?;
    let (ready, is_ready) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut lines = Vec::new();
        let mut output = BufReader::new(output);
        let mut line = String::new();
        while output.read_line(&mut line).is_ok_and(|read| read > 0) {
            // Without its end the line was torn by the kill.
            if let Some(whole) = line.strip_suffix('\n') {
                if whole == READY {
                    let _ = ready.send(());
                }
                lines.push(whole.to_owned());
            }
            line.clear();
        }
        lines
    });
    // One in eight dies while it starts.
    if random.below(8) != 0 {
        is_ready
            .recv()
            .map_err(|_| "the child ended before it was ready".to_owned())?;
    }
    thread::sleep(Duration::from_micros(random.below(60_000)));
    child.kill().map_err(|error| error.to_string())?;
    child.wait().map_err(|error| error.to_string())?;
    reader.join().map_err(|_| "reader panicked".to_owned())
}

/// Takes what the child said into the oracle. Returns the numbers of acknowledged writes and of events that watchers saw.
fn note(expected: &mut BTreeMap<&str, Expected>, lines: &[String]) -> Result<(u64, u64), String> {
    let mut acknowledged = 0;
    expected.values_mut().for_each(Expected::begin);
    let before: BTreeMap<String, u64> = expected
        .iter()
        .map(|(name, cluster)| ((*name).to_owned(), cluster.newest))
        .collect();
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            [READY] => {}
            ["try", cluster, name, mark] => {
                let cluster = expected.get_mut(cluster).ok_or("unknown cluster")?;
                cluster.under_way.insert(name.to_owned(), mark.to_owned());
            }
            ["ack", cluster_name, name, mark, revision] => {
                let revision: u64 = revision.parse().map_err(|_| format!("odd line {line:?}"))?;
                let cluster = expected.get_mut(cluster_name).ok_or("unknown cluster")?;
                cluster.under_way.remove(name);
                if !cluster.revisions.insert(revision) {
                    return Err(format!(
                        "revision {revision} of {cluster_name} was handed out twice"
                    ));
                }
                if revision <= before[cluster_name] {
                    return Err(format!(
                        "revision {revision} of {cluster_name} had been used before the restart"
                    ));
                }
                cluster.newest = cluster.newest.max(revision);
                let written = (name.to_owned(), mark.to_owned());
                cluster.acknowledged.insert(revision, written);
                match mark {
                    "-" => cluster.objects.remove(name),
                    _ => cluster.objects.insert(name.to_owned(), mark.to_owned()),
                };
                acknowledged += 1;
            }
            ["saw", cluster, watcher, revision, name, mark] => {
                let revision: u64 = revision.parse().map_err(|_| format!("odd line {line:?}"))?;
                let cluster = expected.get_mut(cluster).ok_or("unknown cluster")?;
                cluster.saw(watcher, revision, name, mark)?;
            }
            _ => return Err(format!("the child said {line:?}")),
        }
    }
    let mut events = 0;
    for (name, cluster) in expected {
        events += cluster
            .judge_watchers()
            .map_err(|message| format!("cluster {name}: {message}"))?;
    }
    Ok((acknowledged, events))
}

/// Opens the store and compares. Returns how many unacknowledged writes had landed.
fn check(folder: &Path, expected: &mut BTreeMap<&str, Expected>) -> Result<u64, String> {
    let store = Store::open(folder).map_err(|error| error.to_string())?;
    let mut landed = 0;
    for (name, expected) in expected {
        let cluster = store.cluster(name);
        landed +=
            check_objects(&cluster, expected).map_err(|message| format!("cluster {name}: {message}"))?;
        check_watches(&cluster, expected).map_err(|message| format!("cluster {name}: {message}"))?;
    }
    Ok(landed)
}

fn check_objects(cluster: &Cluster, expected: &mut Expected) -> Result<u64, String> {
    if cluster.revision() < expected.newest {
        return Err(format!(
            "revision went back from {} to {}",
            expected.newest,
            cluster.revision()
        ));
    }
    expected.newest = cluster.revision();
    let mut found = BTreeMap::new();
    let mut revisions = BTreeSet::new();
    for object in cluster.snapshot().iter(RESOURCE, None, None) {
        let mark = object.value()["mark"].as_str().unwrap_or_default().to_owned();
        found.insert(object.key().name().to_owned(), mark);
        if !revisions.insert(object.revision()) {
            return Err(format!("two objects have revision {}", object.revision()));
        }
    }
    let mut landed = 0;
    for (name, mark) in std::mem::take(&mut expected.under_way) {
        let is_there = found.get(&name).map_or("-", String::as_str);
        let acknowledged = expected.objects.get(&name).map_or("-", String::as_str);
        if is_there == mark && is_there != acknowledged {
            landed += 1;
            match mark.as_str() {
                "-" => expected.objects.remove(&name),
                _ => expected.objects.insert(name, mark),
            };
        }
    }
    if found != expected.objects {
        let differing: Vec<_> = found
            .keys()
            .chain(expected.objects.keys())
            .filter(|name| found.get(*name) != expected.objects.get(*name))
            .map(|name| {
                format!(
                    "{name}: found {:?}, acknowledged {:?}",
                    found.get(name),
                    expected.objects.get(name)
                )
            })
            .collect();
        return Err(differing.join("; "));
    }
    Ok(landed)
}

fn check_watches(cluster: &Cluster, expected: &mut Expected) -> Result<(), String> {
    let last = cluster.revision();
    if last > 1
        && !matches!(
            cluster.watch(None, None, last - 1),
            Err(RevisionError::Expired { .. })
        )
    {
        return Err(format!(
            "a watch from {} did not expire with the restart",
            last - 1
        ));
    }
    let mut watch = cluster
        .watch(None, None, last)
        .map_err(|error| error.to_string())?;
    let key = Key::new(RESOURCE, "ns", "parent");
    let value = json!({"mark": last.to_string()});
    let write = match cluster.get(&key) {
        None => Write::Create { key, value },
        Some(current) => Write::Update {
            key,
            value,
            expect: current.revision(),
        },
    };
    let kind = if matches!(write, Write::Create { .. }) {
        EventKind::Added
    } else {
        EventKind::Modified
    };
    let written = block_on(cluster.write(write)).map_err(|error| error.to_string())?;
    expected.objects.insert("parent".into(), last.to_string());
    expected.newest = written.revision();
    let event = watch
        .try_next()
        .map_err(|error| error.to_string())?
        .ok_or("the watch missed a write")?;
    let more = watch.try_next().map_err(|error| error.to_string())?;
    if (event.kind, event.revision, more.is_some()) != (kind, last + 1, false) {
        return Err(format!(
            "the watch from {last} saw {:?} at {}",
            event.kind, event.revision
        ));
    }
    Ok(())
}
