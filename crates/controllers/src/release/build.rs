//! What a release wants of a cluster. Pure.

use std::collections::BTreeSet;

use choreo_api::labels::{self, label_value};
use choreo_api::v1alpha1::{InventoryEntry, Release};
use choreo_engine::render::phase;
use kube::core::{DynamicObject, GroupVersionKind};
use serde_json::Value;

use crate::planes::plane::Served;
use crate::runtime::ObjectRef;
use crate::runtime::object::gvk_of;

/// An object that is to exist.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// Its name in the release.
    pub id: String,
    /// Its address in the cluster.
    pub address: ObjectRef,
    /// Its kind, with the version in which it is written.
    pub gvk: GroupVersionKind,
    /// When it is applied.
    pub phase: u8,
    /// The object.
    pub object: Value,
}

/// The objects of a release, in the order in which they are applied.
///
/// # Errors
/// What is wrong with which object, all at once.
pub(super) fn wanted(release: &Release) -> Result<Vec<Wanted>, Vec<String>> {
    let mut errors = Vec::new();
    let mut all = Vec::new();
    let mut seen = BTreeSet::new();
    for resource in &release.spec.resources {
        let (Some(address), Some(gvk)) = (ObjectRef::of_value(&resource.object), gvk_of(&resource.object))
        else {
            errors.push(format!(
                "resource {:?}: apiVersion, kind and metadata.name are needed",
                resource.id
            ));
            continue;
        };
        if !seen.insert(address.clone()) {
            errors.push(format!("resource {:?}: {address} is there twice", resource.id));
        }
        all.push(Wanted {
            id: resource.id.clone(),
            address,
            gvk,
            phase: phase(&resource.object),
            object: resource.object.clone(),
        });
    }
    all.sort_by_key(|wanted| wanted.phase);
    if errors.is_empty() { Ok(all) } else { Err(errors) }
}

/// The inventory's line for an object.
pub(super) fn entry(wanted: &Wanted, cluster: &str, served: Option<&Served>) -> InventoryEntry {
    InventoryEntry {
        cluster: Some(cluster.to_owned()).filter(|cluster| !cluster.is_empty()),
        group: wanted.gvk.group.clone(),
        version: wanted.gvk.version.clone(),
        kind: wanted.gvk.kind.clone(),
        plural: served
            .map(|served| served.resource.plural.clone())
            .unwrap_or_default(),
        namespace: Some(wanted.address.namespace.clone()).filter(|namespace| !namespace.is_empty()),
        name: wanted.address.name.clone(),
    }
}

/// The address of an object in the inventory.
pub(super) fn address_of(entry: &InventoryEntry) -> ObjectRef {
    ObjectRef::new(
        &entry.group,
        &entry.kind,
        entry.namespace.as_deref().unwrap_or_default(),
        &entry.name,
    )
}

/// When an object in the inventory was applied, by its kind: its content is not known any more.
pub(super) fn phase_of(entry: &InventoryEntry) -> u8 {
    phase(&serde_json::json!({"kind": entry.kind, "spec": {"ingress": [{"from": []}]}}))
}

/// The labels that say whose an object is.
fn whose(release: &Release) -> [(&'static str, Option<&str>); 4] {
    let owner = &release.spec.owner;
    [
        (labels::ORGANIZATION, release.metadata.namespace.as_deref()),
        (labels::PROJECT, Some(owner.project_name.as_str())),
        (labels::ENVIRONMENT, Some(release.spec.environment_name.as_str())),
        (labels::COMPONENT, owner.component_name.as_deref()),
    ]
}

/// True if a live object belongs to this release: it has our mark, and every label that says whose it is agrees.
pub(super) fn is_ours(live: &DynamicObject, release: &Release) -> bool {
    let mark = (labels::APP_MANAGED_BY, Some(labels::MANAGER));
    let expected: Vec<_> = whose(release).into_iter().chain([mark]).collect();
    expected.iter().all(|(label, value)| {
        let found = live
            .metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(*label))
            .map(String::as_str);
        found == value.map(label_value).as_deref()
    })
}

/// True if an object that has lost our mark is still ours: we applied it, and it does not say that it belongs to
/// anybody else. Somebody took a label away, which is drift like any other.
pub(super) fn has_lost_its_mark(live: &DynamicObject, release: &Release, manager: &str) -> bool {
    let applied = live.metadata.managed_fields.iter().flatten().any(|entry| {
        entry.manager.as_deref() == Some(manager) && entry.operation.as_deref() == Some("Apply")
    });
    let mut marked = live.clone();
    let labels = marked.metadata.labels.get_or_insert_default();
    labels.insert(labels::APP_MANAGED_BY.to_owned(), labels::MANAGER.to_owned());
    for (label, value) in whose(release) {
        if let Some(value) = value {
            labels
                .entry(label.to_owned())
                .or_insert_with(|| label_value(value));
        }
    }
    applied && is_ours(&marked, release)
}

/// Who a live object says it belongs to, for a message.
pub(super) fn belongs_to(live: &DynamicObject) -> String {
    let label = |name: &str| {
        live.metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(name))
            .cloned()
    };
    match (
        label(labels::APP_MANAGED_BY),
        label(labels::PROJECT),
        label(labels::COMPONENT),
    ) {
        (Some(manager), Some(project), Some(component)) if manager == labels::MANAGER => {
            format!("component {component:?} of project {project:?}")
        }
        (Some(manager), ..) => format!("{manager:?}"),
        _ => "somebody else".to_owned(),
    }
}
