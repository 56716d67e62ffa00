//! Merging an applied configuration into the live object, and taking fields out of an object.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    set::{Set, Step, field},
    view::{Elements, Shape, View},
    walk::{Walked, as_list},
};

/// Lays `config` over `live`. Nothing goes away; what both have is `config`'s.
pub(super) fn merge(view: View<'_>, live: Option<Value>, config: Option<&Value>) -> Walked<Value> {
    let (live, config) = match (live, config) {
        (Some(live), Some(config)) => (live, config),
        (live, config) => return Ok(config.cloned().or(live).unwrap_or(Value::Null)),
    };
    match (view.shape(&live), view.shape(config)) {
        (Shape::Map(_), Shape::Map(view)) => {
            let mut merged = match live {
                Value::Object(live) => live,
                _ => Map::new(),
            };
            for (name, value) in config.as_object().into_iter().flatten() {
                let view = view.child(name).view();
                match merged.get_mut(name) {
                    Some(place) => *place = merge(view, Some(place.take()), Some(value))?,
                    None => {
                        merged.insert(name.clone(), value.clone());
                    }
                }
            }
            Ok(Value::Object(merged))
        }
        (Shape::List(_), Shape::List(elements)) => {
            let live = match live {
                Value::Array(live) => live,
                _ => Vec::new(),
            };
            merge_lists(&elements, live, as_list(config))
        }
        // `null` for a map or list that is merged by parts says nothing about the parts.
        (Shape::Map(_) | Shape::List(_), Shape::Leaf) if config.is_null() => Ok(live),
        _ => Ok(config.clone()),
    }
}

/// Merges lists whose elements have an identity. Elements that both have come in the order of `config`; elements that only
/// the live list has stay in front of the same neighbour as before.
fn merge_lists(elements: &Elements<'_>, mut live: Vec<Value>, config: &[Value]) -> Walked<Value> {
    let mut live_steps = Vec::with_capacity(live.len());
    let mut live_at = BTreeMap::new();
    for (position, element) in live.iter().enumerate() {
        let step = elements.step(element)?;
        // Elements that share an identity are not merged with anything.
        live_at
            .entry(step.clone())
            .and_modify(|at: &mut Option<usize>| *at = None)
            .or_insert(Some(position));
        live_steps.push(step);
    }
    let mut config_steps = Vec::with_capacity(config.len());
    let mut merged_config = BTreeMap::new();
    for element in config {
        let step = elements.step(element)?;
        merged_config.insert(step.clone(), false);
        config_steps.push(step);
    }
    let mut shared = config_steps.iter().filter(|step| live_at.contains_key(*step));
    let mut next_shared = shared.next();

    let mut out = Vec::with_capacity(live.len().max(config.len()));
    let (mut l, mut c) = (0, 0);
    // An element is either merged with the one of `config` that has its identity or kept: each is taken once.
    let merged = |live: &mut [Value], step: &Step, element: &Value| {
        let at = live_at.get(step).copied().flatten();
        let live = at.and_then(|at| live.get_mut(at)).map(Value::take);
        merge(elements.view, live, Some(element))
    };
    while l < live.len() || c < config.len() {
        if l < live.len() && c < config.len() {
            if live_steps[l] == config_steps[c] {
                merged_config.insert(config_steps[c].clone(), true);
                out.push(merged(&mut live, &config_steps[c], &config[c])?);
                (l, c) = (l + 1, c + 1);
                next_shared = shared.next();
                continue;
            }
            if merged_config.contains_key(&live_steps[l]) && next_shared.is_some_and(|s| *s != live_steps[l])
            {
                l += 1;
                continue;
            }
        }
        if l < live.len() {
            match merged_config.get(&live_steps[l]) {
                None => {
                    out.push(live[l].take());
                    l += 1;
                    continue;
                }
                Some(true) => l += 1,
                Some(false) => {}
            }
        }
        if c < config.len() {
            let step = &config_steps[c];
            merged_config.insert(step.clone(), true);
            out.push(merged(&mut live, step, &config[c])?);
            c += 1;
            if next_shared == Some(step) {
                next_shared = shared.next();
            }
        }
    }
    Ok(Value::Array(out))
}

/// What is left of a map or list that loses all it has, when it is not itself taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Emptied {
    /// `null`: a field that counts as named, whatever its type.
    Null,
    /// An empty map or list, as it will be stored.
    Container,
}

/// Takes the fields and elements of `set` out of `value`.
pub(super) fn remove(view: View<'_>, value: &Value, set: &Set, emptied: Emptied) -> Value {
    match view.shape(value) {
        Shape::Leaf => match value {
            Value::Object(_) | Value::Array(_) => Value::Null,
            scalar => scalar.clone(),
        },
        Shape::Map(view) => {
            let mut rest = Map::new();
            for (name, value) in value.as_object().into_iter().flatten() {
                match set.below.get(&field(name)) {
                    Some(below) if below.member => {}
                    Some(below) if !below.is_empty() => {
                        rest.insert(
                            name.clone(),
                            remove(view.child(name).view(), value, below, emptied),
                        );
                    }
                    _ => {
                        rest.insert(name.clone(), value.clone());
                    }
                }
            }
            if rest.is_empty() && emptied == Emptied::Null {
                Value::Null
            } else {
                Value::Object(rest)
            }
        }
        Shape::List(elements) => {
            let mut rest = Vec::new();
            for element in as_list(value) {
                let below = elements.step(element).ok().and_then(|step| set.below.get(&step));
                match below {
                    Some(below) if below.member => {}
                    Some(below) if !below.is_empty() => {
                        rest.push(remove(elements.view, element, below, emptied));
                    }
                    _ => rest.push(element.clone()),
                }
            }
            if rest.is_empty() && emptied == Emptied::Null {
                Value::Null
            } else {
                Value::Array(rest)
            }
        }
    }
}
