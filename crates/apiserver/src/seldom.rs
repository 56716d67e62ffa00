//! What is waited for on the side.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::task::AtomicWaker;

/// Something that is waited for together with what comes often, and is itself hardly ever ready: it is only looked at when it
/// has called. A task that follows changes is polled three times for each, and looking at its deadline, its bookmarks and the
/// shutdown each time costs more than finding the change.
pub(crate) struct Seldom<T> {
    inner: T,
    bell: Arc<Bell>,
    /// The bell, as `inner` knows it.
    waker: Waker,
}

/// Remembers a call and passes it on to the task that waits.
struct Bell {
    rung: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl<T> Seldom<T> {
    pub(crate) fn new(inner: T) -> Self {
        let bell = Arc::new(Bell {
            // It has to be looked at once, to be told where to call.
            rung: AtomicBool::new(true),
            task: AtomicWaker::new(),
        });
        Self {
            inner,
            waker: Waker::from(Arc::clone(&bell)),
            bell,
        }
    }

    /// Polls what is waited for, if it has called since the last time or was ready then.
    pub(crate) fn poll_with<R>(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut T, &mut Context<'_>) -> Poll<R>,
    ) -> Poll<R> {
        // First the address and then the look: a call in between reaches the task.
        self.bell.task.register(cx.waker());
        if !self.bell.rung.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        let ready = poll(&mut self.inner, &mut Context::from_waker(&self.waker));
        if ready.is_ready() {
            // Who was ready has nobody to call, and may be ready again.
            self.bell.rung.store(true, Ordering::Release);
        }
        ready
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures::StreamExt as _;
    use futures::channel::mpsc;
    use futures::task::noop_waker_ref;

    use super::*;

    #[test]
    fn it_is_looked_at_once_and_then_when_it_calls() {
        let (sender, receiver) = mpsc::unbounded();
        let mut seldom = Seldom::new(receiver);
        let mut looks = 0;
        let mut poll = || {
            let poll = seldom.poll_with(&mut Context::from_waker(noop_waker_ref()), |inner, cx| {
                looks += 1;
                inner.poll_next_unpin(cx)
            });
            (poll, looks)
        };
        assert_eq!(poll(), (Poll::Pending, 1));
        assert_eq!(poll(), (Poll::Pending, 1));
        sender.unbounded_send('a').unwrap();
        sender.unbounded_send('b').unwrap();
        // Ready twice after one call, and then not any more.
        assert_eq!(poll(), (Poll::Ready(Some('a')), 2));
        assert_eq!(poll(), (Poll::Ready(Some('b')), 3));
        assert_eq!(poll(), (Poll::Pending, 4));
        assert_eq!(poll(), (Poll::Pending, 4));
    }

    #[tokio::test]
    async fn a_call_reaches_the_task_that_polled_last() {
        let (sender, receiver) = mpsc::unbounded();
        let mut seldom = Seldom::new(receiver);
        // Another task looked first, and is not the one to be woken.
        let first = seldom.poll_with(&mut Context::from_waker(noop_waker_ref()), |inner, cx| {
            inner.poll_next_unpin(cx)
        });
        assert_eq!(first, Poll::Pending);
        let waiting = tokio::spawn(async move {
            poll_fn(|cx| seldom.poll_with(cx, |inner, cx| inner.poll_next_unpin(cx))).await
        });
        tokio::task::yield_now().await;
        sender.unbounded_send('a').unwrap();
        assert_eq!(waiting.await.unwrap(), Some('a'));
    }
}
