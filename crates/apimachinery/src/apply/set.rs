//! Sets of field paths and their published form, `FieldsV1`.
//!
//! A set is a trie. Steps are kept in their published spelling, so reading and writing a set is a walk over JSON:
//!
//! | Step | Meaning |
//! | --- | --- |
//! | `f:replicas` | the field of a struct or the key of a map |
//! | `k:{"name":"app"}` | the element of a keyed list |
//! | `v:"finalizer"` | the element of a list that is a set |
//! | `i:0` | the element at a position (never produced) |
//! | `.` | the path itself is in the set, too |

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt::Write as _,
};

use serde_json::{Map, Value};

/// A set of paths: whether the path up to here is in it, and the paths below.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    /// Whether the path that leads here is in the set.
    pub member: bool,
    /// Longer paths, by their next step.
    pub below: BTreeMap<String, Set>,
}

impl Set {
    /// The set of nothing but the path that leads here.
    #[must_use]
    pub fn leaf() -> Self {
        Set {
            member: true,
            below: BTreeMap::new(),
        }
    }

    /// The set of the given paths of field names.
    #[must_use]
    pub fn of_fields(paths: &[&[&str]]) -> Self {
        let mut set = Set::default();
        for path in paths {
            let mut at = &mut set;
            for name in *path {
                at = at.below.entry(field(name)).or_default();
            }
            at.member = true;
        }
        set
    }

    /// Whether no path is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.member && self.below.values().all(Set::is_empty)
    }

    /// Whether every path of `other` is in this set.
    #[must_use]
    pub fn contains(&self, other: &Set) -> bool {
        (self.member || !other.member)
            && other
                .below
                .iter()
                .all(|(step, other)| match self.below.get(step) {
                    Some(below) => below.contains(other),
                    None => other.is_empty(),
                })
    }

    /// Adds a subset below `step`, if there is anything in it.
    pub fn attach(&mut self, step: String, below: Set) {
        if below.member || !below.below.is_empty() {
            match self.below.entry(step) {
                Entry::Vacant(entry) => {
                    entry.insert(below);
                }
                Entry::Occupied(mut entry) => entry.get_mut().add(below),
            }
        }
    }

    /// Adds all paths of `other`.
    pub fn add(&mut self, other: Set) {
        self.member |= other.member;
        for (step, below) in other.below {
            self.attach(step, below);
        }
    }

    /// Paths in either set.
    #[must_use]
    pub fn union(&self, other: &Set) -> Set {
        let mut union = self.clone();
        union.add(other.clone());
        union
    }

    /// Paths of this set that are not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Set) -> Set {
        let mut rest = Set {
            member: self.member && !other.member,
            below: BTreeMap::new(),
        };
        for (step, below) in &self.below {
            let below = match other.below.get(step) {
                Some(other) => below.difference(other),
                None => below.clone(),
            };
            rest.attach(step.clone(), below);
        }
        rest
    }

    /// Paths in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Set) -> Set {
        let mut both = Set {
            member: self.member && other.member,
            below: BTreeMap::new(),
        };
        for (step, below) in &self.below {
            if let Some(other) = other.below.get(step) {
                both.attach(step.clone(), below.intersection(other));
            }
        }
        both
    }

    /// Paths of this set that do not begin with a path of `prefixes`.
    #[must_use]
    pub fn without_prefixes(&self, prefixes: &Set) -> Set {
        if prefixes.member {
            return Set::default();
        }
        let mut rest = Set {
            member: self.member,
            below: BTreeMap::new(),
        };
        for (step, below) in &self.below {
            let below = match prefixes.below.get(step) {
                Some(prefixes) => below.without_prefixes(prefixes),
                None => below.clone(),
            };
            rest.attach(step.clone(), below);
        }
        rest
    }

    /// Every path of the set as text (`.spec.ports[port=80,protocol="TCP"]`), those of one level before those below it.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        fn collect(set: &Set, path: &str, into: &mut Vec<String>) {
            let mut texts = Vec::with_capacity(set.below.len());
            for (step, below) in &set.below {
                let text = format!("{path}{}", describe(step));
                if below.member {
                    into.push(text.clone());
                }
                texts.push((text, below));
            }
            for (text, below) in texts {
                collect(below, &text, into);
            }
        }
        let mut paths = Vec::new();
        collect(self, "", &mut paths);
        paths
    }

    /// The published form.
    #[must_use]
    pub fn to_fields(&self) -> Value {
        let mut fields = Map::new();
        if self.member && !self.below.is_empty() {
            fields.insert(".".to_owned(), Value::Object(Map::new()));
        }
        for (step, below) in &self.below {
            fields.insert(step.clone(), below.to_fields());
        }
        Value::Object(fields)
    }

    /// Reads the published form.
    ///
    /// # Errors
    /// What is malformed.
    pub fn from_fields(fields: &Value) -> Result<Set, String> {
        fn read(fields: &Value) -> Result<Set, String> {
            let fields = fields.as_object().ok_or("expected an object of fields")?;
            let mut set = Set {
                member: fields.is_empty(),
                below: BTreeMap::new(),
            };
            for (step, below) in fields {
                if step == "." {
                    set.member = true;
                } else {
                    set.attach(normalize(step)?, read(below)?);
                }
            }
            Ok(set)
        }
        let mut set = read(fields)?;
        set.member = false;
        Ok(set)
    }
}

/// The step to a field or a map key.
#[must_use]
pub(super) fn field(name: &str) -> String {
    let mut step = String::with_capacity(name.len() + 2);
    step.push_str("f:");
    step.push_str(name);
    step
}

/// The step to the element of a keyed list, from its keys in the order of their names.
#[must_use]
pub(super) fn key<'k>(keys: impl IntoIterator<Item = (&'k str, &'k Value)>) -> String {
    let mut step = String::with_capacity(32);
    step.push_str("k:{");
    for (index, (name, value)) in keys.into_iter().enumerate() {
        if index > 0 {
            step.push(',');
        }
        // Writing to a string cannot fail.
        let _ = if name.bytes().all(|b| b.is_ascii_alphanumeric()) {
            write!(step, "\"{name}\":{value}")
        } else {
            write!(step, "{}:{value}", Value::from(name))
        };
    }
    step.push('}');
    step
}

/// The step to an element of a set.
#[must_use]
pub(super) fn value(value: &Value) -> String {
    format!("v:{value}")
}

/// The one spelling of a step that a client may have written in several.
fn normalize(step: &str) -> Result<String, String> {
    let malformed = || format!("malformed step {step:?} in a set of fields");
    match step.split_once(':') {
        Some(("f", _)) => Ok(step.to_owned()),
        Some(("i", index)) => index
            .parse::<i64>()
            .map(|_| step.to_owned())
            .map_err(|_| malformed()),
        Some(("k", keys)) => serde_json::from_str::<Map<String, Value>>(keys)
            .map(|keys| key(keys.iter().map(|(name, value)| (name.as_str(), value))))
            .map_err(|_| malformed()),
        Some(("v", text)) => serde_json::from_str::<Value>(text)
            .map(|v| value(&v))
            .map_err(|_| malformed()),
        _ => Err(malformed()),
    }
}

/// A step as it stands in messages: `.replicas`, `[name="app"]`, `[="finalizer"]`, `[0]`.
#[must_use]
pub(super) fn describe(step: &str) -> String {
    match step.split_once(':') {
        Some(("f", name)) => format!(".{name}"),
        Some(("k", keys)) => {
            let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            let keys: Vec<String> = keys
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            format!("[{}]", keys.join(","))
        }
        Some(("v", value)) => format!("[={value}]"),
        Some((_, index)) => format!("[{index}]"),
        None => step.to_owned(),
    }
}
