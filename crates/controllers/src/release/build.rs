//! What a release wants of a cluster. Pure.

use std::collections::BTreeSet;

use choreo_api::annotations;
use choreo_api::labels::{self, label_value};
use choreo_api::v1alpha1::{InventoryEntry, Release};
use choreo_engine::render::phase;
use kube::core::{DynamicObject, GroupVersionKind};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::planes::plane::{Served, is_outlined};
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
    /// Whether it is made once and then left alone, even when it is gone: a run of a task.
    pub once: bool,
    /// Whether its end no longer counts.
    pub superseded: bool,
    /// The Secret in the control plane that its content comes from.
    pub copy_of: Option<String>,
    /// Why there is no content, when it should come from elsewhere.
    pub without_content: Option<String>,
}

impl Wanted {
    /// Writes down with an object of which only metadata are watched what it consists of, so that they tell whether it still does.
    /// What is in a Secret leaves no trace outside of it: such a one is read when its metadata do not tell.
    pub(super) fn sign(&mut self) {
        let has_secrets = ["data", "stringData"]
            .iter()
            .any(|field| self.object.get(field).is_some());
        if !is_outlined(&self.address.kind) || (self.gvk.kind == "Secret" && has_secrets) {
            return;
        }
        let digest = Sha256::digest(self.object.to_string().as_bytes());
        let annotations = &mut self.object["metadata"]["annotations"];
        let text = hex::encode(digest.get(..16).unwrap_or_default());
        match annotations.as_object_mut() {
            Some(annotations) => drop(annotations.insert(annotations::CONTENT.to_owned(), text.into())),
            None => *annotations = json!({annotations::CONTENT: text}),
        }
    }

    /// Whether this object guards another: its policy must be in force before the other may open.
    pub(super) fn guards(&self, other: &Self) -> bool {
        let one = self.object.pointer("/spec/targetRef").into_iter();
        let many = self
            .object
            .pointer("/spec/targetRefs")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        self.address.namespace == other.address.namespace
            && one.chain(many).any(|target| {
                target.get("kind").and_then(Value::as_str) == Some(other.gvk.kind.as_str())
                    && target.get("name").and_then(Value::as_str) == Some(other.address.name.as_str())
            })
    }
}

/// The objects of a release, in the order in which they are applied.
///
/// # Errors
/// What is wrong with which object, all at once.
pub(super) fn wanted(release: &Release) -> Result<Vec<Wanted>, Vec<String>> {
    let mut errors = Vec::new();
    let mut all = Vec::new();
    let mut seen = BTreeSet::new();
    let resources = match release.spec.resources.open() {
        Ok(resources) => resources,
        Err(error) => return Err(vec![error.to_string()]),
    };
    for resource in resources.iter() {
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
        let annotation = |name: &str| {
            resource
                .object
                .pointer("/metadata/annotations")
                .and_then(|annotations| annotations.get(name))
                .and_then(Value::as_str)
        };
        all.push(Wanted {
            once: annotation(annotations::APPLY) == Some("once"),
            superseded: annotation(annotations::SUPERSEDED) == Some("true"),
            copy_of: annotation(annotations::COPY_OF).map(str::to_owned),
            without_content: None,
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

/// When an object in the inventory was applied: by its content if it is still there, otherwise by its kind.
pub(super) fn phase_of(entry: &InventoryEntry, live: Option<&DynamicObject>) -> u8 {
    match live.and_then(|live| live.data.get("spec")) {
        Some(spec) => phase(&serde_json::json!({"kind": entry.kind, "spec": spec})),
        None => phase(&serde_json::json!({"kind": entry.kind, "spec": {"ingress": [{"from": []}]}})),
    }
}

/// Whether objects of a kind are applied at different times, as their content says.
pub(super) fn has_phase_of_its_own(kind: &str) -> bool {
    kind == "NetworkPolicy" || kind == "CiliumNetworkPolicy"
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn release(objects: &[Value]) -> Release {
        let resources: Vec<Value> = objects
            .iter()
            .enumerate()
            .map(|(id, object)| json!({"id": id.to_string(), "object": object}))
            .collect();
        serde_json::from_value(json!({
            "apiVersion": labels::API_VERSION,
            "kind": "Release",
            "metadata": {"name": "a", "namespace": "o"},
            "spec": {"owner": {"projectName": "p"}, "environmentName": "e", "resources": resources},
        }))
        .unwrap()
    }

    #[test]
    fn a_policy_guards_the_routes_that_it_names() {
        let object = |kind: &str, name: &str, spec: Value| json!({"apiVersion": "g/v1", "kind": kind, "metadata": {"name": name, "namespace": "ns"}, "spec": spec});
        let policy = json!({"targetRefs": [{"kind": "HTTPRoute", "name": "a"}]});
        let all = wanted(&release(&[
            object("SecurityPolicy", "s", policy),
            object("HTTPRoute", "a", json!({})),
            object("HTTPRoute", "b", json!({})),
            object("GRPCRoute", "a", json!({})),
        ]))
        .unwrap();
        let guarded: Vec<bool> = all.iter().map(|other| all[0].guards(other)).collect();
        assert_eq!(guarded, [false, true, false, false]);
    }

    #[test]
    fn what_is_watched_by_its_metadata_is_signed_and_secrets_are_not() {
        let object = |kind: &str, more: Value| {
            let mut object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": kind.to_lowercase(), "namespace": "ns"}});
            object
                .as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            object
        };
        let signatures = |objects: &[Value]| -> Vec<Option<String>> {
            let mut all = wanted(&release(objects)).unwrap();
            all.iter_mut().for_each(Wanted::sign);
            all.sort_by(|a, b| a.id.cmp(&b.id));
            let signature = |wanted: &Wanted| {
                let annotations = wanted.object.pointer("/metadata/annotations")?;
                Some(annotations.get(annotations::CONTENT)?.as_str()?.to_owned())
            };
            all.iter().map(signature).collect()
        };
        let of = |value: &str| {
            signatures(&[
                object("ConfigMap", json!({"data": {"a": value}})),
                object("Service", json!({"spec": {}})),
                object("Secret", json!({"data": {"a": value}})),
                object(
                    "ServiceAccount",
                    json!({"metadata": {"name": "s", "namespace": "ns", "annotations": {"a": "b"}}}),
                ),
            ])
        };
        let (one, other) = (of("x"), of("y"));
        assert_eq!(
            one.iter().map(Option::is_some).collect::<Vec<_>>(),
            [true, false, false, true]
        );
        assert_ne!(one[0], other[0]);
        assert_eq!(one[3], other[3]);
        assert_eq!(one[0].as_ref().unwrap().len(), 32);
    }

    #[test]
    fn what_denies_goes_last_and_what_lets_in_goes_first() {
        let entry = InventoryEntry {
            kind: "NetworkPolicy".into(),
            ..InventoryEntry::default()
        };
        let live = |spec: Value| -> DynamicObject {
            serde_json::from_value(json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "a"}, "spec": spec}))
            .unwrap()
        };
        let deny = live(json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}));
        let open = live(json!({"podSelector": {}, "ingress": [{"from": []}]}));
        let route = InventoryEntry {
            kind: "HTTPRoute".into(),
            ..InventoryEntry::default()
        };
        let deployment = InventoryEntry {
            kind: "Deployment".into(),
            ..InventoryEntry::default()
        };
        assert!(phase_of(&entry, Some(&deny)) < phase_of(&deployment, None));
        assert!(phase_of(&entry, Some(&open)) > phase_of(&route, None));
        assert!(
            phase_of(&entry, None) > phase_of(&route, None),
            "unknown content: as if it lets in"
        );
    }
}
