//! Short names from content.

use serde::Serialize;

/// Letters and digits without those that are easily confused or form words; the ones that Kubernetes takes.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// 32-bit FNV-1a.
fn fnv(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

/// A short name of `content`, in the alphabet that Kubernetes uses for generated names.
pub(super) fn short(content: &impl Serialize, salt: i32) -> Result<String, serde_json::Error> {
    // Through a value, whose maps are sorted: the same content gives the same text.
    let mut text = serde_json::to_value(content)?.to_string();
    if salt != 0 {
        text.push_str(&salt.to_string());
    }
    let digits = fnv(text.as_bytes()).to_string();
    Ok(digits
        .bytes()
        .map(|digit| char::from(ALPHABET[usize::from(digit) % ALPHABET.len()]))
        .collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn depends_on_content_and_salt_only() {
        let one = short(&json!({"a": 1, "b": [2]}), 0).unwrap();
        assert_eq!(one, short(&json!({"b": [2], "a": 1}), 0).unwrap());
        assert_ne!(one, short(&json!({"a": 1, "b": [3]}), 0).unwrap());
        assert_ne!(one, short(&json!({"a": 1, "b": [2]}), 1).unwrap());
        assert!(one.bytes().all(|byte| ALPHABET.contains(&byte)));
    }

    #[test]
    fn fnv_as_published() {
        assert_eq!(fnv(b""), 0x811c_9dc5);
        assert_eq!(fnv(b"foobar"), 0xbf9c_f968);
    }
}
