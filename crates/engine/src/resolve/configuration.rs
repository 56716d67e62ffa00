//! Configuration: which value of a group holds in an environment.
//!
//! The most specific value wins: one for the environment itself, then one for a group of environments, then the one for
//! all. Two values of equal rank are a mistake, never a race. A value is either public (`value`, becomes a ConfigMap) or
//! secret (`vaultKey`, becomes an ExternalSecret); only the keys that a workload uses leave the control plane.

use std::collections::{BTreeMap, BTreeSet};

use choreo_api::{
    conditions::reasons,
    v1alpha1::{ConfigurationGroup, ConfigurationValue, WorkloadTemplate, common::ValueSource},
};
use serde::Serialize;

use crate::{
    problem::{Problem, Problems, quoted_list},
    world::World,
};

/// The value of one key in one environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Setting {
    /// The value itself.
    Value(String),
    /// Where the secret store keeps it.
    VaultKey(String),
}

/// Why a key has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// The group has no such key.
    #[error("has no key {key:?} (it has {}): add it", quoted_list(.known.iter().map(String::as_str)))]
    NoKey {
        /// The key asked for.
        key: String,
        /// The keys there are.
        known: Vec<String>,
    },
    /// The key is declared more than once.
    #[error("declares key {key:?} more than once: merge the entries of spec.configurations")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// No value applies.
    #[error(
        "key {key:?} has no value for environment {environment:?}: add one for it, for a group of environments that contains it, or for all"
    )]
    NoValue {
        /// The key.
        key: String,
        /// The environment.
        environment: String,
    },
    /// Several values of the same rank apply.
    #[error("key {key:?} has more than one value {rank} for environment {environment:?}: keep one")]
    Ambiguous {
        /// The key.
        key: String,
        /// The environment.
        environment: String,
        /// How specific they are.
        rank: &'static str,
    },
    /// The value that applies has both or neither of `value` and `vaultKey`.
    #[error("key {key:?}, value for {selector}: give exactly one of value and vaultKey")]
    NotOneKind {
        /// The key.
        key: String,
        /// Which value.
        selector: String,
    },
    /// A value names both an environment and a group of environments.
    #[error("key {key:?} has a value for both environment and environmentGroupRef: keep one of the two")]
    TwoSelectors {
        /// The key.
        key: String,
    },
    /// A value names a group of environments that the configuration group does not declare.
    #[error(
        "key {key:?} has a value for environment group {name:?}, which spec.environmentGroups does not declare"
    )]
    UnknownEnvironmentGroup {
        /// The key.
        key: String,
        /// The unknown name.
        name: String,
    },
}

/// Looks a key up.
///
/// # Errors
/// When the group does not say unambiguously what the key is in this environment.
pub fn lookup(group: &ConfigurationGroup, key: &str, environment: &str) -> Result<Setting, LookupError> {
    let mut entries = group.spec.configurations.iter().filter(|c| c.key == key);
    let Some(entry) = entries.next() else {
        let known = group.spec.configurations.iter().map(|c| c.key.clone()).collect();
        return Err(LookupError::NoKey {
            key: key.to_owned(),
            known,
        });
    };
    if entries.next().is_some() {
        return Err(LookupError::DuplicateKey { key: key.to_owned() });
    }

    // 0: the environment itself, 1: a group that contains it, 2: all.
    let mut ranked: [Vec<&ConfigurationValue>; 3] = Default::default();
    for value in &entry.values {
        let rank = match (
            non_empty(&value.environment),
            non_empty(&value.environment_group_ref),
        ) {
            (Some(_), Some(_)) => return Err(LookupError::TwoSelectors { key: key.to_owned() }),
            (Some(name), None) => (name == environment).then_some(0),
            (None, Some(name)) => {
                let Some(members) = group.spec.environment_groups.iter().find(|g| g.name == name) else {
                    return Err(LookupError::UnknownEnvironmentGroup {
                        key: key.to_owned(),
                        name: name.to_owned(),
                    });
                };
                members.environments.iter().any(|e| e == environment).then_some(1)
            }
            (None, None) => Some(2),
        };
        if let Some(slot) = rank.and_then(|r| ranked.get_mut(r)) {
            slot.push(value);
        }
    }
    let names = [
        "of its own",
        "through its environment groups",
        "for all environments",
    ];
    for (values, rank) in ranked.iter().zip(names) {
        match values.as_slice() {
            [] => {}
            [value] => return setting(key, value),
            _ => {
                return Err(LookupError::Ambiguous {
                    key: key.to_owned(),
                    environment: environment.to_owned(),
                    rank,
                });
            }
        }
    }
    Err(LookupError::NoValue {
        key: key.to_owned(),
        environment: environment.to_owned(),
    })
}

fn setting(key: &str, value: &ConfigurationValue) -> Result<Setting, LookupError> {
    match (&value.value, non_empty(&value.vault_key)) {
        (Some(value), None) => Ok(Setting::Value(value.clone())),
        (None, Some(vault_key)) => Ok(Setting::VaultKey(vault_key.to_owned())),
        _ => Err(LookupError::NotOneKind {
            key: key.to_owned(),
            selector: selector(value),
        }),
    }
}

/// How a value says where it applies, for messages.
pub fn selector(value: &ConfigurationValue) -> String {
    match (
        non_empty(&value.environment),
        non_empty(&value.environment_group_ref),
    ) {
        (Some(name), _) => format!("environment {name:?}"),
        (None, Some(name)) => format!("environment group {name:?}"),
        (None, None) => "all environments".to_owned(),
    }
}

fn non_empty(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|t| !t.is_empty())
}

/// What a workload takes from one group, and where it says so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Single keys, with the fields that name them.
    pub keys: BTreeMap<String, BTreeSet<String>>,
    /// The fields that take the whole group.
    pub whole: BTreeSet<String>,
}

/// What a workload takes from which group.
pub fn usages(workload: &WorkloadTemplate) -> BTreeMap<String, Usage> {
    let mut all: BTreeMap<String, Usage> = BTreeMap::new();
    let mut key = |source: Option<&ValueSource>, field: String| {
        if let Some(r) = source.and_then(|s| s.configuration_group_ref.as_ref()) {
            all.entry(r.name.clone())
                .or_default()
                .keys
                .entry(r.key.clone())
                .or_default()
                .insert(field);
        }
    };
    for (field, name, container) in workload.all_containers() {
        for env in &container.env {
            key(
                env.value_from.as_ref(),
                format!("{field}[{name}].env[{}]", env.key),
            );
        }
        for file in &container.file_mounts {
            key(
                file.value_from.as_ref(),
                format!("{field}[{name}].fileMounts[{}]", file.mount_path),
            );
        }
    }
    for (field, name, container) in workload.all_containers() {
        for (i, source) in container.env_from.iter().enumerate() {
            if let Some(r) = &source.configuration_group_ref {
                all.entry(r.name.clone())
                    .or_default()
                    .whole
                    .insert(format!("{field}[{name}].envFrom[{i}]"));
            }
        }
    }
    all
}

/// The settings of every group that a workload uses: group, then key.
pub type Configuration = BTreeMap<String, BTreeMap<String, Setting>>;

/// Resolves everything that a workload takes from configuration groups.
///
/// # Errors
/// Every group and key that is missing, ambiguous or malformed.
pub fn resolve(
    world: &World,
    namespace: &str,
    environment: &str,
    workload: &WorkloadTemplate,
) -> Result<Configuration, Problems> {
    let mut problems = Problems::new();
    let mut resolved = Configuration::new();
    for (name, usage) in usages(workload) {
        let fields: Vec<&str> = usage
            .keys
            .values()
            .chain([&usage.whole])
            .flatten()
            .map(String::as_str)
            .collect();
        let used_by = format!("used by the workload's {}", fields.join(", "));
        let Some(group) = world.get::<ConfigurationGroup>(namespace, &name) else {
            let keys = if usage.keys.is_empty() {
                String::new()
            } else {
                format!(
                    " with values of {} for environment {environment:?}",
                    quoted_list(usage.keys.keys().map(String::as_str))
                )
            };
            problems.push(Problem::waiting(
                reasons::CONFIGURATION_NOT_FOUND,
                format!("ConfigurationGroup {name:?} not found in namespace {namespace:?}: create it{keys}; {used_by}"),
            ));
            continue;
        };
        let mut wanted: BTreeSet<&str> = usage.keys.keys().map(String::as_str).collect();
        if !usage.whole.is_empty() {
            wanted.extend(group.spec.configurations.iter().map(|c| c.key.as_str()));
        }
        let settings = resolved.entry(name.clone()).or_default();
        for key in wanted {
            match lookup(group, key, environment) {
                Ok(setting) => {
                    settings.insert(key.to_owned(), setting);
                }
                // A whole group means: whatever it has here. Only keys that are named must have a value.
                Err(LookupError::NoValue { .. }) if !usage.keys.contains_key(key) => {}
                Err(error) => {
                    let message = format!("ConfigurationGroup {name:?} {error}; {used_by}");
                    problems.push(match error {
                        LookupError::NoKey { .. } | LookupError::NoValue { .. } => {
                            Problem::waiting(reasons::CONFIGURATION_NOT_FOUND, message)
                        }
                        LookupError::Ambiguous { .. } => Problem::error(reasons::AMBIGUOUS, message),
                        _ => Problem::error(reasons::INVALID, message),
                    });
                }
            }
        }
    }
    problems.or_ok(resolved)
}
