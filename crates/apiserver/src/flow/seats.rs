//! The seats of a server, shared out to priority levels, and the queues in front of them.
//!
//! A level has a *nominal* number of seats, by its shares. Of these it always keeps some for itself, its *minimum*; the rest is
//! lent to levels that need more than they have, up to their *maximum*, as long as nobody needs it. A level that gets back into
//! need gets the next seat that becomes free, before anybody who has more than its nominal number.
//!
//! kube-apiserver works the lent seats out anew every ten seconds from what was needed before; here each request finds what is
//! there.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::config::Level;

/// All seats.
pub(super) struct Seats {
    /// How many there are to share out.
    count: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    levels: Vec<LevelState>,
    /// The sum of the nominal numbers, a little more than there are to share out since each is rounded up.
    total: usize,
    /// What cannot be lent now: of each level what is in use, or its minimum if that is more.
    reserved: usize,
    /// Numbers of levels are never used again.
    next: u64,
}

struct LevelState {
    number: u64,
    level: Level,
    /// Whether it is still there, and not only worked off.
    wanted: bool,
    nominal: usize,
    min: usize,
    max: usize,
    used: usize,
    waiting: usize,
    /// Who waits, by queue. Queues that nobody waits in are not here.
    queues: BTreeMap<u32, VecDeque<oneshot::Sender<()>>>,
    /// The queues that somebody waits in, in the order of their turns.
    turns: VecDeque<u32>,
}

/// A seat. It becomes free when this is dropped.
pub(crate) struct Seat {
    seats: Arc<Seats>,
    level: u64,
}

impl std::fmt::Debug for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Seat({})", self.level)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.release(self.level);
    }
}

/// What comes of asking for a seat.
pub(super) enum Ask {
    Seat(Seat),
    Wait(Waiting),
    /// There is no place to wait.
    Full,
    /// There is no such level any more.
    Unknown,
}

impl Seats {
    pub(super) fn new(count: usize) -> Seats {
        Seats {
            count,
            state: Mutex::default(),
        }
    }

    /// Shares the seats out to these levels, and gives their numbers. Levels that are not among them any more are worked off.
    pub(super) fn share_out(&self, levels: Vec<Level>) -> Vec<(Level, u64)> {
        let state = &mut *self.state.lock();
        for old in &mut state.levels {
            old.wanted = false;
        }
        let mut known = Vec::with_capacity(levels.len());
        for level in levels {
            let number = match state.levels.iter_mut().find(|old| old.level.name == level.name) {
                Some(old) => {
                    old.level = level.clone();
                    old.wanted = true;
                    old.number
                }
                None => {
                    state.next += 1;
                    state.levels.push(LevelState::new(state.next, level.clone()));
                    state.next
                }
            };
            known.push((level, number));
        }
        state.levels.retain(|level| level.wanted || !level.is_idle());
        state.divide(self.count);
        state.dispatch();
        known
    }

    /// A seat of a level, or a place in one of the queues that the hash of the request's flow decides on.
    pub(super) fn ask(self: &Arc<Self>, level: u64, flow: impl FnOnce() -> u64) -> Ask {
        let state = &mut *self.state.lock();
        let Some(index) = state.levels.iter().position(|known| known.number == level) else {
            return Ask::Unknown;
        };
        // Nobody overtakes those who wait.
        if state.levels[index].waiting == 0 && state.has_seat(index) {
            state.take(index);
            return Ask::Seat(self.seat(level));
        }
        match state.levels[index].enqueue(flow) {
            None => Ask::Full,
            Some(turn) => Ask::Wait(Waiting {
                seats: self.clone(),
                level,
                turn: Some(turn),
            }),
        }
    }

    fn seat(self: &Arc<Self>, level: u64) -> Seat {
        Seat {
            seats: self.clone(),
            level,
        }
    }

    /// A seat becomes free: whoever is next gets it.
    fn release(&self, level: u64) {
        let state = &mut *self.state.lock();
        let Some(index) = state.levels.iter().position(|known| known.number == level) else {
            return;
        };
        let freed = &mut state.levels[index];
        freed.used = freed.used.saturating_sub(1);
        if freed.used >= freed.min {
            state.reserved = state.reserved.saturating_sub(1);
        }
        state.dispatch();
        let left = &state.levels[index];
        if !left.wanted && left.is_idle() {
            state.levels.remove(index);
            state.divide(self.count);
        }
    }

    /// How many requests of all levels have a seat.
    #[cfg(test)]
    pub(super) fn taken(&self) -> usize {
        self.state.lock().levels.iter().map(|level| level.used).sum()
    }

    /// How many wait.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.state.lock().levels.iter().map(|level| level.waiting).sum()
    }
}

impl State {
    /// Works out what each level has.
    fn divide(&mut self, seats: usize) {
        let shares: u64 = self
            .levels
            .iter()
            .map(|level| u64::from(level.level.shares))
            .sum();
        let seats_of = |shares_of: u32| {
            let wanted = u64::from(shares_of) * seats as u64;
            usize::try_from(wanted.div_ceil(shares.max(1))).unwrap_or(usize::MAX)
        };
        let (mut total, mut reserved) = (0_usize, 0_usize);
        for state in &mut self.levels {
            state.nominal = seats_of(state.level.shares);
            state.min = state.nominal - percent(state.nominal, state.level.lendable).min(state.nominal);
            let borrowed = state
                .level
                .borrowing
                .map_or(seats, |limit| percent(state.nominal, limit));
            state.max = state.nominal.saturating_add(borrowed);
            total += state.nominal;
            reserved += state.used.max(state.min);
        }
        (self.total, self.reserved) = (total, reserved);
    }

    /// Whether a level can have one more seat. One request of each level always can, however little the level has.
    fn has_seat(&self, index: usize) -> bool {
        let level = &self.levels[index];
        level.used == 0 || level.used < level.min || (level.used < level.max && self.reserved < self.total)
    }

    fn take(&mut self, index: usize) {
        let level = &mut self.levels[index];
        if level.used >= level.min {
            self.reserved += 1;
        }
        level.used += 1;
    }

    /// Gives seats to those who wait, as long as there are any.
    fn dispatch(&mut self) {
        while let Some(index) = self.next_level() {
            // Those who gave up are skipped.
            if self.levels[index]
                .next_turn()
                .is_some_and(|turn| turn.send(()).is_ok())
            {
                self.take(index);
            }
        }
    }

    /// The level that gets the next seat: of those that somebody waits for, the one that has least of what it should have.
    fn next_level(&self) -> Option<usize> {
        let waits =
            (0..self.levels.len()).filter(|index| self.levels[*index].waiting > 0 && self.has_seat(*index));
        waits.min_by(|a, b| {
            let (a, b) = (&self.levels[*a], &self.levels[*b]);
            // a.used / a.nominal against b.used / b.nominal; a level without seats of its own comes last.
            let left = (a.nominal == 0, a.used.saturating_mul(b.nominal));
            left.cmp(&(b.nominal == 0, b.used.saturating_mul(a.nominal)))
        })
    }
}

/// So many percent, rounded to the nearest number.
fn percent(of: usize, percent: u32) -> usize {
    let hundredfold = of as u64 * u64::from(percent);
    usize::try_from((hundredfold + 50) / 100).unwrap_or(usize::MAX)
}

impl LevelState {
    fn new(number: u64, level: Level) -> Self {
        LevelState {
            number,
            level,
            wanted: true,
            nominal: 0,
            min: 0,
            max: 0,
            used: 0,
            waiting: 0,
            queues: BTreeMap::new(),
            turns: VecDeque::new(),
        }
    }

    fn is_idle(&self) -> bool {
        self.used == 0 && self.waiting == 0
    }

    /// A place in the shortest queue of those that a flow is dealt.
    fn enqueue(&mut self, flow: impl FnOnce() -> u64) -> Option<oneshot::Receiver<()>> {
        let queuing = self.level.queuing?;
        let mut shortest: Option<(usize, u32)> = None;
        for number in deal(flow(), queuing.queues, queuing.hand_size) {
            // Those who gave up make room.
            let length = match self.queues.get_mut(&number) {
                None => 0,
                Some(queue) => {
                    let before = queue.len();
                    queue.retain(|turn| !turn.is_closed());
                    self.waiting -= before - queue.len();
                    queue.len()
                }
            };
            if shortest.is_none_or(|(least, _)| length < least) {
                shortest = Some((length, number));
            }
        }
        let (length, number) = shortest?;
        if length >= queuing.queue_length_limit as usize {
            return None;
        }
        let (sender, turn) = oneshot::channel();
        let queue = self.queues.entry(number).or_insert_with(|| {
            self.turns.push_back(number);
            VecDeque::new()
        });
        queue.push_back(sender);
        self.waiting += 1;
        Some(turn)
    }

    /// Who waits longest in the queue whose turn it is.
    fn next_turn(&mut self) -> Option<oneshot::Sender<()>> {
        while let Some(number) = self.turns.pop_front() {
            let Some(queue) = self.queues.get_mut(&number) else {
                continue;
            };
            let turn = queue.pop_front();
            if queue.is_empty() {
                self.queues.remove(&number);
            } else {
                self.turns.push_back(number);
            }
            if let Some(turn) = turn {
                self.waiting -= 1;
                return Some(turn);
            }
        }
        // Nobody can wait outside of the queues.
        self.waiting = 0;
        None
    }
}

/// The queues that a flow is dealt: so many different ones, by its hash, of a number of queues. Flows that have one queue in
/// common hardly ever have them all, so that a busy one leaves the others a place.
fn deal(mut hash: u64, queues: u32, hand: u32) -> Vec<u32> {
    let mut sorted: Vec<u32> = Vec::new();
    let mut dealt = Vec::new();
    for left in (1..=queues).rev().take(hand as usize) {
        // The so many-th of those that are left.
        let mut card = u32::try_from(hash % u64::from(left)).unwrap_or_default();
        hash /= u64::from(left);
        let mut place = 0;
        while let Some(before) = sorted.get(place).filter(|before| **before <= card) {
            debug_assert!(*before <= card);
            card += 1;
            place += 1;
        }
        sorted.insert(place, card);
        dealt.push(card);
    }
    dealt
}

/// A request that waits. One that is given up after its seat was handed out passes it on.
pub(super) struct Waiting {
    seats: Arc<Seats>,
    level: u64,
    turn: Option<oneshot::Receiver<()>>,
}

impl Waiting {
    /// The seat; none if it does not come in time.
    pub(super) async fn come(mut self, wait: Duration) -> Option<Seat> {
        let came = tokio::time::timeout(wait, self.turn.as_mut()?).await;
        if matches!(came, Ok(Ok(()))) {
            self.turn = None;
            return Some(self.seats.seat(self.level));
        }
        None
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(turn) = &mut self.turn {
            turn.close();
            if turn.try_recv().is_ok() {
                self.seats.release(self.level);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::Queuing;
    use super::*;
    use futures::FutureExt;

    fn level(name: &str, shares: u32, lendable: u32, queuing: Option<Queuing>) -> Level {
        Level {
            name: name.to_owned(),
            uid: String::new(),
            exempt: false,
            shares,
            lendable,
            borrowing: None,
            queuing,
        }
    }

    fn queuing(queues: u32, hand_size: u32, queue_length_limit: u32) -> Option<Queuing> {
        Some(Queuing {
            queues,
            hand_size,
            queue_length_limit,
        })
    }

    fn seats(count: usize, levels: Vec<Level>) -> (Arc<Seats>, Vec<u64>) {
        let seats = Arc::new(Seats::new(count));
        let numbers = seats
            .share_out(levels)
            .into_iter()
            .map(|(_, number)| number)
            .collect();
        (seats, numbers)
    }

    fn seat(seats: &Arc<Seats>, level: u64) -> Seat {
        match seats.ask(level, || 0) {
            Ask::Seat(seat) => seat,
            _ => panic!("no seat"),
        }
    }

    /// Queues up for a seat, and says so when it has it.
    fn wait(seats: &Arc<Seats>, level: u64, flow: u64) -> futures::future::BoxFuture<'static, Option<Seat>> {
        let Ask::Wait(waiting) = seats.ask(level, || flow) else {
            panic!("no place in a queue");
        };
        let mut waiting = waiting.come(Duration::from_secs(60)).boxed();
        assert!(waiting.as_mut().now_or_never().is_none());
        waiting
    }

    #[tokio::test]
    async fn flows_take_turns() {
        let (seats, levels) = seats(1, vec![level("a", 1, 0, queuing(3, 1, 10))]);
        let first = seat(&seats, levels[0]);
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = Vec::new();
        // With three queues and hands of one, the hash is the queue.
        for (who, flow) in [("busy", 0), ("busy", 0), ("busy", 0), ("rare", 1), ("other", 2)] {
            let turn = wait(&seats, levels[0], flow);
            let order = order.clone();
            waiting.push(tokio::spawn(async move {
                let seat = turn.await.unwrap();
                order.lock().push(who);
                drop(seat);
            }));
        }
        drop(first);
        for request in waiting {
            request.await.unwrap();
        }
        assert_eq!(*order.lock(), ["busy", "rare", "other", "busy", "busy"]);
        assert_eq!((seats.taken(), seats.waiting()), (0, 0));
    }

    #[tokio::test]
    async fn a_full_queue_is_only_its_flows_problem() {
        let (seats, levels) = seats(1, vec![level("a", 1, 0, queuing(2, 1, 1))]);
        let held = seat(&seats, levels[0]);
        let queued = wait(&seats, levels[0], 0);
        assert!(matches!(seats.ask(levels[0], || 0), Ask::Full));
        let other = wait(&seats, levels[0], 1);
        drop(held);
        drop(queued.await.unwrap());
        other.await.unwrap();
    }

    #[tokio::test]
    async fn who_gives_up_passes_the_seat_on() {
        let (seats, levels) = seats(1, vec![level("a", 1, 0, queuing(2, 1, 5))]);
        let held = seat(&seats, levels[0]);
        let gone = wait(&seats, levels[0], 0);
        let stays = wait(&seats, levels[0], 1);
        // The seat is handed to the first, who leaves before looking.
        drop(held);
        drop(gone);
        drop(stays.await.unwrap());
        assert_eq!((seats.taken(), seats.waiting()), (0, 0));
    }

    #[tokio::test]
    async fn nobody_waits_for_ever() {
        let (seats, levels) = seats(1, vec![level("a", 1, 0, queuing(2, 1, 1))]);
        let held = seat(&seats, levels[0]);
        let Ask::Wait(waiting) = seats.ask(levels[0], || 0) else {
            panic!("no place in a queue");
        };
        assert!(waiting.come(Duration::from_millis(10)).await.is_none());
        // The place is free again.
        let next = wait(&seats, levels[0], 0);
        drop(held);
        next.await.unwrap();
    }

    #[test]
    fn a_level_without_queues_refuses() {
        let (seats, levels) = seats(2, vec![level("a", 1, 0, None)]);
        let _held = [seat(&seats, levels[0]), seat(&seats, levels[0])];
        assert!(matches!(seats.ask(levels[0], || 0), Ask::Full));
    }

    #[test]
    fn seats_are_shared_out_as_kube_apiserver_does() {
        // The levels that every server has, with its 600 seats: nominal, minimum and maximum as its metrics tell them.
        let (seats, _) = seats(
            600,
            vec![
                level("catch-all", 5, 0, None),
                level("global-default", 20, 50, None),
                level("leader-election", 10, 0, None),
                level("node-high", 40, 25, None),
                level("system", 30, 33, None),
                level("workload-high", 40, 50, None),
                level("workload-low", 100, 90, None),
            ],
        );
        let state = seats.state.lock();
        let divided: Vec<_> = state
            .levels
            .iter()
            .map(|level| (level.nominal, level.min, level.max))
            .collect();
        assert_eq!(
            divided,
            [
                (13, 13, 613),
                (49, 24, 649),
                (25, 25, 625),
                (98, 73, 698),
                (74, 50, 674),
                (98, 49, 698),
                (245, 24, 845),
            ]
        );
    }

    #[tokio::test]
    async fn what_is_lent_comes_back_first() {
        // Two seats each; `a` lends both of its own, `b` none.
        let (seats, levels) = seats(
            4,
            vec![
                level("a", 1, 100, queuing(1, 1, 9)),
                level("b", 1, 0, queuing(1, 1, 9)),
            ],
        );
        let (a, b) = (levels[0], levels[1]);
        // `b` has two of its own and borrows two; the next one waits.
        let mut held: Vec<Seat> = (0..4).map(|_| seat(&seats, b)).collect();
        let more = wait(&seats, b, 0);
        // One request of each level can always be worked on; after that `a` waits for what it has lent.
        let own = seat(&seats, a);
        let back = wait(&seats, a, 0);
        held.pop();
        held.pop();
        let back = back.await.unwrap();
        let mut more = more;
        assert!(more.as_mut().now_or_never().is_none(), "b has its two");
        drop((own, back));
        more.await.unwrap();
    }

    #[test]
    fn what_is_not_lent_stays_free() {
        let (seats, levels) = seats(4, vec![level("a", 1, 0, None), level("b", 1, 0, None)]);
        let _held = [seat(&seats, levels[1]), seat(&seats, levels[1])];
        assert!(matches!(seats.ask(levels[1], || 0), Ask::Full));
        let _own = [seat(&seats, levels[0]), seat(&seats, levels[0])];
    }

    #[test]
    fn nobody_borrows_more_than_it_may() {
        let mut small = level("b", 1, 0, None);
        small.borrowing = Some(50);
        let (seats, levels) = seats(4, vec![level("a", 1, 100, None), small]);
        let _held: Vec<Seat> = (0..3).map(|_| seat(&seats, levels[1])).collect();
        assert!(matches!(seats.ask(levels[1], || 0), Ask::Full));
    }

    #[tokio::test]
    async fn a_level_that_is_gone_is_worked_off() {
        let (seats, levels) = seats(1, vec![level("a", 1, 0, queuing(1, 1, 1))]);
        let held = seat(&seats, levels[0]);
        let waits = wait(&seats, levels[0], 0);
        seats.share_out(vec![level("b", 1, 0, None)]);
        drop(held);
        drop(waits.await.unwrap());
        assert!(matches!(seats.ask(levels[0], || 0), Ask::Unknown));
        // One of the same name is another one.
        let again = seats.share_out(vec![level("a", 1, 0, None)]);
        assert_ne!(again[0].1, levels[0]);
    }

    #[tokio::test]
    async fn more_seats_let_those_in_who_wait() {
        let (seats, levels) = seats(
            2,
            vec![level("a", 1, 0, queuing(1, 1, 1)), level("b", 1, 0, None)],
        );
        let _held = seat(&seats, levels[0]);
        let waits = wait(&seats, levels[0], 0);
        seats.share_out(vec![level("a", 1, 0, queuing(1, 1, 1))]);
        waits.await.unwrap();
    }

    #[test]
    fn hands_are_of_different_queues() {
        for (queues, hand) in [(1, 1), (2, 2), (5, 5), (64, 8), (128, 6), (10_000_000, 2)] {
            for hash in [0, 1, 77, u64::MAX, 0x1234_5678_9abc_def0] {
                let dealt = deal(hash, queues, hand);
                let mut different = dealt.clone();
                different.sort_unstable();
                different.dedup();
                assert_eq!(different.len(), hand as usize, "{queues} {hand} {hash}");
                assert!(different.iter().all(|queue| *queue < queues));
            }
        }
        // All orders of three cards are dealt, each by one of six hashes.
        let mut orders: Vec<_> = (0..6).map(|hash| deal(hash, 3, 3)).collect();
        orders.sort();
        orders.dedup();
        assert_eq!(orders.len(), 6);
    }
}
