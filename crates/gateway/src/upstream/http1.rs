//! HTTP/1.1 connections to endpoints, one request at a time each.
//!
//! A connection is driven by the task of the request that uses it, and not by a task of its own: a proxied request then costs no
//! switch between tasks. While it is idle nobody drives it; whether the server has closed it meanwhile is seen when it is taken
//! out again.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::FutureExt;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use tokio::sync::OwnedSemaphorePermit;

use super::{Active, Endpoint};
use crate::dial::Stream;
use crate::proxy::body::RequestBody;

/// How long an idle connection is kept. Shorter than what servers usually grant, so that they rarely close it just when it is used.
const KEEP: Duration = Duration::from_secs(30);
/// Most idle connections that are kept for an endpoint.
const MOST_IDLE: usize = 256;

type Driver = Pin<Box<dyn Future<Output = Result<(), hyper::Error>> + Send>>;

/// A connection with the handle that requests are sent by.
pub(crate) struct Connection {
    sender: SendRequest<RequestBody>,
    driver: Option<Driver>,
}

/// A connection that waits for its next request.
pub(crate) struct Idle {
    connection: Connection,
    since: Instant,
}

/// Why no answer came.
pub(crate) enum SendError {
    /// The request was not sent, and can be sent elsewhere.
    Unsent(Box<Request<RequestBody>>),
    /// It was, perhaps in part.
    Reset(hyper::Error),
}

impl Connection {
    /// Begins to speak HTTP/1.1.
    ///
    /// # Errors
    /// Those of the library; nothing is sent yet.
    pub(crate) async fn new(stream: Box<dyn Stream>) -> Result<Self, hyper::Error> {
        let (sender, driver) = Builder::new()
            .max_headers(200)
            .handshake(hyper_util::rt::TokioIo::new(stream))
            .await?;
        Ok(Self {
            sender,
            driver: Some(Box::pin(driver.with_upgrades())),
        })
    }

    /// An idle connection of the endpoint that is still open.
    pub(crate) fn reuse(endpoint: &Endpoint) -> Option<Self> {
        loop {
            let idle = endpoint.idle().lock().pop()?;
            if idle.since.elapsed() > KEEP {
                // The newest are taken first: all others are older.
                endpoint.idle().lock().clear();
                return None;
            }
            let mut connection = idle.connection;
            // Has the server closed it meanwhile?
            let mut context = Context::from_waker(futures::task::noop_waker_ref());
            connection.drive(&mut context);
            if connection.driver.is_some() && connection.sender.is_ready() {
                return Some(connection);
            }
        }
    }

    fn drive(&mut self, context: &mut Context<'_>) {
        if let Some(driver) = &mut self.driver
            && driver.poll_unpin(context).is_ready()
        {
            self.driver = None;
        }
    }

    /// Sends a request and waits for the head of the answer.
    pub(crate) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, SendError> {
        let mut sending = Box::pin(self.sender.try_send_request(request));
        let driver = &mut self.driver;
        std::future::poll_fn(|context| {
            let mut open = true;
            if let Some(running) = driver
                && running.poll_unpin(context).is_ready()
            {
                *driver = None;
                open = false;
            }
            match sending.as_mut().poll(context) {
                Poll::Ready(Ok(response)) => Poll::Ready(Ok(response)),
                Poll::Ready(Err(mut error)) => Poll::Ready(Err(match error.take_message() {
                    Some(request) => SendError::Unsent(Box::new(request)),
                    None => SendError::Reset(error.into_error()),
                })),
                // The request is in the hands of the connection only now: it must be looked at again.
                Poll::Pending => {
                    if open
                        && let Some(running) = driver
                        && running.poll_unpin(context).is_ready()
                    {
                        *driver = None;
                        context.waker().wake_by_ref();
                    }
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Lets a task of its own drive the connection: after an upgrade, or when nobody is left to read.
    pub(crate) fn detach(mut self) {
        if let Some(driver) = self.driver.take() {
            tokio::spawn(async move {
                // How an upgraded connection ends is told to those who copy its bytes.
                let _ = driver.await;
            });
        }
    }
}

pin_project_lite::pin_project! {
    /// The body of an answer. Reading it drives the connection; when it ends, the connection is free for the next request.
    pub(crate) struct ResponseBody {
        #[pin]
        body: Incoming,
        connection: Option<Connection>,
        active: Option<Active>,
        permit: Option<OwnedSemaphorePermit>,
    }
}

impl ResponseBody {
    /// `keeps` says that the connection is needed after the answer, as for an upgrade.
    pub(crate) fn new(
        body: Incoming,
        connection: Connection,
        active: Active,
        permit: OwnedSemaphorePermit,
        keeps: bool,
    ) -> Self {
        let ended = body.is_end_stream() && !keeps;
        let mut this = Self {
            body,
            connection: Some(connection),
            active: Some(active),
            permit: Some(permit),
        };
        if ended {
            let mut context = Context::from_waker(futures::task::noop_waker_ref());
            release(
                &mut this.connection,
                &mut this.active,
                &mut this.permit,
                &mut context,
            );
        }
        this
    }

    /// The connection, for an upgrade.
    pub(crate) fn into_connection(mut self) -> Option<(Connection, Option<OwnedSemaphorePermit>)> {
        Some((self.connection.take()?, self.permit.take()))
    }
}

/// Closes connections that nobody has used for too long. Those at the front are the oldest.
pub(super) fn drop_old(idle: &mut Vec<Idle>) {
    let old = idle.iter().take_while(|one| one.since.elapsed() > KEEP).count();
    idle.drain(..old);
}

/// Gives the connection back to its endpoint if it can be used again.
fn release(
    connection: &mut Option<Connection>,
    active: &mut Option<Active>,
    permit: &mut Option<OwnedSemaphorePermit>,
    context: &mut Context<'_>,
) {
    permit.take();
    let (Some(mut connection), Some(active)) = (connection.take(), active.take()) else {
        return;
    };
    connection.drive(context);
    if connection.driver.is_none() || !connection.sender.is_ready() {
        return;
    }
    let endpoint: &Arc<Endpoint> = &active.0;
    let mut idle = endpoint.idle().lock();
    drop_old(&mut idle);
    if idle.len() < MOST_IDLE {
        idle.push(Idle {
            connection,
            since: Instant::now(),
        });
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.project();
        if let Some(connection) = this.connection {
            connection.drive(context);
        }
        let mut body = this.body;
        let frame = match body.as_mut().poll_frame(context) {
            Poll::Pending => {
                // Asking for a frame is what lets the connection read on.
                if let Some(connection) = this.connection {
                    connection.drive(context);
                }
                std::task::ready!(body.as_mut().poll_frame(context))
            }
            Poll::Ready(frame) => frame,
        };
        let ended = match &frame {
            None => true,
            Some(Ok(_)) => body.is_end_stream(),
            Some(Err(_)) => {
                this.connection.take();
                false
            }
        };
        if ended {
            release(this.connection, this.active, this.permit, context);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
