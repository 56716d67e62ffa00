//! SPDY/3.1 for one purpose: the streams that Kubernetes' clients open on an upgraded connection.
//!
//! client-go spoke nothing else for `exec` and `attach` before 1.31, and speaks it within a WebSocket for `port-forward` to this
//! day. What those clients do not use (server push, credentials, settings that are kept) is not here.
//!
//! # Guarantees
//! * Memory is bounded: frames, header blocks, the number of streams and what waits in each of them.
//! * A peer that does not read is not written to beyond what its socket takes.
//!
//! # Caveats
//! * client-go neither keeps nor announces flow-control windows. A peer's windows are therefore respected from the first
//!   `SETTINGS` or `WINDOW_UPDATE` on that it sends; before that it is the socket that holds us back. Windows of whole sessions
//!   (stream 0) are not kept.
//! * A stream whose bytes nobody takes holds up the streams behind it on the same connection once its queue is full, as with
//!   kubelets.

mod dictionary;
mod frame;
mod headers;
mod session;

#[cfg(any(test, fuzzing))]
pub(crate) use frame::fuzz;
pub(super) use session::{Reader, Session, Stream, Writer};

/// Why a connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SpdyError {
    /// The peer does not keep to the protocol.
    #[error("SPDY: {0}")]
    Malformed(&'static str),
    /// Something is larger than it may be.
    #[error("SPDY: {0} is too large")]
    TooLarge(&'static str),
}
