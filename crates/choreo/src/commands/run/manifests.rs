//! The objects that `choreo run` makes.

use choreo_api::labels::API_VERSION;
use choreo_api::v1alpha1::MAIN_CONTAINER;
use serde_json::{Map, Value, json};

use super::image::ImageReference;

/// Name of the only endpoint.
pub(super) const ENDPOINT: &str = "http";

/// What is to run.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) project: String,
    pub(super) image: ImageReference,
    pub(super) port: Option<u16>,
    /// `Public` or `Organization`; none for the project alone.
    pub(super) level: Option<&'static str>,
    pub(super) env: Vec<(String, String)>,
    pub(super) command: Vec<String>,
    pub(super) args: Vec<String>,
    pub(super) replicas: Option<u16>,
}

impl Wanted {
    /// Component, Workload and Service, in this order.
    pub(super) fn manifests(&self, namespace: Option<&str>) -> [Value; 3] {
        let mut metadata = json!({"name": self.name});
        if let Some(namespace) = namespace {
            metadata["namespace"] = namespace.into();
        }
        let owner = json!({"projectName": self.project, "componentName": self.name});
        let object = |kind: &str, spec: Value| json!({"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec});
        let component = json!({"owner": {"projectName": self.project}, "type": "Service"});
        [
            object("Component", component),
            object("Workload", self.workload(&owner)),
            object("Service", self.service(&owner)),
        ]
    }

    fn workload(&self, owner: &Value) -> Value {
        let mut container = Map::new();
        container.insert("image".to_owned(), self.image.to_string().into());
        for (field, words) in [("command", &self.command), ("args", &self.args)] {
            if !words.is_empty() {
                container.insert(field.to_owned(), words.as_slice().into());
            }
        }
        if !self.env.is_empty() {
            let env: Vec<Value> = self
                .env
                .iter()
                .map(|(k, v)| json!({"key": k, "value": v}))
                .collect();
            container.insert("env".to_owned(), env.into());
        }
        let mut spec = json!({"owner": owner, "containers": {MAIN_CONTAINER: container}});
        if let Some(port) = self.port {
            spec["endpoints"] = json!({ENDPOINT: {"type": "HTTP", "port": port}});
        }
        spec
    }

    fn service(&self, owner: &Value) -> Value {
        let mut spec = json!({"owner": owner, "workloadName": self.name});
        if let Some(port) = self.port {
            let mut exposure = json!({"backend": {"port": port}});
            if let Some(level) = self.level {
                exposure["exposeLevels"] = json!([level]);
            }
            spec["apis"] = json!({ENDPOINT: {"type": "HTTP", "http": exposure}});
        }
        if let Some(replicas) = self.replicas {
            spec["overrides"] = json!({"replicas": replicas});
        }
        spec
    }
}
