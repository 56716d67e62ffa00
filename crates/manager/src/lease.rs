//! Who acts: leader election by a Lease, as other Kubernetes operators do it and `kubectl get lease` shows it.
//!
//! # Safety
//!
//! - A holder writes with the revision that it read: two can never take the lease at once.
//! - Clocks are not compared. A candidate takes a lease that has not been *seen to change* for its whole duration; a holder stops
//!   acting when it could not renew for [`Timings::give_up`], which is shorter.
//! - A holder that is told to stop gives the lease up after its controllers have stopped, and a candidate, which watches the
//!   lease, has it within milliseconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::PostParams;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Field manager of the lease.
const MANAGER: &str = "choreo/lease";

/// How long things about the lease take.
#[derive(Clone, Copy, Debug)]
pub struct Timings {
    /// For how long a lease holds without being renewed.
    pub lease: Duration,
    /// How often it is renewed.
    pub renew: Duration,
    /// A holder that could not renew for so long stops. The rest of the lease is for what it is at.
    pub give_up: Duration,
    /// How soon a failed request is tried again.
    pub retry: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(15),
            renew: Duration::from_secs(4),
            give_up: Duration::from_secs(10),
            retry: Duration::from_secs(1),
        }
    }
}

/// A candidate.
#[derive(Clone)]
pub struct Election {
    api: Api<Lease>,
    name: String,
    identity: String,
    timings: Timings,
    load: Arc<Load>,
}

/// How many leases one manager holds. Of several candidates for a free lease, the one that holds fewest takes it.
#[derive(Debug, Default)]
pub struct Load {
    held: AtomicU32,
    /// One is taken at a time, so that the next is taken with this one in mind.
    turn: Mutex<()>,
}

/// The lease as it was last seen, and since when it is so by our clock.
struct Seen {
    lease: Lease,
    since: Instant,
}

impl Election {
    /// A candidate named `identity` for the lease `namespace/name`. The identity must be one that nobody else has.
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str, timings: Timings) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: identity.to_owned(),
            timings,
            load: Arc::default(),
        }
    }

    /// The candidate of a manager that stands for several leases.
    #[must_use]
    pub fn with_load(mut self, load: Arc<Load>) -> Self {
        self.load = load;
        self
    }

    /// For how long others go first.
    fn patience(&self) -> Duration {
        self.timings
            .retry
            .saturating_mul(self.load.held.load(Ordering::Acquire))
    }

    /// Waits until the lease is ours.
    pub async fn acquire(&self) -> Held {
        let config = watcher::Config::default().fields(&format!("metadata.name={}", self.name));
        let mut events = std::pin::pin!(watcher(self.api.clone(), config));
        // Nothing is known before the first list.
        let mut seen: Option<Option<Seen>> = None;
        let mut listing: Option<Lease> = None;
        let mut not_before = Instant::now();
        let mut told = String::new();
        let mut absent = Instant::now();
        loop {
            let try_at = seen
                .as_ref()
                .map(|seen| self.free_at(seen.as_ref(), absent).max(not_before) + self.patience());
            let due = async {
                match try_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(Event::Init)) => listing = None,
                    Some(Ok(Event::InitApply(lease))) => listing = Some(lease),
                    Some(Ok(Event::InitDone)) => seen = Some(self.note(seen.flatten(), listing.take())),
                    Some(Ok(Event::Apply(lease))) => seen = Some(self.note(seen.flatten(), Some(lease))),
                    Some(Ok(Event::Delete(_))) => {
                        absent = Instant::now();
                        seen = Some(None);
                    }
                    Some(Err(error)) => {
                        tracing::warn!(lease = %self.name, %error, "the lease cannot be watched");
                        tokio::time::sleep(self.jittered(self.timings.retry)).await;
                    }
                    None => tokio::time::sleep(self.timings.retry).await,
                },
                // There may be more to do by now.
                () = due => {
                    let _turn = self.load.turn.lock().await;
                    // There may be more to do than before.
                    if self.free_at(seen.as_ref().and_then(Option::as_ref), absent) + self.patience() > Instant::now() {
                        continue;
                    }
                    let began = Instant::now();
                    match self.take(seen.as_ref().and_then(Option::as_ref)).await {
                        Ok(lease) => {
                            tracing::info!(lease = %self.name, identity = %self.identity, "leading");
                            return self.hold(lease, began);
                        }
                        // The watch will tell who was quicker.
                        Err(kube::Error::Api(status)) if status.code == 409 => {
                            not_before = Instant::now() + self.jittered(self.timings.retry);
                        }
                        Err(error) => {
                            tracing::warn!(lease = %self.name, %error, "the lease cannot be taken");
                            not_before = Instant::now() + self.jittered(self.timings.retry);
                        }
                    }
                }
            }
            let holder = seen
                .as_ref()
                .and_then(Option::as_ref)
                .map(|seen| holder(&seen.lease).to_owned());
            if let Some(holder) = holder.filter(|holder| *holder != told) {
                if !holder.is_empty() {
                    tracing::info!(lease = %self.name, %holder, "standing by");
                }
                told = holder;
            }
        }
    }

    fn jittered(&self, wait: Duration) -> Duration {
        wait.mul_f64(rand::random_range(0.7..1.3))
    }

    fn note(&self, before: Option<Seen>, now: Option<Lease>) -> Option<Seen> {
        let lease = now?;
        let same = |seen: &Seen| seen.lease.metadata.resource_version == lease.metadata.resource_version;
        let since = before.filter(same).map_or_else(Instant::now, |seen| seen.since);
        Some(Seen { lease, since })
    }

    /// When the lease may be taken, if there is none since `absent`.
    fn free_at(&self, seen: Option<&Seen>, absent: Instant) -> Instant {
        let Some(seen) = seen else { return absent };
        if holder(&seen.lease).is_empty() || holder(&seen.lease) == self.identity {
            return seen.since;
        }
        let seconds = seen
            .lease
            .spec
            .as_ref()
            .and_then(|spec| spec.lease_duration_seconds);
        let duration = seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map_or(self.timings.lease, Duration::from_secs);
        seen.since + duration
    }

    async fn take(&self, seen: Option<&Seen>) -> kube::Result<Lease> {
        let now = MicroTime(Timestamp::now());
        let before = seen.and_then(|seen| seen.lease.spec.clone()).unwrap_or_default();
        let changes_hands = before.holder_identity.as_deref() != Some(self.identity.as_str());
        let spec = LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            // Whole seconds are all that it can say; a shorter one would end before its holder expects it.
            lease_duration_seconds: Some(
                i32::try_from(self.timings.lease.as_secs_f64().ceil() as u64).unwrap_or(i32::MAX),
            ),
            acquire_time: if changes_hands {
                Some(now.clone())
            } else {
                before.acquire_time
            },
            renew_time: Some(now),
            lease_transitions: Some(match seen {
                None => 0,
                Some(_) => before.lease_transitions.unwrap_or(0) + i32::from(changes_hands),
            }),
            ..before
        };
        let params = params();
        match seen {
            None => {
                let mut lease = Lease::default();
                lease.metadata.name = Some(self.name.clone());
                lease.spec = Some(spec);
                self.api.create(&params, &lease).await
            }
            Some(seen) => {
                let mut lease = seen.lease.clone();
                lease.metadata.managed_fields = None;
                lease.spec = Some(spec);
                self.api.replace(&self.name, &params, &lease).await
            }
        }
    }

    fn hold(&self, lease: Lease, since: Instant) -> Held {
        let (lost, stop) = (CancellationToken::new(), CancellationToken::new());
        self.load.held.fetch_add(1, Ordering::AcqRel);
        let task = tokio::spawn(renew(self.clone(), lease, since, lost.clone(), stop.clone()));
        Held {
            election: self.clone(),
            lost,
            stop,
            task,
        }
    }

    /// Writes a lease that we hold again, with what `change` does to it.
    async fn update(&self, lease: &Lease, change: impl FnOnce(&mut LeaseSpec)) -> kube::Result<Lease> {
        let mut lease = lease.clone();
        lease.metadata.managed_fields = None;
        let spec = lease.spec.get_or_insert_default();
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        change(spec);
        self.api.replace(&self.name, &params(), &lease).await
    }
}

fn params() -> PostParams {
    PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    }
}

fn holder(lease: &Lease) -> &str {
    lease
        .spec
        .as_ref()
        .and_then(|spec| spec.holder_identity.as_deref())
        .unwrap_or_default()
}

/// The lease is ours, and is being renewed.
pub struct Held {
    election: Election,
    lost: CancellationToken,
    stop: CancellationToken,
    task: JoinHandle<Option<Lease>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.stop.cancel();
        self.election.load.held.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Held {
    /// Cancelled when it is not ours any longer, or will soon not be.
    pub fn lost(&self) -> &CancellationToken {
        &self.lost
    }

    /// Gives it up, so that the next one need not wait for its end.
    pub async fn release(mut self) {
        self.stop.cancel();
        let Ok(Some(lease)) = (&mut self.task).await else {
            return;
        };
        let free = |spec: &mut LeaseSpec| {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
        };
        let released =
            tokio::time::timeout(self.election.timings.give_up, self.election.update(&lease, free)).await;
        match released {
            Ok(Ok(_)) => tracing::info!(lease = %self.election.name, "handed over"),
            Ok(Err(error)) => {
                tracing::warn!(lease = %self.election.name, %error, "not handed over: it will run out")
            }
            Err(_) => tracing::warn!(lease = %self.election.name, "not handed over in time: it will run out"),
        }
    }
}

/// Renews until told to stop, or until it is lost. Returns the lease as it was last written, if it is still ours.
async fn renew(
    election: Election,
    mut lease: Lease,
    mut since: Instant,
    lost: CancellationToken,
    stop: CancellationToken,
) -> Option<Lease> {
    let timings = election.timings;
    // However this ends, somebody hears of it.
    let guard = lost.clone().drop_guard();
    let mut wait = timings.renew;
    loop {
        let end = since + timings.give_up;
        tokio::select! {
            () = stop.cancelled() => {
                guard.disarm();
                return Some(lease);
            }
            () = tokio::time::sleep_until(end) => {
                tracing::error!(lease = %election.name, "the lease could not be renewed in time; this one stops leading");
                return None;
            }
            // One that took long to be had is renewed the sooner.
            () = tokio::time::sleep(wait.min(end.saturating_duration_since(Instant::now()) / 2)) => {}
        }
        let began = Instant::now();
        // A request that hangs must not outlive the lease.
        let renewed = tokio::time::timeout_at(end, election.update(&lease, |_| {})).await;
        match renewed {
            Ok(Ok(answer)) => {
                lease = answer;
                since = began;
                wait = timings.renew;
                continue;
            }
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => {
                match tokio::time::timeout_at(end, election.api.get(&election.name)).await {
                    // An answer of ours that was lost on its way, or somebody's label.
                    Ok(Ok(current)) if holder(&current) == election.identity => lease = current,
                    Ok(Ok(current)) => {
                        tracing::error!(lease = %election.name, holder = %holder(&current), "the lease was taken away");
                        return None;
                    }
                    Ok(Err(kube::Error::Api(status))) if status.code == 404 => {
                        tracing::error!(lease = %election.name, "the lease was deleted");
                        return None;
                    }
                    _ => {}
                }
            }
            Ok(Err(error)) => {
                tracing::warn!(lease = %election.name, %error, "the lease could not be renewed")
            }
            Err(_) => {}
        }
        wait = election.jittered(timings.retry);
    }
}
