//! `/healthz`, `/readyz` and `/metrics`, without TLS or sign-in, as kubelets and Prometheus ask for them. Nothing there is secret.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use tokio::net::TcpListener;

/// What is asked.
pub trait Health: Send + Sync + 'static {
    /// Why the process should be started again, if so.
    fn ill(&self) -> Option<String>;
    /// Why it cannot do its work yet, if so.
    fn unready(&self) -> Option<String>;
    /// The figures in the text format of Prometheus.
    fn metrics(&self) -> String;
}

/// Listens on `address`.
///
/// # Errors
/// When the address cannot be had.
pub async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Answers until `end`.
pub async fn serve(
    listener: TcpListener,
    health: Arc<dyn Health>,
    end: impl Future<Output = ()> + Send + 'static,
) {
    let router = axum::Router::new()
        .route(
            "/healthz",
            get(|State(health): State<Arc<dyn Health>>| async move { answer(health.ill()) }),
        )
        .route(
            "/livez",
            get(|State(health): State<Arc<dyn Health>>| async move { answer(health.ill()) }),
        )
        .route(
            "/readyz",
            get(|State(health): State<Arc<dyn Health>>| async move { answer(health.unready()) }),
        )
        .route("/metrics", get(metrics))
        .with_state(health);
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(end).await {
        tracing::error!(%error, "the probes' server ended");
    }
}

fn answer(problem: Option<String>) -> (StatusCode, String) {
    match problem {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(problem) => (StatusCode::SERVICE_UNAVAILABLE, format!("{problem}\n")),
    }
}

async fn metrics(State(health): State<Arc<dyn Health>>) -> impl IntoResponse {
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        health.metrics(),
    )
}
