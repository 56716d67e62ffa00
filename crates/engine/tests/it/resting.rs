//! A world that forgets what its objects say while nobody looks at them, and reads it again.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use choreo_engine::{
    AnyObject, Kind, ObjectRef, Plan, Target, World, affected, by_change, offline, plan,
    world::{Source, Unreadable, complete},
};
use proptest::prelude::*;
use serde_json::json;

use super::support::*;

/// An object as text, which counts how often it is read and may be lost.
#[derive(Debug)]
struct Text {
    api_version: String,
    kind: &'static str,
    text: String,
    reads: Arc<AtomicUsize>,
    is_lost: AtomicBool,
}

impl Source for Text {
    fn read(self: Arc<Self>) -> Option<AnyObject> {
        if self.is_lost.load(Ordering::SeqCst) {
            return None;
        }
        self.reads.fetch_add(1, Ordering::SeqCst);
        Some(AnyObject::from_text(&self.api_version, self.kind, self.text.as_bytes()).unwrap())
    }
}

fn text_of(object: &AnyObject, reads: &Arc<AtomicUsize>) -> Arc<Text> {
    let kind = object.reference().kind;
    Arc::new(Text {
        api_version: kind.api_version(),
        kind: kind.as_str(),
        text: object.to_value().unwrap().to_string(),
        reads: Arc::clone(reads),
        is_lost: AtomicBool::new(false),
    })
}

/// The same objects, which can all be read again, and how many were.
fn readable(world: &World) -> (World, Arc<AtomicUsize>) {
    let reads = Arc::new(AtomicUsize::new(0));
    let mut copy = World::new();
    copy.suppose_promoted(true);
    for object in world.iter() {
        let text = text_of(&object, &reads);
        copy.upsert_from(object, text);
    }
    (copy, reads)
}

/// Two examples of everything that they lead to, and one of TCP, whose endpoints look for each other.
fn everything() -> World {
    let tcp = |name: &str| {
        format!(
            "{{apiVersion: openchoreo.dev/v1alpha1, kind: Component, metadata: {{name: {name}}}, spec: {{owner: {{projectName: default}}, type: Service}}}}\n---\n\
             {{apiVersion: openchoreo.dev/v1alpha1, kind: Workload, metadata: {{name: {name}}}, spec: {{owner: {{projectName: default, componentName: {name}}}, \
             containers: {{main: {{image: a}}}}, endpoints: {{db: {{type: TCP, port: 5432, visibility: public}}}}}}}}"
        )
    };
    offline::render(&world(&[GREETER, STOREFRONT, &tcp("one"), &tcp("two")])).world
}

fn plans(world: &World) -> Vec<(Target, Plan)> {
    let all = affected::all(world);
    all.into_iter()
        .map(|target| (target.clone(), plan(world, &target)))
        .collect()
}

fn rest_all(world: &mut World) {
    let all: Vec<ObjectRef> = world.references().collect();
    all.iter().for_each(|reference| world.rest(reference));
}

#[test]
fn where_objects_are_and_who_refers_to_them_is_known_without_reading_any() {
    let typed = everything();
    let (mut world, reads) = readable(&typed);
    rest_all(&mut world);
    assert_eq!(world.len(), typed.len());
    assert!(
        world
            .references()
            .eq(typed.iter().map(|object| object.reference()))
    );
    for reference in typed.references() {
        assert!(world.contains(&reference), "{reference}");
        assert!(
            world.referrers(&reference).eq(typed.referrers(&reference)),
            "{reference}"
        );
    }
    let keys = |world: &World| {
        world
            .keys_in::<choreo_api::v1alpha1::Release>("default")
            .cloned()
            .collect::<Vec<_>>()
    };
    assert!(!keys(&world).is_empty());
    assert_eq!(keys(&world), keys(&typed));
    assert_eq!(affected::all(&world), affected::all(&typed));
    assert_eq!(reads.load(Ordering::SeqCst), 0);
    assert!(world.read_already() * 2 < world.len(), "most can rest");
}

#[test]
fn a_plan_of_one_binding_does_not_read_the_others() {
    let (mut world, reads) = readable(&everything());
    rest_all(&mut world);
    let before = reads.load(Ordering::SeqCst);
    let binding = ObjectRef::new(Kind::ServiceBinding, "default", "catalog-development");
    assert!(
        world.contains(&binding),
        "{:?}",
        world.references().collect::<Vec<_>>()
    );
    plan(&world, &Target::Object(binding));
    let read = reads.load(Ordering::SeqCst) - before;
    assert!((1..=30).contains(&read), "{read} of {}", world.len());
    // The same plan again reads nothing.
    let again = ObjectRef::new(Kind::ServiceBinding, "default", "catalog-development");
    plan(&world, &Target::Object(again));
    assert_eq!(reads.load(Ordering::SeqCst) - before, read);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_rests_plans_are_the_same(picks in prop::collection::vec(any::<prop::sample::Index>(), 0..80), changed in any::<prop::sample::Index>()) {
        let mut typed = everything();
        let (mut world, _) = readable(&typed);
        let all: Vec<ObjectRef> = typed.references().collect();
        let expected = plans(&typed);
        for pick in &picks {
            world.rest(pick.get(&all));
        }
        let snapshot = world.clone();
        prop_assert_eq!(&plans(&world), &expected);
        // What was read rests again, and what is taken out while it rests leaves nothing behind.
        for pick in &picks {
            world.rest(pick.get(&all));
        }
        let gone = changed.get(&all);
        let before = (typed.clone(), world.clone());
        prop_assert!(typed.remove(gone) && world.remove(gone));
        prop_assert_eq!(by_change(&before.0, &typed, gone), by_change(&before.1, &world, gone));
        for reference in &all {
            prop_assert!(typed.referrers(reference).eq(world.referrers(reference)), "{}", reference);
        }
        prop_assert_eq!(plans(&world), plans(&typed));
        prop_assert_eq!(&plans(&snapshot), &expected);
    }
}

#[test]
fn snapshots_are_read_by_many_while_the_world_goes_on() {
    let typed = everything();
    let expected = plans(&typed);
    let (mut world, reads) = readable(&typed);
    rest_all(&mut world);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let snapshot = world.clone();
            let expected = &expected;
            scope.spawn(move || assert_eq!(&plans(&snapshot), expected));
        }
        for reference in typed.references() {
            let object = typed.get_any(&reference).unwrap();
            world.upsert_from(object.clone(), text_of(&object, &reads));
            world.rest(&reference);
        }
        let snapshot = world.clone();
        scope.spawn(move || {
            rest_all(&mut world);
            plans(&world)
        });
        assert_eq!(plans(&snapshot), expected);
    });
}

#[test]
fn nothing_is_done_about_what_cannot_be_read() {
    let typed = everything();
    let (mut world, reads) = readable(&typed);
    let component = ObjectRef::new(Kind::Component, "default", "catalog");
    let object = typed.get_any(&component).unwrap();
    let text = text_of(&object, &reads);
    world.upsert_from(object.clone(), Arc::clone(&text) as Arc<dyn Source>);
    world.rest(&component);
    text.is_lost.store(true, Ordering::SeqCst);

    // It is there, and does not count as gone.
    assert!(world.contains(&component));
    assert_eq!(world.len(), typed.len());
    assert!(world.get_any(&component).is_none());
    assert_eq!(complete(|| world.get_any(&component).is_some()), Err(Unreadable));
    // Who needs it does nothing, and everybody else does what is to be done.
    let (mut empty, mut others) = (BTreeSet::new(), 0);
    for (target, expected) in plans(&typed) {
        let planned = plan(&world, &target);
        if planned == expected {
            others += 1;
        } else {
            assert_eq!(planned, Plan::default(), "{target}");
            empty.insert(target.to_string());
        }
    }
    assert!(
        empty.contains(&Target::Object(component.clone()).to_string()),
        "{empty:?}"
    );
    assert!(
        empty.iter().any(|target| target.starts_with("ServiceBinding")),
        "{empty:?}"
    );
    assert!(others > empty.len(), "{others} {empty:?}");

    // It changes, and all is as before; its old references are gone with its old state.
    let mut value = object.to_value().unwrap();
    value["metadata"]["generation"] = json!(2);
    let anew = AnyObject::from_value(&value).unwrap();
    world.upsert_from(anew.clone(), text_of(&anew, &reads));
    let mut typed = typed;
    typed.upsert(anew);
    assert_eq!(plans(&world), plans(&typed));
    for reference in typed.references() {
        assert!(
            world.referrers(&reference).eq(typed.referrers(&reference)),
            "{reference}"
        );
    }
    // Gone is gone, too.
    world.rest(&component);
    assert!(world.remove(&component) && typed.remove(&component));
    assert_eq!(plans(&world), plans(&typed));
}
