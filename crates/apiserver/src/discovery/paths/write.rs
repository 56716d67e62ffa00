//! How operations are written, in v3 and in v2.

use serde_json::{Map, Value, json};

use super::PATCH;
use crate::discovery::documents::{V2, V3};

/// Parameters of queries: name, type and what they are for.
const PARAMETERS: &[(&str, &str, &str)] = &[
    (
        "allowWatchBookmarks",
        "boolean",
        "Whether a watch may send bookmarks, which carry a resource version alone.",
    ),
    (
        "command",
        "string",
        "The command to run, one parameter for each word. It is not run in a shell.",
    ),
    (
        "container",
        "string",
        "The container; the only one of the Pod, if it has one.",
    ),
    (
        "continue",
        "string",
        "The token that the page before ended with. Not for watches.",
    ),
    ("dryRun", "string", "`All` to do everything but the write."),
    (
        "fieldManager",
        "string",
        "Who writes, as it stands in the managed fields; the client's name if it is left out.",
    ),
    (
        "fieldSelector",
        "string",
        "Only objects whose fields have these values.",
    ),
    (
        "fieldValidation",
        "string",
        "What to do with unknown and repeated fields: `Ignore`, `Warn` or `Strict`.",
    ),
    ("follow", "boolean", "Whether to go on with what is logged later."),
    (
        "force",
        "boolean",
        "Whether an apply takes over fields that others own.",
    ),
    (
        "gracePeriodSeconds",
        "integer",
        "How many seconds the object has to end; 0 is at once.",
    ),
    (
        "insecureSkipTLSVerifyBackend",
        "boolean",
        "Whether not to check the certificate of whoever has the log.",
    ),
    ("labelSelector", "string", "Only objects with these labels."),
    (
        "limit",
        "integer",
        "How many objects are in an answer at most. Not for watches.",
    ),
    (
        "limitBytes",
        "integer",
        "How many bytes of the log are in the answer at most.",
    ),
    (
        "orphanDependents",
        "boolean",
        "The old way to say `propagationPolicy`.",
    ),
    ("path", "string", "The path behind the proxy."),
    ("ports", "integer", "The ports to forward."),
    ("pretty", "string", "`true` for an answer with line breaks."),
    (
        "previous",
        "boolean",
        "Whether the log is that of the container before it was started anew.",
    ),
    (
        "propagationPolicy",
        "string",
        "What happens to dependents: `Orphan`, `Background` or `Foreground`.",
    ),
    (
        "resourceVersion",
        "string",
        "The version that the answer must have, as `resourceVersionMatch` says.",
    ),
    (
        "resourceVersionMatch",
        "string",
        "How `resourceVersion` is meant: `Exact` or `NotOlderThan`.",
    ),
    (
        "sendInitialEvents",
        "boolean",
        "Whether a watch begins with the objects that are there.",
    ),
    (
        "sinceSeconds",
        "integer",
        "Only what was logged in so many seconds before now.",
    ),
    ("stderr", "boolean", "Whether to get the standard error output."),
    ("stdin", "boolean", "Whether to send the standard input."),
    ("stdout", "boolean", "Whether to get the standard output."),
    (
        "stream",
        "string",
        "Which output of the container: `All`, `Stdout` or `Stderr`.",
    ),
    (
        "tailLines",
        "integer",
        "How many lines from the end of the log are in the answer at most.",
    ),
    (
        "timeoutSeconds",
        "integer",
        "How many seconds the request lasts at most.",
    ),
    ("timestamps", "boolean", "Whether each line begins with its time."),
    ("tty", "boolean", "Whether there is a terminal."),
    (
        "watch",
        "boolean",
        "Whether to send changes as they happen instead of a list.",
    ),
];

/// The media types of a patch.
const PATCHES: &[&str] = &[
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// A parameter: name, place, and of what it is the name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) place: &'static str,
    pub(super) of: String,
}

/// In which media types answers come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Media {
    Object,
    Watch,
    Text,
    Any,
}

/// What an operation takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    None,
    Required(String),
    Optional(&'static str),
    Patch,
}

/// What is done to a path by a method.
pub(super) struct Operation {
    pub(super) method: &'static str,
    pub(super) id: String,
    pub(super) description: String,
    /// Action, group, version and kind, for what is done to a resource.
    pub(super) about: Option<(&'static str, [String; 3])>,
    pub(super) parameters: Vec<Parameter>,
    pub(super) body: Body,
    /// Status and definition; text where there is none.
    pub(super) answers: Vec<(u16, Option<String>)>,
    pub(super) media: Media,
}

/// The name as the table of parameters has it.
pub(super) fn known(name: &str) -> &'static str {
    PARAMETERS
        .iter()
        .find(|(known, ..)| *known == name)
        .map_or("", |(known, ..)| known)
}

impl Parameter {
    pub(super) fn write(&self, old: bool) -> Value {
        let known = PARAMETERS.iter().find(|(name, ..)| *name == self.name);
        let (type_, description) = match (self.place, self.name, known) {
            ("query", _, Some((_, type_, description))) => (*type_, (*description).to_owned()),
            (_, "name", _) => ("string", format!("name of the {}", self.of)),
            (_, "namespace", _) => ("string", "The namespace of the objects.".to_owned()),
            (_, _, known) => (
                "string",
                known.map_or_else(String::new, |(.., text)| (*text).to_owned()),
            ),
        };
        let mut written = json!({"name": self.name, "in": self.place, "description": description});
        if self.place == "path" {
            written["required"] = true.into();
        }
        if old {
            written["type"] = type_.into();
            written["uniqueItems"] = true.into();
        } else {
            written["schema"] = json!({"type": type_, "uniqueItems": true});
        }
        written
    }
}

impl Media {
    fn types(self, custom: bool) -> Vec<&'static str> {
        let mut types = vec!["application/json", "application/yaml"];
        if !custom {
            types.push("application/vnd.kubernetes.protobuf");
        }
        match self {
            Media::Object => {}
            Media::Watch if custom => {}
            Media::Watch => types.extend([
                "application/json;stream=watch",
                "application/vnd.kubernetes.protobuf;stream=watch",
            ]),
            Media::Text => types.push("text/plain"),
            Media::Any => types = vec!["*/*"],
        }
        types
    }
}

impl Operation {
    fn consumes(&self, custom: bool) -> Vec<&'static str> {
        match (&self.body, custom) {
            (Body::Patch, false) => PATCHES.to_vec(),
            (Body::Patch, true) => PATCHES[..3].to_vec(),
            (Body::None, _) | (_, false) => vec!["*/*"],
            (_, true) => vec!["application/json", "application/yaml"],
        }
    }

    /// The definition that the body has, and whether there must be one.
    fn takes(&self) -> Option<(&str, bool)> {
        match &self.body {
            Body::None => None,
            Body::Required(definition) => Some((definition, true)),
            Body::Optional(definition) => Some((definition, false)),
            Body::Patch => Some((PATCH, true)),
        }
    }

    /// What both versions say alike.
    fn head(&self, tag: &str) -> Value {
        let mut written = json!({"tags": [tag], "description": self.description, "operationId": self.id});
        if let Some((action, [group, version, kind])) = &self.about {
            written["x-kubernetes-action"] = (*action).into();
            written["x-kubernetes-group-version-kind"] =
                json!({"group": group, "version": version, "kind": kind});
        }
        written
    }

    pub(super) fn in_v3(&self, tag: &str, custom: bool) -> Value {
        let mut written = self.head(tag);
        let reference = |name: &str| json!({"$ref": format!("{V3}{name}")});
        if !self.parameters.is_empty() {
            written["parameters"] = self
                .parameters
                .iter()
                .map(|parameter| parameter.write(false))
                .collect();
        }
        if let Some((definition, required)) = self.takes() {
            let types = self.consumes(custom).into_iter();
            let content = types.map(|media| (media.to_owned(), json!({"schema": reference(definition)})));
            written["requestBody"] = json!({"content": content.collect::<Map<_, _>>()});
            if required {
                written["requestBody"]["required"] = true.into();
            }
        }
        let mut answers = Map::new();
        for (code, definition) in &self.answers {
            let schema = definition
                .as_deref()
                .map_or_else(|| json!({"type": "string"}), reference);
            let types = self.media.types(custom).into_iter();
            let content = types.map(|media| (media.to_owned(), json!({"schema": schema})));
            let answer = json!({"description": reason(*code), "content": content.collect::<Map<_, _>>()});
            answers.insert(code.to_string(), answer);
        }
        answers.insert("401".to_owned(), json!({"description": reason(401)}));
        written["responses"] = answers.into();
        written
    }

    pub(super) fn in_v2(&self, tag: &str, custom: bool) -> Value {
        let mut written = self.head(tag);
        let reference = |name: &str| json!({"$ref": format!("{V2}{name}")});
        written["consumes"] = if self.about.is_none() {
            self.media.types(custom).into()
        } else {
            self.consumes(custom).into()
        };
        written["produces"] = self.media.types(custom).into();
        written["schemes"] = json!(["https"]);
        let mut parameters = Vec::new();
        if let Some((definition, required)) = self.takes() {
            let mut body = json!({"name": "body", "in": "body", "schema": reference(definition)});
            if required {
                body["required"] = true.into();
            }
            parameters.push(body);
        }
        parameters.extend(self.parameters.iter().map(|parameter| parameter.write(true)));
        if !parameters.is_empty() {
            written["parameters"] = parameters.into();
        }
        let mut answers = Map::new();
        for (code, definition) in &self.answers {
            let schema = definition
                .as_deref()
                .map_or_else(|| json!({"type": "string"}), reference);
            answers.insert(
                code.to_string(),
                json!({"description": reason(*code), "schema": schema}),
            );
        }
        answers.insert("401".to_owned(), json!({"description": reason(401)}));
        written["responses"] = answers.into();
        written
    }
}

fn reason(code: u16) -> &'static str {
    match code {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        _ => "Unauthorized",
    }
}
