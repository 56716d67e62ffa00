//! What is missing on this machine.

use std::collections::BTreeSet;

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

/// What of this machine containers can connect to, where the node says that they can.
pub(super) fn open_to_containers(nodes: &Value, listening: &BTreeSet<u16>) -> Option<Finding> {
    let conditions = nodes["items"]
        .as_array()?
        .iter()
        .flat_map(|node| node["status"]["conditions"].as_array().into_iter().flatten());
    let mut open = conditions.filter(|condition| {
        condition["type"] == choreo_node::HOST_REACHABLE && condition["status"] == "True"
    });
    let message = open.next()?["message"].as_str()?;
    let fix = message.rsplit(": ").next()?;
    if listening.is_empty() {
        return None;
    }
    let ports: Vec<String> = listening.iter().take(MOST_PORTS).map(u16::to_string).collect();
    let more = listening.len().saturating_sub(MOST_PORTS);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    Some(Finding {
        what: "containers can connect to services of this machine".to_owned(),
        why: format!(
            "the engine's bridge has an address in each cell, and on all addresses listen: TCP ports {}{more}",
            ports.join(", ")
        ),
        fix: fix.to_owned(),
    })
}

/// Ports that are named; a machine may have more.
const MOST_PORTS: usize = 12;

/// The TCP ports that somebody listens on at all addresses of this machine.
pub(super) fn listening() -> BTreeSet<u16> {
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .flat_map(|table| listening_in(&table))
        .collect()
}

/// The same, of a table in the form of `/proc/net/tcp`.
fn listening_in(table: &str) -> Vec<u16> {
    /// As the kernel writes it (`TCP_LISTEN`).
    const LISTEN: &str = "0A";
    let lines = table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (address, port) = fields.next()?.split_once(':')?;
        let state = fields.nth(1)?;
        let everywhere = address.bytes().all(|digit| digit == b'0');
        (everywhere && state == LISTEN).then(|| u16::from_str_radix(port, 16).ok())?
    });
    lines.collect()
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

    #[test]
    fn who_listens_everywhere_is_told_where_containers_get_there() {
        // Port 22 everywhere, 631 on the loopback address, and a connection of port 22.
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n\
            0: 00000000:0016 00000000:0000 0A 00000000:00000000\n\
            1: 0100007F:0277 00000000:0000 0A 00000000:00000000\n\
            2: 00000000:0050 0200000A:D431 01 00000000:00000000\n";
        assert_eq!(listening_in(table), [22]);
        let node = |status: &str| {
            json!({"items": [{"status": {"conditions": [{"type": "HostReachableFromCells", "status": status,
                "message": "the bridge has an address. Close the way: iptables -I INPUT"}]}}]})
        };
        let found = open_to_containers(&node("True"), &[22, 80].into()).unwrap();
        assert!(found.why.contains("TCP ports 22, 80"), "{found:?}");
        assert_eq!(found.fix, "iptables -I INPUT");
        assert_eq!(open_to_containers(&node("True"), &BTreeSet::new()), None);
        assert_eq!(open_to_containers(&node("False"), &[22].into()), None);
    }
}
