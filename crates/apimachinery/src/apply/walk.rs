//! What the fields of a value are, and how two values differ, as sets of fields.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{
    set::{Set, Step, describe, field},
    view::{Child, Elements, Shape, View},
};

/// A value that cannot be walked: where and why. Only lists with an identity can fail.
pub(super) type Walked<T> = Result<T, String>;

/// The fields that `value` mentions.
pub(super) fn fields(view: View<'_>, value: &Value) -> Walked<Set> {
    match view.shape(value) {
        Shape::Leaf => Ok(Set::leaf()),
        Shape::Map(view) => {
            let mut set = Set::default();
            for (name, value) in as_map(value) {
                let child = view.child(name);
                let mut below = fields(child.view(), value)?;
                below.member |= is_empty(value) || !matches!(child, Child::Field(_));
                set.attach(field(name), below);
            }
            Ok(set)
        }
        Shape::List(elements) => {
            let mut set = Set::default();
            let list = as_list(value);
            let steps: Vec<Step> = list.iter().map(|e| elements.step(e)).collect::<Walked<_>>()?;
            let mut seen = BTreeMap::new();
            for step in &steps {
                *seen.entry(step).or_insert(0_usize) += 1;
            }
            let repeated: BTreeSet<Step> = seen
                .into_iter()
                .filter(|(_, times)| *times > 1)
                .map(|(step, _)| step.clone())
                .collect();
            for (step, element) in steps.into_iter().zip(list) {
                let mut below = Set::default();
                if !repeated.contains(&step) {
                    below = fields(elements.view, element)?;
                }
                below.member = true;
                set.attach(step, below);
            }
            Ok(set)
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// How one value became another.
#[derive(Clone, Debug, Default)]
pub(super) struct Comparison {
    /// Fields that only the old value has.
    pub(super) removed: Set,
    /// Fields that both have, with different values.
    pub(super) modified: Set,
    /// Fields that only the new value has.
    pub(super) added: Set,
}

impl Comparison {
    fn attach(&mut self, step: &Step, below: Comparison) {
        self.removed.attach(step.clone(), below.removed);
        self.modified.attach(step.clone(), below.modified);
        self.added.attach(step.clone(), below.added);
    }

    /// The comparison without what lies below `prefixes`.
    pub(super) fn without_prefixes(mut self, prefixes: &Set) -> Comparison {
        for set in [&mut self.removed, &mut self.modified, &mut self.added] {
            set.remove_prefixes(prefixes);
        }
        self
    }
}

/// Compares two values of the same place, of which at least one exists.
pub(super) fn compare(view: View<'_>, old: Option<&Value>, new: Option<&Value>) -> Walked<Comparison> {
    let mut comparison = Comparison::default();
    if let (Some(old), Some(new)) = (old, new)
        && old == new
    {
        return Ok(comparison);
    }
    let mut shapes = (old.map(|v| view.shape(v)), new.map(|v| view.shape(v)));
    // `null` is a map or a list without anything in it, if the other side is one.
    if let (Some(old), Some(new)) = (old, new) {
        match (old.is_null(), new.is_null()) {
            (true, false) => shapes.0 = shapes.1,
            (false, true) => shapes.1 = shapes.0,
            _ => {}
        }
    }
    let leaf = match shapes {
        (None, None) => true,
        (Some(Shape::Map(view)), Some(Shape::Map(_))) => {
            compare_maps(&mut comparison, view, old, new)?;
            false
        }
        (Some(Shape::Map(view)), None) => {
            compare_maps(&mut comparison, view, old, None)?;
            old.is_some_and(is_empty)
        }
        (None, Some(Shape::Map(view))) => {
            compare_maps(&mut comparison, view, None, new)?;
            new.is_some_and(is_empty)
        }
        (Some(Shape::List(elements)), Some(Shape::List(_))) => {
            compare_lists(&mut comparison, &elements, old, new)?;
            false
        }
        (Some(Shape::List(elements)), None) => {
            compare_lists(&mut comparison, &elements, old, None)?;
            false
        }
        (None, Some(Shape::List(elements))) => {
            compare_lists(&mut comparison, &elements, None, new)?;
            false
        }
        (None | Some(Shape::Leaf), None | Some(Shape::Leaf)) => true,
        // The type changed (or became null): what was below is gone, what is below now is new.
        (Some(_), Some(_)) => {
            let gone = compare(view, old, None)?;
            let here = compare(view, None, new)?;
            comparison.removed = gone.removed;
            comparison.removed.member = false;
            comparison.added = here.added;
            comparison.added.member = false;
            true
        }
    };
    match (old, new) {
        (None, _) => comparison.added.member = true,
        (_, None) => comparison.removed.member = true,
        (Some(old), Some(new)) => comparison.modified.member |= leaf && old != new,
    }
    Ok(comparison)
}

fn compare_maps(
    comparison: &mut Comparison,
    view: View<'_>,
    old: Option<&Value>,
    new: Option<&Value>,
) -> Walked<()> {
    let none = Map::new();
    let old = old.and_then(Value::as_object).unwrap_or(&none);
    let new = new.and_then(Value::as_object).unwrap_or(&none);
    for (name, old) in old {
        let new = new.get(name);
        if new == Some(old) {
            continue;
        }
        let below = compare(view.child(name).view(), Some(old), new)?;
        comparison.attach(&field(name), below);
    }
    for (name, new) in new {
        if !old.contains_key(name) {
            let below = compare(view.child(name).view(), None, Some(new))?;
            comparison.attach(&field(name), below);
        }
    }
    Ok(())
}

fn compare_lists(
    comparison: &mut Comparison,
    elements: &Elements<'_>,
    old: Option<&Value>,
    new: Option<&Value>,
) -> Walked<()> {
    let by_step = |value: Option<&'_ Value>| -> Walked<BTreeMap<Step, Vec<usize>>> {
        let mut index = BTreeMap::<Step, Vec<usize>>::new();
        for (position, element) in value.map(as_list).unwrap_or_default().iter().enumerate() {
            index.entry(elements.step(element)?).or_default().push(position);
        }
        Ok(index)
    };
    let (old_index, new_index) = (by_step(old)?, by_step(new)?);
    let old = old.map(as_list).unwrap_or_default();
    let new = new.map(as_list).unwrap_or_default();
    let steps: BTreeSet<&Step> = old_index.keys().chain(new_index.keys()).collect();
    for step in steps {
        let before = old_index.get(step).map_or(&[][..], Vec::as_slice);
        let after = new_index.get(step).map_or(&[][..], Vec::as_slice);
        let first = |list: &'_ [Value], at: &[usize]| at.first().and_then(|p| list.get(*p)).cloned();
        // Elements that share an identity are owned together, without what is below them.
        let below = match (before.len(), after.len()) {
            (0 | 1, 0 | 1) => {
                let (before, after) = (
                    before.first().and_then(|p| old.get(*p)),
                    after.first().and_then(|p| new.get(*p)),
                );
                compare(elements.view, before, after)?
            }
            (2.., 2..) => {
                let before: Vec<_> = before.iter().filter_map(|p| old.get(*p)).collect();
                let after: Vec<_> = after.iter().filter_map(|p| new.get(*p)).collect();
                let modified = Set {
                    member: before != after,
                    ..Set::default()
                };
                Comparison {
                    modified,
                    ..Comparison::default()
                }
            }
            (2.., _) => {
                let mut below = match first(new, after) {
                    Some(after) => compare(elements.view, None, Some(&after))?,
                    None => Comparison::default(),
                };
                below.removed.member = true;
                below
            }
            (_, _) => {
                let mut below = match first(old, before) {
                    Some(before) => compare(elements.view, Some(&before), None)?,
                    None => Comparison::default(),
                };
                below.added.member = true;
                below
            }
        };
        comparison.attach(step, below);
    }
    Ok(())
}

/// The set with every declared field on the way to a member; a map that only leads to members is not otherwise one.
pub(super) fn with_named_parents(set: &Set, view: View<'_>) -> Set {
    let mut named = Set {
        member: set.member,
        ..Set::default()
    };
    for (step, below) in set.below.iter() {
        let (view, declared) = match step.split_once(':') {
            Some(("f", name)) => {
                let child = view.child(name);
                (child.view(), matches!(child, Child::Field(_)))
            }
            Some(("k", _)) => (view.elements().map_or(View::Unknown, |e| e.view), false),
            _ => (View::Unknown, false),
        };
        let mut below = with_named_parents(below, view);
        below.member |= declared;
        named.below.insert(step.clone(), below);
    }
    named
}

/// The set as it must be after the schema made a place atomic: the place itself instead of what is below it.
pub(super) fn reconcile(set: &mut Set, view: View<'_>) {
    if view.atomic() && !set.below.is_empty() {
        *set = Set::leaf();
        return;
    }
    for (step, below) in set.below.iter_mut() {
        let view = match step.split_once(':') {
            Some(("f", name)) => view.child(name).view(),
            Some(("k", _)) => view.elements().map_or(View::Unknown, |e| e.view),
            _ => View::Unknown,
        };
        reconcile(below, view);
    }
}
/// Why `value` is no value of its schema, each with its path; empty if it is one.
pub(super) fn problems(view: View<'_>, value: &Value, path: &str, into: &mut Vec<String>) {
    let mut report = |path: &str, what: String| {
        into.push(if path.is_empty() {
            what
        } else {
            format!("{path}: {what}")
        });
    };
    if let Some(expected) = view.mismatch(value) {
        report(path, format!("expected {expected}, got {value}"));
        return;
    }
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                let path = format!("{path}.{name}");
                match view.child(name) {
                    Child::Undeclared => into.push(format!("{path}: field not declared in schema")),
                    child => problems(child.view(), value, &path, into),
                }
            }
        }
        Value::Array(list) => {
            let Some(elements) = view.elements() else {
                // Replaced as a whole, but what is in it must fit all the same.
                for (index, element) in list.iter().enumerate() {
                    problems(view.items(), element, &format!("{path}[{index}]"), into);
                }
                return;
            };
            let mut seen = BTreeSet::new();
            for (index, element) in list.iter().enumerate() {
                match elements.step(element) {
                    Err(why) => into.push(format!("{path}: element {index}: {why}")),
                    Ok(step) => {
                        let name = describe(&step);
                        if seen.insert(step) {
                            problems(elements.view, element, &format!("{path}{name}"), into);
                        } else {
                            into.push(format!("{path}: duplicate entries for key {name}"));
                        }
                    }
                }
            }
        }
        _ => {}
    }
}

pub(super) fn as_map(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

pub(super) fn as_list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
