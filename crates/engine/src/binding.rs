//! Bindings of every kind, seen as one thing: what runs of a component in an environment.

use std::{collections::BTreeMap, ops::Deref, sync::Arc};

use choreo_api::{
    conditions::reasons,
    v1alpha1::{
        API, APIBinding, Component, ComponentBinding, DeployableArtifact, DeployableArtifactSpec,
        FrozenScheduledTask, FrozenService, FrozenWebApplication, RawObject, ScheduledTaskBinding,
        ServiceBinding, TaskRun, WebApplicationBinding, WorkloadTemplate,
        common::{ComponentOwner, Condition, EndpointAddresses, Overrides, ReleaseState},
    },
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use crate::{
    freeze,
    problem::{Problem, Problems},
    world::{AnyObject, Kind, Known, ObjectRef, World},
};

/// The kinds of binding.
pub const KINDS: [Kind; 5] = [
    Kind::ServiceBinding,
    Kind::WebApplicationBinding,
    Kind::ScheduledTaskBinding,
    Kind::APIBinding,
    Kind::ComponentBinding,
];

/// The kind of binding that runs an artifact.
pub fn kind_for(artifact: &DeployableArtifactSpec) -> Kind {
    if artifact.custom.is_some() {
        Kind::ComponentBinding
    } else if artifact.api.is_some() {
        Kind::APIBinding
    } else if artifact.scheduled_task.is_some() {
        Kind::ScheduledTaskBinding
    } else if artifact.web_application.is_some() {
        Kind::WebApplicationBinding
    } else {
        Kind::ServiceBinding
    }
}

/// What runs, wherever it is written.
#[derive(Debug, Clone)]
pub enum Source {
    /// In an artifact, which is shared rather than copied.
    Artifact(Arc<DeployableArtifact>),
    /// In the binding.
    Inline(Box<DeployableArtifactSpec>),
}

impl Deref for Source {
    type Target = DeployableArtifactSpec;

    fn deref(&self) -> &DeployableArtifactSpec {
        match self {
            Self::Artifact(artifact) => &artifact.spec,
            Self::Inline(spec) => spec,
        }
    }
}

/// A binding, whatever its kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Binding {
    /// Which object it is.
    pub reference: ObjectRef,
    /// Whose it is.
    pub owner: ComponentOwner,
    /// Where it runs.
    pub environment: String,
    /// The track.
    pub track: String,
    /// The artifact that runs.
    pub artifact: Option<String>,
    /// What runs when there is no artifact: a binding that was written by hand.
    pub inline: Option<WorkloadTemplate>,
    /// What is different in this environment.
    pub overrides: Overrides,
    /// What should become of it.
    pub state: ReleaseState,
    /// Its generation.
    pub generation: Option<i64>,
    /// The conditions that its status states for this generation.
    pub conditions: Vec<Condition>,
    /// The number of the revision that its status states.
    pub revision: Option<i64>,
    /// The addresses that its status states.
    pub addresses: Vec<EndpointAddresses>,
    /// Whether its artifact was chosen by hand and stays until that is undone.
    pub pinned: bool,
    /// Values for the `environmentConfigs` of its ComponentType.
    pub environment_configs: Option<Value>,
    /// Values for the `environmentConfigs` of its traits, by the name of the trait's use.
    pub trait_environment_configs: BTreeMap<String, RawObject>,
    /// The APIClass that guards it here instead of the artifact's.
    pub api_class: Option<String>,
    /// The runs of a task that somebody asked for.
    pub runs: Vec<String>,
    /// Those of which its status tells.
    pub known_runs: Vec<TaskRun>,
    typed: Typed,
}

/// What a binding that was written by hand says of its component's type.
#[derive(Debug, Clone, PartialEq)]
enum Typed {
    Service {
        class: String,
        service: FrozenService,
    },
    WebApplication {
        class: String,
        web_application: FrozenWebApplication,
    },
    ScheduledTask {
        class: String,
    },
    Api {
        name: String,
        class: String,
    },
    Custom,
}

/// Whose a binding is and where it runs, without reading the rest of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head<'a> {
    pub(crate) owner: &'a ComponentOwner,
    pub(crate) environment: &'a str,
}

/// The head of a binding; `None` for objects that are none and for those that are being deleted.
pub(crate) fn head<'a>(world: &'a World, reference: &ObjectRef) -> Option<Head<'a>> {
    fn alive<'a, T: Known>(world: &'a World, reference: &ObjectRef) -> Option<&'a T> {
        let object = world
            .get::<T>(&reference.key.namespace, &reference.key.name)?
            .as_ref();
        object.meta().deletion_timestamp.is_none().then_some(object)
    }
    let (owner, environment) = match reference.kind {
        Kind::ServiceBinding => {
            let b = alive::<ServiceBinding>(world, reference)?;
            (&b.spec.owner, &b.spec.environment)
        }
        Kind::WebApplicationBinding => {
            let b = alive::<WebApplicationBinding>(world, reference)?;
            (&b.spec.owner, &b.spec.environment)
        }
        Kind::ScheduledTaskBinding => {
            let b = alive::<ScheduledTaskBinding>(world, reference)?;
            (&b.spec.owner, &b.spec.environment)
        }
        Kind::APIBinding => {
            let b = alive::<APIBinding>(world, reference)?;
            (api_owner(world, b)?, &b.spec.environment_name)
        }
        Kind::ComponentBinding => {
            let b = alive::<ComponentBinding>(world, reference)?;
            (&b.spec.owner, &b.spec.environment)
        }
        _ => return None,
    };
    Some(Head { owner, environment })
}

/// Whose the binding of an API is: its own owner, or else the API's.
fn api_owner<'a>(world: &'a World, binding: &'a APIBinding) -> Option<&'a ComponentOwner> {
    let namespace = binding.metadata.namespace.as_deref().unwrap_or_default();
    let of_api = || {
        world
            .get::<API>(namespace, &binding.spec.api_name)
            .map(|api| &api.spec.owner)
    };
    binding.spec.owner.as_ref().or_else(of_api)
}

/// The bindings that refer to a component or a project, and those that leave it to their API to say whose they are.
pub(crate) fn referring<'a>(world: &'a World, owner: &ObjectRef) -> impl Iterator<Item = &'a ObjectRef> {
    let silent = |r: &&ObjectRef| {
        r.kind == Kind::APIBinding
            && world
                .get::<APIBinding>(&r.key.namespace, &r.key.name)
                .is_some_and(|b| b.spec.owner.is_none())
    };
    let through_api = world
        .referrers_of(owner, &[Kind::API])
        .flat_map(|api| world.referrers(api))
        .filter(silent);
    world.referrers_of(owner, &KINDS).chain(through_api)
}

/// The environments of the bindings that leave it to an API of this project to say whose they are.
pub(crate) fn environments_through_apis<'a>(
    world: &'a World,
    project: &ObjectRef,
) -> impl Iterator<Item = &'a str> {
    let bindings = world
        .referrers_of(project, &[Kind::API])
        .flat_map(|api| world.referrers_of(api, &[Kind::APIBinding]));
    let heads = bindings.filter_map(|binding| head(world, binding));
    let project = project.key.name.clone();
    heads
        .filter(move |head| head.owner.project_name == project)
        .map(|head| head.environment)
}

/// What all kinds of binding have in common.
struct Common<'a> {
    meta: &'a ObjectMeta,
    owner: &'a ComponentOwner,
    environment: &'a str,
    track: &'a str,
    artifact: Option<&'a String>,
    inline: Option<&'a WorkloadTemplate>,
    overrides: &'a Overrides,
    traits: &'a BTreeMap<String, RawObject>,
    state: ReleaseState,
}

/// What the statuses of all kinds of binding have in common.
#[derive(Default)]
struct Observed {
    generation: Option<i64>,
    conditions: Vec<Condition>,
    revision: Option<i64>,
    addresses: Vec<EndpointAddresses>,
}

macro_rules! observed {
    ($object:expr) => {
        $object
            .status
            .as_ref()
            .map(|s| Observed {
                generation: s.observed_generation,
                conditions: s.conditions.clone(),
                revision: s.revision,
                addresses: s.endpoints.clone(),
            })
            .unwrap_or_default()
    };
}

impl Common<'_> {
    fn build(self, reference: ObjectRef, observed: Observed, typed: Typed) -> Binding {
        let generation = self.meta.generation;
        Binding {
            reference,
            owner: self.owner.clone(),
            environment: self.environment.to_owned(),
            track: self.track.to_owned(),
            artifact: self.artifact.cloned().filter(|a| !a.is_empty()),
            inline: self.inline.cloned(),
            overrides: self.overrides.clone(),
            state: self.state,
            generation,
            conditions: current(observed.conditions, observed.generation, generation),
            revision: observed.revision,
            addresses: observed.addresses,
            pinned: is_pinned(self.meta),
            environment_configs: None,
            trait_environment_configs: self.traits.clone(),
            api_class: None,
            runs: Vec::new(),
            known_runs: Vec::new(),
            typed,
        }
    }
}

macro_rules! common {
    ($object:expr) => {
        Common {
            meta: &$object.metadata,
            owner: &$object.spec.owner,
            environment: &$object.spec.environment,
            track: $object.spec.track(),
            artifact: $object.spec.artifact_ref.as_ref(),
            inline: $object.spec.workload_spec.as_ref(),
            overrides: &$object.spec.overrides,
            traits: &$object.spec.trait_environment_configs,
            state: $object.spec.release_state,
        }
    };
}

impl Binding {
    /// Reads a binding; `None` for objects that are none, for those that are being deleted, and for the binding of an API
    /// that says no owner while there is no such API.
    pub fn of(world: &World, object: &AnyObject) -> Option<Self> {
        if object.meta().deletion_timestamp.is_some() {
            return None;
        }
        let reference = object.reference();
        match object {
            AnyObject::ServiceBinding(o) => {
                let typed = Typed::Service {
                    class: o.spec.class_name.clone(),
                    service: FrozenService {
                        apis: o.spec.apis.clone(),
                        overrides: Overrides::default(),
                    },
                };
                Some(common!(o).build(reference, observed!(o), typed))
            }
            AnyObject::WebApplicationBinding(o) => {
                let typed = Typed::WebApplication {
                    class: o.spec.class_name.clone(),
                    web_application: FrozenWebApplication {
                        expose_levels: o.spec.expose_levels.clone(),
                        overrides: Overrides::default(),
                    },
                };
                Some(common!(o).build(reference, observed!(o), typed))
            }
            AnyObject::ScheduledTaskBinding(o) => {
                let typed = Typed::ScheduledTask {
                    class: o.spec.class_name.clone(),
                };
                let observed = o.status.as_ref().map(|s| Observed {
                    generation: s.observed_generation,
                    conditions: s.conditions.clone(),
                    revision: s.revision,
                    addresses: Vec::new(),
                });
                let mut binding = common!(o).build(reference, observed.unwrap_or_default(), typed);
                binding.runs = o.spec.runs.clone();
                binding.known_runs = o.status.as_ref().map(|s| s.runs.clone()).unwrap_or_default();
                Some(binding)
            }
            AnyObject::APIBinding(o) => {
                let typed = Typed::Api {
                    name: o.spec.api_name.clone(),
                    class: o.spec.api_class_name.clone(),
                };
                let common = Common {
                    meta: &o.metadata,
                    owner: api_owner(world, o)?,
                    environment: &o.spec.environment_name,
                    track: o.spec.track(),
                    artifact: o.spec.artifact_ref.as_ref(),
                    inline: None,
                    overrides: &o.spec.overrides,
                    traits: &o.spec.trait_environment_configs,
                    state: o.spec.release_state,
                };
                let mut binding = common.build(reference, observed!(o), typed);
                binding.api_class = Some(o.spec.api_class_name.clone()).filter(|c| !c.is_empty());
                Some(binding)
            }
            AnyObject::ComponentBinding(o) => {
                let mut binding = common!(o).build(reference, observed!(o), Typed::Custom);
                binding.environment_configs = o.spec.environment_configs.clone();
                Some(binding)
            }
            _ => None,
        }
    }

    /// Finds a binding by reference.
    pub fn find(world: &World, reference: &ObjectRef) -> Option<Self> {
        Self::of(world, &world.get_any(reference)?)
    }

    /// The bindings of a component, in all environments and tracks, by kind and name.
    pub fn of_component(world: &World, namespace: &str, component: &str) -> Vec<Self> {
        let component = ObjectRef::new(Kind::Component, namespace, component);
        // An inline binding refers to the components that it connects to, too: only the owner counts.
        referring(world, &component)
            .filter(|r| head(world, r).is_some_and(|h| h.owner.component_name == component.key.name))
            .filter_map(|r| Self::find(world, r))
            .collect()
    }

    /// The organization.
    pub fn namespace(&self) -> &str {
        &self.reference.key.namespace
    }

    /// Its name, which is also the name of its release.
    pub fn name(&self) -> &str {
        &self.reference.key.name
    }

    /// What runs: the artifact, or what the binding itself says, frozen on the spot.
    ///
    /// # Errors
    /// When the artifact, or a class that an inline binding names, is missing, or the artifact is another component's.
    pub fn source(&self, world: &World) -> Result<Source, Problems> {
        let of = self.reference.to_string();
        if let Some(name) = &self.artifact {
            let Some(artifact) = world.get::<DeployableArtifact>(self.namespace(), name) else {
                return Err(Problem::waiting(
                    reasons::ARTIFACT_NOT_FOUND,
                    format!(
                        "DeployableArtifact {name:?} not found in namespace {:?}: correct spec.artifactRef of {of}",
                        self.namespace()
                    ),
                )
                .into());
            };
            if artifact
                .spec
                .owner
                .as_ref()
                .is_some_and(|owner| *owner != self.owner)
            {
                return Err(Problem::error(
                    reasons::INVALID,
                    format!(
                        "{of} spec.artifactRef: DeployableArtifact {name:?} belongs to another component"
                    ),
                )
                .into());
            }
            return self.guarded(world, artifact);
        }
        let api = match &self.typed {
            Typed::Api { name, .. } => Some(self.api(world, name)?),
            _ => None,
        };
        if self.inline.is_none() && api.is_none() {
            return Err(Problem::waiting(
                reasons::ARTIFACT_NOT_FOUND,
                format!("{of} says neither spec.artifactRef nor spec.workloadSpec: promote an artifact to it, or give one of the two"),
            )
            .into());
        }
        let mut problems = Problems::new();
        let mut spec = DeployableArtifactSpec {
            owner: Some(self.owner.clone()),
            track: Some(self.track.clone()),
            type_: Some(self.type_name(world)),
            workload: self.inline.clone(),
            ..DeployableArtifactSpec::default()
        };
        match &self.typed {
            Typed::Service { class, service } => {
                spec.class = problems.take(freeze::service_class(world, self.namespace(), class, &of));
                let classes = freeze::api_classes(world, self.namespace(), &service.apis, &of);
                spec.api_classes = problems.take(classes).unwrap_or_default();
                spec.service = Some(service.clone());
            }
            Typed::WebApplication {
                class,
                web_application,
            } => {
                spec.class =
                    problems.take(freeze::web_application_class(world, self.namespace(), class, &of));
                spec.web_application = Some(web_application.clone());
            }
            Typed::ScheduledTask { class } => {
                spec.class = problems.take(freeze::scheduled_task_class(world, self.namespace(), class, &of));
                spec.scheduled_task = Some(FrozenScheduledTask::default());
            }
            Typed::Api { class, .. } => {
                let found = freeze::api_class(world, self.namespace(), class, &of, "spec.apiClassName");
                spec.api_classes
                    .extend(problems.take(found).map(|found| (class.clone(), found)));
                spec.api = api.map(|api| {
                    let mut frozen = freeze::frozen_api(api);
                    frozen.api.class_name.clone_from(class);
                    frozen
                });
            }
            Typed::Custom => {
                if let Some(component) = world.get::<Component>(self.namespace(), &self.owner.component_name)
                {
                    let namespace = self.namespace();
                    let type_ = &component.spec.type_;
                    spec.class = problems.take(freeze::component_type(world, namespace, type_, &of));
                    spec.custom = problems.take(freeze::custom(component, spec.class.as_ref()));
                }
            }
        }
        if let Some(component) = world.get::<Component>(self.namespace(), &self.owner.component_name) {
            let traits = freeze::traits(world, self.namespace(), component);
            spec.traits = problems.take(traits).unwrap_or_default();
        }
        problems.or_ok(Source::Inline(Box::new(spec)))
    }

    /// The artifact, guarded by the class that the binding names, where that is another than the artifact's.
    fn guarded(&self, world: &World, artifact: &Arc<DeployableArtifact>) -> Result<Source, Problems> {
        let frozen = artifact.spec.api.as_ref().map(|a| &a.api.class_name);
        match (&self.api_class, frozen) {
            (Some(wanted), Some(frozen)) if wanted != frozen => {
                let of = self.reference.to_string();
                let class = freeze::api_class(world, self.namespace(), wanted, &of, "spec.apiClassName")?;
                let mut spec = artifact.spec.clone();
                spec.api_classes.insert(wanted.clone(), class);
                if let Some(api) = &mut spec.api {
                    api.api.class_name.clone_from(wanted);
                }
                Ok(Source::Inline(Box::new(spec)))
            }
            _ => Ok(Source::Artifact(Arc::clone(artifact))),
        }
    }

    /// The API that the binding names, when it is there and can be opened from what it says itself.
    fn api<'a>(&self, world: &'a World, name: &str) -> Result<&'a API, Problems> {
        let of = &self.reference;
        let Some(api) = world.get::<API>(self.namespace(), name) else {
            return Err(Problem::waiting(
                reasons::TYPE_NOT_FOUND,
                format!(
                    "API {name:?} not found in namespace {:?}: create it, or name another in spec.apiName of {of}",
                    self.namespace()
                ),
            )
            .into());
        };
        if api.spec.workload_name.is_some() {
            return Err(Problem::waiting(
                reasons::ARTIFACT_NOT_FOUND,
                format!("{of} says no spec.artifactRef, and API {name:?} has a workload: promote an artifact to it"),
            )
            .into());
        }
        Ok(api)
    }

    fn type_name(&self, world: &World) -> String {
        match self.typed {
            Typed::Service { .. } => "Service".to_owned(),
            Typed::WebApplication { .. } => "WebApplication".to_owned(),
            Typed::Api { .. } => "API".to_owned(),
            // A task may be a manual one, and a custom type has a name of its own: the component knows.
            Typed::ScheduledTask { .. } | Typed::Custom => world
                .get::<Component>(self.namespace(), &self.owner.component_name)
                .map_or_else(|| "ScheduledTask".to_owned(), |c| c.spec.type_.clone()),
        }
    }
}

/// Conditions count only for the generation that they were made for.
fn current(conditions: Vec<Condition>, observed: Option<i64>, generation: Option<i64>) -> Vec<Condition> {
    if observed == generation {
        conditions
    } else {
        Vec::new()
    }
}

/// On a binding: its artifact was chosen by hand (a rollback) and is not replaced by a newer one.
pub const PINNED: &str = "openchoreo.dev/pinned";

fn is_pinned(meta: &ObjectMeta) -> bool {
    meta.annotations
        .as_ref()
        .and_then(|a| a.get(PINNED))
        .is_some_and(|v| v == "true")
}
