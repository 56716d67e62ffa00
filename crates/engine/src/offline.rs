//! Rendering without a server: the same plans, carried out on the snapshot itself until nothing changes any more.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{
    affected,
    plan::{Child, Target, plan},
    problem::Problem,
    world::{AnyObject, World},
};

/// What a world amounts to.
#[derive(Debug, Clone, Default)]
pub struct Rendered {
    /// Every derived object, by kind, namespace and name, as the platform would write it.
    pub objects: Vec<Value>,
    /// What stands in the way, by target.
    pub problems: Vec<(Target, Problem)>,
    /// The world with all derived objects in it.
    pub world: World,
}

/// Every plan of the flow makes others, in a chain as long as the flow; a world that is not settled after this many
/// rounds has plans that contradict each other.
const MAX_ROUNDS: usize = 32;

/// Renders everything in a world, with the world as all there is.
pub fn render(world: &World) -> Rendered {
    let mut world = world.clone();
    world.suppose_promoted(true);
    let mut derived: BTreeMap<(String, String, String), Value> = BTreeMap::new();
    let mut problems: BTreeMap<Target, Vec<Problem>> = BTreeMap::new();
    let mut queue: BTreeSet<Target> = affected::all(&world);
    for _ in 0..MAX_ROUNDS {
        if queue.is_empty() {
            break;
        }
        for target in std::mem::take(&mut queue) {
            let plan = plan(&world, &target);
            problems.insert(target, plan.problems.as_slice().to_vec());
            for child in plan.children {
                queue.extend(apply(&mut world, &mut derived, child));
            }
        }
    }
    let problems = problems
        .into_iter()
        .flat_map(|(t, all)| all.into_iter().map(move |p| (t.clone(), p)))
        .collect();
    world.suppose_promoted(false);
    Rendered {
        objects: derived.into_values().collect(),
        problems,
        world,
    }
}

/// Writes a child into the world, as server-side apply would; returns whose plans may have changed by it.
fn apply(
    world: &mut World,
    derived: &mut BTreeMap<(String, String, String), Value>,
    child: Child,
) -> BTreeSet<Target> {
    let key = child.key();
    let id = (child.kind().to_owned(), key.namespace, key.name);
    if derived.get(&id) == Some(&child.object) {
        return BTreeSet::new();
    }
    let parsed = AnyObject::from_value(&child.object).ok();
    derived.insert(id, child.object.clone());
    // A child of a foreign kind (a namespace, a role) is a result, but no plan reads it.
    let Some(reference) = parsed.map(|o| o.reference()) else {
        return BTreeSet::new();
    };
    let before = world.clone();
    let existing = world.get_any(&reference).and_then(|o| o.to_value().ok());
    let merged = existing
        .map(|existing| merge(existing, &child.object))
        .unwrap_or(child.object);
    if let Ok(object) = AnyObject::from_value(&merged) {
        world.upsert(object);
    }
    affected::by_change(&before, world, &reference)
}

/// What is applied wins field by field; what somebody else wrote stays.
fn merge(mut existing: Value, applied: &Value) -> Value {
    match (&mut existing, applied) {
        (Value::Object(existing), Value::Object(applied)) => {
            for (key, value) in applied {
                let slot = existing.entry(key.clone()).or_insert(Value::Null);
                *slot = merge(slot.take(), value);
            }
        }
        (slot, applied) => *slot = applied.clone(),
    }
    existing
}
