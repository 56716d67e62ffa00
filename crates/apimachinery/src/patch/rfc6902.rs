//! JSON patch (RFC 6902), with the limits of kube-apiserver.

use json_patch::{Patch, PatchOperation};
use serde_json::Value;

use super::unprocessable;
use crate::status::{ApiError, Result};

/// Most operations in one patch.
const MAX_OPERATIONS: usize = 10_000;

/// Most bytes that the `copy` operations of one patch may add; without a bound a short patch doubles an object at each step.
const MAX_COPIED: usize = 3 * 1024 * 1024;

/// Applies a JSON patch. The operations apply all or not at all.
///
/// # Errors
/// 400 if the patch is no JSON patch, 413 if it has more than 10,000 operations, 422 if an operation does not fit the
/// document or a `test` fails.
pub fn json(doc: &Value, patch: &[u8]) -> Result<Value> {
    let Patch(operations) = serde_json::from_slice(patch)
        .map_err(|e| ApiError::bad_request(format!("error decoding patch: {e}")))?;
    if operations.len() > MAX_OPERATIONS {
        return Err(ApiError::too_large(&format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
            operations.len()
        )));
    }
    let mut patched = doc.clone();
    let mut copied = 0;
    for (index, operation) in operations.iter().enumerate() {
        if let PatchOperation::Copy(copy) = operation
            && let Ok(source) = copy.from.resolve(&patched)
        {
            copied += size(source);
            if copied > MAX_COPIED {
                return Err(unprocessable(format!(
                    "Unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the \
                     limit {MAX_COPIED}"
                )));
            }
        }
        json_patch::patch_unsafe(&mut patched, std::slice::from_ref(operation))
            .map_err(|e| unprocessable(format!("operation {index} ({}): {}", operation.path(), e.kind)))?;
    }
    Ok(patched)
}

/// About the number of bytes of the JSON text.
fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::String(s) => s.len() + 2,
        Value::Array(list) => 2 + list.iter().map(|v| size(v) + 1).sum::<usize>(),
        Value::Object(map) => 2 + map.iter().map(|(k, v)| k.len() + 4 + size(v)).sum::<usize>(),
    }
}
