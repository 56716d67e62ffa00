//! Which listeners a route attaches to, and why to none.

use std::collections::HashMap;
use std::sync::Arc;

use super::listeners::Listeners;
use super::object::Name;
use super::route::Route;
use super::table::{HostPattern, RawRoute};
use super::world::World;
use crate::api::GATEWAY_API;
use crate::api::gateway::ParentReference;

/// Listeners by their position, each with the hosts that route and listener have in common.
pub(super) type Attached = Vec<(usize, Vec<HostPattern>)>;

/// The Gateway that a reference means; nothing if it means something else.
pub(super) fn gateway_of(route: &Route, parent: &ParentReference) -> Option<Name> {
    let is_gateway = parent.kind.as_deref().unwrap_or("Gateway") == "Gateway"
        && parent.group.as_deref().unwrap_or(GATEWAY_API) == GATEWAY_API;
    let namespace = parent.namespace.as_deref().unwrap_or(&route.meta.name.namespace);
    is_gateway.then(|| Name::new(namespace, &parent.name))
}

/// The listeners of a Gateway that a route attaches to.
pub(super) fn attach(
    world: &World,
    listeners: &Listeners,
    route: &Route,
    parent: &ParentReference,
    gateway: &Name,
) -> Result<Attached, (&'static str, String)> {
    let all = listeners
        .by_gateway
        .get(gateway)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let named: Vec<usize> = all
        .iter()
        .copied()
        .filter(|i| {
            let live = &listeners.live[*i];
            parent
                .section_name
                .as_ref()
                .is_none_or(|section| *section == live.name)
                && parent.port.is_none_or(|port| port == live.port)
        })
        .collect();
    if named.is_empty() {
        return Err((
            "NoMatchingParent",
            "the gateway has no such listener, or it is not valid".to_owned(),
        ));
    }
    let carries = |i: &usize| listeners.live[*i].kinds.contains(&route.kind);
    let speaking: Vec<usize> = named.into_iter().filter(carries).collect();
    if speaking.is_empty() {
        return Err((
            "NotAllowedByListeners",
            format!(
                "no listener of the gateway carries what a {} needs: {}",
                route.kind.as_str(),
                route.kind.protocols().join(" or ")
            ),
        ));
    }
    let admits = |i: &usize| listeners.live[*i].admits(&route.meta.name.namespace, world);
    let allowed: Vec<usize> = speaking.into_iter().filter(admits).collect();
    if allowed.is_empty() {
        return Err((
            "NotAllowedByListeners",
            format!(
                "no listener of the gateway allows routes of namespace {}",
                route.meta.name.namespace
            ),
        ));
    }
    let hosts: Vec<HostPattern> = route
        .hostnames
        .iter()
        .map(|host| HostPattern::new(Some(host)))
        .collect();
    let mut attached = Vec::new();
    for i in allowed {
        let own = &listeners.live[i].host;
        let mut common: Vec<HostPattern> = match hosts.is_empty() {
            true => vec![own.clone()],
            false => hosts.iter().filter_map(|host| own.intersect(host)).collect(),
        };
        common.sort_by_key(HostPattern::rank);
        common.dedup();
        if !common.is_empty() {
            attached.push((i, common));
        }
    }
    if attached.is_empty() {
        return Err((
            "NoMatchingListenerHostname",
            "no listener of the gateway serves a host of the route".to_owned(),
        ));
    }
    Ok(attached)
}

/// Raw listeners lead to one route only. Routes come by age, so that the oldest has it.
pub(super) fn free(
    raw: &HashMap<usize, (Name, Option<Arc<RawRoute>>)>,
    found: Attached,
    route: &Route,
) -> Result<Attached, (&'static str, String)> {
    let mut holder = None;
    let free: Attached = found
        .into_iter()
        .filter(|(i, _)| match raw.get(i) {
            Some((other, _)) => {
                holder = Some(other.clone());
                false
            }
            None => true,
        })
        .collect();
    match (free.is_empty(), holder) {
        (true, Some(other)) => Err((
            "UnsupportedValue",
            format!(
                "{} {other} has the listener already, and it can lead to one only",
                route.kind.as_str()
            ),
        )),
        _ => Ok(free),
    }
}
