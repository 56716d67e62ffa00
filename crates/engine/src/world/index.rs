//! What plans ask of many objects at once, kept up to date so that they need not look at each.

use std::{collections::BTreeSet, sync::Arc};

use choreo_api::v1alpha1::common::{ComponentOwner, EndpointType};
use imbl::{OrdMap, OrdSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{AnyObject, Key, Kind, ObjectRef};

/// A project in an environment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Cell {
    namespace: String,
    project: String,
    environment: String,
}

/// See the module's documentation.
#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    /// How many bindings ask for a cell: all that are not being deleted and say themselves whose they are.
    cells: OrdMap<Arc<Cell>, usize>,
    /// What refers to managed resources, by namespace first.
    managed: OrdSet<(Arc<str>, ObjectRef)>,
    /// The endpoints of TCP and UDP, by namespace and name.
    listening: OrdSet<ObjectRef>,
}

impl Index {
    pub(super) fn environments_of<'a>(&'a self, project: &'a Key) -> impl Iterator<Item = &'a str> + 'a {
        let first = Cell {
            namespace: project.namespace.clone(),
            project: project.name.clone(),
            environment: String::new(),
        };
        self.cells
            .range(first..)
            .map(|(cell, _)| cell)
            .take_while(|cell| cell.namespace == project.namespace && cell.project == project.name)
            .map(|cell| cell.environment.as_str())
    }

    pub(super) fn has_cell(&self, project: &Key, environment: &str) -> bool {
        self.cells.contains_key(&Cell {
            namespace: project.namespace.clone(),
            project: project.name.clone(),
            environment: environment.to_owned(),
        })
    }

    pub(super) fn uses_managed_resources(&self, namespace: &str) -> bool {
        let least = ObjectRef::new(Kind::ALL[0], "", "");
        let first: (Arc<str>, ObjectRef) = (namespace.into(), least);
        self.managed
            .range(first..)
            .next()
            .is_some_and(|(found, _)| **found == *namespace)
    }

    pub(super) fn resource_releases<'a>(
        &'a self,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a ObjectRef> + 'a {
        let first: (Arc<str>, ObjectRef) = (namespace.into(), ObjectRef::new(Kind::Release, "", ""));
        self.managed
            .range(first..)
            .take_while(move |(found, object)| **found == *namespace && object.kind == Kind::Release)
            .map(|(_, object)| object)
    }

    pub(super) fn listening<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a ObjectRef> + 'a {
        self.listening
            .range(ObjectRef::new(Kind::Endpoint, namespace, "")..)
            .take_while(move |endpoint| endpoint.key.namespace == namespace)
    }

    /// An object, with what it refers to, takes the place of another.
    pub(super) fn change(
        &mut self,
        reference: &ObjectRef,
        (old, was): (Option<&AnyObject>, &BTreeSet<ObjectRef>),
        (new, is): (Option<&AnyObject>, &BTreeSet<ObjectRef>),
    ) {
        let (left, entered) = (old.and_then(cell), new.and_then(cell));
        if left != entered {
            if let Some(cell) = left {
                let count = self.cells.get(&cell).copied().unwrap_or_default();
                if count > 1 {
                    self.cells.insert(Arc::new(cell), count - 1);
                } else {
                    self.cells.remove(&cell);
                }
            }
            if let Some(cell) = entered {
                let count = self.cells.get(&cell).copied().unwrap_or_default();
                self.cells.insert(Arc::new(cell), count + 1);
            }
        }
        match (old.is_some_and(listens), new.is_some_and(listens)) {
            (false, true) => drop(self.listening.insert(reference.clone())),
            (true, false) => drop(self.listening.remove(reference)),
            _ => {}
        }
        let uses = |edges: &BTreeSet<ObjectRef>| edges.iter().any(|e| e.kind == Kind::ManagedResource);
        if uses(was) != uses(is) {
            let entry = (Arc::from(reference.key.namespace.as_str()), reference.clone());
            if uses(is) {
                self.managed.insert(entry);
            } else {
                self.managed.remove(&entry);
            }
        }
    }
}

/// Whether it is an endpoint that wants a port of a gateway for itself.
fn listens(object: &AnyObject) -> bool {
    let AnyObject::Endpoint(endpoint) = object else {
        return false;
    };
    matches!(
        endpoint.spec.endpoint_type(),
        Some(EndpointType::TCP | EndpointType::UDP)
    )
}

/// The cell that a binding asks for.
fn cell(object: &AnyObject) -> Option<Cell> {
    let of = |meta: &ObjectMeta, owner: &ComponentOwner, environment: &str| {
        meta.deletion_timestamp.is_none().then(|| Cell {
            namespace: meta.namespace.clone().unwrap_or_default(),
            project: owner.project_name.clone(),
            environment: environment.to_owned(),
        })
    };
    match object {
        AnyObject::ServiceBinding(b) => of(&b.metadata, &b.spec.owner, &b.spec.environment),
        AnyObject::WebApplicationBinding(b) => of(&b.metadata, &b.spec.owner, &b.spec.environment),
        AnyObject::ScheduledTaskBinding(b) => of(&b.metadata, &b.spec.owner, &b.spec.environment),
        AnyObject::ComponentBinding(b) => of(&b.metadata, &b.spec.owner, &b.spec.environment),
        AnyObject::APIBinding(b) => of(&b.metadata, b.spec.owner.as_ref()?, &b.spec.environment_name),
        _ => None,
    }
}
