//! Blueprints: objects that the platform team writes with expressions in them, for component types, traits and resource
//! types.
//!
//! ```text
//!  ComponentType, Trait, ResourceType ---check---> every mistake, when it is written
//!        |  frozen with the component
//!        v
//!  parameters, environment, workload ---settle---> variables
//!        |
//!        v
//!  includeWhen -> forEach -> template ---made---> objects with an id
//!        |   each trait in order: creates, patches, removes
//!        v
//!  adopt: namespace, labels, selectors, service account ---> objects of the release
//! ```
//!
//! Guarantees: the same input gives the same bytes (maps are sorted, there is no clock and no randomness); the cost of
//! all expressions, the number of objects and their size are bounded (see [`Budget`]); what was checked when it was
//! written does not fail for a wrong type or a missing field when it is used. What no check can know beforehand, such as
//! the key of a free map, is an error of the render, which keeps what runs.

mod adopt;
mod change;
mod check;
mod evaluate;
mod form;
mod schema;
mod text;
mod variables;

pub use adopt::{Adopter, PodDefaults, adopt};
pub use change::apply_trait;
pub use check::{component_type, object as object_problems, resource_type, trait_};
pub use evaluate::{Budget, Made, made, validate, value};
pub use schema::{Declared, declared};
pub use text::{Part, Text, TextError};
pub use variables::{Variables, component_scope, resource_scope};

use choreo_cel::{Library, Limits};

/// Longest list that `forEach` goes through.
pub const MAX_ITEMS: usize = 256;
/// Most objects that one component or resource may be made of.
pub const MAX_OBJECTS: usize = 256;
/// Most bytes that these objects may have as JSON. A release must fit into one request.
pub const MAX_BYTES: usize = 1 << 20;
/// Cost of all expressions of one component or resource together, in units of about 50 ns: half a second at most.
pub const MAX_COST: u64 = 10_000_000;
/// Cost of one expression.
pub const MAX_EXPRESSION_COST: u64 = 1_000_000;

/// The limits of expressions in blueprints.
pub(crate) fn limits() -> Limits {
    Limits {
        cost: MAX_EXPRESSION_COST,
        library: Library::Templates,
        ..Limits::default()
    }
}
