//! What is served: `/api`, `/apis`, their groups and versions, the aggregated form, and the OpenAPI documents.

mod aggregated;
mod documents;
mod legacy;
mod openapi;
mod paths;

use axum::body::Body;
use axum::response::Response;
use choreo_apimachinery::status::{ApiError, Result};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderValue, Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha512};

use crate::cluster::Document;
use crate::dispatch::Context;
use crate::negotiate::{Answer, header, negotiate_plain};
use crate::respond;

/// Answers a path that is no resource and no health check.
///
/// # Errors
/// 405 for another method than GET.
pub(crate) fn answer(context: &Context) -> Result<Response> {
    let path = context.info.path.trim_matches('/');
    let mut parts = path.split('/');
    let parts = [
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    ];
    let known = matches!(
        parts[0],
        "" | ".well-known" | "openid" | "api" | "apis" | "openapi"
    );
    if known && !matches!(context.method, Method::GET | Method::HEAD) {
        return Err(ApiError::method_not_allowed());
    }
    let served = context.cluster.served().clone();
    let registry = served.registry();
    match parts {
        ["", "", ""] => plain(context, &legacy::paths(registry)),
        ["api" | "apis", "", ""] => {
            let core = parts[0] == "api";
            if let Some((codec, version)) = aggregated::wanted(header(&context.headers, "accept")) {
                let content_type = aggregated::content_type(codec, version);
                let document = served.document(&format!("{path} {content_type}"), |registry| {
                    aggregated::list(registry, core, codec, version)
                })?;
                return Ok(tagged(context, &document, &content_type));
            }
            if core {
                plain(context, &legacy::core_versions(host(context)))
            } else {
                plain(context, &legacy::groups(registry))
            }
        }
        ["api", "v1", ""] => plain_some(context, legacy::resources(registry, "", "v1")),
        ["apis", group, ""] => plain_some(context, legacy::group(registry, group)),
        ["apis", group, version] if !group.is_empty() => {
            plain_some(context, legacy::resources(registry, group, version))
        }
        [".well-known", "openid-configuration", ""] => {
            let prefix = context.info.cluster.as_deref();
            let prefix = prefix.map_or_else(String::new, |name| format!("/clusters/{name}"));
            let base = format!("https://{}{prefix}", host(context));
            json_document(&context.cluster.issuer().discovery(&base), "application/json")
        }
        ["openid", "v1", "jwks"] => {
            json_document(&context.cluster.issuer().keys(), "application/jwk-set+json")
        }
        ["openapi", ..] => openapi::answer(context, &served, path),
        _ => Ok(respond::page_not_found()),
    }
}

fn host(context: &Context) -> &str {
    header(&context.headers, "host")
}

fn plain(context: &Context, value: &Value) -> Result<Response> {
    let answer = negotiate_plain(&context.headers, &context.query);
    respond::object(answer, StatusCode::OK, value, &[])
}

/// A document for others than Kubernetes clients.
fn json_document(value: &Value, content_type: &'static str) -> Result<Response> {
    let mut response = Response::new(Body::from(value.to_string()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    Ok(response)
}

fn plain_some(context: &Context, value: Option<Value>) -> Result<Response> {
    match value {
        Some(value) => plain(context, &value),
        None => Ok(respond::page_not_found()),
    }
}

/// A document with its entity tag; 304 when the client has it already.
fn tagged(context: &Context, document: &Document, content_type: &str) -> Response {
    let etag = format!("\"{}\"", document.etag);
    let known = header(&context.headers, IF_NONE_MATCH.as_str());
    let mut response = if known.split(',').any(|tag| tag.trim() == etag) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        let answer = Answer {
            pretty: false,
            ..negotiate_plain(&context.headers, &context.query)
        };
        respond::bytes_response(answer, StatusCode::OK, document.bytes.clone(), &[])
    };
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(content_type) {
        headers.insert(CONTENT_TYPE, value);
    }
    if let Ok(value) = HeaderValue::from_str(&etag) {
        headers.insert(ETAG, value);
    }
    headers.append(VARY, HeaderValue::from_static("Accept"));
    response
}

/// The entity tag of a document.
pub(crate) fn etag(bytes: &[u8]) -> String {
    hex::encode_upper(Sha512::digest(bytes))
}

/// `[]` rather than nothing.
fn texts(texts: &[String]) -> Value {
    json!(texts)
}
