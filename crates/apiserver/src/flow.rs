//! A bound on requests at work, shared fairly among clients.
//!
//! As long as there are free seats every request takes one. When there are none, requests wait in a queue of their user's own,
//! and a seat that becomes free goes to the users in turn: somebody who sends a thousand requests waits behind nobody's one.
//! A queue that is full, or too long a wait, is answered with 429 and `Retry-After`.
//!
//! Members of `system:masters` take no seats, so that an administrator gets through when nobody else does, and neither do
//! watches, logs and sessions with containers, which last.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::request::RequestInfo;
use crate::respond;
use crate::user::{MASTERS, UserInfo};

/// How many requests are worked on and wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowLimits {
    /// Requests that are worked on at a time.
    pub seats: usize,
    /// Requests of one user that wait at most.
    pub queue: usize,
    /// How long a request waits at most.
    pub wait: Duration,
}

impl Default for FlowLimits {
    /// As many as kube-apiserver works on, and lets wait, at a time, for a quarter of the time that it gives a request.
    fn default() -> Self {
        Self {
            seats: 600,
            queue: 50,
            wait: Duration::from_secs(15),
        }
    }
}

/// Hands out seats.
pub(crate) struct Flow {
    limits: FlowLimits,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    taken: usize,
    /// Who waits, by user.
    queues: BTreeMap<String, VecDeque<oneshot::Sender<()>>>,
    /// The users who wait, in the order of their turns.
    turns: VecDeque<String>,
}

/// There was no seat.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Crowded;

/// A seat. It becomes free when this is dropped.
#[derive(Debug)]
pub(crate) struct Seat(Arc<Flow>);

impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Flow({:?})", self.limits)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl Flow {
    pub(crate) fn new(limits: FlowLimits) -> Arc<Flow> {
        Arc::new(Flow {
            limits,
            state: Mutex::default(),
        })
    }

    /// A seat for a request; none for one that needs none.
    ///
    /// # Errors
    /// When too many wait already, or this one waited too long.
    pub(crate) async fn enter(
        self: &Arc<Self>,
        user: &UserInfo,
        info: &RequestInfo,
    ) -> Result<Option<Seat>, Crowded> {
        if user.is_in(MASTERS) || info.is_long_running() {
            return Ok(None);
        }
        self.seat(&user.name).await.map(Some)
    }

    async fn seat(self: &Arc<Self>, user: &str) -> Result<Seat, Crowded> {
        let turn = {
            let mut state = self.state.lock();
            if state.taken < self.limits.seats {
                state.taken += 1;
                return Ok(Seat(self.clone()));
            }
            let queue = state.queues.entry(user.to_owned()).or_default();
            // Those who gave up make room.
            queue.retain(|waiting| !waiting.is_closed());
            if queue.len() >= self.limits.queue {
                return Err(Crowded);
            }
            let (sender, turn) = oneshot::channel();
            queue.push_back(sender);
            if queue.len() == 1 && !state.turns.iter().any(|known| known == user) {
                state.turns.push_back(user.to_owned());
            }
            Waiting {
                flow: self.clone(),
                turn: Some(turn),
            }
        };
        turn.come().await
    }

    /// A seat becomes free: it goes to the first who waits of the user whose turn it is.
    fn release(&self) {
        let mut state = self.state.lock();
        while let Some(user) = state.turns.pop_front() {
            let Some(queue) = state.queues.get_mut(&user) else {
                continue;
            };
            let mut served = false;
            while let Some(waiting) = queue.pop_front() {
                if waiting.send(()).is_ok() {
                    served = true;
                    break;
                }
            }
            if queue.is_empty() {
                state.queues.remove(&user);
            } else {
                state.turns.push_back(user);
            }
            if served {
                return;
            }
        }
        state.taken = state.taken.saturating_sub(1);
    }
}

/// A request that waits. One that is given up after its seat was handed out passes it on.
struct Waiting {
    flow: Arc<Flow>,
    turn: Option<oneshot::Receiver<()>>,
}

impl Waiting {
    async fn come(mut self) -> Result<Seat, Crowded> {
        let Some(turn) = self.turn.as_mut() else {
            return Err(Crowded);
        };
        let came = tokio::time::timeout(self.flow.limits.wait, turn).await;
        if matches!(came, Ok(Ok(()))) {
            self.turn = None;
            return Ok(Seat(self.flow.clone()));
        }
        Err(Crowded)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(turn) = &mut self.turn {
            turn.close();
            if turn.try_recv().is_ok() {
                self.flow.release();
            }
        }
    }
}

/// What a client is told that has to come again.
pub(crate) fn too_many() -> Response {
    let mut response = respond::text(
        StatusCode::TOO_MANY_REQUESTS,
        "Too many requests, please try again later.\n",
    );
    response
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn flow(seats: usize, queue: usize) -> Arc<Flow> {
        Flow::new(FlowLimits {
            seats,
            queue,
            ..FlowLimits::default()
        })
    }

    #[tokio::test]
    async fn users_take_turns() {
        let flow = flow(1, 10);
        let first = flow.seat("busy").await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = Vec::new();
        for user in ["busy", "busy", "busy", "rare", "other"] {
            let (flow, order) = (flow.clone(), order.clone());
            let mut request = Box::pin(async move {
                let seat = flow.seat(user).await.unwrap();
                order.lock().push(user);
                drop(seat);
            });
            // Everyone is in the queue, in this order, before the seat becomes free.
            assert!(request.as_mut().now_or_never().is_none());
            waiting.push(tokio::spawn(request));
        }
        drop(first);
        for request in waiting {
            request.await.unwrap();
        }
        assert_eq!(*order.lock(), ["busy", "rare", "other", "busy", "busy"]);
        assert_eq!(flow.state.lock().taken, 0);
    }

    #[tokio::test]
    async fn a_full_queue_is_only_its_users_problem() {
        let flow = flow(1, 1);
        let seat = flow.seat("a").await.unwrap();
        let mut queued = Box::pin(flow.seat("a"));
        assert!(queued.as_mut().now_or_never().is_none());
        assert_eq!(flow.seat("a").await.unwrap_err(), Crowded);
        let mut other = Box::pin(flow.seat("b"));
        assert!(other.as_mut().now_or_never().is_none());
        drop(seat);
        let seat = queued.await.unwrap();
        drop(seat);
        other.await.unwrap();
    }

    #[tokio::test]
    async fn who_gives_up_passes_the_seat_on() {
        let flow = flow(1, 5);
        let seat = flow.seat("a").await.unwrap();
        let mut gone = Box::pin(flow.seat("a"));
        assert!(gone.as_mut().now_or_never().is_none());
        let mut stays = Box::pin(flow.seat("b"));
        assert!(stays.as_mut().now_or_never().is_none());
        // The seat is handed to the first, who leaves before looking.
        drop(seat);
        drop(gone);
        let seat = stays.await.unwrap();
        drop(seat);
        assert_eq!(flow.state.lock().taken, 0);
    }

    #[tokio::test]
    async fn nobody_waits_for_ever() {
        let flow = Flow::new(FlowLimits {
            seats: 1,
            wait: Duration::from_millis(10),
            ..FlowLimits::default()
        });
        let seat = flow.seat("a").await.unwrap();
        assert_eq!(flow.seat("b").await.unwrap_err(), Crowded);
        drop(seat);
        flow.seat("b").await.unwrap();
    }
}
