//! The workload that a build's image goes into.

use choreo_api::{
    conditions::reasons,
    convert,
    labels::{self, Labels},
    manifest,
    v1alpha1::{Build, Service, Workload, workload::MAIN_CONTAINER},
};
use kube::ResourceExt as _;
use serde_json::{Map, Value, json};

use super::{Outcome, of};
use crate::{
    problem::{Problem, Problems},
    world::{Kind, ObjectRef, World},
};

/// On a Workload: the build that it was written by. One without it was written by a person.
pub(crate) const BUILT_BY: &str = "openchoreo.dev/built-by";

/// Port of a web application of which nothing says on which port it listens.
const WEB_PORT: i32 = 8080;

/// What to write, by server-side apply.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Exactly the fields that the build sets.
    pub object: Value,
    /// Whether the workload is a person's: then only its image is set.
    pub by_hand: bool,
    /// What somebody who looks at it should know.
    pub note: String,
}

/// Name of the workload that the typed part of the build's component (Service, WebApplication, ...) runs.
///
/// # Errors
/// When there is no typed part yet, or parts that name different workloads.
pub fn workload_name(world: &World, build: &Build) -> Result<String, Problem> {
    let (namespace, component) = (
        build.namespace().unwrap_or_default(),
        &build.spec.owner.component_name,
    );
    let reference = ObjectRef::new(Kind::Component, namespace, component);
    let mut names: Vec<String> = world
        .referrers(&reference)
        .filter(|r| r.kind != Kind::Workload)
        .filter_map(|r| world.get_any(r)?.to_value().ok())
        .filter(|part| part.pointer("/spec/owner/componentName") == Some(&json!(component)))
        .filter_map(|part| part.pointer("/spec/workloadName")?.as_str().map(str::to_owned))
        .filter(|name| !name.is_empty())
        .collect();
    names.sort();
    names.dedup();
    match names.as_slice() {
        [name] => Ok(name.clone()),
        [] => Err(Problem::waiting(
            reasons::TYPE_NOT_FOUND,
            format!(
                "nothing says which workload Component {component:?} runs: create its Service, WebApplication or whatever \
                 its type is, with spec.workloadName"
            ),
        )),
        several => Err(Problem::error(
            reasons::INVALID,
            format!(
                "Component {component:?} runs several workloads ({}): a build makes one image, so give it one",
                several.join(", ")
            ),
        )),
    }
}

/// The workload to write for a build that has ended well.
///
/// # Errors
/// When it made no image, its descriptor is no workload, or it is not known which workload is meant.
pub fn workload(world: &World, build: &Build, outcome: &Outcome) -> Result<Target, Problems> {
    let mut problems = Problems::new();
    let name = problems.take(workload_name(world, build).map_err(Problems::from));
    let Some(image) = &outcome.image else {
        problems.push(Problem::error(
            reasons::NO_IMAGE,
            format!(
                "the workflow of {} ended well but none of its steps has an output parameter \"image\": correct the \
                 template {:?}",
                of(build),
                build.spec.template_ref.name
            ),
        ));
        return Err(problems);
    };
    let Some(name) = name else { return Err(problems) };
    let namespace = build.namespace().unwrap_or_default();
    let live = world.get::<Workload>(&namespace, &name);
    if let Some(other) = live.filter(|w| w.spec.owner != build.spec.owner) {
        problems.invalid(format!(
            "Workload {name:?} belongs to Component {:?}, not to that of {}: rename one of the two",
            other.spec.owner.component_name,
            of(build)
        ));
        return Err(problems);
    }
    match live {
        Some(live) if !live.annotations().contains_key(BUILT_BY) => Ok(image_only(live, build, image)?),
        _ => whole(world, build, outcome, &name, image, live.map(|live| &**live)),
    }
}

fn header(build: &Build, name: &str) -> Value {
    json!({
        "apiVersion": labels::API_VERSION,
        "kind": "Workload",
        "metadata": {"name": name, "namespace": build.namespace().unwrap_or_default()},
    })
}

/// A person's workload gets the image and nothing else.
fn image_only(live: &Workload, build: &Build, image: &str) -> Result<Target, Problems> {
    let containers = &live.spec.template.containers;
    let container = match containers.keys().collect::<Vec<_>>().as_slice() {
        [only] => (*only).clone(),
        _ if containers.contains_key(MAIN_CONTAINER) => MAIN_CONTAINER.to_owned(),
        _ => {
            return Err(Problem::error(
                reasons::INVALID,
                format!(
                    "Workload {:?} has several containers, none of them {MAIN_CONTAINER:?}: name the one that {} builds so",
                    live.name_any(),
                    of(build)
                ),
            )
            .into());
        }
    };
    let mut object = header(build, &live.name_any());
    object["spec"] = json!({"containers": {container: {"image": image}}});
    Ok(Target {
        object,
        by_hand: true,
        note: format!(
            "Workload {:?} was written by hand: only its image was set",
            live.name_any()
        ),
    })
}

fn whole(
    world: &World,
    build: &Build,
    outcome: &Outcome,
    name: &str,
    image: &str,
    live: Option<&Workload>,
) -> Result<Target, Problems> {
    let owner = &build.spec.owner;
    let mut object = header(build, name);
    object["metadata"]["annotations"] = json!({BUILT_BY: build.name_any()});
    object["metadata"]["labels"] = json!(
        Labels::new()
            .organization(&build.namespace().unwrap_or_default())
            .project(&owner.project_name)
            .component(&owner.component_name)
            .build()
    );
    let (mut spec, note) = match &outcome.workload {
        Some(descriptor) => (described(build, descriptor)?, String::new()),
        None => derived(world, build, live),
    };
    spec.insert("owner".to_owned(), json!(owner));
    let containers = spec.entry("containers").or_insert_with(|| json!({}));
    if let Some(containers) = containers.as_object_mut() {
        let main = match containers.keys().next() {
            Some(only) if containers.len() == 1 => only.clone(),
            _ => MAIN_CONTAINER.to_owned(),
        };
        let container = containers.entry(main).or_insert_with(|| json!({}));
        container["image"] = json!(image);
    }
    object["spec"] = Value::Object(spec);
    let mut notes = vec![note];
    if !image.contains("@sha256:") {
        notes.push(format!(
            "the workflow gave no digest: {image:?} may come to mean another image"
        ));
    }
    notes.retain(|note| !note.is_empty());
    Ok(Target {
        object,
        by_hand: false,
        note: notes.join("; "),
    })
}

/// What the descriptor next to the source says, with keys in any case.
fn described(build: &Build, descriptor: &str) -> Result<Map<String, Value>, Problems> {
    let invalid = |why: String| {
        Problems::from(Problem::error(
            reasons::INVALID,
            format!(
                "the workload descriptor of {} in {:?}: {why}",
                of(build),
                build.spec.repository.app_path
            ),
        ))
    };
    let documents =
        manifest::read("workload.yaml", descriptor).map_err(|error| invalid(error.to_string()))?;
    let [document] = documents.as_slice() else {
        return Err(invalid("it is not one document".to_owned()));
    };
    let imported = convert::import_workload(document.value()).map_err(|error| invalid(error.to_string()))?;
    match imported.get("spec") {
        Some(Value::Object(spec)) => Ok(spec.clone()),
        _ => Err(invalid("it has no spec".to_owned())),
    }
}

/// Without a descriptor, the endpoints are those that the typed part leads to. What was changed since in an endpoint that an
/// earlier build wrote stays as it is.
fn derived(world: &World, build: &Build, live: Option<&Workload>) -> (Map<String, Value>, String) {
    let namespace = build.namespace().unwrap_or_default();
    let component = ObjectRef::new(Kind::Component, namespace, &build.spec.owner.component_name);
    let mut endpoints = Map::new();
    for service in world.referring::<Service>(&component) {
        if service.spec.owner != build.spec.owner {
            continue;
        }
        for (name, api) in &service.spec.apis {
            let port = api.exposure().map(|exposure| exposure.backend.port);
            if let Some(port) = port {
                endpoints.insert(name.clone(), json!({"type": api.type_, "port": port}));
            }
        }
    }
    let is_web = world
        .referrers(&component)
        .any(|r| r.kind == Kind::WebApplication);
    let note = if is_web && endpoints.is_empty() {
        endpoints.insert("http".to_owned(), json!({"type": "HTTP", "port": WEB_PORT}));
        format!("the build gave no workload descriptor: port {WEB_PORT} is assumed")
    } else if endpoints.is_empty() {
        "the build gave no workload descriptor, and nothing names a port: the workload has no endpoints"
            .to_owned()
    } else {
        "the build gave no workload descriptor: the endpoints are those that the component's APIs lead to"
            .to_owned()
    };
    if let Some(live) = live {
        endpoints.retain(|name, _| live.spec.template.endpoints.contains_key(name));
        for (name, endpoint) in &mut endpoints {
            if let Ok(kept) = serde_json::to_value(&live.spec.template.endpoints[name]) {
                *endpoint = kept;
            }
        }
    }
    let mut spec = Map::new();
    if !endpoints.is_empty() {
        spec.insert("endpoints".to_owned(), Value::Object(endpoints));
    }
    (spec, note)
}
