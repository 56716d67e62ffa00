//! `choreo approve` and `choreo reject`.

use kube::ResourceExt as _;
use serde_json::json;

use super::promotion::{create, find, kind, name, show, whoami};
use crate::exit::ExitStatus;
use crate::failure::{Failure, Outcome};
use crate::online::{Connect, Kinds, Session, world};
use crate::output::Printer;

/// Arguments of `choreo approve`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Says yes to a promotion: an approval before its rollout, the word to go on while the rollout waits for one. The approval is of
the artifact and the difference that are shown; when either changes it no longer counts.

For example: choreo approve greeter -m 'load test is fine'
             choreo approve greeter-production-019a3c --withdraw")]
pub(crate) struct ApproveArgs {
    /// The promotion, or the component whose newest one is meant
    #[arg(value_name = "PROMOTION|COMPONENT")]
    promotion: String,
    /// The environment that is promoted to
    #[arg(long, short, value_name = "NAME")]
    environment: Option<String>,
    /// What there is to say about it
    #[arg(long, short = 'm', value_name = "TEXT")]
    comment: Option<String>,
    /// Take back what you said before
    #[arg(long)]
    withdraw: bool,
}

/// Arguments of `choreo reject`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Says no to a promotion: it ends, and if it is being rolled out, what ran before has all traffic again at once.

For example: choreo reject greeter -m 'error rate'")]
pub(crate) struct RejectArgs {
    /// The promotion, or the component whose newest one is meant
    #[arg(value_name = "PROMOTION|COMPONENT")]
    promotion: String,
    /// The environment that is promoted to
    #[arg(long, short, value_name = "NAME")]
    environment: Option<String>,
    /// Why
    #[arg(long, short = 'm', value_name = "TEXT")]
    comment: Option<String>,
}

pub(crate) async fn approve(args: &ApproveArgs, connect: &Connect, printer: &mut Printer) -> Outcome {
    let decision = if args.withdraw { "Withdrawn" } else { "Approved" };
    decide(
        (&args.promotion, args.environment.as_deref()),
        decision,
        args.comment.as_deref(),
        connect,
        printer,
    )
    .await
}

pub(crate) async fn reject(args: &RejectArgs, connect: &Connect, printer: &mut Printer) -> Outcome {
    decide(
        (&args.promotion, args.environment.as_deref()),
        "Rejected",
        args.comment.as_deref(),
        connect,
        printer,
    )
    .await
}

async fn decide(
    (word, environment): (&str, Option<&str>),
    decision: &str,
    comment: Option<&str>,
    connect: &Connect,
    printer: &mut Printer,
) -> Outcome {
    let session = Session::open(connect).await?;
    let kinds = Kinds::fetch(&session).await?;
    let world = world(&session, &kinds).await?;
    let found = find(&world, &session.namespace, word, environment)?;
    let status = found.status.clone().unwrap_or_default();
    let phase = status.phase.unwrap_or_default();
    let promotion = found.name_any();
    if phase.is_final() {
        return Err(Failure::new(format!(
            "promotion {promotion} has ended already, as {phase:?}"
        )));
    }
    let rolls = status.start_time.is_some();
    let decision = match (decision, rolls) {
        ("Approved", true) => "Resumed",
        ("Rejected", true) => "Aborted",
        (other, _) => other,
    };
    let (user, groups) = whoami(&session).await?;
    let mut spec = json!({
        "promotionRef": promotion,
        "decision": decision,
        "user": user,
        "groups": groups,
    });
    if decision == "Approved" {
        let object = serde_json::to_value(found).unwrap_or_default();
        show(&object, printer)?;
        spec["digest"] = json!(status.digest);
        spec["diff"] = json!(status.diff);
    }
    if decision == "Resumed" {
        spec["step"] = json!(status.rollout.map(|rollout| rollout.step).unwrap_or_default());
    }
    if let Some(comment) = comment {
        spec["comment"] = json!(comment);
    }
    if let Some(spec) = spec.as_object_mut() {
        spec.retain(|_, value| !value.is_null());
    }
    let title = kind(&kinds, "Promotion")?.title_of(&promotion);
    create(&session, &kinds, "PromotionDecision", &name(&[&promotion]), spec).await?;
    let said = match decision {
        "Approved" => "approved",
        "Rejected" => "rejected",
        "Withdrawn" => "no longer has your word",
        "Aborted" => "is stopped, and goes back to what ran before",
        _ => "goes on",
    };
    printer.line(format!("{title} {said}"))?;
    Ok(ExitStatus::Success)
}
