//! Keys that a document has more than once. The last one counts; whoever asked for it is told.

use std::cell::RefCell;
use std::fmt;

use choreo_apimachinery::field::quote;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The keys that a document has more than once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repeated {
    /// Paths of members of JSON objects, in the order of the document.
    paths: Vec<String>,
    /// The first one of a YAML document, as the real server's reader says it.
    line: Option<String>,
}

impl Repeated {
    /// One of a YAML document, found at a line.
    pub(super) fn at_line(line: u64, key: &str) -> Repeated {
        Repeated {
            paths: Vec::new(),
            line: Some(format!("line {line}: key {} already set in map", quote(key))),
        }
    }

    /// Whether every key is there once.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty() && self.line.is_none()
    }

    /// What a client is warned of. Fields that are `unknown` anyway (texts about them) are not told twice.
    pub fn warnings(&self, unknown: &[String]) -> Vec<String> {
        let mut texts = Vec::new();
        texts.extend(self.line.clone());
        for path in &self.paths {
            let name = quote(path);
            if !unknown.contains(&format!("unknown field {name}")) {
                texts.push(format!("duplicate field {name}"));
            }
        }
        texts
    }

    /// What strict validation objects to.
    pub fn problems(&self, unknown: &[String]) -> Vec<String> {
        let mut texts = self.warnings(unknown);
        if let (Some(line), Some(first)) = (&self.line, texts.first_mut()) {
            *first = format!("yaml: unmarshal errors:\n  {line}");
        }
        texts
    }
}

/// Reads a JSON document and notes the keys that are there more than once.
///
/// # Errors
/// When it is no JSON.
pub(super) fn read(bytes: &[u8]) -> Result<(Value, Repeated), serde_json::Error> {
    let paths = RefCell::new(Vec::new());
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let place = Place {
        at: &At::Root,
        repeated: &paths,
    };
    let value = place.deserialize(&mut deserializer)?;
    deserializer.end()?;
    let paths = paths.into_inner();
    Ok((value, Repeated { paths, line: None }))
}

/// Where in a document; written out only for what is told.
enum At<'a> {
    Root,
    Member(&'a At<'a>, &'a str),
    Item(&'a At<'a>, usize),
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            At::Root => Ok(()),
            At::Member(At::Root, name) => f.write_str(name),
            At::Member(parent, name) => write!(f, "{parent}.{name}"),
            At::Item(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// A value to be read at a place.
#[derive(Clone, Copy)]
struct Place<'a> {
    at: &'a At<'a>,
    repeated: &'a RefCell<Vec<String>>,
}

impl<'de> DeserializeSeed<'de> for Place<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Place<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let at = At::Item(self.at, list.len());
            let place = Place { at: &at, ..self };
            match items.next_element_seed(place)? {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let at = At::Member(self.at, &name);
            let value = members.next_value_seed(Place { at: &at, ..self })?;
            if object.contains_key(&name) {
                let path = at.to_string();
                let mut repeated = self.repeated.borrow_mut();
                if !repeated.contains(&path) {
                    repeated.push(path);
                }
            }
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_ever() {
        let text = br#"{"a":[1,-2,1.5,"x\n",true,null,{}],"b":{"c":18446744073709551615}}"#;
        let (value, repeated) = read(text).unwrap();
        assert_eq!(value, serde_json::from_slice::<Value>(text).unwrap());
        assert!(repeated.is_empty());
        assert!(read(b"{} x").is_err());
        assert!(read(b"[1,").is_err());
        assert!(read("[".repeat(100_000).as_bytes()).is_err());
    }

    /// The texts are kube-apiserver 1.36's for the same documents.
    #[test]
    fn repeated_keys_are_told_by_their_path() {
        let text = br#"{"metadata":{"name":"a","name":"b"},"spec":{"list":[{},{"image":1,"image":2}]},"foo":1,"foo":2}"#;
        let (value, repeated) = read(text).unwrap();
        assert_eq!(value["metadata"]["name"], "b");
        let unknown = ["unknown field \"foo\"".to_owned()];
        assert_eq!(
            repeated.problems(&unknown),
            [
                "duplicate field \"metadata.name\"",
                "duplicate field \"spec.list[1].image\""
            ]
        );
        assert_eq!(
            Repeated::at_line(7, "x").problems(&[]),
            ["yaml: unmarshal errors:\n  line 7: key \"x\" already set in map"]
        );
    }
}
