//! Spans in the JSON form of OTLP: `ExportTraceServiceRequest` with the names in lower camel case, ids in hexadecimal, and numbers of
//! 64 bits as text.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tracing::Level;

use super::{Finished, Happened, Named};

/// Of `SpanKind`.
const INTERNAL: u8 = 1;
const CLIENT: u8 = 3;
/// Of `StatusCode`.
const ERROR: u8 = 2;

/// A request with these spans, from a service that `resource` describes.
pub(crate) fn request(resource: &[(&str, String)], spans: &[Finished]) -> Value {
    let resource: Vec<Value> = resource
        .iter()
        .map(|(name, value)| attribute(name, &json!(value)))
        .collect();
    let spans: Vec<Value> = spans.iter().map(span).collect();
    json!({"resourceSpans": [{
        "resource": {"attributes": resource},
        "scopeSpans": [{
            "scope": {"name": "choreo", "version": env!("CARGO_PKG_VERSION")},
            "spans": spans,
        }],
    }]})
}

fn span(span: &Finished) -> Value {
    let mut out = json!({
        "traceId": format!("{:032x}", span.trace),
        "spanId": format!("{:016x}", span.span),
        "name": span.name,
        "kind": if span.name == "request" { CLIENT } else { INTERNAL },
        "startTimeUnixNano": nanos(span.start),
        "endTimeUnixNano": nanos(span.end),
        "attributes": attributes(&span.fields),
        "events": span.events.iter().map(event).collect::<Vec<_>>(),
    });
    if let Some(parent) = span.parent {
        out["parentSpanId"] = json!(format!("{parent:016x}"));
    }
    if span.failed {
        out["status"] = json!({"code": ERROR});
    }
    out
}

fn event(event: &Happened) -> Value {
    let message = event.fields.iter().find(|(name, _)| *name == "message");
    let message = message.and_then(|(_, value)| value.as_str()).unwrap_or_default();
    let rest = event.fields.iter().filter(|(name, _)| *name != "message");
    let mut attributes: Vec<Value> = rest.map(|(name, value)| attribute(name, value)).collect();
    attributes.push(attribute("level", &json!(level(event.level))));
    json!({"timeUnixNano": nanos(event.at), "name": message, "attributes": attributes})
}

fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

fn attributes(fields: &[Named]) -> Vec<Value> {
    fields
        .iter()
        .map(|(name, value)| attribute(name, value))
        .collect()
}

fn attribute(name: &str, value: &Value) -> Value {
    let value = match value {
        Value::Bool(value) => json!({"boolValue": value}),
        Value::Number(number) => json!({"intValue": number.to_string()}),
        Value::String(text) => json!({"stringValue": text}),
        other => json!({"stringValue": other.to_string()}),
    };
    json!({"key": name, "value": value})
}

fn nanos(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_nanos().to_string()
}
