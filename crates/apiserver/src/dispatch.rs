//! The one entrance of all requests: read what is asked, check who asks, call the handler, answer.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::response::Response;
use choreo_apimachinery::status::{ApiError, Result};
use futures::FutureExt;
use http::request::Parts;
use http::{HeaderMap, Method, Request};
use hyper::upgrade::OnUpgrade;
use parking_lot::Mutex;

use crate::audit::{Notes, Part, Recorder};
use crate::authz;
use crate::backup;
use crate::cluster::Cluster;
use crate::discovery;
use crate::flow::Entered;
use crate::handlers;
use crate::health;
use crate::negotiate::{Answer, Offer, negotiate, negotiate_plain, read_body};
use crate::rbac;
use crate::request::{Query, RequestInfo, Verb};
use crate::respond;
use crate::server::ApiServer;
use crate::user::UserInfo;
use crate::verbs::Target;

/// What is said to whom the server leaves in the middle of a write.
const GOING_DOWN: &str =
    "the server is going down; whether the change was made is to be seen when it is back";

/// What a handler gets to know about its request.
pub(crate) struct Context {
    /// The server.
    pub server: ApiServer,
    /// The logical cluster.
    pub cluster: Arc<Cluster>,
    /// What is asked.
    pub info: RequestInfo,
    /// With which method.
    pub method: Method,
    /// With which parameters.
    pub query: Query,
    /// With which headers.
    pub headers: HeaderMap,
    /// By whom.
    pub user: UserInfo,
    /// What the audit is to be told, if there is one.
    pub notes: Option<Arc<Notes>>,
    /// The connection that the request came on, for handlers that speak something else on it.
    pub upgrade: Mutex<Option<OnUpgrade>>,
}

impl Context {
    /// The form of the answer for an object or a collection of the target.
    pub(crate) fn negotiate(&self, target: &Target, collection: bool) -> Result<Answer> {
        let offer = Offer {
            collection,
            // The scale of a custom resource is of a built-in kind.
            protobuf: !target.resource.is_crd || self.info.subresource == "scale",
            stream: self.info.verb == Verb::Watch,
        };
        negotiate(&self.headers, &self.query, offer)
    }
}

/// Answers a request, and has the audit write it down. A panic in a handler is answered with a 500 and logged; the connection
/// lives on.
pub(crate) async fn dispatch(
    server: ApiServer,
    cluster: Option<Arc<str>>,
    request: Request<Body>,
) -> Response {
    let Some(audit) = server.audit().cloned() else {
        return answer(server, cluster, request, None).await.0;
    };
    let (parts, mut body) = request.into_parts();
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let info = RequestInfo::parse(&parts.method, parts.uri.path(), &query);
    let user = parts.extensions.get::<UserInfo>();
    let Some(mut recorder) = Recorder::begin(&audit, &parts, &info, user) else {
        return answer(server, cluster, Request::from_parts(parts, body), None)
            .await
            .0;
    };
    if recorder.wants_request() {
        match read_body(&parts.headers, body).await {
            Ok(read) => {
                recorder.request(&read.content_type, &read.bytes);
                body = Body::from(read.bytes);
            }
            Err(error) => {
                let refused = respond::error(negotiate_plain(&parts.headers, &query), &error);
                return recorder.finish(refused, false).await;
            }
        }
    }
    let notes = Some(recorder.notes());
    let (response, panicked) = answer(server, cluster, Request::from_parts(parts, body), notes).await;
    recorder.finish(response, panicked).await
}

/// The answer to a request, and whether its handler panicked.
pub(crate) async fn answer(
    server: ApiServer,
    cluster: Option<Arc<str>>,
    request: Request<Body>,
    notes: Option<Arc<Notes>>,
) -> (Response, bool) {
    let (mut parts, body) = request.into_parts();
    let upgrade = Mutex::new(parts.extensions.remove::<OnUpgrade>());
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let info = RequestInfo::parse(&parts.method, parts.uri.path(), &query);
    let answer = negotiate_plain(&parts.headers, &query);
    let refuse = |error: &ApiError| (respond::error(answer, error), false);
    let user = parts.extensions.remove::<UserInfo>();
    let head = parts.method == Method::HEAD;

    let cluster = match cluster.as_deref().or(info.cluster.as_deref()) {
        None => server.default_cluster().clone(),
        Some(name) => match server.cluster(name) {
            Some(cluster) => cluster.clone(),
            None if user.is_some() => return (respond::page_not_found(), false),
            // A stranger does not learn which clusters there are.
            None => return refuse(&ApiError::unauthorized()),
        },
    };
    let other = match other(&cluster, user.as_ref(), &parts.headers) {
        Ok(other) => other,
        Err(error) => return refuse(&error),
    };
    let waits = Instant::now();
    let entered = match other.as_ref().or(user.as_ref()) {
        Some(acting) => cluster.flow().enter(acting, &info, &parts.method).await,
        None if authz::is_public(&info) => {
            let anybody = UserInfo::anonymous();
            cluster.flow().enter(&anybody, &info, &parts.method).await
        }
        // Nobody works for a stranger.
        None => Ok(Entered::default()),
    };
    let Entered { seat: _seat, uids } = match entered {
        Ok(entered) => entered,
        Err(crowded) => return (crowded.answer(), false),
    };
    if let Some(notes) = &notes {
        notes.took(Part::Queue, waits.elapsed());
    }
    let asked = Asked {
        server,
        cluster,
        info,
        query,
        parts,
        user,
        other,
        notes,
        upgrade,
    };
    let (mut response, panicked) = authorized(asked, body, answer).await;
    if let Some(uids) = uids {
        uids.tell(&mut response);
    }
    if head {
        response = response.map(|_| Body::empty());
    }
    (response, panicked)
}

/// A request that has its seat.
struct Asked {
    server: ApiServer,
    cluster: Arc<Cluster>,
    info: RequestInfo,
    query: Query,
    parts: Parts,
    user: Option<UserInfo>,
    /// As whom else it counts.
    other: Option<UserInfo>,
    notes: Option<Arc<Notes>>,
    upgrade: Mutex<Option<OnUpgrade>>,
}

/// The answer to a request if whoever asks may, and whether its handler panicked.
async fn authorized(asked: Asked, body: Body, answer: Answer) -> (Response, bool) {
    let Asked {
        server,
        cluster,
        info,
        query,
        parts,
        user,
        other,
        notes,
        upgrade,
    } = asked;
    let refuse = |error: &ApiError| (respond::error(answer, error), false);
    let acting = other.as_ref().or(user.as_ref());
    let snapshot = || cluster.store().snapshot();
    let decision = authz::authorize(acting, &info, parts.method.as_str(), &query, snapshot);
    if let Some(notes) = &notes {
        if let Some(acting) = acting.filter(|acting| Some(*acting) != user.as_ref()) {
            notes.acting(acting);
        }
        let (said, reason) = match &decision {
            Ok(reason) => ("allow", reason.as_str()),
            Err(_) => ("forbid", ""),
        };
        notes.annotate("authorization.k8s.io/decision", said);
        notes.annotate("authorization.k8s.io/reason", reason);
    }
    if let Err(error) = decision {
        return refuse(&error);
    }
    let user = other.or(user).unwrap_or_else(UserInfo::anonymous);
    let context = Context {
        cluster,
        query,
        method: parts.method,
        headers: parts.headers,
        user,
        info,
        server,
        notes,
        upgrade,
    };
    let place = format!("{} {}", context.method, parts.uri.path());
    let mut panicked = false;
    let writes = !matches!(context.method, Method::GET | Method::HEAD | Method::OPTIONS);
    let work = AssertUnwindSafe(route(context, body)).catch_unwind();
    let worked = if writes {
        // To its end, even if the caller goes away in between: what follows from a write (a definition that is served, an
        // address that is taken) must not be left out.
        match tokio::spawn(work).await {
            Ok(worked) => worked,
            Err(ended) => match ended.try_into_panic() {
                Ok(panic) => Err(panic),
                // What runs the server has ended, and the task with it. Whether the write happened is not known here.
                Err(_) => {
                    tracing::debug!(request = %place, "the server went down while it worked on the request");
                    return refuse(&ApiError::service_unavailable(GOING_DOWN));
                }
            },
        }
    } else {
        work.await
    };
    let response = match worked {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => {
            if error.code >= 500 {
                tracing::warn!(request = %place, code = error.code, "{error}");
            }
            respond::error(answer, &error)
        }
        Err(panic) => {
            panicked = true;
            let what = panic
                .downcast_ref::<&str>()
                .map(|s| (*s).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned());
            tracing::error!(request = %place, panic = what.unwrap_or_default(), "a request handler panicked");
            let message = "the server panicked while it worked on the request; its log has the details";
            respond::error(answer, &ApiError::internal(message))
        }
    };
    (response, panicked)
}

/// As whom else the request counts: whom its headers name, if they name somebody and the user may act as them.
fn other(cluster: &Cluster, user: Option<&UserInfo>, headers: &HeaderMap) -> Result<Option<UserInfo>> {
    let names_somebody = || {
        let mut names = headers.keys().map(http::HeaderName::as_str);
        names.any(|name| name.starts_with("impersonate-"))
    };
    match user {
        Some(user) if names_somebody() => rbac::effective_user(&cluster.store().snapshot(), user, headers),
        _ => Ok(None),
    }
}

async fn route(context: Context, body: Body) -> Result<Response> {
    if context.info.is_resource {
        return handlers::resource(context, body).await;
    }
    if let Some(response) = health::answer(&context) {
        return Ok(response);
    }
    if let Some(response) = Box::pin(backup::answer(&context)).await? {
        return Ok(response);
    }
    discovery::answer(&context)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::{Admission, AdmissionRequest};
    use crate::server::Options;
    use choreo_store::Store;
    use http_body_util::BodyExt;
    use serde_json::{Value, json};

    fn post(path: &str, body: &Value) -> Request<Body> {
        Request::post(path)
            .header("content-type", "application/json")
            .extension(UserInfo::admin())
            .body(Body::from(body.to_string()))
            .unwrap()
    }

    async fn read(response: Response) -> Value {
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn a_write_that_the_end_of_its_runtime_cuts_off_is_no_panic() {
        let server = ApiServer::new(Store::in_memory(), Options::default()).unwrap();
        let cluster = server.default_cluster().clone();
        // The write waits for this, and so is under way when the runtime ends.
        let _held = cluster.definitions.try_lock().unwrap();
        let definition = json!({"metadata": {"name": "widgets.example.dev"}, "spec": {
            "group": "example.dev", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}],
        }});
        let request = post(
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
            &definition,
        );
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        let mut answering = Box::pin(answer(server, None, request, None));
        {
            let _entered = runtime.enter();
            assert!(answering.as_mut().now_or_never().is_none());
        }
        runtime.shutdown_background();
        let (response, panicked) = futures::executor::block_on(answering);
        assert!(!panicked);
        assert_eq!(response.status(), 503);
        let status = futures::executor::block_on(read(response));
        assert_eq!(
            (&status["reason"], &status["message"]),
            (&json!("ServiceUnavailable"), &json!(GOING_DOWN))
        );
    }

    /// Panics over everything.
    struct Clumsy;

    impl Admission for Clumsy {
        fn name(&self) -> &str {
            "Clumsy"
        }

        fn validate(&self, _: &AdmissionRequest<'_>, _: &mut Vec<String>) -> Result<()> {
            panic!("oops")
        }
    }

    #[tokio::test]
    async fn a_handler_that_panics_is_answered_for() {
        let options = Options {
            admission: vec![Arc::new(Clumsy)],
            ..Options::default()
        };
        let server = ApiServer::new(Store::in_memory(), options).unwrap();
        let object = json!({"metadata": {"name": "a"}});
        let request = post("/api/v1/namespaces/default/configmaps", &object);
        let (response, panicked) = answer(server, None, request, None).await;
        assert!(panicked);
        assert_eq!(response.status(), 500);
        let status = read(response).await;
        assert!(
            status["message"]
                .as_str()
                .unwrap()
                .contains("the server panicked"),
            "{status}"
        );
    }
}
