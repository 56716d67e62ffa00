//! Manifest files: the documents in them, and where in the file each field stands.
//!
//! Everything that reads manifests reads them here, so that every error can name file, line and column.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{Location, Spanned};

/// A place in a file. Lines and columns count from 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Name of the file, as it was given; `-` for the standard input.
    pub file: String,
    /// Line.
    pub line: u64,
    /// Column.
    pub column: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// A file that cannot be read as YAML or JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{position}: this is no YAML: {message}")]
pub struct SyntaxError {
    /// Where reading ended.
    pub position: Position,
    /// What was found there.
    pub message: String,
}

/// One document of a file.
#[derive(Clone, Debug)]
pub struct Document {
    file: String,
    value: Value,
    root: Spanned<Node>,
}

impl Document {
    /// The content.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The content, without its places.
    pub fn into_value(self) -> Value {
        self.value
    }

    /// Name of the file.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Line of the document's first field.
    pub fn line(&self) -> u64 {
        self.start().line()
    }

    fn start(&self) -> Location {
        match &self.root.value {
            Node::Map(fields) => fields
                .first()
                .map_or(self.root.referenced, |(key, _)| key.referenced),
            _ => self.root.referenced,
        }
    }

    /// Where a field stands, for instance `spec.endpoints[api].port` or `spec.files[0].path`.
    ///
    /// For a field that is not there, the innermost part of the path that is.
    pub fn position(&self, path: &str) -> Position {
        let mut found = self.start();
        let mut node = &self.root.value;
        let mut rest = path.trim_start_matches('.');
        while let Some((location, child, tail)) = node.step(rest) {
            found = location;
            node = child;
            rest = tail;
        }
        Position {
            file: self.file.clone(),
            line: found.line(),
            column: found.column(),
        }
    }
}

/// Most documents that one file may have.
pub const MAX_DOCUMENTS: usize = 100_000;

/// The documents of a file, in order. Empty ones are left out.
///
/// # Errors
///
/// The first place that is not valid YAML. JSON is read as well, since it is YAML.
pub fn read(file: &str, text: &str) -> Result<Vec<Document>, SyntaxError> {
    // The parser's bounds against hostile input hold, but for the size of what is merely large.
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: MAX_DOCUMENTS,
            max_events: 20_000_000,
            max_nodes: 10_000_000,
        },
    };
    let documents: Vec<Spanned<Node>> =
        serde_saphyr::from_multiple_with_options(text, options).map_err(|error| {
            let (line, column) = error
                .location()
                .map_or((1, 1), |location| (location.line(), location.column()));
            SyntaxError {
                position: Position {
                    file: file.to_owned(),
                    line,
                    column,
                },
                message: first_line(&error),
            }
        })?;
    Ok(documents
        .into_iter()
        .filter(|root| root.value != Node::Null)
        .map(|root| Document {
            file: file.to_owned(),
            value: root.value.to_value(),
            root,
        })
        .collect())
}

/// The message of an error, without the excerpt and the position, which are shown otherwise.
fn first_line(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let line = text.lines().next().unwrap_or_default();
    line.split(" at line ")
        .next()
        .unwrap_or(line)
        .trim_start_matches("error: ")
        .to_owned()
}

/// A value whose parts know where they stand.
#[derive(Clone, Debug, PartialEq)]
enum Node {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Spanned<Node>>),
    Map(Vec<(Spanned<String>, Spanned<Node>)>),
}

impl Node {
    fn to_value(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Number(number) => Value::Number(number.clone()),
            Self::Text(text) => Value::String(text.clone()),
            Self::List(items) => items.iter().map(|item| item.value.to_value()).collect(),
            Self::Map(fields) => Value::Object(
                fields
                    .iter()
                    .map(|(key, value)| (key.value.clone(), value.value.to_value()))
                    .collect::<Map<_, _>>(),
            ),
        }
    }

    /// Takes one step along a path: where the next part stands, the part, and the rest of the path.
    fn step<'a, 'p>(&'a self, path: &'p str) -> Option<(Location, &'a Node, &'p str)> {
        let path = path.strip_prefix('.').unwrap_or(path);
        if path.is_empty() {
            return None;
        }
        let bracketed = path.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        match self {
            Self::List(items) => {
                let (inside, rest) = bracketed?;
                let item = items.get(inside.parse::<usize>().ok()?)?;
                Some((item.referenced, &item.value, rest))
            }
            Self::Map(fields) => {
                let field = |key: &str| fields.iter().find(|(name, _)| name.value == key);
                let (found, rest) = match bracketed {
                    Some((inside, rest)) => (field(inside.trim_matches(['"', '\'']))?, rest),
                    None => ends(path).find_map(|(key, rest)| Some((field(key)?, rest)))?,
                };
                Some((found.0.referenced, &found.1.value, rest))
            }
            _ => None,
        }
    }
}

/// The ways to cut a path into a key and the rest, longest key first: a key may itself have dots.
fn ends(path: &str) -> impl Iterator<Item = (&str, &str)> {
    let whole = std::iter::once(path.len());
    let inner = path
        .char_indices()
        .rev()
        .filter(|(_, c)| matches!(c, '.' | '['))
        .map(|(index, _)| index);
    whole
        .chain(inner)
        .filter_map(|index| Some((path.get(..index)?, path.get(index..)?)))
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        // JSON has no infinities: they stay what they were written as.
        Ok(Number::from_f64(value).map_or_else(|| Node::Text(value.to_string()), Node::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some(field) = fields.next_entry()? {
            map.push(field);
        }
        Ok(Node::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_may_have_thousands_of_documents() {
        let text = "kind: ConfigMap\n---\n".repeat(5_000);
        assert_eq!(read("many.yaml", &text).unwrap().len(), 5_000);
    }

    const TWO: &str = "\
# a comment
apiVersion: v1
kind: ConfigMap
metadata:
  name: first
  labels:
    openchoreo.dev/name: x
---
---
kind: Second
spec:
  ports:
    - name: a
      number: 8080
    - name: \"b\"
  flow: {deep: [1, {x: yes}]}
";

    fn at(document: &Document, path: &str) -> (u64, u64) {
        let position = document.position(path);
        (position.line, position.column)
    }

    #[test]
    fn documents_know_where_they_begin() {
        let documents = read("app.yaml", TWO).unwrap();
        assert_eq!(documents.iter().map(Document::line).collect::<Vec<_>>(), [2, 10]);
        assert_eq!(documents[1].value()["spec"]["ports"][0]["number"], 8080);
        assert_eq!(documents[1].value()["spec"]["ports"][1]["name"], "b");
    }

    #[test]
    fn fields_know_where_they_stand() {
        let documents = read("app.yaml", TWO).unwrap();
        assert_eq!(at(&documents[0], "metadata.name"), (5, 3));
        assert_eq!(at(&documents[0], "metadata.labels[openchoreo.dev/name]"), (7, 5));
        assert_eq!(at(&documents[0], "metadata.labels.openchoreo.dev/name"), (7, 5));
        assert_eq!(at(&documents[1], "spec.ports[0].number"), (14, 7));
        assert_eq!(at(&documents[1], "spec.flow.deep[1].x"), (16, 21));
        assert_eq!(documents[1].position("spec.ports[1]").line, 15);
    }

    #[test]
    fn a_missing_field_stands_where_its_parent_does() {
        let documents = read("app.yaml", TWO).unwrap();
        assert_eq!(at(&documents[1], "spec.owner.projectName"), (11, 1));
        assert_eq!(at(&documents[1], ""), (10, 1));
        assert_eq!(documents[1].position("spec").to_string(), "app.yaml:11:1");
    }

    #[test]
    fn bad_yaml_has_a_place_and_a_reason() {
        let error = read("x.yaml", "a: 1\nb: [1, 2\nc: {").unwrap_err();
        assert!(error.position.line >= 2, "{error}");
        assert!(error.to_string().starts_with("x.yaml:"), "{error}");
    }

    #[test]
    fn json_is_read_too() {
        let documents = read("x.json", "{\"kind\": \"A\", \"n\": [1, 2.5, null, true]}").unwrap();
        assert_eq!(
            documents[0].value(),
            &serde_json::json!({"kind": "A", "n": [1, 2.5, null, true]})
        );
    }

    #[test]
    fn duplicate_keys_are_refused() {
        assert!(read("x.yaml", "a: 1\na: 2\n").is_err());
    }
}
