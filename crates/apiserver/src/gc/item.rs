//! What the garbage collector reads of an object.

use std::sync::LazyLock;

use choreo_store::Object;
use memchr::memmem::Finder;
use serde::Deserialize;

use crate::verbs::{FOREGROUND, ORPHAN};

/// What texts have of objects that belong to another one or are going. Every change of a cluster is looked at, and most are of neither.
static MARKS: LazyLock<[Finder<'static>; 2]> =
    LazyLock::new(|| ["\"ownerReferences\":", "\"deletionTimestamp\":"].map(Finder::new));

/// The part of an object that says what it is, what it belongs to and whether it is going.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Item {
    pub(super) api_version: String,
    pub(super) kind: String,
    metadata: Metadata,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    uid: String,
    resource_version: String,
    owner_references: Option<Vec<Owner>>,
    deletion_timestamp: Option<String>,
    finalizers: Option<Vec<String>>,
}

/// A reference to an owner.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Owner {
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) uid: String,
    block_owner_deletion: Option<bool>,
}

impl Owner {
    /// Whether the owner must wait for this dependent when it is deleted in the foreground.
    pub(super) fn blocks(&self) -> bool {
        self.block_owner_deletion.unwrap_or(false)
    }
}

impl Item {
    /// Reads the object's text; much cheaper than parsing all of it.
    pub(super) fn read(object: &Object) -> Item {
        // What is not shaped like an object has no owners and is nobody's owner.
        serde_json::from_slice(object.json()).unwrap_or_default()
    }

    /// Reads an object that may belong to another one or be going; none for all others. Much cheaper than reading them.
    pub(super) fn read_marked(object: &Object) -> Option<Item> {
        let text = &object.json()[..];
        MARKS
            .iter()
            .any(|mark| mark.find(text).is_some())
            .then(|| Item::read(object))
    }

    pub(super) fn uid(&self) -> &str {
        &self.metadata.uid
    }

    pub(super) fn version(&self) -> &str {
        &self.metadata.resource_version
    }

    pub(super) fn owners(&self) -> &[Owner] {
        self.metadata.owner_references.as_deref().unwrap_or_default()
    }

    pub(super) fn is_deleting(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    fn has_finalizer(&self, name: &str) -> bool {
        self.metadata
            .finalizers
            .iter()
            .flatten()
            .any(|finalizer| finalizer == name)
    }

    /// Whether it is to go after its dependents.
    pub(super) fn wants_foreground(&self) -> bool {
        self.has_finalizer(FOREGROUND)
    }

    /// Whether its dependents are to lose their reference to it first.
    pub(super) fn wants_orphans(&self) -> bool {
        self.has_finalizer(ORPHAN)
    }

    /// Whether it waits for its dependents to go.
    pub(super) fn waits_for_dependents(&self) -> bool {
        self.is_deleting() && self.wants_foreground()
    }
}

#[cfg(test)]
mod tests {
    use choreo_store::{Key, Store, Write};
    use futures::executor::block_on;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn only_what_is_marked_is_read() {
        let cluster = Store::in_memory().cluster("c");
        let object = |name: &str, metadata: Value| {
            let key = Key::new("configmaps", "default", name);
            let value =
                json!({"metadata": metadata, "data": {"text": "ownerReferences: \"deletionTimestamp\":"}});
            block_on(cluster.write(Write::Create { key, value })).unwrap()
        };
        let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"});
        let owned = Item::read_marked(&object("owned", json!({"ownerReferences": [owner]}))).unwrap();
        assert_eq!((owned.owners().len(), owned.is_deleting()), (1, false));
        let going =
            json!({"uid": "g", "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": [FOREGROUND]});
        let going = Item::read_marked(&object("going", going)).unwrap();
        assert_eq!((going.waits_for_dependents(), going.uid()), (true, "g"));
        // What a text within the object says has its quotes escaped.
        assert!(
            Item::read_marked(&object(
                "neither",
                json!({"uid": "n", "finalizers": [FOREGROUND]})
            ))
            .is_none()
        );
    }
}
