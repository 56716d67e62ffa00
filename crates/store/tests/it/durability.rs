//! What is on disk: closing, killing, refusing, copying.

use std::{fs, path::Path, process::Command};

use choreo_store::{RevisionError, Store, StoreError, Write, WriteError};
use futures::executor::block_on;
use redb::{Database, TableDefinition};

use crate::basics::{create, key, value};

fn filled(folder: &Path, objects: u64) -> Store {
    let store = Store::open(folder).unwrap();
    for n in 0..objects {
        block_on(store.cluster("c").write(create(&format!("n{n}"), n))).unwrap();
    }
    store
}

#[test]
fn everything_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path(), 20);
    block_on(store.cluster("c").write(Write::Delete {
        key: key("n3"),
        expect: 5,
    }))
    .unwrap();
    block_on(store.cluster("d").write(create("other", 7))).unwrap();
    drop(store);

    let store = Store::open(folder.path()).unwrap();
    assert_eq!(store.clusters(), ["c", "d"]);
    let cluster = store.cluster("c");
    assert_eq!((cluster.revision(), cluster.count("configmaps")), (22, 19));
    let object = cluster.get(&key("n7")).unwrap();
    assert_eq!(
        (
            object.revision(),
            object.created(),
            object.value()["data"].as_u64()
        ),
        (9, 9, Some(7))
    );
    assert_eq!(store.cluster("d").get(&key("other")).unwrap().value()["data"], 7);

    assert!(matches!(
        cluster.watch(None, None, 21),
        Err(RevisionError::Expired {
            requested: 21,
            oldest: 22
        })
    ));
    let mut watch = cluster.watch(None, None, 22).unwrap();
    let update = Write::Update {
        key: key("n7"),
        value: value(8),
        expect: 9,
    };
    assert_eq!(block_on(cluster.write(update)).unwrap().revision(), 23);
    assert_eq!(block_on(watch.next()).unwrap().revision, 23);
}

#[test]
fn a_second_one_is_told_who_holds_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path(), 1);
    let error = Store::open(folder.path()).unwrap_err();
    assert!(
        matches!(&error, StoreError::Held { holder, .. } if holder.contains(&std::process::id().to_string())),
        "{error}"
    );
    let cluster = store.cluster("c");
    drop(store);
    assert!(
        matches!(Store::open(folder.path()), Err(StoreError::Held { .. })),
        "a cluster keeps its store open"
    );
    drop(cluster);
    Store::open(folder.path()).unwrap();
}

#[test]
fn an_unusable_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    let inside = file.join("data");
    let error = Store::open(&inside).unwrap_err();
    assert!(
        matches!(&error, StoreError::Unusable { path, .. } if *path == inside),
        "{error}"
    );
}

#[test]
fn a_damaged_file_is_refused_and_left_as_it_is() {
    for content in [&b""[..], b"not a database", &[0; 8192], &[0xff; 100_000]] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("store.redb");
        fs::write(&file, content).unwrap();
        let error = Store::open(folder.path()).unwrap_err();
        assert!(
            matches!(error, StoreError::Damaged { .. }),
            "{} bytes: {error}",
            content.len()
        );
        assert_eq!(fs::read(&file).unwrap(), content);
    }
}

#[test]
fn damage_anywhere_is_noticed_or_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path(), 200);
    let expected: Vec<_> = store
        .cluster("c")
        .snapshot()
        .all()
        .map(|object| object.json().clone())
        .collect();
    drop(store);
    let file = folder.path().join("store.redb");
    let whole = fs::read(&file).unwrap();
    let mut refused = 0;
    for nth in 0..60 {
        let mut damaged = whole.clone();
        let at = whole.len() / 60 * nth + nth * 7;
        damaged[at] ^= 0x41;
        fs::write(&file, &damaged).unwrap();
        match Store::open(folder.path()) {
            Ok(store) => {
                let found: Vec<_> = store
                    .cluster("c")
                    .snapshot()
                    .all()
                    .map(|object| object.json().clone())
                    .collect();
                assert!(found == expected, "byte {at} changed the contents unnoticed");
            }
            Err(StoreError::Damaged { .. } | StoreError::NewerFormat { .. }) => refused += 1,
            Err(other) => panic!("byte {at}: {other}"),
        }
    }
    assert!(refused > 0);
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    assert!(matches!(
        Store::open(folder.path()),
        Err(StoreError::Damaged { .. })
    ));
}

#[test]
fn a_newer_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(filled(folder.path(), 1));
    let database = Database::open(folder.path().join("store.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction
        .open_table(TableDefinition::<&str, u64>::new("meta"))
        .unwrap()
        .insert("format", 99)
        .unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = Store::open(folder.path()).unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::NewerFormat {
                found: 99,
                supported: 2,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn another_programs_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(Database::create(folder.path().join("store.redb")).unwrap());
    assert!(matches!(
        Store::open(folder.path()),
        Err(StoreError::Damaged { .. })
    ));
}

#[test]
fn backup_and_restore() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for store in [filled(&path("disk"), 10), Store::in_memory()] {
        let cluster = store.cluster("c");
        if cluster.count("configmaps") == 0 {
            block_on(cluster.write(create("n3", 3))).unwrap();
        }
        let backup = path("backup");
        block_on(store.backup(&backup)).unwrap();
        let count = cluster.count("configmaps");
        block_on(cluster.write(create("later", 1))).unwrap();
        assert!(matches!(
            block_on(store.backup(&backup)),
            Err(StoreError::TargetExists { .. })
        ));

        Store::restore(&backup, path("new")).unwrap();
        assert!(matches!(
            Store::restore(&backup, path("new")),
            Err(StoreError::TargetExists { .. })
        ));
        let restored = Store::open(path("new")).unwrap().cluster("c");
        assert_eq!(restored.count("configmaps"), count);
        assert_eq!(restored.get(&key("n3")).unwrap().value()["data"], 3);
        assert!(restored.revision() > cluster.revision());
        block_on(restored.write(create("more", 1))).unwrap();
        let reached = restored.revision();
        drop(restored);
        let kept = path("new").join("before");
        Store::restore_over(&backup, path("new"), "before").unwrap();
        assert!(kept.is_file());
        assert!(matches!(
            Store::restore_over(&backup, path("new"), "before"),
            Err(StoreError::TargetExists { path }) if path == kept
        ));
        let again = Store::open(path("new")).unwrap().cluster("c");
        assert_eq!(again.count("configmaps"), count);
        assert!(
            again.revision() > reached,
            "revisions of what was replaced come again"
        );
        drop(again);
        fs::remove_dir_all(path("new")).unwrap();
        fs::remove_file(&backup).unwrap();
    }
    assert!(matches!(
        Store::restore(path("none"), path("new")),
        Err(StoreError::Unusable { .. })
    ));
}

#[test]
fn writes_after_close_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path(), 1);
    let cluster = store.cluster("c");
    store.close();
    assert!(matches!(
        block_on(cluster.write(create("x", 1))),
        Err(WriteError::Closed)
    ));
    assert_eq!(cluster.count("configmaps"), 1);
    assert_eq!(
        Store::open(folder.path())
            .unwrap()
            .cluster("c")
            .count("configmaps"),
        1
    );
}

#[test]
fn killed_at_random_moments() {
    let output = Command::new(env!("CARGO_BIN_EXE_choreo-store"))
        .args(["--kills", "25"])
        .output()
        .unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{text}");
    assert!(
        !text.contains(" 0 acknowledged writes"),
        "nothing was tested: {text}"
    );
}

/// The variable that makes [`a_full_disk_loses_nothing`] the process whose files are limited: the data folder.
const FULL: &str = "CHOREO_TEST_FULL_DISK";

/// What a full disk is to a program: files cannot grow, and say so. A limit of the process does that everywhere.
#[test]
#[cfg(unix)]
fn a_full_disk_loses_nothing() {
    if let Some(folder) = std::env::var_os(FULL) {
        return fill_the_disk(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    drop(filled(folder.path(), 10));
    let size = fs::metadata(folder.path().join("store.redb")).unwrap().len();
    // In blocks of 512 bytes: room for about two megabytes more. Without the signal, writing past it is an error.
    let blocks = (size + (2 << 20)) / 512;
    let output = Command::new("sh")
        .arg("-c")
        .arg(format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\""))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "durability::a_full_disk_loses_nothing", "--nocapture"])
        .env(FULL, folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let said = |what: &str| -> u64 {
        let mut words = text.split_whitespace().skip_while(|word| *word != what);
        words
            .nth(1)
            .unwrap_or_else(|| panic!("no {what}: {text}"))
            .parse()
            .unwrap()
    };
    let (acknowledged, revision) = (said("acknowledged"), said("revision"));
    assert!(acknowledged > 0, "{text}");

    // With room again, everything acknowledged is there, nothing else, and it goes on from there.
    let store = Store::open(folder.path()).unwrap();
    let cluster = store.cluster("c");
    assert_eq!(cluster.count("configmaps"), 10 + acknowledged);
    assert_eq!(cluster.revision(), revision);
    let written = block_on(cluster.write(create("after", 1))).unwrap();
    assert_eq!(written.revision(), revision + 1);
}

/// Writes until the disk is full, and then makes room.
#[allow(clippy::print_stdout)] // That is how it tells the test.
fn fill_the_disk(folder: &Path) {
    let store = Store::open(folder).unwrap();
    let cluster = store.cluster("c");
    let mut watch = cluster.watch(None, None, cluster.revision()).unwrap();
    let big = |name: &str| Write::Create {
        key: key(name),
        value: serde_json::json!({"metadata": {"name": name}, "padding": "x".repeat(100_000)}),
    };
    let mut acknowledged = 0_u64;
    let error = loop {
        match block_on(cluster.write(big(&format!("big-{acknowledged}")))) {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 1000, "the disk is never full");
    };
    let WriteError::Io(why) = &error else {
        panic!("not told what is wrong: {error}")
    };
    assert!(why.contains("File too large"), "{why}");
    let revision = cluster.revision();
    // Whoever tries again is told again; what is there can be read, and nobody has been shown what did not happen.
    for _ in 0..3 {
        assert!(matches!(
            block_on(cluster.write(big("again"))),
            Err(WriteError::Io(_))
        ));
    }
    assert_eq!(cluster.revision(), revision);
    assert_eq!(cluster.count("configmaps"), 10 + acknowledged);
    for _ in 0..acknowledged {
        watch.try_next().unwrap().unwrap();
    }
    assert!(watch.try_next().unwrap().is_none());
    // Deletions make room, within the same process.
    let mut freed = 0;
    for nth in 0..acknowledged {
        let expect = cluster.get(&key(&format!("big-{nth}"))).unwrap().revision();
        let gone = Write::Delete {
            key: key(&format!("big-{nth}")),
            expect,
        };
        freed += u64::from(block_on(cluster.write(gone)).is_ok());
    }
    assert!(freed > 0, "nothing could be deleted");
    block_on(cluster.write(big("fits-again"))).unwrap();
    println!(
        "acknowledged {} revision {}",
        acknowledged + 1 - freed,
        cluster.revision()
    );
}
