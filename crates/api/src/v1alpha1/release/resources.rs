//! The objects of a release, which are most of it: as trees of JSON, or as text that nobody has read yet.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::ReleaseResource;

/// The objects of a release, in the order in which they are applied.
#[derive(Clone, Debug)]
pub struct ReleaseResources(Form);

#[derive(Clone, Debug)]
enum Form {
    Open(Vec<ReleaseResource>),
    Unread(Box<str>),
}

/// Why the objects of a release cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum ResourcesError {
    /// They are not of the form that a release's objects have.
    #[error("spec.resources is no list of objects with ids: {0}")]
    Malformed(#[from] serde_json::Error),
}

impl ReleaseResources {
    /// Takes the text of what a release has in its field `resources`, without reading it. Members are sorted and there is no white
    /// space, as `serde_json` writes a value.
    pub fn unread(resources: impl Into<Box<str>>) -> Self {
        Self(Form::Unread(resources.into()))
    }

    /// The objects.
    ///
    /// # Errors
    /// When they were not read before and are not what a release's objects look like.
    pub fn open(&self) -> Result<Cow<'_, [ReleaseResource]>, ResourcesError> {
        match &self.0 {
            Form::Open(all) => Ok(Cow::Borrowed(all)),
            Form::Unread(text) => Ok(Cow::Owned(serde_json::from_str(text)?)),
        }
    }

    /// Whether they are exactly these. What cannot be read is not.
    pub fn are(&self, wanted: &[ReleaseResource]) -> bool {
        match &self.0 {
            Form::Open(all) => all == wanted,
            // Members of trees are sorted: what is equal reads equal.
            Form::Unread(text) => serde_json::to_vec(wanted).is_ok_and(|wanted| wanted == text.as_bytes()),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.open().is_ok_and(|all| all.is_empty())
    }
}

impl Default for ReleaseResources {
    fn default() -> Self {
        Vec::new().into()
    }
}

impl From<Vec<ReleaseResource>> for ReleaseResources {
    fn from(all: Vec<ReleaseResource>) -> Self {
        Self(Form::Open(all))
    }
}

impl PartialEq for ReleaseResources {
    fn eq(&self, other: &Self) -> bool {
        other.open().is_ok_and(|other| self.are(&other))
    }
}

impl Serialize for ReleaseResources {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let all = self.open().map_err(serde::ser::Error::custom)?;
        all.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ReleaseResources {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(|all| Self(Form::Open(all)))
    }
}

impl JsonSchema for ReleaseResources {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        Vec::<ReleaseResource>::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Vec::<ReleaseResource>::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn unread_and_open_say_the_same() {
        let value = json!([
            {"id": "a", "object": {"kind": "B", "apiVersion": "v1", "spec": {"z": 1.5, "a": [null, "\u{1F600}"]}}},
            {"id": "b", "object": {}},
        ]);
        let open: ReleaseResources = serde_json::from_value(value.clone()).unwrap();
        let unread = ReleaseResources::unread(value.to_string());
        assert_eq!(unread, open);
        assert_eq!(open, unread);
        assert_eq!(serde_json::to_value(&unread).unwrap(), value);
        let mut other = open.open().unwrap().into_owned();
        other[0].object["spec"]["z"] = json!(2);
        assert!(!unread.are(&other) && !open.are(&other));
        assert!(!unread.is_empty() && ReleaseResources::unread("[]").is_empty());
    }

    #[test]
    fn what_are_no_objects_is_an_error_and_not_nothing() {
        let odd = ReleaseResources::unread(r#"[{"name":"a"}]"#);
        assert!(!odd.is_empty() && !odd.are(&[]));
        let error = odd.open().unwrap_err().to_string();
        assert!(
            error.starts_with("spec.resources is no list of objects with ids: missing field `id`"),
            "{error}"
        );
    }
}
