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

use std::fmt::Write as _;

use compact_str::{CompactString, ToCompactString as _, format_compact};
use serde_json::{Map, Value};

/// A step of a path, in its published spelling. Nearly all are so short that they need no memory of their own.
pub(super) type Step = CompactString;

/// A set of paths: whether the path up to here is in it, and the paths below.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    /// Whether the path that leads here is in the set.
    pub member: bool,
    /// Longer paths, by their next step.
    pub below: Below,
}

/// Sets by their next step, in the order of the steps.
///
/// Sets are small, mostly made in order and copied often: a sorted list takes one piece of memory where a map takes several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Below(Vec<(Step, Set)>);

impl Below {
    fn position(&self, step: &str) -> Result<usize, usize> {
        // What comes last is asked for first: sets are made from what is sorted.
        match self.0.last() {
            Some((last, _)) if last.as_str() < step => Err(self.0.len()),
            None => Err(0),
            _ => self.0.binary_search_by(|(found, _)| found.as_str().cmp(step)),
        }
    }

    /// What is below a step.
    #[must_use]
    pub fn get(&self, step: &str) -> Option<&Set> {
        let at = self.position(step).ok()?;
        self.0.get(at).map(|(_, set)| set)
    }

    /// Puts a set below a step, in the place of what was there.
    pub fn insert(&mut self, step: Step, set: Set) {
        match self.position(&step) {
            Ok(at) => {
                if let Some((_, found)) = self.0.get_mut(at) {
                    *found = set;
                }
            }
            Err(at) => self.0.insert(at, (step, set)),
        }
    }

    /// Whether there is no step.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every step with what is below it, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Step, &Set)> {
        self.0.iter().map(|(step, set)| (step, set))
    }

    /// As [`Below::iter`], to change what is below.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&Step, &mut Set)> {
        self.0.iter_mut().map(|(step, set)| (&*step, set))
    }

    fn entry(&mut self, step: Step) -> &mut Set {
        let at = match self.position(&step) {
            Ok(at) => at,
            Err(at) => {
                self.0.insert(at, (step, Set::default()));
                at
            }
        };
        &mut self.0[at].1
    }
}

impl Set {
    /// The set of nothing but the path that leads here.
    #[must_use]
    pub fn leaf() -> Self {
        Set {
            member: true,
            below: Below::default(),
        }
    }

    /// The set of the given paths of field names.
    #[must_use]
    pub fn of_fields(paths: &[&[&str]]) -> Self {
        let mut set = Set::default();
        for path in paths {
            let mut at = &mut set;
            for name in *path {
                at = at.below.entry(field(name));
            }
            at.member = true;
        }
        set
    }

    /// Whether no path is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.member && self.below.iter().all(|(_, below)| below.is_empty())
    }

    /// Whether nothing was ever put here. Quicker than [`Set::is_empty`], and the same for sets without empty parts.
    fn is_bare(&self) -> bool {
        !self.member && self.below.is_empty()
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
    pub fn attach(&mut self, step: Step, below: Set) {
        if !below.is_bare() {
            self.below.entry(step).add(below);
        }
    }

    /// Adds all paths of `other`.
    pub fn add(&mut self, other: Set) {
        self.member |= other.member;
        if self.below.is_empty() {
            self.below = other.below;
            return;
        }
        for (step, below) in other.below.0 {
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

    /// Takes the paths of `other` out.
    pub fn subtract(&mut self, other: &Set) {
        self.member &= !other.member;
        if other.below.is_empty() {
            return;
        }
        self.below
            .0
            .retain_mut(|(step, below)| match other.below.get(step) {
                Some(other) => {
                    below.subtract(other);
                    !below.is_bare()
                }
                None => true,
            });
    }

    /// Paths of this set that are not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Set) -> Set {
        let mut rest = self.clone();
        rest.subtract(other);
        rest
    }

    /// Paths in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Set) -> Set {
        let mut both = Set {
            member: self.member && other.member,
            below: Below::default(),
        };
        for (step, below) in self.below.iter() {
            if let Some(other) = other.below.get(step) {
                let below = below.intersection(other);
                if !below.is_bare() {
                    both.below.0.push((step.clone(), below));
                }
            }
        }
        both
    }

    /// Takes out the paths that begin with a path of `prefixes`.
    pub fn remove_prefixes(&mut self, prefixes: &Set) {
        if prefixes.member {
            *self = Set::default();
            return;
        }
        if prefixes.below.is_empty() {
            return;
        }
        self.below
            .0
            .retain_mut(|(step, below)| match prefixes.below.get(step) {
                Some(prefixes) => {
                    below.remove_prefixes(prefixes);
                    !below.is_bare()
                }
                None => true,
            });
    }

    /// Every path of the set as text (`.spec.ports[port=80,protocol="TCP"]`), those of one level before those below it.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        fn collect(set: &Set, path: &str, into: &mut Vec<String>) {
            let mut texts = Vec::new();
            for (step, below) in set.below.iter() {
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
        for (step, below) in self.below.iter() {
            fields.insert(step.to_string(), below.to_fields());
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
                below: Below::default(),
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
pub(super) fn field(name: &str) -> Step {
    let mut step = Step::with_capacity(name.len() + 2);
    step.push_str("f:");
    step.push_str(name);
    step
}

/// The step to the element of a keyed list, from its keys in the order of their names.
#[must_use]
pub(super) fn key<'k>(keys: impl IntoIterator<Item = (&'k str, &'k Value)>) -> Step {
    let mut step = Step::with_capacity(32);
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
pub(super) fn value(value: &Value) -> Step {
    format_compact!("v:{value}")
}

/// The one spelling of a step that a client may have written in several.
fn normalize(step: &str) -> Result<Step, String> {
    let malformed = || format!("malformed step {step:?} in a set of fields");
    match step.split_once(':') {
        Some(("f", _)) => Ok(step.to_compact_string()),
        Some(("i", index)) => index
            .parse::<i64>()
            .map(|_| step.to_compact_string())
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
