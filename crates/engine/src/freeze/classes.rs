//! Looking classes and types up, and freezing them.

use std::collections::{BTreeMap, BTreeSet};

use choreo_api::{
    conditions::reasons,
    labels::PLATFORM_NAMESPACE,
    v1alpha1::{
        APIClass, APIClassSpec, Component, ComponentType, FrozenClass, FrozenCustom, FrozenTrait,
        ScheduledTaskClass, ServiceApi, ServiceClass, Trait, WebApplicationClass,
    },
};
use serde::Serialize;
use serde_json::json;

use crate::{
    problem::{Problem, Problems},
    world::{Kind, Known, World, reference_of},
};

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

/// A class of some kind, frozen.
///
/// # Errors
/// When there is none of this name.
fn class<T: Known>(
    world: &World,
    namespace: &str,
    name: &str,
    of: &str,
    spec: impl Fn(&T) -> serde_json::Value,
) -> Result<FrozenClass, Problems> {
    let class = find_class::<T>(world, namespace, name)
        .ok_or_else(|| no_class(T::KIND, namespace, name, of, "spec.className"))?;
    Ok(FrozenClass {
        kind: T::KIND.as_str().to_owned(),
        name: name.to_owned(),
        spec: spec(class),
    })
}

/// A service class, frozen.
///
/// # Errors
/// When there is none of this name.
pub fn service_class(world: &World, namespace: &str, name: &str, of: &str) -> Result<FrozenClass, Problems> {
    class::<ServiceClass>(world, namespace, name, of, |c| value(&c.spec))
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
    class::<WebApplicationClass>(world, namespace, name, of, |c| value(&c.spec))
}

/// A class of scheduled tasks, frozen.
///
/// # Errors
/// When there is none of this name.
pub fn scheduled_task_class(
    world: &World,
    namespace: &str,
    name: &str,
    of: &str,
) -> Result<FrozenClass, Problems> {
    class::<ScheduledTaskClass>(world, namespace, name, of, |c| value(&c.spec))
}

/// The type of a component that the platform team defined, frozen.
///
/// # Errors
/// When there is none of this name.
pub fn component_type(world: &World, namespace: &str, name: &str, of: &str) -> Result<FrozenClass, Problems> {
    let Some(found) = find_class::<ComponentType>(world, namespace, name) else {
        return Err(Problem::waiting(
            reasons::TYPE_NOT_FOUND,
            format!(
                "{of} spec.type: {name:?} is neither a built-in type nor a ComponentType in namespace {namespace:?} or {PLATFORM_NAMESPACE:?}: create the ComponentType, or name another"
            ),
        )
        .into());
    };
    Ok(FrozenClass {
        kind: Kind::ComponentType.as_str().to_owned(),
        name: name.to_owned(),
        spec: value(&found.spec),
    })
}

/// What a component says to its type: its parameters, and the traits that it uses as they are now.
///
/// # Errors
/// Every trait that is missing or that the type does not allow.
pub fn custom(world: &World, namespace: &str, component: &Component) -> Result<FrozenCustom, Problems> {
    let of = reference_of(component);
    let mut problems = Problems::new();
    let allowed = find_class::<ComponentType>(world, namespace, &component.spec.type_)
        .map(|t| t.spec.allowed_traits.as_slice())
        .unwrap_or_default();
    let mut traits = Vec::new();
    for (i, used) in component.spec.traits.iter().enumerate() {
        let field = format!("spec.traits[{i}].name");
        if !allowed.is_empty() && !allowed.contains(&used.name) {
            problems.invalid(format!(
                "{of} {field}: ComponentType {:?} allows only the traits {}",
                component.spec.type_,
                crate::problem::quoted_list(allowed.iter().map(String::as_str))
            ));
            continue;
        }
        match find_class::<Trait>(world, namespace, &used.name) {
            Some(found) => traits.push(FrozenTrait {
                name: used.name.clone(),
                instance_name: used.instance_name.clone(),
                parameters: used.parameters.clone(),
                spec: value(&found.spec),
            }),
            None => problems.push(no_class(
                Kind::Trait,
                namespace,
                &used.name,
                &of.to_string(),
                &field,
            )),
        }
    }
    problems.or_ok(FrozenCustom {
        parameters: component.spec.parameters.clone(),
        traits,
    })
}

/// An API class, as it is now.
///
/// # Errors
/// When there is none of this name.
pub fn api_class(
    world: &World,
    namespace: &str,
    name: &str,
    of: &str,
    field: &str,
) -> Result<APIClassSpec, Problems> {
    find_class::<APIClass>(world, namespace, name)
        .map(|class| class.spec.clone())
        .ok_or_else(|| no_class(Kind::APIClass, namespace, name, of, field).into())
}

fn value(spec: &impl Serialize) -> serde_json::Value {
    // What was read from JSON can be written as JSON.
    serde_json::to_value(spec).unwrap_or_else(|_| json!({}))
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
