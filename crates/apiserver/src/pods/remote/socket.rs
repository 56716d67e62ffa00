//! A process over the channels of a WebSocket.

use tokio::sync::mpsc;

use super::size::size;
use super::{Incoming, Outgoing};
use crate::pods::websocket::{self, Form};

/// The number of a channel in a WebSocket.
mod channel {
    pub(super) const STDIN: u8 = 0;
    pub(super) const STDOUT: u8 = 1;
    pub(super) const STDERR: u8 = 2;
    pub(super) const ERROR: u8 = 3;
    pub(super) const RESIZE: u8 = 4;
    /// Not a channel: the byte behind it says which one ends (version 5).
    pub(super) const CLOSE: u8 = 255;
}

/// Moves what comes and goes until the client goes, or everything is told.
pub(super) async fn over_websocket(
    socket: websocket::Socket,
    protocol: &str,
    from_client: mpsc::Sender<Incoming>,
    mut to_client: mpsc::Receiver<Outgoing>,
) {
    let (mut sender, mut receiver) = websocket::channels(socket, Form::of(protocol));
    let closes = protocol.starts_with("v5.");
    let inwards = async {
        while let Some((number, data)) = receiver.next().await {
            let came = match number {
                channel::STDIN => Incoming::Stdin(data),
                channel::CLOSE if closes && data.first() == Some(&channel::STDIN) => Incoming::StdinEnd,
                channel::RESIZE => match size(&data) {
                    Some((columns, rows)) => Incoming::Resize(columns, rows),
                    None => continue,
                },
                _ => continue,
            };
            if from_client.send(came).await.is_err() {
                break;
            }
        }
    };
    let outwards = async {
        while let Some(out) = to_client.recv().await {
            match out {
                Outgoing::Stdout(data) => sender.send(channel::STDOUT, data).await?,
                Outgoing::Stderr(data) => sender.send(channel::STDERR, data).await?,
                Outgoing::Ended(ended) => {
                    let said = ended.encode(protocol);
                    if !said.is_empty() {
                        sender.send(channel::ERROR, said).await?;
                    }
                }
            }
        }
        sender.close().await
    };
    let left = tokio::select! {
        () = inwards => true,
        sent = outwards => sent.is_err(),
    };
    // Told to the pump at once.
    drop(from_client);
    if !left {
        receiver.closed().await;
    }
}
