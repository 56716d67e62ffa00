//! Connections to endpoints: pods through the dialler, servers outside from this host, with TLS where a Backend says so.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::RootCertStore;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Address, Protocol};
use crate::dial::{Dial, Stream};

/// Opens a connection within `limit`.
///
/// # Errors
/// When it is refused, too slow, or the certificate is not the expected one.
pub(crate) async fn connect(
    dial: &dyn Dial,
    address: &Address,
    protocol: Protocol,
    limit: Duration,
) -> io::Result<Box<dyn Stream>> {
    let connecting = async {
        match address {
            Address::Pod(target) => dial.dial(target).await,
            Address::Outside { host, port, tls } => {
                let stream = TcpStream::connect((&**host, *port)).await?;
                stream.set_nodelay(true)?;
                match tls {
                    None => Ok(Box::new(stream) as Box<dyn Stream>),
                    Some(name) => secure(stream, name, protocol).await,
                }
            }
        }
    };
    tokio::time::timeout(limit, connecting)
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "connection timeout")))
}

async fn secure(stream: TcpStream, name: &str, protocol: Protocol) -> io::Result<Box<dyn Stream>> {
    let server = ServerName::try_from(name.to_owned()).map_err(|_| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{name:?} is not a server's name"),
        )
    })?;
    let config = client_config(protocol)?;
    let stream = TlsConnector::from(config).connect(server, stream).await?;
    Ok(Box::new(stream))
}

/// The client side of TLS, with the authorities that this host trusts. Read once: it is hundreds of kilobytes.
fn client_config(protocol: Protocol) -> io::Result<Arc<rustls::ClientConfig>> {
    static CONFIGS: OnceLock<Result<[Arc<rustls::ClientConfig>; 2], String>> = OnceLock::new();
    let configs = CONFIGS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let with = |protocol: &[u8]| {
            let mut config = config.clone();
            config.alpn_protocols = vec![protocol.to_vec()];
            Arc::new(config)
        };
        Ok([with(b"http/1.1"), with(b"h2")])
    });
    match (configs, protocol) {
        (Ok([http1, _]), Protocol::Http1) => Ok(Arc::clone(http1)),
        (Ok([_, http2]), Protocol::Http2) => Ok(Arc::clone(http2)),
        (Err(why), _) => Err(io::Error::other(why.clone())),
    }
}
