//! What a route comes to, and the circumstances under which it comes to that.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::attach::{attach, free, gateway_of};
use super::build::{Memory, Policies};
use super::listeners::{ListenerKey, Listeners, Live};
use super::matches::PathMatch;
use super::object::{Kind, Name};
use super::policy_index::RuleOf;
use super::route::Route;
use super::rules::{self, Unresolved};
use super::status::{Condition, Verdict};
use super::table::{Entry, HostPattern, Order, RawRoute, TlsEntry};
use super::world::World;

/// What all routes depend on.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Common {
    /// Grants, filters and Backends.
    world: u64,
    listeners: Vec<ListenerKey>,
    gateways: Vec<Name>,
}

impl Common {
    pub(super) fn of(world: &World, listeners: &Listeners) -> Self {
        Self {
            world: world.common,
            listeners: listeners.live.iter().map(Live::key).collect(),
            gateways: listeners.gateways.iter().cloned().collect(),
        }
    }
}

/// The policies that hold for one rule at one listener, so far as a change of them can be told.
#[derive(Debug, PartialEq)]
pub(super) struct Held {
    /// Which reading of the policy, whether it can be followed, and where its Secrets' contents are.
    security: Option<(u64, bool, usize)>,
    traffic: Option<(u64, bool)>,
}

/// A route's result.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) verdict: Arc<Verdict>,
    /// The Gateways that it leads from.
    pub(super) leads: Arc<[Name]>,
    /// Listeners by their position, one for each reference that attaches to them.
    pub(super) attached: Vec<usize>,
    pub(super) entries: Vec<(usize, HostPattern, PathMatch, Entry)>,
}

/// A result with its circumstances.
#[derive(Debug)]
pub(super) struct Cached {
    route: Arc<Route>,
    held: Vec<Held>,
    /// Services that it names, with their versions; `None` is not there.
    pub(super) services: Vec<(Name, Option<u64>)>,
    limits: Vec<(Kind, Name, usize, usize)>,
    limiters: Vec<(Kind, Name, usize, Name)>,
    pub(super) made: Arc<Made>,
}

impl Cached {
    /// Whether the route would come to the same again.
    pub(super) fn holds(
        &self,
        world: &World,
        route: &Arc<Route>,
        policies: &mut Policies<'_>,
        listeners: &Listeners,
    ) -> bool {
        // Policies are asked in any case: they note whom they hold for.
        let held = held(policies, listeners, route, &self.made.attached);
        Arc::ptr_eq(&self.route, route)
            && held == self.held
            && self
                .services
                .iter()
                .all(|(name, version)| world.services.get(name).map(|service| service.version) == *version)
    }

    /// Lets what goes on living go on.
    pub(super) fn keep(&self, memory: &mut Memory) {
        self.limits.iter().for_each(|key| memory.limits.keep(key));
        self.limiters.iter().for_each(|key| memory.limiters.keep(key));
    }
}

fn rule_of<'a>(route: &'a Route, live: &'a Live, rule: Option<&'a str>) -> RuleOf<'a> {
    RuleOf {
        kind: route.kind,
        route: &route.meta.name,
        rule,
        gateway: &live.gateway,
        listener: &live.name,
    }
}

/// The policies of all rules at all listeners, in order.
fn held(policies: &mut Policies<'_>, listeners: &Listeners, route: &Route, attached: &[usize]) -> Vec<Held> {
    let mut all = Vec::new();
    for i in attached {
        let live = &listeners.live[*i];
        for rule in &route.rules {
            let at = rule_of(route, live, rule.name.as_deref());
            let security = policies.security.effective(&at).map(|i| policies.security.at(i));
            let security = security.map(|found| {
                let resolved = policies.resolved.get(&found.policy.meta.name);
                // The result keeps what this leads to alive, so that nothing else can be at its place.
                let place = resolved.map_or(0, |security| Arc::as_ptr(security).addr());
                (found.policy.stamp, found.verdict().is_ok(), place)
            });
            let traffic = policies.traffic.effective(&at).map(|i| policies.traffic.at(i));
            let traffic = traffic.map(|found| (found.policy.stamp, found.verdict().is_ok()));
            all.push(Held { security, traffic });
        }
    }
    all
}

/// A reference as it is written, and whether it attaches, or why not.
type Parent<'r> = (&'r Value, Result<(), (&'static str, String)>);
type Raw = HashMap<usize, (Name, Option<Arc<RawRoute>>)>;

/// Works a route out.
pub(super) fn make(
    world: &World,
    memory: &mut Memory,
    policies: &mut Policies<'_>,
    listeners: &Listeners,
    route: &Arc<Route>,
    raw: &mut Raw,
    by_name: &mut [Vec<(HostPattern, TlsEntry)>],
) -> Cached {
    let label: Arc<str> = format!("{} {}", route.kind.as_str(), route.meta.name).into();
    let mut unresolved: Unresolved = None;
    let mut parents: Vec<Parent<'_>> = Vec::new();
    let mut leads: Vec<Name> = Vec::new();
    let mut attached_to = Vec::new();
    let mut entries = Vec::new();
    drop(memory.limits.asked());
    drop(memory.limiters.asked());
    for (written, parent) in &route.parents {
        let Some(gateway) = gateway_of(route, parent).filter(|name| listeners.gateways.contains(name)) else {
            continue;
        };
        if !leads.contains(&gateway) {
            leads.push(gateway.clone());
        }
        let attached = attach(world, listeners, route, parent, &gateway);
        let attached = attached.and_then(|found| match route.kind {
            Kind::TcpRoute | Kind::UdpRoute => free(raw, found, route),
            _ => Ok(found),
        });
        let verdict = attached.and_then(|found| {
            for (i, hosts) in found {
                attached_to.push(i);
                let live = &listeners.live[i];
                if route.kind.is_http() {
                    for (index, spec) in route.rules.iter().enumerate() {
                        let at = rule_of(route, live, spec.name.as_deref());
                        let rule = rules::http(
                            world,
                            memory,
                            policies,
                            route,
                            &label,
                            index,
                            spec,
                            &at,
                            &mut unresolved,
                        );
                        let rule = Arc::new(rule);
                        for (place, one) in spec.matches.iter().enumerate() {
                            let entry = Entry {
                                conditions: one.conditions.clone(),
                                rule: Arc::clone(&rule),
                                order: Order {
                                    created: route.meta.created,
                                    name: route.meta.name.clone(),
                                    rule: index,
                                    place,
                                },
                            };
                            for host in &hosts {
                                entries.push((i, host.clone(), one.path.clone(), entry.clone()));
                            }
                        }
                    }
                    continue;
                }
                let at = rule_of(route, live, None);
                let made = rules::raw(world, memory, policies, route, &label, &at, &mut unresolved);
                if route.kind == Kind::TlsRoute {
                    let entry = made.map_or(TlsEntry::Closed, TlsEntry::Passthrough);
                    // Of two routes with one name the older has it.
                    for host in hosts {
                        if !by_name[i].iter().any(|(known, _)| *known == host) {
                            by_name[i].push((host, entry.clone()));
                        }
                    }
                } else {
                    raw.insert(i, (route.meta.name.clone(), made));
                }
            }
            match &route.problem {
                Some(why) => Err(("UnsupportedValue", why.clone())),
                None => Ok(()),
            }
        });
        parents.push((written, verdict));
    }
    let services: Vec<(Name, Option<u64>)> = route
        .services()
        .into_iter()
        .map(|name| {
            let version = world.services.get(&name).map(|service| service.version);
            (name, version)
        })
        .collect();
    Cached {
        route: Arc::clone(route),
        held: match route.kind.is_http() {
            true => held(policies, listeners, route, &attached_to),
            false => Vec::new(),
        },
        services,
        limits: memory.limits.asked(),
        limiters: memory.limiters.asked(),
        made: Arc::new(Made {
            verdict: Arc::new(verdict(parents, unresolved)),
            leads: leads.into(),
            attached: attached_to,
            entries,
        }),
    }
}

fn verdict(parents: Vec<Parent<'_>>, unresolved: Unresolved) -> Verdict {
    let resolved = match unresolved {
        None => Condition::new(
            "ResolvedRefs",
            true,
            "ResolvedRefs",
            "all references are resolved",
        ),
        Some((reason, why)) => Condition::new("ResolvedRefs", false, reason, why),
    };
    let entries = parents.into_iter().map(|(parent, accepted)| {
        let accepted = match accepted {
            Ok(()) => Condition::new("Accepted", true, "Accepted", "the route is accepted"),
            Err((reason, why)) => Condition::new("Accepted", false, reason, why),
        };
        (parent.clone(), vec![accepted, resolved.clone()])
    });
    Verdict::Parents(entries.collect())
}
