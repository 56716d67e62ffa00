//! `choreo rollback`.

use choreo_api::names;
use choreo_api::v1alpha1::{Deployment, Release, common::DEFAULT_TRACK};
use choreo_engine::binding::{self, Binding, PINNED};
use choreo_engine::{ObjectRef, World};
use choreo_engine::{promotion, revision};
use http::Method;
use serde_json::{Value, json};

use super::promotion::{create, follow, is_final, name, outcome, whoami};
use crate::exit::ExitStatus;
use crate::failure::{Failure, Outcome};
use crate::online::{Body, Connect, Kind, Kinds, Session, world};
use crate::output::Printer;

/// As whom the binding is changed.
const MANAGER: &str = "choreo-cli";

/// Arguments of `choreo rollback`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Brings back a revision's artifact and overrides; configuration groups stay as they are. The binding is pinned: newer artifacts
do not replace what it runs until --unpin ends that. `choreo get deployments` shows the revisions. In an environment that is
promoted to, the way back is a promotion: it stops what is being rolled out, passes no gate if the revision was healthy here
before, and stays in `choreo history`.

For example: choreo rollback greeter -e development
             choreo rollback greeter -e development --to 3
             choreo rollback greeter -e development --unpin")]
pub(crate) struct Args {
    /// The component
    #[arg(value_name = "COMPONENT")]
    component: String,
    /// The environment
    #[arg(short, long, value_name = "NAME")]
    environment: String,
    /// The revision to go back to [default: the one before that which runs]
    #[arg(long, value_name = "REVISION", conflicts_with = "unpin")]
    to: Option<i64>,
    /// The track
    #[arg(long, value_name = "NAME", default_value = DEFAULT_TRACK)]
    track: String,
    /// What for; it is kept in the history
    #[arg(long, short = 'm', value_name = "TEXT")]
    reason: Option<String>,
    /// Let newer artifacts replace what runs again
    #[arg(long)]
    unpin: bool,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

pub(crate) async fn run(args: &Args, connect: &Connect, printer: &mut Printer) -> Outcome {
    let session = Session::open(connect).await?;
    let kinds = Kinds::fetch(&session).await?;
    let world = world(&session, &kinds).await?;
    let binding = find(args, &session, &world)?;
    let kind = kinds.find(&format!(
        "{}.{}",
        binding.reference.kind.as_str(),
        choreo_api::labels::GROUP
    ))?;
    let suffix = if args.dry_run { " (dry run)" } else { "" };
    let title = kind.title_of(binding.name());
    let live = session
        .get(&kind.path(Some(&session.namespace), Some(binding.name())))
        .await
        .map_err(|error| error.failure(format!("cannot get {title}")))?;
    if args.unpin {
        if !binding.pinned {
            printer.line(format!("{title} is not pinned"))?;
            return Ok(ExitStatus::Success);
        }
        let operations = vec![json!({"op": "remove", "path": pinned_path()})];
        write(args, &session, kind, &binding, operations).await?;
        printer.line(format!("{title} follows newer artifacts again{suffix}"))?;
        return Ok(ExitStatus::Success);
    }
    let target = target(args, &world, &binding)?;
    let number = target.spec.revision.unwrap_or_default();
    if is_promoted_to(&world, &binding) && !args.dry_run {
        return request(args, &session, &kinds, &binding, number, printer).await;
    }
    write(args, &session, kind, &binding, operations(&live, target)).await?;
    let from = binding
        .revision
        .map(|current| format!("from revision {current} "))
        .unwrap_or_default();
    printer.line(format!(
        "{title} goes {from}back to revision {number}, {}{suffix}",
        target.spec.deployment_artifact_ref.as_deref().unwrap_or_default()
    ))?;
    printer.note(format!(
        "it stays there until `choreo rollback {} -e {} --unpin`; `choreo wait {}/{}` waits for it",
        args.component,
        args.environment,
        kind.singular,
        binding.name()
    ))?;
    Ok(ExitStatus::Success)
}

/// Whether a way of the pipeline leads to the binding's environment. New artifacts come to the first one by themselves, and to
/// the others by promotions, of which the way back is one: it ends what is being rolled out, and is in the history.
fn is_promoted_to(world: &World, binding: &Binding) -> bool {
    let pipeline = promotion::pipeline_of(world, binding.namespace(), &binding.owner.project_name);
    pipeline.is_some_and(|pipeline| {
        promotion::ways_into(pipeline, &binding.environment)
            .next()
            .is_some()
    })
}

async fn request(
    args: &Args,
    session: &Session,
    kinds: &Kinds,
    binding: &Binding,
    revision: i64,
    printer: &mut Printer,
) -> Outcome {
    let (user, _) = whoami(session).await?;
    let mut spec = json!({
        "owner": binding.owner,
        "track": binding.track,
        "targetEnvironment": binding.environment,
        "rollbackTo": revision,
        "requestedBy": user,
    });
    if let Some(reason) = &args.reason {
        spec["reason"] = json!(reason);
    }
    let name = name(&[&args.component, &args.environment, "back"]);
    create(session, kinds, "Promotion", &name, spec).await?;
    let patience = std::time::Duration::from_secs(30);
    let begun = |phase: &str| phase == "RollingOut" || is_final(phase);
    let seen = follow(session, kinds, &name, patience, printer, false, begun).await?;
    let Some(seen) = seen else {
        return Err(Failure::new(format!("promotion {name} has not begun in time"))
            .hint(format!("`choreo history {name}` says what it waits for"))
            .status(ExitStatus::TimedOut));
    };
    outcome(&seen)?;
    let from = binding
        .revision
        .map(|current| format!("from revision {current} "))
        .unwrap_or_default();
    printer.line(format!(
        "{} goes {from}back to revision {revision}, {}",
        binding.name(),
        seen["status"]["artifact"].as_str().unwrap_or_default()
    ))?;
    printer.note(format!("`choreo history {name}` shows how it goes on"))?;
    Ok(ExitStatus::Success)
}

fn find(args: &Args, session: &Session, world: &World) -> Result<Binding, Failure> {
    let name = names::binding(&args.component, &args.track, &args.environment);
    let found = binding::KINDS
        .into_iter()
        .find_map(|kind| {
            Binding::find(
                world,
                &ObjectRef::new(kind, session.namespace.clone(), name.clone()),
            )
        })
        .filter(|binding| binding.owner.component_name == args.component);
    if let Some(found) = found {
        return Ok(found);
    }
    let failure = Failure::new(format!(
        "component {} is not deployed to environment {}",
        args.component, args.environment
    ))
    .status(ExitStatus::NotFound);
    let elsewhere: Vec<String> = Binding::of_component(world, &session.namespace, &args.component)
        .into_iter()
        .map(|binding| binding.environment)
        .collect();
    Err(if elsewhere.is_empty() {
        failure.hint(format!(
            "`choreo tree component/{}` shows what there is of it",
            args.component
        ))
    } else {
        failure.hint(format!("it is in {}", elsewhere.join(", ")))
    })
}

/// The revision that is rolled out. The binding's status may be a moment behind it.
fn current(world: &World, binding: &Binding) -> Option<i64> {
    let namespace = binding.namespace();
    let release = world.get::<Release>(namespace, &names::release(binding.name()));
    let deployment = release.and_then(|release| release.spec.deployment_ref.as_deref());
    let deployment = deployment.and_then(|name| world.get::<Deployment>(namespace, name));
    deployment.and_then(|d| d.spec.revision).or(binding.revision)
}

fn target<'w>(args: &Args, world: &'w World, binding: &Binding) -> Result<&'w Deployment, Failure> {
    let current = current(world, binding).unwrap_or(i64::MAX);
    if let Some(found) = revision::rollback_target(world, &binding.reference, current, args.to) {
        return Ok(found);
    }
    let history: Vec<String> = revision::history(world, &binding.reference)
        .into_iter()
        .filter(|deployment| deployment.spec.deployment_artifact_ref.is_some())
        .filter_map(|deployment| deployment.spec.revision)
        .map(|number| number.to_string())
        .collect();
    let what = match args.to {
        Some(wanted) => format!(
            "there is no revision {wanted} of {} to go back to",
            binding.name()
        ),
        None => format!("there is no revision before the one that {} runs", binding.name()),
    };
    let failure = Failure::new(what).status(ExitStatus::NotFound);
    Err(match history.as_slice() {
        [] => failure
            .hint("it has no history: its binding holds its own workload, or has never been rolled out"),
        all => failure.hint(format!("its revisions are {}", all.join(", "))),
    })
}

fn pinned_path() -> String {
    format!("/metadata/annotations/{}", PINNED.replace('/', "~1"))
}

/// Makes the binding say what the revision was made from.
fn operations(live: &Value, target: &Deployment) -> Vec<Value> {
    let mut operations = vec![];
    if !live["metadata"]["annotations"].is_object() {
        operations.push(json!({"op": "add", "path": "/metadata/annotations", "value": {}}));
    }
    operations.push(json!({"op": "add", "path": pinned_path(), "value": "true"}));
    let spec = serde_json::to_value(&target.spec).unwrap_or_default();
    for (field, value) in [
        ("artifactRef", spec.get("deploymentArtifactRef")),
        ("overrides", spec.get("overrides")),
        ("environmentConfigs", spec.get("environmentConfigs")),
        ("traitEnvironmentConfigs", spec.get("traitEnvironmentConfigs")),
    ] {
        let path = format!("/spec/{field}");
        match (value, live["spec"].get(field)) {
            (Some(value), now) if now != Some(value) => {
                operations.push(json!({"op": "add", "path": path, "value": value}));
            }
            (None, Some(_)) => operations.push(json!({"op": "remove", "path": path})),
            _ => {}
        }
    }
    operations
}

async fn write(
    args: &Args,
    session: &Session,
    kind: &Kind,
    binding: &Binding,
    operations: Vec<Value>,
) -> Result<(), Failure> {
    let mut url = kind.path(Some(&session.namespace), Some(binding.name()));
    url += &format!("?fieldManager={MANAGER}");
    if args.dry_run {
        url += "&dryRun=All";
    }
    session
        .send(Method::PATCH, &url, Body::Patch(Value::Array(operations)))
        .await
        .map(drop)
        .map_err(|error| error.failure(format!("cannot change {}", kind.title_of(binding.name()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_gets_what_the_revision_had_and_loses_what_it_had_not() {
        let live = json!({"metadata": {}, "spec": {"artifactRef": "app-2", "overrides": {"replicas": 3}}});
        let mut target = Deployment::default();
        target.spec.deployment_artifact_ref = Some("app-1".to_owned());
        assert_eq!(
            operations(&live, &target),
            [
                json!({"op": "add", "path": "/metadata/annotations", "value": {}}),
                json!({"op": "add", "path": "/metadata/annotations/openchoreo.dev~1pinned", "value": "true"}),
                json!({"op": "add", "path": "/spec/artifactRef", "value": "app-1"}),
                json!({"op": "remove", "path": "/spec/overrides"}),
            ]
        );
    }
}
