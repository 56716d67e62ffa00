//! One request on its way through the audit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use choreo_apimachinery::status::ApiError;
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use super::Audit;
use super::policy::{Level, Stage, Verdict};
use crate::negotiate;
use crate::pods::Lasting;
use crate::request::{Query, RequestInfo};
use crate::reviews::user_info;
use crate::serve::{AUDIT_ID, ClientAddress};
use crate::user::UserInfo;

/// Requests that take longer say for what they took it.
const SLOW: Duration = Duration::from_millis(500);

/// What the annotations of times are called before the name of the part.
const LATENCY: &str = "apiserver.latency.k8s.io/";

/// A part of the server that a request can spend its time in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// The queue of its user.
    Queue,
    /// Webhooks that change objects.
    MutatingWebhooks,
    /// Webhooks that judge.
    ValidatingWebhooks,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Part::Queue => "apf-queue-wait",
            Part::MutatingWebhooks => "mutating-webhook",
            Part::ValidatingWebhooks => "validating-webhook",
        }
    }
}

/// What is found out about a request while it is worked on.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    inner: Mutex<Noted>,
}

#[derive(Debug, Default)]
struct Noted {
    /// As whom it counts, if not as who sent it.
    acting: Option<Value>,
    annotations: BTreeMap<String, String>,
    took: BTreeMap<Part, Duration>,
}

impl Noted {
    /// Annotates what the time went into, if it was long.
    fn tell_times(&mut self, total: Duration) {
        if total <= SLOW {
            return;
        }
        let parts = self.took.iter().map(|(part, time)| (part.name(), *time));
        for (name, time) in parts.chain([("total", total)]) {
            self.annotations
                .insert(format!("{LATENCY}{name}"), go_duration(time));
        }
    }
}

impl Notes {
    /// The request counts as somebody else's.
    pub(crate) fn acting(&self, user: &UserInfo) {
        self.inner.lock().acting = Some(user_info(user));
    }

    /// The request has spent time in a part of the server; times in the same part add up.
    pub(crate) fn took(&self, part: Part, time: Duration) {
        *self.inner.lock().took.entry(part).or_default() += time;
    }

    /// Something that the event is to say.
    pub(crate) fn annotate(&self, key: &str, value: &str) {
        let mut inner = self.inner.lock();
        inner.annotations.insert(key.to_owned(), value.to_owned());
    }
}

/// Writes the events of one request.
pub(crate) struct Recorder {
    audit: Arc<Audit>,
    verdict: Verdict,
    event: Value,
    notes: Arc<Notes>,
    lasts: bool,
    begun: Instant,
}

fn now() -> String {
    jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%S.%6fZ")
        .to_string()
}

impl Recorder {
    /// Begins with a request; none when the policy wants nothing of it.
    pub(crate) fn begin(
        audit: &Arc<Audit>,
        parts: &Parts,
        info: &RequestInfo,
        user: Option<&UserInfo>,
    ) -> Option<Recorder> {
        let anonymous = UserInfo::anonymous();
        let recorder = Recorder::new(audit, parts, info, user.unwrap_or(&anonymous))?;
        recorder.write(Stage::RequestReceived);
        Some(recorder)
    }

    /// Writes down that a request was refused for want of credentials, which nobody knows the user of. Gives the event's
    /// identity; none when the policy wants nothing of it.
    pub(crate) fn refused(audit: &Arc<Audit>, parts: &Parts) -> Option<String> {
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let info = RequestInfo::parse(&parts.method, parts.uri.path(), &query);
        let mut recorder = Recorder::new(audit, parts, &info, &UserInfo::default())?;
        recorder.event["user"] = json!({});
        let status = serde_json::to_value(ApiError::unauthorized()).unwrap_or_default();
        recorder.status(&status, StatusCode::UNAUTHORIZED);
        if recorder.verdict.level == Level::RequestResponse {
            recorder.event["responseObject"] = status;
        }
        recorder.write(Stage::ResponseStarted);
        recorder.event["auditID"].as_str().map(str::to_owned)
    }

    fn new(audit: &Arc<Audit>, parts: &Parts, info: &RequestInfo, user: &UserInfo) -> Option<Recorder> {
        let verb = if info.is_resource {
            info.verb.as_str().to_owned()
        } else {
            parts.method.as_str().to_lowercase()
        };
        let verdict = audit.policy.judge(user, info, &verb);
        if verdict.level == Level::None {
            return None;
        }
        let id = parts
            .headers
            .get(AUDIT_ID)
            .and_then(|id| id.to_str().ok())
            .filter(|id| !id.is_empty() && id.len() <= 64)
            .map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned);
        let uri = parts.uri.path_and_query().map_or("/", |uri| uri.as_str());
        let mut event = json!({
            "kind": "Event",
            "apiVersion": "audit.k8s.io/v1",
            "level": verdict.level.as_str(),
            "auditID": id,
            "stage": "RequestReceived",
            "requestURI": uri,
            "verb": verb,
            "user": user_info(user),
            "requestReceivedTimestamp": now(),
        });
        if let Some(ClientAddress(address)) = parts.extensions.get::<ClientAddress>() {
            event["sourceIPs"] = json!([address.ip().to_string()]);
        }
        let agent = negotiate::header(&parts.headers, http::header::USER_AGENT.as_str());
        if !agent.is_empty() {
            event["userAgent"] = agent.into();
        }
        if info.is_resource {
            event["objectRef"] = object_ref(info);
        }
        Some(Recorder {
            audit: audit.clone(),
            verdict,
            event,
            notes: Arc::default(),
            lasts: info.is_long_running(),
            begun: Instant::now(),
        })
    }

    /// Where what is found out goes.
    pub(crate) fn notes(&self) -> Arc<Notes> {
        self.notes.clone()
    }

    /// Whether what was sent is written down.
    pub(crate) fn wants_request(&self) -> bool {
        self.verdict.level >= Level::Request && !self.lasts
    }

    /// What was sent.
    pub(crate) fn request(&mut self, content_type: &str, bytes: &Bytes) {
        if bytes.is_empty() {
            return;
        }
        let body = negotiate::Body {
            content_type: content_type.to_owned(),
            bytes: bytes.clone(),
        };
        let decoded = body.decode().ok().or_else(|| serde_json::from_slice(bytes).ok());
        let Some(mut object) = decoded else { return };
        if let Some(reference) = self.event.get_mut("objectRef")
            && reference.get("name").is_none()
            && let Some(name) = object.pointer("/metadata/name").filter(|name| name.is_string())
        {
            reference["name"] = name.clone();
        }
        self.tidy(&mut object);
        self.event["requestObject"] = object;
    }

    fn tidy(&self, object: &mut Value) {
        if !self.verdict.omit_managed_fields {
            return;
        }
        let forget = |object: &mut Value| {
            if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.remove("managedFields");
            }
        };
        forget(object);
        let items = object.get_mut("items").and_then(Value::as_array_mut);
        items.into_iter().flatten().for_each(forget);
    }

    fn write(&self, stage: Stage) {
        if self.verdict.omit_stages.contains(&stage) {
            return;
        }
        let mut event = self.event.clone();
        event["stage"] = match stage {
            Stage::RequestReceived => "RequestReceived",
            Stage::ResponseStarted => "ResponseStarted",
            Stage::ResponseComplete => "ResponseComplete",
            Stage::Panic => "Panic",
        }
        .into();
        event["stageTimestamp"] = now().into();
        let mut noted = self.notes.inner.lock();
        if stage == Stage::ResponseComplete && !self.lasts {
            noted.tell_times(self.begun.elapsed());
        }
        if let Some(acting) = &noted.acting {
            event["impersonatedUser"] = acting.clone();
        }
        if !noted.annotations.is_empty() {
            event["annotations"] = json!(noted.annotations);
        }
        drop(noted);
        self.audit.write(&event);
    }

    /// The answer is there; `panicked` if it is what was left of a panic.
    pub(crate) async fn finish(mut self, response: Response, panicked: bool) -> Response {
        let (mut parts, body) = response.into_parts();
        let id = self.event["auditID"].as_str().unwrap_or_default();
        if let Ok(value) = HeaderValue::from_str(id) {
            parts.headers.insert(AUDIT_ID, value);
        }
        let failed = parts.status.is_client_error() || parts.status.is_server_error();
        self.event["responseStatus"] = json!({"metadata": {}, "code": parts.status.as_u16()});
        if self.lasts && !failed {
            self.write(Stage::ResponseStarted);
            let end = End(self);
            if let Some(lasting) = parts.extensions.remove::<Lasting>() {
                lasting.keep(end);
                return Response::from_parts(parts, body);
            }
            // It goes with the body, whoever ends that.
            let body = body.map_frame(move |frame| {
                let _ = &end;
                frame
            });
            return Response::from_parts(parts, Body::new(body));
        }
        let wants = self.verdict.level == Level::RequestResponse;
        if !(failed || wants) {
            self.write(Stage::ResponseComplete);
            return Response::from_parts(parts, body);
        }
        // Answers that are not streams are in memory already.
        let bytes = match body.collect().await {
            Ok(collected) => collected.to_bytes(),
            Err(_) => Bytes::new(),
        };
        if let Ok(mut object) = serde_json::from_slice::<Value>(&bytes) {
            if object["kind"] == "Status" {
                self.status(&object, parts.status);
            }
            if wants {
                self.tidy(&mut object);
                self.event["responseObject"] = object;
            }
        }
        self.write(if panicked {
            Stage::Panic
        } else {
            Stage::ResponseComplete
        });
        Response::from_parts(parts, Body::from(bytes))
    }

    fn status(&mut self, status: &Value, code: StatusCode) {
        let mut said = Map::new();
        said.insert("metadata".to_owned(), json!({}));
        for field in ["status", "message", "reason", "details"] {
            if let Some(value) = status.get(field) {
                said.insert(field.to_owned(), value.clone());
            }
        }
        said.insert("code".to_owned(), code.as_u16().into());
        self.event["responseStatus"] = Value::Object(said);
    }
}

fn object_ref(info: &RequestInfo) -> Value {
    let mut reference = Map::new();
    for (field, text) in [
        ("resource", &info.resource),
        ("namespace", &info.namespace),
        ("name", &info.name),
        ("apiGroup", &info.group),
        ("apiVersion", &info.version),
        ("subresource", &info.subresource),
    ] {
        if !text.is_empty() {
            reference.insert(field.to_owned(), text.as_str().into());
        }
    }
    Value::Object(reference)
}

/// Writes that a watch, a log or a session has ended, whoever ended it.
struct End(Recorder);

impl Drop for End {
    fn drop(&mut self) {
        self.0.write(Stage::ResponseComplete);
    }
}

/// A time as Go prints it: `1.5s`, `2m0.25s`, `750ms`.
fn go_duration(time: Duration) -> String {
    let trimmed = |value: u128, digits: usize| {
        let text = format!("{value:0width$}", width = digits);
        text.trim_end_matches('0').to_owned()
    };
    let unit = |whole: u128, rest: u128, digits: usize, name: &str| match trimmed(rest, digits).as_str() {
        "" => format!("{whole}{name}"),
        rest => format!("{whole}.{rest}{name}"),
    };
    let nanos = time.as_nanos();
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => unit(nanos / 1_000, nanos % 1_000, 3, "µs"),
        1_000_000..1_000_000_000 => unit(nanos / 1_000_000, nanos % 1_000_000, 6, "ms"),
        _ => {
            let seconds = nanos / 1_000_000_000;
            let rest = unit(seconds % 60, nanos % 1_000_000_000, 9, "s");
            match (seconds / 3600, seconds / 60 % 60) {
                (0, 0) => rest,
                (0, minutes) => format!("{minutes}m{rest}"),
                (hours, minutes) => format!("{hours}h{minutes}m{rest}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_printed_as_go_does() {
        for (nanos, expected) in [
            (0, "0s"),
            (900, "900ns"),
            (1_500, "1.5µs"),
            (512_345_678, "512.345678ms"),
            (600_000_000, "600ms"),
            (1_000_000_000, "1s"),
            (1_250_000_001, "1.250000001s"),
            (125_000_000_000, "2m5s"),
            (3_600_000_000_000, "1h0m0s"),
        ] {
            assert_eq!(go_duration(Duration::from_nanos(nanos)), expected);
        }
    }

    #[test]
    fn only_slow_requests_tell_their_times() {
        let notes = Notes::default();
        notes.took(Part::MutatingWebhooks, Duration::from_millis(200));
        notes.took(Part::MutatingWebhooks, Duration::from_millis(300));
        notes.inner.lock().tell_times(SLOW);
        assert!(notes.inner.lock().annotations.is_empty());
        notes.inner.lock().tell_times(Duration::from_millis(700));
        let expected = [
            (
                "apiserver.latency.k8s.io/mutating-webhook".to_owned(),
                "500ms".to_owned(),
            ),
            ("apiserver.latency.k8s.io/total".to_owned(), "700ms".to_owned()),
        ];
        assert_eq!(notes.inner.lock().annotations, BTreeMap::from(expected));
    }
}
