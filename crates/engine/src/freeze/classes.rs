//! Looking classes and types up, and freezing them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use choreo_api::{
    conditions::reasons,
    labels::PLATFORM_NAMESPACE,
    v1alpha1::{
        APIClass, APIClassSpec, Component, ComponentType, ComponentTypeSpec, FrozenClass, FrozenCustom,
        FrozenTrait, ParameterSchema, ScheduledTaskClass, ServiceApi, ServiceClass, Trait,
        WebApplicationClass,
    },
};
use serde::Serialize;
use serde_json::json;

use crate::{
    blueprint,
    problem::{Problem, Problems},
    world::{Kind, Known, ObjectRef, World, reference_of},
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

/// What a component says to its type: its parameters, as the type wants them.
///
/// # Errors
/// Every parameter that the type does not know or allow.
pub fn custom(component: &Component, class: Option<&FrozenClass>) -> Result<FrozenCustom, Problems> {
    let of = reference_of(component);
    let mut problems = Problems::new();
    if let Some(type_) = class.and_then(|c| serde_json::from_value::<ComponentTypeSpec>(c.spec.clone()).ok())
    {
        let given = component.spec.parameters.as_ref();
        let what = format!("ComponentType {:?}", component.spec.type_);
        problems.extend(parameters(
            &of,
            "spec.parameters",
            given,
            type_.schema.as_ref(),
            &what,
        ));
    }
    problems.or_ok(FrozenCustom {
        parameters: component.spec.parameters.clone(),
    })
}

/// What is wrong with parameters that were given to something that declares some.
fn parameters(
    of: &ObjectRef,
    field: &str,
    given: Option<&serde_json::Value>,
    schema: Option<&ParameterSchema>,
    what: &str,
) -> Problems {
    // A mistake in the schema is told where it is made.
    let Ok(declared) = blueprint::declared(
        schema.and_then(|s| s.parameters.as_ref()),
        "spec.schema.parameters",
    ) else {
        return Problem::error(
            reasons::INVALID,
            format!(
                "{what} has mistakes: its condition Ready says which; {of} cannot use it before they are gone"
            ),
        )
        .into();
    };
    let Err(problems) = declared.settle(given, field) else {
        return Problems::new();
    };
    let told = problems
        .into_iter()
        .map(|p| Problem::error(p.reason, format!("{of} {} (declared by {what})", p.message)));
    told.collect()
}

/// The traits that a component uses, as they are now.
///
/// # Errors
/// Every trait that is missing, that the type does not allow, or that is given what it does not know.
pub fn traits(world: &World, namespace: &str, component: &Component) -> Result<Vec<FrozenTrait>, Problems> {
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
        let Some(found) = find_class::<Trait>(world, namespace, &used.name) else {
            problems.push(no_class(
                Kind::Trait,
                namespace,
                &used.name,
                &of.to_string(),
                &field,
            ));
            continue;
        };
        problems.extend(parameters(
            &of,
            &format!("spec.traits[{}].parameters", used.instance_name),
            used.parameters.as_ref(),
            found.spec.schema.as_ref(),
            &format!("Trait {:?}", used.name),
        ));
        traits.push(FrozenTrait {
            name: used.name.clone(),
            instance_name: used.instance_name.clone(),
            parameters: used.parameters.clone(),
            spec: value(&found.spec),
        });
    }
    problems.or_ok(traits)
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
) -> Result<Arc<APIClassSpec>, Problems> {
    find_class::<APIClass>(world, namespace, name)
        .map(|class| Arc::new(class.spec.clone()))
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
) -> Result<BTreeMap<String, Arc<APIClassSpec>>, Problems> {
    let mut problems = Problems::new();
    let mut classes = BTreeMap::new();
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (api_name, api) in apis {
        match find_class::<APIClass>(world, namespace, &api.class_name) {
            Some(class) => {
                classes.insert(api.class_name.clone(), Arc::new(class.spec.clone()));
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
