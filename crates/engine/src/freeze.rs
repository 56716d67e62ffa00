//! Freezing: a component as it is now, together with the class it uses, under the digest of its content.
//!
//! An artifact holds everything that rendering needs but for what belongs to an environment. Promotion moves it; nothing
//! downstream looks at the developer's objects or at classes again, so what ran in staging is what runs in production.

use std::collections::BTreeMap;
use std::sync::Arc;

use choreo_api::{
    conditions::reasons,
    labels,
    names::{self, ArtifactDigest},
    v1alpha1::{
        APIClass, APIClassSpec, Component, DeployableArtifactSpec, DeploymentTrack, Endpoint, FrozenApi,
        FrozenClass, FrozenCustom, FrozenScheduledTask, FrozenService, FrozenTrait, FrozenWebApplication,
        Workload, WorkloadTemplate,
        common::{ComponentOwner, DEFAULT_CLASS, DEFAULT_TRACK, Visibility},
    },
};
use kube::ResourceExt as _;
use serde::Serialize;

use crate::{
    expose, hash,
    problem::{Problem, Problems, quoted_list},
    world::{Key, Kind, ObjectRef, World, is_default_track, reference_of},
};

mod classes;
mod typed;

pub use classes::{
    api_class, api_classes, component_type, custom, find_class, scheduled_task_class, service_class, traits,
    web_application_class,
};
pub(crate) use typed::frozen_api;
use typed::{Runs, Typed, owned};

/// A component's current state on one track, frozen.
#[derive(Debug, Clone, PartialEq)]
pub struct Frozen {
    /// The artifact's name.
    pub name: String,
    /// The artifact's content.
    pub spec: DeployableArtifactSpec,
    /// The object that is the component's typed part; the component itself when its type is a ComponentType.
    pub typed: ObjectRef,
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
    let Key { namespace, name } = &*reference.key;
    let project = &component.spec.owner.project_name;
    outcome.parts = parts(world, &reference);

    let mut problems = Problems::new();
    let Some(typed) = Typed::find(world, &reference, component, &mut problems) else {
        outcome.problems = problems;
        return outcome;
    };
    let class = problems.take(typed.class(world, namespace));
    let runs = typed.runs(class.as_ref().and_then(Option::as_ref));
    let workloads = workloads(world, &reference, component, &typed, runs, &mut problems);
    let api_classes = problems.take(typed.api_classes(world, namespace));
    let traits = problems.take(traits(world, namespace, component));

    if let (Some(class), Some(api_classes), Some(traits)) = (class, api_classes, traits) {
        for (track, workload) in workloads {
            let auto_deploy = match auto_deploy(world, &reference, component, &track) {
                Ok(auto_deploy) => auto_deploy,
                Err(problem) => {
                    problems.push(problem);
                    continue;
                }
            };
            let mut api_classes = api_classes.clone();
            if workload
                .as_ref()
                .is_some_and(|w| exposes_by_visibility(&w.spec.template))
                && let Some(default) = find_class::<APIClass>(world, namespace, DEFAULT_CLASS)
            {
                api_classes.insert(DEFAULT_CLASS.to_owned(), Arc::new(default.spec.clone()));
            }
            let mut spec = DeployableArtifactSpec {
                owner: Some(ComponentOwner {
                    project_name: project.clone(),
                    component_name: name.clone(),
                }),
                track: Some(track.clone()),
                type_: Some(component.spec.type_.clone()),
                workload: workload.map(|w| w.spec.template),
                traits: traits.clone(),
                class: class.clone(),
                api_classes,
                ..DeployableArtifactSpec::default()
            };
            if problems.take(typed.freeze(&mut spec)).is_none() {
                continue;
            }
            if let Some((name, spec)) = seal(name, &track, spec, &mut problems) {
                outcome.frozen.push(Frozen {
                    name,
                    spec,
                    typed: typed.reference(),
                    auto_deploy,
                });
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
    problems: &mut Problems,
) -> Option<(String, DeployableArtifactSpec)> {
    match digest(&spec) {
        Ok(digest) => {
            let name = names::artifact(component, track, &digest);
            spec.digest = Some(digest.into());
            Some((name, spec))
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
        #[serde(skip_serializing_if = "Option::is_none")]
        scheduled_task: Option<&'a FrozenScheduledTask>,
        #[serde(skip_serializing_if = "Option::is_none")]
        api: Option<&'a FrozenApi>,
        #[serde(skip_serializing_if = "Option::is_none")]
        custom: Option<&'a FrozenCustom>,
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        traits: &'a [FrozenTrait],
        class: &'a Option<FrozenClass>,
        api_classes: &'a BTreeMap<String, Arc<APIClassSpec>>,
    }
    let content = hash::canonical(&Content {
        r#type: &spec.type_,
        workload: &spec.workload,
        service: &spec.service,
        web_application: &spec.web_application,
        scheduled_task: spec.scheduled_task.as_ref(),
        api: spec.api.as_ref(),
        custom: spec.custom.as_ref(),
        traits: &spec.traits,
        class: &spec.class,
        api_classes: &spec.api_classes,
    })?;
    Ok(ArtifactDigest::of(content.as_bytes()))
}

/// Every developer's object that names the component as its owner.
fn parts(world: &World, component: &ObjectRef) -> Vec<ObjectRef> {
    const PARTS: [Kind; 7] = [
        Kind::DeploymentTrack,
        Kind::Workload,
        Kind::Service,
        Kind::WebApplication,
        Kind::ScheduledTask,
        Kind::API,
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

/// The component's workload on each track, `default` first; no workload for a component that runs none.
fn workloads(
    world: &World,
    component: &ObjectRef,
    object: &Component,
    typed: &Typed,
    runs: Runs<'_>,
    problems: &mut Problems,
) -> Vec<(String, Option<Workload>)> {
    let project = &object.spec.owner.project_name;
    let mut tracks = BTreeMap::<String, Vec<Workload>>::new();
    let mut found: Vec<(String, Workload)> = Vec::new();
    let of_default_track = |w: &Workload| is_default_track(w.spec.track());
    match runs {
        Runs::Nothing => return vec![(DEFAULT_TRACK.to_owned(), None)],
        Runs::Named(wanted) => {
            found.extend(
                problems
                    .take(named_workload(world, component, object, typed, wanted))
                    .map(|w| (DEFAULT_TRACK.to_owned(), w)),
            );
            for workload in owned::<Workload>(world, component, project, problems) {
                if !of_default_track(&workload) && workload.name_any() != wanted {
                    tracks
                        .entry(workload.spec.track().to_owned())
                        .or_default()
                        .push(workload);
                }
            }
        }
        Runs::Own { required } => {
            for workload in owned::<Workload>(world, component, project, problems) {
                let track = if of_default_track(&workload) {
                    DEFAULT_TRACK
                } else {
                    workload.spec.track()
                };
                tracks.entry(track.to_owned()).or_default().push(workload);
            }
            if !tracks.contains_key(DEFAULT_TRACK) {
                if !required {
                    return vec![(DEFAULT_TRACK.to_owned(), None)];
                }
                let mut message = format!(
                    "{component} has no Workload: create a Workload in namespace {:?} whose spec.owner is project {project:?}, component {:?}",
                    component.key.namespace, component.key.name
                );
                if object.spec.build().is_some() {
                    message = format!("{component} has no Workload yet: the component's build will write it");
                }
                problems.push(Problem::waiting(reasons::WORKLOAD_NOT_FOUND, message));
            }
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
    found.sort_by_key(|(track, _)| !is_default_track(track));
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
        .into_iter()
        .map(|(track, workload)| (track, Some(workload)))
        .collect()
}

/// The workload that a typed part names.
fn named_workload(
    world: &World,
    component: &ObjectRef,
    object: &Component,
    typed: &Typed,
    wanted: &str,
) -> Result<Workload, Problems> {
    let Key { namespace, name } = &*component.key;
    let project = &object.spec.owner.project_name;
    let Some(workload) = world.get::<Workload>(namespace, wanted) else {
        let what = format!("Workload {wanted:?} not found in namespace {namespace:?}");
        let message = if object.spec.build().is_some() {
            format!(
                "{what}: the component's build will write it; {} names it",
                typed.describe()
            )
        } else {
            format!(
                "{what}: create it, or change spec.workloadName of {}",
                typed.describe()
            )
        };
        return Err(Problem::waiting(reasons::WORKLOAD_NOT_FOUND, message).into());
    };
    let owner = &workload.spec.owner;
    if owner.component_name != *name || owner.project_name != *project {
        return Err(Problem::error(
            reasons::INVALID,
            format!(
                "{} spec.workloadName: Workload {wanted:?} belongs to project {:?}, component {:?}, not to {component} of project {project:?}",
                typed.describe(),
                owner.project_name,
                owner.component_name,
            ),
        )
        .into());
    }
    Ok(workload.as_ref().clone())
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
