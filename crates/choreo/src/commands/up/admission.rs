//! Refuses component types, traits and resource types with mistakes when they are written, as the engine finds them.

use choreo_apimachinery::status::{ApiError, Result, StatusCause};
use choreo_apiserver::{Admission, AdmissionRequest, Operation};
use choreo_engine::blueprint;

/// The kinds that are looked at.
const KINDS: [&str; 3] = ["ComponentType", "Trait", "ResourceType"];

/// The check of blueprints, in one logical cluster.
pub(crate) struct Blueprints {
    cluster: &'static str,
}

impl Blueprints {
    /// The check in the cluster of this name; the others are left alone.
    pub(crate) fn in_cluster(cluster: &'static str) -> Self {
        Self { cluster }
    }
}

impl Admission for Blueprints {
    fn name(&self) -> &str {
        "Blueprints"
    }

    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        let info = request.resource;
        request.cluster == self.cluster
            && info.group == choreo_api::labels::GROUP
            && KINDS.contains(&info.kind.as_str())
            && request.subresource.is_empty()
            && request.operation != Operation::Delete
    }

    fn validate(&self, request: &AdmissionRequest<'_>, _warnings: &mut Vec<String>) -> Result<()> {
        let info = request.resource;
        let Some(object) = request.object else {
            return Ok(());
        };
        // What was let in once stays writable in all other respects: its condition says what is wrong with it.
        if request
            .old
            .is_some_and(|old| old.get("spec") == object.get("spec"))
        {
            return Ok(());
        }
        let problems = blueprint::object_problems(object).unwrap_or_default();
        if problems.is_empty() {
            return Ok(());
        }
        let causes: Vec<StatusCause> = problems
            .into_iter()
            .map(|problem| {
                let (field, message) = problem
                    .message
                    .split_once(": ")
                    .unwrap_or(("spec", &problem.message));
                StatusCause {
                    cause: "FieldValueInvalid".to_owned(),
                    message: message.to_owned(),
                    field: field.to_owned(),
                }
            })
            .collect();
        let all: Vec<String> = causes
            .iter()
            .map(|c| format!("{}: {}", c.field, c.message))
            .collect();
        let mut error = ApiError::invalid(&info.group, &info.kind, request.name, &[]);
        error.message = format!("{}:\n{}", error.message, all.join("\n"));
        error.details.get_or_insert_default().causes = causes;
        Err(error)
    }
}

#[cfg(test)]
mod tests {
    use choreo_apimachinery::registry::Registry;
    use choreo_apiserver::user::UserInfo;
    use choreo_store::Store;
    use serde_json::{Value, json};

    use super::*;

    fn review(old: Option<&Value>, object: &Value, cluster: &str) -> std::result::Result<(), String> {
        let registry = Registry::builtin();
        let mut info = registry.by_kind("", "v1", "ConfigMap").unwrap().as_ref().clone();
        info.group = "openchoreo.dev".to_owned();
        info.kind = "ComponentType".to_owned();
        let request = AdmissionRequest {
            cluster,
            snapshot: &Store::in_memory().cluster(cluster).snapshot(),
            user: &UserInfo::system("test"),
            operation: if old.is_some() {
                Operation::Update
            } else {
                Operation::Create
            },
            resource: &info,
            subresource: "",
            namespace: "default",
            name: "web",
            old,
            object: Some(object),
            dry_run: false,
        };
        let step = Blueprints::in_cluster("control");
        if !step.handles(&request) {
            return Ok(());
        }
        step.validate(&request, &mut Vec::new()).map_err(|e| e.message)
    }

    fn type_with(name: &str) -> Value {
        json!({
            "apiVersion": "openchoreo.dev/v1alpha1",
            "kind": "ComponentType",
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"resources": [{
                "id": "a",
                "template": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}},
            }]},
        })
    }

    #[test]
    fn mistakes_are_refused_unless_they_were_there_before() {
        let (good, bad) = (type_with("${metadata.name}"), type_with("${metadata.nam}"));
        assert_eq!(review(None, &good, "control"), Ok(()));
        let expected = "ComponentType.openchoreo.dev \"web\" is invalid:\n\
                        spec.resources[a].template.metadata.name: no field \"nam\"\n    \
                        metadata.nam\n             ^ did you mean \"name\"?";
        assert_eq!(review(None, &bad, "control"), Err(expected.to_owned()));
        assert_eq!(review(Some(&good), &bad, "control"), Err(expected.to_owned()));
        // A label may be changed, and a data plane is none of its business.
        assert_eq!(review(Some(&bad), &bad, "control"), Ok(()));
        assert_eq!(review(None, &bad, "local"), Ok(()));
    }
}
