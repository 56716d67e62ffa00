//! Rules between objects, which the schema of one kind cannot state: what may not be written, and what may not be deleted.
//!
//! They are here once. Admission asks before a write ([`refusals`]); the plans of the kinds call the same rules
//! ([`not_in_pipeline`], [`host_taken`], [`crate::pipeline::order`], [`crate::blueprint`]), since admission may be off and two
//! writes at the same time do not see each other.
//!
//! Order does not matter: what is not there yet breaks no rule. It is waited for, and a condition says so.
//!
//! What other objects say about a new one that leaves it out is here as well ([`fill`]), and whom it belongs to ([`owner`]).

mod defaults;
mod owner;

use choreo_api::annotations::FORCE_DELETE;
use choreo_api::v1alpha1::{DeploymentPipeline, Environment, Project, PromotionBypass};
use kube::ResourceExt as _;
use serde_json::Value;

pub use defaults::{default_reads, fill, lacks};
pub use owner::{adopt, has_owner, owner};

use crate::binding;
use crate::blueprint;
use crate::plans::pipeline;
use crate::problem::quoted_list;
use crate::promotion::{CHANGED_BY, PROMOTED_BY};
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

/// Writes down who writes, where that is for the API server to say: who asks for a promotion, who decides about one, who goes past
/// everything, and who puts an artifact into a binding. `before` is the object as it was, for a change.
pub fn stamp(object: &mut Value, before: Option<&Value>, user: &str, groups: &[String]) {
    let kind = object["kind"].as_str().unwrap_or_default().to_owned();
    let is_binding = binding::KINDS.iter().any(|known| known.as_str() == kind);
    match kind.as_str() {
        "Promotion" | "PromotionDecision" | "PromotionBypass" => {
            let Some(spec) = object["spec"].as_object_mut() else {
                return;
            };
            // Once written it stays; the specs cannot be changed.
            if let Some(before) = before {
                for field in ["requestedBy", "fromBinding", "user", "groups"] {
                    match before["spec"].get(field) {
                        Some(value) => spec.insert(field.to_owned(), value.clone()),
                        None => spec.remove(field),
                    };
                }
                return;
            }
            if kind == "Promotion" {
                spec.insert("requestedBy".to_owned(), Value::from(user));
                spec.remove("fromBinding");
                return;
            }
            spec.insert("user".to_owned(), Value::from(user));
            if kind == "PromotionDecision" {
                spec.insert("groups".to_owned(), Value::from(groups.to_vec()));
            }
        }
        _ if is_binding => {
            let says = |object: &Value| object["spec"].get("artifactRef").cloned();
            let kept =
                |key: &str| before.and_then(|before| before["metadata"]["annotations"].get(key).cloned());
            let same = before.is_some_and(|before| says(before) == says(object));
            let (by, promoted) = if same {
                (kept(CHANGED_BY), kept(PROMOTED_BY))
            } else {
                (says(object).map(|_| Value::from(user)), None)
            };
            if by.is_none() && promoted.is_none() && object["metadata"]["annotations"].is_null() {
                return;
            }
            if object["metadata"]["annotations"].is_null() {
                object["metadata"]["annotations"] = Value::Object(serde_json::Map::new());
            }
            if let Some(annotations) = object["metadata"]["annotations"].as_object_mut() {
                for (key, value) in [(CHANGED_BY, by), (PROMOTED_BY, promoted)] {
                    match value {
                        Some(value) => annotations.insert(key.to_owned(), value),
                        None => annotations.remove(key),
                    };
                }
            }
        }
        _ => {}
    }
}

/// Whether an object is one whose author must be known for sure: without that it must not be written at all.
pub fn is_signed(kind: &str) -> bool {
    matches!(kind, "Promotion" | "PromotionDecision" | "PromotionBypass")
}

/// The annotations of a binding that say whose word its artifact is, which is for the API server and the platform to say.
pub const AUTHORSHIP: [&str; 2] = [CHANGED_BY, PROMOTED_BY];

/// Why an object must not be written as it is: it says that somebody else writes it. For API servers that cannot be made to write
/// down themselves who it is.
pub fn forged(object: &Value, before: Option<&Value>, user: &str, groups: &[String]) -> Option<Refusal> {
    if !is_signed(object["kind"].as_str().unwrap_or_default()) {
        return None;
    }
    let mut signed = object.clone();
    stamp(&mut signed, before, user, groups);
    let spec = (object["spec"].as_object()?, signed["spec"].as_object()?);
    let list = |value: Option<&Value>| -> std::collections::BTreeSet<String> {
        let all = value.and_then(Value::as_array).into_iter().flatten();
        all.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    for field in ["requestedBy", "user", "fromBinding"] {
        let (says, is) = (spec.0.get(field), spec.1.get(field));
        if says != is {
            return Some(Refusal {
                field: format!("spec.{field}"),
                message: match is {
                    Some(is) => format!("must be {is}, which is who writes it"),
                    None => "must not be given".to_owned(),
                },
            });
        }
    }
    // Whoever leaves a group out has no more rights by that.
    let (says, is) = (list(spec.0.get("groups")), list(spec.1.get("groups")));
    (!says.is_subset(&is)).then(|| Refusal {
        field: "spec.groups".to_owned(),
        message: format!("{user} is not a member of all of them"),
    })
}

/// Why the status of an object may not be written by people: what may run is decided by it.
pub fn status_is_ours(kind: &str) -> bool {
    is_signed(kind) || kind == Kind::Deployment.as_str()
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
    if deletion && kind == Kind::Promotion {
        return Some(&[]);
    }
    if deletion {
        return Some(users(kind)).filter(|users| !users.is_empty());
    }
    match kind {
        Kind::DeploymentPipeline | Kind::ComponentType | Kind::Trait | Kind::ResourceType => Some(&[]),
        Kind::Environment => Some(&[Kind::Environment]),
        Kind::Promotion => Some(&[
            Kind::Project,
            Kind::DeploymentPipeline,
            Kind::Promotion,
            Kind::PromotionBypass,
        ]),
        kind if binding::KINDS.contains(&kind) => Some(&[Kind::Project, Kind::DeploymentPipeline]),
        _ => None,
    }
}

/// Those of the kinds ([`reads`]) that the rules about this very write look at: the others of a set, only if it is of one.
pub fn reads_for(change: Change<'_>, reads: &'static [Kind]) -> impl Iterator<Item = Kind> {
    let alone = matches!(change.object(), AnyObject::Promotion(promotion) if promotion.spec.set.is_none());
    let all = reads.iter().copied();
    all.filter(move |kind| !(alone && *kind == Kind::Promotion))
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

fn spec(object: &AnyObject) -> Option<Value> {
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
        AnyObject::Environment(environment) => {
            let host = host_taken(world, environment).map(|message| at("spec.gateway.dnsPrefix", message));
            let freezes = environment.spec.freezes.iter().enumerate();
            let wrong = freezes.filter_map(|(i, freeze)| {
                let why = crate::promotion::freeze::check(freeze).err()?;
                Some(at(&format!("spec.freezes[{i}]"), why))
            });
            host.into_iter().chain(wrong).collect()
        }
        AnyObject::Promotion(promotion) => {
            let namespace = promotion.namespace().unwrap_or_default();
            let name = promotion.name_any();
            // Whoever goes past everything has said so before.
            let past = world
                .in_namespace::<PromotionBypass>(&namespace)
                .any(|bypass| bypass.spec.promotion_ref == name);
            let refusal = (!past)
                .then(|| crate::promotion::path_refusal(world, &namespace, &promotion.spec))
                .flatten();
            let said = |r: choreo_promotion::Refusal| {
                at("spec.targetEnvironment", format!("{}: {}", r.rule, r.message))
            };
            let full = (!past)
                .then(|| crate::promotion::set_full(world, &namespace, promotion))
                .flatten()
                .map(|r| at("spec.set", format!("{}: {}", r.rule, r.message)));
            refusal.map(said).into_iter().chain(full).collect()
        }
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
    if let AnyObject::Promotion(promotion) = object
        && let Some(bypass) = promotion
            .status
            .as_ref()
            .and_then(|status| status.bypass.as_ref())
    {
        return Some(Refusal {
            field: String::new(),
            message: format!(
                "{} went past all gates with it ({}), which is kept for ever",
                bypass.user, bypass.reason
            ),
        });
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
