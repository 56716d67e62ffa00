//! Which plans to make again when an object changes.
//!
//! The order in which objects are applied does not matter because every plan is made again when anything that it reads
//! appears, changes or goes. This module is the other side of every look-up in a plan: to read something new there
//! means to add it here.

use std::collections::BTreeSet;

use choreo_api::labels::PLATFORM_NAMESPACE;
use choreo_api::names;
use choreo_api::v1alpha1::{
    ComponentSpec, Deployment, Endpoint, Environment, Project, Promotion, Release, ResourceStatus,
    WorkloadTemplate,
    common::{Condition, EndpointType},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;

use crate::{
    binding::{self, Binding},
    expose, freeze,
    plan::Target,
    plans::{managed_resource, project},
    world::{AnyObject, Key, Kind, ObjectRef, World, target_component},
};

/// The kinds that are the typed part of a component.
const TYPED: [Kind; 4] = [
    Kind::Service,
    Kind::WebApplication,
    Kind::ScheduledTask,
    Kind::API,
];

/// The targets whose plans read an object, found in worlds before and after its change.
///
/// A change of nothing but the status concerns only those who read that status.
pub fn by_change(before: &World, after: &World, changed: &ObjectRef) -> BTreeSet<Target> {
    let (old, new) = (before.get_any(changed), after.get_any(changed));
    let status_only = matches!((&old, &new), (Some(old), Some(new)) if is_status_only(old, new));
    if status_only {
        if let (Some(AnyObject::Release(old)), Some(AnyObject::Release(new))) = (&old, &new)
            && tells_the_same(old, new)
        {
            return BTreeSet::new();
        }
        let mut readers = Affected::in_world(after);
        if let (Some(AnyObject::Deployment(old)), Some(AnyObject::Deployment(new))) = (&old, &new)
            && is_proven(old) != is_proven(new)
            && let Some(binding) = &new.spec.binding_ref
            && let Some(kind) = crate::world::binding_kind(&binding.kind)
        {
            // What has run well may be gone back to.
            readers.add(ObjectRef::new(
                kind,
                changed.key.namespace.as_str(),
                binding.name.as_str(),
            ));
        }
        return readers.by_status(changed);
    }
    let mut all = Affected::in_world(after).by(changed);
    all.extend(Affected::in_world(before).by(changed));
    all
}

/// The targets whose plans read an object, as it is (or was last) in this world.
pub fn affected(world: &World, changed: &ObjectRef) -> BTreeSet<Target> {
    Affected::in_world(world).by(changed)
}

/// Every target there is, for the first round.
pub fn all(world: &World) -> BTreeSet<Target> {
    let mut targets: BTreeSet<Target> = world.references().map(Target::Object).filter(has_plan).collect();
    for project in world.all::<Project>() {
        let reference = ObjectRef::new(
            Kind::Project,
            project.namespace().unwrap_or_default(),
            project.name_any(),
        );
        targets.extend(
            project::environments(world, &reference)
                .into_iter()
                .map(|e| cell(&reference, e)),
        );
    }
    targets
}

/// Plain inputs have no plan of their own.
fn has_plan(target: &Target) -> bool {
    let plain = [
        Kind::DeploymentTrack,
        Kind::Workload,
        Kind::Service,
        Kind::WebApplication,
        Kind::ScheduledTask,
        Kind::API,
        Kind::Build,
        Kind::DeployableArtifact,
        Kind::Release,
        Kind::Promotion,
        Kind::PromotionDecision,
        Kind::PromotionBypass,
    ];
    target.as_object().is_none_or(|r| !plain.contains(&r.kind))
}

fn cell(project: &ObjectRef, environment: String) -> Target {
    Target::Cell {
        namespace: project.key.namespace.clone(),
        project: project.key.name.clone(),
        environment,
    }
}

/// Whether only the status differs, and nothing in it that plans of others read.
fn is_status_only(old: &AnyObject, new: &AnyObject) -> bool {
    let same = old.meta().generation.is_some() && same_but_status(old.meta(), new.meta());
    let features = |o: &AnyObject| match o {
        AnyObject::DataPlane(p) => p.status.as_ref().and_then(|s| s.features.clone()),
        _ => None,
    };
    same && features(old) == features(new)
}

/// Whether the status of a component's release says nothing new to those who read it: an inventory is for the release's own
/// controller, and what was said of another generation is said of nothing.
fn tells_the_same(old: &Release, new: &Release) -> bool {
    fn told(release: &Release) -> (&[Condition], &[ResourceStatus]) {
        let status = release.status.as_ref();
        let current = status.filter(|s| s.observed_generation == release.metadata.generation);
        (
            current.map_or(&[], |s| &s.conditions),
            status.map_or(&[], |s| &s.resources),
        )
    }
    new.spec.owner.component_name.is_some() && told(old) == told(new)
}

fn is_proven(deployment: &Deployment) -> bool {
    deployment.status.as_ref().is_some_and(|status| status.proven)
}

/// Whether two states of an object differ in nothing but the status, as far as metadata tell. Without a generation they tell nothing
/// of the spec.
pub fn same_but_status(a: &ObjectMeta, b: &ObjectMeta) -> bool {
    a.uid == b.uid
        && a.generation == b.generation
        && a.deletion_timestamp == b.deletion_timestamp
        && a.labels == b.labels
        && a.annotations == b.annotations
        && a.finalizers == b.finalizers
        && a.owner_references == b.owner_references
}

struct Affected<'a> {
    world: &'a World,
    targets: BTreeSet<Target>,
}

impl<'a> Affected<'a> {
    fn in_world(world: &'a World) -> Self {
        Self {
            world,
            targets: BTreeSet::new(),
        }
    }

    fn add(&mut self, reference: ObjectRef) {
        let target = Target::Object(reference);
        if has_plan(&target) {
            self.targets.insert(target);
        }
    }

    fn referrers(&self, reference: &ObjectRef, kinds: &[Kind]) -> Vec<ObjectRef> {
        self.world
            .referrers(reference)
            .filter(|r| kinds.contains(&r.kind))
            .cloned()
            .collect()
    }

    fn add_referrers(&mut self, reference: &ObjectRef, kinds: &[Kind]) {
        for referrer in self.referrers(reference, kinds) {
            self.add(referrer);
        }
    }

    /// Who reads the status of an object.
    fn by_status(mut self, changed: &ObjectRef) -> BTreeSet<Target> {
        self.add(changed.clone());
        match self.world.get_any(changed) {
            Some(AnyObject::Release(release)) => self.readers_of_release(changed, &release, true),
            Some(AnyObject::Promotion(promotion)) => self.readers_of_promotion(changed, &promotion),
            Some(object) => {
                if let Some(binding) = Binding::of(self.world, &object) {
                    self.readers_of_status(&binding);
                }
            }
            None => {}
        }
        self.targets
    }

    fn by(mut self, changed: &ObjectRef) -> BTreeSet<Target> {
        self.add(changed.clone());
        let Key { namespace, name } = &*changed.key;
        match changed.kind {
            Kind::Organization => {
                let projects: Vec<ObjectRef> = self
                    .world
                    .in_namespace::<Project>(name)
                    .map(|p| ObjectRef::new(Kind::Project, name, p.name_any()))
                    .collect();
                projects.iter().for_each(|p| self.cells_and_bindings(p));
            }
            Kind::DataPlane => {
                for environment in self.referrers(changed, &[Kind::Environment]) {
                    self.add(environment.clone());
                    self.environment(&environment);
                }
            }
            Kind::Environment => {
                self.environment(changed);
                // Two must not have the same host.
                let others = self.world.in_namespace::<Environment>(namespace);
                let others: Vec<ObjectRef> = others
                    .map(|other| ObjectRef::new(Kind::Environment, namespace, other.name_any()))
                    .collect();
                others.into_iter().for_each(|other| self.add(other));
            }
            Kind::DeploymentPipeline => {
                for project in self.referrers(changed, &[Kind::Project]) {
                    self.add(project.clone());
                    self.cells_and_bindings(&project);
                    self.add_referrers(&project, &[Kind::Component]);
                }
            }
            Kind::Project => {
                self.cells_and_bindings(changed);
                for component in self.referrers(changed, &[Kind::Component]) {
                    // Who calls it needs its cell.
                    self.consumers(&component.key.namespace, &component.key.name, None);
                    self.add(component);
                }
            }
            Kind::Component => {
                self.bindings_of(namespace, name, None);
                self.consumers(namespace, name, None);
                self.add_referrers(changed, &[Kind::Endpoint]);
                // Its project counts its components, and so do its type and its traits.
                if let Some(AnyObject::Component(component)) = self.world.get_any(changed) {
                    self.types_of(namespace, &component.spec);
                    self.add(ObjectRef::new(
                        Kind::Project,
                        namespace,
                        &component.spec.owner.project_name,
                    ));
                }
            }
            Kind::DeploymentTrack
            | Kind::Workload
            | Kind::Service
            | Kind::WebApplication
            | Kind::ScheduledTask
            | Kind::API
            | Kind::Build => {
                self.component_of(changed);
                // A Service names its workload, whoever that says it belongs to.
                for part in self.referrers(changed, &TYPED) {
                    self.component_of(&part);
                }
                // The binding of an API may leave to the API whose it is, and what it opens.
                for binding in self.referrers(changed, &[Kind::APIBinding]) {
                    self.binding(&binding);
                }
            }
            Kind::ServiceClass
            | Kind::WebApplicationClass
            | Kind::ScheduledTaskClass
            | Kind::APIClass
            | Kind::ComponentType
            | Kind::Trait => {
                let users = self
                    .world
                    .referrers(changed)
                    .filter(|r| TYPED.contains(&r.kind) || r.kind == Kind::Workload);
                for user in users.cloned().collect::<Vec<_>>() {
                    self.component_of(&user);
                }
                for component in self.referrers(changed, &[Kind::Component]) {
                    self.bindings_of(&component.key.namespace, &component.key.name, None);
                    self.add(component);
                }
                for binding in self.referrers(changed, &binding::KINDS) {
                    self.binding_and_consumers(&binding);
                }
            }
            Kind::ResourceType => {
                for resource in self.referrers(changed, &[Kind::ManagedResource]) {
                    self.users_of(&resource);
                    self.add(resource);
                }
                self.users_of(changed);
            }
            Kind::ManagedResource => {
                self.users_of(changed);
                if let Some(AnyObject::ManagedResource(resource)) = self.world.get_any(changed) {
                    let names = [namespace.as_str(), PLATFORM_NAMESPACE];
                    for namespace in names {
                        self.add(ObjectRef::new(
                            Kind::ResourceType,
                            namespace,
                            &resource.spec.type_,
                        ));
                    }
                }
            }
            Kind::ConfigurationGroup => {
                for artifact in self.referrers(changed, &[Kind::DeployableArtifact]) {
                    self.add_referrers(&artifact, &binding::KINDS);
                }
                self.add_referrers(changed, &binding::KINDS);
            }
            Kind::DeployableArtifact => {
                self.component_of(changed);
                for binding in self.referrers(changed, &binding::KINDS) {
                    // What it needs may be a resource of the cell.
                    self.cell_of(&binding);
                    self.binding_and_consumers(&binding);
                }
            }
            Kind::ServiceBinding
            | Kind::WebApplicationBinding
            | Kind::ScheduledTaskBinding
            | Kind::APIBinding
            | Kind::ComponentBinding => self.binding(changed),
            Kind::Promotion => {
                if let Some(AnyObject::Promotion(promotion)) = self.world.get_any(changed) {
                    self.readers_of_promotion(changed, &promotion);
                    self.add(ObjectRef::new(
                        Kind::Component,
                        namespace,
                        &promotion.spec.owner.component_name,
                    ));
                }
            }
            Kind::PromotionDecision | Kind::PromotionBypass => {
                // Its component sees to it that it goes with its promotion.
                let promotion = match self.world.get_any(changed) {
                    Some(AnyObject::PromotionDecision(o)) => o.spec.promotion_ref.clone(),
                    Some(AnyObject::PromotionBypass(o)) => o.spec.promotion_ref.clone(),
                    _ => return self.targets,
                };
                if let Some(promotion) = self.world.get::<Promotion>(namespace, &promotion) {
                    let component = promotion.spec.owner.component_name.clone();
                    self.add(ObjectRef::new(Kind::Component, namespace, component));
                }
            }
            Kind::Deployment => {
                if let Some(AnyObject::Deployment(deployment)) = self.world.get_any(changed)
                    && let Some(binding) = &deployment.spec.binding_ref
                    && let Some(kind) = crate::world::binding_kind(&binding.kind)
                {
                    let binding = ObjectRef::new(kind, namespace, &binding.name);
                    // The one before is the newest no longer.
                    self.add_referrers(&binding, &[Kind::Deployment]);
                    self.add(binding);
                }
            }
            Kind::Release => {
                if let Some(AnyObject::Release(release)) = self.world.get_any(changed) {
                    self.readers_of_release(changed, &release, false);
                }
            }
            Kind::Endpoint => self.endpoint(changed),
        }
        self.targets
    }

    /// The bindings that run, or do not, what a promotion says.
    fn readers_of_promotion(&mut self, changed: &ObjectRef, promotion: &Promotion) {
        let spec = &promotion.spec;
        let name = names::binding(&spec.owner.component_name, spec.track(), &spec.target_environment);
        for kind in binding::KINDS {
            let binding = ObjectRef::new(kind, &changed.key.namespace, &name);
            if self.world.contains(&binding) {
                self.cell_of(&binding);
                self.binding_and_consumers(&binding);
            }
        }
    }

    /// The bindings that use a managed resource, or a type of them, and the cells that it runs in because of them.
    fn users_of(&mut self, resource: &ObjectRef) {
        let mut bindings = self.referrers(resource, &binding::KINDS);
        for artifact in self.referrers(resource, &[Kind::DeployableArtifact]) {
            bindings.extend(self.referrers(&artifact, &binding::KINDS));
        }
        for binding in bindings {
            self.cell_of(&binding);
            self.add(binding);
        }
    }

    /// The cell that a binding runs in.
    fn cell_of(&mut self, binding: &ObjectRef) {
        if let Some(head) = binding::head(self.world, binding) {
            let project = ObjectRef::new(Kind::Project, &binding.key.namespace, &head.owner.project_name);
            self.targets.insert(cell(&project, head.environment.to_owned()));
        }
    }

    /// The type and the traits of a component.
    fn types_of(&mut self, namespace: &str, component: &ComponentSpec) {
        let type_ = (Kind::ComponentType, component.type_.as_str());
        let traits = component.traits.iter().map(|t| (Kind::Trait, t.name.as_str()));
        for (kind, name) in std::iter::once(type_).chain(traits) {
            for namespace in [namespace, PLATFORM_NAMESPACE] {
                let reference = ObjectRef::new(kind, namespace, name);
                if self.world.contains(&reference) {
                    self.add(reference);
                }
            }
        }
    }

    fn environment(&mut self, environment: &ObjectRef) {
        self.add_referrers(environment, &[Kind::DeploymentPipeline, Kind::ConfigurationGroup]);
        for reference in self.referrers(environment, &binding::KINDS) {
            if let Some(head) = binding::head(self.world, &reference) {
                let project =
                    ObjectRef::new(Kind::Project, &reference.key.namespace, &head.owner.project_name);
                self.targets.insert(cell(&project, head.environment.to_owned()));
                self.add(project);
            }
            self.add(reference);
        }
    }

    fn cells_and_bindings(&mut self, project: &ObjectRef) {
        for reference in binding::referring(self.world, project) {
            let Some(head) = binding::head(self.world, reference) else {
                continue;
            };
            self.targets.insert(cell(project, head.environment.to_owned()));
            self.add(reference.clone());
        }
    }

    fn bindings_of(&mut self, namespace: &str, component: &str, environment: Option<&str>) {
        let component = ObjectRef::new(Kind::Component, namespace, component);
        for reference in binding::referring(self.world, &component) {
            let is_one = binding::head(self.world, reference).is_some_and(|h| {
                h.owner.component_name == component.key.name && environment.is_none_or(|e| e == h.environment)
            });
            if is_one {
                self.add(reference.clone());
            }
        }
    }

    /// The bindings whose connections lead to a component.
    fn consumers(&mut self, namespace: &str, component: &str, environment: Option<&str>) {
        let target = ObjectRef::new(Kind::Component, namespace, component);
        let mut found = self.referrers(&target, &binding::KINDS);
        for artifact in self.referrers(&target, &[Kind::DeployableArtifact]) {
            found.extend(self.referrers(&artifact, &binding::KINDS));
        }
        // An API in front of the component, whose binding says itself what runs.
        for api in self.referrers(&target, &[Kind::API]) {
            found.extend(self.referrers(&api, &binding::KINDS));
        }
        for reference in found {
            let here = binding::head(self.world, &reference)
                .is_some_and(|h| environment.is_none_or(|e| e == h.environment));
            if here {
                self.add(reference);
            }
        }
    }

    /// Everything that a binding coming, changing or going means.
    fn binding(&mut self, changed: &ObjectRef) {
        let Key { namespace, name } = &*changed.key;
        self.binding_and_consumers(changed);
        // A revision without a release says whether one is to be expected.
        self.add_referrers(changed, &[Kind::Deployment]);
        for rival in binding::KINDS {
            let rival = ObjectRef::new(rival, namespace, name);
            if self.world.contains(&rival) {
                self.add(rival);
            }
        }
        if let Some(binding) = Binding::find(self.world, changed) {
            let project = ObjectRef::new(Kind::Project, namespace, &binding.owner.project_name);
            self.targets.insert(cell(&project, binding.environment.clone()));
            self.add(project);
            self.readers_of_status(&binding);
            self.providers(&binding);
        }
    }

    fn binding_and_consumers(&mut self, reference: &ObjectRef) {
        self.add(reference.clone());
        if let Some(binding) = Binding::find(self.world, reference) {
            self.consumers(
                binding.namespace(),
                &binding.owner.component_name,
                Some(&binding.environment),
            );
        }
    }

    /// The components that a binding connects to: what they open may depend on it.
    fn providers(&mut self, binding: &Binding) {
        let Ok(source) = binding.source(self.world) else {
            return;
        };
        for connection in source.workload.iter().flat_map(|w| w.connections.values()) {
            if let Some(component) = target_component(connection) {
                self.bindings_of(binding.namespace(), component, Some(&binding.environment));
            }
        }
    }

    fn readers_of_status(&mut self, binding: &Binding) {
        let component = ObjectRef::new(
            Kind::Component,
            binding.namespace(),
            &binding.owner.component_name,
        );
        let endpoints: Vec<ObjectRef> = self
            .world
            .referring::<Endpoint>(&component)
            .filter(|e| {
                e.spec
                    .environment
                    .as_ref()
                    .is_none_or(|e| *e == binding.environment)
            })
            .map(|e| ObjectRef::new(Kind::Endpoint, binding.namespace(), e.name_any()))
            .collect();
        endpoints.into_iter().for_each(|e| self.add(e));
        self.add(component);
    }

    /// The status alone is read by the revision that runs; that it does not run, another one knows from the spec.
    fn readers_of_release(&mut self, reference: &ObjectRef, release: &Release, status_only: bool) {
        let namespace = &reference.key.namespace;
        if release.spec.owner.component_name.is_some() {
            if let Some(deployment) = &release.spec.deployment_ref {
                self.add(ObjectRef::new(Kind::Deployment, namespace, deployment));
            }
            for kind in binding::KINDS {
                let binding = ObjectRef::new(kind, namespace, &reference.key.name);
                if self.world.contains(&binding) {
                    if !status_only {
                        self.add_referrers(&binding, &[Kind::Deployment]);
                    }
                    self.add(binding);
                }
            }
        } else {
            let project = ObjectRef::new(Kind::Project, namespace, &release.spec.owner.project_name);
            self.targets
                .insert(cell(&project, release.spec.environment_name.clone()));
            self.add(project);
            if let Some(resource) = managed_resource::of_release(release) {
                self.add(resource);
            }
        }
    }

    fn component_of(&mut self, part: &ObjectRef) {
        for component in self.world.get_any(part).iter().flat_map(owner_component) {
            self.add(ObjectRef::new(Kind::Component, &part.key.namespace, component));
        }
    }

    /// Everything that may want a raw listener of a gateway, of which each leads to one endpoint only.
    fn rivals(&mut self, namespace: &str) {
        let raw = |w: &WorkloadTemplate| {
            w.endpoints
                .values()
                .any(|e| matches!(e.type_, EndpointType::TCP | EndpointType::UDP))
        };
        let bindings: Vec<ObjectRef> = self
            .world
            .iter()
            .map(|o| o.reference())
            .filter(|r| r.key.namespace == namespace && binding::KINDS.contains(&r.kind))
            .collect();
        for reference in bindings {
            let source = Binding::find(self.world, &reference).and_then(|b| b.source(self.world).ok());
            if source.is_some_and(|s| s.workload.as_ref().is_some_and(raw)) {
                self.add(reference);
            }
        }
    }

    fn endpoint(&mut self, reference: &ObjectRef) {
        let Some(AnyObject::Endpoint(endpoint)) = self.world.get_any(reference) else {
            return;
        };
        let Some(component) = expose::component_of(&endpoint) else {
            return;
        };
        let environment = endpoint.spec.environment.as_deref();
        self.bindings_of(&reference.key.namespace, component, environment);
        if matches!(
            endpoint.spec.endpoint_type(),
            Some(EndpointType::TCP | EndpointType::UDP)
        ) {
            self.rivals(&reference.key.namespace);
        }
        if !expose::is_derived(&endpoint) {
            self.consumers(&reference.key.namespace, component, environment);
            // It goes with its component, which sees to that.
            let component = ObjectRef::new(Kind::Component, &reference.key.namespace, component);
            self.add(component);
        }
    }
}

fn owner_component(object: &AnyObject) -> Option<String> {
    let owner = match object {
        AnyObject::DeploymentTrack(o) => return freeze::track_component(o).map(str::to_owned),
        AnyObject::Workload(o) => Some(&o.spec.owner),
        AnyObject::Service(o) => Some(&o.spec.owner),
        AnyObject::WebApplication(o) => Some(&o.spec.owner),
        AnyObject::ScheduledTask(o) => Some(&o.spec.owner),
        AnyObject::API(o) => Some(&o.spec.owner),
        AnyObject::Build(o) => Some(&o.spec.owner),
        AnyObject::DeployableArtifact(o) => o.spec.owner.as_ref(),
        _ => None,
    };
    owner.map(|o| o.component_name.clone())
}
