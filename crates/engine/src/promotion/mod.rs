//! Promotions in a world of objects: from there to the state machine ([`choreo_promotion`]) and back.
//!
//! ```text
//!   World, now ──► lane ──► choreo_promotion::step ──► record ──► statuses of Promotions
//!                                                                     │
//!   plan of the binding ◄── effective ◄───────────────────────────────┘
//! ```
//!
//! The gate is not at the door but in the plan: what a binding of a guarded environment runs is what the promotions' states let it
//! run ([`effective()`]), whoever wrote what into the binding, and whether or not admission was asked. A binding that says an
//! artifact which was not let in is a request to promote it.

mod effective;
pub mod freeze;
mod jobs;
mod lane;
mod paths;
mod policy;
mod preview;
mod record;
mod refuse;
mod sets;
pub(crate) mod side;
mod wanted;

pub use choreo_promotion as machine;
pub(crate) use effective::candidate_track;
pub use effective::{CANDIDATE, Effective, Side, candidate_name, effective};
pub use jobs::gate_for;
pub use jobs::{gate_release, log_of};
pub use lane::{LaneKey, Reports, is_of_another, lane, lanes_of, members, place_of};
pub use paths::{Guard, Way, first_environment, guard, is_guarded, pipeline_of, way, way_of, ways_into};
pub use policy::{analysis_of, gate_of, milliseconds, policy};
pub use preview::{Change, Preview, new_binding, preview, preview_addresses};
pub use record::{Waits, restore, status};
pub(crate) use refuse::path_refusal;
pub use refuse::refusals;
pub(crate) use sets::full as set_full;
pub use sets::is_settled;
pub use wanted::wanted;

use choreo_api::v1alpha1::{Promotion, PromotionPhase};

/// On a binding: name of the promotion on whose behalf it says its artifact. Who writes another artifact takes it away.
pub const PROMOTED_BY: &str = "openchoreo.dev/promoted-by";

/// On a binding: who wrote its artifact, as the API server knows them.
pub const CHANGED_BY: &str = "openchoreo.dev/artifact-changed-by";

/// On the release of a gate's Job, and on that Job: name of the promotion.
pub const GATE_OF: &str = "openchoreo.dev/gate-of";

/// Whether a promotion has ended.
pub fn is_over(promotion: &Promotion) -> bool {
    promotion
        .status
        .as_ref()
        .and_then(|status| status.phase)
        .is_some_and(PromotionPhase::is_final)
}
