//! Where a release belongs: its environment's data plane, as connected clusters.

use std::sync::Arc;

use choreo_api::conditions::{Condition, reasons};
use choreo_api::v1alpha1::{DataPlane, DataPlaneIdentity, DataPlaneSpec, Environment};
use choreo_engine::health::Rules;
use serde_json::Value;

use super::Subject;
use crate::context::Context;
use crate::dataplane::clusters_of;
use crate::planes::{Plane, PlaneId};
use crate::view::ControlSnapshot;

/// A data plane whose clusters are all connected (which does not mean that all answer at this moment).
pub(super) struct Place {
    /// What is written into the status, to find the clusters again when everything else is gone.
    pub identity: DataPlaneIdentity,
    /// The clusters, the primary one first.
    pub planes: Vec<Arc<Plane>>,
    /// How many clusters, not counting the primary, may be unhealthy.
    pub tolerated: usize,
    /// How objects there tell whether they are well.
    pub rules: Rules,
}

/// The answer.
pub(super) enum Whereabouts {
    /// Here.
    Found(Place),
    /// The environment now has another data plane than the one that the inventory is in.
    Moved {
        /// The data plane that has to be cleaned first.
        from: DataPlaneIdentity,
    },
    /// Something is missing, and what.
    Waiting(Condition),
    /// The cluster has not been connected yet since this process began. There is nothing to say yet: whatever is in the
    /// status still holds, and the connection, or its failure, will be told.
    Unknown,
}

/// Finds the clusters of a release.
pub(super) fn whereabouts(context: &Context, snapshot: &ControlSnapshot, subject: &Subject) -> Whereabouts {
    let world = &snapshot.view.world;
    let (namespace, spec) = (&subject.key.namespace, &subject.release.spec);
    let name = match &spec.data_plane {
        Some(name) => name.clone(),
        None => match world.get::<Environment>(namespace, &spec.environment_name) {
            Some(environment) => environment.spec.data_plane_ref.clone(),
            None => {
                let message = format!("Environment {:?} does not exist", spec.environment_name);
                return Whereabouts::Waiting(Condition::not_ready(reasons::ENVIRONMENT_NOT_FOUND, message));
            }
        },
    };
    let status = subject.status();
    if let Some(from) = status.data_plane.filter(|old| old.name != name)
        && !status.inventory.is_empty()
    {
        return Whereabouts::Moved { from };
    }
    let Some(data_plane) = world.get::<DataPlane>(namespace, &name) else {
        let message = format!("DataPlane {name:?} does not exist");
        return Whereabouts::Waiting(Condition::not_ready(reasons::DATA_PLANE_NOT_FOUND, message));
    };
    let mut planes = Vec::new();
    for (cluster, _) in clusters_of(&data_plane.spec) {
        let id = PlaneId::data(namespace, &name, &cluster);
        match context.planes.get(&id) {
            Some(plane) => planes.push(plane),
            None => match context.planes.refusal(&id) {
                Some(error) => {
                    let message = format!("DataPlane {name:?} is not connected: {error}");
                    return Whereabouts::Waiting(Condition::not_ready(reasons::UNREACHABLE, message));
                }
                None => return Whereabouts::Unknown,
            },
        }
    }
    let tolerated = data_plane
        .spec
        .max_unavailable_clusters
        .and_then(|n| usize::try_from(n).ok())
        .unwrap_or(0);
    Whereabouts::Found(Place {
        identity: identity_of(data_plane, planes.first()),
        planes,
        tolerated,
        // Rules that are no rules are said by the data plane; until they are corrected the known ones hold.
        rules: Rules::with(&data_plane.spec.health_rules).unwrap_or_else(|_| Rules::builtin()),
    })
}

/// What a release remembers of its data plane.
fn identity_of(data_plane: &DataPlane, primary: Option<&Arc<Plane>>) -> DataPlaneIdentity {
    DataPlaneIdentity {
        name: data_plane.metadata.name.clone().unwrap_or_default(),
        server: primary.map(|plane| plane.server().to_owned()),
        cluster_uid: primary.and_then(|plane| plane.uid().map(str::to_owned)),
        uid: data_plane.metadata.uid.clone(),
        connection: connection_of(&data_plane.spec),
    }
}

/// How to reach the clusters, without credentials: those stay where they are kept.
fn connection_of(spec: &DataPlaneSpec) -> Option<Value> {
    let mut connection = serde_json::Map::new();
    for field in ["kubernetesCluster", "clusters"] {
        let value = match field {
            "kubernetesCluster" => serde_json::to_value(&spec.kubernetes_cluster).ok()?,
            _ => serde_json::to_value(&spec.clusters).ok()?,
        };
        if !value.is_null() && value.as_array().is_none_or(|clusters| !clusters.is_empty()) {
            connection.insert(field.to_owned(), without_inline_values(value));
        }
    }
    Some(Value::Object(connection))
}

/// Drops `value` next to where a `secretRef` could be: certificates and keys that were written in place.
fn without_inline_values(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.into_iter()
                .filter(|(name, value)| !(name == "value" && value.is_string()))
                .map(|(name, value)| (name, without_inline_values(value)))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(without_inline_values).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn no_credential_gets_into_a_status() {
        let spec: DataPlaneSpec = serde_json::from_value(json!({
            "kubernetesCluster": {
                "server": "https://a",
                "tls": {"ca": {"value": "c2VjcmV0"}},
                "auth": {"mtls": {"clientCert": {"value": "c2VjcmV0"}, "clientKey": {"secretRef": "key"}}},
            },
        }))
        .unwrap();
        let connection = connection_of(&spec).unwrap();
        assert!(!connection.to_string().contains("c2VjcmV0"));
        assert_eq!(
            connection["kubernetesCluster"]["auth"]["mtls"]["clientKey"]["secretRef"],
            "key"
        );
    }
}
