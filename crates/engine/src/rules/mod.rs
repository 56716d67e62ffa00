//! Rules between objects, which the schema of one kind cannot state: what may not be written, and what may not be deleted.
//!
//! They are here once. Admission asks before a write ([`refusals`]); the plans of the kinds call the same rules
//! ([`not_in_pipeline`], [`host_taken`], [`crate::pipeline::order`], [`crate::blueprint`]), since admission may be off and two
//! writes at the same time do not see each other.
//!
//! Order does not matter: what is not there yet breaks no rule. It is waited for, and a condition says so.
//!
//! What other objects say about a new one that leaves it out is here as well ([`fill`]).

mod defaults;

use choreo_api::annotations::FORCE_DELETE;
use choreo_api::v1alpha1::{DeploymentPipeline, Environment, Project};
use kube::ResourceExt as _;

pub use defaults::{default_reads, fill, lacks};

use crate::binding;
use crate::blueprint;
use crate::plans::pipeline;
use crate::problem::quoted_list;
use crate::world::{AnyObject, Kind, ObjectRef, World};

/// As many objects are named as a person reads.
const NAMED: usize = 5;

/// A write that is to be judged.
#[derive(Debug, Clone, Copy)]
pub enum Change<'a> {
    /// An object is made.
    Create(&'a AnyObject),
    /// An object is changed: before and after.
    Update(&'a AnyObject, &'a AnyObject),
    /// An object is deleted.
    Delete(&'a AnyObject),
}

impl<'a> Change<'a> {
    /// The object as it would be, or as it is when it is to be deleted.
    pub fn object(&self) -> &'a AnyObject {
        match self {
            Self::Create(object) | Self::Update(_, object) | Self::Delete(object) => object,
        }
    }
}

/// Why a write must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Path of the field; empty if it is not about a field.
    pub field: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// Whether the rules are for this user. The parts of Kubernetes that carry out what somebody else has decided (garbage
/// collection, the end of a namespace, our own controllers) are not asked again, or a deletion would stop half-way.
pub fn apply_to(user: &str) -> bool {
    match user.strip_prefix("system:") {
        None => true,
        Some(system) => system
            .strip_prefix("serviceaccount:")
            .is_some_and(|account| !account.starts_with("kube-system:")),
    }
}

/// What refers to a kind so that it is in use. Objects of other kinds may be deleted at any time.
fn users(kind: Kind) -> &'static [Kind] {
    match kind {
        Kind::DataPlane => &[Kind::Environment],
        Kind::Environment => &[
            Kind::DeploymentPipeline,
            Kind::ServiceBinding,
            Kind::WebApplicationBinding,
            Kind::ScheduledTaskBinding,
            Kind::APIBinding,
            Kind::ComponentBinding,
        ],
        Kind::DeploymentPipeline => &[Kind::Project],
        Kind::ServiceClass => &[Kind::Service],
        Kind::WebApplicationClass => &[Kind::WebApplication],
        Kind::ScheduledTaskClass => &[Kind::ScheduledTask],
        Kind::ComponentType | Kind::Trait => &[Kind::Component],
        Kind::ResourceType => &[Kind::ManagedResource],
        _ => &[],
    }
}

/// The kinds, in the object's namespace, that the rules about such a write look at. `None` if there is no rule about it.
pub fn reads(kind: Kind, deletion: bool) -> Option<&'static [Kind]> {
    if deletion {
        return Some(users(kind)).filter(|users| !users.is_empty());
    }
    match kind {
        Kind::DeploymentPipeline | Kind::ComponentType | Kind::Trait | Kind::ResourceType => Some(&[]),
        Kind::Environment => Some(&[Kind::Environment]),
        kind if binding::KINDS.contains(&kind) => Some(&[Kind::Project, Kind::DeploymentPipeline]),
        _ => None,
    }
}

/// Every reason why a write must not be; none if it may. `world` has at least the objects of [`reads`], as they are before.
pub fn refusals(world: &World, change: Change<'_>) -> Vec<Refusal> {
    match change {
        Change::Delete(object) => in_use(world, object).into_iter().collect(),
        Change::Create(object) => wrong(world, object),
        // What was let in once stays writable in all other respects: its conditions say what is wrong with it.
        Change::Update(before, after) if spec(before) == spec(after) => Vec::new(),
        Change::Update(_, after) => wrong(world, after),
    }
}

fn spec(object: &AnyObject) -> Option<serde_json::Value> {
    object.to_value().ok().map(|mut value| value["spec"].take())
}

fn wrong(world: &World, object: &AnyObject) -> Vec<Refusal> {
    let at = |field: &str, message: String| Refusal {
        field: field.to_owned(),
        message,
    };
    match object {
        AnyObject::DeploymentPipeline(pipeline) => match pipeline::order(pipeline) {
            Err(problem) if problem.reason == choreo_api::conditions::reasons::PIPELINE_CYCLE => {
                vec![at("spec.promotionPaths", problem.message)]
            }
            _ => Vec::new(),
        },
        AnyObject::Environment(environment) => host_taken(world, environment)
            .map(|message| at("spec.gateway.dnsPrefix", message))
            .into_iter()
            .collect(),
        AnyObject::ComponentType(_) | AnyObject::Trait(_) | AnyObject::ResourceType(_) => object
            .to_value()
            .ok()
            .and_then(|value| blueprint::object_problems(&value))
            .into_iter()
            .flatten()
            .map(|problem| {
                let (field, message) = problem
                    .message
                    .split_once(": ")
                    .unwrap_or(("spec", &problem.message));
                at(field, message.to_owned())
            })
            .collect(),
        _ => {
            let reference = object.reference();
            let mut alone = World::new();
            alone.upsert(object.clone());
            binding::head(&alone, &reference)
                .and_then(|head| {
                    not_in_pipeline(
                        world,
                        &reference.key.namespace,
                        &head.owner.project_name,
                        head.environment,
                    )
                })
                .map(|message| at("spec.environment", message))
                .into_iter()
                .collect()
        }
    }
}

/// Why a component of a project may not run in an environment: the project's pipeline does not lead there. What is not there
/// yet, and a pipeline that is wrong itself, say nothing.
pub fn not_in_pipeline(world: &World, namespace: &str, project: &str, environment: &str) -> Option<String> {
    let project = world.get::<Project>(namespace, project)?;
    let name = &project.spec.deployment_pipeline_ref;
    let pipeline = world.get::<DeploymentPipeline>(namespace, name)?;
    let order = pipeline::order(pipeline).ok()?;
    (!order.environments.iter().any(|known| known == environment)).then(|| {
        format!(
            "Environment {environment:?} is not in DeploymentPipeline {name:?} of Project {:?}, which has {}: choose one of them, \
             or add a path to it",
            project.name_any(),
            quoted_list(order.environments.iter().map(String::as_str)),
        )
    })
}

/// Why an environment cannot have its host: another one has it already.
pub fn host_taken(world: &World, environment: &Environment) -> Option<String> {
    fn prefix(environment: &Environment) -> String {
        let gateway = environment.spec.gateway.as_ref();
        let own = gateway.and_then(|gateway| gateway.dns_prefix.as_deref());
        own.filter(|prefix| !prefix.is_empty())
            .map_or_else(|| environment.name_any(), str::to_owned)
    }
    let namespace = environment.namespace().unwrap_or_default();
    let (name, own) = (environment.name_any(), prefix(environment));
    let other = world.in_namespace::<Environment>(&namespace).find(|other| {
        other.name_any() != name
            && other.spec.data_plane_ref == environment.spec.data_plane_ref
            && other.metadata.deletion_timestamp.is_none()
            && prefix(other) == own
    })?;
    Some(format!(
        "{own:?} leads to Environment {:?} of the same data plane already: choose another prefix",
        other.name_any()
    ))
}

/// Why an object may not be deleted: others use it.
fn in_use(world: &World, object: &AnyObject) -> Option<Refusal> {
    let meta = object.meta();
    let forced = meta
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(FORCE_DELETE));
    if meta.deletion_timestamp.is_some() || forced.is_some_and(|value| value == "true") {
        return None;
    }
    let reference = object.reference();
    let counts = |user: &&ObjectRef| {
        let hidden = ObjectRef::new(reference.kind, &user.key.namespace, &reference.key.name);
        users(reference.kind).contains(&user.kind)
            && world.get_any(user).is_some_and(|user| user.meta().deletion_timestamp.is_none())
            // An organization's own class hides the platform's of the same name.
            && (hidden == reference || world.get_any(&hidden).is_none())
    };
    let users: Vec<String> = world
        .referrers(&reference)
        .filter(counts)
        .map(ToString::to_string)
        .collect();
    let more = match users.len().checked_sub(NAMED) {
        None | Some(0) => String::new(),
        Some(more) => format!(" and {more} more"),
    };
    (!users.is_empty()).then(|| Refusal {
        field: String::new(),
        message: format!(
            "it is used by {}{more}: change or delete them first, or annotate it with {FORCE_DELETE}: \"true\"",
            users[..users.len().min(NAMED)].join(", "),
        ),
    })
}
