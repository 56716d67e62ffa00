//! Objects as the API server sends them, read no further than they are looked at.
//!
//! Most events of a watch repeat what the answer to our own write has said already, so an event is first read for its revision
//! only ([`Seen`]). What is then read whole ([`Whole`]) becomes a [`DynamicObject`] in one pass, with the trees of owned fields left
//! as text: they are the larger part of many objects, and are looked at only before a write.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    FieldsV1, ManagedFieldsEntry, ObjectMeta, OwnerReference, Time,
};
use kube::core::{ApiResource, DynamicObject, TypeMeta};
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// An object of a list or of a watch: its address and revision, and its text.
///
/// It can be read where the text itself is at hand, not out of a buffered value: events have their `type` before the `object`,
/// as all API servers send them.
#[derive(Clone, Debug)]
pub struct Seen {
    metadata: ObjectMeta,
    text: Box<RawValue>,
}

impl Seen {
    /// Reads all of it.
    ///
    /// # Errors
    /// When it is no object.
    pub fn whole(&self) -> serde_json::Result<DynamicObject> {
        serde_json::from_str::<Whole>(self.text.get()).map(|whole| whole.0)
    }

    /// Namespace (empty: none), name and revision.
    pub fn address(&self) -> (&str, &str, &str) {
        (
            self.metadata.namespace.as_deref().unwrap_or_default(),
            self.metadata.name.as_deref().unwrap_or_default(),
            self.metadata.resource_version.as_deref().unwrap_or_default(),
        )
    }
}

impl<'de> Deserialize<'de> for Seen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Outline<'t> {
            #[serde(borrow)]
            metadata: OutlineMeta<'t>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct OutlineMeta<'t> {
            #[serde(borrow, default)]
            namespace: Option<Cow<'t, str>>,
            #[serde(borrow, default)]
            name: Option<Cow<'t, str>>,
            #[serde(borrow, default)]
            resource_version: Option<Cow<'t, str>>,
        }
        let text = Box::<RawValue>::deserialize(deserializer)?;
        let outline: Outline<'_> = serde_json::from_str(text.get()).map_err(D::Error::custom)?;
        let owned = |text: Option<Cow<'_, str>>| text.map(Cow::into_owned);
        let metadata = ObjectMeta {
            namespace: owned(outline.metadata.namespace),
            name: owned(outline.metadata.name),
            resource_version: owned(outline.metadata.resource_version),
            ..ObjectMeta::default()
        };
        Ok(Self { metadata, text })
    }
}

impl kube::Resource for Seen {
    type DynamicType = ApiResource;
    type Scope = kube::core::DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }

    fn api_version(resource: &ApiResource) -> Cow<'_, str> {
        resource.api_version.as_str().into()
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// An object that is read whole. `fieldsV1` of its managed fields are strings of JSON, see [`super::cache::owned_fields`].
#[derive(Clone, Debug)]
pub struct Whole(pub DynamicObject);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(WholeVisitor)
    }
}

struct WholeVisitor;

impl<'de> Visitor<'de> for WholeVisitor {
    type Value = Whole;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a Kubernetes object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Whole, A::Error> {
        let (mut api_version, mut kind) = (None, None);
        let mut metadata = Metadata::default();
        let mut data = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            match key.as_str() {
                "apiVersion" => api_version = members.next_value::<Option<String>>()?,
                "kind" => kind = members.next_value::<Option<String>>()?,
                "metadata" => metadata = members.next_value()?,
                _ => {
                    data.insert(key, members.next_value()?);
                }
            }
        }
        let types = match (api_version, kind) {
            (None, None) => None,
            (api_version, kind) => Some(TypeMeta {
                api_version: api_version.unwrap_or_default(),
                kind: kind.unwrap_or_default(),
            }),
        };
        Ok(Whole(DynamicObject {
            types,
            metadata: metadata.into(),
            data: Value::Object(data),
        }))
    }
}

/// [`ObjectMeta`], with owned fields that are not read.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    annotations: Option<BTreeMap<String, String>>,
    creation_timestamp: Option<Time>,
    deletion_grace_period_seconds: Option<i64>,
    deletion_timestamp: Option<Time>,
    finalizers: Option<Vec<String>>,
    generate_name: Option<String>,
    generation: Option<i64>,
    labels: Option<BTreeMap<String, String>>,
    managed_fields: Option<Vec<Managed>>,
    name: Option<String>,
    namespace: Option<String>,
    owner_references: Option<Vec<OwnerReference>>,
    resource_version: Option<String>,
    self_link: Option<String>,
    uid: Option<String>,
}

impl From<Metadata> for ObjectMeta {
    fn from(read: Metadata) -> Self {
        let managed_fields = read.managed_fields;
        Self {
            annotations: read.annotations,
            creation_timestamp: read.creation_timestamp,
            deletion_grace_period_seconds: read.deletion_grace_period_seconds,
            deletion_timestamp: read.deletion_timestamp,
            finalizers: read.finalizers,
            generate_name: read.generate_name,
            generation: read.generation,
            labels: read.labels,
            managed_fields: managed_fields.map(|entries| entries.into_iter().map(Managed::entry).collect()),
            name: read.name,
            namespace: read.namespace,
            owner_references: read.owner_references,
            resource_version: read.resource_version,
            self_link: read.self_link,
            uid: read.uid,
        }
    }
}

/// Managed fields as [`write_managed`] wrote them.
pub(super) fn read_managed(text: &[u8]) -> serde_json::Result<Vec<ManagedFieldsEntry>> {
    let entries: Vec<Managed> = serde_json::from_slice(text)?;
    Ok(entries.into_iter().map(Managed::entry).collect())
}

/// Writes managed fields. Owned fields that are text of JSON are written as what they are, without escapes.
pub(super) fn write_managed(entries: &[ManagedFieldsEntry], into: &mut Vec<u8>) -> serde_json::Result<()> {
    let entries = entries.iter().map(|entry| {
        let tree = entry.fields_v1.as_ref().map(|fields| &fields.0);
        let raw = tree.map(|tree| match tree {
            Value::String(text) if text.starts_with('{') => RawValue::from_string(text.clone()),
            tree => serde_json::value::to_raw_value(tree),
        });
        Ok(Managed {
            api_version: entry.api_version.clone(),
            fields_type: entry.fields_type.clone(),
            fields_v1: raw.transpose()?,
            manager: entry.manager.clone(),
            operation: entry.operation.clone(),
            subresource: entry.subresource.clone(),
            time: entry.time.clone(),
        })
    });
    let entries: Vec<Managed> = entries.collect::<serde_json::Result<_>>()?;
    serde_json::to_writer(into, &entries)
}

/// One entry of the managed fields.
#[derive(Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
struct Managed {
    #[serde(skip_serializing_if = "Option::is_none")]
    api_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fields_type: Option<String>,
    #[serde(rename = "fieldsV1", skip_serializing_if = "Option::is_none")]
    fields_v1: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manager: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subresource: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<Time>,
}

impl Managed {
    fn entry(self) -> ManagedFieldsEntry {
        let text = self.fields_v1.map(|fields| {
            // Of an object that was packed: text already.
            serde_json::from_str(fields.get()).unwrap_or_else(|_| Box::<str>::from(fields).into_string())
        });
        ManagedFieldsEntry {
            api_version: self.api_version,
            fields_type: self.fields_type,
            fields_v1: text.map(|text| FieldsV1(Value::String(text))),
            manager: self.manager,
            operation: self.operation,
            subresource: self.subresource,
            time: self.time,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::cache::owned_fields;
    use kube::Resource as _;
    use kube::core::WatchEvent;
    use serde_json::json;

    fn object() -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "annotations": {"a\"": "b"}, "creationTimestamp": "2026-01-02T03:04:05Z",
                "deletionGracePeriodSeconds": 3, "deletionTimestamp": "2026-01-02T03:04:06Z", "finalizers": ["x/y"],
                "generateName": "n-", "generation": 7, "labels": {"l": "m"},
                "managedFields": [{
                    "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:a": {}}},
                    "manager": "m", "operation": "Apply", "subresource": "status", "time": "2026-01-02T03:04:05Z",
                }],
                "name": "n", "namespace": "ns", "ownerReferences": [{
                    "apiVersion": "v1", "kind": "K", "name": "o", "uid": "u", "controller": true, "blockOwnerDeletion": true,
                }],
                "resourceVersion": "12", "selfLink": "/s", "uid": "u-1",
            },
            "spec": {"replicas": 1, "x": [1.5, null, "\u{1F600}"]}, "status": {},
        })
    }

    #[test]
    fn what_is_read_in_one_pass_is_what_the_derived_reader_reads() {
        let expected: DynamicObject = serde_json::from_value(object()).unwrap();
        let Whole(mut read) = serde_json::from_str(&object().to_string()).unwrap();
        for entry in read.metadata.managed_fields.iter_mut().flatten() {
            if let Some(fields) = &mut entry.fields_v1 {
                assert!(fields.0.is_string());
                fields.0 = owned_fields(&fields.0).into_owned();
            }
        }
        assert_eq!(read, expected);
        let bare: DynamicObject = serde_json::from_str::<Whole>(r#"{"metadata":{},"x":1}"#)
            .unwrap()
            .0;
        assert_eq!(bare, serde_json::from_str(r#"{"metadata":{},"x":1}"#).unwrap());
    }

    #[test]
    fn an_event_is_read_for_its_address_first() {
        let line = json!({"type": "MODIFIED", "object": object()});
        // As servers send it: the type first.
        let line = format!(r#"{{"type":"MODIFIED","object":{}}}"#, line["object"]);
        let WatchEvent::Modified(seen) = serde_json::from_str::<WatchEvent<Seen>>(&line).unwrap() else {
            panic!("another event");
        };
        assert_eq!(seen.address(), ("ns", "n", "12"));
        assert_eq!(seen.meta().resource_version.as_deref(), Some("12"));
        assert_eq!(seen.whole().unwrap().metadata.uid.as_deref(), Some("u-1"));
    }
}
