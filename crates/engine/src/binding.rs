//! Bindings of every kind, seen as one thing: what runs of a component in an environment.

use std::{ops::Deref, sync::Arc};

use choreo_api::{
    conditions::reasons,
    v1alpha1::{
        DeployableArtifact, DeployableArtifactSpec, FrozenService, FrozenWebApplication, ServiceBinding,
        WebApplicationBinding, WorkloadTemplate,
        common::{ComponentOwner, Condition, EndpointAddresses, Overrides, ReleaseState},
    },
};

use crate::{
    freeze,
    problem::{Problem, Problems},
    world::{AnyObject, Kind, Known, ObjectRef, World},
};

/// The kinds of binding.
pub const KINDS: [Kind; 2] = [Kind::ServiceBinding, Kind::WebApplicationBinding];

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
    typed: Typed,
}

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
        let object = T::objects(world).get(&reference.key)?.as_ref();
        object.meta().deletion_timestamp.is_none().then_some(object)
    }
    match reference.kind {
        Kind::ServiceBinding => alive::<ServiceBinding>(world, reference).map(|b| Head {
            owner: &b.spec.owner,
            environment: &b.spec.environment,
        }),
        Kind::WebApplicationBinding => alive::<WebApplicationBinding>(world, reference).map(|b| Head {
            owner: &b.spec.owner,
            environment: &b.spec.environment,
        }),
        _ => None,
    }
}

impl Binding {
    /// Reads a binding; `None` for objects that are none and for those that are being deleted.
    pub fn of(object: &AnyObject) -> Option<Self> {
        if object.meta().deletion_timestamp.is_some() {
            return None;
        }
        let reference = object.reference();
        let generation = object.meta().generation;
        match object {
            AnyObject::ServiceBinding(o) => Some(Self::of_service(o, reference, generation)),
            AnyObject::WebApplicationBinding(o) => Some(Self::of_web_application(o, reference, generation)),
            _ => None,
        }
    }

    fn of_service(o: &ServiceBinding, reference: ObjectRef, generation: Option<i64>) -> Self {
        let spec = &o.spec;
        let status = o.status.clone().unwrap_or_default();
        Self {
            reference,
            owner: spec.owner.clone(),
            environment: spec.environment.clone(),
            track: spec.track().to_owned(),
            artifact: spec.artifact_ref.clone().filter(|a| !a.is_empty()),
            inline: spec.workload_spec.clone(),
            overrides: spec.overrides.clone(),
            state: spec.release_state,
            generation,
            conditions: current(status.conditions, status.observed_generation, generation),
            revision: status.revision,
            addresses: status.endpoints,
            pinned: is_pinned(&o.metadata),
            typed: Typed::Service {
                class: spec.class_name.clone(),
                service: FrozenService {
                    apis: spec.apis.clone(),
                    overrides: Overrides::default(),
                },
            },
        }
    }

    fn of_web_application(o: &WebApplicationBinding, reference: ObjectRef, generation: Option<i64>) -> Self {
        let spec = &o.spec;
        let status = o.status.clone().unwrap_or_default();
        Self {
            reference,
            owner: spec.owner.clone(),
            environment: spec.environment.clone(),
            track: spec.track().to_owned(),
            artifact: spec.artifact_ref.clone().filter(|a| !a.is_empty()),
            inline: spec.workload_spec.clone(),
            overrides: spec.overrides.clone(),
            state: spec.release_state,
            generation,
            conditions: current(status.conditions, status.observed_generation, generation),
            revision: status.revision,
            addresses: status.endpoints,
            pinned: is_pinned(&o.metadata),
            typed: Typed::WebApplication {
                class: spec.class_name.clone(),
                web_application: FrozenWebApplication {
                    expose_levels: spec.expose_levels.clone(),
                    overrides: Overrides::default(),
                },
            },
        }
    }

    /// Finds a binding by reference.
    pub fn find(world: &World, reference: &ObjectRef) -> Option<Self> {
        Self::of(&world.get_any(reference)?)
    }

    /// The bindings of a component, in all environments and tracks, by kind and name.
    pub fn of_component(world: &World, namespace: &str, component: &str) -> Vec<Self> {
        let component = ObjectRef::new(Kind::Component, namespace, component);
        let bindings = world.referrers(&component).filter(|r| KINDS.contains(&r.kind));
        // An inline binding refers to the components that it connects to, too: only the owner counts.
        bindings
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
            return Ok(Source::Artifact(Arc::clone(artifact)));
        }
        let Some(workload) = &self.inline else {
            return Err(Problem::waiting(
                reasons::ARTIFACT_NOT_FOUND,
                format!("{of} says neither spec.artifactRef nor spec.workloadSpec: promote an artifact to it, or give one of the two"),
            )
            .into());
        };
        let mut problems = Problems::new();
        let mut spec = DeployableArtifactSpec {
            owner: Some(self.owner.clone()),
            track: Some(self.track.clone()),
            type_: Some(self.type_name().to_owned()),
            workload: Some(workload.clone()),
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
        }
        problems.or_ok(Source::Inline(Box::new(spec)))
    }

    fn type_name(&self) -> &'static str {
        match self.typed {
            Typed::Service { .. } => "Service",
            Typed::WebApplication { .. } => "WebApplication",
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

fn is_pinned(meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> bool {
    meta.annotations
        .as_ref()
        .and_then(|a| a.get(PINNED))
        .is_some_and(|v| v == "true")
}
