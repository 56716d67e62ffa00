//! The kinds that have no plan of their own: what developers write and a component's plan reads, and what this version
//! accepts but does not act upon. Each still says where it stands, so that nothing waits without a reason.

use std::sync::Arc;

use choreo_api::conditions::{Condition, ConditionStatus, reasons, types};
use choreo_api::labels;
use choreo_api::v1alpha1::{Component, ComponentKind};
use choreo_engine::world::{Kind, ObjectRef as EngineRef};
use kube::core::DynamicObject;
use serde_json::{Value, json};

use crate::context::Context;
use crate::runtime::{Change, Next, ObjectRef, Reconcile, Retry};
use crate::view::{ControlSnapshot, object_ref};

/// Name of the controller.
pub const NAME: &str = "inputs";

/// Kinds that the plan of their component reads.
const PARTS: &[Kind] = &[
    Kind::Workload,
    Kind::Service,
    Kind::WebApplication,
    Kind::ScheduledTask,
    Kind::API,
    Kind::DeploymentTrack,
    Kind::DeployableArtifact,
];

/// Kinds that are checked and stored, and that nothing acts upon yet.
const NOT_YET_SUPPORTED: &[&str] = &["GitCommitRequest"];

/// Kinds that say something about a promotion.
const ABOUT_PROMOTIONS: &[&str] = &["PromotionDecision", "PromotionBypass"];

fn is_part(kind: &str) -> bool {
    PARTS.iter().any(|part| part.as_str() == kind)
}

/// Whether this controller looks after a kind.
pub fn is_input(object: &ObjectRef) -> bool {
    let kind = object.kind.kind.as_str();
    let known = [NOT_YET_SUPPORTED, ABOUT_PROMOTIONS]
        .iter()
        .any(|kinds| kinds.contains(&kind));
    object.kind.group == labels::GROUP && (is_part(kind) || known)
}

/// The inputs that a change concerns.
pub fn affected_by(after: &ControlSnapshot, change: &Change) -> Vec<ObjectRef> {
    if is_input(&change.object) {
        return vec![change.object.clone()];
    }
    // What was said about a promotion may have been there before it.
    if change.object.kind.group == labels::GROUP && change.object.kind.kind == Kind::Promotion.as_str() {
        let promotion = EngineRef::new(
            Kind::Promotion,
            change.object.namespace.clone(),
            change.object.name.clone(),
        );
        if change.before.is_some() == change.after.is_some() {
            return vec![];
        }
        return after
            .view
            .world
            .referrers(&promotion)
            .map(object_ref)
            .filter(is_input)
            .collect();
    }
    let is_component =
        change.object.kind.group == labels::GROUP && change.object.kind.kind == Kind::Component.as_str();
    // Parts say whether their component exists and is of their type, and nothing else about it.
    let type_of = |object: &Option<Arc<DynamicObject>>| {
        object
            .as_ref()
            .map(|component| component.data.pointer("/spec/type").cloned())
    };
    if !is_component || type_of(&change.before) == type_of(&change.after) {
        return vec![];
    }
    let component = EngineRef::new(
        Kind::Component,
        change.object.namespace.clone(),
        change.object.name.clone(),
    );
    after
        .view
        .world
        .referrers(&component)
        .filter(|referrer| PARTS.contains(&referrer.kind))
        .map(object_ref)
        .collect()
}

/// See the module's documentation.
pub struct Inputs {
    context: Arc<Context>,
}

impl Inputs {
    /// A controller over `context`.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}

impl Reconcile for Inputs {
    type Key = ObjectRef;

    fn name(&self) -> &'static str {
        NAME
    }

    async fn reconcile(&self, object: &ObjectRef) -> Result<Next, Retry> {
        let snapshot = self.context.snapshot();
        let Some(live) = snapshot
            .get(object)
            .filter(|live| live.metadata.deletion_timestamp.is_none())
        else {
            return Ok(Next::Settled);
        };
        let generation = live.metadata.generation;
        let condition = if is_part(&object.kind.kind) {
            part(&snapshot, object, &live)
        } else if ABOUT_PROMOTIONS.contains(&object.kind.kind.as_str()) {
            match crate::promotion::about(&snapshot, &live) {
                Ok(message) => Condition::ready(message),
                Err(message) => Condition::not_ready(reasons::NOT_FOUND, message),
            }
        } else {
            not_yet_supported(&object.kind.kind)
        };
        let status = json!({
            "observedGeneration": generation,
            "conditions": [condition.observed(generation)],
        });
        self.context.report(NAME, &live, status).await?;
        Ok(Next::Settled)
    }
}

fn part(snapshot: &ControlSnapshot, object: &ObjectRef, live: &DynamicObject) -> Condition {
    let owner = live
        .data
        .pointer("/spec/owner/componentName")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if owner.is_empty() {
        return Condition::new(types::READY, true, reasons::READY, "belongs to no component");
    }
    let component = snapshot.view.world.get::<Component>(&object.namespace, owner);
    let Some(component) = component else {
        let message = format!(
            "Component {owner:?} not found in namespace {:?}: create it",
            object.namespace
        );
        return Condition::not_ready(reasons::COMPONENT_NOT_FOUND, message);
    };
    if !is_used_by(component.spec.kind(), &object.kind.kind) {
        let message = format!(
            "not used, because Component {owner:?} is of type {:?}: delete this {}, or make a component of its own for it",
            component.spec.type_, object.kind.kind
        );
        return Condition::not_ready(reasons::NOT_SUPPORTED, message);
    }
    Condition::ready(format!(
        "part of Component {owner:?}, whose conditions say what became of it"
    ))
}

/// Whether a component of a type is made of parts of this kind.
fn is_used_by(component: ComponentKind<'_>, part: &str) -> bool {
    match part {
        "Service" => component == ComponentKind::Service,
        "WebApplication" => component == ComponentKind::WebApplication,
        "ScheduledTask" => matches!(
            component,
            ComponentKind::ScheduledTask | ComponentKind::ManualTask
        ),
        // An API may stand in front of a component of any type.
        _ => true,
    }
}

fn not_yet_supported(kind: &str) -> Condition {
    Condition::new(
        types::READY,
        ConditionStatus::Unknown,
        "NotYetSupported",
        format!(
            "{kind} objects are checked and stored, but this version of Choreo does not act upon them yet"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::targets::CONTROLLERS;

    #[test]
    fn every_kind_has_one_controller() {
        let special = ["Build", "BuildPlane", "DataPlane", "Promotion", "Release"];
        for kind in choreo_api::KINDS {
            let planned = CONTROLLERS
                .iter()
                .any(|(_, kinds)| kinds.iter().any(|k| k.as_str() == *kind));
            let input = is_input(&ObjectRef::new(labels::GROUP, kind, "", ""));
            let number = usize::from(planned) + usize::from(input) + usize::from(special.contains(kind));
            assert_eq!(number, 1, "{kind}");
        }
    }
}
