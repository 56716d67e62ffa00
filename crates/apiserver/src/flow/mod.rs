//! Priority and fairness: which requests are worked on first when there are more than the server works on at a time.
//!
//! FlowSchemas say which PriorityLevelConfiguration a request belongs to ([`rules`], [`config`]), and these have shares of the
//! server's seats ([`seats`]). As long as a level has free seats every request takes one. When it has none, and no other level
//! has any to lend, requests wait in one of its queues, which take turns: somebody who sends a thousand requests waits behind
//! nobody's one. Where there is no queue, or it is full, or the wait was too long, the answer is 429 with `Retry-After`.
//!
//! What lasts has a seat until it has begun (watches) or none (logs and sessions with containers).

mod config;
mod keeper;
mod rules;
mod seats;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::response::Response;
use choreo_store::Snapshot;
use http::header::RETRY_AFTER;
use http::{HeaderValue, Method, StatusCode};

use self::config::{Config, Schema};
use self::seats::{Ask, Seats};
use crate::request::{RequestInfo, Verb};
use crate::respond;
use crate::user::UserInfo;

pub(crate) use self::config::Uids;
pub(crate) use self::keeper::{bootstrap, run};
pub(crate) use self::seats::Seat;

/// How many requests of a logical cluster are worked on and wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowLimits {
    /// Requests that are worked on at a time. The priority levels share them; each rounds its part up.
    pub seats: usize,
    /// How long a request waits at most.
    pub wait: Duration,
}

impl Default for FlowLimits {
    /// As many as kube-apiserver works on, and lets wait, at a time, for a quarter of the time that it gives a request.
    fn default() -> Self {
        Self {
            seats: 600,
            wait: Duration::from_secs(15),
        }
    }
}

/// Hands out the seats of a logical cluster.
pub(crate) struct Flow {
    limits: FlowLimits,
    config: ArcSwap<Config>,
    seats: Arc<Seats>,
}

/// A request that may be worked on.
#[derive(Debug, Default)]
pub(crate) struct Entered {
    /// Held as long as it is; none for one that needs none.
    pub(crate) seat: Option<Seat>,
    /// What the client is told; nothing where a request was not counted.
    pub(crate) uids: Option<Uids>,
}

/// There was no seat.
#[derive(Debug)]
pub(crate) struct Crowded {
    uids: Uids,
}

impl Flow {
    /// Hands out seats as the objects say that are there.
    pub(crate) fn new(limits: FlowLimits, snapshot: &Snapshot) -> Flow {
        let flow = Flow {
            limits,
            config: ArcSwap::default(),
            seats: Arc::new(Seats::new(limits.seats)),
        };
        flow.configure(snapshot);
        flow
    }

    /// From now on goes by the objects as they are in the snapshot. Who is worked on or waits goes on.
    fn configure(&self, snapshot: &Snapshot) {
        let known = self.seats.share_out(config::read_levels(snapshot));
        self.config.store(Arc::new(Config::read(snapshot, &known)));
    }

    /// Waits until a request may be worked on.
    ///
    /// # Errors
    /// When too many wait already, or this one waited too long.
    pub(crate) async fn enter(
        &self,
        user: &UserInfo,
        info: &RequestInfo,
        method: &Method,
    ) -> Result<Entered, Crowded> {
        if info.is_long_running() && info.verb != Verb::Watch {
            return Ok(Entered::default());
        }
        loop {
            let (uids, waiting) = {
                let config = self.config.load();
                let Some(schema) = config.classify(user, info, method) else {
                    return Ok(Entered::default());
                };
                let uids = schema.uids.clone();
                let Some(level) = schema.level else {
                    return Ok(Entered {
                        seat: None,
                        uids: Some(uids),
                    });
                };
                let flow = || flow_hash(schema, user, info);
                match self.seats.ask(level, flow) {
                    Ask::Seat(seat) => {
                        return Ok(Entered {
                            seat: Some(seat),
                            uids: Some(uids),
                        });
                    }
                    Ask::Full => return Err(Crowded { uids }),
                    // The level is no longer there: what is said now counts.
                    Ask::Unknown => (uids, None),
                    Ask::Wait(waiting) => (uids, Some(waiting)),
                }
            };
            match waiting {
                None => tokio::task::yield_now().await,
                Some(waiting) => {
                    return match waiting.come(self.limits.wait).await {
                        Some(seat) => Ok(Entered {
                            seat: Some(seat),
                            uids: Some(uids),
                        }),
                        None => Err(Crowded { uids }),
                    };
                }
            }
        }
    }
}

/// What decides which queues a request may wait in.
fn flow_hash(schema: &Schema, user: &UserInfo, info: &RequestInfo) -> u64 {
    use sha2::Digest as _;
    let mut hash = sha2::Sha256::new();
    hash.update(schema.name.as_bytes());
    hash.update([0]);
    hash.update(schema.distinguisher(user, info).as_bytes());
    let digest = hash.finalize();
    let first: [u8; 8] = std::array::from_fn(|nth| digest.get(nth).copied().unwrap_or_default());
    u64::from_le_bytes(first)
}

impl Crowded {
    /// What a client is told that has to come again.
    pub(crate) fn answer(self) -> Response {
        let mut response = respond::text(
            StatusCode::TOO_MANY_REQUESTS,
            "Too many requests, please try again later.\n",
        );
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from_static("1"));
        self.uids.tell(&mut response);
        response
    }
}
