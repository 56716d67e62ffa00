//! How the gateway reaches pods.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A pod's port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The namespace of the Service that the pod is an endpoint of.
    pub namespace: Arc<str>,
    /// The pod's address and port, as its EndpointSlice has it.
    pub address: SocketAddr,
}

/// Bytes in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Opens connections to pods. Where pods are and how they are reached is the business of whoever runs them.
#[async_trait]
pub trait Dial: Send + Sync + 'static {
    /// Opens a TCP connection. The caller limits the time that it may take.
    ///
    /// # Errors
    /// When the pod does not accept. An error of kind [`io::ErrorKind::Unsupported`] says that no pod can ever be reached, such as
    /// where pods are simulated; its text is what callers of the gateway read, with status 503.
    async fn dial(&self, target: &Target) -> io::Result<Box<dyn Stream>>;

    /// Why no datagrams can be sent to pods, where that is so. They are sent from this host directly, to the pod's own address, which
    /// is possible by default.
    async fn udp_unavailable(&self) -> Option<String> {
        None
    }
}

/// Plain TCP from this host.
#[derive(Clone, Copy, Debug, Default)]
pub struct Direct;

#[async_trait]
impl Dial for Direct {
    async fn dial(&self, target: &Target) -> io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect(target.address).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}

/// Refuses every connection with a reason, for clusters whose pods are simulated.
#[derive(Clone, Debug)]
pub struct Refuse(pub String);

#[async_trait]
impl Dial for Refuse {
    async fn dial(&self, _: &Target) -> io::Result<Box<dyn Stream>> {
        Err(io::Error::new(io::ErrorKind::Unsupported, self.0.clone()))
    }

    async fn udp_unavailable(&self) -> Option<String> {
        Some(self.0.clone())
    }
}
