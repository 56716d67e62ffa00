//! `/healthz`, `/livez`, `/readyz` and `/version`.

use axum::response::Response;
use http::StatusCode;
use serde_json::json;

use crate::dispatch::Context;
use crate::negotiate::negotiate_plain;
use crate::respond;

/// The Kubernetes version whose behaviour is served.
const MAJOR: &str = "1";
const MINOR: &str = "37";

/// Answers a health or version path; none for another path.
pub(crate) fn answer(context: &Context) -> Option<Response> {
    let path = context.info.path.trim_end_matches('/');
    if path == "/version" {
        return Some(version(context));
    }
    ["/healthz", "/livez", "/readyz"].iter().find_map(|endpoint| {
        let check = path.strip_prefix(endpoint)?;
        match check.strip_prefix('/') {
            None if check.is_empty() => Some(all(context, &endpoint[1..])),
            None => None,
            Some(check) => Some(one(context, check)),
        }
    })
}

/// The checks with their outcome; a failed one says why.
fn checks(context: &Context) -> [(&'static str, Result<(), String>); 3] {
    let store = context.cluster.check();
    let served = if context.cluster.served().registry().groups().next().is_some() {
        Ok(())
    } else {
        Err("no resource is served".to_owned())
    };
    [
        ("ping", Ok(())),
        ("store", store),
        ("poststarthook/crd-registry", served),
    ]
}

fn all(context: &Context, endpoint: &str) -> Response {
    let excluded: Vec<&str> = context.query.all("exclude").collect();
    let mut text = String::new();
    let mut failed = false;
    for (name, outcome) in checks(context) {
        if excluded.contains(&name) {
            text.push_str(&format!("[+]{name} excluded: ok\n"));
            continue;
        }
        match outcome {
            Ok(()) => text.push_str(&format!("[+]{name} ok\n")),
            Err(reason) => {
                failed = true;
                tracing::warn!(check = name, "health check failed: {reason}");
                text.push_str(&format!("[-]{name} failed: reason withheld\n"));
            }
        }
    }
    if failed {
        return respond::text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("{text}{endpoint} check failed\n"),
        );
    }
    if context.query.has("verbose") {
        return respond::text(StatusCode::OK, format!("{text}{endpoint} check passed\n"));
    }
    respond::text(StatusCode::OK, "ok")
}

fn one(context: &Context, check: &str) -> Response {
    match checks(context).into_iter().find(|(name, _)| *name == check) {
        None => respond::page_not_found(),
        Some((_, Ok(()))) => respond::text(StatusCode::OK, "ok"),
        Some((name, Err(reason))) => {
            tracing::warn!(check = name, "health check failed: {reason}");
            respond::text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal server error: reason withheld\n",
            )
        }
    }
}

fn version(context: &Context) -> Response {
    let body = json!({
        "major": MAJOR,
        "minor": MINOR,
        "gitVersion": format!("v{MAJOR}.{MINOR}.0+{}", context.server.build()),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, platform()),
    });
    let mut answer = negotiate_plain(&context.headers, &context.query);
    answer.codec = crate::negotiate::Codec::Json;
    match respond::object(answer, StatusCode::OK, &body, &[]) {
        Ok(response) => response,
        Err(error) => respond::error(answer, &error),
    }
}

/// The machine's architecture as Go names it.
fn platform() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
