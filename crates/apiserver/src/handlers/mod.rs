//! The handlers of resource paths: decode the request, call the verb, encode the answer. One set for all kinds.

mod binding;
mod connect;
mod create;
mod delete;
mod eviction;
mod get;
mod list;
mod patch;
mod scale;
mod token;
mod update;
mod watch;

use axum::body::Body as HttpBody;
use axum::response::Response;
use choreo_apimachinery::registry::ResourceInfo;
use choreo_apimachinery::status::{ApiError, Result};
use http::{Method, StatusCode};
use std::sync::Arc;

use crate::dispatch::Context;
use crate::negotiate::{Answer, Body, Codec, Transform, header, protobuf, read_body};
use crate::pods::metrics;
use crate::request::Verb;
use crate::respond;
use crate::transform;
use crate::verbs::{Subresource, Target, View, Written};

/// Answers a request for a resource.
///
/// # Errors
/// Whatever is to be answered as a `Status`.
pub(crate) async fn resource(context: Context, body: HttpBody) -> Result<Response> {
    let info = &context.info;
    let served = context.cluster.served().clone();
    let Some(resource) = served
        .registry()
        .lookup(&info.group, &info.version, &info.resource)
    else {
        // Groups that are built in answer with a Status, definitions' groups with a page, as upstream.
        let version = served
            .registry()
            .group(&info.group)
            .and_then(|g| g.version(&info.version));
        if version.is_some_and(|v| v.resources().any(|r| !r.is_crd)) {
            return Err(ApiError::no_such_resource());
        }
        return Ok(respond::page_not_found());
    };
    // A path has a namespace exactly when the resource does, but for lists over all namespaces.
    if !resource.namespaced && !info.namespace.is_empty() {
        return Ok(respond::page_not_found());
    }
    if resource.namespaced && info.namespace.is_empty() && !info.name.is_empty() && info.verb != Verb::Watch {
        return Ok(respond::page_not_found());
    }
    let agent = agent(header(&context.headers, http::header::USER_AGENT.as_str()));
    let mut target = Target::of(&context.cluster, resource, &info.namespace, &context.user, &agent);
    target.is_patch = info.verb == Verb::Patch;
    target.notes.clone_from(&context.notes);
    if !info.subresource.is_empty() {
        if resource.subresource(&info.subresource).is_none() {
            return Ok(respond::page_not_found());
        }
        let body = read_body(&context.headers, body).await?;
        return Box::pin(subresource(&context, &target, &body)).await;
    }
    check_verb(&context, resource)?;
    if info.group == metrics::GROUP
        && let Some(access) = context.cluster.pods()
    {
        return Box::pin(metrics::answer(&context, &target, &**access)).await;
    }
    // In boxes: a future is as large as the largest that it waits for, and this one is moved several times before it runs.
    match info.verb {
        Verb::Get => get::get(&context, &target).await,
        Verb::List => Box::pin(list::list(&context, &target)).await,
        Verb::Watch => Box::pin(watch::watch(&context, &target)).await,
        verb => {
            let body = read_body(&context.headers, body).await?;
            match verb {
                Verb::Create => Box::pin(create::create(&context, &target, &body)).await,
                Verb::Update => Box::pin(update::update(&context, &target, Subresource::Main, &body)).await,
                Verb::Patch => Box::pin(patch::patch(&context, &target, Subresource::Main, &body)).await,
                Verb::Delete => Box::pin(delete::delete(&context, &target, &body)).await,
                Verb::DeleteCollection => Box::pin(delete::delete_collection(&context, &target, &body)).await,
                _ => Err(ApiError::method_not_allowed()),
            }
        }
    }
}

/// Methods that the path does not take.
fn check_verb(context: &Context, resource: &ResourceInfo) -> Result<()> {
    let info = &context.info;
    let fits = match info.verb {
        Verb::Create => info.name.is_empty() && (!resource.namespaced || !info.namespace.is_empty()),
        Verb::Update | Verb::Patch => !info.name.is_empty(),
        // A collection over all namespaces cannot be deleted at once.
        Verb::DeleteCollection => !resource.namespaced || !info.namespace.is_empty(),
        Verb::Other => false,
        _ => true,
    };
    let served = match info.verb {
        // Watching one object is part of watching.
        Verb::Other => false,
        verb => resource.has_verb(verb.as_str()),
    };
    if fits && served {
        return Ok(());
    }
    if resource.is_crd && fits {
        return Err(ApiError::method_not_supported(
            &resource.group,
            &resource.plural,
            info.verb.as_str(),
        ));
    }
    Err(ApiError::method_not_allowed())
}

async fn subresource(context: &Context, target: &Target, body: &Body) -> Result<Response> {
    let info = &context.info;
    let part = match info.subresource.as_str() {
        "status" => Subresource::Status,
        "finalize" => Subresource::Finalize,
        "scale" => return scale::scale(context, target, body).await,
        "ephemeralcontainers" => Subresource::Other("ephemeralcontainers"),
        "resize" => Subresource::Other("resize"),
        "approval" => Subresource::Other("approval"),
        "token" if context.method == Method::POST => return token::issue(context, target, body).await,
        "token" => return Err(ApiError::method_not_allowed()),
        "binding" if context.method == Method::POST => return binding::bind(context, target, body).await,
        "eviction" if context.method == Method::POST => return eviction::evict(context, target, body).await,
        other => return connect::connect(context, target, other).await,
    };
    match info.verb {
        Verb::Get if part != Subresource::Finalize => get::get(context, target).await,
        Verb::Update => update::update(context, target, part, body).await,
        Verb::Patch if part != Subresource::Finalize => patch::patch(context, target, part, body).await,
        _ => Err(ApiError::method_not_allowed()),
    }
}

pub(crate) use list::listed_as;

/// A client's name: its user agent up to the first slash.
fn agent(user_agent: &str) -> String {
    let name = user_agent.split('/').next().unwrap_or_default();
    let name: String = name.chars().filter(|c| !c.is_control()).take(128).collect();
    if name.is_empty() {
        "unknown".to_owned()
    } else {
        name
    }
}

/// An answer with one object.
pub(crate) fn object(
    answer: Answer,
    status: StatusCode,
    target: &Target,
    view: &View,
    warnings: &[String],
    query: &crate::request::Query,
) -> Result<Response> {
    match answer.transform {
        Transform::None if answer.codec == Codec::Protobuf => {
            let bytes = match view {
                View::Stored(object) => {
                    let info = &target.resource;
                    protobuf::encode_text((&info.api_version(), &info.kind), object.json())
                }
                View::Made(..) | View::Foreign(_) => protobuf::encode(&view.value()),
            };
            let bytes = bytes.map_err(ApiError::internal)?;
            Ok(respond::bytes_response(answer, status, bytes.into(), warnings))
        }
        Transform::None => respond::json(answer, status, view.json(), warnings),
        _ => {
            let shown = transform::object(answer.transform, &target.resource, view, query)?;
            respond::object(answer, status, &shown, warnings)
        }
    }
}

/// An answer with what was written.
fn written(context: &Context, answer: Answer, target: &Target, written: &Written) -> Result<Response> {
    let status = if written.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    object(
        answer,
        status,
        target,
        &written.view,
        &written.warnings,
        &context.query,
    )
}

/// The resource that objects of a kind belong to, for subresources that speak another kind.
fn other(context: &Context, resource: (&str, &str, &str)) -> Result<Arc<ResourceInfo>> {
    let served = context.cluster.served();
    served
        .registry()
        .lookup(resource.0, resource.1, resource.2)
        .cloned()
        .ok_or_else(ApiError::no_such_resource)
}
