//! What the garbage collector reads of an object.

use choreo_store::Object;
use serde::Deserialize;

use crate::verbs::{FOREGROUND, ORPHAN};

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
