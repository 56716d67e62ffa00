//! How far an Argo Workflow is, from its status.

use serde_json::Value;

/// What a workflow made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Reference to the image.
    pub image: Option<String>,
    /// The commit that was checked out.
    pub revision: Option<String>,
    /// The descriptor of the workload that lies next to the source, as YAML or JSON.
    pub workload: Option<String>,
}

/// How far a workflow is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Nobody has started it.
    Pending,
    /// It runs; the step that it is at, if it says so.
    Running(Option<String>),
    /// It ended well.
    Succeeded(Outcome),
    /// It ended badly: which step, and why.
    Failed(String),
}

fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty())
}

/// The nodes of a workflow, in the order of their ids: a map's order must not decide what is read.
fn nodes(workflow: &Value) -> Vec<&Value> {
    let nodes = workflow.pointer("/status/nodes").and_then(Value::as_object);
    let mut all: Vec<(&String, &Value)> = nodes.into_iter().flatten().collect();
    all.sort_by_key(|(id, _)| id.as_str());
    all.into_iter().map(|(_, node)| node).collect()
}

fn is_step(node: &&&Value) -> bool {
    text(node, "/type").is_none_or(|kind| kind == "Pod")
}

fn step_name(node: &Value) -> String {
    let name = text(node, "/displayName").or_else(|| text(node, "/templateName"));
    name.unwrap_or("unnamed").to_owned()
}

/// Reads the status of a workflow.
pub fn progress(workflow: &Value) -> Progress {
    let nodes = nodes(workflow);
    let in_phase = |phases: &[&str]| {
        nodes
            .iter()
            .filter(is_step)
            .find(|node| text(node, "/phase").is_some_and(|phase| phases.contains(&phase)))
            .copied()
    };
    match text(workflow, "/status/phase") {
        Some("Running") => Progress::Running(in_phase(&["Running", "Pending"]).map(step_name)),
        Some("Succeeded") => Progress::Succeeded(outcome(&nodes)),
        Some(phase @ ("Failed" | "Error")) => {
            let whole = text(workflow, "/status/message");
            let message = match in_phase(&["Failed", "Error"]) {
                Some(node) => {
                    let why = text(node, "/message").or(whole).unwrap_or("no message");
                    format!("step {:?}: {why}", step_name(node))
                }
                None => whole.map_or_else(|| format!("the workflow ended with {phase}"), str::to_owned),
            };
            Progress::Failed(message)
        }
        _ => Progress::Pending,
    }
}

fn outcome(nodes: &[&Value]) -> Outcome {
    let output = |name: &str| {
        nodes
            .iter()
            .flat_map(|node| {
                node.pointer("/outputs/parameters")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
            })
            .filter(|parameter| text(parameter, "/name") == Some(name))
            .find_map(|parameter| text(parameter, "/value"))
            .map(|value| value.trim().to_owned())
    };
    Outcome {
        image: output("image"),
        revision: output("git-revision"),
        workload: output("workload-cr"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn workflow(phase: &str, nodes: &Value) -> Value {
        json!({"status": {"phase": phase, "message": "child failed", "nodes": nodes}})
    }

    #[test]
    fn phases() {
        assert_eq!(progress(&json!({})), Progress::Pending);
        assert_eq!(progress(&workflow("Pending", &json!({}))), Progress::Pending);
        let running = json!({"a": {"type": "Steps", "displayName": "build", "phase": "Running"},
                             "b": {"type": "Pod", "displayName": "clone-step", "phase": "Succeeded"},
                             "c": {"type": "Pod", "displayName": "build-step", "phase": "Running"}});
        assert_eq!(
            progress(&workflow("Running", &running)),
            Progress::Running(Some("build-step".to_owned()))
        );
    }

    #[test]
    fn a_failure_is_told_with_the_step_that_failed_and_its_message() {
        let nodes = json!({"a": {"type": "Steps", "displayName": "build", "phase": "Failed", "message": "child 'c' failed"},
                           "c": {"type": "Pod", "displayName": "build-step", "phase": "Failed", "message": "exit code 1"}});
        assert_eq!(
            progress(&workflow("Failed", &nodes)),
            Progress::Failed("step \"build-step\": exit code 1".to_owned())
        );
        assert_eq!(
            progress(&workflow("Error", &json!({}))),
            Progress::Failed("child failed".to_owned())
        );
    }

    #[test]
    fn outputs_are_found_in_whatever_step_they_are() {
        let nodes = json!({
            "x": {"type": "Pod", "outputs": {"parameters": [{"name": "git-revision", "value": "0a1b2c3d"}]}},
            "y": {"type": "Pod", "outputs": {"parameters": [{"name": "image", "value": "r/a@sha256:00\n"}]}},
        });
        let expected = Outcome {
            image: Some("r/a@sha256:00".to_owned()),
            revision: Some("0a1b2c3d".to_owned()),
            workload: None,
        };
        assert_eq!(
            progress(&workflow("Succeeded", &nodes)),
            Progress::Succeeded(expected)
        );
    }
}
