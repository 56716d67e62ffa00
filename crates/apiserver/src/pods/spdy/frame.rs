//! Frames of SPDY/3.1 (SPDY protocol, draft 3.1, section 2.2 and 2.6).

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::SpdyError;
use super::headers::{Headers, MAX_BLOCK, Packer, Unpacker};

/// The most bytes of a frame with data. Clients of Kubernetes send up to 32 KiB.
const MAX_DATA: usize = 1 << 20;

/// The most bytes of a control frame.
const MAX_CONTROL: usize = MAX_BLOCK + 1024;

/// The version that control frames carry.
const VERSION: u16 = 3;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const SETTINGS: u16 = 4;
const PING: u16 = 6;
const GO_AWAY: u16 = 7;
const HEADERS: u16 = 8;
const WINDOW_UPDATE: u16 = 9;

/// The sender sends nothing else on the stream.
const FLAG_FIN: u8 = 1;

/// The setting that says how many bytes a new stream may send before it is told to go on.
const INITIAL_WINDOW_SIZE: u32 = 7;

/// Why a stream is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reset {
    RefusedStream = 3,
    Cancel = 5,
    FlowControlError = 7,
}

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    SynStream {
        id: u32,
        headers: Headers,
        fin: bool,
    },
    SynReply {
        id: u32,
        headers: Headers,
        fin: bool,
    },
    RstStream {
        id: u32,
        status: u32,
    },
    /// The only setting that concerns a peer which opens no streams; none when it is not among those sent.
    Settings {
        initial_window: Option<u32>,
    },
    Ping(u32),
    GoAway {
        last: u32,
    },
    Headers {
        id: u32,
        headers: Headers,
        fin: bool,
    },
    WindowUpdate {
        id: u32,
        delta: u32,
    },
    Data {
        id: u32,
        data: Bytes,
        fin: bool,
    },
    /// Of a type that the protocol does not have, to be ignored.
    Unknown,
}

/// Takes bytes apart.
pub(super) struct Decoder(Unpacker);

impl Decoder {
    pub(super) fn new() -> Decoder {
        Decoder(Unpacker::new())
    }

    /// The next frame, which is taken out of the bytes; none while it is not there as a whole.
    ///
    /// # Errors
    /// When the bytes are no frames. The connection cannot go on then.
    pub(super) fn decode(&mut self, from: &mut BytesMut) -> Result<Option<Frame>, SpdyError> {
        let Some(head) = from.first_chunk::<8>().copied() else {
            return Ok(None);
        };
        let [a, b, c, d, flags, x, y, z] = head;
        let length = u32::from_be_bytes([0, x, y, z]) as usize;
        let control = a & 0x80 != 0;
        if length > if control { MAX_CONTROL } else { MAX_DATA } {
            return Err(SpdyError::TooLarge("a frame"));
        }
        if from.len() < 8 + length {
            from.reserve(8 + length - from.len());
            return Ok(None);
        }
        from.advance(8);
        let body = from.split_to(length).freeze();
        let fin = flags & FLAG_FIN != 0;
        if !control {
            let id = stream_id(u32::from_be_bytes([a, b, c, d]))?;
            return Ok(Some(Frame::Data { id, data: body, fin }));
        }
        if u16::from_be_bytes([a & 0x7f, b]) != VERSION {
            return Err(SpdyError::Malformed("a frame of another version of SPDY"));
        }
        self.control(u16::from_be_bytes([c, d]), fin, body).map(Some)
    }

    fn control(&mut self, kind: u16, fin: bool, mut body: Bytes) -> Result<Frame, SpdyError> {
        Ok(match kind {
            SYN_STREAM => {
                let id = stream_id(number(&mut body)?)?;
                let _associated = number(&mut body)?;
                // Priority and slot of a credential.
                if body.len() < 2 {
                    return Err(SpdyError::Malformed("a frame that ends early"));
                }
                body.advance(2);
                let headers = self.0.unpack(&body)?;
                Frame::SynStream { id, headers, fin }
            }
            SYN_REPLY => {
                let id = stream_id(number(&mut body)?)?;
                let headers = self.0.unpack(&body)?;
                Frame::SynReply { id, headers, fin }
            }
            HEADERS => {
                let id = stream_id(number(&mut body)?)?;
                let headers = self.0.unpack(&body)?;
                Frame::Headers { id, headers, fin }
            }
            RST_STREAM => Frame::RstStream {
                id: stream_id(number(&mut body)?)?,
                status: number(&mut body)?,
            },
            SETTINGS => settings(body)?,
            PING => Frame::Ping(number(&mut body)?),
            GO_AWAY => Frame::GoAway {
                last: number(&mut body)? & 0x7fff_ffff,
            },
            WINDOW_UPDATE => Frame::WindowUpdate {
                id: number(&mut body)? & 0x7fff_ffff,
                delta: number(&mut body)? & 0x7fff_ffff,
            },
            _ => Frame::Unknown,
        })
    }
}

fn settings(mut body: Bytes) -> Result<Frame, SpdyError> {
    let count = number(&mut body)? as usize;
    if body.len() != count.saturating_mul(8) {
        return Err(SpdyError::Malformed("settings that end early"));
    }
    let mut initial_window = None;
    for _ in 0..count {
        // The first byte has flags.
        let id = number(&mut body)? & 0x00ff_ffff;
        let value = number(&mut body)?;
        if id == INITIAL_WINDOW_SIZE {
            initial_window = Some(value & 0x7fff_ffff);
        }
    }
    Ok(Frame::Settings { initial_window })
}

fn number(from: &mut Bytes) -> Result<u32, SpdyError> {
    from.try_get_u32()
        .map_err(|_| SpdyError::Malformed("a frame that ends early"))
}

fn stream_id(id: u32) -> Result<u32, SpdyError> {
    match id & 0x7fff_ffff {
        0 => Err(SpdyError::Malformed("a stream without a number")),
        id => Ok(id),
    }
}

/// Puts frames together.
pub(super) struct Encoder(Packer);

impl Encoder {
    pub(super) fn new() -> Encoder {
        Encoder(Packer::new())
    }

    /// Adds a frame to the bytes.
    ///
    /// # Errors
    /// When it is larger than a frame can be.
    pub(super) fn encode(&mut self, frame: &Frame, to: &mut BytesMut) -> Result<(), SpdyError> {
        let numbers = |list: &[u32]| -> Vec<u8> { list.iter().flat_map(|n| n.to_be_bytes()).collect() };
        match frame {
            Frame::Data { id, data, fin } => {
                let length = length(data.len())?;
                to.reserve(8 + data.len());
                to.put_u32(*id);
                to.put_u32(u32::from(*fin) << 24 | length);
                to.extend_from_slice(data);
                Ok(())
            }
            Frame::SynStream { id, headers, fin } => {
                let mut body = numbers(&[*id, 0]);
                body.extend_from_slice(&[0, 0]);
                body.extend(self.0.pack(headers)?);
                control(to, SYN_STREAM, *fin, &body)
            }
            Frame::SynReply { id, headers, fin } => {
                let mut body = numbers(&[*id]);
                body.extend(self.0.pack(headers)?);
                control(to, SYN_REPLY, *fin, &body)
            }
            Frame::Headers { id, headers, fin } => {
                let mut body = numbers(&[*id]);
                body.extend(self.0.pack(headers)?);
                control(to, HEADERS, *fin, &body)
            }
            Frame::RstStream { id, status } => control(to, RST_STREAM, false, &numbers(&[*id, *status])),
            Frame::Settings { initial_window } => {
                let body = match initial_window {
                    Some(size) => numbers(&[1, INITIAL_WINDOW_SIZE, *size]),
                    None => numbers(&[0]),
                };
                control(to, SETTINGS, false, &body)
            }
            Frame::Ping(id) => control(to, PING, false, &numbers(&[*id])),
            Frame::GoAway { last } => control(to, GO_AWAY, false, &numbers(&[*last, 0])),
            Frame::WindowUpdate { id, delta } => control(to, WINDOW_UPDATE, false, &numbers(&[*id, *delta])),
            Frame::Unknown => Ok(()),
        }
    }
}

fn control(to: &mut BytesMut, kind: u16, fin: bool, body: &[u8]) -> Result<(), SpdyError> {
    let length = length(body.len())?;
    to.reserve(8 + body.len());
    to.put_u16(0x8000 | VERSION);
    to.put_u16(kind);
    to.put_u32(u32::from(fin) << 24 | length);
    to.extend_from_slice(body);
    Ok(())
}

fn length(bytes: usize) -> Result<u32, SpdyError> {
    u32::try_from(bytes)
        .ok()
        .filter(|length| *length < 1 << 24)
        .ok_or(SpdyError::TooLarge("a frame"))
}

/// Reads arbitrary bytes as frames; what was read is written and reads the same then. For [`crate::fuzz`].
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz(data: &[u8]) {
    let (mut decoder, mut bytes) = (Decoder::new(), BytesMut::from(data));
    let mut frames = Vec::new();
    while let Ok(Some(frame)) = decoder.decode(&mut bytes) {
        frames.push(frame);
    }
    frames.retain(|frame| *frame != Frame::Unknown);
    let (mut encoder, mut written) = (Encoder::new(), BytesMut::new());
    for frame in &frames {
        if encoder.encode(frame, &mut written).is_err() {
            return;
        }
    }
    let mut decoder = Decoder::new();
    for frame in frames {
        assert_eq!(
            decoder.decode(&mut written),
            Ok(Some(frame)),
            "what was read is written the same"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn frames_as_the_protocol_describes_them() {
        let mut bytes = BytesMut::from(
            &[
                0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1, // PING 1
                0x80, 3, 0, 9, 0, 0, 0, 8, 0, 0, 0, 5, 0, 0, 1, 0, // WINDOW_UPDATE of 5 by 256
                0, 0, 0, 5, 1, 0, 0, 2, b'h', b'i', // DATA of 5, the last
                0x80, 3, 0, 42, 0, 0, 0, 1, 7, // of no type that there is
                0x80, 3, 0, 4, 0, 0, 0, 12, 0, 0, 0, 1, 1, 0, 0, 7, 0, 1, 0,
                0, // SETTINGS, window 65536
            ][..],
        );
        let mut decoder = Decoder::new();
        let data = Bytes::from_static(b"hi");
        for expected in [
            Frame::Ping(1),
            Frame::WindowUpdate { id: 5, delta: 256 },
            Frame::Data {
                id: 5,
                data,
                fin: true,
            },
            Frame::Unknown,
            Frame::Settings {
                initial_window: Some(65536),
            },
        ] {
            assert_eq!(decoder.decode(&mut bytes), Ok(Some(expected)));
        }
        assert_eq!(decoder.decode(&mut bytes), Ok(None));
    }

    #[test]
    fn what_is_too_large_is_refused_before_it_is_read() {
        for head in [
            [0, 0, 0, 1, 0, 0xff, 0xff, 0xff],
            [0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff],
        ] {
            let mut bytes = BytesMut::from(&head[..]);
            assert_eq!(
                Decoder::new().decode(&mut bytes),
                Err(SpdyError::TooLarge("a frame"))
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes(data in prop::collection::vec(any::<u8>(), 0..200)) {
            fuzz(&data);
        }

        /// Frames with a few bytes changed, which get further than bytes of no sense.
        #[test]
        fn any_frames(
            id in 1_u32..10,
            name in "[a-z]{1,8}",
            value in "[ -~]{0,20}",
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            let headers: Headers = [(name, value)].into();
            let (mut encoder, mut bytes) = (Encoder::new(), BytesMut::new());
            for frame in [
                Frame::SynStream { id, headers: headers.clone(), fin: false },
                Frame::SynReply { id, headers: Headers::new(), fin: true },
                Frame::Headers { id, headers, fin: false },
                Frame::Data { id, data: Bytes::from_static(b"data"), fin: true },
                Frame::RstStream { id, status: 5 },
                Frame::Settings { initial_window: Some(1) },
                Frame::GoAway { last: id },
            ] {
                encoder.encode(&frame, &mut bytes).unwrap();
            }
            for (at, with) in edits {
                let at = at.index(bytes.len());
                bytes[at] = with;
            }
            fuzz(&bytes);
        }
    }
}
