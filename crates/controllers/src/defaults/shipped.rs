//! The component types, traits and resource types that every platform starts with.

use choreo_api::labels;
use kube::core::DynamicObject;
use serde_json::{Value, json};

/// The files, in the order in which they are created.
const FILES: &[(&str, &str)] = &[
    ("worker", include_str!("blueprints/worker.yaml")),
    (
        "stateful-service",
        include_str!("blueprints/stateful-service.yaml"),
    ),
    ("scheduled-job", include_str!("blueprints/scheduled-job.yaml")),
    ("static-site", include_str!("blueprints/static-site.yaml")),
    (
        "persistent-volume",
        include_str!("blueprints/persistent-volume.yaml"),
    ),
    ("autoscaling", include_str!("blueprints/autoscaling.yaml")),
    (
        "extra-ingress-path",
        include_str!("blueprints/extra-ingress-path.yaml"),
    ),
    ("pod-monitor", include_str!("blueprints/pod-monitor.yaml")),
    ("postgres", include_str!("blueprints/postgres.yaml")),
    ("redis", include_str!("blueprints/redis.yaml")),
];

/// The shipped types in a namespace.
pub(super) fn blueprints(namespace: &str) -> Vec<DynamicObject> {
    let read = |(name, text): &(&str, &str)| choreo_api::manifest::read(name, text).unwrap_or_default();
    FILES
        .iter()
        .flat_map(read)
        .map(|document| super::typed(placed(document.into_value(), namespace)))
        .collect()
}

fn placed(mut value: Value, namespace: &str) -> Value {
    let name = value["metadata"]["name"].clone();
    value["metadata"]["namespace"] = json!(namespace);
    value["metadata"]["labels"] = json!({labels::NAME: name, labels::ORGANIZATION: namespace});
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_read() {
        let names: Vec<String> = blueprints("default")
            .iter()
            .map(|o| o.metadata.name.clone().unwrap_or_default())
            .collect();
        let files: Vec<&str> = FILES.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, files);
    }
}
