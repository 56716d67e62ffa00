//! Services and traffic.

use std::{collections::BTreeSet, net::IpAddr};

use serde_json::{Value, json};

use super::{Errors, is_set, label_selector, labels, list, map, port_name, port_number, port_or_name, text};
use crate::{
    field::{FieldError, FieldPath},
    meta::names,
};

const SPEC: FieldPath<'static> = FieldPath::new("spec");

pub(super) fn service(new: &Value, old: Option<&Value>, e: &mut Errors) {
    let spec = &new["spec"];
    let type_ = text(spec, "type");
    e.one_of(
        spec,
        "type",
        &SPEC,
        &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
    );
    e.one_of(spec, "sessionAffinity", &SPEC, &["ClientIP", "None"]);
    e.one_of(spec, "externalTrafficPolicy", &SPEC, &["Cluster", "Local"]);
    e.one_of(spec, "internalTrafficPolicy", &SPEC, &["Cluster", "Local"]);
    let headless = spec["clusterIP"] == "None";
    let ports = list(spec, "ports");
    if ports.is_empty() && !headless && type_ != "ExternalName" {
        e.required(&SPEC.child("ports"), "");
    }
    match type_ {
        "ExternalName" => {
            let host = text(spec, "externalName").trim_end_matches('.');
            if host.is_empty() {
                e.required(&SPEC.child("externalName"), "");
            } else {
                e.all(&SPEC.child("externalName"), host, names::dns1123_subdomain(host));
            }
            if !text(spec, "clusterIP").is_empty() {
                e.push(FieldError::forbidden(
                    &SPEC.child("clusterIP"),
                    "may not be set for ExternalName services",
                ));
            }
        }
        "LoadBalancer" | "NodePort" if headless => {
            let ips = SPEC.child("clusterIPs");
            e.invalid(
                &ips.index(0),
                "None",
                "may not be set to 'None' for LoadBalancer services",
            );
        }
        _ => {}
    }
    service_ports(ports, headless, e);
    labels(map(spec, "selector"), &SPEC.child("selector"), e);
    let ip = text(spec, "clusterIP");
    if !ip.is_empty() && ip != "None" && ip.parse::<IpAddr>().is_err() {
        let ips = SPEC.child("clusterIPs");
        e.invalid(
            &ips.index(0),
            ip,
            "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        );
    }
    if let Some(old) = old {
        let (was, is) = (text(&old["spec"], "clusterIP"), ip);
        let kept = text(&old["spec"], "type") != "ExternalName" && type_ != "ExternalName";
        if kept && !was.is_empty() && was != is {
            let ips = SPEC.child("clusterIPs");
            let value = if is.is_empty() { json!([]) } else { json!([is]) };
            e.invalid(&ips.index(0), value, "may not change once set");
        }
    }
}

fn service_ports(ports: &[Value], headless: bool, e: &mut Errors) {
    let path = SPEC.child("ports");
    let (mut taken, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    for (index, port) in ports.iter().enumerate() {
        let at = path.index(index);
        let name = text(port, "name");
        if name.is_empty() {
            if ports.len() > 1 {
                e.required(&at.child("name"), "");
            }
        } else {
            e.all(&at.child("name"), name, names::dns1123_label(name));
            if !taken.insert(name) {
                e.push(FieldError::duplicate(&at.child("name"), name));
            }
        }
        let number = port.get("port").and_then(Value::as_i64).unwrap_or_default();
        port_number(number, &at.child("port"), e);
        let protocol = text(port, "protocol");
        e.one_of(port, "protocol", &at, &["SCTP", "TCP", "UDP"]);
        if !numbers.insert((number, protocol.to_owned())) {
            let mut bad = json!({"protocol": protocol, "port": number});
            if !name.is_empty() {
                bad["name"] = name.into();
            }
            e.push(FieldError::duplicate(&at, bad));
        }
        if is_set(port, "targetPort") && !(headless && port["targetPort"] == "") {
            port_or_name(&port["targetPort"], &at.child("targetPort"), e);
        }
        if let Some(node_port) = port.get("nodePort").and_then(Value::as_i64).filter(|n| *n != 0) {
            port_number(node_port, &at.child("nodePort"), e);
        }
    }
}

pub(super) fn ingress(new: &Value, e: &mut Errors) {
    let spec = &new["spec"];
    let rules = list(spec, "rules");
    if rules.is_empty() && !is_set(spec, "defaultBackend") {
        e.invalid(
            &SPEC,
            Value::Null,
            "either `defaultBackend` or `rules` must be specified",
        );
    }
    if is_set(spec, "defaultBackend") {
        backend(&spec["defaultBackend"], &SPEC.child("defaultBackend"), e);
    }
    let path = SPEC.child("rules");
    for (index, rule) in rules.iter().enumerate() {
        let at = path.index(index);
        let host = text(rule, "host");
        if !host.is_empty() {
            let name = host.strip_prefix("*.").unwrap_or(host);
            if host.parse::<IpAddr>().is_ok() {
                e.invalid(&at.child("host"), host, "must be a DNS name, not an IP address");
            } else {
                e.all(&at.child("host"), host, names::dns1123_subdomain(name));
            }
        }
        let http = at.child("http");
        let paths = http.child("paths");
        if is_set(rule, "http") && list(&rule["http"], "paths").is_empty() {
            e.required(&paths, "");
        }
        for (index, one) in list(&rule["http"], "paths").iter().enumerate() {
            let at = paths.index(index);
            let value = text(one, "path");
            match text(one, "pathType") {
                "" => {
                    e.required(&at.child("pathType"), "pathType must be specified");
                    continue;
                }
                "Exact" | "Prefix" if !value.starts_with('/') => {
                    e.invalid(&at.child("path"), value, "must be an absolute path");
                }
                _ => {}
            }
            e.one_of(
                one,
                "pathType",
                &at,
                &["Exact", "ImplementationSpecific", "Prefix"],
            );
            backend(&one["backend"], &at.child("backend"), e);
        }
    }
}

fn backend(backend: &Value, path: &FieldPath<'_>, e: &mut Errors) {
    match (is_set(backend, "service"), is_set(backend, "resource")) {
        (true, true) => e.invalid(path, "", "cannot set both resource and service backends"),
        (false, false) => e.required(path, "port name or number is required"),
        (true, false) => {
            let at = path.child("service");
            let service = &backend["service"];
            let name = text(service, "name");
            if name.is_empty() {
                e.required(&at.child("name"), "");
            } else {
                e.all(&at.child("name"), name, names::dns1123_label(name));
            }
            let port = at.child("port");
            let (number, named) = (
                service["port"]["number"].as_i64().unwrap_or_default(),
                text(&service["port"], "name"),
            );
            match (number, named) {
                (0, "") => e.required(path, "port name or number is required"),
                (0, name) => e.all(&port.child("name"), name, port_name(name)),
                (number, "") => port_number(number, &port.child("number"), e),
                _ => e.invalid(path, "", "cannot set both port name & port number"),
            }
        }
        (false, true) => {}
    }
}

pub(super) fn network_policy(new: &Value, e: &mut Errors) {
    let spec = &new["spec"];
    label_selector(&spec["podSelector"], &SPEC.child("podSelector"), e);
    let types = SPEC.child("policyTypes");
    for (index, type_) in list(spec, "policyTypes").iter().enumerate() {
        if !matches!(type_.as_str(), Some("Ingress" | "Egress")) {
            e.push(FieldError::not_supported(
                &types.index(index),
                type_.clone(),
                &["Ingress", "Egress"],
            ));
        }
    }
    for (field, peers) in [("ingress", "from"), ("egress", "to")] {
        let path = SPEC.child(field);
        for (index, rule) in list(spec, field).iter().enumerate() {
            let at = path.index(index);
            policy_ports(rule, &at.child("ports"), e);
            policy_peers(list(rule, peers), &at.child(peers), e);
        }
    }
}

fn policy_ports(rule: &Value, path: &FieldPath<'_>, e: &mut Errors) {
    for (index, port) in list(rule, "ports").iter().enumerate() {
        let at = path.index(index);
        e.one_of(port, "protocol", &at, &["SCTP", "TCP", "UDP"]);
        if is_set(port, "port") {
            port_or_name(&port["port"], &at.child("port"), e);
        }
        if let Some(end) = port.get("endPort").and_then(Value::as_i64) {
            match port.get("port") {
                Some(Value::Number(start)) if end < start.as_i64().unwrap_or_default() => {
                    e.invalid(
                        &at.child("endPort"),
                        end,
                        "must be greater than or equal to `port`",
                    );
                }
                Some(Value::String(_)) => e.invalid(
                    &at.child("endPort"),
                    end,
                    "may not be specified when `port` is non-numeric",
                ),
                None => {
                    e.invalid(
                        &at.child("endPort"),
                        end,
                        "may not be specified when `port` is not specified",
                    );
                }
                _ => {}
            }
        }
    }
}

fn policy_peers(peers: &[Value], path: &FieldPath<'_>, e: &mut Errors) {
    for (index, peer) in peers.iter().enumerate() {
        let at = path.index(index);
        let kinds = ["podSelector", "namespaceSelector", "ipBlock"].map(|kind| is_set(peer, kind));
        if kinds == [false; 3] {
            e.required(&at, "must specify a peer");
        } else if kinds[2] && (kinds[0] || kinds[1]) {
            e.push(FieldError::forbidden(
                &at,
                "may not specify both ipBlock and another peer",
            ));
        }
        for kind in ["podSelector", "namespaceSelector"] {
            if is_set(peer, kind) {
                label_selector(&peer[kind], &at.child(kind), e);
            }
        }
        if kinds[2] {
            let block = at.child("ipBlock");
            let cidr = text(&peer["ipBlock"], "cidr");
            if cidr.is_empty() {
                e.required(&block.child("cidr"), "");
            } else if cidr.parse::<ipnet::IpNet>().is_err() {
                e.invalid(
                    &block.child("cidr"),
                    cidr,
                    "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
                );
            }
        }
    }
}

pub(super) fn endpoint_slice(new: &Value, old: Option<&Value>, e: &mut Errors) {
    let path = FieldPath::new("addressType");
    if text(new, "addressType").is_empty() {
        e.required(&path, "");
    } else {
        e.one_of(new, "addressType", &FieldPath::ROOT, &["FQDN", "IPv4", "IPv6"]);
    }
    if list(new, "endpoints").len() > 1000 {
        let path = FieldPath::new("endpoints");
        e.push(FieldError::too_many(
            &path,
            list(new, "endpoints").len() as u64,
            1000,
        ));
    }
    super::immutable(new, old, &["addressType"], e);
}
