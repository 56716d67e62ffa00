//! HTTP/2 connections to endpoints, shared by all requests: for gRPC, and for Services whose port says `kubernetes.io/h2c`.

use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use std::time::Duration;

use crate::dial::Stream;
use crate::proxy::body::RequestBody;

/// How long a server may leave a ping unanswered before its connection counts as dead.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// The connection that new requests of an endpoint use.
#[derive(Default)]
pub(crate) struct Shared {
    sender: Mutex<Option<SendRequest<RequestBody>>>,
    /// Held by who opens a connection, so that a burst of first requests opens one and not one each.
    pub(crate) opening: tokio::sync::Mutex<()>,
}

impl Shared {
    /// A handle to the open connection, if there is one.
    pub(crate) fn open(&self) -> Option<SendRequest<RequestBody>> {
        let mut sender = self.sender.lock();
        if sender.as_ref().is_some_and(SendRequest::is_closed) {
            *sender = None;
        }
        sender.clone()
    }

    /// Begins to speak HTTP/2 and keeps the connection for others.
    ///
    /// # Errors
    /// When the server does not answer in HTTP/2.
    pub(crate) async fn start(
        &self,
        stream: Box<dyn Stream>,
    ) -> Result<SendRequest<RequestBody>, hyper::Error> {
        let (sender, driver) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .adaptive_window(true)
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(PING_TIMEOUT)
            .handshake(TokioIo::new(stream))
            .await?;
        tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!("a connection to a backend ended: {error}");
            }
        });
        *self.sender.lock() = Some(sender.clone());
        Ok(sender)
    }

    /// Forgets the connection, which is not to be used for new requests any longer.
    pub(crate) fn forget(&self) {
        *self.sender.lock() = None;
    }
}
