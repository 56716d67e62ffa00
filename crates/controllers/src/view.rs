//! The control plane as the controllers see it: every object, and the engine's world made of them.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use choreo_api::crds::{ALIAS_GROUP, ALIAS_KINDS, ALIAS_VERSIONS, alias_plural};
use choreo_api::labels;
use choreo_engine::World;
use choreo_engine::world::{AnyObject, Kind, LoadError, ObjectRef as EngineRef, Source};
use kube::core::{ApiResource, DynamicObject};

use crate::runtime::packed::Kept;
use crate::runtime::{GroupKind, ObjectRef, Snapshot, View};

/// The view of the control plane's cache.
#[derive(Clone, Debug, Default)]
pub struct ControlView {
    /// What the engine plans from.
    pub world: World,
}

/// A consistent state of the control plane.
pub type ControlSnapshot = Snapshot<ControlView>;

impl View for ControlView {
    fn upsert(&mut self, kept: &Arc<Kept>, object: &DynamicObject) {
        if engine_ref(&ObjectRef::of(object)).is_none() {
            return;
        }
        let Some(types) = &object.types else { return };
        match AnyObject::from_parts(&types.api_version, &types.kind, &object.metadata, &object.data) {
            Ok(object) => self.world.upsert_from(object, Arc::clone(kept) as _),
            Err(LoadError::UnknownKind { .. }) => {}
            // Stored before its definition became stricter: planning on without it is better than stopping.
            Err(error) => {
                tracing::error!(%error, "an object in the cluster does not have the form of its kind; ignored");
                self.remove(object);
            }
        }
    }

    fn remove(&mut self, object: &DynamicObject) {
        if let Some(reference) = engine_ref(&ObjectRef::of(object)) {
            self.world.remove(&reference);
        }
    }

    fn rest(&mut self, kept: &Kept) {
        if let Some(reference) = engine_ref(kept.address()) {
            self.world.rest(&reference);
        }
    }
}

/// What the world has let go of comes back from the text that the cache keeps, or from the tree while there is one.
impl Source for Kept {
    fn read(self: Arc<Self>) -> Option<AnyObject> {
        let kind = &self.address().kind.kind;
        let read = match self.text() {
            Some(text) => text.and_then(|text| {
                let object = AnyObject::from_text(self.api_version(), kind, text.object());
                object.map_err(|error| error.to_string())
            }),
            None => {
                let tree = self.get();
                let object = AnyObject::from_parts(self.api_version(), kind, &tree.metadata, &tree.data);
                object.map_err(|error| error.to_string())
            }
        };
        read.inspect_err(|error| {
            tracing::error!(
                object = %self.address(), %error,
                "an object cannot be read back: nothing is done about what depends on it until it changes or this program starts again"
            );
        })
        .ok()
    }
}

/// The engine's name for an object, if it is of a kind that the engine knows.
pub fn engine_ref(object: &ObjectRef) -> Option<EngineRef> {
    if object.kind.group != labels::GROUP {
        return None;
    }
    let kind = Kind::ALL.iter().find(|kind| kind.as_str() == object.kind.kind)?;
    Some(EngineRef::new(
        *kind,
        object.namespace.clone(),
        object.name.clone(),
    ))
}

/// Our name for an object of the engine.
pub fn object_ref(object: &EngineRef) -> ObjectRef {
    ObjectRef::new(
        labels::GROUP,
        object.kind.as_str(),
        &object.key.namespace,
        &object.key.name,
    )
}

/// The control plane's kinds that the controllers watch or write, with their names in API paths.
#[derive(Clone, Debug)]
pub struct ControlKinds {
    by_kind: Arc<BTreeMap<GroupKind, ApiResource>>,
}

/// Made once, since many ask.
static KINDS: LazyLock<ControlKinds> = LazyLock::new(|| {
    let mut by_kind = BTreeMap::new();
    for resource in ours().into_iter().chain(kubernetes()) {
        by_kind.insert(GroupKind::new(&resource.group, &resource.kind), resource);
    }
    ControlKinds {
        by_kind: Arc::new(by_kind),
    }
});

impl Default for ControlKinds {
    fn default() -> Self {
        KINDS.clone()
    }
}

impl ControlKinds {
    /// The kind's name in API paths.
    pub fn resource(&self, kind: &GroupKind) -> Option<&ApiResource> {
        self.by_kind.get(kind)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&GroupKind, &ApiResource)> {
        self.by_kind.iter()
    }
}

/// The platform's kinds, and those of older manifests.
fn ours() -> Vec<ApiResource> {
    macro_rules! resources {
        ($($kind:ident),* $(,)?) => {
            vec![$(ApiResource::erase::<choreo_api::v1alpha1::$kind>(&())),*]
        };
    }
    let mut ours: Vec<ApiResource> = choreo_api::for_each_kind!(resources);
    ours.extend(alias_resources());
    ours
}

/// Every alias in the version that is stored.
fn alias_resources() -> impl Iterator<Item = ApiResource> {
    let kinds = choreo_api::KINDS.iter().chain(ALIAS_KINDS);
    kinds.map(|kind| ApiResource {
        group: ALIAS_GROUP.to_owned(),
        version: ALIAS_VERSIONS[0].to_owned(),
        api_version: format!("{ALIAS_GROUP}/{}", ALIAS_VERSIONS[0]),
        kind: (*kind).to_owned(),
        plural: alias_plural(kind),
    })
}

/// Kubernetes' own kinds that an organization consists of.
fn kubernetes() -> Vec<ApiResource> {
    vec![
        ApiResource::erase::<k8s_openapi::api::core::v1::Namespace>(&()),
        ApiResource::erase::<k8s_openapi::api::rbac::v1::Role>(&()),
        ApiResource::erase::<k8s_openapi::api::rbac::v1::RoleBinding>(&()),
    ]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use choreo_api::v1alpha1::Component;
    use serde_json::json;

    use super::*;
    use crate::runtime::Cache;

    fn component(name: &str, revision: u64, type_: &str) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "openchoreo.dev/v1alpha1", "kind": "Component",
            "metadata": {
                "name": name, "namespace": "org", "uid": format!("uid-{name}"), "resourceVersion": revision.to_string(),
                "generation": revision, "labels": {"a": name},
                "managedFields": [{"manager": crate::FIELD_MANAGER_PREFIX, "operation": "Apply", "fieldsV1": {"f:spec": {}}}],
            },
            "spec": {"owner": {"projectName": "project"}, "type": type_},
        }))
        .unwrap()
    }

    /// Waits until nothing in the world is typed any more.
    async fn rested(cache: &Cache<ControlView>) {
        let all = async {
            while cache.snapshot().view.world.read_already() > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), all).await.unwrap();
    }

    #[tokio::test]
    async fn what_nobody_looks_at_is_let_go_and_comes_back_as_it_was() {
        let cache = Cache::<ControlView>::new(|_, _, _| {});
        for index in 0..5 {
            cache.watched(component(&format!("c{index}"), 7, "Service"));
        }
        assert_eq!(cache.snapshot().view.world.read_already(), 5);
        rested(&cache).await;

        let looked = cache.snapshot();
        let found = looked.view.world.get::<Component>("org", "c3").unwrap();
        assert_eq!(found.spec.type_, "Service");
        assert_eq!(found.metadata.uid.as_deref(), Some("uid-c3"));
        assert_eq!(found.metadata.labels.as_ref().unwrap()["a"], "c3");
        assert_eq!(found.metadata.generation, Some(7));
        assert!(found.metadata.managed_fields.is_none());
        // The snapshot of now sees what that one has read, and nothing else was.
        assert_eq!(cache.snapshot().view.world.read_already(), 1);

        // A new state takes its place, and is what comes back from then on; who looks at the old one keeps it.
        cache.watched(component("c3", 8, "WebApplication"));
        rested(&cache).await;
        assert_eq!(found.spec.type_, "Service");
        let now = cache.snapshot();
        let now = now.view.world.get::<Component>("org", "c3").unwrap();
        assert_eq!(now.spec.type_, "WebApplication");
        cache.deleted(&component("c3", 9, "WebApplication"));
        assert!(
            cache
                .snapshot()
                .view
                .world
                .get::<Component>("org", "c3")
                .is_none()
        );
        assert!(
            cache
                .snapshot()
                .view
                .world
                .get::<Component>("org", "c4")
                .is_some()
        );
    }
}
