//! CEL rules of schemas.

use serde_json::Value;

use super::Schema;
use crate::field::{FieldError, FieldPath};

impl Schema {
    /// Runs the CEL rules.
    #[must_use]
    pub fn validate_cel(&self, _new: &Value, _old: Option<&Value>, _path: &FieldPath<'_>) -> Vec<FieldError> {
        Vec::new()
    }
}
