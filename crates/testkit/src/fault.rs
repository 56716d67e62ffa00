//! A transport that fails on purpose.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyDataStream, BodyExt, Full, StreamBody};
use kube::Client;
use kube::client::Body;
use tokio::sync::watch;
use tower::service_fn;

type Answer = UnsyncBoxBody<Bytes, tower::BoxError>;

/// What happens to requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Every request, and every answer that is being received, ends with a refused connection.
    Down,
    /// Writes are answered with this HTTP status, reads go through.
    Writes(u16),
}

/// The switch of a failing transport.
#[derive(Clone)]
pub struct Faults {
    state: watch::Sender<Fault>,
    requests: Arc<AtomicU64>,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            state: watch::Sender::new(Fault::None),
            requests: Arc::default(),
        }
    }
}

impl Faults {
    /// From now on.
    pub fn set(&self, fault: Fault) {
        self.state.send_replace(fault);
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// A client whose requests go through this switch to `inner`.
    pub fn client(&self, inner: Client) -> Client {
        let faults = self.clone();
        let service = service_fn(move |request: http::Request<Body>| {
            let (faults, inner) = (faults.clone(), inner.clone());
            async move { faults.send(inner, request).await }
        });
        Client::new(service, "default")
    }

    async fn send(
        &self,
        inner: Client,
        request: http::Request<Body>,
    ) -> Result<http::Response<Answer>, tower::BoxError> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let refused = || tower::BoxError::from(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
        let fault = *self.state.borrow();
        match fault {
            Fault::Down => return Err(refused()),
            Fault::Writes(code) if *request.method() != http::Method::GET => {
                let status = serde_json::json!({
                    "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                    "message": "on purpose", "reason": "InternalError", "code": code,
                });
                let body =
                    Full::new(Bytes::from(serde_json::to_vec(&status)?)).map_err(|never| match never {});
                let answer = http::Response::builder()
                    .status(code)
                    .header("content-type", "application/json");
                return Ok(answer.body(body.boxed_unsync())?);
            }
            _ => {}
        }
        let (parts, body) = inner.send(request).await?.into_parts();
        // A watch that is open when the connection breaks has to break as well.
        let mut state = self.state.subscribe();
        let broken = async move {
            let _ = state.wait_for(|fault| *fault == Fault::Down).await;
        };
        let chunks = BodyDataStream::new(body)
            .map_err(tower::BoxError::from)
            .take_until(Box::pin(broken));
        let body = StreamBody::new(chunks.map_ok(Frame::data));
        Ok(http::Response::from_parts(parts, BodyExt::boxed_unsync(body)))
    }
}
