//! What the relay of a cell and the node agent say to each other, over two Unix sockets in a folder that both see.
//!
//! Every connection begins with one frame, four bytes of length (big endian) and JSON, that says what it is for. [`Command`]s go to the
//! relay, [`Question`]s to the agent. A connection that carries bytes carries nothing else after its answer; datagrams are framed as
//! two bytes of length (big endian) and the datagram.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The socket on which the relay listens.
pub(crate) const RELAY_SOCKET: &str = "relay.sock";
/// The socket on which the agent listens.
pub(crate) const AGENT_SOCKET: &str = "agent.sock";
/// Where the folder is in the relay's container.
pub(crate) const FOLDER: &str = "/run/choreo";

/// The domain of a cluster's names.
pub(crate) const DOMAIN: &str = "cluster.local";

/// The longest frame. A cell with a thousand Services of a hundred endpoints each stays below it.
const FRAME_LIMIT: u32 = 16 << 20;

/// TCP or UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Transport {
    Tcp,
    Udp,
}

/// From the agent to the relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Command {
    /// Frames of [`Config`] follow. Each is answered by an empty frame once it is in force.
    Configure,
    /// Connect to an address of the cell, and carry bytes.
    Dial(SocketAddr),
}

/// Everything that a relay knows of its cell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Config {
    pub(crate) namespace: String,
    pub(crate) services: Vec<Service>,
}

/// A Service of the cell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Service {
    pub(crate) name: String,
    /// Its names give the addresses of its Pods.
    pub(crate) headless: bool,
    /// Its name is another one for this name.
    pub(crate) external_name: Option<String>,
    pub(crate) ports: Vec<Port>,
    /// The addresses of its Pods that are ready; by hostname, where they have one.
    pub(crate) addresses: BTreeSet<Ipv4Addr>,
    pub(crate) hostnames: BTreeMap<String, Ipv4Addr>,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Port {
    pub(crate) port: u16,
    pub(crate) transport: Transport,
    pub(crate) endpoints: Vec<SocketAddrV4>,
}

/// Something that is not in the cell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Destination {
    /// A Service of another namespace.
    Service { namespace: String, name: String },
    /// A DNS name outside of the cluster, or of a gateway.
    Host(String),
}

/// From the relay to the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Question {
    /// The relay listens, and may be configured. No answer.
    Ready,
    /// What is this name? The answer is a [`Found`].
    Lookup { source: Ipv4Addr, name: String },
    /// May this Pod connect there? The answer is an [`Opened`]; bytes follow if it may.
    Connect {
        source: Ipv4Addr,
        destination: Destination,
        port: u16,
        transport: Transport,
    },
}

/// What a name is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Found {
    /// There is none, or not for who asks.
    Nothing,
    /// It is there: connections to these ports are to be expected.
    Destination {
        destination: Destination,
        ports: BTreeSet<(Transport, u16)>,
    },
    /// It is there, and this could not be found out.
    Failed,
}

/// Whether a connection is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Opened {
    Yes,
    No,
}

/// Writes a frame.
pub(crate) async fn send<T: Serialize + Sync>(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &T,
) -> io::Result<()> {
    let text = serde_json::to_vec(message).map_err(io::Error::other)?;
    let length = u32::try_from(text.len())
        .ok()
        .filter(|length| *length <= FRAME_LIMIT)
        .ok_or_else(|| io::Error::other("a message is too long"))?;
    let mut frame = length.to_be_bytes().to_vec();
    frame.extend(text);
    stream.write_all(&frame).await
}

/// Reads a frame.
pub(crate) async fn receive<T: DeserializeOwned>(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<T> {
    let length = stream.read_u32().await?;
    if length > FRAME_LIMIT {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a message is too long",
        ));
    }
    let mut text = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    stream.read_exact(&mut text).await?;
    serde_json::from_slice(&text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Writes a datagram into a stream.
pub(crate) async fn send_datagram(stream: &mut (impl AsyncWrite + Unpin), datagram: &[u8]) -> io::Result<()> {
    let length = u16::try_from(datagram.len()).map_err(io::Error::other)?;
    let mut frame = length.to_be_bytes().to_vec();
    frame.extend_from_slice(datagram);
    stream.write_all(&frame).await
}

/// Reads a datagram from a stream.
pub(crate) async fn receive_datagram(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut datagram = vec![0; usize::from(length)];
    stream.read_exact(&mut datagram).await?;
    Ok(datagram)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_arrive_as_they_were_sent_and_long_ones_are_refused() {
        let (mut one, mut two) = tokio::io::duplex(1024);
        let question = Question::Lookup {
            source: Ipv4Addr::new(10, 210, 0, 2),
            name: "api.example.com".into(),
        };
        send(&mut one, &question).await.unwrap();
        assert_eq!(receive::<Question>(&mut two).await.unwrap(), question);
        send_datagram(&mut one, b"hello").await.unwrap();
        assert_eq!(receive_datagram(&mut two).await.unwrap(), b"hello");
        one.write_u32(FRAME_LIMIT + 1).await.unwrap();
        let error = receive::<Question>(&mut two).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
