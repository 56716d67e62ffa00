//! Built-in kinds, as far as rendering needs to know them.

use std::sync::{Arc, LazyLock};

use choreo_apimachinery::{
    registry::{Registry, ResourceInfo},
    schema::Schema,
};

static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::builtin);

/// A built-in kind.
pub(crate) fn kind(api_version: &str, kind: &str) -> Option<&'static Arc<ResourceInfo>> {
    REGISTRY.by_api_version(api_version, kind)
}

/// The built-in kinds of an API group's version, by name.
pub(crate) fn kinds_in(api_version: &str) -> Vec<&'static str> {
    let of = |info: &&'static Arc<ResourceInfo>| info.api_version() == api_version;
    let mut kinds: Vec<&str> = REGISTRY.resources().filter(of).map(|i| i.kind.as_str()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

/// The schema of a built-in kind.
pub(crate) fn schema(group: &str, version: &str, kind: &str) -> Arc<Schema> {
    REGISTRY
        .by_kind(group, version, kind)
        .map(|info| info.schema())
        .unwrap_or_else(|| Arc::new(Schema::anything()))
}

/// The built-in kind of this name, in a group and version if they are given. Without a group, the one that is not ambiguous
/// for people: workloads and the core group come first.
pub(crate) fn find(
    group: Option<&str>,
    version: Option<&str>,
    kind: &str,
) -> Option<&'static Arc<ResourceInfo>> {
    let mut found: Vec<&'static Arc<ResourceInfo>> = REGISTRY
        .resources()
        .filter(|i| {
            i.kind == kind && group.is_none_or(|g| g == i.group) && version.is_none_or(|v| v == i.version)
        })
        .collect();
    found.sort_by_key(|i| {
        (
            i.version.contains("beta") || i.version.contains("alpha"),
            i.group.len(),
        )
    });
    found.into_iter().next()
}
