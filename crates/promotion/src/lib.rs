//! How promotions go on, decided without doing anything.
//!
//! ```text
//!                        ┌── the objects that say what was asked for and decided
//!   Lane { members, target }                        now
//!        │                                           │
//!        └──────────────► step ◄─────────────────────┘
//!                           │
//!          Outcome { states, waits, actions, wake }
//! ```
//!
//! A *lane* is one binding: a component's track in one environment. All promotions to it are its members, and at most one of
//! them rolls out at a time. [`step`] looks at what every member has been seen to be (its [`State`], which is kept, and its
//! [`Facts`], which are looked at anew) and says what it is now, what is to be done, what each one waits for, and when to look
//! again at the latest.
//!
//! # Guarantees
//!
//! * Nothing is released (`State::released`) unless it was approved by enough people for the digests at hand, all gates before
//!   the rollout passed, no freeze is on and nothing else rolls out; or somebody bypassed that, which stays on it; or it
//!   goes back to what was healthy here before.
//! * A gate that could not find out anything has not passed.
//! * Ending a rollout that failed or was aborted takes the release back in the very state that says so: whoever reads the
//!   states, not whoever carries out actions, knows what may run.
//! * Every member ends: what waits has a deadline.
//! * Members keep the order in which they were first seen, which is the order in which the server took them in.
//! * Of a set, all end well or none does: one of them says how it ends, and whoever is complete waits for its word.
//!
//! # Assumptions
//!
//! * States are written before actions are carried out, in the order of [`Outcome`]; actions are repeated until they are seen to
//!   have happened. A crash between any two of these costs nothing but time.
//! * Steps of one lane do not overlap.
//! * Nobody else takes the target of a set's member away meanwhile: an emergency, a way back and a change by hand are let through,
//!   and then concern that member alone.

mod approvals;
mod gates;
mod lane;
mod rollout;
mod sets;
mod types;

pub use approvals::{Count, count};
pub use lane::{Member, Outcome, effective, place, step};
pub use sets::Peer;
pub use types::{
    Action, Active, Approvers, Bypass, Check, Decision, Entry, Facts, Finding, Freeze, Gate, GateKind,
    Health, Intent, Lane, Millis, Pause, Phase, Policy, Reason, Refusal, Report, Request, SetFacts, State,
    Step, Strategy, Target, Text, Verdict, Wait, WaitKind, active,
};
