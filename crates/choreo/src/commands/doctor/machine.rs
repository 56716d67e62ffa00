//! What is missing on this machine.

use serde_json::Value;

use crate::output::{Printer, style};

/// Something that is not as it could be, and what helps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// What it is about.
    pub(super) what: String,
    /// Why it is so.
    pub(super) why: String,
    /// The command, or the step, that changes it.
    pub(super) fix: String,
}

impl From<choreo_node::Finding> for Finding {
    fn from(found: choreo_node::Finding) -> Self {
        let choreo_node::Finding { what, why, fix } = found;
        Self { what, why, fix }
    }
}

/// Prints the findings, one below the other.
pub(super) fn print(findings: &[Finding], printer: &mut Printer) -> std::io::Result<()> {
    for Finding { what, why, fix } in findings {
        printer.line(format!("This machine: {what}"))?;
        printer.line(format!("  {why}"))?;
        printer.line(format!("  fix: {}", style::paint(style::COPY, fix)))?;
    }
    if findings.is_empty() {
        printer.line("This machine: nothing is missing")?;
    }
    Ok(())
}

/// What the nodes of the local data plane tell: whether containers run.
pub(super) fn of_nodes(nodes: &Value) -> Vec<Finding> {
    let simulated = choreo_api::labels::annotations::SIMULATED;
    let all = nodes["items"].as_array();
    let is_simulated = |node: &&Value| node["metadata"]["annotations"][simulated] == "true";
    if all.into_iter().flatten().find(is_simulated).is_none() {
        return Vec::new();
    }
    vec![Finding {
        what: "pods of the local data plane are simulated".to_owned(),
        why: "`choreo up` found no container engine when it started, or was told to simulate: no container runs, and no URL answers"
            .to_owned(),
        fix: "apt install podman   (or Docker, or https://podman.io/docs/installation), then start `choreo up` again".to_owned(),
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn simulated_nodes_are_found() {
        let node =
            |annotations: Value| json!({"items": [{"metadata": {"name": "n", "annotations": annotations}}]});
        let simulated = of_nodes(&node(json!({"openchoreo.dev/simulated": "true"})));
        assert_eq!(simulated.len(), 1);
        assert!(simulated[0].fix.contains("podman"));
        assert_eq!(of_nodes(&node(json!({}))), []);
        assert_eq!(of_nodes(&json!({"items": []})), []);
    }
}
