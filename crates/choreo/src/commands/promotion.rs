//! What the commands about promotions have in common: finding them, showing them, following them.

use std::time::Duration;

use choreo_api::labels::GROUP;
use choreo_api::v1alpha1::{Promotion, PromotionPhase};
use choreo_engine::World;
use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::exit::ExitStatus;
use crate::failure::Failure;
use crate::online::{Body, Kind, Kinds, Seen, Session, Watched, until};
use crate::output::{Printer, style};

/// As whom objects are written.
pub(super) const MANAGER: &str = "choreo-cli";

/// One of the platform's kinds.
pub(super) fn kind<'k>(kinds: &'k Kinds, name: &str) -> Result<&'k Kind, Failure> {
    kinds.find(&format!("{name}.{GROUP}"))
}

/// A name that is later in the alphabet than all those before it.
pub(super) fn name(parts: &[&str]) -> String {
    let now = format!("{:012x}", Timestamp::now().as_millisecond());
    let mut name = parts.join("-");
    name.truncate(63 - 1 - now.len());
    format!("{}-{now}", name.trim_end_matches('-'))
}

/// Who the server takes us for. A server that writes it down itself does not mind; one that cannot checks it.
pub(super) async fn whoami(session: &Session) -> Result<(String, Vec<String>), Failure> {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let answer = session
        .send(
            Method::POST,
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            Body::Json(review),
        )
        .await
        .map_err(|error| error.failure("cannot ask the server who you are"))?;
    let user = &answer.body["status"]["userInfo"];
    let groups = user["groups"].as_array().into_iter().flatten();
    Ok((
        user["username"].as_str().unwrap_or_default().to_owned(),
        groups.filter_map(Value::as_str).map(str::to_owned).collect(),
    ))
}

/// Creates an object of one of the platform's kinds.
pub(super) async fn create(
    session: &Session,
    kinds: &Kinds,
    kind_name: &str,
    name: &str,
    spec: Value,
) -> Result<Value, Failure> {
    let kind = kind(kinds, kind_name)?;
    let object = json!({
        "apiVersion": format!("{}/{}", kind.group, kind.version),
        "kind": kind.kind,
        "metadata": {"name": name, "namespace": session.namespace},
        "spec": spec,
    });
    let url = format!(
        "{}?fieldManager={MANAGER}",
        kind.path(Some(&session.namespace), None)
    );
    let answer = session
        .send(Method::POST, &url, Body::Json(object))
        .await
        .map_err(|error| error.failure(format!("cannot create {}", kind.title_of(name))))?;
    Ok(answer.body)
}

/// The promotion that is meant: by its name, or the newest one of a component (to an environment) that has not ended.
pub(super) fn find<'w>(
    world: &'w World,
    namespace: &'w str,
    word: &str,
    environment: Option<&str>,
) -> Result<&'w Promotion, Failure> {
    let word = word.strip_prefix("promotion/").unwrap_or(word);
    if let Some(found) = world.get::<Promotion>(namespace, word) {
        return Ok(found);
    }
    let open = world
        .in_namespace::<Promotion>(namespace)
        .map(AsRef::as_ref)
        .filter(|p| p.spec.owner.component_name == word && !choreo_engine::promotion::is_over(p))
        .filter(|p| environment.is_none_or(|e| p.spec.target_environment == e));
    let newest = open.max_by_key(|p| choreo_engine::promotion::place_of(world, p));
    newest.ok_or_else(|| {
        Failure::new(format!(
            "there is no promotion {word:?}, and none of a component of that name that has not ended"
        ))
        .status(ExitStatus::NotFound)
        .hint("`choreo history` lists promotions; `choreo promote` asks for one")
    })
}

pub(super) fn phase(promotion: &Value) -> &str {
    promotion["status"]["phase"].as_str().unwrap_or("Pending")
}

pub(super) fn is_final(phase: &str) -> bool {
    serde_json::from_value::<PromotionPhase>(json!(phase)).is_ok_and(PromotionPhase::is_final)
}

/// The difference, the gates and the approvals of a promotion.
pub(super) fn show(promotion: &Value, printer: &mut Printer) -> Result<(), Failure> {
    let (spec, status) = (&promotion["spec"], &promotion["status"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let from = spec["sourceEnvironment"].as_str().map_or_else(
        || "back".to_owned(),
        |source| format!("{source} -> {}", text(&spec["targetEnvironment"])),
    );
    printer.line(style::paint(
        style::BOLD,
        format!(
            "{} {from}: {}",
            text(&spec["owner"]["componentName"]),
            text(&status["artifact"])
        ),
    ))?;
    printer.line(format!("promotion  {}", text(&promotion["metadata"]["name"])))?;
    let when = promotion["metadata"]["creationTimestamp"].as_str();
    printer.line(format!(
        "asked by   {}{}",
        spec["requestedBy"].as_str().unwrap_or("nobody known"),
        when.map(|when| format!(" at {when}")).unwrap_or_default()
    ))?;
    if let Some(why) = spec["reason"].as_str() {
        printer.line(format!("why        {why}"))?;
    }
    if let Some(set) = spec["set"]["name"].as_str() {
        printer.line(format!(
            "one of     the {} of set {set}",
            spec["set"]["members"].as_i64().unwrap_or_default()
        ))?;
    }
    if let Some(bypass) = status["bypass"].as_object() {
        printer.line(format!(
            "bypassed   by {}: {}",
            bypass["user"].as_str().unwrap_or_default(),
            bypass["reason"].as_str().unwrap_or_default()
        ))?;
    }
    printer.line(format!("phase      {}", phase(promotion)))?;
    if let Some(waits) = status["waitsFor"].as_str() {
        printer.line(format!("waits for  {waits}"))?;
    }
    let list = |field: &str| status[field].as_array().cloned().unwrap_or_default();
    for address in status["rollout"]["preview"].as_array().into_iter().flatten() {
        printer.line(format!("preview    {}", text(address)))?;
    }
    let changes = list("changes");
    if !changes.is_empty() {
        printer.line("changes")?;
        for line in &changes {
            printer.line(format!("  {}", text(line)))?;
        }
    }
    let gates = list("gates");
    if !gates.is_empty() {
        printer.line("gates")?;
        for gate in &gates {
            let mut line = format!(
                "  {:<24} {}",
                text(&gate["name"]),
                gate["result"].as_str().unwrap_or("running")
            );
            if let Some(round) = gate["round"].as_i64().filter(|round| *round > 0) {
                line += &format!(" (step {round})");
            }
            if let Some(message) = gate["message"].as_str() {
                line += &format!("  {message}");
            }
            if let Some(log) = gate["log"].as_str() {
                line += &format!("  [{log}]");
            }
            printer.line(line)?;
        }
    }
    let decisions = list("decisions");
    if !decisions.is_empty() {
        printer.line("decisions")?;
        for decision in &decisions {
            let comment = decision["comment"]
                .as_str()
                .map(|c| format!("  {c}"))
                .unwrap_or_default();
            printer.line(format!(
                "  {:<24} {}{comment}",
                text(&decision["user"]),
                text(&decision["decision"])
            ))?;
        }
    }
    Ok(())
}

/// Follows a promotion until `done` says so; each new state is told once.
pub(super) async fn follow(
    session: &Session,
    kinds: &Kinds,
    name: &str,
    timeout: Duration,
    printer: &mut Printer,
    live: bool,
    done: impl Fn(&str) -> bool,
) -> Result<Option<Value>, Failure> {
    let kind = kind(kinds, "Promotion")?;
    let mut told = String::new();
    let mut broken = None;
    let seen = until(
        session,
        kind,
        Some(&session.namespace),
        name,
        Instant::now() + timeout,
        |object| {
            let Some(object) = object else {
                return Seen::Done(None);
            };
            let phase = phase(object);
            // Until it was looked at there is nothing to say.
            if object["status"]["phase"].is_null() {
                return Seen::NotYet;
            }
            let waits = object["status"]["waitsFor"].as_str().unwrap_or_default();
            let line = match (
                is_final(phase),
                object["status"]["history"].as_array().and_then(|h| h.last()),
            ) {
                (true, Some(last)) => format!("{phase}: {}", last["message"].as_str().unwrap_or_default()),
                _ => format!("{phase}: {waits}"),
            };
            if live && line != told {
                if let Err(error) = printer.note(&line) {
                    broken = Some(error);
                }
                told = line;
            }
            if done(phase) {
                Seen::Done(Some(object.clone()))
            } else {
                Seen::NotYet
            }
        },
    )
    .await?;
    if let Some(error) = broken {
        return Err(error.into());
    }
    match seen {
        Watched::Done(Some(object)) => Ok(Some(object)),
        Watched::Done(None) => {
            Err(Failure::new(format!("promotion {name} is gone")).status(ExitStatus::NotFound))
        }
        Watched::TimedOut(_) => Ok(None),
    }
}

/// The end of a promotion as the end of a command.
pub(super) fn outcome(promotion: &Value) -> Result<ExitStatus, Failure> {
    let phase = phase(promotion);
    if phase == "Succeeded" || !is_final(phase) {
        return Ok(ExitStatus::Success);
    }
    let last = promotion["status"]["history"]
        .as_array()
        .and_then(|history| history.last());
    let why = last
        .and_then(|entry| entry["message"].as_str())
        .unwrap_or_default();
    let name = promotion["metadata"]["name"].as_str().unwrap_or_default();
    Err(Failure::new(format!("promotion {name} ended as {phase}")).cause(why))
}
