//! Plans: what should be, for one object.
//!
//! A [`Target`] names something that the platform looks after; [`plan`] says, from a snapshot of the world and nothing
//! else, which objects must exist because of it, which must go, and what its status is. Controllers carry a plan out,
//! offline rendering prints it: both get the same bytes.

use std::fmt;

use choreo_api::conditions::Condition;
use serde_json::{Map, Value};

use crate::{
    plans,
    problem::Problems,
    world::{Key, Kind, ObjectRef, World, complete},
};

/// Something that the platform looks after.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// An object of one of our kinds.
    Object(ObjectRef),
    /// A project in an environment. It has no object of its own.
    Cell {
        /// The organization.
        namespace: String,
        /// The project.
        project: String,
        /// The environment.
        environment: String,
    },
}

impl Target {
    /// The target for an object.
    pub fn object(kind: Kind, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self::Object(ObjectRef::new(kind, namespace, name))
    }

    /// The object, when the target is one.
    pub fn as_object(&self) -> Option<&ObjectRef> {
        match self {
            Self::Object(reference) => Some(reference),
            Self::Cell { .. } => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(r) => write!(f, "{} {}", r.kind.as_str(), r.key),
            Self::Cell {
                namespace,
                project,
                environment,
            } => write!(f, "Cell {namespace}/{project}/{environment}"),
        }
    }
}

/// An object that must exist.
#[derive(Debug, Clone, PartialEq)]
pub struct Child {
    /// Its controller: the object that it belongs to and goes with.
    pub owner: ObjectRef,
    /// Exactly the fields that the platform decides, for server-side apply. What others set (a binding's overrides, say)
    /// is not in it. Without ownerReferences, uid or anything else that only the server knows.
    pub object: Value,
}

impl Child {
    /// A child; its `metadata` must have a name.
    pub fn new(owner: &ObjectRef, object: Value) -> Self {
        Self {
            owner: owner.clone(),
            object,
        }
    }

    fn text(&self, pointer: &str) -> &str {
        self.object
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// Its kind.
    pub fn kind(&self) -> &str {
        self.text("/kind")
    }

    /// Its `apiVersion`.
    pub fn api_version(&self) -> &str {
        self.text("/apiVersion")
    }

    /// Namespace (empty for cluster-scoped kinds) and name.
    pub fn key(&self) -> Key {
        Key::new(self.text("/metadata/namespace"), self.text("/metadata/name"))
    }
}

/// An ownerReference to add to an object that somebody else wrote, so that it goes when its owner goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Adoption {
    /// The object that is adopted.
    pub object: ObjectRef,
    /// Its new owner (not its controller).
    pub owner: ObjectRef,
}

/// The whole status of an object, but for times.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Status {
    /// The conditions, in order, without times.
    pub conditions: Vec<Condition>,
    /// The other fields of the status.
    pub fields: Map<String, Value>,
    /// The generation that was looked at.
    pub observed_generation: Option<i64>,
}

impl Status {
    /// The condition of a type.
    pub fn condition(&self, type_: &str) -> Option<&Condition> {
        self.conditions.iter().find(|c| c.type_ == type_)
    }
}

/// What should be, because of one target.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// The objects that must exist, in the order in which to write them.
    pub children: Vec<Child>,
    /// The objects that must get an owner.
    pub adopt: Vec<Adoption>,
    /// The objects that must not exist any more. Only ever objects that the target itself owns.
    pub prune: Vec<ObjectRef>,
    /// The target's status; `None` for a target without one.
    pub status: Option<Status>,
    /// What stands in the way; also in the status.
    pub problems: Problems,
}

/// What should be, because of a target. A target that does not exist (any more) or is being deleted has an empty plan:
/// its children go by their ownerReferences.
/// Of what cannot be read nothing is said, and nothing is done: the plan is empty, too.
pub fn plan(world: &World, target: &Target) -> Plan {
    complete(|| plan_of(world, target)).unwrap_or_default()
}

fn plan_of(world: &World, target: &Target) -> Plan {
    let reference = match target {
        Target::Cell {
            namespace,
            project,
            environment,
        } => return plans::cell::plan(world, namespace, project, environment),
        Target::Object(reference) => reference,
    };
    match world.get_any(reference) {
        None => Plan::default(),
        Some(object) if object.meta().deletion_timestamp.is_some() => Plan::default(),
        Some(object) => plans::of(world, reference, &object),
    }
}
