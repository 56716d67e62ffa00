//! Random operations against the simplest thing that could be right.

use std::collections::BTreeMap;

use choreo_store::{Cluster, EventKind, Key, ListQuery, Store, Write, WriteError};
use futures::executor::block_on;
use proptest::prelude::*;
use serde_json::json;

const RESOURCES: [&str; 3] = ["apps/deployments", "pods", "pods.metrics"];
const NAMESPACES: [&str; 3] = ["", "a", "a-b"];
const NAMES: [&str; 4] = ["x", "x-y", "x.y", "z"];

type Place = (&'static str, &'static str, &'static str);

#[derive(Clone, Debug)]
enum Step {
    Create(Place),
    Update(Place, i8),
    Delete(Place, i8),
    Batch(Place, Place),
    Restart,
}

/// Objects with revision and data, for every revision that there was.
#[derive(Clone, Default)]
struct Model {
    objects: BTreeMap<Place, (u64, u64)>,
    history: BTreeMap<u64, BTreeMap<Place, (u64, u64)>>,
    events: Vec<(u64, EventKind, Place)>,
}

impl Model {
    fn record(&mut self, revision: u64, kind: EventKind, place: Place) {
        self.history.insert(revision, self.objects.clone());
        self.events.push((revision, kind, place));
    }
}

fn place() -> impl Strategy<Value = Place> {
    (0..RESOURCES.len(), 0..NAMESPACES.len(), 0..NAMES.len())
        .prop_map(|(r, ns, n)| (RESOURCES[r], NAMESPACES[ns], NAMES[n]))
}

fn step() -> impl Strategy<Value = Step> {
    // The number is added to the right revision: mostly 0.
    let off = || prop_oneof![6 => Just(0_i8), 1 => -1_i8..=1];
    prop_oneof![
        8 => place().prop_map(Step::Create),
        8 => (place(), off()).prop_map(|(place, off)| Step::Update(place, off)),
        4 => (place(), off()).prop_map(|(place, off)| Step::Delete(place, off)),
        2 => (place(), place()).prop_map(|(one, two)| Step::Batch(one, two)),
        1 => Just(Step::Restart),
    ]
}

fn key((resource, namespace, name): Place) -> Key {
    Key::new(resource, namespace, name)
}

fn run(cluster: &Cluster, model: &mut Model, step: &Step, data: u64) {
    let value = json!({"metadata": {}, "data": data});
    let revision = cluster.revision();
    match *step {
        Step::Create(place) => {
            let result = block_on(cluster.write(Write::Create {
                key: key(place),
                value,
            }));
            match model.objects.get(&place) {
                Some((at, _)) => assert!(
                    matches!(result, Err(WriteError::Exists { current }) if current.revision() == *at)
                ),
                None => {
                    assert_eq!(result.unwrap().revision(), revision + 1);
                    model.objects.insert(place, (revision + 1, data));
                    model.record(revision + 1, EventKind::Added, place);
                }
            }
        }
        Step::Update(place, off) => {
            let at = model.objects.get(&place).map_or(1, |(at, _)| *at);
            let expect = at.saturating_add_signed(off.into());
            let result = block_on(cluster.write(Write::Update {
                key: key(place),
                value,
                expect,
            }));
            if model.objects.contains_key(&place) && off == 0 {
                assert_eq!(result.unwrap().revision(), revision + 1);
                model.objects.insert(place, (revision + 1, data));
                model.record(revision + 1, EventKind::Modified, place);
            } else {
                assert_eq!(
                    matches!(result, Err(WriteError::Conflict { .. })),
                    model.objects.contains_key(&place)
                );
                assert_eq!(
                    matches!(result, Err(WriteError::NotFound)),
                    !model.objects.contains_key(&place)
                );
            }
        }
        Step::Delete(place, off) => {
            let at = model.objects.get(&place).map_or(1, |(at, _)| *at);
            let expect = at.saturating_add_signed(off.into());
            let result = block_on(cluster.write(Write::Delete {
                key: key(place),
                expect,
            }));
            if model.objects.contains_key(&place) && off == 0 {
                assert_eq!(result.unwrap().revision(), revision + 1);
                model.objects.remove(&place);
                model.record(revision + 1, EventKind::Deleted, place);
            } else {
                assert!(result.is_err());
            }
        }
        Step::Batch(one, two) => {
            let writes = [one, two].map(|place| Write::Create {
                key: key(place),
                value: value.clone(),
            });
            let result = block_on(cluster.write_batch(writes.to_vec()));
            if one == two || model.objects.contains_key(&one) || model.objects.contains_key(&two) {
                let first = if model.objects.contains_key(&one) { 0 } else { 1 };
                assert_eq!(result.unwrap_err().0, first);
            } else {
                result.unwrap();
                for (nth, place) in [one, two].into_iter().enumerate() {
                    let at = revision + 1 + nth as u64;
                    model.objects.insert(place, (at, data));
                    model.record(at, EventKind::Added, place);
                }
            }
        }
        Step::Restart => {}
    }
}

fn check_list(cluster: &Cluster, at: Option<u64>, objects: &BTreeMap<Place, (u64, u64)>, limit: usize) {
    for resource in RESOURCES {
        for namespace in [None, Some(""), Some("a"), Some("a-b")] {
            let expected: Vec<_> = objects
                .iter()
                .filter(|((r, ns, _), _)| {
                    *r == resource && namespace.is_none_or(|namespace| *ns == namespace)
                })
                .map(|((_, ns, name), (revision, data))| {
                    ((*ns).to_owned(), (*name).to_owned(), *revision, *data)
                })
                .collect();
            let mut query = ListQuery {
                resource: resource.into(),
                namespace: namespace.map(Into::into),
                at,
                limit,
                after: None,
            };
            let mut found = Vec::new();
            loop {
                let page = cluster.list(&query).unwrap();
                assert!(at.is_none_or(|at| at == page.revision));
                found.extend(page.items.iter().map(|object| {
                    let (key, value) = (object.key(), object.value());
                    assert_eq!(
                        value["metadata"]["resourceVersion"],
                        object.revision().to_string()
                    );
                    (
                        key.namespace().to_owned(),
                        key.name().to_owned(),
                        object.revision(),
                        value["data"].as_u64().unwrap(),
                    )
                }));
                assert_eq!(page.remaining.unwrap_or(0) as usize, expected.len() - found.len());
                assert_eq!(page.next.is_some(), page.remaining.is_some());
                let Some(next) = page.next else { break };
                query = ListQuery {
                    after: Some(next),
                    at: Some(page.revision),
                    ..query
                };
            }
            assert_eq!(found, expected);
        }
        let count = objects.keys().filter(|(r, _, _)| *r == resource).count() as u64;
        if at.is_none() {
            assert_eq!(cluster.count(resource), count);
        }
    }
}

fn check_watches(cluster: &Cluster, model: &Model, from: u64) {
    let filters = RESOURCES.iter().map(|r| Some(*r)).chain([None]);
    for (resource, namespace) in filters.flat_map(|r| [(r, None), (r, Some("a"))]) {
        let expected: Vec<_> = model
            .events
            .iter()
            .filter(|(revision, _, (r, ns, _))| {
                *revision > from
                    && resource.is_none_or(|resource| resource == *r)
                    && namespace.is_none_or(|want| want == *ns)
            })
            .map(|(revision, kind, place)| (*revision, *kind, key(*place)))
            .collect();
        let mut watch = cluster.watch(resource, namespace, from).unwrap();
        let found: Vec<_> = std::iter::from_fn(|| watch.try_next().unwrap())
            .map(|event| (event.revision, event.kind, event.object.key().clone()))
            .collect();
        assert_eq!(found, expected);
        assert_eq!(watch.progress().unwrap(), cluster.revision());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn behaves_like_a_map_with_a_past(steps in prop::collection::vec(step(), 1..60), limit in 0_usize..4, durable: bool) {
        let folder = tempfile::tempdir().unwrap();
        let open = || if durable { Store::open(folder.path()).unwrap() } else { Store::in_memory() };
        let mut cluster = open().cluster("c");
        let mut model = Model::default();
        let mut base = 1;
        model.history.insert(1, BTreeMap::new());
        for (nth, step) in steps.iter().enumerate() {
            if matches!(step, Step::Restart) {
                if durable {
                    drop(cluster);
                    cluster = open().cluster("c");
                    base = cluster.revision();
                    prop_assert_eq!(base, *model.history.keys().next_back().unwrap());
                }
                continue;
            }
            run(&cluster, &mut model, step, nth as u64);
        }
        check_list(&cluster, None, &model.objects, limit);
        for (revision, objects) in model.history.range(base..) {
            check_list(&cluster, Some(*revision), objects, limit);
            check_watches(&cluster, &model, *revision);
        }
    }
}
