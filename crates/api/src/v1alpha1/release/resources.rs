//! The objects of a release, which are most of it: as trees of JSON, or packed while nobody looks at them.

use std::borrow::Cow;

use choreo_packed::{Damaged, Packed, Samples};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::ReleaseResource;

/// Objects of one release read much like those of another.
static SAMPLES: Samples<()> = Samples::new();

/// The objects of a release, in the order in which they are applied.
#[derive(Clone, Debug)]
pub struct ReleaseResources(Form);

#[derive(Clone, Debug)]
enum Form {
    Open(Vec<ReleaseResource>),
    Packed(Packed),
}

/// Why the objects of a release cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum ResourcesError {
    /// They were kept and do not come back.
    #[error("the objects of the release: {0}")]
    Damaged(#[from] Damaged),
    /// They are not of the form that a release's objects have.
    #[error("spec.resources is no list of objects with ids: {0}")]
    Malformed(#[from] serde_json::Error),
}

impl ReleaseResources {
    /// Takes what a release has in its field `resources`, without reading it. `None` if it cannot be packed.
    pub fn packed(resources: &Value) -> Option<Self> {
        let text = serde_json::to_vec(resources).ok()?;
        SAMPLES.pack(&(), &text).map(|packed| Self(Form::Packed(packed)))
    }

    /// The objects.
    ///
    /// # Errors
    /// When they were packed and are not what a release's objects look like.
    pub fn open(&self) -> Result<Cow<'_, [ReleaseResource]>, ResourcesError> {
        match &self.0 {
            Form::Open(all) => Ok(Cow::Borrowed(all)),
            Form::Packed(packed) => Ok(Cow::Owned(serde_json::from_slice(&packed.text()?)?)),
        }
    }

    /// Whether they are exactly these. What cannot be read is not.
    pub fn are(&self, wanted: &[ReleaseResource]) -> bool {
        match &self.0 {
            Form::Open(all) => all == wanted,
            // Members of trees are sorted: what is equal reads equal.
            Form::Packed(packed) => {
                let text = packed.text().ok();
                text.is_some_and(|text| serde_json::to_vec(wanted).is_ok_and(|wanted| wanted == text))
            }
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
    fn packed_and_open_say_the_same() {
        let value = json!([
            {"id": "a", "object": {"kind": "B", "apiVersion": "v1", "spec": {"z": 1.5, "a": [null, "\u{1F600}"]}}},
            {"id": "b", "object": {}},
        ]);
        let open: ReleaseResources = serde_json::from_value(value.clone()).unwrap();
        let packed = ReleaseResources::packed(&value).unwrap();
        assert_eq!(packed, open);
        assert_eq!(open, packed);
        assert_eq!(serde_json::to_value(&packed).unwrap(), value);
        let mut other = open.open().unwrap().into_owned();
        other[0].object["spec"]["z"] = json!(2);
        assert!(!packed.are(&other) && !open.are(&other));
        assert!(!packed.is_empty() && ReleaseResources::packed(&json!([])).unwrap().is_empty());
    }

    #[test]
    fn what_are_no_objects_is_an_error_and_not_nothing() {
        let odd = ReleaseResources::packed(&json!([{"name": "a"}])).unwrap();
        assert!(!odd.is_empty() && !odd.are(&[]));
        let error = odd.open().unwrap_err().to_string();
        assert!(
            error.starts_with("spec.resources is no list of objects with ids: missing field `id`"),
            "{error}"
        );
    }
}
