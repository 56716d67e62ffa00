//! The work queue of one controller.
//!
//! # Guarantees
//!
//! - A key is worked on by one worker at a time.
//! - A key added while it is worked on is worked on again afterwards: the second run starts after the add, so it sees
//!   at least the state that caused it.
//! - A key added many times before a worker takes it is worked on once.
//! - Keys are taken in the order in which they became ready; those that go first ([`Queue::add_first`]) before all others, and
//!   those that can wait ([`Queue::add_later`]) after them, but one of these after every few others, so that whatever happens does
//!   not keep them waiting for ever. Queues that share a [`Rush`] do so together: what can wait in one waits for what cannot in
//!   another, and its turn comes after a moment there.
//!
//! Timers ([`Queue::add_after`]) belong to a key's last run: a run that starts for any reason drops the timer, and sets
//! it again if it is still wanted.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::metrics::ControllerMetrics;
use super::precedence::Precedence;
use super::rush::Rush;

/// A key's deadline, with a number that makes equal instants distinct and first come first served.
type Slot = (Instant, u64);

/// Keys that an empty queue keeps room for.
const ROOM: usize = 64;

/// After so many keys that go before others, one of those that go later is taken.
const IN_TURN: u32 = 8;

/// While there is a rush elsewhere, one of those that go later is taken after this time.
const TURN_IN_A_RUSH: Duration = Duration::from_millis(20);

/// How soon a key is to be worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Later,
    Ordinary,
    First,
}

struct State<K> {
    /// Keys of each class in their order. A key whose class has changed since, or that was taken meanwhile, is passed over.
    first: VecDeque<K>,
    ready: VecDeque<K>,
    later: VecDeque<K>,
    /// How many keys have been taken since one of those that go later.
    in_a_row: u32,
    /// Keys that wait to be worked on: those that are ready, and those added again while being worked on.
    dirty: BTreeMap<K, Class>,
    /// How many of these are ready.
    waiting: usize,
    /// How many of the ready ones go later.
    waiting_later: usize,
    /// When the next one that goes later is taken in spite of a rush elsewhere.
    turn: Option<Instant>,
    working: BTreeMap<K, Class>,
    timers: BTreeMap<Slot, K>,
    timer_of: BTreeMap<K, Slot>,
    failures: BTreeMap<K, u32>,
    /// Keys that failed and go first when they are tried again.
    first_again: BTreeSet<K>,
    /// Keys whose timer makes them go first.
    first_timers: BTreeSet<K>,
    next_slot: u64,
    closed: bool,
}

/// A keyed queue with de-duplication, per-key serialisation, back-off and timers. Cheap to clone.
pub struct Queue<K> {
    state: Arc<Mutex<State<K>>>,
    wake: Arc<Notify>,
    backoff: Backoff,
    metrics: Arc<ControllerMetrics>,
    precedence: Precedence,
    rush: Rush,
}

impl<K> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Self {
            state: Arc::clone(&self.state),
            wake: Arc::clone(&self.wake),
            backoff: self.backoff,
            metrics: Arc::clone(&self.metrics),
            precedence: self.precedence.clone(),
            rush: self.rush.clone(),
        }
    }
}

/// What is to happen with a key after its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing more until something changes.
    Settled,
    /// Run again after this time, unless something changes before.
    After(Duration),
    /// As `After`, and before all keys that were only added: the time itself is what is waited for.
    FirstAfter(Duration),
    /// Run again after the back-off for this key, or after `at_least` if that is longer.
    Failed {
        /// A wait that the other side asked for (`Retry-After`).
        at_least: Duration,
    },
}

impl<K: Ord + Clone> Queue<K> {
    /// An empty queue.
    pub fn new(backoff: Backoff, metrics: Arc<ControllerMetrics>) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                first: VecDeque::new(),
                ready: VecDeque::new(),
                later: VecDeque::new(),
                in_a_row: 0,
                dirty: BTreeMap::new(),
                waiting: 0,
                waiting_later: 0,
                turn: None,
                working: BTreeMap::new(),
                timers: BTreeMap::new(),
                timer_of: BTreeMap::new(),
                failures: BTreeMap::new(),
                first_again: BTreeSet::new(),
                first_timers: BTreeSet::new(),
                next_slot: 0,
                closed: false,
            })),
            wake: Arc::new(Notify::new()),
            backoff,
            metrics,
            precedence: Precedence::default(),
            rush: Rush::default(),
        }
    }

    /// Lets what can wait here wait for what cannot in all queues that share `rush`. For a queue that nothing was added to yet.
    #[must_use]
    pub fn sharing(mut self, rush: &Rush) -> Self {
        self.rush = rush.clone();
        self
    }

    /// What others can wait for while keys of this queue go first: from [`Queue::add_first`] to the end of the run that it led to.
    pub fn precedence(&self) -> &Precedence {
        &self.precedence
    }

    /// Makes `key` ready now.
    pub fn add(&self, key: K) {
        self.add_as(key, Class::Ordinary);
    }

    /// Makes `key` ready now, before all keys that were only added. Others hear of it by [`Queue::precedence`].
    pub fn add_first(&self, key: K) {
        self.add_as(key, Class::First);
    }

    /// Makes `key` ready now, after all keys that cannot wait: for a look at everything, and for what only tells how things are.
    pub fn add_later(&self, key: K) {
        self.add_as(key, Class::Later);
    }

    fn add_as(&self, key: K, class: Class) {
        let woken = {
            let mut state = self.state.lock();
            let pressing = state.pressing();
            let (woken, raised) = state.make_ready(key, class);
            if raised {
                self.precedence.begin();
            }
            self.note(&state, pressing);
            woken
        };
        if woken {
            self.metrics.added();
            self.wake.notify_one();
        }
    }

    /// Tells others how much waits, of which `pressing` was what cannot before.
    fn note(&self, state: &State<K>, pressing: usize) {
        self.rush.change(pressing, state.pressing());
        self.metrics.set_depth(state.waiting);
    }

    /// Makes `key` ready after `wait`; the earliest of several timers for a key wins.
    pub fn add_after(&self, key: K, wait: Duration) {
        if wait.is_zero() {
            return self.add(key);
        }
        self.state.lock().set_timer(key, Instant::now() + wait);
        self.wake.notify_one();
    }

    /// The next ready key, marked as being worked on; the caller must hand it back with [`Queue::done`].
    /// `None` once the queue is closed.
    pub async fn next(&self) -> Option<K> {
        loop {
            let notified = self.wake.notified();
            tokio::pin!(notified);
            // Registered before the state is looked at, so that an add in between is not missed.
            notified.as_mut().enable();
            // Before the count is looked at, for the same reason.
            let calm = self.rush.over();
            let (deadline, in_a_rush) = {
                let mut state = self.state.lock();
                if state.closed {
                    return None;
                }
                let (now, pressing) = (Instant::now(), state.pressing());
                for _ in 0..state.fire_timers(now) {
                    self.precedence.begin();
                }
                self.note(&state, pressing);
                let pressing = state.pressing();
                let taken = state.take(now, self.rush.is_on());
                self.note(&state, pressing);
                if let Some(key) = taken {
                    if state.waiting > 0 {
                        self.wake.notify_one();
                    }
                    return Some(key);
                }
                let timer = state.timers.keys().next().map(|slot| slot.0);
                let turn = state.turn.filter(|_| state.waiting_later > 0);
                (timer.into_iter().chain(turn).min(), turn.is_some())
            };
            tokio::select! {
                () = notified => {}
                () = calm, if in_a_rush => {}
                () = until(deadline), if deadline.is_some() => {}
            }
        }
    }

    /// Hands a key back after its run.
    pub fn done(&self, key: &K, outcome: Outcome) {
        let mut state = self.state.lock();
        let pressing = state.pressing();
        let worked = state.working.remove(key);
        if worked == Some(Class::First) {
            self.precedence.end();
        }
        match outcome {
            Outcome::Settled => {
                state.failures.remove(key);
            }
            Outcome::After(wait) => {
                state.failures.remove(key);
                state.set_timer(key.clone(), Instant::now() + wait);
            }
            Outcome::FirstAfter(wait) => {
                state.failures.remove(key);
                state.set_timer(key.clone(), Instant::now() + wait);
                state.first_timers.insert(key.clone());
            }
            Outcome::Failed { at_least } => {
                let failures = state.failures.entry(key.clone()).or_insert(0);
                *failures = failures.saturating_add(1);
                let wait = self.backoff.delay(*failures).max(at_least);
                state.set_timer(key.clone(), Instant::now() + wait);
                if worked.max(state.dirty.get(key).copied()) == Some(Class::First) {
                    state.first_again.insert(key.clone());
                }
            }
        }
        if let Some(class) = state.dirty.get(key).copied() {
            // Added while it was worked on. After a failure the back-off still holds: whatever changed, hammering a
            // failing dependency is worse than waiting out a few milliseconds.
            if !matches!(outcome, Outcome::Failed { .. }) {
                state.clear_timer(key);
                state.waiting += 1;
                state.waiting_later += usize::from(class == Class::Later);
                state.lane(class).push_back(key.clone());
            } else {
                state.dirty.remove(key);
                // Nobody waits for what waits itself; it goes first once it does not any more.
                if class == Class::First {
                    self.precedence.end();
                }
            }
        }
        self.note(&state, pressing);
        drop(state);
        self.wake.notify_one();
    }

    /// Stops handing out keys. Keys being worked on are finished by their workers.
    pub fn close(&self) {
        {
            let mut state = self.state.lock();
            let pressing = state.pressing();
            state.closed = true;
            // Nobody is to wait for what will not be done.
            self.note(&state, pressing);
        }
        self.wake.notify_waiters();
        self.wake.notify_one();
    }

    /// Number of keys that are ready, being worked on, or waiting for their back-off.
    pub fn pending(&self) -> usize {
        let state = self.state.lock();
        state.waiting + state.working.len() + state.failures.len()
    }
}

impl<K: Ord + Clone> State<K> {
    fn lane(&mut self, class: Class) -> &mut VecDeque<K> {
        match class {
            Class::First => &mut self.first,
            Class::Ordinary => &mut self.ready,
            Class::Later => &mut self.later,
        }
    }

    /// Whether a worker has something to do because of it, and whether the key goes first now and did not before.
    fn make_ready(&mut self, key: K, class: Class) -> (bool, bool) {
        self.clear_timer(&key);
        let class = if self.first_again.remove(&key) {
            Class::First
        } else {
            class
        };
        let known = self.dirty.get(&key).copied();
        if known >= Some(class) {
            return (false, false);
        }
        self.dirty.insert(key.clone(), class);
        let raised = class == Class::First;
        if self.working.contains_key(&key) {
            return (false, raised);
        }
        self.waiting += usize::from(known.is_none());
        match known {
            None => self.waiting_later += usize::from(class == Class::Later),
            Some(known) => self.waiting_later -= usize::from(known == Class::Later),
        }
        self.lane(class).push_back(key);
        (known.is_none(), raised)
    }

    /// How many keys are ready that cannot wait.
    fn pressing(&self) -> usize {
        match self.closed {
            true => 0,
            false => self.waiting - self.waiting_later,
        }
    }

    /// The next key; of those that go later none in a rush, but for one after a time.
    fn take(&mut self, now: Instant, rush: bool) -> Option<K> {
        let mut order = [Class::First, Class::Ordinary, Class::Later];
        if self.in_a_row >= IN_TURN {
            order.rotate_right(1);
        } else if rush && self.waiting_later > 0 && now < *self.turn.get_or_insert(now + TURN_IN_A_RUSH) {
            return [Class::First, Class::Ordinary]
                .into_iter()
                .find_map(|class| self.take_of(class));
        }
        let key = order.into_iter().find_map(|class| self.take_of(class))?;
        if self.waiting_later == 0 || self.in_a_row == 0 {
            self.turn = None;
        }
        Some(key)
    }

    fn take_of(&mut self, class: Class) -> Option<K> {
        while let Some(key) = self.lane(class).pop_front() {
            if self.dirty.get(&key) != Some(&class) || self.working.contains_key(&key) {
                continue;
            }
            self.dirty.remove(&key);
            self.waiting -= 1;
            self.waiting_later -= usize::from(class == Class::Later);
            self.in_a_row = match class {
                Class::Later => 0,
                _ => self.in_a_row.saturating_add(1),
            };
            self.working.insert(key.clone(), class);
            let lane = self.lane(class);
            if lane.is_empty() {
                // A look at everything leaves room for everything.
                lane.shrink_to(ROOM);
            }
            return Some(key);
        }
        None
    }

    fn set_timer(&mut self, key: K, at: Instant) {
        if self.timer_of.get(&key).is_some_and(|slot| slot.0 <= at) {
            return;
        }
        self.clear_timer(&key);
        let slot = (at, self.next_slot);
        self.next_slot += 1;
        self.timers.insert(slot, key.clone());
        self.timer_of.insert(key, slot);
    }

    fn clear_timer(&mut self, key: &K) {
        self.first_timers.remove(key);
        if let Some(slot) = self.timer_of.remove(key) {
            self.timers.remove(&slot);
        }
    }

    /// Makes keys ready whose time has come; how many of them go first now.
    fn fire_timers(&mut self, now: Instant) -> usize {
        let mut first = 0;
        while let Some(entry) = self.timers.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let key = entry.remove();
            self.timer_of.remove(&key);
            let class = if self.first_timers.remove(&key) {
                Class::First
            } else {
                Class::Ordinary
            };
            let (_, raised) = self.make_ready(key, class);
            first += usize::from(raised);
        }
        first
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> Queue<&'static str> {
        let backoff = Backoff {
            base: Duration::from_millis(100),
            cap: Duration::from_secs(10),
            jitter: 0.0,
        };
        Queue::new(backoff, Arc::new(ControllerMetrics::default()))
    }

    /// True if nothing is ready now, with time standing still.
    async fn idle(queue: &Queue<&'static str>) -> bool {
        tokio::time::timeout(Duration::from_nanos(1), queue.next())
            .await
            .is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_added_twice_is_worked_on_once() {
        let queue = queue();
        queue.add("a");
        queue.add("b");
        queue.add("a");
        assert_eq!(queue.next().await, Some("a"));
        assert_eq!(queue.next().await, Some("b"));
        assert!(idle(&queue).await);
    }

    #[tokio::test(start_paused = true)]
    async fn what_goes_later_waits_for_what_has_changed() {
        let queue = queue();
        for key in ["a", "b", "c"] {
            queue.add_later(key);
        }
        queue.add("d");
        // It was to be looked at anyway; now something has happened to it.
        queue.add("c");
        queue.add_later("d");
        for wanted in ["d", "c", "a", "b"] {
            assert_eq!(queue.next().await, Some(wanted));
        }
        assert!(idle(&queue).await);
    }

    #[tokio::test(start_paused = true)]
    async fn what_can_wait_lets_a_rush_elsewhere_go_before() {
        let rush = Rush::default();
        let (reports, work) = (queue().sharing(&rush), queue().sharing(&rush));
        for key in ["a", "b", "c", "d"] {
            reports.add_later(key);
        }
        work.add("x");
        work.add("y");
        // In spite of the rush one is taken after a time, and then the next one.
        let began = Instant::now();
        for key in ["a", "b"] {
            assert_eq!(reports.next().await, Some(key));
            reports.done(&key, Outcome::Settled);
        }
        assert_eq!(began.elapsed(), TURN_IN_A_RUSH * 2);
        // What cannot wait is no less urgent here than elsewhere, and a key that can wait no longer goes at once.
        reports.add("d");
        assert_eq!(reports.next().await, Some("d"));
        assert_eq!(work.next().await, Some("x"));
        assert!(idle(&reports).await);
        // What is worked on keeps nobody waiting: it may wait for an answer itself.
        let waiting = tokio::spawn({
            let reports = reports.clone();
            async move { reports.next().await }
        });
        tokio::task::yield_now().await;
        let began = Instant::now();
        assert_eq!(work.next().await, Some("y"));
        assert_eq!(waiting.await.unwrap(), Some("c"));
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert!(!rush.is_on());
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_is_closed_keeps_nobody_waiting() {
        let rush = Rush::default();
        let (reports, work) = (queue().sharing(&rush), queue().sharing(&rush));
        work.add("x");
        assert!(rush.is_on());
        work.close();
        assert!(!rush.is_on());
        work.add("y");
        reports.add_later("a");
        assert!(!rush.is_on());
        assert_eq!(reports.next().await, Some("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_goes_later_comes_in_its_turn() {
        let queue = queue();
        queue.add_later("later");
        queue.add_first("busy");
        let mut before = 0;
        loop {
            let key = queue.next().await.unwrap();
            if key == "later" {
                break;
            }
            before += 1;
            queue.add(key);
            queue.done(&key, Outcome::Settled);
        }
        assert_eq!(before, IN_TURN);
    }

    /// Whether nobody has to wait for a key that goes first.
    async fn clear(queue: &Queue<&'static str>) -> bool {
        tokio::time::timeout(Duration::from_nanos(1), queue.precedence().clear())
            .await
            .is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn what_goes_first_is_taken_first_and_once() {
        let queue = queue();
        for key in ["a", "b", "c"] {
            queue.add(key);
        }
        assert!(clear(&queue).await);
        // One that waits already comes forward, and one that is added again stays there.
        queue.add_first("c");
        queue.add_first("d");
        queue.add("c");
        assert_eq!(queue.pending(), 4);
        for key in ["c", "d"] {
            assert!(!clear(&queue).await, "before {key}");
            assert_eq!(queue.next().await, Some(key));
            assert!(!clear(&queue).await, "during {key}");
            queue.done(&key, Outcome::Settled);
        }
        assert!(clear(&queue).await);
        // What is left of it in its former place is passed over, unless it was added anew.
        queue.add("c");
        for key in ["a", "b", "c"] {
            assert_eq!(queue.next().await, Some(key));
            queue.done(&key, Outcome::Settled);
        }
        assert!(idle(&queue).await);
        assert_eq!(queue.pending(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_goes_first_while_it_is_worked_on_does_so_afterwards() {
        let queue = queue();
        queue.add("a");
        assert_eq!(queue.next().await, Some("a"));
        queue.add("b");
        queue.add("a");
        queue.add_first("a");
        assert!(!clear(&queue).await);
        queue.done(&"a", Outcome::Settled);
        assert_eq!(queue.next().await, Some("a"));
        // A failure waits by itself, and nobody with it.
        queue.add_first("a");
        let failed = Outcome::Failed {
            at_least: Duration::from_secs(1),
        };
        queue.done(&"a", failed);
        assert!(clear(&queue).await);
        assert_eq!(queue.next().await, Some("b"));
        queue.done(&"b", Outcome::Settled);
        // What comes in between waits behind it.
        queue.add_after("c", Duration::from_secs(1));
        tokio::time::sleep(Duration::from_secs(2)).await;
        queue.add("d");
        assert_eq!(queue.next().await, Some("a"));
        assert!(!clear(&queue).await);
        queue.done(&"a", Outcome::Settled);
        assert!(clear(&queue).await);
        assert_eq!(queue.next().await, Some("d"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_that_is_waited_for_goes_first_and_only_then() {
        let queue = queue();
        let second = Duration::from_secs(1);
        for (key, outcome) in [
            ("timed", Outcome::FirstAfter(second)),
            ("changed", Outcome::FirstAfter(second)),
            ("ordinary", Outcome::After(second)),
        ] {
            queue.add(key);
            assert_eq!(queue.next().await, Some(key));
            queue.done(&key, outcome);
        }
        queue.add("before");
        // A change before the time has come is an ordinary one, and what the timer was for is gone with it.
        queue.add("changed");
        tokio::time::sleep(second * 2).await;
        queue.add("after");
        // Timers are looked at when somebody asks for the next key.
        for expected in ["timed", "before", "changed", "after", "ordinary"] {
            assert_eq!(queue.next().await, Some(expected));
            assert_eq!(clear(&queue).await, expected != "timed");
            queue.done(&expected, Outcome::Settled);
        }
        assert!(idle(&queue).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_added_while_worked_on_waits_for_its_worker() {
        let queue = queue();
        queue.add("a");
        assert_eq!(queue.next().await, Some("a"));
        queue.add("a");
        assert!(idle(&queue).await);
        queue.done(&"a", Outcome::Settled);
        assert_eq!(queue.next().await, Some("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn failures_back_off_and_success_forgets_them() {
        let queue = queue();
        let failed = Outcome::Failed {
            at_least: Duration::ZERO,
        };
        let mut waits = Vec::new();
        queue.add("a");
        for outcome in [failed, failed, failed, Outcome::Settled] {
            let before = Instant::now();
            assert_eq!(queue.next().await, Some("a"));
            waits.push(before.elapsed().as_millis());
            queue.done(&"a", outcome);
        }
        assert_eq!(waits, [0, 100, 200, 400]);
        queue.add("a");
        queue.next().await;
        queue.done(&"a", failed);
        let before = Instant::now();
        queue.next().await;
        assert_eq!(before.elapsed().as_millis(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn the_other_sides_wait_is_respected() {
        let queue = queue();
        queue.add("a");
        queue.next().await;
        queue.done(
            &"a",
            Outcome::Failed {
                at_least: Duration::from_secs(3),
            },
        );
        let before = Instant::now();
        queue.next().await;
        assert_eq!(before.elapsed().as_secs(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_comes_before_the_timer_and_drops_it() {
        let queue = queue();
        queue.add_after("a", Duration::from_secs(60));
        queue.add("a");
        assert_eq!(queue.next().await, Some("a"));
        queue.done(&"a", Outcome::Settled);
        let wait = tokio::time::timeout(Duration::from_secs(120), queue.next()).await;
        assert!(wait.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn the_earliest_timer_wins() {
        let queue = queue();
        queue.add_after("a", Duration::from_secs(60));
        queue.add_after("a", Duration::from_secs(5));
        queue.add_after("a", Duration::from_secs(30));
        let before = Instant::now();
        assert_eq!(queue.next().await, Some("a"));
        assert_eq!(before.elapsed().as_secs(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn closing_ends_every_worker() {
        let queue = queue();
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let queue = queue.clone();
                tokio::spawn(async move { queue.next().await })
            })
            .collect();
        tokio::task::yield_now().await;
        queue.close();
        for worker in workers {
            assert_eq!(worker.await.unwrap(), None);
        }
        queue.add("late");
        assert_eq!(queue.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn every_ready_key_finds_an_idle_worker() {
        let queue = queue();
        let workers: Vec<_> = (0..3)
            .map(|_| {
                let queue = queue.clone();
                tokio::spawn(async move { queue.next().await })
            })
            .collect();
        tokio::task::yield_now().await;
        for key in ["a", "b", "c"] {
            queue.add(key);
        }
        let mut got = Vec::new();
        for worker in workers {
            got.push(worker.await.unwrap().unwrap());
        }
        got.sort_unstable();
        assert_eq!(got, ["a", "b", "c"]);
    }
}
