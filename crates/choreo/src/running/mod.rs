//! What runs of a component: where, in which pods, and what is said about pods that are only simulated.

mod change;
mod place;
mod pods;
mod terminal;

pub(crate) use place::{Place, Target, environment_of};
pub(crate) use pods::{Pod, Stream, check_real, list, pick, refused, simulated_note, streams};
pub(crate) use terminal::{Raw, is_interactive, size};
