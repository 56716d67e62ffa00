//! Access to running containers: `pods/log`, `pods/exec`, `pods/attach`, `pods/portforward`, and `metrics.k8s.io`.
//!
//! Who runs the Pods of a logical cluster gives a [`PodAccess`]; here is what unmodified clients speak.
//!
//! ```text
//!   kubectl, client-go, kube-rs          handlers::connect: authorized, admitted, the Pod is there
//!        │  GET  │ WebSocket  │ SPDY/3.1          │
//!        ▼       ▼            ▼                   ▼
//!      logs   websocket ─▶ spdy ◀── upgrade ── container: which one, and does it run
//!                │            │
//!                ▼            ▼
//!               remote, forward ─────────▶ PodAccess
//! ```
//!
//! A session outlives its request: it ends when the process does, when the client goes, or when the server goes down.

mod access;
mod container;
mod forward;
mod logs;
pub(crate) mod metrics;
mod remote;
pub(crate) mod spdy;
mod upgrade;
mod websocket;

use std::future::Future;
use std::sync::Arc;

use axum::response::Response;
use choreo_apimachinery::status::{ApiError, Result};
use tokio_util::sync::CancellationToken;

pub use choreo_pod_access::{
    AccessError, AttachRequest, Connection, ContainerStats, ExecRequest, ExecSession, LogQuery, LogSource,
    LogStream, Output, PodAccess, PodStats,
};
pub(crate) use upgrade::Lasting;

use crate::dispatch::Context;
use crate::verbs::Target;

/// The most sessions (`exec`, `attach`, `portforward`) that a server holds at a time. Each holds a connection that the bound on
/// connections no longer counts.
pub(crate) const MAX_SESSIONS: usize = 1024;

/// Whether it is one of the subresources that are answered here.
pub(crate) fn is_access(subresource: &str) -> bool {
    matches!(subresource, "log" | "exec" | "attach" | "portforward")
}

/// Answers a request for a subresource of a Pod that is there. Admission has been asked.
///
/// # Errors
/// What kube-apiserver, or the kubelet behind it, answers in the same case.
pub(crate) async fn answer(
    context: &Context,
    target: &Target,
    access: Arc<dyn PodAccess>,
) -> Result<Response> {
    let pod = target.stored(&context.info.name)?.value();
    match context.info.subresource.as_str() {
        "log" => logs::answer(context, &pod, &*access).await,
        "exec" | "attach" => remote::answer(context, &pod, access).await,
        "portforward" => forward::answer(context, &pod, access),
        _ => Err(ApiError::method_not_allowed()),
    }
}

/// Serves a session in a task of its own. The session ends when its token is cancelled: the server goes down.
fn serve<S: Future<Output = ()> + Send + 'static>(
    context: &Context,
    lasting: Lasting,
    session: impl FnOnce(CancellationToken) -> S,
) -> Result<()> {
    let Ok(place) = context.server.sessions().clone().try_acquire_owned() else {
        return Err(ApiError::too_many_requests(
            format!(
                "this server holds {MAX_SESSIONS} sessions with containers already; end one and try again"
            ),
            5,
        ));
    };
    let session = session(context.server.draining().clone());
    tokio::spawn(async move {
        let _held = (place, lasting);
        session.await;
    });
    Ok(())
}
