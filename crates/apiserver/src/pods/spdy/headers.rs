//! Header blocks: names and values behind their lengths, compressed as one zlib stream for each direction of a connection.

use std::collections::BTreeMap;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::SpdyError;
use super::dictionary::dictionary;

/// The most bytes that one block may have when it is decompressed. Kubernetes' are below 200.
pub(super) const MAX_BLOCK: usize = 32 * 1024;

/// The most headers that one block may have.
const MAX_HEADERS: u32 = 64;

/// The headers of a stream: names in lower case; several values of one name stand behind each other with a zero byte between.
pub(crate) type Headers = BTreeMap<String, String>;

/// Reads the blocks of one direction, in order and without leaving any out.
pub(super) struct Unpacker(Decompress);

impl Unpacker {
    pub(super) fn new() -> Unpacker {
        Unpacker(Decompress::new(true))
    }

    /// # Errors
    /// When the block is no block, or too large.
    pub(super) fn unpack(&mut self, packed: &[u8]) -> Result<Headers, SpdyError> {
        let plain = self.inflate(packed)?;
        parse(&plain)
    }

    fn inflate(&mut self, packed: &[u8]) -> Result<Vec<u8>, SpdyError> {
        let mut plain = Vec::with_capacity(1024);
        let mut rest = packed;
        loop {
            if plain.len() >= MAX_BLOCK {
                return Err(SpdyError::TooLarge("a header block"));
            }
            if plain.len() == plain.capacity() {
                plain.reserve_exact(plain.len().min(MAX_BLOCK - plain.len()));
            }
            let (read, had) = (self.0.total_in(), plain.len());
            let mut asked = false;
            match self.0.decompress_vec(rest, &mut plain, FlushDecompress::Sync) {
                Ok(Status::StreamEnd) => {
                    return Err(SpdyError::Malformed("the stream of headers has an end"));
                }
                Ok(_) => {}
                // Asked for once, with the first block.
                Err(error) if error.needs_dictionary().is_some() => {
                    asked = true;
                    let set = self.0.set_dictionary(dictionary());
                    set.map_err(|_| SpdyError::Malformed("headers with another dictionary"))?;
                }
                Err(_) => return Err(SpdyError::Malformed("headers that cannot be decompressed")),
            }
            let taken = usize::try_from(self.0.total_in() - read).unwrap_or(rest.len());
            rest = rest.get(taken..).unwrap_or_default();
            // Room that is left says that there is no more to come.
            if plain.len() < plain.capacity() {
                if rest.is_empty() {
                    return Ok(plain);
                }
                if taken == 0 && plain.len() == had && !asked {
                    return Err(SpdyError::Malformed("headers that cannot be decompressed"));
                }
            }
        }
    }
}

/// Writes the blocks of one direction.
pub(super) struct Packer(Compress);

impl Packer {
    pub(super) fn new() -> Packer {
        let mut compress = Compress::new(Compression::best(), true);
        // A dictionary of this size is taken by every window.
        let _ = compress.set_dictionary(dictionary());
        Packer(compress)
    }

    pub(super) fn pack(&mut self, headers: &Headers) -> Result<Vec<u8>, SpdyError> {
        let mut plain = Vec::new();
        put_length(&mut plain, headers.len())?;
        for (name, value) in headers {
            put_length(&mut plain, name.len())?;
            plain.extend_from_slice(name.as_bytes());
            put_length(&mut plain, value.len())?;
            plain.extend_from_slice(value.as_bytes());
        }
        let mut packed = Vec::with_capacity(plain.len() + 64);
        let mut rest = plain.as_slice();
        loop {
            let read = self.0.total_in();
            self.0
                .compress_vec(rest, &mut packed, FlushCompress::Sync)
                .map_err(|_| SpdyError::Malformed("headers that cannot be compressed"))?;
            let taken = usize::try_from(self.0.total_in() - read).unwrap_or(rest.len());
            rest = rest.get(taken..).unwrap_or_default();
            // Room that is left says that everything has been flushed.
            if rest.is_empty() && packed.len() < packed.capacity() {
                return Ok(packed);
            }
            packed.reserve(packed.capacity().max(64));
        }
    }
}

fn put_length(to: &mut Vec<u8>, length: usize) -> Result<(), SpdyError> {
    let length = u32::try_from(length).map_err(|_| SpdyError::TooLarge("a header"))?;
    to.extend_from_slice(&length.to_be_bytes());
    Ok(())
}

fn parse(plain: &[u8]) -> Result<Headers, SpdyError> {
    let mut rest = plain;
    let count = take_length(&mut rest)?;
    if count > MAX_HEADERS {
        return Err(SpdyError::TooLarge("the number of headers"));
    }
    let mut headers = Headers::new();
    for _ in 0..count {
        let name = take_text(&mut rest)?;
        let value = take_text(&mut rest)?;
        if name.is_empty() || name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(SpdyError::Malformed("the name of a header"));
        }
        if headers.insert(name, value).is_some() {
            return Err(SpdyError::Malformed("a header that is there twice"));
        }
    }
    if rest.is_empty() {
        Ok(headers)
    } else {
        Err(SpdyError::Malformed("bytes behind the headers"))
    }
}

fn take_length(rest: &mut &[u8]) -> Result<u32, SpdyError> {
    let (length, behind) = rest
        .split_first_chunk::<4>()
        .ok_or(SpdyError::Malformed("a header block that ends early"))?;
    *rest = behind;
    Ok(u32::from_be_bytes(*length))
}

fn take_text(rest: &mut &[u8]) -> Result<String, SpdyError> {
    let length = take_length(rest)? as usize;
    let (text, behind) = rest
        .split_at_checked(length)
        .ok_or(SpdyError::Malformed("a header block that ends early"))?;
    *rest = behind;
    String::from_utf8(text.to_vec()).map_err(|_| SpdyError::Malformed("a header that is no text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&str, &str)]) -> Headers {
        list.iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        let (mut packer, mut unpacker) = (Packer::new(), Unpacker::new());
        let long = "x".repeat(20_000);
        for list in [
            headers(&[("streamtype", "error"), ("port", "8080"), ("requestid", "0")]),
            headers(&[]),
            headers(&[("streamtype", "data"), ("port", "8080"), ("requestid", "0")]),
            headers(&[("a", long.as_str())]),
            headers(&[("b", "")]),
        ] {
            let packed = packer.pack(&list).unwrap();
            assert_eq!(unpacker.unpack(&packed).unwrap(), list);
        }
    }

    #[test]
    fn a_small_block_that_becomes_a_large_one_is_refused() {
        let bomb = headers(&[("a", "x".repeat(MAX_BLOCK).as_str())]);
        let packed = Packer::new().pack(&bomb).unwrap();
        assert!(packed.len() < 1024);
        assert_eq!(
            Unpacker::new().unpack(&packed),
            Err(SpdyError::TooLarge("a header block"))
        );
    }

    #[test]
    fn names_are_in_lower_case_and_there_once() {
        let packed = Packer::new().pack(&headers(&[("Port", "1")])).unwrap();
        assert_eq!(
            Unpacker::new().unpack(&packed),
            Err(SpdyError::Malformed("the name of a header"))
        );
        let mut twice = vec![0, 0, 0, 2];
        twice.extend_from_slice(&[0, 0, 0, 1, b'a', 0, 0, 0, 0, 0, 0, 0, 1, b'a', 0, 0, 0, 0]);
        assert_eq!(
            parse(&twice),
            Err(SpdyError::Malformed("a header that is there twice"))
        );
    }
}
