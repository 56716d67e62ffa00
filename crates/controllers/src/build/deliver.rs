//! From a build's image to the component's workload.

use choreo_api::conditions::{self, Condition, reasons, types};
use choreo_api::labels;
use choreo_api::v1alpha1::Build;
use choreo_engine::build::{self as plan, Outcome};
use choreo_engine::world::{Kind, ObjectRef as EngineRef};
use kube::ResourceExt as _;

use super::{Builds, Subject};
use crate::runtime::{GroupKind, Retry};
use crate::view::ControlSnapshot;
use crate::write::{Applied, Failure};

/// What became of the image.
pub(super) struct Delivered {
    /// The condition that says it.
    pub(super) condition: Condition,
    /// The workload that has it.
    pub(super) workload: Option<String>,
}

fn outcome(reason: &str, message: impl Into<String>) -> Delivered {
    Delivered {
        condition: Condition::new(types::WORKLOAD_UPDATED, false, reason, message),
        workload: None,
    }
}

/// A build of the same component that was made later and has delivered already.
fn newer(snapshot: &ControlSnapshot, build: &Build) -> Option<String> {
    let component = EngineRef::new(
        Kind::Component,
        build.namespace().unwrap_or_default(),
        build.spec.owner.component_name.clone(),
    );
    let age = |build: &Build| (build.creation_timestamp(), build.name_any());
    snapshot
        .view
        .world
        .referring::<Build>(&component)
        .filter(|other| age(other) > age(build))
        .find(|other| {
            let status = other.status.as_ref();
            status.is_some_and(|status| conditions::is_true(&status.conditions, types::WORKLOAD_UPDATED))
        })
        .map(|other| other.name_any())
}

impl Builds {
    pub(super) async fn deliver(
        &self,
        snapshot: &ControlSnapshot,
        subject: &Subject,
        made: &Outcome,
    ) -> Result<Delivered, Retry> {
        if let Some(newer) = newer(snapshot, &subject.build) {
            let message = format!("Build {newer:?} was made later, and its image is in the workload");
            return Ok(outcome(reasons::SUPERSEDED, message));
        }
        let target = match plan::workload(&snapshot.view.world, &subject.build, made) {
            Ok(target) => target,
            Err(problems) => {
                let condition = problems.condition();
                let reason = condition.map_or(reasons::INVALID.to_owned(), |condition| condition.reason);
                return Ok(outcome(&reason, problems.message()));
            }
        };
        let name = target.object["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let write = async {
            let kind = GroupKind::new(labels::GROUP, Kind::Workload.as_str());
            let resource = self.context.resource(&kind)?;
            self.context
                .control
                // Of a person's workload only the image is taken; of one's own nothing that somebody has changed since.
                .apply(resource, &self.manager, &target.object, target.by_hand)
                .await
        };
        match write.await {
            Ok(Applied::Written | Applied::Unchanged) => {
                let mut message = format!("Workload {name:?} runs the image");
                if !target.note.is_empty() {
                    message = format!("{message}; {}", target.note);
                }
                Ok(Delivered {
                    condition: Condition::new(types::WORKLOAD_UPDATED, true, reasons::SUCCEEDED, message),
                    workload: Some(name),
                })
            }
            Ok(Applied::Deleting) => Ok(outcome(
                reasons::WAITING,
                format!("Workload {name:?} is being deleted: build again once it is gone"),
            )),
            Err(failure) if failure.is_passing() || matches!(failure, Failure::NotFound(_)) => {
                Err(failure.while_doing(&format!("write Workload {name:?} of {}", subject.name())))
            }
            Err(failure @ Failure::FieldsOwned(_)) => Ok(outcome(
                reasons::APPLY_FAILED,
                format!("Workload {name:?} was changed by somebody else, and is left alone: {failure}"),
            )),
            Err(failure) => Ok(outcome(
                reasons::APPLY_FAILED,
                format!("Workload {name:?} could not be written: {failure}"),
            )),
        }
    }
}
