//! `/openapi/v2` and `/openapi/v3`.

use std::sync::Arc;

use axum::response::Response;
use choreo_apimachinery::registry::Registry;
use choreo_apimachinery::status::{ApiError, Result};
use serde_json::{Value, json};

use super::{documents, tagged};
use crate::cluster::Served;
use crate::dispatch::Context;
use crate::negotiate::{accepted, header, protobuf};
use crate::respond;

/// Answers a path under `/openapi`.
///
/// # Errors
/// 406 for a client that takes nothing that there is.
pub(super) fn answer(context: &Context, served: &Arc<Served>, path: &str) -> Result<Response> {
    if path == "openapi/v2" {
        if wants(context, &V2_PROTOBUF) {
            let document = served.document("openapi/v2 protobuf", |registry| {
                Ok::<_, ApiError>(protobuf::openapi::encode(&documents::v2(registry)))
            })?;
            return Ok(tagged(context, &document, V2_PROTOBUF[0]));
        }
        check_json(context)?;
        let document = served.document("openapi/v2", |registry| encode(&documents::v2(registry)))?;
        return Ok(tagged(context, &document, "application/json"));
    }
    if path == "openapi/v3" {
        check_json(context)?;
        let document = served.document("openapi/v3", |registry| encode(&index(registry)))?;
        return Ok(tagged(context, &document, "application/json"));
    }
    let Some(place) = path.strip_prefix("openapi/v3/") else {
        return Ok(respond::page_not_found());
    };
    let (group, version) = match place.split('/').collect::<Vec<_>>()[..] {
        ["api", version] => ("", version),
        ["apis", group, version] => (group, version),
        _ => return Ok(respond::page_not_found()),
    };
    if served
        .registry()
        .group(group)
        .and_then(|g| g.version(version))
        .is_none()
    {
        return Ok(respond::page_not_found());
    }
    if wants(context, &V3_PROTOBUF) {
        let document = served.document(&format!("openapi/v3 {group}/{version} protobuf"), |registry| {
            Ok::<_, ApiError>(protobuf::openapi::encode_v3(&documents::v3(
                registry, group, version,
            )))
        })?;
        return Ok(tagged(context, &document, V3_PROTOBUF[0]));
    }
    check_json(context)?;
    let document = served.document(&format!("openapi/v3 {group}/{version}"), |registry| {
        encode(&documents::v3(registry, group, version))
    })?;
    Ok(tagged(context, &document, "application/json"))
}

/// The list of group versions, each with a hash of its document so that clients can keep it.
fn index(registry: &Registry) -> Value {
    let mut paths = serde_json::Map::new();
    for group in registry.groups() {
        for version in group.versions() {
            let place = match group.name() {
                "" => format!("api/{}", version.name()),
                name => format!("apis/{name}/{}", version.name()),
            };
            let hash = documents::hash(registry, group.name(), version.name());
            let url = format!("/openapi/v3/{place}?hash={hash}");
            paths.insert(place, json!({"serverRelativeURL": url}));
        }
    }
    json!({"paths": paths})
}

fn encode(value: &Value) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(ApiError::internal)
}

/// The v2 document in protobuf, which client-go asks for, and what that was once called, which is what client-go still says.
const V2_PROTOBUF: [&str; 2] = [
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
];

/// The same of a v3 document.
const V3_PROTOBUF: [&str; 2] = [
    "application/com.github.proto-openapi.spec.v3.v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v3@v1.0+protobuf",
];

/// Whether the client would rather have a document in protobuf than as JSON.
fn wants(context: &Context, names: &[&str]) -> bool {
    let clauses = accepted(header(&context.headers, "accept"));
    clauses
        .first()
        .is_some_and(|favourite| names.contains(&favourite.name.as_str()))
}

/// The documents exist as JSON otherwise.
fn check_json(context: &Context) -> Result<()> {
    let clauses = accepted(header(&context.headers, "accept"));
    let json = |name: &str| matches!(name, "application/json" | "application/*" | "*/*");
    if clauses.is_empty() || clauses.iter().any(|c| json(&c.name)) {
        return Ok(());
    }
    Err(ApiError::not_acceptable(&["application/json"]))
}
