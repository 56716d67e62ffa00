//! The short form of a component: one manifest that says what usually takes three.

use serde_json::{Map, Value, json};

use super::Context;
use super::fields::git_url;
use super::short_endpoints::{ShortEndpoint, endpoints};
use crate::labels::{PROJECT, annotations};
use crate::shape;
use crate::v1alpha1::common::{DEFAULT_CLASS, ExposeLevel};
use crate::v1alpha1::workload::MAIN_CONTAINER;

/// The project of a component that names none.
const DEFAULT_PROJECT: &str = "default";

const FIELDS: &[&str] = &[
    "type",
    "project",
    "runtime",
    "image",
    "source",
    "build",
    "endpoints",
    "dependencies",
    "replicas",
    "env",
    "schedule",
    "command",
    "args",
];

/// Whether the spec of a component is in the short form: it does not say whose it is.
pub(super) fn is_short(spec: &Map<String, Value>) -> bool {
    !spec.contains_key("owner") && !spec.contains_key("componentOwner")
}

/// The objects that the short form stands for.
pub(super) fn expand(
    spec: &Map<String, Value>,
    metadata: &Map<String, Value>,
    context: &mut Context,
) -> Vec<(&'static str, Map<String, Value>)> {
    for (key, value) in spec {
        if !FIELDS.contains(&key.as_str()) {
            context.problem(
                format!("spec.{key}"),
                format!(
                    "is not a field of a component in the short form (one without owner); there are {}",
                    FIELDS.join(", ")
                ),
            );
        } else if value.is_null() {
            context.problem(
                format!("spec.{key}"),
                "has no value (only a comment?): write one, or leave the field out",
            );
        }
    }
    let name = context.name.clone();
    let project = project(spec, metadata, context);
    let owner = json!({"projectName": project, "componentName": name});
    let (type_, typed_kind) = component_type(spec, context);
    let endpoints = endpoints(spec, type_, context);
    let env = env(spec, context);

    let mut component = object(json!({"owner": {"projectName": project}, "type": type_}));
    let build = build(spec, context);
    if let Some(build) = &build {
        component.insert("build".to_owned(), build.clone());
    }

    let mut workload = object(json!({"owner": owner}));
    let image = spec.get("image").filter(|image| image.is_string());
    let mut overrides = Map::new();
    let mut container = Map::new();
    for field in ["command", "args"] {
        if let Some(value) = spec.get(field) {
            container.insert(field.to_owned(), value.clone());
        }
    }
    if !env.is_empty() {
        container.insert("env".to_owned(), Value::Array(env));
    }
    match image {
        Some(image) => {
            container.insert("image".to_owned(), image.clone());
            workload.insert("containers".to_owned(), json!({MAIN_CONTAINER: container}));
        }
        // The image will come with the build: what is known of its container is kept where the build does not write.
        None if !container.is_empty() => {
            overrides.insert("containers".to_owned(), json!({MAIN_CONTAINER: container}));
        }
        None => {}
    }
    if spec.contains_key("image") && image.is_none() {
        context.problem("spec.image", "must be a text");
    }
    if image.is_none() && build.is_none() {
        context.note(format!(
            "component {name} has neither image nor source: it is accepted, and waits until its workload names an image"
        ));
    }
    if let Some(replicas) = spec.get("replicas") {
        overrides.insert("replicas".to_owned(), replicas.clone());
    }
    let described: Map<String, Value> = endpoints
        .iter()
        .map(|endpoint| (endpoint.name.clone(), endpoint.in_workload(typed_kind)))
        .collect();
    if !described.is_empty() {
        workload.insert("endpoints".to_owned(), Value::Object(described));
    }
    let connections = connections(spec, context);
    if !connections.is_empty() {
        workload.insert("connections".to_owned(), Value::Object(connections));
    }

    let mut made = vec![("Component", component), ("Workload", workload)];
    if let Some(kind) = typed_kind {
        made.push((kind, typed_part(kind, spec, &owner, &name, overrides, &endpoints)));
    }
    if let Some(runtime) = spec.get("runtime").and_then(Value::as_str) {
        context.note(format!(
            "runtime {runtime} tells a build which language to expect; it changes nothing for a ready image \
             (see the annotation {})",
            annotations::RUNTIME
        ));
    }
    made
}

/// The fields of a value that is known to be an object.
pub(super) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

fn project(spec: &Map<String, Value>, metadata: &Map<String, Value>, context: &mut Context) -> String {
    let label = metadata.get("labels").and_then(|labels| labels.get(PROJECT));
    match spec.get("project").or(label).and_then(Value::as_str) {
        Some(project) => project.to_owned(),
        None => {
            context.note(format!(
                "no project is named (spec.project or the label {PROJECT}): the component goes to {DEFAULT_PROJECT:?}"
            ));
            DEFAULT_PROJECT.to_owned()
        }
    }
}

/// The component's type and the kind of its typed part.
fn component_type(spec: &Map<String, Value>, context: &mut Context) -> (&'static str, Option<&'static str>) {
    let Some(written) = spec.get("type").and_then(Value::as_str) else {
        context.problem(
            "spec.type",
            "is required: service, web-application, scheduled-task, manual-task or api",
        );
        return ("Service", Some("Service"));
    };
    let plain: String = written
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect::<String>()
        .to_lowercase();
    match plain.as_str() {
        "service" | "backend" => ("Service", Some("Service")),
        "webapplication" | "webapp" | "web" | "frontend" => ("WebApplication", Some("WebApplication")),
        "scheduledtask" | "cronjob" | "cron" => ("ScheduledTask", Some("ScheduledTask")),
        "manualtask" | "task" | "job" => ("ManualTask", Some("ScheduledTask")),
        "api" | "apiproxy" => ("API", Some("API")),
        _ => {
            context.problem(
                "spec.type",
                format!(
                    "{written:?} is none of service, web-application, scheduled-task, manual-task and api"
                ),
            );
            ("Service", Some("Service"))
        }
    }
}

/// Environment variables, which are written as a list of `{name, value}` or as a mapping.
fn env(spec: &Map<String, Value>, context: &mut Context) -> Vec<Value> {
    match spec.get("env") {
        Some(Value::Object(variables)) => variables
            .iter()
            .map(|(key, value)| json!({"key": key, "value": plain_text(value)}))
            .collect(),
        Some(Value::Array(variables)) => variables
            .iter()
            .enumerate()
            .filter_map(|(index, variable)| {
                let mut variable = variable.as_object().cloned().or_else(|| {
                    context.problem(
                        format!("spec.env[{index}]"),
                        "must be a mapping with name and value",
                    );
                    None
                })?;
                if let Some(name) = variable.remove("name") {
                    variable.insert("key".to_owned(), name);
                }
                if let Some(value) = variable.get("value").map(plain_text) {
                    variable.insert("value".to_owned(), value);
                }
                Some(Value::Object(variable))
            })
            .collect(),
        Some(Value::Null) | None => Vec::new(),
        Some(other) => {
            context.problem(
                "spec.env",
                format!("must be a list or a mapping, but is {}", shape::describe(other)),
            );
            Vec::new()
        }
    }
}

/// A number or truth value as the text that a process would see.
fn plain_text(value: &Value) -> Value {
    match value {
        Value::Number(_) | Value::Bool(_) => json!(value.to_string()),
        other => other.clone(),
    }
}

/// How the component is built, if it has a source.
fn build(spec: &Map<String, Value>, context: &mut Context) -> Option<Value> {
    let Some(source) = spec.get("source").filter(|source| !source.is_null()) else {
        if spec.contains_key("build") {
            context.problem(
                "spec.build",
                "says how to build, but spec.source.git does not say what",
            );
        }
        return None;
    };
    let Some(git) = source.get("git").and_then(Value::as_object) else {
        context.problem(
            "spec.source.git",
            "is required: where the source is (repository, branch)",
        );
        return None;
    };
    for key in git.keys() {
        if !["repository", "url", "branch", "path", "secretRef"].contains(&key.as_str()) {
            context.problem(
                format!("spec.source.git.{key}"),
                "is not a field; there are repository, branch, path and secretRef",
            );
        }
    }
    let text = |field: &str| git.get(field).and_then(Value::as_str);
    let Some(repository) = text("repository").or_else(|| text("url")) else {
        context.problem("spec.source.git.repository", "is required");
        return None;
    };
    let mut repository = object(json!({
        "url": git_url(repository),
        "appPath": text("path").unwrap_or("/"),
    }));
    if let Some(branch) = text("branch") {
        repository.insert("revision".to_owned(), json!({"branch": branch}));
    }
    if let Some(secret) = text("secretRef") {
        repository.insert("secretRef".to_owned(), json!(secret));
    }
    Some(json!({"repository": repository, "templateRef": build_template(spec, context)}))
}

fn build_template(spec: &Map<String, Value>, context: &mut Context) -> Value {
    let build = spec.get("build").and_then(Value::as_object);
    for key in build.into_iter().flat_map(Map::keys) {
        if !["buildpacks", "dockerfile"].contains(&key.as_str()) {
            context.problem(
                format!("spec.build.{key}"),
                "is not a field; there are buildpacks and dockerfile",
            );
        }
    }
    if let Some(dockerfile) = build.and_then(|build| build.get("dockerfile")) {
        let path = dockerfile.as_str().unwrap_or("Dockerfile");
        return json!({"name": "docker", "parameters": [{"name": "dockerfile-path", "value": path}]});
    }
    if build.and_then(|build| build.get("buildpacks")) == Some(&Value::Bool(false)) {
        return json!({"name": "docker"});
    }
    match spec.get("runtime").and_then(Value::as_str) {
        Some("ballerina") => json!({"name": "ballerina-buildpack"}),
        Some("react") => json!({"name": "react"}),
        _ => json!({"name": "google-cloud-buildpacks"}),
    }
}

/// Dependencies become connections to managed resources, each told to the component by its address.
fn connections(spec: &Map<String, Value>, context: &mut Context) -> Map<String, Value> {
    let mut connections = Map::new();
    for (index, item) in list(spec, "dependencies", context).iter().enumerate() {
        let path = format!("spec.dependencies[{index}]");
        let field = |name: &str| item.get(name).and_then(Value::as_str);
        let Some(name) = field("name") else {
            context.problem(format!("{path}.name"), "is required");
            continue;
        };
        let mut params = object(json!({"resourceRef": name}));
        if let Some(type_) = field("type") {
            params.insert("resourceType".to_owned(), json!(type_));
        }
        let variable: String = name
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() {
                    c.to_ascii_uppercase()
                } else {
                    '_'
                }
            })
            .collect();
        let connection = json!({
            "type": "managed",
            "params": params,
            "inject": {"env": [{"name": format!("{variable}_URL"), "value": "{{ .url }}"}]},
        });
        if connections.insert(name.to_owned(), connection).is_some() {
            context.problem(
                format!("{path}.name"),
                format!("{name:?} is the name of another dependency already"),
            );
        }
    }
    connections
}

/// A list of the spec; an absent one is empty.
pub(super) fn list(spec: &Map<String, Value>, field: &str, context: &mut Context) -> Vec<Value> {
    match spec.get(field) {
        Some(Value::Array(items)) => items.clone(),
        None | Some(Value::Null) => Vec::new(),
        Some(other) => {
            context.problem(
                format!("spec.{field}"),
                format!("must be a list, but is {}", shape::describe(other)),
            );
            Vec::new()
        }
    }
}

fn typed_part(
    kind: &str,
    spec: &Map<String, Value>,
    owner: &Value,
    name: &str,
    overrides: Map<String, Value>,
    endpoints: &[ShortEndpoint],
) -> Map<String, Value> {
    let mut part = object(json!({"owner": owner, "workloadName": name, "className": DEFAULT_CLASS}));
    if !overrides.is_empty() {
        part.insert("overrides".to_owned(), Value::Object(overrides));
    }
    match kind {
        "Service" => {
            let apis: Map<String, Value> = endpoints
                .iter()
                .filter(|endpoint| endpoint.is_http())
                .map(|endpoint| (endpoint.name.clone(), endpoint.as_api()))
                .collect();
            if !apis.is_empty() {
                part.insert("apis".to_owned(), Value::Object(apis));
            }
        }
        "WebApplication" => {
            let mut levels: Vec<ExposeLevel> =
                endpoints.iter().filter_map(|endpoint| endpoint.level).collect();
            levels.sort_unstable();
            levels.dedup();
            if !levels.is_empty() {
                part.insert("exposeLevels".to_owned(), json!(levels));
            }
        }
        "ScheduledTask" => {
            if let Some(schedule) = spec.get("schedule") {
                part.insert("schedule".to_owned(), schedule.clone());
            }
        }
        "API" => {
            let api = endpoints
                .first()
                .map_or_else(|| json!({"type": "REST"}), ShortEndpoint::as_api);
            part.extend(object(api));
        }
        _ => {}
    }
    part
}
