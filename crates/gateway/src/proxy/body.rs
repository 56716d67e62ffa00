//! Bodies in both directions. Nothing is collected on the way, but what may have to be sent a second time.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::mpsc;
use tokio::time::Sleep;

use super::clock::Clock;
use super::idle::{self, Activity};
use crate::upstream::limits::Counted;
use crate::upstream::{Active, http1};

/// The error of a body that the client does not send on.
pub(crate) const TOO_SLOW: &str = "the request was not received in time";

type BoxError = Box<dyn Error + Send + Sync>;

/// The body of a request to a backend.
pub(crate) enum RequestBody {
    Empty,
    Full(Option<Bytes>),
    Stream(Box<StreamBody>),
    /// What a mirror is sent.
    Copy(mpsc::Receiver<Bytes>),
}

/// The client's body as it comes.
pub(crate) struct StreamBody {
    pub(crate) body: Incoming,
    /// By when all of it must have come.
    pub(crate) deadline: Option<Pin<Box<Sleep>>>,
    /// Mirrors that are sent the same. One that does not keep up loses the rest.
    pub(crate) copies: Vec<mpsc::Sender<Bytes>>,
    /// Told when all of it has come.
    pub(crate) clock: Option<Arc<Clock>>,
    /// Bytes of the answer count, too.
    pub(crate) idle: idle::Watch,
}

impl StreamBody {
    fn ended(&self) {
        if let Some(clock) = &self.clock {
            clock.begin();
        }
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        self.ended();
    }
}

impl RequestBody {
    /// The same body once more, if it is not one that passes by only once.
    pub(crate) fn replay(&self) -> Option<Self> {
        match self {
            Self::Empty => Some(Self::Empty),
            Self::Full(bytes) => Some(Self::Full(bytes.clone())),
            Self::Stream(_) | Self::Copy(_) => None,
        }
    }
}

/// Senders stop asking once nothing more is to come.
fn body_ended(body: &Incoming) -> bool {
    body.is_end_stream()
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Copy(receiver) => receiver
                .poll_recv(context)
                .map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(stream) => {
                let StreamBody {
                    body,
                    deadline,
                    copies,
                    idle,
                    ..
                } = &mut **stream;
                match Pin::new(body).poll_frame(context) {
                    Poll::Pending => {
                        if let Some(deadline) = deadline
                            && deadline.as_mut().poll(context).is_ready()
                        {
                            return Poll::Ready(Some(Err(TOO_SLOW.into())));
                        }
                        if idle.poll_over(idle::STREAM, context) {
                            return Poll::Ready(Some(Err(TOO_SLOW.into())));
                        }
                        Poll::Pending
                    }
                    Poll::Ready(frame) => {
                        idle.activity.note();
                        if let Some(Ok(frame)) = &frame
                            && let Some(data) = frame.data_ref()
                        {
                            copies.retain(|copy| copy.try_send(data.clone()).is_ok());
                        }
                        if frame.is_none() || body_ended(&stream.body) {
                            stream.copies.clear();
                            stream.ended();
                        }
                        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_none(),
            Self::Stream(stream) => stream.body.is_end_stream(),
            Self::Copy(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Stream(stream) => stream.body.size_hint(),
            Self::Copy(_) => SizeHint::default(),
        }
    }
}

pin_project_lite::pin_project! {
    /// The body of an answer to a client.
    pub(crate) struct AnswerBody {
        #[pin]
        source: Source,
        clock: Option<Arc<Clock>>,
        sleep: Option<Pin<Box<Sleep>>>,
        idle: Option<idle::Watch>,
        request: Option<Counted>,
    }
}

pin_project_lite::pin_project! {
    #[project = SourceProjection]
    enum Source {
        Full { bytes: Option<Bytes> },
        Http1 { #[pin] body: http1::ResponseBody },
        Http2 { #[pin] body: Incoming, active: Active },
    }
}

impl AnswerBody {
    fn of(source: Source) -> Self {
        Self {
            source,
            clock: None,
            sleep: None,
            idle: None,
            request: None,
        }
    }

    pub(crate) fn empty() -> Self {
        Self::of(Source::Full { bytes: None })
    }

    pub(crate) fn full(bytes: Bytes) -> Self {
        Self::of(Source::Full {
            bytes: Some(bytes).filter(|bytes| !bytes.is_empty()),
        })
    }

    pub(crate) fn http1(body: http1::ResponseBody) -> Self {
        Self::of(Source::Http1 { body })
    }

    pub(crate) fn http2(body: Incoming, active: Active) -> Self {
        Self::of(Source::Http2 { body, active })
    }

    /// Ends the answer with an error when its time is over, and counts the request as under way until it ends.
    pub(crate) fn guarded(
        mut self,
        clock: Option<Arc<Clock>>,
        activity: Option<Activity>,
        request: Counted,
    ) -> Self {
        self.clock = clock;
        self.idle = activity.map(idle::Watch::new);
        self.request = Some(request);
        self
    }

    /// The connection that an answer without body came over, for an upgrade.
    pub(crate) fn into_http1(self) -> Option<http1::ResponseBody> {
        match self.source {
            Source::Http1 { body } => Some(body),
            _ => None,
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.project();
        let frame = match this.source.project() {
            SourceProjection::Full { bytes } => {
                return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes))));
            }
            SourceProjection::Http1 { body } => body.poll_frame(context),
            SourceProjection::Http2 { body, .. } => body.poll_frame(context),
        };
        match frame {
            Poll::Ready(Some(frame)) => {
                if let Some(idle) = this.idle {
                    idle.activity.note();
                }
                Poll::Ready(Some(frame.map_err(Into::into)))
            }
            Poll::Ready(None) => {
                this.request.take();
                Poll::Ready(None)
            }
            Poll::Pending => {
                // Most answers are there at once and need no timer.
                if let Some(clock) = this.clock
                    && let Some(end) = clock.poll_end(context)
                {
                    let sleep = this
                        .sleep
                        .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(end)));
                    if sleep.as_mut().poll(context).is_ready() {
                        return Poll::Ready(Some(Err("the answer did not end in time".into())));
                    }
                }
                let idle = this.idle.get_or_insert_with(|| idle::Watch::new(Activity::new()));
                if idle.poll_over(idle::STREAM, context) {
                    return Poll::Ready(Some(Err("the answer does not go on".into())));
                }
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Full { bytes } => bytes.is_none(),
            Source::Http1 { body } => body.is_end_stream(),
            Source::Http2 { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Full { bytes } => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Source::Http1 { body } => body.size_hint(),
            Source::Http2 { body, .. } => body.size_hint(),
        }
    }
}
