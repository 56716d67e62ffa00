//! What other projects' connections ask of an endpoint: a way in at the organization's gateway, and lanes.

use std::collections::{BTreeMap, BTreeSet};

use choreo_api::v1alpha1::{ConnectionPolicy, common::ExposeLevel};

use super::{Door, Exposed, Exposure, Routing, Upstream};
use crate::{
    address,
    binding::{Binding, head},
    world::{Kind, ObjectRef, World, is_default_track, target_component},
};

/// A way in for one connection of one consumer: the same endpoint under a path that only this consumer is told, so that
/// the gateway can treat its requests as the connection's policy demands.
#[derive(Debug, Clone, PartialEq)]
pub struct Lane {
    /// The consumer's binding.
    pub consumer: ObjectRef,
    /// Its project.
    pub project: String,
    /// Its component, with its track.
    pub component: String,
    /// The connection.
    pub connection: String,
    /// What the connection demands.
    pub policy: ConnectionPolicy,
}

impl Lane {
    /// The path prefix at a door.
    pub fn path(&self, door: &Door) -> String {
        address::join_path([
            "_from",
            self.project.as_str(),
            self.component.as_str(),
            self.connection.as_str(),
            door.path.as_str(),
        ])
    }

    /// Who asks for it.
    pub fn declared_by(&self) -> String {
        format!("{} connections[{}].policy", self.consumer, self.connection)
    }
}

/// Whether anything in a connection's policy is to be enforced.
pub(crate) fn asks(policy: &ConnectionPolicy) -> bool {
    let ConnectionPolicy {
        timeout,
        retries,
        circuit_breaker,
    } = policy;
    timeout.is_some() || retries.is_some() || circuit_breaker.is_some()
}

impl Exposed<'_> {
    /// A public endpoint may be called by other projects, and they come through the organization gateway. That way in is
    /// opened by the connection that asks for it, not by default.
    pub(super) fn on_demand(&self, world: &World, all: &mut BTreeMap<String, Exposure>) {
        if !is_default_track(self.track) || all.values().all(|e| e.levels.is_empty()) {
            return;
        }
        let only = (all.len() == 1).then(|| all.keys().next().cloned()).flatten();
        for consumer in consumers(
            world,
            &self.place.organization,
            self.component,
            &self.place.environment,
        ) {
            let inside = consumer.owner.project_name == self.place.project;
            let Ok(source) = consumer.source(world) else {
                continue;
            };
            for (name, connection) in source.workload.iter().flat_map(|w| &w.connections) {
                if target_component(connection) != Some(self.component) {
                    continue;
                }
                // A connection that names no project means its own.
                let project = connection.params.get("projectName").filter(|p| !p.is_empty());
                if project.unwrap_or(&consumer.owner.project_name) != &self.place.project {
                    continue;
                }
                let endpoint = connection.params.get("endpoint").or(only.as_ref());
                let Some(exposure) = endpoint.and_then(|e| all.get_mut(e)) else {
                    continue;
                };
                // Within a project calls go straight to the pods; a server outside has none.
                if inside && !matches!(exposure.upstream, Upstream::External(_)) {
                    continue;
                }
                if exposure.levels.contains_key(&ExposeLevel::Public) {
                    exposure
                        .levels
                        .entry(ExposeLevel::Organization)
                        .or_insert_with(|| format!("{} connections[{name}]", consumer.reference));
                }
                let exposed = exposure.levels.contains_key(&ExposeLevel::Organization);
                if let Some(policy) = connection.policy.as_ref().filter(|p| asks(p))
                    && exposed
                    && exposure.routing == Routing::Path
                {
                    exposure.lanes.push(Lane {
                        consumer: consumer.reference.clone(),
                        project: consumer.owner.project_name.clone(),
                        component: choreo_api::names::workload(
                            &consumer.owner.component_name,
                            &consumer.track,
                        ),
                        connection: name.clone(),
                        policy: policy.clone(),
                    });
                }
            }
        }
    }
}

/// The bindings in an environment whose workload connects to a component, by kind and name.
pub(crate) fn consumers(world: &World, namespace: &str, component: &str, environment: &str) -> Vec<Binding> {
    let target = ObjectRef::new(Kind::Component, namespace, component);
    let mut found: BTreeSet<&ObjectRef> = BTreeSet::new();
    let is_one = |r: &&ObjectRef| {
        head(world, r).is_some_and(|h| h.environment == environment && h.owner.component_name != component)
    };
    for referrer in world.referrers(&target) {
        if referrer.kind == Kind::DeployableArtifact {
            found.extend(world.referrers(referrer).filter(is_one));
        } else {
            found.extend(Some(referrer).filter(is_one));
        }
    }
    found
        .into_iter()
        .filter_map(|r| Binding::find(world, r))
        .collect()
}
