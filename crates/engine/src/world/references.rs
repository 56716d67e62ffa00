//! What each kind of object refers to: the edges of the graph that [`super::World::referrers`] walks backwards.

use std::collections::BTreeSet;

use super::{AnyObject, Kind, ObjectRef};
use crate::resolve::{configuration, managed};
use choreo_api::labels::PLATFORM_NAMESPACE;
use choreo_api::v1alpha1::{
    ComponentKind, Connection, ConnectionType, ServiceApi, WorkloadTemplate,
    common::{ComponentOwner, DEFAULT_CLASS, DEFAULT_TRACK},
};

struct Edges<'a> {
    namespace: &'a str,
    out: BTreeSet<ObjectRef>,
}

impl Edges<'_> {
    fn to(&mut self, kind: Kind, name: &str) {
        if !name.is_empty() {
            self.out.insert(ObjectRef::new(kind, self.namespace, name));
        }
    }

    fn owner(&mut self, owner: &ComponentOwner) {
        self.to(Kind::Project, &owner.project_name);
        self.to(Kind::Component, &owner.component_name);
    }

    /// Classes are looked up in the organization and then in the platform's namespace.
    fn class(&mut self, kind: Kind, name: &str) {
        self.to(kind, name);
        self.out.insert(ObjectRef::new(kind, PLATFORM_NAMESPACE, name));
    }

    fn apis<'b>(&mut self, apis: impl IntoIterator<Item = &'b ServiceApi>) {
        for api in apis {
            self.class(Kind::APIClass, &api.class_name);
        }
    }

    /// What a binding runs: an artifact, or else what it says itself, which is then `true`.
    fn runs(&mut self, artifact: Option<&str>, inline: Option<&WorkloadTemplate>) -> bool {
        if let Some(artifact) = artifact.filter(|a| !a.is_empty()) {
            self.to(Kind::DeployableArtifact, artifact);
            return false;
        }
        if let Some(workload) = inline {
            self.needs_of(workload);
        }
        inline.is_some()
    }

    fn needs_of(&mut self, workload: &WorkloadTemplate) {
        for group in configuration::usages(workload).keys() {
            self.to(Kind::ConfigurationGroup, group);
        }
        for target in workload.connections.values().filter_map(target_component) {
            self.to(Kind::Component, target);
        }
        for (resource, type_) in workload.connections.values().filter_map(managed::target) {
            self.to(Kind::ManagedResource, resource);
            if let Some(type_) = type_ {
                self.class(Kind::ResourceType, type_);
            }
        }
    }
}

/// The component that an `api` connection leads to.
pub(crate) fn target_component(connection: &Connection) -> Option<&str> {
    (connection.type_ == ConnectionType::Api)
        .then(|| connection.params.get("componentName"))?
        .map(String::as_str)
}

/// Every object that this one refers to.
pub(super) fn of(object: &AnyObject) -> BTreeSet<ObjectRef> {
    let namespace = object.meta().namespace.clone().unwrap_or_default();
    let mut edges = Edges {
        namespace: &namespace,
        out: BTreeSet::new(),
    };
    match object {
        AnyObject::Organization(_)
        | AnyObject::DataPlane(_)
        | AnyObject::ServiceClass(_)
        | AnyObject::WebApplicationClass(_)
        | AnyObject::ScheduledTaskClass(_)
        | AnyObject::APIClass(_)
        | AnyObject::ComponentType(_)
        | AnyObject::Trait(_)
        | AnyObject::ResourceType(_) => {}
        AnyObject::ManagedResource(o) => {
            edges.class(Kind::ResourceType, &o.spec.type_);
            if let Some(owner) = &o.spec.owner {
                edges.to(Kind::Project, &owner.project_name);
            }
        }
        AnyObject::Environment(o) => edges.to(Kind::DataPlane, &o.spec.data_plane_ref),
        AnyObject::DeploymentPipeline(o) => {
            for path in &o.spec.promotion_paths {
                edges.to(Kind::Environment, &path.source_environment_ref);
                for target in &path.target_environment_refs {
                    edges.to(Kind::Environment, &target.name);
                }
            }
        }
        AnyObject::ConfigurationGroup(o) => {
            let groups = o.spec.environment_groups.iter().flat_map(|g| &g.environments);
            let values = o
                .spec
                .configurations
                .iter()
                .flat_map(|c| &c.values)
                .filter_map(|v| v.environment.as_ref());
            for environment in groups.chain(values) {
                edges.to(Kind::Environment, environment);
            }
        }
        AnyObject::Project(o) => edges.to(Kind::DeploymentPipeline, &o.spec.deployment_pipeline_ref),
        AnyObject::Component(o) => {
            edges.to(Kind::Project, &o.spec.owner.project_name);
            if matches!(
                o.spec.kind(),
                ComponentKind::Custom(_) | ComponentKind::Reserved(_)
            ) {
                edges.class(Kind::ComponentType, &o.spec.type_);
            }
            for used in &o.spec.traits {
                edges.class(Kind::Trait, &used.name);
            }
        }
        AnyObject::DeploymentTrack(o) => {
            edges.to(
                Kind::Component,
                crate::freeze::track_component(o).unwrap_or_default(),
            );
        }
        AnyObject::Workload(o) => {
            edges.owner(&o.spec.owner);
            if crate::freeze::exposes_by_visibility(&o.spec.template) {
                edges.class(Kind::APIClass, DEFAULT_CLASS);
            }
        }
        AnyObject::Service(o) => {
            edges.owner(&o.spec.owner);
            edges.to(Kind::Workload, &o.spec.workload_name);
            edges.class(Kind::ServiceClass, &o.spec.class_name);
            edges.apis(o.spec.apis.values());
        }
        AnyObject::WebApplication(o) => {
            edges.owner(&o.spec.owner);
            edges.to(Kind::Workload, &o.spec.workload_name);
            edges.class(Kind::WebApplicationClass, &o.spec.class_name);
        }
        AnyObject::ScheduledTask(o) => {
            edges.owner(&o.spec.owner);
            edges.to(Kind::Workload, &o.spec.workload_name);
            edges.class(Kind::ScheduledTaskClass, &o.spec.class_name);
        }
        AnyObject::API(o) => {
            edges.owner(&o.spec.owner);
            if let Some(workload) = &o.spec.workload_name {
                edges.to(Kind::Workload, workload);
                edges.class(Kind::ServiceClass, DEFAULT_CLASS);
            }
            edges.class(Kind::APIClass, &o.spec.class_name);
            if let Some(target) = o.spec.target.as_ref().and_then(|t| t.component_name.as_ref()) {
                edges.to(Kind::Component, target);
            }
        }
        AnyObject::Build(o) => edges.owner(&o.spec.owner),
        AnyObject::DeployableArtifact(o) => {
            if let Some(owner) = &o.spec.owner {
                edges.owner(owner);
            }
            if let Some(workload) = &o.spec.workload {
                edges.needs_of(workload);
            }
            if let Some(target) = o.spec.api.as_ref().and_then(|a| a.target_component.as_ref()) {
                edges.to(Kind::Component, target);
            }
        }
        AnyObject::ServiceBinding(o) => {
            edges.owner(&o.spec.owner);
            edges.to(Kind::Environment, &o.spec.environment);
            if edges.runs(o.spec.artifact_ref.as_deref(), o.spec.workload_spec.as_ref()) {
                edges.class(Kind::ServiceClass, &o.spec.class_name);
                edges.apis(o.spec.apis.values());
            }
        }
        AnyObject::WebApplicationBinding(o) => {
            edges.owner(&o.spec.owner);
            edges.to(Kind::Environment, &o.spec.environment);
            if edges.runs(o.spec.artifact_ref.as_deref(), o.spec.workload_spec.as_ref()) {
                edges.class(Kind::WebApplicationClass, &o.spec.class_name);
            }
        }
        AnyObject::ScheduledTaskBinding(o) => {
            edges.owner(&o.spec.owner);
            edges.to(Kind::Environment, &o.spec.environment);
            if edges.runs(o.spec.artifact_ref.as_deref(), o.spec.workload_spec.as_ref()) {
                edges.class(Kind::ScheduledTaskClass, &o.spec.class_name);
            }
        }
        AnyObject::APIBinding(o) => {
            if let Some(owner) = &o.spec.owner {
                edges.owner(owner);
            }
            edges.to(Kind::Environment, &o.spec.environment_name);
            edges.to(Kind::API, &o.spec.api_name);
            edges.class(Kind::APIClass, &o.spec.api_class_name);
            edges.runs(o.spec.artifact_ref.as_deref(), None);
        }
        AnyObject::ComponentBinding(o) => {
            // What a type and traits are to an inline binding, its component's own edges say.
            edges.owner(&o.spec.owner);
            edges.to(Kind::Environment, &o.spec.environment);
            edges.runs(o.spec.artifact_ref.as_deref(), o.spec.workload_spec.as_ref());
        }
        AnyObject::Promotion(o) => {
            edges.owner(&o.spec.owner);
            edges.to(Kind::Environment, &o.spec.target_environment);
            for artifact in [
                o.spec.artifact_ref.as_deref(),
                o.status.as_ref().and_then(|s| s.artifact.as_deref()),
                o.status.as_ref().and_then(|s| s.previous_artifact.as_deref()),
            ] {
                // What has ended needs its artifacts only as names.
                if !crate::promotion::is_over(o) {
                    edges.to(Kind::DeployableArtifact, artifact.unwrap_or_default());
                }
            }
        }
        AnyObject::PromotionDecision(o) => edges.to(Kind::Promotion, &o.spec.promotion_ref),
        AnyObject::PromotionBypass(o) => edges.to(Kind::Promotion, &o.spec.promotion_ref),
        AnyObject::Deployment(o) => {
            if let Some(owner) = &o.spec.owner {
                edges.owner(owner);
            }
            if let Some((kind, name)) = o
                .spec
                .binding_ref
                .as_ref()
                .and_then(|r| Some((binding_kind(&r.kind)?, &r.name)))
            {
                edges.to(kind, name);
            }
            edges.to(
                Kind::DeployableArtifact,
                o.spec.deployment_artifact_ref.as_deref().unwrap_or_default(),
            );
        }
        AnyObject::Release(o) => {
            edges.to(Kind::Environment, &o.spec.environment_name);
            if let Some(resource) = crate::plans::managed_resource::of_release(o) {
                edges.to(Kind::ManagedResource, &resource.key.name);
            }
        }
        AnyObject::Endpoint(o) => edges.to(
            Kind::Component,
            crate::expose::component_of(o).unwrap_or_default(),
        ),
    }
    edges.out
}

/// The kind of binding with this name.
pub(crate) fn binding_kind(name: &str) -> Option<Kind> {
    crate::binding::KINDS.into_iter().find(|k| k.as_str() == name)
}

/// Whether a track is the one that exists without an object.
pub(crate) fn is_default_track(track: &str) -> bool {
    track.is_empty() || track == DEFAULT_TRACK
}
