//! The journal beside the file: what a kill leaves there, what is made of it, and what is refused.

use std::{
    fs,
    path::{Path, PathBuf},
};

use choreo_store::{Cluster, Store, StoreError, StoreOptions, Write};
use futures::{executor::block_on, future::join_all};
use redb::{Database, ReadableDatabase, TableDefinition};
use serde_json::json;

use crate::basics::{create, key};

const FILES: [&str; 3] = ["store.redb", "store.journal-1", "store.journal-2"];
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

fn write(cluster: &Cluster, name: &str, data: u64) {
    block_on(cluster.write(create(name, data))).unwrap();
}

/// A folder with what is on disk of a store that is in use: what it would leave if it was killed now.
fn killed(folder: &Path, copy: &str) -> PathBuf {
    let copy = folder.join(copy);
    fs::create_dir(&copy).unwrap();
    for file in FILES {
        fs::copy(folder.join(file), copy.join(file)).unwrap();
    }
    copy
}

/// Changes bytes of a journal.
fn change(folder: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let file = folder.join("store.journal-1");
    let mut bytes = fs::read(&file).unwrap();
    change(&mut bytes);
    fs::write(&file, bytes).unwrap();
}

fn names(folder: &Path) -> Vec<String> {
    let cluster = Store::open(folder).unwrap().cluster("c");
    let snapshot = cluster.snapshot();
    snapshot
        .all()
        .map(|object| object.key().name().to_owned())
        .collect()
}

/// Where frames of such small commits are.
const FRAME: usize = 4096;

#[test]
fn commits_are_found_in_the_journal() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let cluster = store.cluster("c");
    for n in 0..5 {
        write(&cluster, &format!("n{n}"), n);
    }
    block_on(cluster.write(Write::Delete {
        key: key("n1"),
        expect: 3,
    }))
    .unwrap();
    write(&store.cluster("d"), "other", 7);
    let copy = killed(folder.path(), "copy");
    // The file alone has nothing of it yet.
    let database = Database::open(copy.join("store.redb")).unwrap();
    let meta = database.begin_read().unwrap().open_table(META).unwrap();
    assert_eq!(meta.get("sequence").unwrap().unwrap().value(), 0);
    drop((meta, database));

    // Twice: the second start finds what the first one brought into the file.
    for _ in 0..2 {
        let store = Store::open(&copy).unwrap();
        let cluster = store.cluster("c");
        assert_eq!((cluster.revision(), cluster.count("configmaps")), (7, 4));
        let object = cluster.get(&key("n4")).unwrap();
        assert_eq!(
            (
                object.revision(),
                object.created(),
                object.value()["data"].as_u64()
            ),
            (6, 6, Some(4))
        );
        assert_eq!(store.cluster("d").get(&key("other")).unwrap().value()["data"], 7);
    }
    let database = Database::open(copy.join("store.redb")).unwrap();
    let meta = database.begin_read().unwrap().open_table(META).unwrap();
    assert_eq!(meta.get("sequence").unwrap().unwrap().value(), 7);
}

#[test]
fn commits_behind_those_that_were_found_are_found_too() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    write(&store.cluster("c"), "a", 1);
    let first = killed(folder.path(), "first");
    let store = Store::open(&first).unwrap();
    write(&store.cluster("c"), "b", 2);
    let second = killed(&first, "second");
    drop(store);
    assert_eq!(names(&second), ["a", "b"]);
    // After a checkpoint the journal begins anew, over what it had.
    let store = Store::open(&second).unwrap();
    write(&store.cluster("c"), "c", 3);
    let third = killed(&second, "third");
    assert_eq!(names(&third), ["a", "b", "c"]);
}

#[test]
fn a_commit_that_is_there_in_part_was_never_made() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let cluster = store.cluster("c");
    for name in ["a", "b", "c"] {
        write(&cluster, name, 1);
    }
    let whole = killed(folder.path(), "whole");
    assert_eq!(names(&whole), ["a", "b", "c"]);
    // The header, its checksum, the content, and all of it at once as in a file that is too short.
    for at in [0, 20, 39, 60] {
        let torn = killed(folder.path(), &format!("torn-{at}"));
        change(&torn, |bytes| bytes[2 * FRAME + at] ^= 0x10);
        assert_eq!(names(&torn), ["a", "b"], "byte {at}");
        // What comes next takes its place.
        let store = Store::open(&torn).unwrap();
        assert_eq!(store.cluster("c").revision(), 3);
        write(&store.cluster("c"), "d", 1);
        assert_eq!(names(&killed(&torn, "next")), ["a", "b", "d"]);
    }
    let short = killed(folder.path(), "short");
    change(&short, |bytes| bytes.truncate(2 * FRAME + 100));
    assert_eq!(names(&short), ["a", "b"]);
    let none = killed(folder.path(), "none");
    change(&none, Vec::clear);
    assert!(names(&none).is_empty());
}

#[test]
fn a_commit_that_was_made_and_is_damaged_is_not_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let cluster = store.cluster("c");
    for name in ["a", "b", "c"] {
        write(&cluster, name, 1);
    }
    for (frame, at, missing) in [(0, 60, 1), (1, 60, 2), (1, 20, 2), (0, 0, 1)] {
        let damaged = killed(folder.path(), &format!("damaged-{frame}-{at}"));
        change(&damaged, |bytes| bytes[frame * FRAME + at] ^= 0x10);
        let error = Store::open(&damaged).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, StoreError::Damaged { .. }), "{text}");
        assert!(
            text.contains("store.journal-1 is damaged") && text.contains(&format!("not commit {missing};")),
            "{text}"
        );
    }
    // A file of before, beside a journal that goes on from a later state of it.
    let later = killed(folder.path(), "later");
    let store = Store::open(&later).unwrap();
    drop(store);
    let store = Store::open(&later).unwrap();
    write(&store.cluster("c"), "d", 1);
    let mixed = killed(&later, "mixed");
    fs::copy(folder.path().join("store.redb"), mixed.join("store.redb")).unwrap();
    let error = Store::open(&mixed).unwrap_err();
    assert!(
        error.to_string().contains("it has commit 4 but not commit 1"),
        "{error}"
    );
}

#[test]
fn a_store_takes_nothing_from_the_journal_of_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let store = Store::open(path("one")).unwrap();
    write(&store.cluster("c"), "kept", 1);
    block_on(store.backup(path("backup"))).unwrap();
    write(&store.cluster("c"), "later", 1);
    let killed = killed(&path("one"), "killed");
    // Restored over what a kill left: what the old journal has goes with the old file.
    Store::restore_over(path("backup"), &killed, "before").unwrap();
    assert_eq!(names(&killed), ["kept"]);
    fs::create_dir(path("old")).unwrap();
    fs::rename(killed.join("before"), path("old").join("store.redb")).unwrap();
    assert_eq!(names(&path("old")), ["kept", "later"]);

    // Over a file that cannot be read, whose journal is kept for whoever can.
    let spoiled = self::killed(&path("one"), "spoiled");
    fs::write(spoiled.join("store.redb"), "no store").unwrap();
    Store::restore_over(path("backup"), &spoiled, "before").unwrap();
    assert_eq!(names(&spoiled), ["kept"]);
    assert_eq!(
        fs::read(spoiled.join("before.journal-1")).unwrap(),
        fs::read(path("one").join("store.journal-1")).unwrap()
    );
}

#[test]
fn a_copy_is_whole_without_a_journal() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let format = |file: &Path| {
        let database = Database::open(file).unwrap();
        let meta = database.begin_read().unwrap().open_table(META).unwrap();
        meta.get("format").unwrap().unwrap().value()
    };
    let store = Store::open(path("one")).unwrap();
    write(&store.cluster("c"), "a", 1);
    block_on(store.backup(path("backup"))).unwrap();
    drop(store);
    // Programs that know of no journal can read a backup, and must not take a store's file for all there is.
    assert_eq!((format(&path("backup")), format(&path("one/store.redb"))), (1, 2));
    // What is closed needs no journal either.
    for journal in &FILES[1..] {
        fs::remove_file(path("one").join(journal)).unwrap();
    }
    assert_eq!(names(&path("one")), ["a"]);
    // A store of before there were journals is a file like a backup.
    fs::create_dir(path("two")).unwrap();
    fs::copy(path("backup"), path("two/store.redb")).unwrap();
    assert_eq!(names(&path("two")), ["a"]);
    assert_eq!(format(&path("two/store.redb")), 2);
}

/// Kilobytes of a journal where it is to be full soon.
const SMALL: u64 = 256;

#[test]
fn more_than_a_journal_takes_is_there_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let options = || StoreOptions {
        journal_bytes: SMALL << 10,
        ..StoreOptions::default()
    };
    let store = Store::open_with(folder.path(), options()).unwrap();
    let cluster = store.cluster("c");
    let big = |name: String, size: usize| Write::Create {
        key: key(&name),
        value: json!({"metadata": {"name": name}, "padding": "x".repeat(size)}),
    };
    let is_found = |moment: &str| {
        let copy = killed(folder.path(), moment);
        let found = Store::open_with(&copy, options()).unwrap().cluster("c");
        assert_eq!(found.revision(), cluster.revision(), "{moment}");
        let texts = |cluster: &Cluster| -> Vec<_> {
            let snapshot = cluster.snapshot();
            snapshot.all().map(|object| object.json().clone()).collect()
        };
        assert!(texts(&found) == texts(&cluster), "{moment}");
        fs::remove_dir_all(copy).unwrap();
    };
    // More than many journals at once and one after the other, and objects that are larger than one.
    let many = join_all((0..60).map(|n| cluster.write(big(format!("at-once-{n}"), 50_000))));
    assert!(block_on(many).iter().all(Result::is_ok));
    is_found("at-once");
    for n in 0..60 {
        let size = if n % 20 == 9 { 1_000_000 } else { 50_000 };
        block_on(cluster.write(big(format!("then-{n}"), size))).unwrap();
        if n % 3 == 0 {
            let expect = cluster.get(&key(&format!("then-{n}"))).unwrap().revision();
            let gone = Write::Delete {
                key: key(&format!("then-{n}")),
                expect,
            };
            block_on(cluster.write(gone)).unwrap();
        }
        is_found(&format!("then-{n}"));
    }
    for journal in &FILES[1..] {
        // They grow by a megabyte at a time.
        let size = fs::metadata(folder.path().join(journal)).unwrap().len();
        assert!((1..=1 << 20).contains(&size), "{journal}: {size}");
    }
    assert_eq!(cluster.snapshot().len(), 60 + 40);
}
