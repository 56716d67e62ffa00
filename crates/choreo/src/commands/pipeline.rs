//! `choreo pipeline`.

use std::collections::BTreeSet;

use choreo_api::conditions::types;
use choreo_api::v1alpha1::{Component, DeploymentPipeline, Environment, Promotion, TargetEnvironment};
use choreo_engine::binding::Binding;
use choreo_engine::promotion as engine;
use jiff::Timestamp;
use kube::ResourceExt as _;

use crate::exit::ExitStatus;
use crate::failure::{Failure, Outcome};
use crate::online::{Connect, Kinds, Session, world};
use crate::output::{Printer, style};

/// Arguments of `choreo pipeline`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The environments of a project in order, what runs where, what the way to each takes, and what waits for what.

For example: choreo pipeline
             choreo pipeline shop")]
pub(crate) struct Args {
    /// The project [default: every pipeline of the organization]
    #[arg(value_name = "PROJECT")]
    project: Option<String>,
}

pub(crate) async fn run(args: &Args, connect: &Connect, printer: &mut Printer) -> Outcome {
    let session = Session::open(connect).await?;
    let kinds = Kinds::fetch(&session).await?;
    let world = world(&session, &kinds).await?;
    let namespace = session.namespace.as_str();
    let pipelines: Vec<&DeploymentPipeline> = match &args.project {
        Some(project) => engine::pipeline_of(&world, namespace, project)
            .into_iter()
            .collect(),
        None => world
            .in_namespace::<DeploymentPipeline>(namespace)
            .map(AsRef::as_ref)
            .collect(),
    };
    if pipelines.is_empty() {
        return Err(Failure::new("there is no such deployment pipeline").status(ExitStatus::NotFound));
    }
    for pipeline in pipelines {
        printer.line(style::paint(
            style::BOLD,
            format!("pipeline {}", pipeline.name_any()),
        ))?;
        let order = match choreo_engine::pipeline::order(pipeline) {
            Ok(order) => order,
            Err(problem) => {
                printer.line(format!("  {}", problem.message))?;
                continue;
            }
        };
        let projects: BTreeSet<String> = world
            .in_namespace::<choreo_api::v1alpha1::Project>(namespace)
            .filter(|p| p.spec.deployment_pipeline_ref == pipeline.name_any())
            .map(|p| p.name_any())
            .filter(|name| args.project.as_ref().is_none_or(|wanted| wanted == name))
            .collect();
        for environment in &order.environments {
            let object = world.get::<Environment>(namespace, environment);
            let now = Timestamp::now().as_millisecond();
            let frozen = object
                .and_then(|e| engine::freeze::active(e, now))
                .map(|freeze| format!("  FROZEN by {:?}", &*freeze.name))
                .unwrap_or_default();
            printer.line(format!("  {environment}{frozen}"))?;
            for way in engine::ways_into(pipeline, environment) {
                printer.line(format!("    from {}: {}", way.source, demands(way.target)))?;
            }
            for component in world.in_namespace::<Component>(namespace) {
                if !projects.contains(&component.spec.owner.project_name) {
                    continue;
                }
                let name = component.name_any();
                for binding in Binding::of_component(&world, namespace, &name) {
                    if binding.environment != *environment {
                        continue;
                    }
                    let runs = engine::effective(&world, &binding).stable(&binding);
                    let ready = binding.conditions.iter().find(|c| c.type_ == types::READY);
                    let state = match ready {
                        Some(ready) if ready.is_true() => "ready".to_owned(),
                        Some(ready) => ready.message.clone(),
                        None => "not looked at yet".to_owned(),
                    };
                    printer.line(format!(
                        "    {:<28} {}  {state}",
                        binding.name(),
                        runs.unwrap_or_else(|| "nothing".to_owned())
                    ))?;
                }
            }
            let open = world.in_namespace::<Promotion>(namespace).filter(|p| {
                p.spec.target_environment == *environment
                    && projects.contains(&p.spec.owner.project_name)
                    && !engine::is_over(p)
            });
            let mut open: Vec<_> = open.collect();
            open.sort_by_cached_key(|p| (engine::LaneKey::of(p), engine::place_of(&world, p)));
            for promotion in open {
                let status = promotion.status.clone().unwrap_or_default();
                let line = format!(
                    "    <- {} of {}: {:?}, waits for {}",
                    promotion.name_any(),
                    status.artifact.unwrap_or_default(),
                    status.phase.unwrap_or_default(),
                    status.waits_for.unwrap_or_else(|| "nothing".to_owned())
                );
                printer.line(style::paint(style::WAIT, line))?;
            }
        }
    }
    Ok(ExitStatus::Success)
}

/// What a way takes, in a line.
fn demands(target: &TargetEnvironment) -> String {
    let mut all = Vec::new();
    if target.needs_approval() {
        let approvals = target.approvals.clone().unwrap_or_default();
        let who: Vec<String> = approvals
            .users
            .iter()
            .cloned()
            .chain(approvals.groups.iter().map(|group| format!("group {group}")))
            .collect();
        let who = if who.is_empty() {
            "anybody".to_owned()
        } else {
            who.join(", ")
        };
        all.push(format!("{} approval(s) by {who}", approvals.minimum.unwrap_or(1)));
    }
    let gates: Vec<&str> = target.gates.iter().map(|gate| gate.name.as_str()).collect();
    if !gates.is_empty() {
        all.push(format!("gates {}", gates.join(", ")));
    }
    if let Some(strategy) = &target.strategy {
        let steps: Vec<String> = strategy.steps.iter().map(|s| format!("{}%", s.weight)).collect();
        let steps = if steps.is_empty() {
            String::new()
        } else {
            format!(" {}", steps.join(" "))
        };
        all.push(format!("{:?}{steps}", strategy.type_));
    }
    if target.auto_promote {
        all.push("promoted by itself".to_owned());
    }
    if all.is_empty() {
        all.push("nothing is asked for".to_owned());
    }
    all.join("; ")
}
