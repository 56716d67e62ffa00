//! One object as it is on disk.

use bytes::Bytes;

use crate::{Key, Object};

/// The bytes of one object: checksum of the rest (4), revision (8), creation revision (8), where the digits of the
/// resource version begin in the text (4), all little-endian; then the JSON text.
pub(crate) struct Record;

impl Record {
    const HEADER: usize = 24;

    /// How many bytes it takes.
    pub(crate) fn length(object: &Object) -> usize {
        Self::HEADER + object.json().len()
    }

    pub(crate) fn append(object: &Object, into: &mut Vec<u8>) {
        let at = into.len();
        into.extend_from_slice(&[0; 4]);
        into.extend_from_slice(&object.revision().to_le_bytes());
        into.extend_from_slice(&object.created().to_le_bytes());
        into.extend_from_slice(&object.version_at().to_le_bytes());
        into.extend_from_slice(object.json());
        let checksum = crc32fast::hash(&into[at + 4..]);
        into[at..at + 4].copy_from_slice(&checksum.to_le_bytes());
    }

    pub(crate) fn decode(key: Key, record: &[u8]) -> Option<Object> {
        let (header, json) = record.split_at_checked(Self::HEADER)?;
        let (checksum, numbers) = header.split_first_chunk::<4>()?;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(numbers);
        hasher.update(json);
        if hasher.finalize() != u32::from_le_bytes(*checksum) {
            return None;
        }
        let (revision, numbers) = numbers.split_first_chunk::<8>()?;
        let (created, numbers) = numbers.split_first_chunk::<8>()?;
        let version_at = numbers.first_chunk::<4>()?;
        Some(Object::load(
            key,
            u64::from_le_bytes(*revision),
            u64::from_le_bytes(*created),
            u32::from_le_bytes(*version_at),
            Bytes::copy_from_slice(json),
        ))
    }
}
