//! The size of a terminal, as clients tell it.

use serde::Deserialize;

/// The most bytes that a change of a terminal's size may have.
const MAX_RESIZE: usize = 1024;

/// A terminal's size as clients send it.
#[derive(Deserialize)]
struct Size {
    #[serde(rename = "Width", alias = "width")]
    width: u16,
    #[serde(rename = "Height", alias = "height")]
    height: u16,
}

/// Columns and rows.
pub(super) fn size(data: &[u8]) -> Option<(u16, u16)> {
    let size: Size = serde_json::from_slice(data).ok()?;
    Some((size.width, size.height))
}

/// Takes the sizes out of what came: one JSON document behind the other.
pub(super) fn sizes(waiting: &mut Vec<u8>) -> Vec<(u16, u16)> {
    let mut found = Vec::new();
    let mut documents = serde_json::Deserializer::from_slice(waiting).into_iter::<Size>();
    let mut taken = 0;
    while let Some(Ok(size)) = documents.next() {
        taken = documents.byte_offset();
        found.push((size.width, size.height));
    }
    waiting.drain(..taken);
    if waiting.len() > MAX_RESIZE {
        waiting.clear();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_come_in_pieces() {
        let mut waiting = b"{\"Width\":80,\"Height\":24}\n{\"Width\":100".to_vec();
        assert_eq!(sizes(&mut waiting), [(80, 24)]);
        waiting.extend_from_slice(b",\"Height\":30}\n");
        assert_eq!(sizes(&mut waiting), [(100, 30)]);
        assert_eq!(sizes(&mut waiting), []);
        waiting.extend_from_slice(&[b'{'; 2000]);
        assert_eq!(sizes(&mut waiting), []);
        assert!(waiting.is_empty());
        assert_eq!(size(b"{\"Width\":80,\"Height\":24}"), Some((80, 24)));
        assert_eq!(size(b"{\"width\":80,\"height\":24}"), Some((80, 24)));
        assert_eq!(size(b"{}"), None);
    }
}
