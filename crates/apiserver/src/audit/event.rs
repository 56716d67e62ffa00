//! One request on its way through the audit.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, HeaderValue, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use super::Audit;
use super::policy::{Level, Stage, Verdict};
use crate::negotiate;
use crate::request::{RequestInfo, Verb};
use crate::reviews::user_info;
use crate::serve::ClientAddress;
use crate::user::UserInfo;

/// The header by which a client finds its request in the audit.
const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

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
}

impl Notes {
    /// The request counts as somebody else's.
    pub(crate) fn acting(&self, user: &UserInfo) {
        self.inner.lock().acting = Some(user_info(user));
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
        let user = user.unwrap_or(&anonymous);
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
        let recorder = Recorder {
            audit: audit.clone(),
            verdict,
            event,
            notes: Arc::default(),
            lasts: info.verb == Verb::Watch,
        };
        recorder.write(Stage::RequestReceived);
        Some(recorder)
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
        let noted = self.notes.inner.lock();
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
            let body = Body::new(Lasting {
                body,
                _end: End(self),
            });
            return Response::from_parts(parts, body);
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

/// Writes that a watch has ended, whoever ended it.
struct End(Recorder);

impl Drop for End {
    fn drop(&mut self) {
        self.0.write(Stage::ResponseComplete);
    }
}

/// The body of a watch.
struct Lasting {
    body: Body,
    _end: End,
}

impl HttpBody for Lasting {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
