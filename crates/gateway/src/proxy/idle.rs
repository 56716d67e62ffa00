//! Time limits for those who say nothing and take nothing: whatever is held for them is given back.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// How long a request may go on without a byte in either direction, Envoy's default (`stream_idle_timeout`).
pub(crate) const STREAM: Duration = Duration::from_secs(300);
/// How long a connection that is passed on as it is may be silent, Envoy's default for TCP.
pub(crate) const CONNECTION: Duration = Duration::from_secs(3_600);

/// When something passed for the last time. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Activity {
    began: Instant,
    /// Milliseconds since then.
    last: Arc<AtomicU64>,
}

impl Activity {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            last: Arc::default(),
        }
    }

    pub(crate) fn note(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }

    fn end(&self, limit: Duration) -> Instant {
        self.began + Duration::from_millis(self.last.load(Ordering::Relaxed)) + limit
    }

    /// Waits until nothing has passed for so long.
    pub(crate) async fn over(&self, limit: Duration) {
        loop {
            let end = self.end(limit);
            if Instant::now() >= end {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    }
}

/// Watches over an [`Activity`] while somebody waits. It sets a timer only then, and moves it only when it rings.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) activity: Activity,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Watch {
    pub(crate) fn new(activity: Activity) -> Self {
        Self {
            activity,
            sleep: None,
        }
    }

    /// Whether nothing has passed for so long; if not, the task is woken when it is time to look again.
    pub(crate) fn poll_over(&mut self, limit: Duration, context: &mut Context<'_>) -> bool {
        loop {
            let end = self.activity.end(limit);
            let sleep = self
                .sleep
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(end)));
            if sleep.as_mut().poll(context).is_pending() {
                return false;
            }
            if Instant::now() >= end {
                return true;
            }
            sleep.as_mut().reset(end);
        }
    }
}

/// A stream that fails when the other side takes nothing of what is written for too long.
pub(crate) struct WriteLimit<S> {
    stream: S,
    limit: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> WriteLimit<S> {
    pub(crate) fn new(stream: S, limit: Duration) -> Self {
        Self {
            stream,
            limit,
            waiting: None,
        }
    }

    fn limit<T>(&mut self, context: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.waiting = None;
            return outcome;
        }
        let limit = self.limit;
        let waiting = self
            .waiting
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        match waiting.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteLimit<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteLimit<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.limit(context, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.limit(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(context);
        self.limit(context, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_shutdown(context);
        self.limit(context, outcome)
    }
}

/// Notes what is read.
struct Noting<'s, S> {
    stream: &'s mut S,
    activity: Activity,
}

impl<S: AsyncRead + Unpin> AsyncRead for Noting<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut *self.stream).poll_read(context, buffer);
        if outcome.is_ready() {
            self.activity.note();
        }
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Noting<'_, S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(context)
    }
}

/// Carries bytes both ways until both sides have ended, or neither has said anything for so long.
pub(crate) async fn join<A, B>(one: &mut A, two: &mut B, limit: Duration) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let activity = Activity::new();
    let noting = activity.clone();
    let mut one = Noting {
        stream: one,
        activity: noting.clone(),
    };
    let mut two = Noting {
        stream: two,
        activity: noting,
    };
    tokio::select! {
        copied = tokio::io::copy_bidirectional(&mut one, &mut two) => copied.map(drop),
        () = activity.over(limit) => Err(io::ErrorKind::TimedOut.into()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_watch_and_a_byte_puts_it_off() {
        let mut watch = Watch::new(Activity::new());
        let activity = watch.activity.clone();
        let mut over = std::future::poll_fn(move |context| match watch.poll_over(LIMIT, context) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        });
        assert!(futures::poll!(&mut over).is_pending());
        tokio::time::advance(Duration::from_secs(9)).await;
        activity.note();
        tokio::time::advance(Duration::from_secs(9)).await;
        assert!(futures::poll!(&mut over).is_pending());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(futures::poll!(&mut over).is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_given_up() {
        let (near, mut far) = tokio::io::duplex(4);
        let mut near = WriteLimit::new(near, LIMIT);
        near.write_all(b"four").await.unwrap();
        let began = Instant::now();
        let error = near.write_all(b"more").await.unwrap_err();
        assert_eq!((error.kind(), began.elapsed()), (io::ErrorKind::TimedOut, LIMIT));
        // Who takes something, however slowly, is not.
        let mut taken = [0; 4];
        far.read_exact(&mut taken).await.unwrap();
        near.write_all(b"more").await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_tunnel_is_closed_and_a_talking_one_is_not() {
        let (mut client, mut inner) = tokio::io::duplex(64);
        let (mut backend, mut server) = tokio::io::duplex(64);
        let tunnel = tokio::spawn(async move { join(&mut inner, &mut backend, LIMIT).await });
        for _ in 0..5 {
            client.write_all(b"x").await.unwrap();
            let mut byte = [0];
            server.read_exact(&mut byte).await.unwrap();
            tokio::time::sleep(Duration::from_secs(8)).await;
        }
        assert!(!tunnel.is_finished());
        let error = tunnel.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
