//! Sets: promotions of several lanes that end well together, or not at all.

use crate::types::{Phase, SetFacts, State, Text};

/// A promotion of a set, as far as the others of it look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Name of the promotion.
    pub id: Text,
    /// How far it has come.
    pub phase: Phase,
    /// Whether its rollout has begun.
    pub began: bool,
    /// Whether nothing but the others is waited for: to begin, or, once it has begun, to end.
    pub complete: bool,
    /// Whether somebody wants it stopped. Whoever has promised to follow cannot stop by itself: the one that leads hears of it
    /// and does.
    pub stopped: bool,
    /// Whether the one that looks connects to it, and not both to each other: neither could be first then.
    pub needed: bool,
}

impl Peer {
    /// A promotion in this state, that nobody connects to.
    pub fn new(id: &Text, state: &State, stopped: bool) -> Self {
        Self {
            id: Text::clone(id),
            phase: state.phase,
            began: state.started.is_some(),
            complete: state.complete,
            stopped,
            needed: false,
        }
    }

    fn runs(&self) -> bool {
        self.began && self.complete
    }

    fn failed(&self) -> bool {
        self.phase.is_final() && self.phase != Phase::Succeeded
    }
}

impl SetFacts {
    /// How the others are doing, for the one of this name. `peers` are all that are known, that one among them; `members` is how
    /// many they are to be. The first by name leads. None if the one is not among them.
    pub fn of(id: &str, peers: &[Peer], members: usize) -> Option<Self> {
        let this = peers.iter().find(|peer| *peer.id == *id)?;
        let leader = peers.iter().min_by(|a, b| a.id.cmp(&b.id))?;
        let leads = leader.id == this.id;
        let there = peers.len() >= members;
        Some(Self {
            leads,
            may_start: there
                && peers.iter().all(|peer| peer.began || peer.complete)
                && peers.iter().filter(|peer| peer.needed).all(Peer::runs),
            may_finish: if leads {
                there && peers.iter().all(|peer| peer.id == this.id || peer.runs())
            } else {
                leader.phase == Phase::Succeeded
            },
            broken: if leads {
                peers.iter().any(|peer| peer.failed() || peer.stopped)
            } else if this.runs() {
                leader.failed()
            } else {
                peers.iter().any(Peer::failed)
            },
        })
    }
}
