//! Strategic merge patch: a merge patch that knows which lists are keyed, and has directives for the rest.
//!
//! | Directive | Where | Meaning |
//! | --- | --- | --- |
//! | `$patch: replace` | map; element of a keyed list | the map is replaced; the list is replaced by the other elements |
//! | `$patch: delete` | map; element of a keyed list | the map is emptied; the element with this key is removed |
//! | `$patch: merge` | map | the default |
//! | `$retainKeys: [...]` | map | keys not named here are removed |
//! | `$setElementOrder/<list>: [...]` | beside a merged list | the order of the elements named here |
//! | `$deleteFromPrimitiveList/<list>: [...]` | beside a list of scalars | these values are removed |
//!
//! Keys of a map are handled in their order, so the result is a function of document and patch alone. Directives and
//! `null`s never stay in the result.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{not_an_object, unprocessable};
use crate::{
    schema::Schema,
    status::{ApiError, Result},
};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const ELEMENT_ORDER: &str = "$setElementOrder/";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList/";

/// Applies a strategic merge patch to `doc`, merging lists as `schema` says. Where the schema ends, maps merge and lists
/// are replaced.
///
/// # Errors
/// 400 if the patch or a directive in it is malformed, 422 if it does not fit the document (an element without its merge key).
pub fn strategic(schema: &Schema, doc: &Value, patch: &Value) -> Result<Value> {
    let Value::Object(patch) = patch else {
        return Err(not_an_object(patch));
    };
    let doc = match doc {
        Value::Object(map) => map.clone(),
        _ => Map::new(),
    };
    Ok(Value::Object(merge_map(doc, patch, Some(schema))?))
}

fn merge_map(
    mut original: Map<String, Value>,
    patch: &Map<String, Value>,
    schema: Option<&Schema>,
) -> Result<Map<String, Value>> {
    match patch.get(PATCH).map(Value::as_str) {
        None | Some(Some("merge")) => {}
        Some(Some("replace")) => return Ok(clean_map(patch)),
        Some(Some("delete")) => return Ok(Map::new()),
        Some(_) => return Err(bad_patch_type(patch)),
    }
    retain_keys(&mut original, patch)?;
    let mut done = BTreeSet::new();
    for (key, order) in patch {
        if let Some(field) = key.strip_prefix(ELEMENT_ORDER) {
            merge_ordered(&mut original, patch, field, order, schema)?;
            done.insert(field);
        }
    }
    for (key, value) in patch {
        if let Some(field) = key.strip_prefix(DELETE_FROM_LIST) {
            delete_from_list(&mut original, field, value)?;
        } else if key == PATCH
            || key == RETAIN_KEYS
            || key.starts_with(ELEMENT_ORDER)
            || done.contains(key.as_str())
        {
            // Handled above.
        } else if value.is_null() {
            original.remove(key);
        } else {
            let merged = merge_value(original.remove(key), value, schema.and_then(|s| property(s, key)))?;
            if let Some(merged) = merged {
                original.insert(key.clone(), merged);
            }
        }
    }
    Ok(original)
}

fn property<'s>(schema: &'s Schema, name: &str) -> Option<&'s Schema> {
    schema.property(name).map(AsRef::as_ref)
}

fn has_strategy(schema: Option<&Schema>, strategy: &str) -> bool {
    schema
        .and_then(|s| s.patch_strategy.as_deref())
        .is_some_and(|s| s.split(',').any(|word| word == strategy))
}

fn merge_key(schema: Option<&Schema>) -> Option<&str> {
    schema
        .and_then(|s| s.patch_merge_key.as_deref())
        .filter(|k| !k.is_empty())
}

fn merge_value(original: Option<Value>, patch: &Value, schema: Option<&Schema>) -> Result<Option<Value>> {
    match (original, patch) {
        (Some(Value::Object(original)), Value::Object(patch)) => {
            if has_strategy(schema, "replace") {
                Ok(Some(Value::Object(clean_map(patch))))
            } else {
                merge_map(original, patch, schema).map(|m| Some(Value::Object(m)))
            }
        }
        (Some(Value::Array(original)), Value::Array(patch)) if has_strategy(schema, "merge") => {
            merge_list(original, patch, schema).map(|l| Some(Value::Array(l)))
        }
        (_, patch) => Ok(clean(patch)),
    }
}

/// `$retainKeys`: removes what the directive does not name, and checks that the patch sets nothing else.
fn retain_keys(original: &mut Map<String, Value>, patch: &Map<String, Value>) -> Result<()> {
    let Some(directive) = patch.get(RETAIN_KEYS) else {
        return Ok(());
    };
    let malformed = || ApiError::bad_request("invalid patch format of retainKeys");
    let keys: BTreeSet<&str> = directive
        .as_array()
        .ok_or_else(malformed)?
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let unnamed = patch
        .iter()
        .any(|(key, value)| !value.is_null() && !is_directive(key) && !keys.contains(key.as_str()));
    if unnamed {
        return Err(malformed());
    }
    original.retain(|key, _| keys.contains(key.as_str()));
    Ok(())
}

/// `$deleteFromPrimitiveList/<field>`.
fn delete_from_list(original: &mut Map<String, Value>, field: &str, values: &Value) -> Result<()> {
    if values.is_null() {
        original.remove(field);
        return Ok(());
    }
    let values = values
        .as_array()
        .ok_or_else(|| ApiError::bad_request("invalid patch format of primitive list"))?;
    if let Some(Value::Array(list)) = original.get_mut(field) {
        let gone: BTreeSet<String> = values.iter().map(Value::to_string).collect();
        list.retain(|v| !gone.contains(&v.to_string()));
    }
    Ok(())
}

/// A list with a `$setElementOrder` beside it, which may come without any change of the list's content.
fn merge_ordered(
    original: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    field: &str,
    order: &Value,
    schema: Option<&Schema>,
) -> Result<()> {
    let malformed = || ApiError::bad_request("invalid patch format of setElementOrder list");
    let order = order.as_array().ok_or_else(malformed)?;
    let schema = schema.and_then(|s| property(s, field));
    let key = merge_key(schema);
    let as_list = |value: &Value| match value {
        Value::Array(list) => Ok(Some(list.clone())),
        Value::Null => Ok(None),
        _ => Err(malformed()),
    };
    let patched = patch.get(field).map(as_list).transpose()?;
    if let Some(Some(elements)) = &patched {
        check_order(elements, order, key)?;
    }
    let live = match original.get(field) {
        Some(value) => as_list(value)?,
        None => None,
    };
    let merged = match (live.clone(), patched) {
        (_, Some(None)) => {
            original.remove(field);
            return Ok(());
        }
        (None, None) => return Ok(()),
        (Some(live), None) => live,
        (None, Some(Some(elements))) => clean_list(&elements),
        (Some(live), Some(Some(elements))) => {
            if has_strategy(schema, "merge") {
                merge_list(live, &elements, schema)?
            } else {
                clean_list(&elements)
            }
        }
    };
    let live = live_order(live.unwrap_or_default(), patch.get(field), key)?;
    let ordered = arrange(merged, order, &live, key)?;
    original.insert(field.to_owned(), Value::Array(ordered));
    Ok(())
}

/// The order that elements count as having had. Elements that the patch adds take the places that its deletions free, as
/// in kube-apiserver.
fn live_order(live: Vec<Value>, patch: Option<&Value>, key: Option<&str>) -> Result<Vec<Value>> {
    let elements = patch.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let Some(key) = key.filter(|_| elements.iter().any(|e| e.get(PATCH).is_some())) else {
        return Ok(live);
    };
    let (gone, _, added) = special_elements(elements, key)?;
    let before = live.len();
    let mut order = Vec::with_capacity(before);
    let mut there = BTreeSet::new();
    for element in live {
        let id = identity(&element, Some(key))?;
        if !gone.contains(&id) {
            there.insert(id);
            order.push(element);
        }
    }
    for element in added {
        if order.len() == before {
            break;
        }
        if there.insert(identity(element, Some(key))?) {
            order.push(element.clone());
        }
    }
    Ok(order)
}

/// The elements of a patch must stand in the order that the directive gives, and all be named there.
fn check_order(elements: &[Value], order: &[Value], key: Option<&str>) -> Result<()> {
    if order.is_empty() {
        return Ok(());
    }
    let mut rest = order.iter();
    for element in elements {
        if element.get(PATCH).is_some() {
            continue;
        }
        let identity = identity(element, key)?;
        loop {
            let Some(next) = rest.next() else {
                return Err(unprocessable(format!(
                    "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
                    Value::from(elements),
                    Value::from(order)
                )));
            };
            if self::identity(next, key)? == identity {
                break;
            }
        }
    }
    Ok(())
}

/// Merges a list whose strategy is `merge`.
fn merge_list(mut original: Vec<Value>, patch: &[Value], schema: Option<&Schema>) -> Result<Vec<Value>> {
    if original.is_empty() && patch.is_empty() {
        return Ok(original);
    }
    if !elements_are_maps(&original, patch)? {
        let mut seen = BTreeSet::new();
        let live = original.clone();
        original.extend(patch.iter().cloned());
        original.retain(|v| seen.insert(v.to_string()));
        return arrange(original, patch, &live, None);
    }
    let Some(key) = merge_key(schema) else {
        return Err(unprocessable(format!(
            "cannot merge lists without merge key for {}",
            schema
                .and_then(|s| s.definition.as_deref())
                .unwrap_or("this list")
        )));
    };
    let (gone, replace, elements) = special_elements(patch, key)?;
    if replace {
        return Ok(elements.into_iter().filter_map(clean).collect());
    }
    if !gone.is_empty() {
        let mut kept = Vec::with_capacity(original.len());
        for element in original {
            if !gone.contains(&identity(&element, Some(key))?) {
                kept.push(element);
            }
        }
        original = kept;
    }
    let items = schema.and_then(|s| s.items.as_deref());
    let live = original.clone();
    let mut positions = BTreeMap::new();
    for (position, element) in original.iter().enumerate() {
        positions.entry(identity(element, Some(key))?).or_insert(position);
    }
    for element in &elements {
        let identity = identity(element, Some(key))?;
        match positions.get(&identity) {
            Some(&position) => {
                if let (Value::Object(old), Value::Object(new)) = (original[position].take(), element) {
                    original[position] = Value::Object(merge_map(old, new, items)?);
                }
            }
            None => {
                positions.insert(identity, original.len());
                original.extend(clean(element));
            }
        }
    }
    let elements: Vec<Value> = elements.into_iter().cloned().collect();
    arrange(original, &elements, &live, Some(key))
}

/// Takes the elements with `$patch` out of a list: identities to delete, whether to replace the list, the ordinary elements.
fn special_elements<'p>(patch: &'p [Value], key: &str) -> Result<(BTreeSet<String>, bool, Vec<&'p Value>)> {
    let (mut gone, mut replace, mut elements) = (BTreeSet::new(), false, Vec::new());
    for element in patch {
        match element.get(PATCH).map(Value::as_str) {
            None => elements.push(element),
            Some(Some("delete")) => {
                gone.insert(identity(element, Some(key))?);
            }
            Some(Some("replace")) => replace = true,
            Some(Some("merge")) => {
                return Err(unprocessable(
                    "merging lists cannot yet be specified in the patch",
                ));
            }
            Some(_) => {
                return Err(element
                    .as_object()
                    .map_or_else(|| not_an_object(element), bad_patch_type));
            }
        }
    }
    Ok((gone, replace, elements))
}

fn elements_are_maps(original: &[Value], patch: &[Value]) -> Result<bool> {
    let mut maps = None;
    for element in original.iter().chain(patch) {
        if element.is_array() {
            return Err(unprocessable("lists of lists are not supported"));
        }
        if *maps.get_or_insert(element.is_object()) != element.is_object() {
            return Err(unprocessable("list element types are not identical"));
        }
    }
    Ok(maps.unwrap_or(false))
}

/// What tells elements of a list apart: the value of the merge key, or the scalar itself.
fn identity(element: &Value, key: Option<&str>) -> Result<String> {
    match key {
        None => Ok(element.to_string()),
        Some(key) => element.get(key).map(Value::to_string).ok_or_else(|| {
            unprocessable(format!(
                "map: {element} does not contain declared merge key: {key}"
            ))
        }),
    }
}

/// Puts merged elements in order: those named by `order` in that order; the others stay where they were among them in the
/// live list, as far as that can be said.
fn arrange(merged: Vec<Value>, order: &[Value], live: &[Value], key: Option<&str>) -> Result<Vec<Value>> {
    let index = |list: &[Value]| -> Result<BTreeMap<String, usize>> {
        let mut index = BTreeMap::new();
        for (position, element) in list.iter().enumerate() {
            index.entry(identity(element, key)?).or_insert(position);
        }
        Ok(index)
    };
    let wanted = index(order)?;
    let was = index(live)?;
    let (mut named, mut others) = (Vec::new(), Vec::new());
    for element in merged {
        let id = identity(&element, key)?;
        match wanted.get(&id) {
            Some(&at) => named.push((at, was.get(&id).copied(), element)),
            None => others.push((was.get(&id).copied(), element)),
        }
    }
    named.sort_by_key(|(at, _, _)| *at);
    others.sort_by_key(|(was, _)| was.unwrap_or(usize::MAX));

    let mut arranged = Vec::with_capacity(named.len() + others.len());
    let mut others = others.into_iter().peekable();
    for (_, position, element) in named {
        while let (Some((Some(other), _)), Some(position)) = (others.peek(), position)
            && *other < position
        {
            arranged.extend(others.next().map(|(_, element)| element));
        }
        arranged.push(element);
    }
    arranged.extend(others.map(|(_, element)| element));
    Ok(arranged)
}

fn is_directive(key: &str) -> bool {
    key == PATCH || key == RETAIN_KEYS || key.starts_with(ELEMENT_ORDER) || key.starts_with(DELETE_FROM_LIST)
}

fn bad_patch_type(patch: &Map<String, Value>) -> ApiError {
    let type_ = patch.get(PATCH).unwrap_or(&Value::Null);
    unprocessable(format!(
        "unknown patch type: {type_} in map: {}",
        Value::Object(patch.clone())
    ))
}

/// A value of a patch as it enters the document: without directives and `null`s. A map that is itself a directive is nothing.
fn clean(value: &Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Object(map) => (!map.contains_key(PATCH)).then(|| Value::Object(clean_map(map))),
        Value::Array(list) => Some(Value::Array(clean_list(list))),
        scalar => Some(scalar.clone()),
    }
}

fn clean_map(map: &Map<String, Value>) -> Map<String, Value> {
    map.iter()
        .filter(|(key, _)| !is_directive(key))
        .filter_map(|(key, value)| clean(value).map(|v| (key.clone(), v)))
        .collect()
}

fn clean_list(list: &[Value]) -> Vec<Value> {
    list.iter()
        .filter_map(|v| if v.is_null() { Some(Value::Null) } else { clean(v) })
        .collect()
}
