//! The registry of resources: which kinds are served, and what is known about each.
//!
//! ```text
//! Registry ── group "apps" ── version "v1" ── "deployments" ── ResourceInfo
//!          └─ group "example.dev" ...                  (rows added by CustomResourceDefinitions)
//! ```
//!
//! A registry is a value: cloning copies a handful of pointers, a change copies only the group it touches. A server keeps
//! the current one behind an atomic pointer and swaps it when a definition changes.

mod info;

use std::{
    cmp::{Ordering, Reverse},
    collections::BTreeMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

pub use info::{
    ALL_VERBS, Column, Generation, LazySchema, Publish, ResourceInfo, SUBRESOURCE_VERBS, ScalePaths,
    SelectableField, Storage, Subresource,
};

/// All resources that an API server serves.
#[derive(Clone, Debug)]
pub struct Registry {
    groups: BTreeMap<String, Arc<Group>>,
    /// Group names in the order of their priority.
    order: Arc<Vec<String>>,
    generation: u64,
}

/// The resources of one API group.
#[derive(Clone, Debug, Default)]
pub struct Group {
    name: String,
    /// Versions, the preferred one first.
    versions: Vec<Version>,
}

/// The resources of one version of a group.
#[derive(Clone, Debug)]
pub struct Version {
    name: String,
    resources: BTreeMap<String, Arc<ResourceInfo>>,
}

impl Group {
    /// Name of the group; empty for the core group.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Versions, the preferred one first.
    pub fn versions(&self) -> impl Iterator<Item = &Version> {
        self.versions.iter()
    }

    /// The version of that name.
    #[must_use]
    pub fn version(&self, name: &str) -> Option<&Version> {
        self.versions.iter().find(|v| v.name == name)
    }
}

impl Version {
    /// Name of the version.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Resources in the order of their plurals.
    pub fn resources(&self) -> impl Iterator<Item = &Arc<ResourceInfo>> {
        self.resources.values()
    }

    /// The resource of that plural.
    #[must_use]
    pub fn resource(&self, plural: &str) -> Option<&Arc<ResourceInfo>> {
        self.resources.get(plural)
    }
}

impl Registry {
    /// A registry without any resource.
    #[must_use]
    pub fn empty() -> Self {
        Registry {
            groups: BTreeMap::new(),
            order: Arc::default(),
            generation: next_generation(),
        }
    }

    /// The built-in kinds of Kubernetes. The rows are made once per process and shared.
    #[must_use]
    pub fn builtin() -> Self {
        static BUILTIN: OnceLock<Registry> = OnceLock::new();
        BUILTIN
            .get_or_init(|| {
                let mut registry = Registry::empty();
                for row in crate::builtin::rows() {
                    registry.insert(row);
                }
                registry.reorder();
                registry
            })
            .clone()
    }

    /// Adds the rows of a definition (one per served version); rows of the same group and plural that were there before go.
    pub fn add_crd(&mut self, rows: Vec<ResourceInfo>) {
        if let Some(first) = rows.first() {
            self.take_out(&first.group, &first.plural);
        }
        for row in rows {
            self.insert(row);
        }
        self.reorder();
    }

    /// Removes every version of a defined resource. Built-in rows stay.
    pub fn remove_crd(&mut self, group: &str, plural: &str) {
        self.take_out(group, plural);
        self.reorder();
    }

    /// The resource that a path names.
    #[must_use]
    pub fn lookup(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<ResourceInfo>> {
        self.groups.get(group)?.version(version)?.resource(plural)
    }

    /// The resource whose objects have this kind.
    #[must_use]
    pub fn by_kind(&self, group: &str, version: &str, kind: &str) -> Option<&Arc<ResourceInfo>> {
        self.groups
            .get(group)?
            .version(version)?
            .resources()
            .find(|r| r.kind == kind)
    }

    /// The resource whose objects have this `apiVersion` and kind.
    #[must_use]
    pub fn by_api_version(&self, api_version: &str, kind: &str) -> Option<&Arc<ResourceInfo>> {
        let (group, version) = split_api_version(api_version);
        self.by_kind(group, version, kind)
    }

    /// The preferred version of a resource, whichever versions it has.
    #[must_use]
    pub fn preferred(&self, group: &str, plural: &str) -> Option<&Arc<ResourceInfo>> {
        self.groups
            .get(group)?
            .versions()
            .find_map(|v| v.resource(plural))
    }

    /// One group.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<&Group> {
        self.groups.get(name).map(Arc::as_ref)
    }

    /// Groups in the order of Kubernetes' priorities: core first, then the built-in groups, then others by name.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.order.iter().filter_map(|name| self.group(name))
    }

    /// Every resource, in the order of groups, versions and plurals.
    pub fn resources(&self) -> impl Iterator<Item = &Arc<ResourceInfo>> {
        self.groups()
            .flat_map(Group::versions)
            .flat_map(Version::resources)
    }

    /// A number that differs between any two registries with different content; what is derived from one can be cached under it.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    fn insert(&mut self, row: ResourceInfo) {
        let group = Arc::make_mut(self.groups.entry(row.group.clone()).or_insert_with(|| {
            Arc::new(Group {
                name: row.group.clone(),
                versions: Vec::new(),
            })
        }));
        let at = match group.versions.iter().position(|v| v.name == row.version) {
            Some(at) => at,
            None => {
                let at = group
                    .versions
                    .partition_point(|v| compare_versions(&v.name, &row.version).is_lt());
                group.versions.insert(
                    at,
                    Version {
                        name: row.version.clone(),
                        resources: BTreeMap::new(),
                    },
                );
                at
            }
        };
        group.versions[at]
            .resources
            .insert(row.plural.clone(), Arc::new(row));
    }

    fn take_out(&mut self, group: &str, plural: &str) {
        let Some(entry) = self.groups.get_mut(group) else {
            return;
        };
        let edited = Arc::make_mut(entry);
        for version in &mut edited.versions {
            if version.resources.get(plural).is_some_and(|r| r.is_crd) {
                version.resources.remove(plural);
            }
        }
        edited.versions.retain(|v| !v.resources.is_empty());
        if edited.versions.is_empty() {
            self.groups.remove(group);
        }
    }

    fn reorder(&mut self) {
        self.generation = next_generation();
        if self.order.len() == self.groups.len() && self.order.iter().all(|g| self.groups.contains_key(g)) {
            return;
        }
        let mut order: Vec<String> = self.groups.keys().cloned().collect();
        order.sort_by_key(|g| Reverse(group_priority(g)));
        self.order = Arc::new(order);
    }
}

fn next_generation() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Relaxed)
}

/// Splits `apps/v1` into group and version; the core group is empty.
#[must_use]
pub fn split_api_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

/// The priority that the aggregation layer of Kubernetes gives a group; clients prefer the group that comes first when
/// two have a resource of the same name.
#[must_use]
pub fn group_priority(group: &str) -> u32 {
    match group {
        "" => 18_000,
        "apps" => 17_800,
        "events.k8s.io" => 17_750,
        "authentication.k8s.io" => 17_700,
        "authorization.k8s.io" => 17_600,
        "autoscaling" => 17_500,
        "batch" => 17_400,
        "certificates.k8s.io" => 17_300,
        "networking.k8s.io" => 17_200,
        "policy" => 17_100,
        "rbac.authorization.k8s.io" => 17_000,
        "storage.k8s.io" => 16_800,
        "apiextensions.k8s.io" | "admissionregistration.k8s.io" => 16_700,
        "scheduling.k8s.io" => 16_600,
        "coordination.k8s.io" => 16_500,
        "node.k8s.io" => 16_300,
        "discovery.k8s.io" => 16_200,
        "flowcontrol.apiserver.k8s.io" => 16_100,
        _ => 1_000,
    }
}

/// Orders versions as Kubernetes does, the most stable and newest first: `v2`, `v1`, `v1beta2`, `v1beta1`, `v1alpha1`, then
/// names of another form in alphabetical order.
#[must_use]
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    match (parse_version(a), parse_version(b)) {
        (Some(a), Some(b)) => b.cmp(&a),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

/// (stability, major, minor) of `v1`, `v1beta2`, `v2alpha1`.
fn parse_version(version: &str) -> Option<(u8, u64, u64)> {
    let rest = version.strip_prefix('v')?;
    let digits = |s: &str| -> Option<u64> {
        (!s.is_empty() && s.bytes().all(|b| b.is_ascii_digit()))
            .then(|| s.parse().ok())
            .flatten()
    };
    if let Some((major, minor)) = rest.split_once("alpha") {
        return Some((0, digits(major)?, digits(minor)?));
    }
    if let Some((major, minor)) = rest.split_once("beta") {
        return Some((1, digits(major)?, digits(minor)?));
    }
    Some((2, digits(rest)?, 0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn groups_come_in_the_order_of_their_priority() {
        let registry = Registry::builtin();
        let names: Vec<&str> = registry.groups().map(Group::name).collect();
        assert_eq!(names[..3], ["", "apps", "events.k8s.io"]);
        let admission = names.iter().position(|n| *n == "admissionregistration.k8s.io");
        let extensions = names.iter().position(|n| *n == "apiextensions.k8s.io");
        assert!(admission < extensions);
    }

    #[test]
    fn versions_order_by_stability_then_number() {
        let mut versions = vec!["v1alpha1", "foo", "v1", "v10", "v2beta1", "v2", "bar", "v1beta2"];
        versions.sort_by(|a, b| compare_versions(a, b));
        assert_eq!(
            versions,
            ["v10", "v2", "v1", "v2beta1", "v1beta2", "v1alpha1", "bar", "foo"]
        );
    }

    #[test]
    fn definitions_come_and_go() {
        let mut registry = Registry::builtin();
        let before = registry.generation();
        let mut row = (**registry.lookup("", "v1", "configmaps").unwrap()).clone();
        row.group = "example.dev".into();
        row.is_crd = true;
        registry.add_crd(vec![row]);
        assert!(registry.by_api_version("example.dev/v1", "ConfigMap").is_some());
        assert_eq!(registry.groups().last().unwrap().name(), "example.dev");
        assert_ne!(registry.generation(), before);
        registry.remove_crd("example.dev", "configmaps");
        registry.remove_crd("apps", "deployments");
        assert!(registry.group("example.dev").is_none());
        assert!(registry.lookup("apps", "v1", "deployments").is_some());
    }
}
