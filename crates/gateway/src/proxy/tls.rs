//! TLS: looks at the name that a client asks for, and then ends TLS here or passes it through.

use std::collections::HashMap;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use rustls::server::{Acceptor, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::http::Via;
use super::rewind::Rewind;
use super::{Proxy, raw, server};
use crate::config::policies::ClientSettings;
use crate::config::table::{Certificate, TlsEntry, TlsPort};

/// How long a client may take for its hello and the handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Longest hello, in bytes.
const LONGEST_HELLO: usize = 32 * 1024;
/// Most configurations that are kept; each is a name with its certificate.
const MOST_CONFIGS: usize = 1_024;
/// The fatal alert `unrecognized_name` (RFC 6066, section 3) as a record.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// Configurations that were made, so that sessions can be resumed.
#[derive(Default)]
pub(crate) struct Configs(Mutex<HashMap<ConfigKey, Arc<ServerConfig>>>);

/// Versions, protocols and certificate.
type ConfigKey = (bool, bool, Vec<Vec<u8>>, usize);

pub(crate) async fn connection(
    proxy: Arc<Proxy>,
    table: &TlsPort,
    mut stream: TcpStream,
    peer: SocketAddr,
    port: u16,
) -> io::Result<()> {
    let hello = tokio::select! {
        hello = tokio::time::timeout(HANDSHAKE, hello(&mut stream)) => hello,
        () = proxy.draining.cancelled() => return Ok(()),
    };
    let (name, bytes) = hello.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let name = name.unwrap_or_default().to_ascii_lowercase();
    match table.entry(&name).cloned() {
        Some(TlsEntry::Passthrough(route)) => raw::forward(&proxy, &route, stream, peer, bytes).await,
        Some(TlsEntry::Terminate {
            certificate,
            settings,
        }) => {
            let Some(config) = config(&proxy, &name, &certificate, &settings) else {
                return refuse(stream).await;
            };
            let accepting = TlsAcceptor::from(config).accept(Rewind::new(bytes, stream));
            let accepted = tokio::time::timeout(HANDSHAKE, accepting).await;
            let stream = accepted.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            let version2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let via = Via {
                peer,
                port,
                secure: true,
            };
            server::serve(proxy, stream, via, version2).await
        }
        Some(TlsEntry::Closed) | None => refuse(stream).await,
    }
}

async fn refuse(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(&UNRECOGNIZED_NAME).await?;
    stream.shutdown().await
}

/// Reads a client's hello: the name that it asks for, and the bytes, which whoever goes on with the connection needs.
async fn hello(stream: &mut TcpStream) -> io::Result<(Option<String>, Bytes)> {
    let mut bytes = BytesMut::with_capacity(2_048);
    let mut acceptor = Acceptor::default();
    let mut seen = 0;
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if bytes.len() > LONGEST_HELLO {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the hello is too long",
            ));
        }
        let mut fresh = &bytes[seen..];
        while !fresh.is_empty() {
            let read = acceptor.read_tls(&mut fresh as &mut dyn Read)?;
            if read == 0 {
                break;
            }
        }
        seen = bytes.len();
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                let name = accepted.client_hello().server_name().map(str::to_owned);
                return Ok((name, bytes.freeze()));
            }
            Ok(None) => {}
            Err((error, _)) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }
}

#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

fn config(
    proxy: &Proxy,
    name: &str,
    certificate: &Certificate,
    settings: &ClientSettings,
) -> Option<Arc<ServerConfig>> {
    let certified = match certificate {
        Certificate::Given(certified) => Arc::clone(certified),
        Certificate::Minted => {
            let authority = proxy.authority.as_ref()?;
            match authority.certificate(name, jiff::Timestamp::now()) {
                Ok(certified) => certified,
                Err(why) => {
                    tracing::warn!("no certificate for {name:?}: {why}");
                    return None;
                }
            }
        }
    };
    let key = (
        settings.tls12,
        settings.tls13,
        settings.alpn.clone(),
        // The configuration keeps the certificate alive, so that no other can have its address meanwhile.
        Arc::as_ptr(&certified).addr(),
    );
    let mut configs = proxy.configs.0.lock();
    if let Some(config) = configs.get(&key) {
        return Some(Arc::clone(config));
    }
    let mut versions: Vec<&'static SupportedProtocolVersion> = Vec::new();
    if settings.tls13 {
        versions.push(&rustls::version::TLS13);
    }
    if settings.tls12 {
        versions.push(&rustls::version::TLS12);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .ok()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Always(certified)));
    config.alpn_protocols.clone_from(&settings.alpn);
    let config = Arc::new(config);
    if configs.len() >= MOST_CONFIGS {
        configs.clear();
    }
    configs.insert(key, Arc::clone(&config));
    Some(config)
}
