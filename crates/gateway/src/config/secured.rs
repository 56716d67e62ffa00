//! SecurityPolicies with their Secrets, and what policies of all kinds can be about.

use std::sync::Arc;

use super::build::Memory;
use super::object::Name;
use super::policies::{Policy, Security, SecuritySpec, TrafficSpec};
use super::world::{SecretData, World};
use crate::api::gateway::ObjectReference;
use crate::policy::api_key::Keys;
use crate::policy::basic::Users;

pub(super) fn client_problem<T>(policy: &Policy<T>) -> Option<String> {
    let other = policy.targets.iter().find(|target| target.kind != "Gateway")?;
    Some(format!(
        "spec.targetRefs: a ClientTrafficPolicy is about Gateways, not about a {}",
        other.kind
    ))
}

pub(super) fn security_problem(policy: &Policy<SecuritySpec>) -> Option<String> {
    let spec = policy.spec.as_ref().ok()?;
    for target in &policy.targets {
        match target.kind.as_str() {
            "Gateway" | "HTTPRoute" | "GRPCRoute" => {}
            "TCPRoute" => {
                let of_requests = spec.cors.is_some()
                    || spec.api_key.is_some()
                    || spec.basic.is_some()
                    || spec.jwt.is_some();
                let by_address = spec
                    .authorization
                    .as_ref()
                    .is_none_or(|rules| rules.is_by_address());
                if of_requests || !by_address {
                    return Some(
                        "a TCPRoute carries connections and not requests: only spec.authorization with principal.clientCIDRs fits it"
                            .to_owned(),
                    );
                }
            }
            other => return Some(format!("a SecurityPolicy cannot be about a {other}")),
        }
    }
    None
}

pub(super) fn traffic_problem(policy: &Policy<TrafficSpec>) -> Option<String> {
    let spec = policy.spec.as_ref().ok()?;
    for target in &policy.targets {
        match target.kind.as_str() {
            "Gateway" | "HTTPRoute" | "GRPCRoute" => {}
            kind @ ("TCPRoute" | "TLSRoute" | "UDPRoute") => {
                if spec.is_about_requests() {
                    return Some(format!(
                        "a {kind} carries connections and not requests: only spec.circuitBreaker.maxConnections and spec.timeout.tcp fit it"
                    ));
                }
            }
            other => return Some(format!("a BackendTrafficPolicy cannot be about a {other}")),
        }
    }
    None
}

/// A policy with its Secrets as it was looked up.
pub(super) struct Secured {
    stamp: u64,
    /// Of grants.
    common: u64,
    secrets: Vec<Option<SecretData>>,
    result: Result<Option<Arc<Security>>, String>,
}

/// The Secrets that a policy names.
pub(super) fn secrets(policy: &Policy<SecuritySpec>) -> Vec<Name> {
    let own = &policy.meta.name.namespace;
    let name = |reference: &ObjectReference| {
        Name::new(reference.namespace.as_deref().unwrap_or(own), &reference.name)
    };
    let Ok(spec) = &policy.spec else {
        return Vec::new();
    };
    let keys = spec.api_key.iter().flat_map(|(references, _)| references);
    let users = spec.basic.iter().map(|(reference, _)| reference);
    keys.chain(users).map(name).collect()
}

/// Looks the Secrets of a policy up, unless neither they nor it have changed: what keys and passwords are compared with is made from
/// them, which costs more than everything else of a policy.
pub(super) fn look_up(
    world: &World,
    memory: &mut Memory,
    policy: &Policy<SecuritySpec>,
) -> Result<Option<Arc<Security>>, String> {
    let found: Vec<Option<SecretData>> = secrets(policy)
        .iter()
        .map(|name| world.secrets.get(name).cloned())
        .collect();
    let same = |(a, b): (&Option<SecretData>, &Option<SecretData>)| match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (None, None) => true,
        _ => false,
    };
    if let Some(known) = memory.secured.get(&policy.meta.name)
        && (known.stamp, known.common) == (policy.stamp, world.common)
        && known.secrets.len() == found.len()
        && known.secrets.iter().zip(&found).all(same)
    {
        return known.result.clone();
    }
    let result = resolve(world, policy).map(|security| security.map(Arc::new));
    let secured = Secured {
        stamp: policy.stamp,
        common: world.common,
        secrets: found,
        result: result.clone(),
    };
    memory.secured.insert(policy.meta.name.clone(), secured);
    result
}

/// Looks the Secrets of a policy up.
fn resolve(world: &World, policy: &Policy<SecuritySpec>) -> Result<Option<Security>, String> {
    let Ok(spec) = &policy.spec else {
        return Ok(None);
    };
    let own = &policy.meta.name.namespace;
    let secret = |reference: &ObjectReference, at: &str| -> Result<(Name, &SecretData), String> {
        let name = Name::new(reference.namespace.as_deref().unwrap_or(own), &reference.name);
        if reference.kind.as_deref().unwrap_or("Secret") != "Secret" {
            return Err(format!("{at}: not a Secret"));
        }
        if !world.permits(
            (crate::api::ENVOY_GATEWAY, "SecurityPolicy", own),
            ("", "Secret", &name),
        ) {
            return Err(format!(
                "{at}: no ReferenceGrant in {} lets a SecurityPolicy of {own} use Secret {name}",
                name.namespace
            ));
        }
        match world.secrets.get(&name) {
            Some(data) => Ok((name, data)),
            None => Err(format!(
                "Secret {name} not found: create it, with the accepted credentials"
            )),
        }
    };
    let mut security = Security {
        cors: spec.cors.clone(),
        jwt: spec.jwt.clone(),
        authorization: spec.authorization.clone(),
        ..Security::default()
    };
    if let Some((references, sources)) = &spec.api_key {
        let mut all = Vec::new();
        for (i, reference) in references.iter().enumerate() {
            all.push(secret(reference, &format!("spec.apiKeyAuth.credentialRefs[{i}]"))?.1);
        }
        let pairs = all
            .iter()
            .flat_map(|data| data.iter())
            .map(|(client, key)| (client.as_str(), key.as_slice()));
        security.api_key = Some((Arc::clone(sources), Arc::new(Keys::new(pairs))));
    }
    if let Some((reference, forward)) = &spec.basic {
        let (name, data) = secret(reference, "spec.basicAuth.users")?;
        let text = data
            .get(".htpasswd")
            .ok_or_else(|| format!("Secret {name} has no key .htpasswd"))?;
        let text =
            std::str::from_utf8(text).map_err(|_| format!("Secret {name} key .htpasswd is not text"))?;
        let users = Users::parse(text).map_err(|why| format!("Secret {name} key .htpasswd: {why}"))?;
        security.basic = Some((Arc::new(users), forward.clone()));
    }
    Ok(Some(security))
}
