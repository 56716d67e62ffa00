//! Traces, as a collector gets them.

use std::sync::Arc;

use axum::Json;
use axum::routing::post;
use choreo_manager::traces::{self, Exporter, Recorder};
use choreo_testkit::Bed;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::support::{alone, kinds, options, start_here};

type Requests = Arc<Mutex<Vec<Value>>>;

async fn collector() -> anyhow::Result<(String, Requests)> {
    let requests = Requests::default();
    let seen = Arc::clone(&requests);
    let router = axum::Router::new().route(
        "/v1/traces",
        post(move |Json(request): Json<Value>| async move {
            seen.lock().push(request);
            Json(json!({}))
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok((url, requests))
}

fn spans(requests: &Requests) -> Vec<Value> {
    let mut all = Vec::new();
    for request in requests.lock().iter() {
        let resource = &request["resourceSpans"][0];
        assert_eq!(
            resource["resource"]["attributes"][0],
            json!({"key": "service.name", "value": {"stringValue": "choreo-manager"}})
        );
        all.extend(resource["scopeSpans"][0]["spans"].as_array().unwrap().clone());
    }
    all
}

fn attribute<'a>(span: &'a Value, name: &str) -> Option<&'a str> {
    let mut all = span["attributes"].as_array()?.iter();
    all.find(|attribute| attribute["key"] == name)?["value"]["stringValue"].as_str()
}

/// On one thread, since the subscriber is that of the thread.
#[tokio::test]
async fn a_reconcile_is_a_trace_with_the_requests_in_it() -> anyhow::Result<()> {
    let _alone = alone().await;
    let (endpoint, requests) = collector().await?;
    let (recorder, recorded) = traces::channel();
    let subscriber = tracing_subscriber::registry().with(recorder.with_filter(filter_fn(Recorder::wants)));
    let _default = tracing::subscriber::set_default(subscriber);
    let end = CancellationToken::new();
    let exporter = Exporter::new(&endpoint, "me", recorded)?;
    let exporting = tokio::spawn(exporter.run(end.clone()));

    let bed = Bed::start().await?;
    let manager = start_here(options(bed.control_config(), "traced")).await;
    kinds(&bed.control).await?;
    bed.organization("traced").await?;
    bed.control.wait_ready("DataPlane", "traced", "default").await?;
    bed.control.delete("Organization", "", "traced").await?;
    manager.stop().await?;
    end.cancel();
    exporting.await?;

    let spans = spans(&requests);
    let reconcile = spans
        .iter()
        .find(|span| span["name"] == "reconcile" && attribute(span, "key") == Some("Organization traced"))
        .unwrap_or_else(|| panic!("no trace of the organization among {} spans", spans.len()));
    assert_eq!(attribute(reconcile, "controller"), Some("organization"));
    assert_eq!(reconcile["parentSpanId"], Value::Null);
    let id = |span: &Value, field: &str| span[field].as_str().unwrap_or_default().to_owned();
    assert_eq!(
        (id(reconcile, "traceId").len(), id(reconcile, "spanId").len()),
        (32, 16)
    );
    let request = spans
        .iter()
        .find(|span| span["parentSpanId"] == reconcile["spanId"] && span["name"] == "request")
        .expect("no request in it");
    assert_eq!(request["traceId"], reconcile["traceId"]);
    assert!(attribute(request, "verb").is_some(), "{request}");
    let nanos = |span: &Value, field: &str| id(span, field).parse::<u128>().unwrap();
    assert!(nanos(reconcile, "startTimeUnixNano") <= nanos(request, "startTimeUnixNano"));
    assert!(nanos(request, "endTimeUnixNano") <= nanos(reconcile, "endTimeUnixNano"));
    bed.stop();
    Ok(())
}

#[tokio::test]
async fn an_endpoint_that_is_none_is_said() {
    for wrong in ["localhost:4318", "not an address", "ftp://x"] {
        let (_, recorded) = traces::channel();
        let error = Exporter::new(wrong, "me", recorded).err().unwrap().to_string();
        assert!(
            error.contains(wrong) && error.contains("http://localhost:4318"),
            "{error}"
        );
    }
}
