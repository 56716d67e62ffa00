//! Freezing: a component as it is now, together with the class it uses, under the digest of its content.
//!
//! An artifact holds everything that rendering needs but for what belongs to an environment. Promotion moves it; nothing
//! downstream looks at the developer's objects or at classes again, so what ran in staging is what runs in production.

use std::collections::{BTreeMap, BTreeSet};

use choreo_api::{
    conditions::reasons,
    labels::{self, PLATFORM_NAMESPACE},
    names::{self, ArtifactDigest},
    v1alpha1::{
        APIClass, APIClassSpec, Component, ComponentKind, DeployableArtifactSpec, DeploymentTrack, Endpoint,
        FrozenClass, FrozenService, FrozenWebApplication, Service, ServiceApi, ServiceClass, WebApplication,
        WebApplicationClass, Workload, WorkloadTemplate,
        common::{ComponentOwner, DEFAULT_CLASS, DEFAULT_TRACK, Visibility},
    },
};
use kube::ResourceExt as _;
use serde::Serialize;
use serde_json::json;

use crate::{
    expose, hash,
    problem::{Problem, Problems, quoted_list},
    world::{Key, Kind, Known, ObjectRef, World, is_default_track, reference_of},
};

/// A component's current state on one track, frozen.
#[derive(Debug, Clone, PartialEq)]
pub struct Frozen {
    /// The artifact's name.
    pub name: String,
    /// The artifact's content.
    pub spec: DeployableArtifactSpec,
    /// Whether a new artifact of this track goes to the first environment on its own.
    pub auto_deploy: bool,
}

/// What a component consists of, and what it could be frozen to.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// One artifact per track that could be frozen, `default` first.
    pub frozen: Vec<Frozen>,
    /// What stands in the way of the others.
    pub problems: Problems,
    /// The objects that belong to the component, for adoption.
    pub parts: Vec<ObjectRef>,
}

/// Freezes a component on each of its tracks.
pub fn component(world: &World, component: &Component) -> Outcome {
    let mut outcome = Outcome::default();
    let reference = reference_of(component);
    let Key { namespace, name } = &reference.key;
    let project = &component.spec.owner.project_name;
    outcome.parts = parts(world, &reference);

    let mut problems = Problems::new();
    let typed = match component.spec.kind() {
        ComponentKind::Service => {
            typed::<Service>(world, &reference, project, &mut problems).map(Typed::Service)
        }
        ComponentKind::WebApplication => {
            typed::<WebApplication>(world, &reference, project, &mut problems).map(Typed::WebApplication)
        }
        other => {
            problems.push(Problem::error(
                reasons::NOT_SUPPORTED,
                format!(
                    "Component {name:?} spec.type: components of type \"{other}\" cannot be deployed yet"
                ),
            ));
            None
        }
    };
    let Some(typed) = typed else {
        outcome.problems = problems;
        return outcome;
    };
    let workloads = workloads(world, &reference, component, &typed, &mut problems);
    let class = problems.take(typed.class(world, namespace));
    let api_classes = problems.take(api_classes(world, namespace, typed.apis(), &typed.describe()));

    if let (Some(class), Some(api_classes)) = (class, api_classes) {
        for (track, workload) in workloads {
            let auto_deploy = match auto_deploy(world, &reference, component, &track) {
                Ok(auto_deploy) => auto_deploy,
                Err(problem) => {
                    problems.push(problem);
                    continue;
                }
            };
            let mut api_classes = api_classes.clone();
            if exposes_by_visibility(&workload.spec.template)
                && let Some(default) = find_class::<APIClass>(world, namespace, DEFAULT_CLASS)
            {
                api_classes.insert(DEFAULT_CLASS.to_owned(), default.spec.clone());
            }
            let spec = DeployableArtifactSpec {
                owner: Some(ComponentOwner {
                    project_name: project.clone(),
                    component_name: name.clone(),
                }),
                track: Some(track.clone()),
                type_: Some(component.spec.type_.clone()),
                workload: Some(workload.spec.template.clone()),
                service: typed.frozen_service(),
                web_application: typed.frozen_web_application(),
                class: Some(class.clone()),
                api_classes,
                ..DeployableArtifactSpec::default()
            };
            if let Some(frozen) = seal(name, &track, spec, auto_deploy, &mut problems) {
                outcome.frozen.push(frozen);
            }
        }
    }
    outcome.problems = problems;
    outcome
}

/// Whether an endpoint is exposed by the workload itself. The API class `default`, if there is one, guards it.
pub(crate) fn exposes_by_visibility(workload: &WorkloadTemplate) -> bool {
    workload
        .endpoints
        .values()
        .any(|e| e.visibility.is_some_and(|v| v != Visibility::Project))
}

/// Puts digest and name on an artifact's content.
fn seal(
    component: &str,
    track: &str,
    mut spec: DeployableArtifactSpec,
    auto_deploy: bool,
    problems: &mut Problems,
) -> Option<Frozen> {
    match digest(&spec) {
        Ok(digest) => {
            let name = names::artifact(component, track, &digest);
            spec.digest = Some(digest.into());
            Some(Frozen {
                name,
                spec,
                auto_deploy,
            })
        }
        Err(error) => {
            problems.invalid(format!("Component {component:?} cannot be frozen: {error}"));
            None
        }
    }
}

/// The digest of an artifact's content: what runs and how, not whose it is.
///
/// # Errors
/// When the content cannot be represented as JSON.
pub fn digest(spec: &DeployableArtifactSpec) -> Result<ArtifactDigest, serde_json::Error> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Content<'a> {
        r#type: &'a Option<String>,
        workload: &'a Option<WorkloadTemplate>,
        service: &'a Option<FrozenService>,
        web_application: &'a Option<FrozenWebApplication>,
        class: &'a Option<FrozenClass>,
        api_classes: &'a BTreeMap<String, APIClassSpec>,
    }
    let content = hash::canonical(&Content {
        r#type: &spec.type_,
        workload: &spec.workload,
        service: &spec.service,
        web_application: &spec.web_application,
        class: &spec.class,
        api_classes: &spec.api_classes,
    })?;
    Ok(ArtifactDigest::of(content.as_bytes()))
}

/// Every developer's object that names the component as its owner.
fn parts(world: &World, component: &ObjectRef) -> Vec<ObjectRef> {
    const PARTS: [Kind; 5] = [
        Kind::DeploymentTrack,
        Kind::Workload,
        Kind::Service,
        Kind::WebApplication,
        Kind::Build,
    ];
    let mut parts: Vec<ObjectRef> = world
        .referrers(component)
        .filter(|r| PARTS.contains(&r.kind))
        .cloned()
        .collect();
    let by_hand = world
        .referring::<Endpoint>(component)
        .filter(|e| !expose::is_derived(e));
    parts.extend(by_hand.map(|e| reference_of(e.as_ref())));
    parts
}

/// A kind that is the typed part of a component.
trait Part: Known {
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
impl Part for Workload {
    fn owner(&self) -> &ComponentOwner {
        &self.spec.owner
    }
}

/// All objects of a kind whose owner is this component; a wrong project name in the owner is reported.
fn owned<T: Part>(world: &World, component: &ObjectRef, project: &str, problems: &mut Problems) -> Vec<T> {
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
fn typed<T: Part>(world: &World, component: &ObjectRef, project: &str, problems: &mut Problems) -> Option<T> {
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
enum Typed {
    Service(Service),
    WebApplication(WebApplication),
}

impl Typed {
    fn describe(&self) -> String {
        match self {
            Self::Service(o) => reference_of(o).to_string(),
            Self::WebApplication(o) => reference_of(o).to_string(),
        }
    }

    fn workload_name(&self) -> &str {
        match self {
            Self::Service(o) => &o.spec.workload_name,
            Self::WebApplication(o) => &o.spec.workload_name,
        }
    }

    fn apis(&self) -> impl Iterator<Item = (&String, &ServiceApi)> {
        match self {
            Self::Service(o) => Some(o.spec.apis.iter()),
            Self::WebApplication(_) => None,
        }
        .into_iter()
        .flatten()
    }

    fn class(&self, world: &World, namespace: &str) -> Result<FrozenClass, Problems> {
        let of = self.describe();
        match self {
            Self::Service(o) => service_class(world, namespace, &o.spec.class_name, &of),
            Self::WebApplication(o) => web_application_class(world, namespace, &o.spec.class_name, &of),
        }
    }

    fn frozen_service(&self) -> Option<FrozenService> {
        match self {
            Self::Service(o) => Some(FrozenService {
                apis: o.spec.apis.clone(),
                overrides: o.spec.overrides.clone(),
            }),
            Self::WebApplication(_) => None,
        }
    }

    fn frozen_web_application(&self) -> Option<FrozenWebApplication> {
        match self {
            Self::Service(_) => None,
            Self::WebApplication(o) => Some(FrozenWebApplication {
                expose_levels: o.spec.expose_levels.clone(),
                overrides: o.spec.overrides.clone(),
            }),
        }
    }
}

/// The component's workload on each track, `default` first.
fn workloads(
    world: &World,
    component: &ObjectRef,
    object: &Component,
    typed: &Typed,
    problems: &mut Problems,
) -> Vec<(String, Workload)> {
    let Key { namespace, name } = &component.key;
    let project = &object.spec.owner.project_name;
    let mut found: Vec<(String, Workload)> = Vec::new();
    let wanted = typed.workload_name();
    match world.get::<Workload>(namespace, wanted) {
        None => problems.push(Problem::waiting(reasons::WORKLOAD_NOT_FOUND, {
            let what = format!("Workload {wanted:?} not found in namespace {namespace:?}");
            if object.spec.build().is_some() {
                format!(
                    "{what}: the component's build will write it; {} names it",
                    typed.describe()
                )
            } else {
                format!(
                    "{what}: create it, or change spec.workloadName of {}",
                    typed.describe()
                )
            }
        })),
        Some(w) if w.spec.owner.component_name != *name || w.spec.owner.project_name != *project => {
            problems.invalid(format!(
                "{} spec.workloadName: Workload {wanted:?} belongs to project {:?}, component {:?}, not to {component} of project {project:?}",
                typed.describe(),
                w.spec.owner.project_name,
                w.spec.owner.component_name,
            ));
        }
        Some(w) => found.push((DEFAULT_TRACK.to_owned(), w.as_ref().clone())),
    }
    let mut tracks = BTreeMap::<String, Vec<Workload>>::new();
    for workload in owned::<Workload>(world, component, project, problems) {
        if !is_default_track(workload.spec.track()) && workload.name_any() != wanted {
            tracks
                .entry(workload.spec.track().to_owned())
                .or_default()
                .push(workload);
        }
    }
    for (track, mut of_track) in tracks {
        if of_track.len() > 1 {
            let names: Vec<String> = of_track.iter().map(kube::ResourceExt::name_any).collect();
            problems.invalid(format!(
                "{component} has more than one Workload on track {track:?}: {}; keep one",
                quoted_list(names.iter().map(String::as_str))
            ));
        } else if let Some(workload) = of_track.pop() {
            found.push((track, workload));
        }
    }
    for (_, workload) in &found {
        if workload.spec.template.containers.is_empty() {
            problems.push(Problem::waiting(
                reasons::NO_IMAGE,
                format!(
                    "{} spec.containers: there is no container; add one with an image",
                    reference_of(workload)
                ),
            ));
        }
    }
    found.retain(|(_, workload)| !workload.spec.template.containers.is_empty());
    found
}

fn auto_deploy(
    world: &World,
    component: &ObjectRef,
    object: &Component,
    track: &str,
) -> Result<bool, Problem> {
    if is_default_track(track) {
        return Ok(object.spec.auto_deploy);
    }
    world
        .referring::<DeploymentTrack>(component)
        .find(|t| track_name(t) == track)
        .map(|t| t.spec.auto_deploy)
        .ok_or_else(|| {
            Problem::waiting(
                reasons::NOT_FOUND,
                format!(
                    "DeploymentTrack {track:?} of {component} not found in namespace {:?}: create it",
                    component.key.namespace
                ),
            )
        })
}

/// The name of a track: its own field, else its label, else the object's name.
fn track_name(track: &DeploymentTrack) -> String {
    let label = || track.metadata.labels.as_ref()?.get(labels::NAME).cloned();
    track
        .spec
        .track
        .clone()
        .or_else(label)
        .unwrap_or_else(|| track.name_any())
}

/// The component of a track: its owner, else its label.
pub(crate) fn track_component(track: &DeploymentTrack) -> Option<&str> {
    let label = || {
        track
            .metadata
            .labels
            .as_ref()?
            .get(labels::COMPONENT)
            .map(String::as_str)
    };
    track
        .spec
        .owner
        .as_ref()
        .map(|o| o.component_name.as_str())
        .or_else(label)
}

/// A class by name: in the organization, then in the platform's namespace.
pub fn find_class<'a, T: Known>(world: &'a World, namespace: &str, name: &str) -> Option<&'a T> {
    world
        .get::<T>(namespace, name)
        .or_else(|| world.get::<T>(PLATFORM_NAMESPACE, name))
        .map(AsRef::as_ref)
}

fn no_class(kind: Kind, namespace: &str, name: &str, of: &str, field: &str) -> Problem {
    Problem::waiting(
        reasons::CLASS_NOT_FOUND,
        format!(
            "{} {name:?} not found in namespace {namespace:?} nor in {PLATFORM_NAMESPACE:?}: create it, or change {field} of {of}",
            kind.as_str()
        ),
    )
}

/// A service class, frozen.
///
/// # Errors
/// When there is none of this name.
pub fn service_class(world: &World, namespace: &str, name: &str, of: &str) -> Result<FrozenClass, Problems> {
    let class = find_class::<ServiceClass>(world, namespace, name)
        .ok_or_else(|| no_class(Kind::ServiceClass, namespace, name, of, "spec.className"))?;
    Ok(frozen_class(Kind::ServiceClass, name, &class.spec))
}

/// A web application class, frozen.
///
/// # Errors
/// When there is none of this name.
pub fn web_application_class(
    world: &World,
    namespace: &str,
    name: &str,
    of: &str,
) -> Result<FrozenClass, Problems> {
    let class = find_class::<WebApplicationClass>(world, namespace, name)
        .ok_or_else(|| no_class(Kind::WebApplicationClass, namespace, name, of, "spec.className"))?;
    Ok(frozen_class(Kind::WebApplicationClass, name, &class.spec))
}

fn frozen_class(kind: Kind, name: &str, spec: &impl Serialize) -> FrozenClass {
    // A class that was read from JSON can be written as JSON.
    let spec = serde_json::to_value(spec).unwrap_or_else(|_| json!({}));
    FrozenClass {
        kind: kind.as_str().to_owned(),
        name: name.to_owned(),
        spec,
    }
}

/// The API classes that APIs name, frozen.
///
/// # Errors
/// Every class that is missing.
pub fn api_classes<'a>(
    world: &World,
    namespace: &str,
    apis: impl IntoIterator<Item = (&'a String, &'a ServiceApi)>,
    of: &str,
) -> Result<BTreeMap<String, APIClassSpec>, Problems> {
    let mut problems = Problems::new();
    let mut classes = BTreeMap::new();
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (api_name, api) in apis {
        match find_class::<APIClass>(world, namespace, &api.class_name) {
            Some(class) => {
                classes.insert(api.class_name.clone(), class.spec.clone());
            }
            None => {
                missing.entry(&api.class_name).or_default().insert(api_name);
            }
        }
    }
    for (name, users) in missing {
        let fields: Vec<String> = users
            .iter()
            .map(|api| format!("spec.apis[{api}].className"))
            .collect();
        problems.push(no_class(Kind::APIClass, namespace, name, of, &fields.join(", ")));
    }
    problems.or_ok(classes)
}
