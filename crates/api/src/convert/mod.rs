//! Older manifests in today's kinds.
//!
//! A manifest may be written in the group `openchoreo.dev` or in one of its aliases `choreo.dev/v1` and
//! `choreo.dev/v1alpha1`, with older names of kinds and fields, or in the short form of a component. [`convert`] gives
//! the objects that it stands for, or says field by field why it stands for none: nothing is dropped in silence, and
//! nothing is made up that the manifest does not say.

mod fields;
mod short_endpoints;
mod short_form;

use std::fmt;

use serde_json::{Map, Value, json};

use crate::crds::{ALIAS_GROUP, ALIAS_VERSIONS};
use crate::kinds::{KINDS, is_namespaced};
use crate::labels::{API_VERSION, GROUP, VERSION, annotations};
use crate::shape;

/// Something that is wrong with a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The field, for instance `spec.endpoints[0].port`; empty for the manifest as a whole.
    pub path: String,
    /// What is wrong with it, and what to do.
    pub message: String,
}

impl Problem {
    pub(crate) fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

/// Why a document cannot be converted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// It is an object, but not one of this platform: it can still be applied to a cluster as it is.
    #[error(
        "{api_version} {kind} is not a kind of this platform ({GROUP}); it is left to the cluster that knows it"
    )]
    Foreign {
        /// Its `apiVersion`.
        api_version: String,
        /// Its `kind`.
        kind: String,
    },
    /// It is no manifest, or not a valid one.
    #[error("{}", list(.0))]
    Invalid(Vec<Problem>),
}

fn list(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(Problem::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

impl ConvertError {
    fn one(path: &str, message: impl Into<String>) -> Self {
        Self::Invalid(vec![Problem::new(path, message)])
    }

    /// The single problems, to show each at its place in the file.
    pub fn problems(&self) -> Vec<Problem> {
        match self {
            Self::Foreign { .. } => vec![Problem::new("apiVersion", self.to_string())],
            Self::Invalid(problems) => problems.clone(),
        }
    }
}

/// The objects that a manifest stands for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Converted {
    /// The objects, in the order in which they are best applied.
    pub objects: Vec<Value>,
    /// What the author should know: what was assumed, what was left out and why, what the objects will wait for.
    pub notes: Vec<String>,
}

/// The objects that a document stands for.
///
/// A `List` stands for the objects in it. A document that is empty stands for none.
///
/// # Errors
///
/// [`ConvertError::Foreign`] for an object of another API; [`ConvertError::Invalid`] with all problems that were found
/// otherwise.
pub fn convert(document: &Value) -> Result<Converted, ConvertError> {
    match document {
        Value::Null => Ok(Converted::default()),
        Value::Object(object) => convert_object(object),
        other => Err(ConvertError::one(
            "",
            format!(
                "this is {} and no manifest: a manifest is a mapping with apiVersion, kind and metadata",
                shape::describe(other)
            ),
        )),
    }
}

fn convert_object(object: &Map<String, Value>) -> Result<Converted, ConvertError> {
    let (api_version, kind) = match (text(object, "apiVersion"), text(object, "kind")) {
        (Some(api_version), Some(kind)) => (api_version, kind),
        (api_version, kind) => {
            let missing = [("apiVersion", api_version), ("kind", kind)]
                .into_iter()
                .filter(|(_, value)| value.is_none())
                .map(|(field, _)| Problem::new(field, "is missing: this is no manifest"));
            return Err(ConvertError::Invalid(missing.collect()));
        }
    };
    if api_version == "v1" && kind == "List" {
        return convert_list(object);
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let known_versions: &[&str] = match group {
        GROUP => &[VERSION],
        ALIAS_GROUP => ALIAS_VERSIONS,
        _ => {
            return Err(ConvertError::Foreign {
                api_version: api_version.to_owned(),
                kind: kind.to_owned(),
            });
        }
    };
    if !known_versions.contains(&version) {
        return Err(ConvertError::one(
            "apiVersion",
            format!("{group} has no version {version:?}; write {API_VERSION}"),
        ));
    }
    let today = match kind {
        "ComponentV2" => "Component",
        "BuildV2" => "Build",
        other => other,
    };
    match KINDS.iter().find(|known| **known == today) {
        Some(known) => convert_known(object, group, known),
        None => Err(ConvertError::one("kind", unknown_kind(kind))),
    }
}

fn convert_list(object: &Map<String, Value>) -> Result<Converted, ConvertError> {
    let mut all = Converted::default();
    let mut problems = Vec::new();
    for (index, item) in object
        .get("items")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .enumerate()
    {
        match convert(item) {
            Ok(converted) => {
                all.objects.extend(converted.objects);
                all.notes.extend(converted.notes);
            }
            Err(error) => problems.extend(error.problems().into_iter().map(|problem| {
                let dot = if problem.path.is_empty() { "" } else { "." };
                Problem::new(format!("items[{index}]{dot}{}", problem.path), problem.message)
            })),
        }
    }
    if problems.is_empty() {
        Ok(all)
    } else {
        Err(ConvertError::Invalid(problems))
    }
}

fn unknown_kind(kind: &str) -> String {
    match KINDS.iter().find(|known| known.eq_ignore_ascii_case(kind)) {
        Some(known) => format!("{kind:?} is not a kind; did you mean {known}?"),
        None => format!(
            "{kind:?} is not a kind of this platform; there are {}",
            KINDS.join(", ")
        ),
    }
}

/// Converts a manifest of a known kind.
///
/// Only the alias groups have the short form: in today's group a component without an owner is a mistake.
fn convert_known(
    object: &Map<String, Value>,
    group: &str,
    kind: &'static str,
) -> Result<Converted, ConvertError> {
    let mut context = Context::default();
    let metadata = metadata(object, kind, &mut context);
    context.name = metadata
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    for key in object.keys() {
        if !["apiVersion", "kind", "metadata", "spec", "status"].contains(&key.as_str()) {
            context.problem(key, "is not a field of a manifest; should it be in spec?");
        }
    }
    let spec = match object.get("spec") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(spec)) => spec.clone(),
        Some(other) => {
            context.problem(
                "spec",
                format!("must be a mapping, but is {}", shape::describe(other)),
            );
            return Err(ConvertError::Invalid(context.problems));
        }
    };
    let short = group == ALIAS_GROUP && kind == "Component" && short_form::is_short(&spec);
    let parts = if short {
        let runtime = spec.get("runtime").and_then(Value::as_str);
        let annotated = runtime.map_or_else(|| metadata.clone(), |runtime| annotate(&metadata, runtime));
        short_form::expand(&spec, &metadata, &mut context)
            .into_iter()
            .map(|(kind, spec)| {
                let metadata = if kind == "Component" {
                    annotated.clone()
                } else {
                    metadata.clone()
                };
                (kind, metadata, spec)
            })
            .collect()
    } else {
        vec![(kind, metadata, fields::rename(kind, spec, &mut context))]
    };
    // What the short form stands for is only looked at when it is right: its fields are not those of the file.
    let check = !short || context.problems.is_empty();
    let mut objects = Vec::new();
    for (kind, mut metadata, spec) in parts {
        if is_nameless(&metadata) {
            match infer_name(kind, &spec) {
                Some(name) => {
                    context.note(format!(
                        "the {kind} has no name (metadata.name); it was called {name}"
                    ));
                    metadata.insert("name".to_owned(), json!(name));
                }
                None if short && kind != "Component" => {}
                None => context.problem("metadata.name", format!("is missing: give the {kind} a name")),
            }
        }
        let spec = Value::Object(spec);
        if let Some(schema) = shape::spec_schema(kind).filter(|_| check) {
            shape::check(schema, &spec, "spec", &mut context.problems);
        }
        let mut made = Map::from_iter([
            ("apiVersion".to_owned(), json!(API_VERSION)),
            ("kind".to_owned(), json!(kind)),
            ("metadata".to_owned(), Value::Object(metadata)),
            ("spec".to_owned(), spec),
        ]);
        // A manifest that was read from a cluster keeps what the cluster says of it.
        if let Some(status) = object.get("status") {
            made.insert("status".to_owned(), status.clone());
        }
        objects.push(Value::Object(made));
    }
    let Context { problems, notes, .. } = context;
    if problems.is_empty() {
        Ok(Converted { objects, notes })
    } else {
        Err(ConvertError::Invalid(problems))
    }
}

fn annotate(metadata: &Map<String, Value>, runtime: &str) -> Map<String, Value> {
    let mut metadata = metadata.clone();
    let mut all = metadata
        .get("annotations")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    all.insert(annotations::RUNTIME.to_owned(), json!(runtime));
    metadata.insert("annotations".to_owned(), Value::Object(all));
    metadata
}

fn is_nameless(metadata: &Map<String, Value>) -> bool {
    !metadata.contains_key("name") && !metadata.contains_key("generateName")
}

/// The name of an object whose name follows from what it belongs to.
fn infer_name(kind: &str, spec: &Map<String, Value>) -> Option<String> {
    let owner = spec.get("owner")?.as_object()?;
    let component = text(owner, "componentName")?;
    match kind {
        "Workload" | "Service" | "WebApplication" | "ScheduledTask" | "API"
            if !spec.contains_key("track") =>
        {
            Some(component.to_owned())
        }
        "ServiceBinding" | "WebApplicationBinding" | "ScheduledTaskBinding" | "ComponentBinding" => {
            let track = text(spec, "track").unwrap_or_default();
            Some(crate::names::binding(
                component,
                track,
                text(spec, "environment")?,
            ))
        }
        _ => None,
    }
}

/// The metadata, checked as far as it can be without a cluster. Whether there is a name is looked at later.
fn metadata(object: &Map<String, Value>, kind: &str, context: &mut Context) -> Map<String, Value> {
    let metadata = match object.get("metadata") {
        Some(Value::Object(metadata)) => metadata,
        None | Some(Value::Null) => return Map::new(),
        Some(other) => {
            context.problem(
                "metadata",
                format!("must be a mapping, but is {}", shape::describe(other)),
            );
            return Map::new();
        }
    };
    match metadata.get("name") {
        None => {}
        Some(Value::String(name)) if crate::names::is_subdomain(name) => {}
        Some(Value::String(name)) => context.problem(
            "metadata.name",
            format!("{name:?} is not a name: use lower-case letters, digits and '-'"),
        ),
        Some(other) => {
            context.problem(
                "metadata.name",
                format!("must be a text, but is {}", shape::describe(other)),
            );
        }
    }
    if !is_namespaced(kind) && metadata.contains_key("namespace") {
        context.problem(
            "metadata.namespace",
            format!("a {kind} is not in a namespace: leave it out"),
        );
    }
    let mut kept = Map::new();
    for (key, value) in metadata {
        match (key.as_str(), value) {
            // An empty block of labels or annotations means none.
            ("labels" | "annotations", Value::Null) => continue,
            ("labels" | "annotations", Value::Object(texts)) => {
                for (name, text) in texts.iter().filter(|(_, text)| !text.is_string()) {
                    let path = shape::field(&format!("metadata.{key}"), name);
                    context.problem(path, format!("must be a text, but is {}", shape::describe(text)));
                }
            }
            ("labels" | "annotations", other) => {
                let message = format!("must be a mapping, but is {}", shape::describe(other));
                context.problem(format!("metadata.{key}"), message);
            }
            _ => {}
        }
        kept.insert(key.clone(), value.clone());
    }
    kept
}

fn text<'a>(object: &'a Map<String, Value>, field: &str) -> Option<&'a str> {
    object
        .get(field)
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty())
}

/// What a conversion finds out on its way.
#[derive(Default)]
struct Context {
    /// Name of the manifest; empty if it has none.
    name: String,
    problems: Vec<Problem>,
    notes: Vec<String>,
}

impl Context {
    fn problem(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem::new(path, message));
    }

    fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }
}

/// Reads a workload file as older tools write it: keys in any case, with or without `apiVersion`, `kind` and `spec`.
///
/// # Errors
///
/// All fields that are unknown, missing or of the wrong type, in any case.
pub fn import_workload(document: &Value) -> Result<Value, ConvertError> {
    let Value::Object(object) = document else {
        return convert(document).map(|_| Value::Null);
    };
    let lookup = |name: &str| {
        object
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    };
    let Some(schema) = shape::spec_schema("Workload") else {
        return Err(ConvertError::one("", "the kind Workload has no schema"));
    };
    let spec = match lookup("spec") {
        Some(spec) => spec.clone(),
        None => Value::Object(
            object
                .iter()
                .filter(|(key, _)| !["apiversion", "kind", "metadata"].contains(&key.to_lowercase().as_str()))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
        ),
    };
    let spec = shape::spell_keys(schema, spec);
    let metadata = match lookup("metadata") {
        Some(Value::Object(metadata)) => metadata
            .iter()
            .map(|(key, value)| (spell_metadata(key), value.clone()))
            .collect(),
        _ => Map::new(),
    };
    let mut metadata = metadata;
    if !metadata.contains_key("name")
        && let Some(component) = spec.pointer("/owner/componentName").and_then(Value::as_str)
    {
        metadata.insert("name".to_owned(), json!(component));
    }
    let manifest = json!({"apiVersion": API_VERSION, "kind": "Workload", "metadata": metadata, "spec": spec});
    let mut converted = convert(&manifest)?;
    converted
        .objects
        .pop()
        .ok_or_else(|| ConvertError::one("", "the file holds no workload"))
}

fn spell_metadata(key: &str) -> String {
    ["name", "namespace", "labels", "annotations", "generateName"]
        .into_iter()
        .find(|known| known.eq_ignore_ascii_case(key))
        .unwrap_or(key)
        .to_owned()
}
