//! Endpoints in the short form of a component.

use serde_json::{Map, Value, json};

use super::Context;
use super::short_form::{list, object};
use crate::shape;
use crate::v1alpha1::common::{DEFAULT_CLASS, ExposeLevel};

/// An endpoint as the short form writes it.
pub(super) struct ShortEndpoint {
    pub(super) name: String,
    type_: String,
    port: Value,
    path: Option<String>,
    pub(super) level: Option<ExposeLevel>,
}

impl ShortEndpoint {
    /// What the workload says of it. Who may reach it is said by the typed part, if that can say it.
    pub(super) fn in_workload(&self, typed_kind: Option<&str>) -> Value {
        let mut endpoint = object(json!({"type": self.type_, "port": self.port}));
        if let Some(path) = &self.path {
            endpoint.insert("basePath".to_owned(), json!(path));
        }
        if let Some(level) = self
            .level
            .filter(|_| !matches!(typed_kind, Some("Service" | "WebApplication" | "API")))
        {
            endpoint.insert(
                "visibility".to_owned(),
                json!(crate::v1alpha1::common::Visibility::from(level)),
            );
        }
        Value::Object(endpoint)
    }

    /// What the typed part says of it.
    pub(super) fn as_api(&self) -> Value {
        let mut backend = object(json!({"port": self.port}));
        if let Some(path) = &self.path {
            backend.insert("basePath".to_owned(), json!(path));
        }
        let exposure = match self.level {
            Some(level) => json!({"backend": backend, "exposeLevels": [level]}),
            None => json!({"backend": backend}),
        };
        let field = match self.type_.as_str() {
            "REST" => "rest",
            "gRPC" => "grpc",
            _ => "http",
        };
        json!({"type": self.type_, "className": DEFAULT_CLASS, field: exposure})
    }

    pub(super) fn is_http(&self) -> bool {
        !matches!(self.type_.as_str(), "TCP" | "UDP")
    }
}

/// The endpoints of the short form.
pub(super) fn endpoints(spec: &Map<String, Value>, type_: &str, context: &mut Context) -> Vec<ShortEndpoint> {
    let items = list(spec, "endpoints", context);
    let mut endpoints: Vec<ShortEndpoint> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let path = format!("spec.endpoints[{index}]");
        let Some(fields) = item.as_object() else {
            context.problem(
                path,
                format!("must be a mapping, but is {}", shape::describe(item)),
            );
            continue;
        };
        for key in fields.keys() {
            if !["name", "port", "path", "visibility", "type", "protocol"].contains(&key.as_str()) {
                context.problem(
                    shape::field(&path, key),
                    "is not a field; there are name, port, path, visibility and type",
                );
            }
        }
        let name = fields.get("name").and_then(Value::as_str).unwrap_or_else(|| {
            context.problem(format!("{path}.name"), "is required");
            ""
        });
        if endpoints.iter().any(|other| other.name == name) {
            context.problem(
                format!("{path}.name"),
                format!("{name:?} is the name of another endpoint already"),
            );
        }
        let port = match fields.get("port") {
            Some(port) if port.as_u64().is_some_and(|port| (1..=65535).contains(&port)) => port.clone(),
            Some(port) => {
                context.problem(
                    format!("{path}.port"),
                    format!(
                        "must be a number from 1 to 65535, but is {}",
                        shape::describe(port)
                    ),
                );
                json!(1)
            }
            None => {
                context.problem(format!("{path}.port"), "is required");
                json!(1)
            }
        };
        endpoints.push(ShortEndpoint {
            name: name.to_owned(),
            type_: endpoint_type(fields, type_, &path, context),
            port,
            path: fields.get("path").and_then(Value::as_str).map(str::to_owned),
            level: level(fields, &path, context),
        });
    }
    endpoints
}

fn endpoint_type(fields: &Map<String, Value>, type_: &str, path: &str, context: &mut Context) -> String {
    let Some(written) = fields
        .get("type")
        .or_else(|| fields.get("protocol"))
        .and_then(Value::as_str)
    else {
        return if type_ == "WebApplication" { "HTTP" } else { "REST" }.to_owned();
    };
    const TYPES: [&str; 7] = ["HTTP", "REST", "gRPC", "GraphQL", "Websocket", "TCP", "UDP"];
    match TYPES
        .into_iter()
        .find(|known| known.eq_ignore_ascii_case(written))
    {
        Some(known) => known.to_owned(),
        None => {
            context.problem(
                format!("{path}.type"),
                format!("{written:?} is none of {}", TYPES.join(", ")),
            );
            written.to_owned()
        }
    }
}

fn level(fields: &Map<String, Value>, path: &str, context: &mut Context) -> Option<ExposeLevel> {
    let written = fields.get("visibility")?.as_str().unwrap_or_default();
    match written.to_lowercase().as_str() {
        "public" => Some(ExposeLevel::Public),
        "organization" => Some(ExposeLevel::Organization),
        "project" => Some(ExposeLevel::Project),
        _ => {
            context.problem(
                format!("{path}.visibility"),
                "must be public, organization or project",
            );
            None
        }
    }
}
