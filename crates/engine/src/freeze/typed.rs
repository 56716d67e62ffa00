//! The typed part of a component: the object that says how a component of its type is run and exposed.

use std::collections::BTreeMap;
use std::sync::Arc;

use choreo_api::{
    conditions::reasons,
    v1alpha1::{
        API, APIClassSpec, Component, ComponentKind, DeployableArtifactSpec, FrozenApi, FrozenClass,
        FrozenScheduledTask, FrozenService, FrozenWebApplication, ScheduledTask, Service, WebApplication,
        Workload,
        common::{ComponentOwner, DEFAULT_CLASS},
    },
};

use super::classes;
use crate::{
    problem::{Problem, Problems, quoted_list},
    world::{Known, ObjectRef, World, reference_of},
};

/// A kind that is the typed part of a component.
pub(super) trait Part: Known {
    fn owner(&self) -> &ComponentOwner;
}
impl Part for Service {
    fn owner(&self) -> &ComponentOwner {
        &self.spec.owner
    }
}
impl Part for WebApplication {
    fn owner(&self) -> &ComponentOwner {
        &self.spec.owner
    }
}
impl Part for ScheduledTask {
    fn owner(&self) -> &ComponentOwner {
        &self.spec.owner
    }
}
impl Part for API {
    fn owner(&self) -> &ComponentOwner {
        &self.spec.owner
    }
}
impl Part for Workload {
    fn owner(&self) -> &ComponentOwner {
        &self.spec.owner
    }
}

/// All objects of a kind whose owner is this component; a wrong project name in the owner is reported.
pub(super) fn owned<T: Part>(
    world: &World,
    component: &ObjectRef,
    project: &str,
    problems: &mut Problems,
) -> Vec<T> {
    let mut found = Vec::new();
    for object in world
        .referring::<T>(component)
        .filter(|o| o.owner().component_name == component.key.name)
    {
        if object.owner().project_name == project {
            found.push(object.as_ref().clone());
        } else {
            problems.invalid(format!(
                "{} spec.owner.projectName: {:?} is not the project of {component}, which is {project:?}",
                reference_of(object.as_ref()),
                object.owner().project_name,
            ));
        }
    }
    found
}

/// The one object of a kind that is the typed part of a component.
fn the_one<T: Part>(
    world: &World,
    component: &ObjectRef,
    project: &str,
    problems: &mut Problems,
) -> Option<T> {
    let before = problems.as_slice().len();
    let mut all = owned::<T>(world, component, project, problems);
    let kind = T::KIND.as_str();
    match all.len() {
        0 if problems.as_slice().len() > before => None,
        0 => {
            problems.push(Problem::waiting(
                reasons::TYPE_NOT_FOUND,
                format!(
                    "{component} has no {kind}: create a {kind} in namespace {:?} whose spec.owner is project {project:?}, component {:?}",
                    component.key.namespace, component.key.name
                ),
            ));
            None
        }
        1 => all.pop(),
        _ => {
            let names: Vec<String> = all.iter().map(kube::ResourceExt::name_any).collect();
            problems.invalid(format!(
                "{component} has more than one {kind}: {}; keep one",
                quoted_list(names.iter().map(String::as_str))
            ));
            None
        }
    }
}

/// The typed part of a component.
#[derive(Debug, Clone)]
pub(super) enum Typed {
    Service(Service),
    WebApplication(WebApplication),
    /// Of a scheduled task as well as of a manual one.
    ScheduledTask(ScheduledTask),
    Api(API),
    /// A type that the platform team defined has no object of its own: the component says it all.
    Custom(Component),
}

/// Which workload a typed part runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Runs<'a> {
    /// The one of this name.
    Named(&'a str),
    /// The one of the component, on each track.
    Own {
        /// Whether there must be one.
        required: bool,
    },
    /// None.
    Nothing,
}

impl Typed {
    /// Finds the typed part of a component.
    pub(super) fn find(
        world: &World,
        reference: &ObjectRef,
        component: &Component,
        problems: &mut Problems,
    ) -> Option<Self> {
        let project = component.spec.owner.project_name.as_str();
        match component.spec.kind() {
            ComponentKind::Service => the_one(world, reference, project, problems).map(Self::Service),
            ComponentKind::WebApplication => {
                the_one(world, reference, project, problems).map(Self::WebApplication)
            }
            ComponentKind::ScheduledTask | ComponentKind::ManualTask => {
                the_one(world, reference, project, problems).map(Self::ScheduledTask)
            }
            ComponentKind::Api => the_one(world, reference, project, problems).map(Self::Api),
            // A reserved name means nothing until somebody defines it.
            ComponentKind::Reserved(_) | ComponentKind::Custom(_) => Some(Self::Custom(component.clone())),
        }
    }

    /// How it is called in messages.
    pub(super) fn describe(&self) -> String {
        self.reference().to_string()
    }

    /// Which object it is.
    pub(super) fn reference(&self) -> ObjectRef {
        match self {
            Self::Service(o) => reference_of(o),
            Self::WebApplication(o) => reference_of(o),
            Self::ScheduledTask(o) => reference_of(o),
            Self::Api(o) => reference_of(o),
            Self::Custom(o) => reference_of(o),
        }
    }

    /// Which workload it runs; `class` is the class or type of the component.
    pub(super) fn runs(&self, class: Option<&FrozenClass>) -> Runs<'_> {
        match self {
            Self::Service(o) => Runs::Named(&o.spec.workload_name),
            Self::WebApplication(o) => Runs::Named(&o.spec.workload_name),
            Self::ScheduledTask(o) => Runs::Named(&o.spec.workload_name),
            Self::Api(o) => match &o.spec.workload_name {
                Some(name) => Runs::Named(name),
                None => Runs::Nothing,
            },
            // A type whose templates never look at a workload can do without one.
            Self::Custom(_) => Runs::Own {
                required: class.is_none_or(|c| c.spec.to_string().contains("workload")),
            },
        }
    }

    /// Its class or type; `None` for an API that runs nothing.
    pub(super) fn class(&self, world: &World, namespace: &str) -> Result<Option<FrozenClass>, Problems> {
        let of = self.describe();
        match self {
            Self::Service(o) => classes::service_class(world, namespace, &o.spec.class_name, &of).map(Some),
            Self::WebApplication(o) => {
                classes::web_application_class(world, namespace, &o.spec.class_name, &of).map(Some)
            }
            Self::ScheduledTask(o) => {
                classes::scheduled_task_class(world, namespace, &o.spec.class_name, &of).map(Some)
            }
            Self::Api(o) if o.spec.workload_name.is_some() => {
                classes::service_class(world, namespace, DEFAULT_CLASS, &of).map(Some)
            }
            Self::Api(_) => Ok(None),
            Self::Custom(o) => classes::component_type(world, namespace, &o.spec.type_, &of).map(Some),
        }
    }

    /// The API classes that guard what it exposes, by name.
    pub(super) fn api_classes(
        &self,
        world: &World,
        namespace: &str,
    ) -> Result<BTreeMap<String, Arc<APIClassSpec>>, Problems> {
        match self {
            Self::Service(o) => classes::api_classes(world, namespace, &o.spec.apis, &self.describe()),
            Self::Api(o) => {
                let name = &o.spec.class_name;
                let class = classes::api_class(world, namespace, name, &self.describe(), "spec.className")?;
                Ok(BTreeMap::from([(name.clone(), class)]))
            }
            Self::WebApplication(_) | Self::ScheduledTask(_) | Self::Custom(_) => Ok(BTreeMap::new()),
        }
    }

    /// Puts the typed part into an artifact.
    pub(super) fn freeze(&self, spec: &mut DeployableArtifactSpec) -> Result<(), Problems> {
        match self {
            Self::Service(o) => {
                spec.service = Some(FrozenService {
                    apis: o.spec.apis.clone(),
                    overrides: o.spec.overrides.clone(),
                });
            }
            Self::WebApplication(o) => {
                spec.web_application = Some(FrozenWebApplication {
                    expose_levels: o.spec.expose_levels.clone(),
                    overrides: o.spec.overrides.clone(),
                });
            }
            Self::ScheduledTask(o) => {
                spec.scheduled_task = Some(FrozenScheduledTask {
                    schedule: o.spec.schedule.clone(),
                    time_zone: o.spec.time_zone.clone(),
                    settings: o.spec.settings.clone(),
                    overrides: o.spec.overrides.clone(),
                });
            }
            Self::Api(o) => spec.api = Some(frozen_api(o)),
            Self::Custom(o) => spec.custom = Some(classes::custom(o, spec.class.as_ref())?),
        }
        Ok(())
    }
}

/// The typed part of an API, frozen.
pub(crate) fn frozen_api(api: &API) -> FrozenApi {
    FrozenApi {
        api: api.spec.as_service_api(),
        target_url: api.spec.target.as_ref().and_then(|t| t.url.clone()),
        target_component: api.spec.target.as_ref().and_then(|t| t.component_name.clone()),
        target_endpoint: api.spec.target.as_ref().and_then(|t| t.endpoint.clone()),
        overrides: api.spec.overrides.clone(),
    }
}
