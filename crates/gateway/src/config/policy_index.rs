//! Which policy holds for what: the most specific one, and of several for one target the oldest.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::build::Verdicts;
use super::object::{Kind, Name};
use super::policies::Policy;
use super::status::{Condition, Verdict};

/// What a policy can be about: an object, or one listener or rule of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    kind: Kind,
    name: Name,
    section: Option<String>,
}

impl Target {
    pub(crate) fn new(kind: Kind, name: &Name, section: Option<&str>) -> Self {
        Self {
            kind,
            name: name.clone(),
            section: section.map(str::to_owned),
        }
    }
}

/// The policies of one kind.
pub(crate) struct Index<'w, T> {
    kind: Kind,
    by_target: HashMap<Target, usize>,
    all: Vec<Indexed<'w, T>>,
}

pub(crate) struct Indexed<'w, T> {
    pub(crate) policy: &'w Policy<T>,
    /// What only other objects tell: a Secret that is missing, or a target of a kind that it does not fit.
    problem: Option<String>,
    conflict: Option<(Name, String)>,
    ancestors: BTreeSet<Name>,
    overridden_by: BTreeSet<String>,
}

impl<T> Indexed<'_, T> {
    /// The policy, if it can be followed.
    pub(crate) fn verdict(&self) -> Result<&T, &str> {
        match (&self.policy.spec, &self.problem) {
            (Err(why), _) => Err(why),
            (Ok(_), Some(why)) => Err(why),
            (Ok(spec), None) => Ok(spec),
        }
    }
}

impl<'w, T> Index<'w, T> {
    pub(crate) fn new(
        kind: Kind,
        policies: &'w BTreeMap<Name, Policy<T>>,
        problem: impl Fn(&Policy<T>) -> Option<String>,
    ) -> Self {
        let mut all: Vec<Indexed<'w, T>> = policies
            .values()
            .map(|policy| Indexed {
                problem: problem(policy),
                policy,
                conflict: None,
                ancestors: BTreeSet::new(),
                overridden_by: BTreeSet::new(),
            })
            .collect();
        all.sort_by(|a, b| a.policy.meta.age().cmp(&b.policy.meta.age()));
        let mut by_target = HashMap::new();
        for i in 0..all.len() {
            let policy = all[i].policy;
            for target in &policy.targets {
                let Some(target_kind) = Kind::ALL
                    .into_iter()
                    .find(|kind| kind.as_str() == target.kind && kind.group() == target.group)
                else {
                    continue;
                };
                let name = Name::new(&policy.meta.name.namespace, &target.name);
                let key = Target::new(target_kind, &name, target.section_name.as_deref());
                match by_target.get(&key) {
                    None => drop(by_target.insert(key, i)),
                    Some(first) if *first != i => {
                        let first: &Indexed<'_, T> = &all[*first];
                        let other = first.policy.meta.name.clone();
                        all[i].conflict = Some((other, format!("{} {}", target.kind, target.name)));
                    }
                    Some(_) => {}
                }
            }
        }
        Self { kind, by_target, all }
    }

    pub(crate) fn get(&self, target: &Target) -> Option<&Indexed<'w, T>> {
        self.by_target.get(target).map(|i| &self.all[*i])
    }

    fn position(&self, target: &Target) -> Option<usize> {
        self.by_target.get(target).copied()
    }

    /// The policy for a rule of a route that is attached to a listener: the rule's, the route's, the listener's or the gateway's.
    /// Those that are passed over are told so.
    pub(crate) fn effective(&mut self, rule: &RuleOf<'_>) -> Option<usize> {
        if self.by_target.is_empty() {
            return None;
        }
        let own = rule
            .rule
            .and_then(|name| self.position(&Target::new(rule.kind, rule.route, Some(name))));
        let route = self.position(&Target::new(rule.kind, rule.route, None));
        let listener = self.position(&Target::new(Kind::Gateway, rule.gateway, Some(rule.listener)));
        let gateway = self.position(&Target::new(Kind::Gateway, rule.gateway, None));
        let mut found = [own, route, listener, gateway].into_iter().flatten();
        let effective = found.next()?;
        for other in found.filter(|other| *other != effective) {
            self.all[other]
                .overridden_by
                .insert(format!("{} {}", rule.kind.as_str(), rule.route));
        }
        Some(effective)
    }

    pub(crate) fn at(&self, position: usize) -> &Indexed<'w, T> {
        &self.all[position]
    }

    /// Notes which gateways the targets lead to, so that the policies have somebody to report to.
    pub(crate) fn attach(&mut self, leads: impl Fn(Kind, &Name) -> Vec<Name>) {
        for indexed in &mut self.all {
            for target in &indexed.policy.targets {
                let kind = Kind::ALL
                    .into_iter()
                    .find(|kind| kind.as_str() == target.kind && kind.group() == target.group);
                if let Some(kind) = kind {
                    let name = Name::new(&indexed.policy.meta.name.namespace, &target.name);
                    indexed.ancestors.extend(leads(kind, &name));
                }
            }
        }
    }

    /// The statuses of the policies.
    pub(crate) fn verdicts(&self, verdicts: &mut Verdicts) {
        for indexed in &self.all {
            let mut conditions = Vec::new();
            conditions.push(match (&indexed.conflict, indexed.verdict()) {
                (_, Err(why)) => Condition::new("Accepted", false, "Invalid", why),
                (Some((other, target)), Ok(_)) => Condition::new(
                    "Accepted",
                    false,
                    "Conflicted",
                    format!(
                        "{} {other} is older and is about {target}, too",
                        self.kind.as_str()
                    ),
                ),
                (None, Ok(_)) => Condition::new("Accepted", true, "Accepted", "the policy has been accepted"),
            });
            if !indexed.overridden_by.is_empty() {
                let routes: Vec<&str> = indexed.overridden_by.iter().take(8).map(String::as_str).collect();
                conditions.push(Condition::new(
                    "Overridden",
                    true,
                    "Overridden",
                    format!(
                        "more specific policies hold for {} of its targets: {}",
                        indexed.overridden_by.len(),
                        routes.join(", ")
                    ),
                ));
            }
            let entries = indexed
                .ancestors
                .iter()
                .map(|gateway| (gateway.clone(), conditions.clone()));
            let key = (self.kind, indexed.policy.meta.name.clone());
            verdicts.insert(key, Arc::new(Verdict::Ancestors(entries.collect())));
        }
    }
}

/// A rule of a route at a listener.
pub(crate) struct RuleOf<'a> {
    pub(crate) kind: Kind,
    pub(crate) route: &'a Name,
    pub(crate) rule: Option<&'a str>,
    pub(crate) gateway: &'a Name,
    pub(crate) listener: &'a str,
}
