//! A binding: resolves, renders, and hands the result to its release.

use std::borrow::Cow;

use choreo_api::{
    conditions::{Condition, reasons, types},
    labels::Labels,
    names,
    v1alpha1::{
        Component, DeployableArtifactSpec, Endpoint, Release, ReleaseResource, RolloutType, WorkloadTemplate,
        common::{
            DEFAULT_TRACK, EndpointAddresses, EndpointType, ExposeLevel, Overrides, ReleaseState, Visibility,
        },
    },
};
use kube::ResourceExt as _;
use serde_json::{Map, Value, json};

use super::{controlled_by, policies, runs, step};
use crate::{
    binding::Binding,
    constraints,
    expose::{self, Exposed, Exposure},
    freeze,
    place::Place,
    plan::{Child, Plan, Status},
    problem::{Problem, Problems},
    promotion::{self, Effective, Side},
    render::{self, Input},
    resolve::{configuration, connections, overrides},
    revision::{self, Revision},
    rules,
    world::{AnyObject, Kind, ObjectRef, World, is_default_track},
};

/// Everything that a binding amounts to when nothing stands in its way.
struct Rendered {
    place: Place,
    identity: String,
    exposures: Vec<Exposure>,
    addresses: Vec<EndpointAddresses>,
    output: render::Output,
    /// Whether it is a task that runs when somebody starts it.
    manual: bool,
}

/// What stands in the way, by the step that found it.
#[derive(Default)]
struct Failed {
    unresolved: Problems,
    render: Problems,
}

pub(super) fn plan(world: &World, object: &AnyObject) -> Plan {
    let Some(mut binding) = Binding::of(world, object) else {
        return without_owner(object);
    };
    let mut plan = if binding.state == ReleaseState::Undeploy {
        undeploy(world, &binding)
    } else {
        run(world, &mut binding)
    };
    if binding.reference.kind == Kind::ScheduledTaskBinding
        && let Some(status) = &mut plan.status
    {
        let (ran, succeeded) = runs::times(world, &binding);
        for (field, time) in [("lastRunTime", ran), ("lastSuccessTime", succeeded)] {
            if let Some(time) = time {
                status.fields.insert(field.to_owned(), json!(time));
            }
        }
    }
    plan
}

/// Has run what the binding says, or what the promotions to it let it run.
fn run(world: &World, binding: &mut Binding) -> Plan {
    match promotion::effective(world, binding) {
        Effective::AsWritten => carry_out(world, binding, None),
        Effective::Only {
            artifact: None, why, ..
        } if why.is_none() => undeploy(world, binding),
        Effective::Only {
            artifact: None,
            why: Some(why),
        }
        | Effective::Hold(why) => hold(world, binding, why),
        Effective::Only { artifact, why } => {
            binding.artifact = artifact;
            let mut plan = carry_out(world, binding, None);
            if let (Some(status), Some(why)) = (&mut plan.status, why) {
                let ready = Condition::not_ready(why.reason, why.message).observed(binding.generation);
                choreo_api::conditions::set(&mut status.conditions, ready);
            }
            plan
        }
        Effective::Two(side) => {
            binding.artifact = Some(side.stable.clone());
            carry_out(world, binding, Some(&side))
        }
    }
}

/// Nothing was let in: what runs stays as it is.
fn hold(world: &World, binding: &Binding, why: Problem) -> Plan {
    let mut failed = Failed::default();
    failed.unresolved.push(why);
    keep(world, binding, &failed)
}

fn carry_out(world: &World, binding: &Binding, side: Option<&Side>) -> Plan {
    let both = rendered(world, binding, false).and_then(|mut stable| {
        if let Some(side) = side {
            let mut new = binding.clone();
            new.artifact = Some(side.candidate.clone());
            let beside = rendered(world, &new, true)?;
            let own = std::mem::take(&mut stable.output.resources);
            stable.output.resources =
                promotion::side::side_by_side(binding, side, own, beside.output.resources);
        }
        Ok(stable)
    });
    match both {
        Ok(rendered) => deploy(world, binding, rendered),
        Err(failed) => keep(world, binding, &failed),
    }
}

/// What a binding would be rendered to, whatever promotions say.
pub(super) fn objects(world: &World, binding: &Binding) -> Result<Vec<ReleaseResource>, Problems> {
    rendered(world, binding, false)
        .map(|rendered| rendered.output.resources)
        .map_err(|failed| {
            let mut all = failed.unresolved;
            all.extend(failed.render);
            all
        })
}

/// Where the new revision of a component can be looked at while it runs beside the old one.
pub(super) fn preview_addresses(world: &World, binding: &Binding) -> Vec<String> {
    let found = rendered(world, binding, true).map(|rendered| rendered.addresses);
    let outside = found.unwrap_or_default().into_iter().flat_map(|endpoint| {
        // What has no host of its own has no second address.
        let shown = !matches!(endpoint.type_, EndpointType::TCP | EndpointType::UDP);
        [endpoint.public, endpoint.organization]
            .into_iter()
            .flatten()
            .filter(move |_| shown)
    });
    let mut all: Vec<String> = outside.filter_map(|access| access.uri).collect();
    all.dedup();
    all
}

/// Whether the way to the binding's environment replaces all pods at once.
fn is_all_at_once(world: &World, binding: &Binding) -> bool {
    let pipeline = promotion::pipeline_of(world, binding.namespace(), &binding.owner.project_name);
    pipeline.is_some_and(|pipeline| {
        promotion::ways_into(pipeline, &binding.environment).any(|way| {
            let strategy = way.target.strategy.as_ref();
            strategy.is_some_and(|s| s.type_ == RolloutType::AllAtOnce)
        })
    })
}

/// The binding of an API that says no owner, while there is no such API.
fn without_owner(object: &AnyObject) -> Plan {
    let AnyObject::APIBinding(binding) = object else {
        return Plan::default();
    };
    if binding.metadata.deletion_timestamp.is_some() {
        return Plan::default();
    }
    let name = &binding.spec.api_name;
    let mut problems = Problems::new();
    problems.push(Problem::waiting(
        reasons::TYPE_NOT_FOUND,
        format!("spec.apiName: API {name:?} not found: create it, or name another"),
    ));
    Plan {
        status: Some(super::summary(&binding.metadata, &problems, "")),
        problems,
        ..Plan::default()
    }
}

/// The overrides in force: what the component changes everywhere, and over it what the environment changes.
fn effective_overrides(source: &DeployableArtifactSpec, binding: &Binding) -> Overrides {
    let own = source
        .service
        .as_ref()
        .map(|s| &s.overrides)
        .or_else(|| source.web_application.as_ref().map(|w| &w.overrides))
        .or_else(|| source.scheduled_task.as_ref().map(|t| &t.overrides))
        .or_else(|| source.api.as_ref().map(|a| &a.overrides));
    match own {
        Some(own) => overrides::layered(own, &binding.overrides),
        None => binding.overrides.clone(),
    }
}

/// `beside` says that another revision of the component runs under its own names.
fn rendered(world: &World, binding: &Binding, beside: bool) -> Result<Rendered, Failed> {
    let mut failed = Failed::default();
    let owner = &binding.owner;
    let namespace = binding.namespace();
    failed.unresolved.extend(name_taken(world, binding));
    failed.unresolved.extend(owner_missing(world, binding));
    let outside = rules::not_in_pipeline(world, namespace, &owner.project_name, &binding.environment);
    failed.unresolved.extend(
        outside.map(|message| Problem::error(reasons::INVALID, format!("{}: {message}", binding.reference))),
    );
    let place = failed.unresolved.take(Place::find(
        world,
        namespace,
        &owner.project_name,
        &binding.environment,
    ));
    let source = failed.unresolved.take(binding.source(world));
    let Some(source) = source else { return Err(failed) };
    let overrides = effective_overrides(&source, binding);
    let none = WorkloadTemplate::default();
    let frozen = source.workload.as_ref().unwrap_or(&none);
    let workload = failed.unresolved.take(overrides::apply(
        frozen,
        &overrides,
        &binding.reference.to_string(),
    ));
    let workload = workload.unwrap_or(Cow::Borrowed(frozen));
    let configuration = failed.unresolved.take(configuration::resolve(
        world,
        namespace,
        &binding.environment,
        &workload,
    ));
    let Some(place) = place else { return Err(failed) };
    failed
        .unresolved
        .extend(constraints::violations(world, binding, &source, &workload));
    let connections =
        failed
            .unresolved
            .take(connections::resolve(world, &place, &binding.reference, &workload));

    let exposed = Exposed {
        place: &place,
        component: &owner.component_name,
        track: &binding.track,
        source: &source,
        workload: &workload,
    };
    let exposures = failed.render.take(exposed.exposures(world));
    // Goes on with what is known, so that everything that is wrong is found in one go.
    let settings = configuration.unwrap_or_default();
    let reachable = connections.unwrap_or_default();
    let endpoints = exposures.unwrap_or_default();
    let own_track = if beside {
        Cow::Owned(promotion::candidate_track(&binding.track))
    } else {
        Cow::Borrowed(binding.track.as_str())
    };
    let output = failed.render.take(render::render(&Input {
        place: &place,
        component: &owner.component_name,
        track: &own_track,
        source: &source,
        workload: &workload,
        overrides: &overrides,
        configuration: &settings,
        connections: &reachable,
        exposures: &endpoints,
        state: binding.state,
        environment_configs: binding.environment_configs.as_ref(),
        trait_environment_configs: &binding.trait_environment_configs,
        api_class: binding.api_class.as_deref(),
        runs: &runs::wanted(world, binding),
    }));
    // An artifact never changes, so its digest need not be computed again.
    let digest = match &source.digest {
        Some(digest) => Ok(digest.clone()),
        None => freeze::digest(&source).map(|d| d.to_string()),
    };
    let identity = digest
        .and_then(|digest| revision::identity(&digest, binding, &settings))
        .map_err(|e| Problem::error(reasons::RENDER_FAILED, format!("{}: {e}", binding.reference)).into());
    let identity = failed.render.take(identity);
    let addresses = Exposed {
        track: &own_track,
        ..exposed
    }
    .addresses(&endpoints);
    match (output, identity) {
        (Some(mut output), Some(identity)) if failed.unresolved.is_empty() && failed.render.is_empty() => {
            if is_all_at_once(world, binding) {
                promotion::side::all_at_once(&mut output.resources);
            }
            Ok(Rendered {
                manual: source.type_.as_deref() == Some("ManualTask"),
                identity,
                exposures: endpoints,
                addresses,
                output,
                place,
            })
        }
        _ => Err(failed),
    }
}

/// Two bindings of one name but of different kinds would write the same release.
fn name_taken(world: &World, binding: &Binding) -> Option<Problem> {
    let rivals = crate::binding::KINDS
        .into_iter()
        .take_while(|k| *k != binding.reference.kind);
    rivals
        .map(|k| ObjectRef::new(k, binding.namespace(), binding.name()))
        .find(|r| world.contains(r))
        .map(|other| {
            Problem::error(
                reasons::INVALID,
                format!(
                    "{} has the same name as {other}, whose release it would overwrite: rename or delete one",
                    binding.reference
                ),
            )
        })
}

/// A binding runs a component of its own project.
fn owner_missing(world: &World, binding: &Binding) -> Option<Problem> {
    let (namespace, owner) = (binding.namespace(), &binding.owner);
    let Some(component) = world.get::<Component>(namespace, &owner.component_name) else {
        return Some(Problem::waiting(
            reasons::COMPONENT_NOT_FOUND,
            format!(
                "Component {:?} not found in namespace {namespace:?}: create it, or delete {}",
                owner.component_name, binding.reference
            ),
        ));
    };
    let project = &component.spec.owner.project_name;
    (*project != owner.project_name).then(|| {
        Problem::error(
            reasons::INVALID,
            format!(
                "{} spec.owner.projectName: Component {:?} belongs to project {project:?}, not to {:?}",
                binding.reference, owner.component_name, owner.project_name
            ),
        )
    })
}

fn labels(binding: &Binding) -> Labels {
    Labels::new()
        .organization(binding.namespace())
        .project(&binding.owner.project_name)
        .component(&binding.owner.component_name)
        .track(&binding.track)
        .environment(&binding.environment)
}

fn deploy(world: &World, binding: &Binding, rendered: Rendered) -> Plan {
    let revision = revision::allot(world, binding, &rendered.identity);
    let resources = rendered.output.resources;
    let count = resources.len();
    let ready = ready(world, binding, rendered.manual, &resources);
    let mut plan = Plan::default();
    let deployment_labels = json!(labels(binding).name(&revision.name).build());
    plan.children.push(Child::new(
        &binding.reference,
        revision::object(binding, &revision, &rendered.identity, &deployment_labels),
    ));
    plan.children
        .push(release(binding, &rendered.place, &revision, resources));
    plan.children
        .extend(rendered.exposures.iter().map(|e| endpoint(binding, e)));
    plan.prune
        .extend(controlled_by(world, revision.prune.clone(), &binding.reference));
    let current: Vec<String> = plan.children.iter().map(|c| c.key().name).collect();
    let stale: Vec<ObjectRef> = endpoints_of(world, binding)
        .into_iter()
        .filter(|r| !current.contains(&r.key.name))
        .collect();
    plan.prune.extend(controlled_by(world, stale, &binding.reference));

    let none = Problems::new();
    let conditions = vec![
        ready,
        step(
            types::RESOLVED,
            &none,
            reasons::READY,
            "everything that it refers to exists",
        ),
        step(
            types::RENDERED,
            &none,
            reasons::RENDERED,
            &format!("{count} objects"),
        ),
        policies(&rendered.output.unenforced),
    ];
    let mut status = state(binding, conditions);
    let runs = runs::observed(world, binding);
    if !runs.is_empty() {
        status.fields.insert("runs".to_owned(), json!(runs));
    }
    let mut field = |key: &str, value: Value| status.fields.insert(key.to_owned(), value);
    // A task has no addresses, and no field for them.
    if !rendered.addresses.is_empty() && binding.reference.kind != Kind::ScheduledTaskBinding {
        field("endpoints", json!(rendered.addresses));
    }
    field("deployment", json!(revision.name));
    field("revision", json!(revision.number));
    field("release", json!(names::release(binding.name())));
    field("configurationHash", json!(rendered.identity));
    plan.status = Some(status);
    plan
}

fn state(binding: &Binding, conditions: Vec<Condition>) -> Status {
    let conditions = conditions
        .into_iter()
        .map(|c| c.observed(binding.generation))
        .collect();
    Status {
        conditions,
        fields: Map::new(),
        observed_generation: binding.generation,
    }
}

fn release(binding: &Binding, place: &Place, revision: &Revision, resources: Vec<ReleaseResource>) -> Child {
    let name = names::release(binding.name());
    let mut release = json!({
        "apiVersion": Kind::Release.api_version(),
        "kind": "Release",
        "metadata": {"name": name, "namespace": binding.namespace(), "labels": labels(binding).name(&name).build()},
        "spec": {
            "owner": {"projectName": binding.owner.project_name, "componentName": binding.owner.component_name},
            "environmentName": binding.environment,
            "dataPlane": place.plane.name,
            "deploymentRef": revision.name,
        },
    });
    // Moved and not copied: they are most of all that a plan holds.
    release["spec"]["resources"] = resources.into_iter().map(as_value).collect();
    Child::new(&binding.reference, release)
}

/// A resource as the release says it.
fn as_value(resource: ReleaseResource) -> Value {
    let ReleaseResource { id, object } = resource;
    Value::Object(Map::from_iter([
        ("id".to_owned(), Value::String(id)),
        ("object".to_owned(), object),
    ]))
}

fn endpoint(binding: &Binding, exposure: &Exposure) -> Child {
    let owner = &binding.owner;
    let name = names::endpoint(
        &owner.component_name,
        &binding.track,
        &binding.environment,
        &exposure.name,
    );
    let levels: Vec<ExposeLevel> = std::iter::once(ExposeLevel::Project)
        .chain(exposure.levels.keys().copied())
        .collect();
    let widest = levels.last().copied().unwrap_or_default();
    let mut backend = json!({
        "type": "componentRef",
        "componentRef": {"name": owner.component_name, "port": exposure.port},
    });
    if exposure.base_path != "/"
        && let Some(backend) = backend.as_object_mut()
    {
        backend.insert("basePath".to_owned(), json!(exposure.base_path));
    }
    let track = if is_default_track(&binding.track) {
        DEFAULT_TRACK
    } else {
        &binding.track
    };
    Child::new(
        &binding.reference,
        json!({
            "apiVersion": Kind::Endpoint.api_version(),
            "kind": "Endpoint",
            "metadata": {"name": name, "namespace": binding.namespace(), "labels": labels(binding).name(&exposure.name).build()},
            "spec": {
                "owner": owner,
                "environment": binding.environment,
                "track": track,
                "endpointName": exposure.name,
                "type": exposure.type_,
                "backendRef": backend,
                "visibility": Visibility::from(widest),
                "exposeLevels": levels,
            },
        }),
    )
}

/// The derived endpoints of a binding's component, environment and track.
fn endpoints_of(world: &World, binding: &Binding) -> Vec<ObjectRef> {
    let component = ObjectRef::new(
        Kind::Component,
        binding.namespace(),
        &binding.owner.component_name,
    );
    let of_this = |e: &Endpoint| {
        expose::is_derived(e)
            && e.spec.environment.as_deref() == Some(binding.environment.as_str())
            && e.spec.track.as_deref().unwrap_or(DEFAULT_TRACK) == binding.track
    };
    let all = world.referring::<Endpoint>(&component).filter(|e| of_this(e));
    all.map(|e| ObjectRef::new(Kind::Endpoint, binding.namespace(), e.name_any()))
        .collect()
}

/// Whether the release is what was rendered, and how it fares.
fn ready(world: &World, binding: &Binding, manual: bool, wanted: &[ReleaseResource]) -> Condition {
    let name = names::release(binding.name());
    let progressing =
        |what: &str| Condition::not_ready(reasons::PROGRESSING, format!("Release {name:?} {what}"));
    let Some(release) = world.get::<Release>(binding.namespace(), &name) else {
        return progressing("is being written");
    };
    if release.metadata.deletion_timestamp.is_some() {
        return progressing("is being deleted, and will then be written anew");
    }
    if !release.spec.resources.are(wanted) {
        return progressing("is being updated");
    }
    let status = release
        .status
        .as_ref()
        .filter(|s| s.observed_generation == release.metadata.generation);
    let ready = status.and_then(|s| s.conditions.iter().find(|c| c.type_ == types::READY));
    match ready {
        None => progressing("is being applied to the data plane"),
        Some(c) if c.is_true() && binding.state == ReleaseState::Suspend => {
            Condition::new(types::READY, true, reasons::SUSPENDED, "suspended: no pods run")
        }
        // The CronJob of a manual task always rests.
        Some(c) if c.is_true() && manual => Condition::ready("runs when somebody adds a name to spec.runs"),
        Some(c) => Condition::new(types::READY, c.status, c.reason.clone(), c.message.clone()),
    }
}

/// Something is wrong or missing: says everything, and leaves what runs as it is.
fn keep(world: &World, binding: &Binding, failed: &Failed) -> Plan {
    let mut all = failed.unresolved.clone();
    all.extend(failed.render.clone());
    let mut ready = all
        .condition()
        .unwrap_or_else(|| Condition::not_ready(reasons::RENDER_FAILED, "unknown"));
    if failed.render.as_slice().iter().any(|p| !p.waiting) {
        ready.reason = reasons::RENDER_FAILED.to_owned();
    }
    let name = names::release(binding.name());
    if world.get::<Release>(binding.namespace(), &name).is_some() {
        ready
            .message
            .push_str("; until then the previous release stays as it is");
    }
    let mut conditions = vec![ready];
    conditions.push(step(
        types::RESOLVED,
        &failed.unresolved,
        reasons::READY,
        "everything that it refers to exists",
    ));
    if !failed.render.is_empty() {
        conditions.push(Condition::new(
            types::RENDERED,
            false,
            reasons::RENDER_FAILED,
            failed.render.message(),
        ));
    }
    let mut status = state(binding, conditions);
    // What runs is still described by what was said of it before.
    if let Some(Value::Object(previous)) = previous_status(world, binding) {
        for key in [
            "endpoints",
            "deployment",
            "revision",
            "release",
            "configurationHash",
            "runs",
        ] {
            if let Some(value) = previous.get(key) {
                status.fields.insert(key.to_owned(), value.clone());
            }
        }
    }
    Plan {
        status: Some(status),
        problems: all,
        ..Plan::default()
    }
}

fn previous_status(world: &World, binding: &Binding) -> Option<Value> {
    world
        .get_any(&binding.reference)?
        .to_value()
        .ok()?
        .get("status")
        .cloned()
}

/// Removes the release and the endpoints; the history stays, so that it can come back.
fn undeploy(world: &World, binding: &Binding) -> Plan {
    let name = names::release(binding.name());
    let release = ObjectRef::new(Kind::Release, binding.namespace(), &name);
    let still_there = world.get::<Release>(binding.namespace(), &name).is_some();
    let mut candidates = endpoints_of(world, binding);
    candidates.push(release);
    let prune = controlled_by(world, candidates, &binding.reference).collect();
    let condition = if still_there {
        Condition::not_ready(
            reasons::UNDEPLOYED,
            format!("Release {name:?} is being removed from the data plane"),
        )
    } else {
        Condition::new(
            types::READY,
            true,
            reasons::UNDEPLOYED,
            "undeployed: nothing runs",
        )
    };
    let mut status = state(binding, vec![condition]);
    if let Some(revision) = binding.revision {
        status.fields.insert("revision".to_owned(), json!(revision));
    }
    // What has run stays known, so that it does not run again when the task comes back.
    let runs = runs::observed(world, binding);
    if !runs.is_empty() {
        status.fields.insert("runs".to_owned(), json!(runs));
    }
    Plan {
        prune,
        status: Some(status),
        ..Plan::default()
    }
}
