//! The name of an object within a logical cluster.

use std::{borrow::Borrow, cmp::Ordering, fmt, hash, sync::Arc};

/// Separates the parts of a key; sorts before every character that a part may have.
const SEPARATOR: char = '\0';

/// Names one object of a logical cluster: resource, namespace, name. Keys sort in that order.
///
/// Cloning a key copies a pointer.
#[derive(Clone)]
pub struct Key {
    text: Arc<str>,
    namespace_at: u32,
    name_at: u32,
}

impl Key {
    /// The key of object `name` of `resource`, which is the plural with its group (`apps/deployments`, `pods`).
    /// `namespace` is empty for an object of cluster scope.
    ///
    /// A NUL character, which no valid name has, is replaced, so that such a key finds nothing.
    pub fn new(resource: &str, namespace: &str, name: &str) -> Self {
        let mut text = String::with_capacity(resource.len() + namespace.len() + name.len() + 2);
        push_part(&mut text, resource);
        text.push(SEPARATOR);
        let namespace_at = text.len() as u32;
        push_part(&mut text, namespace);
        text.push(SEPARATOR);
        let name_at = text.len() as u32;
        push_part(&mut text, name);
        Self {
            text: text.into(),
            namespace_at,
            name_at,
        }
    }

    /// Reads back what [`Key::as_str`] gave. `None` when it has not three parts.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut ends = text
            .char_indices()
            .filter(|(_, c)| *c == SEPARATOR)
            .map(|(at, _)| at as u32 + 1);
        let (namespace_at, name_at) = (ends.next()?, ends.next()?);
        ends.next().is_none().then(|| Self {
            text: text.into(),
            namespace_at,
            name_at,
        })
    }

    /// Plural with group, such as `apps/deployments`.
    pub fn resource(&self) -> &str {
        &self.text[..self.namespace_at as usize - 1]
    }

    /// Namespace; empty for cluster scope.
    pub fn namespace(&self) -> &str {
        &self.text[self.namespace_at as usize..self.name_at as usize - 1]
    }

    /// Name within resource and namespace.
    pub fn name(&self) -> &str {
        &self.text[self.name_at as usize..]
    }

    /// The whole key as one string, parts separated by NUL; sorts as the key does.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}

fn push_part(text: &mut String, part: &str) {
    if part.contains(SEPARATOR) {
        text.extend(part.chars().map(|c| {
            if c == SEPARATOR {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        }));
    } else {
        text.push_str(part);
    }
}

/// First and end (exclusive) of all keys of `resource`, in `namespace` if there is one.
pub(crate) fn range_of(resource: &str, namespace: Option<&str>) -> (String, String) {
    let mut from = String::with_capacity(resource.len() + namespace.map_or(0, str::len) + 2);
    push_part(&mut from, resource);
    if let Some(namespace) = namespace {
        from.push(SEPARATOR);
        push_part(&mut from, namespace);
    }
    let mut to = from.clone();
    from.push(SEPARATOR);
    to.push('\u{1}');
    (from, to)
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.text
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Key {}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.text.cmp(&other.text)
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl hash::Hash for Key {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace() {
            "" => write!(f, "{} {}", self.resource(), self.name()),
            namespace => write!(f, "{} {namespace}/{}", self.resource(), self.name()),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorts_by_resource_then_namespace_then_name() {
        let mut keys = [
            Key::new("pods", "b", "a"),
            Key::new("pods", "a-b", "a"),
            Key::new("pods", "a", "z"),
            Key::new("pods", "a", "b"),
            Key::new("pods-x", "", "a"),
            Key::new("apps/deployments", "z", "z"),
            Key::new("pods", "", "z"),
        ];
        keys.sort();
        let mut tuples: Vec<_> = keys
            .iter()
            .map(|k| (k.resource(), k.namespace(), k.name()))
            .collect();
        let shown = tuples.clone();
        tuples.sort();
        assert_eq!(shown, tuples);
    }

    #[test]
    fn parts_come_back() {
        let key = Key::new("apps/deployments", "shop", "cart");
        assert_eq!(Key::parse(key.as_str()), Some(key.clone()));
        assert_eq!(
            (key.resource(), key.namespace(), key.name()),
            ("apps/deployments", "shop", "cart")
        );
        assert_eq!(Key::parse("a\0b"), None);
        assert_eq!(Key::parse("a\0b\0c\0d"), None);
    }

    #[test]
    fn a_nul_cannot_shift_the_parts() {
        let key = Key::new("pods", "a\0b", "c");
        assert_eq!(key.name(), "c");
        assert_ne!(key, Key::new("pods", "a", "b\0c"));
    }
}
