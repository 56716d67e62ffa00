//! Labels, annotations, finalizers and field managers: the strings by which the platform finds its own objects again.

use std::collections::BTreeMap;

/// API group of the platform's kinds.
pub const GROUP: &str = "openchoreo.dev";

/// Version of the platform's kinds.
pub const VERSION: &str = "v1alpha1";

/// `apiVersion` of the platform's kinds.
pub const API_VERSION: &str = "openchoreo.dev/v1alpha1";

/// Namespace for what all organizations share, such as classes.
pub const PLATFORM_NAMESPACE: &str = "openchoreo-system";

/// Name of the organization.
pub const ORGANIZATION: &str = "openchoreo.dev/organization";
/// Name of the project.
pub const PROJECT: &str = "openchoreo.dev/project";
/// Name of the component.
pub const COMPONENT: &str = "openchoreo.dev/component";
/// Name of the deployment track.
pub const DEPLOYMENT_TRACK: &str = "openchoreo.dev/deployment-track";
/// Name of the environment.
pub const ENVIRONMENT: &str = "openchoreo.dev/environment";
/// Name of the object itself, as its author knows it.
pub const NAME: &str = "openchoreo.dev/name";
/// In the data plane: name of the Release that an object belongs to.
pub const RELEASE: &str = "openchoreo.dev/release";
/// In the data plane: name of an object in its Release.
pub const RESOURCE_ID: &str = "openchoreo.dev/resource-id";

/// In the data plane: name of the run of a task that an object belongs to.
pub const RUN: &str = "openchoreo.dev/run";

/// In the data plane: name of the managed resource that an object belongs to.
pub const MANAGED_RESOURCE: &str = "openchoreo.dev/managed-resource";

/// Kubernetes' recommended label for the application.
pub const APP_NAME: &str = "app.kubernetes.io/name";
/// Kubernetes' recommended label for the larger whole.
pub const APP_PART_OF: &str = "app.kubernetes.io/part-of";
/// Kubernetes' recommended label for what manages an object.
pub const APP_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Value of [`APP_MANAGED_BY`] on everything that the platform makes.
pub const MANAGER: &str = "choreo";

/// Annotations.
pub mod annotations {
    /// Name for people.
    pub const DISPLAY_NAME: &str = "openchoreo.dev/display-name";
    /// What the object is for.
    pub const DESCRIPTION: &str = "openchoreo.dev/description";
    /// On an object that is being deleted: give up cleaning what cannot be reached.
    pub const FORCE_DELETE: &str = "openchoreo.dev/force-delete";
    /// On a policy or route in the data plane: the declaration that it came from.
    pub const DECLARED_BY: &str = "openchoreo.dev/declared-by";
    /// On a pod template: hash of the configuration that the pods were started with, so that a change rolls them.
    pub const CONFIGURATION_HASH: &str = "openchoreo.dev/configuration-hash";
    /// On an object made from an older manifest: the kind that it was converted from.
    pub const CONVERTED_FROM: &str = "openchoreo.dev/converted-from";
    /// On a pod template: when the pods were asked to start anew (`restartedAt` of the overrides), so that a change rolls them.
    pub const RESTARTED_AT: &str = "openchoreo.dev/restarted-at";
    /// On a component made from the short form: the language runtime that it names.
    pub const RUNTIME: &str = "openchoreo.dev/runtime";
    /// On an object of a release: `once` if it is made once and then left alone, even when it is gone, as a run of a task is.
    pub const APPLY: &str = "openchoreo.dev/apply";
    /// On a Secret of a release: name of the Secret in the organization's namespace of the control plane that its content
    /// comes from.
    pub const COPY_OF: &str = "openchoreo.dev/copy-of";
    /// On a Secret of a release: the keys, with commas between them, whose values the platform makes up once, in the data
    /// plane. They are never anywhere else, and stay when the release goes: what was protected by them may stay as well.
    pub const GENERATE: &str = "openchoreo.dev/generate";
    /// On an object of a data plane of which only metadata is watched: hash of what was applied. With the fields that are still
    /// ours in its managed fields it tells whether anybody has changed the rest.
    pub const CONTENT: &str = "openchoreo.dev/content";
    /// On a run of a task: that a later one was asked for, and this one's end no longer counts.
    pub const SUPERSEDED: &str = "openchoreo.dev/superseded";
    /// On a workload of the local data plane: the failure to simulate.
    pub const SIMULATE: &str = "openchoreo.dev/simulate";
    /// On a simulated object of the local data plane: that it is one.
    pub const SIMULATED: &str = "openchoreo.dev/simulated";
}

/// Finalizers.
pub mod finalizers {
    /// A Release is only gone when its objects in the data plane are.
    pub const RELEASE_CLEANUP: &str = "openchoreo.dev/release-cleanup";
    /// An Organization is only gone when its namespace is.
    pub const ORGANIZATION_CLEANUP: &str = "openchoreo.dev/organization-cleanup";
    /// A Project is only gone when its cells are.
    pub const PROJECT_CLEANUP: &str = "openchoreo.dev/project-cleanup";
    /// A Build is only gone when its workflow has been told to stop.
    pub const BUILD_CLEANUP: &str = "openchoreo.dev/build-cleanup";
}

/// The field manager of a controller in server-side apply.
pub fn field_manager(controller: &str) -> String {
    format!("{MANAGER}/{controller}")
}

/// The labels of a derived object, as they apply to it.
///
/// A value that is longer than a label allows, or has characters that a label does not, is replaced by its hashed
/// name: a selector over it must be made with [`label_value`] as well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(BTreeMap<String, String>);

impl Labels {
    /// No labels.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the organization.
    #[must_use]
    pub fn organization(self, name: &str) -> Self {
        self.with(ORGANIZATION, name)
    }

    /// Adds the project.
    #[must_use]
    pub fn project(self, name: &str) -> Self {
        self.with(PROJECT, name)
    }

    /// Adds the component.
    #[must_use]
    pub fn component(self, name: &str) -> Self {
        self.with(COMPONENT, name)
    }

    /// Adds the track.
    #[must_use]
    pub fn track(self, name: &str) -> Self {
        self.with(DEPLOYMENT_TRACK, name)
    }

    /// Adds the environment.
    #[must_use]
    pub fn environment(self, name: &str) -> Self {
        self.with(ENVIRONMENT, name)
    }

    /// Adds the object's own name.
    #[must_use]
    pub fn name(self, name: &str) -> Self {
        self.with(NAME, name)
    }

    /// Adds Kubernetes' recommended labels, which objects in the data plane have.
    #[must_use]
    pub fn app(self, name: &str, part_of: &str) -> Self {
        self.with(APP_NAME, name)
            .with(APP_PART_OF, part_of)
            .with(APP_MANAGED_BY, MANAGER)
    }

    /// Adds any label.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.0.insert(key.to_owned(), label_value(value));
        self
    }

    /// The labels.
    pub fn build(self) -> BTreeMap<String, String> {
        self.0
    }
}

/// A text as the value of a label: itself if it can be one, otherwise its hashed name.
pub fn label_value(text: &str) -> String {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    let fits = bytes.len() <= crate::names::LABEL_LIMIT
        && bytes.iter().copied().all(allowed)
        && ends(bytes.first())
        && ends(bytes.last());
    if fits || text.is_empty() {
        text.to_owned()
    } else {
        crate::names::k8s_name(crate::names::LABEL_LIMIT, &[text])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_sorted_and_valid() {
        let long = "x".repeat(80);
        let labels = Labels::new()
            .project("shop")
            .organization("acme")
            .name(&long)
            .app("cart", "shop")
            .build();
        let keys: Vec<&str> = labels.keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            [APP_MANAGED_BY, APP_NAME, APP_PART_OF, NAME, ORGANIZATION, PROJECT]
        );
        assert!(labels.values().all(|value| value.len() <= 63));
    }

    #[test]
    fn values_that_labels_cannot_hold_are_hashed() {
        assert_eq!(label_value("v1.0_beta"), "v1.0_beta");
        assert_eq!(label_value(""), "");
        assert!(label_value("feature/login").starts_with("feature-login-"));
    }
}
