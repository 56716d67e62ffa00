//! The build controller: runs a Build as a workflow in its build plane, and writes the image that comes of it into the component's
//! workload.
//!
//! ```text
//!   check     pure: what stands in the way                         -> Ready=False, saying so
//!   start     namespace, service account, role, then the workflow  -> Started
//!   follow    the workflow is watched in the build plane           -> Completed, with the failed step's message
//!   deliver   the image into the workload, by server-side apply    -> WorkloadUpdated
//! ```
//!
//! A build runs once and writes once. What somebody does to the workload afterwards is theirs, and a newer build's image is never
//! replaced by an older one's.

mod deliver;
mod status;

use std::sync::Arc;

use choreo_api::conditions::{self, reasons, types};
use choreo_api::v1alpha1::Build;
use choreo_api::{finalizers, labels};
use choreo_engine::build::{self as plan, Progress};
use choreo_engine::problem::Problem;
use choreo_engine::world::{Kind, ObjectRef as EngineRef};
use kube::ResourceExt as _;
use kube::core::DynamicObject;
use serde_json::{Value, json};

use crate::buildplane;
use crate::context::Context;
use crate::planes::{Plane, PlaneId};
use crate::runtime::object::gvk_of;
use crate::runtime::{Change, Key, Next, ObjectRef, Reconcile, Retry};
use crate::view::ControlSnapshot;
use crate::write::{Applied, Failure};

use status::Report;

/// Name of the controller.
pub const NAME: &str = "build";

/// The BuildPlane that is used when there are several.
const USUAL_PLANE: &str = "default";

/// See the module's documentation.
pub struct Builds {
    context: Arc<Context>,
    manager: String,
}

/// One build in one run.
struct Subject {
    build: Arc<Build>,
    live: Arc<DynamicObject>,
}

impl Subject {
    fn name(&self) -> String {
        format!("Build {:?}", self.build.name_any())
    }
}

fn address(key: &Key) -> ObjectRef {
    ObjectRef::new(labels::GROUP, Kind::Build.as_str(), &key.namespace, &key.name)
}

/// The builds that an object of the control plane concerns.
pub fn affected_by(after: &ControlSnapshot, object: &ObjectRef) -> Vec<Key> {
    let world = &after.view.world;
    let key = |build: &Arc<Build>| Key::new(&object.namespace, &build.name_any());
    match object.kind.kind.as_str() {
        "Build" => vec![object.key()],
        "BuildPlane" => world
            .keys_in::<Build>(&object.namespace)
            .map(|build| Key::new(&object.namespace, &build.name))
            .collect(),
        // Its component, and the parts that say which workload it runs.
        _ => {
            let Some(live) = after.get(object) else {
                return vec![];
            };
            let component = match object.kind.kind.as_str() {
                "Component" => Some(object.name.as_str()),
                _ if live.data.pointer("/spec/workloadName").is_some() => live
                    .data
                    .pointer("/spec/owner/componentName")
                    .and_then(Value::as_str),
                _ => None,
            };
            let Some(component) = component else {
                return vec![];
            };
            let component = EngineRef::new(Kind::Component, object.namespace.clone(), component);
            world.referring::<Build>(&component).map(key).collect()
        }
    }
}

/// The build of a workflow that has changed in a build plane.
pub fn of_workflow(change: &Change) -> Option<Key> {
    let object = change.after.as_ref().or(change.before.as_ref())?;
    let labels = object.metadata.labels.as_ref()?;
    labels.get(labels::COMPONENT)?;
    // A name that is no label is hashed in both: the workflow's name tells it apart, and its label is what we look for.
    Some(Key::new(
        labels.get(labels::ORGANIZATION)?,
        labels.get(labels::NAME)?,
    ))
}

impl Builds {
    /// A controller over `context`.
    pub fn new(context: Arc<Context>) -> Self {
        Self {
            context,
            manager: labels::field_manager(NAME),
        }
    }

    async fn report(&self, subject: &Subject, report: Report) -> Result<Next, Retry> {
        let status = report.into_value(subject.build.metadata.generation);
        self.context.report(NAME, &subject.live, status).await?;
        Ok(Next::Settled)
    }

    /// The build plane of a build; the problem if there is none, nothing while it has not been tried yet.
    fn plane(&self, snapshot: &ControlSnapshot, namespace: &str) -> Result<Option<Arc<Plane>>, Problem> {
        let names = buildplane::names(snapshot, namespace);
        let name = match names.as_slice() {
            [] => {
                return Err(Problem::waiting(
                    reasons::BUILD_PLANE_NOT_FOUND,
                    format!(
                        "there is no BuildPlane in namespace {namespace:?}: create one named {USUAL_PLANE:?}"
                    ),
                ));
            }
            [only] => only,
            several => match several.iter().find(|name| *name == USUAL_PLANE) {
                Some(usual) => usual,
                None => {
                    return Err(Problem::waiting(
                        reasons::BUILD_PLANE_NOT_FOUND,
                        format!(
                            "there are several BuildPlanes ({}), and none is named {USUAL_PLANE:?}: rename the one to use",
                            several.join(", ")
                        ),
                    ));
                }
            },
        };
        let id = PlaneId::build(namespace, name);
        let refused = |why: String| {
            Err(Problem::waiting(
                reasons::UNREACHABLE,
                format!("BuildPlane {name:?} is not connected: {why}"),
            ))
        };
        match self.context.planes.get(&id) {
            Some(plane) => match plane.outage() {
                Some(outage) => refused(outage),
                None => Ok(Some(plane)),
            },
            None => match self.context.planes.refusal(&id) {
                Some(why) => refused(why),
                None => Ok(None),
            },
        }
    }

    /// Makes the workflow, and what it needs. A template of the builds' own namespace wins over one of the cluster.
    async fn start(&self, subject: &Subject, plane: &Plane, registry: Option<String>) -> Result<(), Failure> {
        let template = kube::core::GroupVersionKind::gvk("argoproj.io", "v1alpha1", "WorkflowTemplate");
        let own_template = match plane.served(&template).await {
            Some(served) => plane
                .applier()
                .get(
                    &served.resource,
                    &plan::namespace(&subject.build),
                    &subject.build.spec.template_ref.name,
                )
                .await?
                .is_some(),
            None => false,
        };
        let wanted = plan::Plane {
            registry,
            own_template,
        };
        for object in plan::objects(&subject.build, &wanted) {
            let served = match gvk_of(&object) {
                Some(gvk) => plane.served(&gvk).await,
                None => None,
            };
            let Some(served) = served else {
                let kind = object["kind"].as_str().unwrap_or_default();
                return Err(Failure::UnknownKind(format!(
                    "the build plane has no kind {kind}"
                )));
            };
            match plane
                .applier()
                .apply(&served.resource, &self.manager, &object, true)
                .await?
            {
                Applied::Written | Applied::Unchanged => {}
                Applied::Deleting => {
                    return Err(Failure::Terminating(format!(
                        "{} {} of the build plane is being deleted",
                        object["kind"], object["metadata"]["name"]
                    )));
                }
            }
        }
        Ok(())
    }

    /// Stops and removes the workflow of a build that is being deleted. A build plane that does not answer does not keep it.
    async fn finalize(&self, snapshot: &ControlSnapshot, subject: &Subject) -> Result<Next, Retry> {
        let namespace = subject.build.namespace().unwrap_or_default();
        if let Ok(Some(plane)) = self.plane(snapshot, &namespace)
            && let Some(served) = plane.served(&buildplane::workflow_kind()).await
        {
            let workflow = workflow_address(&subject.build);
            if let Err(failure) = plane.applier().delete(&served.resource, &workflow, None).await {
                tracing::warn!(build = %subject.name(), %failure, "its workflow is left in the build plane");
            }
        }
        let resource = self.context.resource(&ObjectRef::of(&subject.live).kind);
        let removed = async {
            self.context
                .control
                .remove_finalizer(resource?, &subject.live, finalizers::BUILD_CLEANUP)
                .await
        };
        removed
            .await
            .map_err(|failure| failure.while_doing(&format!("remove the finalizer of {}", subject.name())))?;
        Ok(Next::Settled)
    }

    async fn hold(&self, subject: &Subject) -> Result<(), Retry> {
        let resource = self.context.resource(&ObjectRef::of(&subject.live).kind);
        let added = async {
            self.context
                .control
                .add_finalizer(resource?, &subject.live, finalizers::BUILD_CLEANUP)
                .await
        };
        added
            .await
            .map_err(|failure| failure.while_doing(&format!("add the finalizer of {}", subject.name())))
    }

    /// The workflow as it is in the build plane.
    async fn workflow(&self, subject: &Subject, plane: &Plane) -> Result<Option<Value>, Failure> {
        let served = plane.served(&buildplane::workflow_kind()).await;
        let served = served.ok_or_else(|| {
            Failure::UnknownKind(
                "the build plane has no kind Workflow of argoproj.io/v1alpha1: install Argo Workflows there"
                    .to_owned(),
            )
        })?;
        plane.watch(&served, true).await?;
        let address = workflow_address(&subject.build);
        let live = match plane.snapshot().get(&address) {
            Some(live) => Some(DynamicObject::clone(&live)),
            None => {
                plane
                    .applier()
                    .get(&served.resource, &address.namespace, &address.name)
                    .await?
            }
        };
        let Some(live) = live else { return Ok(None) };
        let of = live.labels().get(labels::NAME);
        if of != Some(&labels::label_value(&subject.build.name_any())) {
            return Err(Failure::Foreign(format!(
                "{address} of the build plane exists already and is not of {}: rename the build, or delete it there",
                subject.name()
            )));
        }
        Ok(serde_json::to_value(live).ok())
    }
}

fn workflow_address(build: &Build) -> ObjectRef {
    ObjectRef::new(
        "argoproj.io",
        "Workflow",
        &plan::namespace(build),
        &plan::workflow_name(build),
    )
}

impl Reconcile for Builds {
    type Key = Key;

    fn name(&self) -> &'static str {
        NAME
    }

    async fn reconcile(&self, key: &Key) -> Result<Next, Retry> {
        let snapshot = self.context.snapshot();
        let world = &snapshot.view.world;
        let (Some(build), Some(live)) = (
            world.get::<Build>(&key.namespace, &key.name),
            snapshot.get(&address(key)),
        ) else {
            return Ok(Next::Settled);
        };
        let subject = Subject {
            build: Arc::clone(build),
            live,
        };
        if subject.live.metadata.deletion_timestamp.is_some() {
            return self.finalize(&snapshot, &subject).await;
        }
        let before = build.status.clone().unwrap_or_default();
        if status::is_over(&before.conditions) {
            return Ok(Next::Settled);
        }
        let mut report = Report::of(&before);
        let has_started = conditions::is_true(&before.conditions, types::STARTED);
        let problems = plan::check(world, build);
        if let Some(condition) = problems.condition()
            && !has_started
        {
            return self.report(&subject, report.not_started(condition)).await;
        }
        let plane = match self.plane(&snapshot, &key.namespace) {
            Ok(Some(plane)) => plane,
            Ok(None) => return Ok(Next::Settled),
            Err(problem) => {
                let report = report.waiting_for_plane(has_started, &problem.message, problem.reason);
                return self.report(&subject, report).await;
            }
        };
        self.hold(&subject).await?;
        let workflow = match self.workflow(&subject, &plane).await {
            Ok(None) if has_started => {
                let report =
                    report.failed("its workflow was deleted from the build plane before it had ended");
                return self.report(&subject, report).await;
            }
            Ok(None) => {
                let registry = buildplane::find(&snapshot, &key.namespace, &plane.id().name)
                    .and_then(|plane| plane.spec.registry)
                    .map(|registry| registry.prefix);
                match self.start(&subject, &plane, registry).await {
                    Ok(()) => json!({}),
                    Err(failure) => return self.cannot(&subject, &plane, report, failure).await,
                }
            }
            Ok(Some(workflow)) => workflow,
            Err(failure) => return self.cannot(&subject, &plane, report, failure).await,
        };
        report.started(&plan::namespace(build), &plan::workflow_name(build), &workflow);
        let report = match plan::progress(&workflow) {
            Progress::Pending => report.running("the workflow has been made, and waits for the build plane"),
            Progress::Running(None) => report.running("the workflow runs"),
            Progress::Running(Some(step)) => report.running(&format!("step {step:?} runs")),
            Progress::Failed(why) => report.failed(&why),
            Progress::Succeeded(outcome) => {
                let delivered = self.deliver(&snapshot, &subject, &outcome).await?;
                report.succeeded(&outcome, delivered)
            }
        };
        self.report(&subject, report).await
    }
}

impl Builds {
    /// A failure that may pass is tried again, with a condition meanwhile; any other is a condition.
    async fn cannot(
        &self,
        subject: &Subject,
        plane: &Plane,
        report: Report,
        failure: Failure,
    ) -> Result<Next, Retry> {
        plane.failed(&failure);
        let passes =
            failure.is_passing() || matches!(failure, Failure::Terminating(_) | Failure::NotFound(_));
        let report = report.not_applied(&failure.to_string());
        self.report(subject, report).await?;
        if passes {
            return Err(failure.while_doing(&format!("start {}", subject.name())));
        }
        Ok(Next::Settled)
    }
}
