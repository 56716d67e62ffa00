//! Managed resources: databases, queues and the like that a ResourceType makes, once in each cell that uses them.
//!
//! What a resource is made of depends on its declaration and the place alone, never on who uses it; so every consumer
//! works out the same names and ports, and the cell makes the same objects.

use std::collections::{BTreeMap, BTreeSet};

use choreo_api::{
    conditions::reasons,
    labels::{self, Labels},
    names,
    v1alpha1::{Connection, ConnectionType, ManagedResource, ResourceType, WorkloadTemplate},
};
use serde_json::{Value, json};

use crate::{
    binding::{self, Binding},
    blueprint::{self, Adopter, Budget, Made, PodDefaults, Variables, adopt, declared, resource_scope},
    freeze::find_class,
    place::Place,
    problem::{Problem, Problems},
    render::{custom, policy::Transport},
    resolve::overrides,
    world::{Kind, ObjectRef, World},
};

/// Something that a consumer learns of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// A value that anybody may see.
    Value(String),
    /// An entry of a Secret in the cell: its name and key.
    Secret(String, String),
}

/// A resource in a cell.
#[derive(Debug, Clone, PartialEq)]
pub struct Managed {
    /// Its objects.
    pub objects: Vec<Value>,
    /// What consumers learn of it.
    pub outputs: BTreeMap<String, Output>,
    /// The ports of its Services, as its pods have them.
    pub ports: Vec<(u16, Transport)>,
    /// The labels of its pods.
    pub selector: BTreeMap<String, String>,
}

/// The resource that a connection leads to, and the type that it gives for one that is not declared.
pub fn target(connection: &Connection) -> Option<(&str, Option<&str>)> {
    let param = |name: &str| {
        let value = connection.params.get(name).map(String::as_str);
        value.filter(|v| !v.is_empty())
    };
    (connection.type_ == ConnectionType::Managed)
        .then(|| Some((param("resourceRef")?, param("resourceType"))))?
}

/// The labels of a resource's pods.
pub fn selector(resource: &str) -> BTreeMap<String, String> {
    Labels::new().with(labels::MANAGED_RESOURCE, resource).build()
}

/// Works a resource out, as it is in a place.
///
/// # Errors
/// When it, or its type, is missing; when another project owns it; everything that its type refuses.
pub fn resolve(
    world: &World,
    place: &Place,
    resource: &str,
    implied_type: Option<&str>,
) -> Result<Managed, Problems> {
    let namespace = &place.organization;
    let declaration = world.get::<ManagedResource>(namespace, resource);
    let of = format!("ManagedResource {resource:?}");
    let waiting = |message: String| Problems::from(Problem::waiting(reasons::CONNECTION_UNRESOLVED, message));
    let type_name = match (declaration, implied_type) {
        (Some(declared), _) => declared.spec.type_.as_str(),
        (None, Some(type_)) => type_,
        (None, None) => {
            return Err(waiting(format!(
                "{of} not found in namespace {namespace:?}: create it, or give params.resourceType for one of a type's defaults"
            )));
        }
    };
    if let Some(owner) = declaration.and_then(|d| d.spec.owner.as_ref())
        && owner.project_name != place.project
    {
        return Err(Problem::error(
            reasons::INVALID,
            format!(
                "{of} belongs to project {:?}, not to {:?}: use one of this project, or remove spec.owner so that all projects may have one",
                owner.project_name, place.project
            ),
        )
        .into());
    }
    let Some(type_) = find_class::<ResourceType>(world, namespace, type_name) else {
        return Err(waiting(format!(
            "ResourceType {type_name:?} of {of} not found in namespace {namespace:?} nor in {:?}: create it, or name another",
            labels::PLATFORM_NAMESPACE
        )));
    };
    let spec = &type_.spec;
    let type_of = format!("ResourceType {type_name:?}");
    let mut problems = Problems::new();
    let mut settle = |json: Option<&Value>, kind: &str, given: Option<&Value>, field: String| {
        let declared = problems.take(declared(json, &format!("{type_of} spec.schema.{kind}")))?;
        let value = problems.take(declared.settle(given, &field))?;
        Some((declared.type_, value))
    };
    let schema = spec.schema.as_ref();
    let parameters = settle(
        schema.and_then(|s| s.parameters.as_ref()),
        "parameters",
        declaration.and_then(|d| d.spec.parameters.as_ref()),
        format!("{of} spec.parameters"),
    );
    let configs = settle(
        schema.and_then(|s| s.environment_configs.as_ref()),
        "environmentConfigs",
        declaration
            .and_then(|d| d.spec.environment_configs.get(&place.environment))
            .map(|raw| &raw.0),
        format!("{of} spec.environmentConfigs[{}]", place.environment),
    );
    let (Some((parameters_type, parameters)), Some((configs_type, configs))) = (parameters, configs) else {
        return Err(problems);
    };
    let name = names::resource_objects(resource);
    let selector = selector(resource);
    let labels = Labels::new()
        .organization(namespace)
        .project(&place.project)
        .environment(&place.environment)
        .name(resource)
        .app(&name, &place.project)
        .with(labels::MANAGED_RESOURCE, resource)
        .with(
            labels::RELEASE,
            &names::resource_release(&place.project, &place.environment, resource),
        )
        .build();
    let mut variables = Variables::of(resource_scope(parameters_type, configs_type));
    variables
        .set("parameters", parameters)
        .set("environmentConfigs", configs)
        .set("environment", custom::environment(place))
        .set("dataplane", custom::data_plane(place))
        .set(
            "metadata",
            json!({
                "name": name,
                "namespace": place.namespace,
                "resource": resource,
                "project": place.project,
                "organization": namespace,
                "environment": place.environment,
                "labels": labels,
                "selector": selector,
            }),
        );
    let mut budget = Budget::default();
    problems.take(blueprint::validate(
        &type_of,
        &spec.validations,
        &variables,
        &mut budget,
    ));
    let made = blueprint::made(
        &format!("{type_of} spec.resources"),
        &spec.resources,
        &variables,
        &mut budget,
    );
    let Some(mut made) = problems.take(made) else {
        return Err(problems);
    };
    let adopter = Adopter {
        namespace: place.namespace.clone(),
        labels,
        selector: selector.clone(),
        pods: PodDefaults::default(),
        suspended: false,
    };
    problems.take(adopt(&type_of, &adopter, &mut made));
    let mut outputs = BTreeMap::new();
    for output in &spec.outputs {
        let field = format!("{type_of} spec.outputs[{}]", output.name);
        let mut text = |field: &str, text: &str| {
            let value = blueprint::value(field, &Value::String(text.to_owned()), &variables, &mut budget);
            problems.take(value).flatten().map(|value| match value {
                Value::String(text) => text,
                other => other.to_string(),
            })
        };
        let value = match (&output.value, &output.secret_key_ref) {
            (_, Some(secret)) => {
                let name = text(&format!("{field}.secretKeyRef.name"), &secret.name);
                let key = text(&format!("{field}.secretKeyRef.key"), &secret.key);
                name.zip(key).map(|(name, key)| Output::Secret(name, key))
            }
            (Some(value), None) => text(&format!("{field}.value"), value).map(Output::Value),
            (None, None) => None,
        };
        outputs.extend(value.map(|value| (output.name.clone(), value)));
    }
    let ports = ports(&made);
    problems.or_ok(Managed {
        objects: made.into_iter().map(|m| m.object).collect(),
        outputs,
        ports,
        selector,
    })
}

/// The ports by which the resource is reached, as its pods have them.
fn ports(made: &[Made]) -> Vec<(u16, Transport)> {
    let services = made
        .iter()
        .filter(|m| m.kind() == "Service" && m.api_version() == "v1");
    let ports = services
        .filter_map(|m| m.object.pointer("/spec/ports")?.as_array())
        .flatten()
        .filter_map(|port| {
            let number = |name: &str| port.get(name).and_then(Value::as_u64);
            let transport = match port.get("protocol").and_then(Value::as_str) {
                Some("UDP") => Transport::Udp,
                _ => Transport::Tcp,
            };
            let port = number("targetPort").or_else(|| number("port"))?;
            Some((u16::try_from(port).ok()?, transport))
        });
    let unique: BTreeSet<(u16, Transport)> = ports.collect();
    unique.into_iter().collect()
}

/// The resources that run in a cell because something there uses them, each with the type given for one that is not
/// declared. `None` while what some binding runs is not known: then none may be taken for unused.
pub fn used_in(
    world: &World,
    namespace: &str,
    project: &str,
    environment: &str,
) -> (BTreeMap<String, Option<String>>, bool) {
    let owner = ObjectRef::new(Kind::Project, namespace, project);
    let mut used = BTreeMap::new();
    let mut all_known = true;
    for reference in binding::referring(world, &owner) {
        let here = binding::head(world, reference)
            .is_some_and(|h| h.environment == environment && h.owner.project_name == project);
        let Some(binding) = Binding::find(world, reference).filter(|_| here) else {
            continue;
        };
        if binding.state == choreo_api::v1alpha1::common::ReleaseState::Undeploy {
            continue;
        }
        let Ok(source) = binding.source(world) else {
            all_known = false;
            continue;
        };
        let none = WorkloadTemplate::default();
        let frozen = source.workload.as_ref().unwrap_or(&none);
        let workload = overrides::apply(frozen, &binding.overrides, "binding");
        let workload = workload.unwrap_or(std::borrow::Cow::Borrowed(frozen));
        for (resource, type_) in workload.connections.values().filter_map(target) {
            let slot: &mut Option<String> = used.entry(resource.to_owned()).or_default();
            if slot.is_none() {
                *slot = type_.map(str::to_owned);
            }
        }
    }
    (used, all_known)
}

/// What is said of a resource whose type does not exist.
pub(crate) fn type_missing(world: &World, namespace: &str, resource: &str, type_: &str) -> Option<Problem> {
    find_class::<ResourceType>(world, namespace, type_).is_none().then(|| {
        Problem::waiting(
            reasons::TYPE_NOT_FOUND,
            format!(
                "ResourceType {type_:?} of ManagedResource {resource:?} not found in namespace {namespace:?} nor in {:?}: create it, or name another",
                labels::PLATFORM_NAMESPACE
            ),
        )
    })
}
