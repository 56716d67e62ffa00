//! Metadata of rendered objects: names, labels, and where each declaration came from.

use std::collections::BTreeMap;

use choreo_api::{labels, names};
use serde_json::{Map, Value, json};

use super::Input;
use crate::place::Place;

/// What the metadata of all objects of one component, or of one cell, have in common.
pub(crate) struct Meta {
    /// The component; empty for a cell.
    pub(crate) component: String,
    /// Its track.
    pub(crate) track: String,
    /// The name of the component's main objects.
    pub(crate) name: String,
    /// The cell's namespace.
    pub(crate) namespace: String,
    /// Labels of every object.
    pub(crate) labels: BTreeMap<String, String>,
    /// The labels that select the component's pods. They never change while the component exists.
    pub(crate) selector: BTreeMap<String, String>,
}

impl Meta {
    pub(crate) fn of_component(input: &Input<'_>) -> Self {
        let (component, track) = (input.component, input.track);
        let name = names::workload(component, track);
        let labels = of_place(input.place)
            .component(component)
            .track(track)
            .name(component)
            .app(&name, &input.place.project)
            .with(
                labels::RELEASE,
                &names::binding(component, track, &input.place.environment),
            )
            .build();
        let selector = labels::Labels::new().component(component).track(track).build();
        Self {
            component: component.to_owned(),
            track: track.to_owned(),
            name,
            namespace: input.place.namespace.clone(),
            labels,
            selector,
        }
    }

    pub(crate) fn of_cell(place: &Place) -> Self {
        let labels = of_place(place)
            .name(&place.project)
            .app(&place.project, &place.project)
            .with(
                labels::RELEASE,
                &names::cell_release(&place.project, &place.environment),
            )
            .build();
        let name = place.namespace.clone();
        Self {
            component: String::new(),
            track: String::new(),
            namespace: name.clone(),
            name,
            labels,
            selector: BTreeMap::new(),
        }
    }

    /// The name of an object that belongs to the component for some purpose. The parts cannot contain the character that
    /// joins them, so that no two purposes share a name.
    pub(crate) fn derived(&self, purpose: &[&str]) -> String {
        let joined = std::iter::once(self.name.as_str())
            .chain(purpose.iter().copied())
            .collect::<Vec<_>>()
            .join("_");
        names::k8s_name(names::LABEL_LIMIT, &[&joined]).replace('.', "-")
    }

    /// An object with its metadata; the rest is for the caller to add.
    pub(crate) fn object(&self, api_version: &str, kind: &str, name: &str) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("apiVersion".to_owned(), json!(api_version));
        object.insert("kind".to_owned(), json!(kind));
        object.insert(
            "metadata".to_owned(),
            json!({"name": name, "namespace": self.namespace, "labels": self.labels}),
        );
        object
    }

    /// As [`Meta::object`], saying which declaration the object comes from.
    pub(crate) fn declared(&self, api_version: &str, kind: &str, name: &str, by: &str) -> Map<String, Value> {
        let mut object = self.object(api_version, kind, name);
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert(
                "annotations".to_owned(),
                json!({labels::annotations::DECLARED_BY: by}),
            );
        }
        object
    }

    pub(crate) fn service_account(&self) -> Value {
        let mut object = self.object("v1", "ServiceAccount", &self.name);
        object.insert("automountServiceAccountToken".to_owned(), json!(false));
        Value::Object(object)
    }
}

fn of_place(place: &Place) -> labels::Labels {
    labels::Labels::new()
        .organization(&place.organization)
        .project(&place.project)
        .environment(&place.environment)
}

/// Whether a label or annotation key is the platform's own.
pub(crate) fn is_reserved(key: &str) -> bool {
    key.starts_with("openchoreo.dev/")
        || [labels::APP_NAME, labels::APP_PART_OF, labels::APP_MANAGED_BY].contains(&key)
}
