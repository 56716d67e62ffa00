//! `choreo promote`.

use std::time::Duration;

use choreo_api::v1alpha1::{Component, common::DEFAULT_TRACK};
use choreo_engine::{World, promotion as engine};
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::promotion::{create, follow, is_final, name, outcome, show, whoami};
use crate::exit::ExitStatus;
use crate::failure::{Failure, Outcome};
use crate::online::{Connect, Kinds, Session, world};
use crate::output::Printer;
use crate::text::parse_duration;

/// How long the platform may take to look at a promotion.
const LOOK: Duration = Duration::from_secs(30);

/// Arguments of `choreo promote`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Asks for what runs in one environment to run in the next one, and shows what that would change, which checks run and who has
approved. Exit status 1 if it is refused or does not work out.

For example: choreo promote greeter --to staging
             choreo promote greeter --to production --wait
             choreo promote --project shop --to production
             choreo promote greeter --to production --bypass 'checkout is down'")]
pub(crate) struct Args {
    /// The component
    #[arg(value_name = "COMPONENT", required_unless_present = "project")]
    component: Option<String>,
    /// All components of a project that run in the source environment, as one: all of them or none
    #[arg(long, value_name = "NAME", conflicts_with = "component")]
    project: Option<String>,
    /// The environment to promote to
    #[arg(long = "to", short = 'e', value_name = "ENVIRONMENT")]
    to: String,
    /// The environment to promote from [default: the one that leads there]
    #[arg(long, value_name = "ENVIRONMENT")]
    from: Option<String>,
    /// The artifact [default: what runs in the source environment]
    #[arg(long, value_name = "NAME", conflicts_with = "project")]
    artifact: Option<String>,
    /// The track
    #[arg(long, value_name = "NAME", default_value = DEFAULT_TRACK)]
    track: String,
    /// What for
    #[arg(long, short = 'm', value_name = "TEXT")]
    reason: Option<String>,
    /// Go past rules, approvals, checks and freezes in an emergency, and say what it is. Needs a permission of its own, and
    /// stays on the promotion for ever
    #[arg(long, value_name = "REASON")]
    bypass: Option<String>,
    /// Follow it to its end
    #[arg(long)]
    wait: bool,
    /// How long to follow it
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = parse_duration)]
    timeout: Duration,
}

pub(crate) async fn run(args: &Args, connect: &Connect, printer: &mut Printer) -> Outcome {
    let session = Session::open(connect).await?;
    let kinds = Kinds::fetch(&session).await?;
    let world = world(&session, &kinds).await?;
    let components = components(args, &session, &world)?;
    let (user, _) = whoami(&session).await?;
    let set = args
        .project
        .as_ref()
        .map(|project| json!({"name": name(&[project, &args.to]), "members": components.len()}));
    let mut made = Vec::new();
    for component in &components {
        let source = source(args, &session, &world, component)?;
        let mut spec = json!({
            "owner": component.spec_owner,
            "sourceEnvironment": source,
            "targetEnvironment": args.to,
            "requestedBy": user,
        });
        if args.track != DEFAULT_TRACK {
            spec["track"] = json!(args.track);
        }
        for (field, value) in [("artifactRef", &args.artifact), ("reason", &args.reason)] {
            if let Some(value) = value {
                spec[field] = json!(value);
            }
        }
        if let Some(set) = &set {
            spec["set"] = set.clone();
        }
        let promotion = name(&[&component.name, &args.to]);
        if let Some(why) = &args.bypass {
            // First, or it could be refused before it is let through.
            let bypass = json!({"promotionRef": promotion, "reason": why, "user": user});
            create(&session, &kinds, "PromotionBypass", &promotion, bypass).await?;
        }
        create(&session, &kinds, "Promotion", &promotion, spec).await?;
        made.push(promotion);
    }
    let mut status = ExitStatus::Success;
    for promotion in &made {
        let looked = follow(&session, &kinds, promotion, LOOK, printer, false, |_| true).await?;
        let Some(looked) = looked else {
            return Err(
                Failure::new(format!("promotion {promotion} was not looked at in time"))
                    .hint("do the platform's controllers run?")
                    .status(ExitStatus::TimedOut),
            );
        };
        show(&looked, printer)?;
        let mut last: Value = looked;
        if args.wait && !is_final(super::promotion::phase(&last)) {
            match follow(&session, &kinds, promotion, args.timeout, printer, true, is_final).await? {
                Some(object) => {
                    show(&object, printer)?;
                    last = object;
                }
                None => {
                    return Err(
                        Failure::new(format!("promotion {promotion} has not ended in time"))
                            .status(ExitStatus::TimedOut),
                    );
                }
            }
        }
        status = outcome(&last)?;
        if !args.wait {
            printer.note(format!(
                "`choreo history {promotion}` shows it, `choreo approve {promotion}` approves it"
            ))?;
        }
    }
    Ok(status)
}

/// A component that is promoted.
struct Promoted {
    name: String,
    spec_owner: Value,
    project: String,
}

fn components(args: &Args, session: &Session, world: &World) -> Result<Vec<Promoted>, Failure> {
    let promoted = |component: &Component| Promoted {
        name: component.name_any(),
        project: component.spec.owner.project_name.clone(),
        spec_owner: json!({
            "projectName": component.spec.owner.project_name,
            "componentName": component.name_any(),
        }),
    };
    if let Some(name) = &args.component {
        let found = world.get::<Component>(&session.namespace, name).ok_or_else(|| {
            Failure::new(format!("there is no component {name}")).status(ExitStatus::NotFound)
        })?;
        return Ok(vec![promoted(found)]);
    }
    let project = args.project.as_deref().unwrap_or_default();
    let mut all = Vec::new();
    for component in world.in_namespace::<Component>(&session.namespace) {
        if component.spec.owner.project_name != project {
            continue;
        }
        let one = promoted(component);
        let from = source(args, session, world, &one)?;
        let bindings = choreo_engine::binding::Binding::of_component(world, &session.namespace, &one.name);
        let of_track = |track: &str| track == args.track || track.is_empty() && args.track == DEFAULT_TRACK;
        if bindings
            .iter()
            .any(|b| b.environment == from && of_track(&b.track))
        {
            all.push(one);
        }
    }
    if all.is_empty() {
        return Err(Failure::new(format!(
            "nothing of project {project} runs where it could be promoted from"
        ))
        .status(ExitStatus::NotFound));
    }
    Ok(all)
}

/// The environment that is promoted from.
fn source(args: &Args, session: &Session, world: &World, component: &Promoted) -> Result<String, Failure> {
    if let Some(from) = &args.from {
        return Ok(from.clone());
    }
    let pipeline = engine::pipeline_of(world, &session.namespace, &component.project).ok_or_else(|| {
        Failure::new(format!(
            "project {} has no deployment pipeline",
            component.project
        ))
        .status(ExitStatus::NotFound)
    })?;
    let sources: Vec<&str> = engine::ways_into(pipeline, &args.to)
        .map(|way| way.source)
        .collect();
    match sources.as_slice() {
        [one] => Ok((*one).to_owned()),
        [] => Err(Failure::new(format!(
            "DeploymentPipeline {} has no path to environment {}",
            pipeline.name_any(),
            args.to
        ))
        .hint("`choreo pipeline` shows its paths")),
        several => Err(Failure::usage(format!(
            "several paths lead to environment {}: say which one with --from",
            args.to
        ))
        .hint(format!("they come from {}", several.join(", ")))),
    }
}
