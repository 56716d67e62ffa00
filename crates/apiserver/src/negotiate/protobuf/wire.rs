//! The wire format: numbered fields of four types.

use super::Malformed;

/// The value of a field.
#[derive(Clone, Copy, Debug)]
pub(super) enum Field<'a> {
    /// A number or truth value.
    Varint(u64),
    /// Eight bytes, such as a double.
    Fixed64(u64),
    /// Four bytes.
    Fixed32,
    /// Text, bytes or a message.
    Bytes(&'a [u8]),
}

/// The fields of a message, in order. Ends after an error.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Field<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = field(&mut self.0);
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

/// The numbers of a packed field.
pub(super) fn varints(mut bytes: &[u8]) -> impl Iterator<Item = Result<u64, Malformed>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let number = varint(&mut bytes);
        if number.is_err() {
            bytes = &[];
        }
        Some(number)
    })
}

fn field<'a>(bytes: &mut &'a [u8]) -> Result<(u32, Field<'a>), Malformed> {
    let tag = varint(bytes)?;
    let number = u32::try_from(tag >> 3).map_err(|_| Malformed::Wire("field number out of range"))?;
    let field = match tag & 7 {
        0 => Field::Varint(varint(bytes)?),
        1 => {
            let eight = take(bytes, 8)?;
            Field::Fixed64(u64::from_le_bytes(
                eight.try_into().map_err(|_| Malformed::Wire("cut off"))?,
            ))
        }
        2 => {
            let length =
                usize::try_from(varint(bytes)?).map_err(|_| Malformed::Wire("length out of range"))?;
            Field::Bytes(take(bytes, length)?)
        }
        5 => {
            take(bytes, 4)?;
            Field::Fixed32
        }
        _ => return Err(Malformed::Wire("unknown wire type")),
    };
    Ok((number, field))
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], Malformed> {
    let (head, rest) = bytes.split_at_checked(length).ok_or(Malformed::Wire("cut off"))?;
    *bytes = rest;
    Ok(head)
}

fn varint(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().ok_or(Malformed::Wire("cut off"))?;
        *bytes = rest;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Malformed::Wire("number too long"))
}

fn put_tag(out: &mut Vec<u8>, number: u32, wire_type: u8) {
    put_raw_varint(out, u64::from(number) << 3 | u64::from(wire_type));
}

/// Appends a number without a tag.
pub(super) fn put_raw_varint(out: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a number or truth value.
pub(super) fn put_varint(out: &mut Vec<u8>, number: u32, value: u64) {
    put_tag(out, number, 0);
    put_raw_varint(out, value);
}

/// Appends eight bytes.
pub(super) fn put_fixed64(out: &mut Vec<u8>, number: u32, bits: u64) {
    put_tag(out, number, 1);
    out.extend_from_slice(&bits.to_le_bytes());
}

/// Appends text or bytes.
pub(super) fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_tag(out, number, 2);
    put_raw_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a message whose fields `write` appends.
pub(super) fn put_nested<E>(
    out: &mut Vec<u8>,
    number: u32,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    put_tag_of_bytes(out, number);
    let at = out.len();
    out.push(0);
    write(out)?;
    put_length(out, at);
    Ok(())
}

/// Appends the tag of a field of bytes.
pub(super) fn put_tag_of_bytes(out: &mut Vec<u8>, number: u32) {
    put_tag(out, number, 2);
}

/// Writes the length of what follows the byte at `at`, which is kept for it. Most lengths fit into that; otherwise what was
/// written moves up.
pub(super) fn put_length(out: &mut Vec<u8>, at: usize) {
    put_length_of(out, at, 1);
}

/// The same with so many bytes kept: for what is long, the right number spares it the way.
pub(super) fn put_length_of(out: &mut Vec<u8>, at: usize, kept: usize) {
    let end = out.len();
    let mut length = end - at - kept;
    let mut bytes = [0; 10];
    let mut count = 0;
    for byte in &mut bytes {
        *byte = (length & 0x7f) as u8;
        length >>= 7;
        count += 1;
        if length == 0 {
            break;
        }
        *byte |= 0x80;
    }
    if count > kept {
        out.resize(end + count - kept, 0);
    }
    if count != kept {
        out.copy_within(at + kept..end, at + count);
        out.truncate(end + count - kept);
    }
    out[at..at + count].copy_from_slice(&bytes[..count]);
}

/// How many bytes a length takes.
pub(super) fn bytes_of_length(length: usize) -> usize {
    (usize::BITS - length.leading_zeros()).div_ceil(7).max(1) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_fit_whatever_was_kept_for_them() {
        for length in [0, 1, 127, 128, 300, 16_383, 16_384, 70_000] {
            let mut plain = vec![7];
            put_raw_varint(&mut plain, length as u64);
            assert_eq!(bytes_of_length(length), plain.len() - 1);
            plain.resize(plain.len() + length, 9);
            for kept in 1..4 {
                let mut out = vec![7];
                out.resize(1 + kept, 0);
                out.resize(1 + kept + length, 9);
                put_length_of(&mut out, 1, kept);
                assert!(out == plain, "{length} with {kept}");
            }
        }
    }
}
