//! What the platform team adds to rendering: the objects that a ComponentType's templates make, and traits over them or
//! over what a built-in type makes.

use choreo_api::{
    conditions::reasons,
    v1alpha1::{
        ComponentTypeSpec, FrozenClass, FrozenTrait, ParameterRule, ParameterSchema, TraitSpec,
        common::{ExposeLevel, ReleaseState, Visibility},
    },
};
use choreo_cel::typing::Type;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::{Family, Input, config, meta::Meta, pod};
use crate::{
    blueprint::{self, Adopter, Budget, Made, PodDefaults, Variables, adopt, component_scope, declared},
    place::{Dialect, Gateway},
    problem::{Problem, Problems},
    resolve::configuration::Setting,
};

/// Adds what blueprints make to the platform's objects, and carries the component's traits out over all of them.
pub(super) fn apply(input: &Input<'_>, meta: &Meta, platform: Vec<Value>) -> Result<Vec<Value>, Problems> {
    let custom = Family::of(input.source) == Family::Custom;
    if !custom && input.source.traits.is_empty() {
        return Ok(platform);
    }
    let mut problems = Problems::new();
    let facts = Facts::of(input, meta)?;
    let mut budget = Budget::default();
    let mut objects: Vec<Made> = platform
        .iter()
        .map(|object| Made {
            id: id_of(object),
            object: object.clone(),
            platform: true,
        })
        .collect();
    let mut of = "traits".to_owned();
    if custom && let Some(class) = &input.source.class {
        of = format!("{} {:?}", class.kind, class.name);
        objects.extend(
            problems
                .take(type_objects(input, &facts, class, &mut budget))
                .unwrap_or_default(),
        );
    }
    for used in &input.source.traits {
        problems.take(trait_over(input, &facts, used, &mut objects, &mut budget));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    // What nobody touched is as the platform wants it already.
    let (untouched, mut touched): (Vec<Made>, Vec<Made>) = objects
        .into_iter()
        .partition(|made| made.platform && platform.contains(&made.object));
    if let Some(twice) = touched.iter().find(|t| untouched.iter().any(|u| same(u, t))) {
        problems.push(error(
            &of,
            &format!(
                "{} {:?} is the platform's already: choose another name",
                twice.kind(),
                twice.name()
            ),
        ));
    }
    problems.take(adopt(&of, &adopter(input, meta, &facts), &mut touched));
    let all = untouched.into_iter().chain(touched).map(|made| made.object);
    problems.or_ok(all.collect())
}

fn same(a: &Made, b: &Made) -> bool {
    (a.api_version(), a.kind(), a.name()) == (b.api_version(), b.kind(), b.name())
}

/// How a patch names an object that the platform made.
fn id_of(object: &Value) -> String {
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
    kind.to_ascii_lowercase()
}

fn error(of: &str, what: &str) -> Problem {
    Problem::error(reasons::RENDER_FAILED, format!("{of}: {what}"))
}

fn parsed<T: DeserializeOwned>(of: &str, spec: &Value) -> Result<T, Problems> {
    T::deserialize(spec).map_err(|e| error(of, &format!("spec: {e}")).into())
}

fn type_objects(
    input: &Input<'_>,
    facts: &Facts,
    class: &FrozenClass,
    budget: &mut Budget,
) -> Result<Vec<Made>, Problems> {
    let of = format!("ComponentType {:?}", class.name);
    let spec: ComponentTypeSpec = parsed(&of, &class.spec)?;
    let parameters = input.source.custom.as_ref().and_then(|c| c.parameters.as_ref());
    let given = Given {
        parameters,
        parameters_field: "spec.parameters",
        environment_configs: input.environment_configs,
        environment_configs_field: "spec.environmentConfigs",
    };
    let variables = facts.variables(&of, spec.schema.as_ref(), &spec.validations, &given, None, budget)?;
    blueprint::made(
        &format!("{of} spec.resources"),
        &spec.resources,
        &variables,
        budget,
    )
}

fn trait_over(
    input: &Input<'_>,
    facts: &Facts,
    used: &FrozenTrait,
    objects: &mut Vec<Made>,
    budget: &mut Budget,
) -> Result<(), Problems> {
    let of = format!("Trait {:?} ({})", used.name, used.instance_name);
    let spec: TraitSpec = parsed(&of, &used.spec)?;
    let environment_configs = input
        .trait_environment_configs
        .get(&used.instance_name)
        .map(|raw| &raw.0);
    let given = Given {
        parameters: used.parameters.as_ref(),
        parameters_field: &format!("spec.traits[{}].parameters", used.instance_name),
        environment_configs,
        environment_configs_field: &format!("spec.traitEnvironmentConfigs[{}]", used.instance_name),
    };
    let variables = facts.variables(
        &of,
        spec.schema.as_ref(),
        &spec.validations,
        &given,
        Some(used),
        budget,
    )?;
    blueprint::apply_trait(&of, &spec, &variables, objects, budget)
}

/// What users gave to a type or a trait, and where.
struct Given<'a> {
    parameters: Option<&'a Value>,
    parameters_field: &'a str,
    environment_configs: Option<&'a Value>,
    environment_configs_field: &'a str,
}

/// What expressions see of a component in its environment.
struct Facts {
    values: Vec<(&'static str, Value)>,
    pod: Value,
}

impl Facts {
    fn of(input: &Input<'_>, meta: &Meta) -> Result<Self, Problems> {
        let pod = pod::template(input, meta, None)?;
        let values = vec![
            ("metadata", metadata(input, meta)),
            ("workload", workload(input)),
            ("pod", pod_variable(input, &pod)),
            ("configurations", configurations(input)),
            ("secrets", secrets(input, meta)),
            ("connections", json!(input.connections.values)),
            ("environment", environment(input.place)),
            ("dataplane", data_plane(input.place)),
        ];
        Ok(Self { values, pod })
    }

    /// The variables of one blueprint, whose rules hold.
    fn variables(
        &self,
        of: &str,
        schema: Option<&ParameterSchema>,
        rules: &[ParameterRule],
        given: &Given<'_>,
        used: Option<&FrozenTrait>,
        budget: &mut Budget,
    ) -> Result<Variables, Problems> {
        let mut problems = Problems::new();
        let mut settle = |json: Option<&Value>, kind: &str, given: Option<&Value>, field: &str| {
            let declared = problems.take(declared(json, &format!("{of} spec.schema.{kind}")))?;
            let value = problems.take(declared.settle(given, field))?;
            Some((declared.type_, value))
        };
        let parameters = settle(
            schema.and_then(|s| s.parameters.as_ref()),
            "parameters",
            given.parameters,
            given.parameters_field,
        );
        let configs = settle(
            schema.and_then(|s| s.environment_configs.as_ref()),
            "environmentConfigs",
            given.environment_configs,
            given.environment_configs_field,
        );
        let (Some((parameters_type, parameters)), Some((configs_type, configs))) = (parameters, configs)
        else {
            return Err(problems);
        };
        let mut variables = Variables::of(component_scope(parameters_type, configs_type));
        for (name, value) in &self.values {
            variables.set(name, value.clone());
        }
        variables
            .set("parameters", parameters)
            .set("environmentConfigs", configs);
        if let Some(used) = used {
            let value = json!({"name": used.name, "instanceName": used.instance_name});
            let type_ = Type::object([("name", Type::String), ("instanceName", Type::String)]);
            variables = variables.with("trait", type_, value);
        }
        problems.take(blueprint::validate(of, rules, &variables, budget));
        problems.or_ok(variables)
    }
}

fn metadata(input: &Input<'_>, meta: &Meta) -> Value {
    json!({
        "name": meta.name,
        "namespace": meta.namespace,
        "component": input.component,
        "project": input.place.project,
        "organization": input.place.organization,
        "environment": input.place.environment,
        "track": input.track,
        "labels": meta.labels,
        "selector": meta.selector,
        "serviceAccount": meta.name,
    })
}

fn workload(input: &Input<'_>) -> Value {
    let containers: Map<String, Value> = input
        .workload
        .containers
        .iter()
        .map(|(name, c)| {
            let env: Map<String, Value> = c
                .env
                .iter()
                .filter(|e| e.value_from.is_none())
                .map(|e| (e.key.clone(), json!(e.value.as_deref().unwrap_or_default())))
                .collect();
            let container = json!({
                "image": c.image,
                "command": c.command,
                "args": c.args,
                "env": env,
                "resources": {"requests": c.resources.requests, "limits": c.resources.limits},
            });
            (name.clone(), container)
        })
        .collect();
    let endpoints: Map<String, Value> = input
        .exposures
        .iter()
        .map(|e| {
            let levels = std::iter::once(ExposeLevel::Project).chain(e.levels.keys().copied());
            let levels: Vec<Visibility> = levels.map(Visibility::from).collect();
            let endpoint =
                json!({"type": e.type_, "port": e.port, "basePath": e.base_path, "visibility": levels});
            (e.name.clone(), endpoint)
        })
        .collect();
    json!({"containers": containers, "endpoints": endpoints})
}

fn pod_variable(input: &Input<'_>, template: &Value) -> Value {
    let list = |pointer: &str| template.pointer(pointer).cloned().unwrap_or_else(|| json!([]));
    json!({
        "containers": list("/spec/containers"),
        "volumes": list("/spec/volumes"),
        "imagePullSecrets": list("/spec/imagePullSecrets"),
        "annotations": template.pointer("/metadata/annotations").cloned().unwrap_or_else(|| json!({})),
        "mainContainer": pod::main_container(input).map_or("", String::as_str),
    })
}

fn configurations(input: &Input<'_>) -> Value {
    let groups = input.configuration.iter().map(|(group, settings)| {
        let plain: Map<String, Value> = settings
            .iter()
            .filter_map(|(key, setting)| match setting {
                Setting::Value(value) => Some((key.clone(), json!(value))),
                Setting::VaultKey(_) => None,
            })
            .collect();
        (group.clone(), Value::Object(plain))
    });
    Value::Object(groups.collect())
}

/// Where secret values will be, never what they are.
fn secrets(input: &Input<'_>, meta: &Meta) -> Value {
    let groups = input.configuration.iter().filter_map(|(group, settings)| {
        let keys: Vec<&String> = settings
            .iter()
            .filter(|(_, setting)| matches!(setting, Setting::VaultKey(_)))
            .map(|(key, _)| key)
            .collect();
        let object = json!({"name": config::group_object(meta, group), "keys": keys});
        (!keys.is_empty()).then(|| (group.clone(), object))
    });
    Value::Object(groups.collect())
}

/// The variable `environment`.
pub(crate) fn environment(place: &crate::place::Place) -> Value {
    json!({"name": place.environment, "dnsPrefix": place.dns_prefix})
}

/// The variable `dataplane`.
pub(crate) fn data_plane(place: &crate::place::Place) -> Value {
    let plane = &place.plane;
    let mut out = Map::new();
    out.insert("name".to_owned(), json!(plane.name));
    out.insert(
        "features".to_owned(),
        json!({
            "cilium": plane.dialect == Dialect::Cilium,
            "networkPolicy": plane.dialect != Dialect::None,
            "mtls": plane.mtls,
        }),
    );
    let gateway =
        |g: &Gateway| json!({"name": g.name, "namespace": g.namespace, "virtualHost": g.virtual_host});
    let of = |level| plane.gateways.as_ref().and_then(|g| g.of(level)).map(gateway);
    if let (Some(public), Some(organization)) = (of(ExposeLevel::Public), of(ExposeLevel::Organization)) {
        out.insert(
            "gateways".to_owned(),
            json!({"public": public, "organization": organization}),
        );
    }
    if let Some(store) = &plane.secret_store {
        out.insert(
            "secretStore".to_owned(),
            json!({"name": store.name, "kind": store.kind}),
        );
    }
    Value::Object(out)
}

fn adopter(input: &Input<'_>, meta: &Meta, facts: &Facts) -> Adopter {
    let list = |pointer: &str| -> Vec<Value> {
        let found = facts.pod.pointer(pointer).and_then(Value::as_array);
        found.cloned().unwrap_or_default()
    };
    let annotations = facts
        .pod
        .pointer("/metadata/annotations")
        .and_then(Value::as_object);
    let annotations = annotations
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect();
    Adopter {
        namespace: meta.namespace.clone(),
        labels: meta.labels.clone(),
        selector: meta.selector.clone(),
        pods: PodDefaults {
            service_account: Some(meta.name.clone()),
            annotations,
            pull_secrets: list("/spec/imagePullSecrets"),
            volumes: list("/spec/volumes"),
        },
        suspended: input.state == ReleaseState::Suspend,
    }
}
