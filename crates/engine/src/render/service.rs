//! The Service of a component, and its ports.

use std::collections::BTreeMap;

use choreo_api::{conditions::reasons, v1alpha1::common::EndpointType};
use serde_json::{Map, Value, json};

use super::{Input, class, meta::Meta, policy::Transport, workload::Class};
use crate::{
    expose::Upstream,
    problem::{Problem, Problems},
};

/// How an endpoint travels.
pub(super) fn transport(type_: EndpointType) -> Transport {
    if type_ == EndpointType::UDP {
        Transport::Udp
    } else {
        Transport::Tcp
    }
}

/// The ports of a component, each once, with the protocol that is spoken there when all its endpoints agree on one.
fn ports(input: &Input<'_>) -> BTreeMap<(u16, Transport), Option<&'static str>> {
    let mut ports: BTreeMap<(u16, Transport), Option<&'static str>> = BTreeMap::new();
    let own = input.exposures.iter().filter(|e| e.upstream == Upstream::Own);
    for endpoint in own {
        let protocol = app_protocol(endpoint.type_);
        ports
            .entry((endpoint.port, transport(endpoint.type_)))
            .and_modify(|known| {
                if *known != protocol {
                    *known = None;
                }
            })
            .or_insert(protocol);
    }
    ports
}

/// The names that gateways understand (KEP-3726).
fn app_protocol(type_: EndpointType) -> Option<&'static str> {
    match type_ {
        EndpointType::HTTP | EndpointType::REST | EndpointType::GraphQL => Some("http"),
        EndpointType::GRPC => Some("kubernetes.io/h2c"),
        EndpointType::Websocket => Some("kubernetes.io/ws"),
        EndpointType::TCP | EndpointType::TLS | EndpointType::UDP => None,
    }
}

/// A port name: an IANA service name has at most 15 characters, so it is made of the number.
fn port_name(port: u16, transport: Transport) -> String {
    format!("{}-{port}", transport.as_str().to_ascii_lowercase())
}

pub(super) fn container_ports(input: &Input<'_>) -> Vec<Value> {
    let of = |(port, t): (u16, Transport)| json!({"name": port_name(port, t), "containerPort": port, "protocol": t.as_str()});
    ports(input).into_keys().map(of).collect()
}

pub(super) fn render(input: &Input<'_>, meta: &Meta) -> Result<Option<Value>, Problems> {
    let ports: Vec<Value> = ports(input)
        .into_iter()
        .map(|((port, t), protocol)| {
            let mut out = Map::new();
            out.insert("name".to_owned(), json!(port_name(port, t)));
            out.insert("port".to_owned(), json!(port));
            out.insert("targetPort".to_owned(), json!(port));
            out.insert("protocol".to_owned(), json!(t.as_str()));
            if let Some(protocol) = protocol {
                out.insert("appProtocol".to_owned(), json!(protocol));
            }
            Value::Object(out)
        })
        .collect();
    // A Service must have a port; a component that offers nothing needs none.
    if ports.is_empty() {
        return Ok(None);
    }
    let class = Class::of(input)?;
    let mut problems = Problems::new();
    for (field, why) in class::service_template_problems(&class.service_template) {
        problems.push(Problem::error(
            reasons::RENDER_FAILED,
            format!("{} spec.serviceTemplate.{field}: {why}", class.describe),
        ));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let template = json!({"spec": class.service_template.as_object().cloned().unwrap_or_default()});
    let mut generated = meta.object("v1", "Service", &meta.name);
    generated.insert(
        "spec".to_owned(),
        json!({"selector": meta.selector, "ports": ports}),
    );
    let defaults = json!({"spec": {"type": "ClusterIP"}});
    class::merge(
        "",
        "v1",
        "Service",
        defaults,
        &[&template, &Value::Object(generated)],
    )
    .map(Some)
    .map_err(|e| {
        Problem::error(
            reasons::RENDER_FAILED,
            format!("{} spec.serviceTemplate: {e}", class.describe),
        )
        .into()
    })
}
