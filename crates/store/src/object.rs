//! A stored object: its JSON text, encoded once, and its parsed form while somebody uses it.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, LazyLock, Weak},
};

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value;

use crate::{Key, WriteError};

/// Text whose parsed values are kept for reuse, in bytes, over all stores of the process. The text is what is kept for good: it is
/// a fraction of the parsed form's size.
const PARSED_KEPT: usize = 1 << 20;

/// Values of longer texts are not kept: a few of them (definitions of kinds, as a rule, which are read once) would take the place
/// of hundreds, and they make the most garbage.
const PARSED_LARGEST: usize = 32 << 10;

static PARSED: LazyLock<Mutex<Parsed>> = LazyLock::new(Mutex::default);

/// The parsed values that were used last, with the sizes of their texts.
#[derive(Default)]
struct Parsed {
    values: VecDeque<(usize, Arc<Value>)>,
    size: usize,
}

impl Parsed {
    /// Keeps a value, and gives those that have to go for it.
    fn keep(&mut self, size: usize, value: Arc<Value>) -> Vec<Arc<Value>> {
        self.values.push_back((size, value));
        self.size += size;
        let mut dropped = Vec::new();
        while self.size > PARSED_KEPT
            && let Some((size, value)) = self.values.pop_front()
        {
            self.size -= size;
            dropped.push(value);
        }
        dropped
    }
}

/// One version of an object. Immutable.
///
/// Text and value both carry `metadata.resourceVersion`, which the store sets to the object's revision.
pub struct Object {
    key: Key,
    revision: u64,
    created: u64,
    json: Bytes,
    version_at: u32,
    parsed: Mutex<Weak<Value>>,
}

impl Object {
    /// Resource, namespace and name.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Revision of the write that made this version.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Revision of the write that created the object.
    pub fn created(&self) -> u64 {
        self.created
    }

    /// The object as JSON text without white space, keys sorted, with `metadata.resourceVersion`. Encoded once, when it
    /// was written; the bytes are shared by all readers and watchers.
    pub fn json(&self) -> &Bytes {
        &self.json
    }

    /// The object as a JSON value, with `metadata.resourceVersion`. Recently used values are shared, others are parsed.
    pub fn value(&self) -> Arc<Value> {
        if let Some(value) = self.parsed.lock().upgrade() {
            return value;
        }
        // The text is our own encoder's and its checksum was compared when it was read from disk.
        let value = serde_json::from_slice(&self.json).unwrap_or_else(|error| {
            tracing::error!(key = %self.key, %error, "stored object is not JSON");
            Value::Null
        });
        let value = Arc::new(value);
        self.keep(&value);
        value
    }

    /// `metadata` alone, of a value that is at hand or read from the text: to list what large objects are called must not bring
    /// all of them into memory.
    pub fn metadata(&self) -> Value {
        #[derive(serde::Deserialize)]
        struct Only {
            #[serde(default)]
            metadata: Value,
        }
        if let Some(value) = self.parsed.lock().upgrade() {
            return value["metadata"].clone();
        }
        let read = serde_json::from_slice::<Only>(&self.json);
        read.map_or_else(|_| self.value()["metadata"].clone(), |only| only.metadata)
    }

    fn keep(&self, value: &Arc<Value>) {
        *self.parsed.lock() = Arc::downgrade(value);
        if self.json.len() > PARSED_LARGEST {
            return;
        }
        let dropped = PARSED.lock().keep(self.json.len(), Arc::clone(value));
        // Freed outside the lock: a value may be large.
        drop(dropped);
    }

    /// Size of what is kept in memory for this version, roughly.
    pub(crate) fn size(&self) -> usize {
        self.json.len() + 200
    }

    /// Where the digits of the resource version start in the text.
    pub(crate) fn version_at(&self) -> u32 {
        self.version_at
    }

    /// An object read from disk.
    pub(crate) fn load(key: Key, revision: u64, created: u64, version_at: u32, json: Bytes) -> Self {
        Self {
            key,
            revision,
            created,
            json,
            version_at,
            parsed: Mutex::new(Weak::new()),
        }
    }

    /// The same object at another revision; what a deletion publishes.
    pub(crate) fn at_revision(&self, revision: u64) -> Self {
        let at = self.version_at as usize;
        let old = digits(self.revision);
        let mut json = Vec::with_capacity(self.json.len() + 20);
        json.extend_from_slice(&self.json[..at]);
        json.extend_from_slice(revision.to_string().as_bytes());
        json.extend_from_slice(&self.json[at + old..]);
        Self::load(
            self.key.clone(),
            revision,
            self.created,
            self.version_at,
            json.into(),
        )
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.key, self.revision)
    }
}

fn digits(number: u64) -> usize {
    number.checked_ilog10().unwrap_or(0) as usize + 1
}

/// As many lists and objects within each other are read again.
const DEEPEST: usize = 127;

fn is_deeper_than(value: &Value, levels: usize) -> bool {
    match value {
        Value::Object(map) => levels == 0 || map.values().any(|value| is_deeper_than(value, levels - 1)),
        Value::Array(items) => levels == 0 || items.iter().any(|value| is_deeper_than(value, levels - 1)),
        _ => false,
    }
}

/// A value that is ready to be written but for its revision. Made in the caller's task, so that the writer thread only copies.
pub(crate) struct Encoded {
    /// The parsed form, if somebody is likely to want it soon.
    value: Option<Value>,
    text: Vec<u8>,
    version_at: usize,
}

impl Encoded {
    pub(crate) fn new(mut value: Value) -> Result<Self, WriteError> {
        let Value::Object(top) = &mut value else {
            return Err(WriteError::Invalid("it is not a JSON object".into()));
        };
        let metadata = top
            .entry("metadata")
            .or_insert_with(|| Value::Object(serde_json::Map::new()));
        let Value::Object(metadata) = metadata else {
            return Err(WriteError::Invalid("metadata is not a JSON object".into()));
        };
        metadata.insert("resourceVersion".into(), Value::String(String::new()));

        let mut text = Vec::with_capacity(1024);
        let mut version_at = 0;
        encode_map(&mut text, top, |text, key, value| match value {
            Value::Object(metadata) if key == "metadata" => encode_map(text, metadata, |text, key, value| {
                if key == "resourceVersion" {
                    version_at = text.len() + 1;
                }
                encode(text, value)
            }),
            _ => encode(text, value),
        })?;
        if u32::try_from(text.len()).is_err() {
            return Err(WriteError::Invalid("it is larger than 4 GiB".into()));
        }
        // What could not be read again must not be written.
        if is_deeper_than(&value, DEEPEST) {
            return Err(WriteError::Invalid(format!(
                "it is nested more than {DEEPEST} levels deep, its managed fields included"
            )));
        }
        Ok(Self {
            value: Some(value),
            text,
            version_at,
        })
    }

    /// Without the parsed form, which ends here, in the thread that made it: that is much cheaper than to have another thread
    /// drop it later. For new objects: most of what reads them reads the text.
    pub(crate) fn text_only(mut self) -> Self {
        self.value = None;
        self
    }

    pub(crate) fn finish(self, key: Key, revision: u64, created: Option<u64>) -> Object {
        let Self {
            value,
            text,
            version_at,
        } = self;
        let number = revision.to_string();
        let mut json = Vec::with_capacity(text.len() + number.len());
        json.extend_from_slice(&text[..version_at]);
        json.extend_from_slice(number.as_bytes());
        json.extend_from_slice(&text[version_at..]);
        let object = Object::load(
            key,
            revision,
            created.unwrap_or(revision),
            version_at as u32,
            json.into(),
        );
        if let Some(mut value) = value {
            if let Some(Value::Object(metadata)) = value.get_mut("metadata") {
                metadata.insert("resourceVersion".into(), Value::String(number));
            }
            object.keep(&Arc::new(value));
        }
        object
    }
}

fn encode(text: &mut Vec<u8>, value: &Value) -> Result<(), WriteError> {
    serde_json::to_writer(text, value).map_err(|error| WriteError::Invalid(error.to_string()))
}

fn encode_map(
    text: &mut Vec<u8>,
    map: &serde_json::Map<String, Value>,
    mut member: impl FnMut(&mut Vec<u8>, &str, &Value) -> Result<(), WriteError>,
) -> Result<(), WriteError> {
    text.push(b'{');
    for (nth, (key, value)) in map.iter().enumerate() {
        if nth > 0 {
            text.push(b',');
        }
        serde_json::to_writer(&mut *text, key).map_err(|error| WriteError::Invalid(error.to_string()))?;
        text.push(b':');
        member(text, key, value)?;
    }
    text.push(b'}');
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn text_and_value_carry_the_revision() {
        for value in [
            json!({}),
            json!({"metadata": {}}),
            json!({"metadata": {"name": "a\"b", "uid": "z"}, "spec": {"metadata": {"resourceVersion": "x"}}}),
            json!({"apiVersion": "v1", "metadata": {"annotations": {"a": "\u{1F600}"}, "resourceVersion": "99"}}),
        ] {
            let mut expected = value.clone();
            expected["metadata"]["resourceVersion"] = "1234".into();
            let object = Encoded::new(value)
                .unwrap()
                .finish(Key::new("r", "", "n"), 1234, None);
            assert_eq!(*object.value(), expected);
            assert_eq!(object.json(), &serde_json::to_vec(&expected).unwrap());

            let later = object.at_revision(7);
            expected["metadata"]["resourceVersion"] = "7".into();
            assert_eq!(later.json(), &serde_json::to_vec(&expected).unwrap());
            assert_eq!(*later.value(), expected);

            // Whether somebody uses the parsed form or there is only the text.
            let loaded = Object::load(
                Key::new("r", "", "n"),
                7,
                1,
                later.version_at(),
                later.json().clone(),
            );
            for object in [&later, &loaded] {
                assert_eq!(object.metadata(), expected["metadata"]);
            }
        }
    }

    #[test]
    fn what_is_kept_parsed_is_bounded_by_its_text() {
        let mut parsed = Parsed::default();
        let value = |n: u64| Arc::new(json!(n));
        for n in 0..4 {
            assert!(parsed.keep(PARSED_KEPT / 4, value(n)).is_empty());
        }
        assert_eq!(parsed.keep(1, value(4)), [value(0)]);
        assert_eq!(
            parsed.keep(PARSED_KEPT, value(5)),
            [value(1), value(2), value(3), value(4)]
        );
        // One that is larger than all that may be kept is not kept.
        assert_eq!(parsed.keep(PARSED_KEPT + 1, value(6)), [value(5), value(6)]);
        assert_eq!(parsed.size, 0);
    }

    #[test]
    fn only_objects_can_be_stored() {
        for value in [json!(1), json!([]), json!({"metadata": []}), json!(null)] {
            assert!(matches!(Encoded::new(value), Err(WriteError::Invalid(_))));
        }
    }

    #[test]
    fn what_is_written_can_be_read_again() {
        // Two levels are the object and its `spec`.
        let nested = |levels: usize| {
            let inner = (0..levels - 2).fold(json!(1), |inner, n| match n % 2 {
                0 => json!([inner]),
                _ => json!({"a": inner}),
            });
            json!({"metadata": {"name": "a"}, "spec": {"deep": inner}})
        };
        let deepest = Encoded::new(nested(DEEPEST)).unwrap();
        assert!(serde_json::from_slice::<Value>(&deepest.text).is_ok());
        let refused = Encoded::new(nested(DEEPEST + 1)).err().unwrap();
        assert!(
            refused.to_string().contains("nested more than 127 levels"),
            "{refused}"
        );
    }

    #[test]
    fn digits_of_revisions() {
        for number in [1, 9, 10, 99, 100, u64::MAX] {
            assert_eq!(digits(number), number.to_string().len());
        }
    }
}
