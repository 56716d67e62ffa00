//! The control plane as the controllers see it: every object, and the engine's world made of them.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use choreo_api::crds::{ALIAS_GROUP, ALIAS_KINDS, ALIAS_VERSIONS, alias_plural};
use choreo_api::labels;
use choreo_engine::World;
use choreo_engine::world::{AnyObject, Kind, LoadError, ObjectRef as EngineRef};
use kube::core::{ApiResource, DynamicObject};

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
    fn upsert(&mut self, object: &DynamicObject) {
        let Some(reference) = engine_ref(&ObjectRef::of(object)) else {
            return;
        };
        let Some(types) = &object.types else { return };
        let before = self.world.get_any(&reference);
        let (metadata, data) = (&object.metadata, &object.data);
        match AnyObject::from_parts(&types.api_version, &types.kind, metadata, data, before.as_ref()) {
            Ok(object) => self.world.upsert(object),
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
