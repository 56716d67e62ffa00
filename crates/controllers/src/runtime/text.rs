//! Objects as the text that is kept of them: their managed fields apart, and their name left out.

use choreo_api::labels::COMPONENT;
use choreo_packed::Packed;
use kube::core::{DynamicObject, ObjectMeta, TypeMeta};
use serde::Serialize;
use serde_json::Value;

use super::decode::{self, Whole};

/// The text of an object, its managed fields apart: few look at them, and they are much of it.
pub struct Text {
    bytes: Vec<u8>,
    managed: usize,
}

/// Stands for what an object is called after in its text. JSON never has this byte.
const STEM: u8 = 1;

impl Text {
    /// Bytes of the length of the managed fields, and of the length of what stands for [`STEM`].
    const HEAD: usize = 6;

    /// The text of an object; `None` if its data are no members.
    pub(super) fn of(object: &DynamicObject) -> Option<Self> {
        let mut bytes = Vec::new();
        if let Some(entries) = &object.metadata.managed_fields {
            decode::write_managed(entries, &mut bytes).ok()?;
        }
        let managed = bytes.len();
        let bare = Bare {
            types: object.types.as_ref(),
            metadata: &ObjectMeta {
                managed_fields: None,
                ..object.metadata.clone()
            },
            data: object.data.as_object()?,
        };
        serde_json::to_writer(&mut bytes, &bare).ok()?;
        Some(Self { bytes, managed })
    }

    /// As it is packed. The objects of one component have its name in dozens of places, and are otherwise the same as those of
    /// another: without the name, most of them is one piece.
    pub(super) fn to_pack(&self, stem: &str) -> Option<Vec<u8>> {
        let length = u16::try_from(stem.len()).ok()?;
        let mut bytes = vec![0; Self::HEAD];
        if self.bytes.contains(&STEM) {
            return None;
        }
        let (managed, object) = self.bytes.split_at_checked(self.managed)?;
        shorten(managed, stem.as_bytes(), &mut bytes);
        let managed = u32::try_from(bytes.len() - Self::HEAD).ok()?.to_le_bytes();
        shorten(object, stem.as_bytes(), &mut bytes);
        let head = managed.into_iter().chain(length.to_le_bytes());
        bytes.iter_mut().zip(head).for_each(|(byte, head)| *byte = head);
        Some(bytes)
    }

    /// What [`Text::to_pack`] was, of an object of this name.
    pub(super) fn unpacked(packed: &Packed, name: &str) -> Result<Self, String> {
        let packed = packed.text().map_err(|error| error.to_string())?;
        let short = || "it is too short".to_owned();
        let (managed, rest) = packed.split_first_chunk().ok_or_else(short)?;
        let (length, rest) = rest.split_first_chunk().ok_or_else(short)?;
        let managed = usize::try_from(u32::from_le_bytes(*managed)).map_err(|error| error.to_string())?;
        let (managed, object) = rest.split_at_checked(managed).ok_or_else(short)?;
        let stem = name.get(..usize::from(u16::from_le_bytes(*length)));
        let stem = stem.ok_or("it is of an object of another name")?.as_bytes();
        let count = memchr::memchr_iter(STEM, rest).count();
        let mut bytes = Vec::with_capacity(rest.len() + count * stem.len());
        lengthen(managed, stem, &mut bytes);
        let managed = bytes.len();
        lengthen(object, stem, &mut bytes);
        Ok(Self { bytes, managed })
    }

    /// Bytes of all of it.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The object as JSON, but for its managed fields.
    pub fn object(&self) -> &[u8] {
        self.bytes.get(self.managed..).unwrap_or_default()
    }

    /// All of it.
    pub(super) fn whole(&self) -> Result<DynamicObject, serde_json::Error> {
        let mut object = serde_json::from_slice::<Whole>(self.object())?.0;
        let managed = self.bytes.get(..self.managed).unwrap_or_default();
        if !managed.is_empty() {
            object.metadata.managed_fields = Some(decode::read_managed(managed)?);
        }
        Ok(object)
    }
}

/// Writes [`STEM`] for each `stem`.
fn shorten(text: &[u8], stem: &[u8], into: &mut Vec<u8>) {
    let mut rest = 0;
    if !stem.is_empty() {
        for found in memchr::memmem::find_iter(text, stem) {
            into.extend(text.get(rest..found).unwrap_or_default());
            into.push(STEM);
            rest = found + stem.len();
        }
    }
    into.extend(text.get(rest..).unwrap_or_default());
}

/// The other way round.
fn lengthen(text: &[u8], stem: &[u8], into: &mut Vec<u8>) {
    let mut rest = 0;
    for found in memchr::memchr_iter(STEM, text) {
        into.extend(text.get(rest..found).unwrap_or_default());
        into.extend(stem);
        rest = found + 1;
    }
    into.extend(text.get(rest..).unwrap_or_default());
}

/// What an object is called after: the name of its component, if its own begins with it, or else its own.
pub(super) fn stem(object: &DynamicObject) -> &str {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let labels = object.metadata.labels.as_ref();
    let owner = object
        .data
        .pointer("/spec/owner/componentName")
        .and_then(Value::as_str);
    let component = owner.or_else(|| labels?.get(COMPONENT).map(String::as_str));
    component
        .filter(|component| !component.is_empty())
        .and_then(|component| name.get(..component.len()).filter(|start| *start == component))
        .unwrap_or(name)
}

/// What [`Text`] has of an object, as it is written.
#[derive(Serialize)]
struct Bare<'a> {
    #[serde(flatten)]
    types: Option<&'a TypeMeta>,
    metadata: &'a ObjectMeta,
    #[serde(flatten)]
    data: &'a serde_json::Map<String, Value>,
}

#[cfg(test)]
mod tests {
    use choreo_packed::Samples;
    use serde_json::json;

    use super::*;

    fn object(name: &str, text: &str) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "example.com/v1", "kind": "Thing",
            "metadata": {"name": name, "uid": format!("uid-{name}"), "labels": {"n": name}},
            "spec": {"text": text}, "status": {"of": [name, null, 1.5]},
        }))
        .unwrap()
    }

    #[test]
    fn managed_fields_are_kept_apart_and_come_back() {
        let mut object = object("a", "text");
        let fields = |text: &str| json!({"manager": "m", "operation": "Apply", "time": "2026-01-02T03:04:05Z", "fieldsV1": text});
        // The last one is text, but of no JSON that could be written as such.
        let entries = json!([fields(r#"{"f:spec":{"f:a":{}}}"#), fields(""), fields("no {")]);
        object.metadata.managed_fields = serde_json::from_value(entries).unwrap();
        for entries in [object.metadata.managed_fields.clone(), Some(vec![]), None] {
            object.metadata.managed_fields = entries;
            let text = Text::of(&object).unwrap();
            let said = String::from_utf8(text.object().to_vec()).unwrap();
            assert!(
                !said.contains("managedFields") && said.contains("uid-a"),
                "{said}"
            );
            assert_eq!(text.whole().unwrap(), object);
        }
    }

    #[test]
    fn what_an_object_is_called_after_is_left_out_of_its_text_and_comes_back() {
        let samples = Samples::new();
        let named = |name: &str, component: Option<&str>| {
            let mut object = object(name, &format!("{name}-x {name} a{name} {}", name.to_uppercase()));
            if let Some(component) = component {
                let labels = object.metadata.labels.get_or_insert_default();
                labels.insert(COMPONENT.to_owned(), component.to_owned());
            }
            object
        };
        for (name, component, called_after) in [
            ("shop-development", Some("shop"), "shop"),
            ("shop-development", None, "shop-development"),
            ("shop-development", Some("other"), "shop-development"),
            (
                "shop-development",
                Some("shop-development-too"),
                "shop-development",
            ),
            ("a", Some(""), "a"),
            ("\u{e9}t\u{e9}", None, "\u{e9}t\u{e9}"),
        ] {
            let object = named(name, component);
            assert_eq!(stem(&object), called_after);
            let text = Text::of(&object).unwrap();
            let short = text.to_pack(stem(&object)).unwrap();
            let again = Text::unpacked(&samples.pack(&(), &short).unwrap(), name).unwrap();
            assert_eq!((again.managed, &again.bytes), (text.managed, &text.bytes));
            assert_eq!(again.whole().unwrap(), object);
            let said = memchr::memmem::find(&short, called_after.as_bytes());
            assert!(said.is_none(), "{name}");
        }
    }
}
