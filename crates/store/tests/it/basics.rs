//! Writes, reads and watches of a store in memory.

use choreo_store::{
    Event, EventKind, Key, ListQuery, RevisionError, Store, StoreOptions, WatchError, Write, WriteError,
};
use futures::{executor::block_on, future::join_all};
use serde_json::{Value, json};

pub(crate) fn key(name: &str) -> Key {
    Key::new("configmaps", "default", name)
}

pub(crate) fn value(data: u64) -> Value {
    json!({"metadata": {"name": "x"}, "data": data})
}

pub(crate) fn create(name: &str, data: u64) -> Write {
    Write::Create {
        key: key(name),
        value: value(data),
    }
}

fn shape(event: &Event) -> (EventKind, &str, u64) {
    (event.kind, event.object.key().name(), event.revision)
}

#[test]
fn a_life() {
    let cluster = Store::in_memory().cluster("c");
    assert_eq!(cluster.revision(), 1);
    let a = block_on(cluster.write(create("a", 1))).unwrap();
    assert_eq!((a.revision(), a.created(), cluster.revision()), (2, 2, 2));
    assert!(
        matches!(block_on(cluster.write(create("a", 1))), Err(WriteError::Exists { current }) if current.revision() == 2)
    );

    let update = |expect| Write::Update {
        key: key("a"),
        value: value(2),
        expect,
    };
    assert!(
        matches!(block_on(cluster.write(update(1))), Err(WriteError::Conflict { current }) if current.revision() == 2)
    );
    let a = block_on(cluster.write(update(2))).unwrap();
    assert_eq!((a.revision(), a.created()), (3, 2));
    assert_eq!(a.value()["data"], 2);
    assert_eq!(
        cluster.get(&key("a")).unwrap().value()["metadata"]["resourceVersion"],
        "3"
    );

    let delete = |expect| Write::Delete {
        key: key("a"),
        expect,
    };
    assert!(matches!(
        block_on(cluster.write(delete(2))),
        Err(WriteError::Conflict { .. })
    ));
    let gone = block_on(cluster.write(delete(3))).unwrap();
    assert_eq!(
        (
            gone.revision(),
            gone.value()["metadata"]["resourceVersion"].as_str()
        ),
        (4, Some("4"))
    );
    assert!(cluster.get(&key("a")).is_none());
    assert!(matches!(
        block_on(cluster.write(delete(3))),
        Err(WriteError::NotFound)
    ));
    assert_eq!(block_on(cluster.write(create("a", 9))).unwrap().created(), 5);
}

#[test]
fn a_batch_is_all_or_nothing() {
    let cluster = Store::in_memory().cluster("c");
    let (nth, error) =
        block_on(cluster.write_batch(vec![create("a", 1), create("b", 1), create("a", 2)])).unwrap_err();
    assert!(nth == 2 && matches!(error, WriteError::Exists { .. }));
    assert_eq!((cluster.revision(), cluster.count("configmaps")), (1, 0));
    let done = block_on(cluster.write_batch(vec![create("a", 1), create("b", 1)])).unwrap();
    assert_eq!(done.iter().map(|o| o.revision()).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn clusters_are_apart() {
    let store = Store::in_memory();
    let (one, two) = (store.cluster("one"), store.cluster("two"));
    block_on(one.write(create("a", 1))).unwrap();
    assert_eq!((one.revision(), two.revision()), (2, 1));
    assert!(two.get(&key("a")).is_none());
    assert_eq!(store.clusters(), ["one", "two"]);
}

#[test]
fn pages_stay_at_their_revision() {
    let cluster = Store::in_memory().cluster("c");
    for n in 0..10 {
        block_on(cluster.write(create(&format!("n{n}"), n))).unwrap();
    }
    block_on(cluster.write(Write::Create {
        key: Key::new("secrets", "default", "s"),
        value: value(0),
    }))
    .unwrap();
    let query = ListQuery {
        resource: "configmaps".into(),
        limit: 4,
        ..ListQuery::default()
    };
    let first = cluster.list(&query).unwrap();
    assert_eq!(
        (first.items.len(), first.remaining, first.revision),
        (4, Some(6), 12)
    );

    block_on(cluster.write(Write::Delete {
        key: key("n5"),
        expect: 7,
    }))
    .unwrap();
    block_on(cluster.write(create("n41", 0))).unwrap();
    block_on(cluster.write(Write::Update {
        key: key("n6"),
        value: value(66),
        expect: 8,
    }))
    .unwrap();

    let mut query = ListQuery {
        at: Some(first.revision),
        after: first.next,
        ..query
    };
    let second = cluster.list(&query).unwrap();
    let names: Vec<_> = second.items.iter().map(|o| o.key().name().to_owned()).collect();
    assert_eq!(
        (names, second.remaining),
        (["n4", "n5", "n6", "n7"].map(str::to_owned).to_vec(), Some(2))
    );
    assert_eq!(second.items[2].value()["data"], 6);
    query.after = second.next;
    let third = cluster.list(&query).unwrap();
    assert_eq!((third.items.len(), third.remaining, third.next), (2, None, None));

    let all = cluster
        .list(&ListQuery {
            resource: "configmaps".into(),
            ..ListQuery::default()
        })
        .unwrap();
    assert_eq!((all.items.len(), all.remaining, all.revision), (10, None, 15));
    assert!(
        cluster
            .list(&ListQuery {
                after: Some(Key::new("zebras", "", "")),
                ..query.clone()
            })
            .unwrap()
            .items
            .is_empty()
    );
    query.at = Some(16);
    assert_eq!(
        cluster.list(&query).unwrap_err(),
        RevisionError::Future {
            requested: 16,
            current: 15
        }
    );
}

#[test]
fn watches_see_their_part_in_order() {
    let cluster = Store::in_memory().cluster("c");
    let mut all = cluster.watch(None, None, 1).unwrap();
    let mut maps = cluster.watch(Some("configmaps"), None, 1).unwrap();
    let mut other = cluster.watch(Some("configmaps"), Some("other"), 1).unwrap();
    block_on(cluster.write(create("a", 1))).unwrap();
    block_on(cluster.write(Write::Create {
        key: Key::new("secrets", "default", "s"),
        value: value(0),
    }))
    .unwrap();
    block_on(cluster.write(Write::Update {
        key: key("a"),
        value: value(2),
        expect: 2,
    }))
    .unwrap();
    block_on(cluster.write(Write::Delete {
        key: key("a"),
        expect: 4,
    }))
    .unwrap();

    use EventKind::{Added, Deleted, Modified};
    for expected in [
        (Added, "a", 2),
        (Added, "s", 3),
        (Modified, "a", 4),
        (Deleted, "a", 5),
    ] {
        assert_eq!(shape(&block_on(all.next()).unwrap()), expected);
    }
    assert_eq!(maps.progress().unwrap(), 1);
    for expected in [(Added, "a", 2), (Modified, "a", 4), (Deleted, "a", 5)] {
        let event = block_on(maps.next()).unwrap();
        assert_eq!(shape(&event), expected);
        assert_eq!(event.previous.is_none(), event.kind == Added);
    }
    assert_eq!((maps.progress().unwrap(), other.progress().unwrap()), (5, 5));
    assert!(other.try_next().unwrap().is_none());
    assert!(matches!(
        cluster.watch(None, None, 6),
        Err(RevisionError::Future { .. })
    ));
    assert_eq!(
        shape(&block_on(cluster.watch(None, None, 4).unwrap().next()).unwrap()),
        (Deleted, "a", 5)
    );
}

#[test]
fn a_waiting_watch_is_woken() {
    let store = Store::in_memory();
    let cluster = store.cluster("c");
    let mut watch = cluster.watch(Some("configmaps"), None, 1).unwrap();
    let waiting = std::thread::spawn(move || {
        let event = block_on(watch.next()).unwrap();
        (event.revision, block_on(watch.next()).unwrap_err())
    });
    block_on(cluster.write(create("a", 1))).unwrap();
    store.close();
    assert_eq!(waiting.join().unwrap(), (2, WatchError::Closed));
    assert!(matches!(
        block_on(cluster.write(create("b", 1))),
        Err(WriteError::Closed)
    ));
}

#[test]
fn a_slow_watch_is_dropped_and_others_are_not() {
    let options = StoreOptions {
        history_events: 8,
        ..StoreOptions::default()
    };
    let cluster = Store::in_memory_with(options).cluster("c");
    let mut slow = cluster.watch(Some("configmaps"), None, 1).unwrap();
    let mut quiet = cluster.watch(Some("secrets"), None, 1).unwrap();
    for n in 0..20 {
        block_on(cluster.write(create(&format!("n{n}"), n))).unwrap();
    }
    assert_eq!(block_on(slow.next()).unwrap_err(), WatchError::Lagged { seen: 1 });
    assert_eq!(block_on(slow.next()).unwrap_err(), WatchError::Lagged { seen: 1 });
    assert!(quiet.try_next().unwrap().is_none());
    assert_eq!(quiet.progress().unwrap(), 21);

    assert!(matches!(
        cluster.watch(Some("configmaps"), None, 12),
        Err(RevisionError::Expired {
            requested: 12,
            oldest: 13
        })
    ));
    assert!(cluster.watch(Some("configmaps"), None, 13).is_ok());
    assert!(cluster.watch(Some("secrets"), None, 1).is_ok());
    assert!(matches!(
        cluster.snapshot_at(12),
        Err(RevisionError::Expired { .. })
    ));
    assert_eq!(cluster.snapshot_at(13).unwrap().len(), 12);
}

#[test]
fn history_is_bounded_by_size() {
    let options = StoreOptions {
        history_bytes: 10_000,
        ..StoreOptions::default()
    };
    let cluster = Store::in_memory_with(options).cluster("c");
    for n in 0..20 {
        let value = json!({"data": "x".repeat(1000)});
        block_on(cluster.write(Write::Create {
            key: key(&format!("n{n}")),
            value,
        }))
        .unwrap();
    }
    assert!(matches!(
        cluster.watch(None, None, 10),
        Err(RevisionError::Expired { .. })
    ));
    assert!(cluster.watch(None, None, 15).is_ok());
}

#[test]
fn many_writers_at_once_get_a_revision_each() {
    let cluster = Store::in_memory().cluster("c");
    let writes = (0..500).map(|n| {
        let cluster = cluster.clone();
        async move {
            cluster
                .write(create(&format!("n{n}"), n))
                .await
                .unwrap()
                .revision()
        }
    });
    let mut revisions = block_on(join_all(writes));
    revisions.sort_unstable();
    assert_eq!(revisions, (2..502).collect::<Vec<_>>());
    let seen: Vec<_> = {
        let mut watch = cluster.watch(None, None, 1).unwrap();
        std::iter::from_fn(|| watch.try_next().unwrap())
            .map(|e| e.revision)
            .collect()
    };
    assert_eq!(seen, revisions);
}
