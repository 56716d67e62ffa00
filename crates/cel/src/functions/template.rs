//! Functions for templates, beyond those of Kubernetes.

use std::collections::BTreeMap;
use std::rc::Rc;

use sha2::{Digest as _, Sha256};

use super::{Cost, Function, Result, global, items, text};
use crate::error::EvalError;
use crate::value::{Key, Val};

/// Longest DNS label (RFC 1123).
const LABEL: usize = 63;
/// Digits of a hash: enough to tell objects of one component apart.
const HASH: usize = 8;

pub(super) const FUNCTIONS: &[Function] = &[
    global("merge", 2, "map", |cost, args| merge(cost, &args[0], &args[1])),
    global("hash", 1, "string", |cost, args| {
        let json = json(cost, &args[0])?;
        Ok(Val::string(hash(&json)))
    }),
    global("dnsLabel", 1, "string", dns_label),
    global("toJson", 1, "string", |cost, args| {
        Ok(Val::string(json(cost, &args[0])?))
    }),
];

/// The value's canonical JSON: keys sorted, no white space.
fn json(cost: &mut Cost, value: &Val<'_>) -> Result<String> {
    Ok(value.to_json_within(cost)?.to_string())
}

fn hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let mut out: String = digest.iter().map(|b| format!("{b:02x}")).collect();
    out.truncate(HASH);
    out
}

/// Both maps in one. What both have is merged if it is maps, else the second's is taken.
fn merge<'a>(cost: &mut Cost, a: &Val<'a>, b: &Val<'a>) -> Result<Val<'a>> {
    cost.charge(a.weight().saturating_add(b.weight()))?;
    let mut out: BTreeMap<Key, Val<'a>> = BTreeMap::new();
    for (key, value) in entries(a)? {
        out.insert(Key::of(&key)?, value);
    }
    for (key, value) in entries(b)? {
        let key = Key::of(&key)?;
        let merged = match out.get(&key) {
            Some(old) if is_map(old) && is_map(&value) => merge(cost, old, &value)?,
            _ => value,
        };
        out.insert(key, merged);
    }
    Ok(Val::Map(Rc::new(out)))
}

fn is_map(value: &Val<'_>) -> bool {
    matches!(value, Val::JsonMap(_) | Val::Map(_))
}

fn entries<'a>(value: &Val<'a>) -> Result<Vec<(Val<'a>, Val<'a>)>> {
    if is_map(value) {
        Ok(value.entries())
    } else {
        Err(EvalError::no_such_overload())
    }
}

/// Texts joined to a DNS label: lower case, other characters as `-`, and a hash at the end if that is not what was given.
fn dns_label<'a>(cost: &mut Cost, args: &[Val<'a>]) -> Result<Val<'a>> {
    let mut parts = Vec::new();
    for item in items(cost, &args[0])? {
        cost.charge(item.weight())?;
        parts.push(text(&item)?.to_owned());
    }
    let joined = parts.join("-");
    let cleaned: String = joined
        .chars()
        .map(|c| match c.to_ascii_lowercase() {
            c if c.is_ascii_lowercase() || c.is_ascii_digit() => c,
            _ => '-',
        })
        .collect();
    let cleaned = cleaned.trim_matches('-');
    // The parts are hashed and not their join: ["a-b", "c"] and ["a", "b-c"] are two things.
    if cleaned == joined && cleaned.len() <= LABEL && !cleaned.is_empty() {
        return Ok(Val::string(cleaned));
    }
    let kept: String = cleaned.chars().take(LABEL - HASH - 1).collect();
    let kept = kept.trim_end_matches('-');
    let digits = hash(&parts.join("\0"));
    Ok(Val::string(if kept.is_empty() {
        format!("x-{digits}")
    } else {
        format!("{kept}-{digits}")
    }))
}
