//! Channels within a WebSocket: the first byte of a message says which (`channel.k8s.io` in its versions).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

/// The most bytes of a message. kubectl sends up to 32 KiB.
const MAX_MESSAGE: usize = 4 << 20;

/// The most bytes that are sent in one message.
const PIECE: usize = 32 * 1024;

/// How long a client may take to close a connection that has been closed on this side.
const LINGER: Duration = Duration::from_secs(5);

pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// A connection as a WebSocket.
pub(super) async fn open(connection: TokioIo<Upgraded>) -> Socket {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    WebSocketStream::from_raw_socket(connection, Role::Server, Some(config)).await
}

/// The message that ends a connection as it should. Clients of Kubernetes take an end without this code for a failure.
fn goodbye() -> Message {
    Message::Close(Some(CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    }))
}

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The channel's number and the bytes.
    Binary,
    /// The channel's number as a digit and the bytes in base64, for browsers.
    Base64,
}

impl Form {
    /// The form of a subprotocol.
    pub(super) fn of(protocol: &str) -> Form {
        if protocol.contains("base64.") {
            Form::Base64
        } else {
            Form::Binary
        }
    }
}

/// What a client gets.
pub(super) struct Sender {
    sink: SplitSink<Socket, Message>,
    form: Form,
}

/// What a client sends.
pub(super) struct Receiver {
    stream: SplitStream<Socket>,
    form: Form,
}

/// Both directions of a WebSocket with channels.
pub(super) fn channels(socket: Socket, form: Form) -> (Sender, Receiver) {
    let (sink, stream) = socket.split();
    (Sender { sink, form }, Receiver { stream, form })
}

impl Sender {
    /// Sends bytes on a channel.
    ///
    /// # Errors
    /// When the client has gone.
    pub(super) async fn send(&mut self, channel: u8, mut data: Bytes) -> Result<(), Error> {
        loop {
            let piece = data.split_to(data.len().min(PIECE));
            let message = match self.form {
                Form::Binary => {
                    let mut message = BytesMut::with_capacity(piece.len() + 1);
                    message.put_u8(channel);
                    message.extend_from_slice(&piece);
                    Message::Binary(message.freeze())
                }
                Form::Base64 => {
                    let mut message = String::with_capacity(piece.len().div_ceil(3) * 4 + 1);
                    message.push(char::from(b'0'.saturating_add(channel)));
                    STANDARD.encode_string(&piece, &mut message);
                    Message::Text(message.into())
                }
            };
            self.sink.send(message).await?;
            if data.is_empty() {
                return Ok(());
            }
        }
    }

    /// Says that nothing else comes.
    ///
    /// # Errors
    /// When the client has gone.
    pub(super) async fn close(&mut self) -> Result<(), Error> {
        self.sink.send(goodbye()).await
    }
}

impl Receiver {
    /// The next bytes and their channel; none when the client closed the connection, is gone, or sends no channels.
    pub(super) async fn next(&mut self) -> Option<(u8, Bytes)> {
        loop {
            // Pings are answered by the library.
            match (self.stream.next().await?.ok()?, self.form) {
                (Message::Binary(data), Form::Binary) => {
                    if let Some(channel) = data.first().copied() {
                        return Some((channel, data.slice(1..)));
                    }
                }
                (Message::Text(text), Form::Base64) => {
                    let (channel, data) = text.as_bytes().split_first()?;
                    let data = STANDARD.decode(data).ok()?;
                    return Some((channel.checked_sub(b'0')?, data.into()));
                }
                (Message::Close(_), _) => return None,
                (Message::Ping(_) | Message::Pong(_) | Message::Frame(_), _) => {}
                (Message::Binary(_) | Message::Text(_), _) => return None,
            }
        }
    }

    /// Waits until a client that was told that the connection ends has ended it.
    pub(super) async fn closed(&mut self) {
        let rest = async { while let Some(Ok(_)) = self.stream.next().await {} };
        let _ = tokio::time::timeout(LINGER, rest).await;
    }
}

/// A WebSocket whose binary messages are nothing but the bytes of another connection. The tunnel ends when either side does.
pub(super) async fn tunnel(socket: Socket, inner: DuplexStream) {
    let (mut sink, mut stream) = socket.split();
    let (mut read, mut write) = tokio::io::split(inner);
    let inwards = async {
        while let Some(Ok(message)) = stream.next().await {
            let taken = match message {
                Message::Binary(data) => write.write_all(&data).await.is_ok(),
                Message::Close(_) | Message::Text(_) => false,
                // Pings are answered by the library.
                _ => true,
            };
            if !taken {
                break;
            }
        }
        let _ = write.shutdown().await;
    };
    let outwards = async {
        let mut buffer = BytesMut::with_capacity(PIECE);
        while let Ok(1..) = read.read_buf(&mut buffer).await {
            if sink.send(Message::Binary(buffer.split().freeze())).await.is_err() {
                return;
            }
            buffer.reserve(PIECE);
        }
        let _ = sink.send(goodbye()).await;
    };
    // What is still to be written when the client has gone reaches nobody; what it still sends when we are done may be awaited.
    tokio::pin!(inwards);
    tokio::select! {
        () = &mut inwards => {}
        () = outwards => {
            let _ = tokio::time::timeout(LINGER, inwards).await;
        }
    }
}
