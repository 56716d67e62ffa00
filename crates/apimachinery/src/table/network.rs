//! Cells of kinds that have to do with the network.

use jiff::Timestamp;
use serde_json::Value;

use super::age::age;
use super::cells::{labels, list, name, number, or_none, text};

fn load_balancer(object: &Value, width: usize) -> String {
    let mut points: Vec<&str> = list(object, "/status/loadBalancer/ingress")
        .iter()
        .map(|i| {
            Some(text(i, "/ip"))
                .filter(|ip| !ip.is_empty())
                .unwrap_or_else(|| text(i, "/hostname"))
        })
        .filter(|p| !p.is_empty())
        .collect();
    points.sort_unstable();
    points.dedup();
    let joined = points.join(",");
    match joined.get(..width.saturating_sub(3)) {
        Some(start) if joined.len() > width => format!("{start}..."),
        _ => joined,
    }
}

pub(super) fn service(o: &Value, now: Timestamp) -> Vec<Value> {
    let type_ = text(o, "/spec/type");
    let external: Vec<&str> = list(o, "/spec/externalIPs")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let balancer = load_balancer(o, 16);
    let external = match type_ {
        "LoadBalancer" => {
            let points: Vec<&str> = Some(balancer.as_str())
                .filter(|b| !b.is_empty())
                .into_iter()
                .chain(external)
                .collect();
            if points.is_empty() {
                "<pending>".to_owned()
            } else {
                points.join(",")
            }
        }
        "ExternalName" => text(o, "/spec/externalName").to_owned(),
        "ClusterIP" | "NodePort" if external.is_empty() => "<none>".to_owned(),
        "ClusterIP" | "NodePort" => external.join(","),
        _ => "<unknown>".to_owned(),
    };
    let ports: Vec<String> = list(o, "/spec/ports")
        .iter()
        .map(|p| {
            let (port, node_port) = (number(p, "/port"), number(p, "/nodePort"));
            let protocol = Some(text(p, "/protocol"))
                .filter(|p| !p.is_empty())
                .unwrap_or("TCP");
            if node_port > 0 {
                format!("{port}:{node_port}/{protocol}")
            } else {
                format!("{port}/{protocol}")
            }
        })
        .collect();
    vec![
        name(o),
        type_.into(),
        or_none(text(o, "/spec/clusterIP")),
        external.into(),
        or_none(&ports.join(",")),
        age(o, now),
        labels(o.pointer("/spec/selector").and_then(Value::as_object)).into(),
    ]
}

/// The first three of these, and how many more there are.
fn first_three(items: &[String]) -> String {
    match items {
        [] => "<none>".to_owned(),
        items if items.len() <= 3 => items.join(","),
        items => format!("{} + {} more...", items[..3].join(","), items.len() - 3),
    }
}

pub(super) fn endpoints(o: &Value) -> String {
    let mut all = Vec::new();
    for subset in list(o, "/subsets") {
        for port in list(subset, "/ports") {
            for address in list(subset, "/addresses") {
                let ip = text(address, "/ip");
                let ip = if ip.contains(':') {
                    format!("[{ip}]")
                } else {
                    ip.to_owned()
                };
                all.push(format!("{ip}:{}", number(port, "/port")));
            }
        }
    }
    first_three(&all)
}

pub(super) fn endpoint_slice(o: &Value, now: Timestamp) -> Vec<Value> {
    let ports: Vec<String> = list(o, "/ports")
        .iter()
        .map(
            |p| match (p.get("port").and_then(Value::as_i64), text(p, "/name")) {
                (Some(port), _) => port.to_string(),
                (None, "") => "*".to_owned(),
                (None, name) => name.to_owned(),
            },
        )
        .collect();
    let addresses: Vec<String> = list(o, "/endpoints")
        .iter()
        .flat_map(|e| list(e, "/addresses"))
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let unset = |text: String| {
        if text == "<none>" {
            "<unset>".to_owned()
        } else {
            text
        }
    };
    vec![
        name(o),
        text(o, "/addressType").into(),
        unset(first_three(&ports)).into(),
        unset(first_three(&addresses)).into(),
        age(o, now),
    ]
}

pub(super) fn ingress(o: &Value, now: Timestamp) -> Vec<Value> {
    let class = Some(text(o, "/spec/ingressClassName"))
        .filter(|c| !c.is_empty())
        .unwrap_or_else(|| text(o, "/metadata/annotations/kubernetes.io~1ingress.class"));
    let rules = list(o, "/spec/rules");
    let hosts: Vec<&str> = rules
        .iter()
        .map(|r| text(r, "/host"))
        .filter(|h| !h.is_empty())
        .collect();
    let hosts = match hosts.len() {
        0 => "*".to_owned(),
        n if n > 3 => format!("{} + {} more...", hosts[..3].join(","), rules.len() - 3),
        _ => hosts.join(","),
    };
    let ports = if list(o, "/spec/tls").is_empty() {
        "80"
    } else {
        "80, 443"
    };
    vec![
        name(o),
        or_none(class),
        hosts.into(),
        load_balancer(o, 16).into(),
        ports.into(),
        age(o, now),
    ]
}
