//! All kinds at once: what they have in common, and a macro that names every one of them.

use kube::core::Resource;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::conditions::Condition;
use crate::v1alpha1::*;

/// Calls another macro with the names of all kinds, in alphabetical order: `for_each_kind!(callback)` expands to
/// `callback! { API, APIBinding, ... }`. The names are both those of the kinds and those of their Rust types in
/// [`v1alpha1`](crate::v1alpha1).
#[macro_export]
macro_rules! for_each_kind {
    ($callback:ident) => {
        $callback! {
            API,
            APIBinding,
            APIClass,
            Build,
            BuildPlane,
            Component,
            ComponentBinding,
            ComponentType,
            ConfigurationGroup,
            DataPlane,
            DeployableArtifact,
            Deployment,
            DeploymentPipeline,
            DeploymentTrack,
            Endpoint,
            Environment,
            GitCommitRequest,
            ManagedResource,
            Organization,
            Project,
            Promotion,
            PromotionBypass,
            PromotionDecision,
            Release,
            ResourceType,
            ScheduledTask,
            ScheduledTaskBinding,
            ScheduledTaskClass,
            Service,
            ServiceBinding,
            ServiceClass,
            Trait,
            WebApplication,
            WebApplicationBinding,
            WebApplicationClass,
            Workload,
        }
    };
}

/// A kind of this API: every one has conditions and says which generation they are about.
pub trait PlatformKind:
    Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// Name of the kind.
    const KIND: &'static str;

    /// The conditions in the object's status.
    fn conditions(&self) -> &[Condition];

    /// The generation that the status describes.
    fn observed_generation(&self) -> Option<i64>;

    /// Replaces the conditions, and says which generation they are about.
    fn observe(&mut self, generation: Option<i64>, conditions: Vec<Condition>);
}

macro_rules! platform_kinds {
    ($($kind:ident),* $(,)?) => {
        $(impl PlatformKind for $kind {
            const KIND: &'static str = stringify!($kind);

            fn conditions(&self) -> &[Condition] {
                self.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default()
            }

            fn observed_generation(&self) -> Option<i64> {
                self.status.as_ref().and_then(|status| status.observed_generation)
            }

            fn observe(&mut self, generation: Option<i64>, conditions: Vec<Condition>) {
                let status = self.status.get_or_insert_default();
                status.observed_generation = generation;
                status.conditions = conditions;
            }
        })*

        /// Names of all kinds, in alphabetical order.
        pub const KINDS: &[&str] = &[$(stringify!($kind)),*];
    };
}

for_each_kind!(platform_kinds);

/// Whether a kind lives in a namespace. Only organizations do not.
pub fn is_namespaced(kind: &str) -> bool {
    kind != Organization::KIND
}
