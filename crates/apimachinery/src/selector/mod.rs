//! Label and field selectors: the query language of list, watch and deletecollection, and `metav1.LabelSelector`.

mod fields;
mod labels;
mod parse;

pub use fields::{FieldRequirement, FieldSelector, field_text};
pub use labels::{LabelSelector, Operator, Requirement};

use std::fmt;

/// A selector that cannot be understood. The text is the server's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError(pub(crate) String);

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ParseError {}
