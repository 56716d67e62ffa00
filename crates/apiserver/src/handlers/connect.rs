//! Subresources that connect with something: containers of Pods, where somebody gives access to them. What there is nothing
//! behind is refused so that a person understands.

use axum::response::Response;
use choreo_apimachinery::status::{ApiError, Result};
use serde_json::{Map, Value};

use crate::admission::{Operation, Review, Spoken};
use crate::authz;
use crate::dispatch::Context;
use crate::pods;
use crate::request::{RequestInfo, Verb};
use crate::verbs::Target;

/// Connects, or refuses to. Who may not be connected at all, and a missing object, is told so first, as everywhere.
pub(super) async fn connect(context: &Context, target: &Target, subresource: &str) -> Result<Response> {
    may_create(context, subresource)?;
    let name = context.info.name.as_str();
    let mut review = Review::new(target, Operation::Connect, subresource, name);
    let wanted = review.spoken().map(|spoken| connection(&spoken, context));
    if let Some(mut wanted) = wanted {
        review.mutate(&mut wanted).await?;
        review.validate(Some(&wanted)).await?;
    }
    target.stored(name)?;
    if target.resource.plural == "pods"
        && target.resource.group.is_empty()
        && pods::is_access(subresource)
        && let Some(access) = context.cluster.pods()
    {
        return pods::answer(context, target, access.clone()).await;
    }
    let what = format!("{}/{subresource}", target.resource.plural);
    Err(match (target.resource.plural.as_str(), subresource) {
        ("pods", "log" | "exec" | "attach" | "portforward" | "proxy") => {
            ApiError::service_unavailable(format!(
                "{what} of {name:?} cannot be answered: no node agent is connected to this cluster, its pods are simulated"
            ))
        }
        ("nodes" | "services", "proxy") => ApiError::service_unavailable(format!(
            "{what} of {name:?} cannot be answered: this cluster has no network to proxy into"
        )),
        _ => ApiError::method_not_supported(&target.resource.group, &what, "this operation"),
    })
}

/// Connections to containers are asked for with GET by some protocols, and are no reading all the same: whoever may only `get`
/// the subresource may not open one. As in kube-apiserver since 1.35 (AuthorizePodWebsocketUpgradeCreatePermission).
fn may_create(context: &Context, subresource: &str) -> Result<()> {
    let opens = matches!(subresource, "exec" | "attach" | "portforward");
    if !opens || context.info.verb != Verb::Get || context.info.resource != "pods" {
        return Ok(());
    }
    let wanted = RequestInfo {
        verb: Verb::Create,
        ..context.info.clone()
    };
    let snapshot = || context.cluster.store().snapshot();
    let method = context.method.as_str();
    authz::authorize(Some(&context.user), &wanted, method, &context.query, snapshot).map(drop)
}

/// What somebody wants to be connected with, as an object of the subresource's kind: the parameters of the request.
fn connection(spoken: &Spoken<'_>, context: &Context) -> Value {
    let query = &context.query;
    let mut wanted = Map::new();
    wanted.insert("kind".to_owned(), spoken.kind.into());
    wanted.insert("apiVersion".to_owned(), spoken.version.into());
    for flag in ["stdin", "stdout", "stderr", "tty"] {
        if query.flag(flag) {
            wanted.insert(flag.to_owned(), true.into());
        }
    }
    if let Some(container) = query.text("container") {
        wanted.insert("container".to_owned(), container.into());
    }
    if !context.info.rest.is_empty() {
        let path = format!("/{}", context.info.rest.join("/"));
        wanted.insert("path".to_owned(), path.into());
    }
    let command: Vec<&str> = query.all("command").collect();
    if !command.is_empty() {
        wanted.insert("command".to_owned(), command.into());
    }
    let ports: Vec<i64> = query.all("ports").filter_map(|port| port.parse().ok()).collect();
    if !ports.is_empty() {
        wanted.insert("ports".to_owned(), ports.into());
    }
    Value::Object(wanted)
}
