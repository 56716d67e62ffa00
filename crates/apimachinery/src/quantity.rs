//! `resource.Quantity`: amounts of CPU, memory and other resources.
//!
//! The type lives beside the expression language, which has it too; this is where the rest of the machinery gets it from.

pub use choreo_cel::quantity::{Format, Quantity, QuantityError};

use serde_json::Value;

/// Reads a quantity from an object, where it is a string or a plain number.
///
/// # Errors
/// When the value is neither, or the text is malformed.
pub fn from_json(value: &Value) -> Result<Quantity, QuantityError> {
    match value {
        Value::String(s) => s.parse(),
        Value::Number(n) => n.to_string().parse(),
        _ => Err(QuantityError::Format),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_texts_and_numbers() {
        for (value, expected) in [(json!("100m"), "100m"), (json!(2), "2"), (json!(0.5), "500m")] {
            assert_eq!(from_json(&value).map(|q| q.to_string()).as_deref(), Ok(expected));
        }
        assert!(from_json(&json!({})).is_err());
    }
}
