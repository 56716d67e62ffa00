//! All objects together: what they lead to, and what stands in the way.

use choreo_controllers::defaults::defaults;
use choreo_engine::offline::{Rendered, render};
use choreo_engine::plan::Target;
use choreo_engine::world::LoadError;
use choreo_engine::{AnyObject, World};
use serde_json::Value;

use super::files::Manifest;
use super::findings::Finding;
use super::schemas::Schemas;
use crate::failure::Failure;

/// The world that a platform with only these objects would see. `with_defaults` adds what `choreo up` installs, unless the
/// files have an object of the same name.
pub(crate) fn world(
    manifests: &[Manifest],
    schemas: &Schemas,
    with_defaults: bool,
) -> Result<World, Failure> {
    let mut world = World::default();
    let broken = |error: &dyn std::error::Error| Failure::new("the defaults cannot be read").because(error);
    for object in defaults().iter().filter(|_| with_defaults) {
        let mut object = serde_json::to_value(object).map_err(|error| broken(&error))?;
        schemas.default(&mut object);
        match AnyObject::from_value(&object) {
            Ok(object) => world.upsert(object),
            Err(LoadError::UnknownKind { .. }) => {}
            Err(error) => return Err(broken(&error)),
        }
    }
    for manifest in manifests {
        let mut object = manifest.object.clone();
        schemas.default(&mut object);
        // What is of no kind that the engine knows has no part in what it decides.
        if let Ok(object) = AnyObject::from_value(&object) {
            world.upsert(object);
        }
    }
    Ok(world)
}

/// Renders a world; what stands in the way is told at the object that it concerns.
pub(crate) fn render_world(world: &World, manifests: &[Manifest]) -> (Rendered, Vec<Finding>) {
    let rendered = render(world);
    let mut findings = vec![];
    for (target, problem) in &rendered.problems {
        let Some(manifest) = responsible(target, manifests) else {
            continue;
        };
        let position = manifest.position(field_in(&problem.message).unwrap_or_default());
        findings.push(if problem.waiting {
            Finding::warning(position, problem.message.clone())
        } else {
            Finding::error(position, problem.message.clone())
        });
    }
    (rendered, findings)
}

/// The manifest to look at for a target: its own, or the component's for what the platform derived from it.
fn responsible<'a>(target: &Target, manifests: &'a [Manifest]) -> Option<&'a Manifest> {
    let find = |kind: &str, name: &str| {
        manifests
            .iter()
            .find(|manifest| manifest.kind() == kind && manifest.name() == name)
    };
    match target {
        Target::Cell { project, .. } => find("Project", project),
        Target::Object(reference) => find(reference.kind.as_str(), &reference.key.name).or_else(|| {
            let of_component = manifests.iter().filter(|manifest| manifest.kind() == "Component");
            of_component
                .filter(|manifest| {
                    let rest = reference.key.name.strip_prefix(manifest.name());
                    rest.is_some_and(|rest| rest.starts_with('-'))
                })
                .max_by_key(|manifest| manifest.name().len())
        }),
    }
}

/// The first field path in a message.
fn field_in(message: &str) -> Option<&str> {
    let start = message.find("spec.").or_else(|| message.find("metadata."))?;
    let rest = &message[start..];
    let end = rest
        .find(|c: char| c.is_whitespace() || matches!(c, ':' | ',' | ';'))
        .unwrap_or(rest.len());
    Some(rest[..end].trim_end_matches('.'))
}

/// The objects of every Release, in the order of the Releases and as they are in them.
pub(crate) fn released(rendered: &Rendered) -> impl Iterator<Item = (&Value, &Value)> {
    rendered
        .objects
        .iter()
        .filter(|object| object["kind"] == "Release")
        .flat_map(|release| {
            let resources = release["spec"]["resources"].as_array().into_iter().flatten();
            resources.map(move |resource| (release, &resource["object"]))
        })
}
