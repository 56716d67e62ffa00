//! Connections to webhooks: HTTP/1.1 over TLS, kept and used again.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::server::ParsedCertificate;
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The largest answer that is read.
const LARGEST: usize = 16 << 20;

/// Connections that are kept for one webhook, and webhooks for which any are kept.
const KEPT: usize = 8;
const KEPT_FOR: usize = 64;

/// Where system-wide certificates are, for webhooks that bring none of their own.
const SYSTEM_ROOTS: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// Whom to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Name or address, and port.
    pub(super) address: (String, u16),
    /// Whose certificate is expected.
    pub(super) name: String,
    /// The host as requests name it.
    pub(super) host: String,
    /// Certificates in PEM; empty for the system's.
    pub(super) authority: Vec<u8>,
}

/// An address, a port, and who is expected there.
type Whom = (String, u16, Vec<u8>);

type Sender = SendRequest<Full<Bytes>>;

/// Connections to webhooks.
#[derive(Default)]
pub(super) struct Pool {
    /// Connections without work, by endpoint.
    idle: Mutex<BTreeMap<Whom, Vec<Sender>>>,
}

impl Pool {
    /// Posts a document and gives status and answer.
    ///
    /// # Errors
    /// What went wrong, in the words of kube-apiserver as far as there are any.
    pub(super) async fn post(
        &self,
        endpoint: &Endpoint,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), String> {
        loop {
            let kept = self.take(endpoint);
            let was_kept = kept.is_some();
            let mut sender = match kept {
                Some(sender) => sender,
                None => connect(endpoint).await?,
            };
            let request = Request::post(path)
                .header(HOST, &endpoint.host)
                .header(USER_AGENT, "kube-apiserver-admission")
                .header(ACCEPT, "application/json, */*")
                .header(CONTENT_TYPE, "application/json")
                .body(Full::new(body.clone()))
                .map_err(|e| e.to_string())?;
            if sender.ready().await.is_err() {
                continue;
            }
            let response = match sender.send_request(request).await {
                Ok(response) => response,
                // The other side may close a connection while it rests; a new one tells what is the matter.
                Err(error) if was_kept && (error.is_closed() || error.is_incomplete_message()) => continue,
                Err(error) => return Err(error.to_string()),
            };
            let status = response.status();
            let body = Limited::new(response.into_body(), LARGEST);
            let bytes = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
            self.keep(endpoint, sender);
            return Ok((status, bytes));
        }
    }

    fn take(&self, endpoint: &Endpoint) -> Option<Sender> {
        let mut idle = self.idle.lock();
        let kept = idle.get_mut(&endpoint.key())?;
        while let Some(sender) = kept.pop() {
            if !sender.is_closed() {
                return Some(sender);
            }
        }
        None
    }

    fn keep(&self, endpoint: &Endpoint, sender: Sender) {
        let mut idle = self.idle.lock();
        if idle.len() >= KEPT_FOR && !idle.contains_key(&endpoint.key()) {
            idle.clear();
        }
        let kept = idle.entry(endpoint.key()).or_default();
        if kept.len() < KEPT {
            kept.push(sender);
        }
    }
}

impl Endpoint {
    fn key(&self) -> Whom {
        let mut who = self.name.clone().into_bytes();
        who.push(0);
        who.extend_from_slice(&self.authority);
        (self.address.0.clone(), self.address.1, who)
    }
}

async fn connect(endpoint: &Endpoint) -> Result<Sender, String> {
    let (host, port) = &endpoint.address;
    let stream = TcpStream::connect((host.as_str(), *port))
        .await
        .map_err(|e| match e.kind() {
            std::io::ErrorKind::ConnectionRefused => {
                format!("dial tcp {host}:{port}: connect: connection refused")
            }
            _ => format!("dial tcp {host}:{port}: {e}"),
        })?;
    let _ = stream.set_nodelay(true);
    let name = ServerName::try_from(endpoint.name.clone())
        .map_err(|_| format!("{:?} is no name of a server", endpoint.name))?;
    let config = client_config(&endpoint.authority)?;
    let stream = TlsConnector::from(config)
        .connect(name, stream)
        .await
        .map_err(|e| format!("tls: failed to verify certificate or to agree: {e}"))?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!("the connection to a webhook ended: {error}");
        }
    });
    Ok(sender)
}

fn client_config(authority: &[u8]) -> Result<Arc<rustls::ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let system;
    let pem = if authority.is_empty() {
        system = SYSTEM_ROOTS
            .iter()
            .find_map(|path| std::fs::read(path).ok())
            .unwrap_or_default();
        &system[..]
    } else {
        authority
    };
    let mut roots = RootCertStore::empty();
    let mut pinned = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| "the caBundle holds no certificates in PEM".to_owned())?;
        // One that is no authority may still be the server's own.
        let _ = roots.add(certificate.clone());
        pinned.push(certificate);
    }
    if pinned.is_empty() {
        return Err("there are no certificates to verify the webhook with; give a caBundle".to_owned());
    }
    if authority.is_empty() {
        pinned.clear();
    }
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|e| format!("the caBundle cannot be used: {e}"))?;
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier { inner, pinned }))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Verifies as everybody does, and also takes a server certificate that is in the bundle itself: self-signed certificates are
/// common for webhooks, and Go's verifier, which they were made for, takes them.
#[derive(Debug)]
struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    pinned: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let usual = self
            .inner
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let Err(error) = usual else { return usual };
        if !self.pinned.iter().any(|own| own == end_entity) || !is_current(end_entity, now) {
            return Err(error);
        }
        let parsed = ParsedCertificate::try_from(end_entity)?;
        rustls::client::verify_server_name(&parsed, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

fn is_current(certificate: &CertificateDer<'_>, now: UnixTime) -> bool {
    use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};
    let now = i64::try_from(now.as_secs()).ok();
    let now = now.and_then(|now| ASN1Time::from_timestamp(now).ok());
    let parsed = X509Certificate::from_der(certificate).ok();
    match (now, parsed) {
        (Some(now), Some((_, certificate))) => certificate.validity().is_valid_at(now),
        _ => false,
    }
}
