//! The server's own certificate authority and what it signs: the server certificate and the administrator's client
//! certificate.
//!
//! # On disk (`DIR/pki`)
//!
//! | File | What |
//! | --- | --- |
//! | `ca.pem` | the authority's certificate and private key |
//! | `ca.crt` | its certificate alone, for other programs (`curl --cacert`) |
//! | `server.pem` | the server certificate and its key |
//! | `admin.pem` | the client certificate `CN=choreo-admin, O=system:masters` and its key |
//! | `service-accounts.key` | the key that signs tokens of service accounts ([`crate::SigningKey::open`]) |
//!
//! # Guarantees
//! - A certificate and its key are one file, replaced at once: there is never a pair that does not fit.
//! - A certificate is made anew when less than a third of its life is left, when its authority was made anew, and
//!   (server) when the names that it must cover have changed.
//! - A damaged authority is an error, since replacing it would lock out every kubeconfig that trusts it; a damaged leaf
//!   is simply replaced.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::private_file::{create_private_dir, write_private};

/// The user that the administrator's client certificate names.
pub const ADMIN_USER: &str = "choreo-admin";

/// The group of the administrator's client certificate; Kubernetes lets its members do everything.
pub const ADMIN_GROUP: &str = "system:masters";

const DAY: SignedDuration = SignedDuration::from_hours(24);
const AUTHORITY_DAYS: i32 = 3650;
const LEAF_DAYS: i32 = 365;

/// Why there are no usable certificates.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file or folder could not be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was attempted: `read`, `write` or `create`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the file system answered.
        source: io::Error,
    },
    /// The authority's file is there but holds no certificate and key that belong together.
    #[error("the certificate authority in {} is damaged: {reason}; move the file away to have a new one made (clients then need the new kubeconfig)", path.display())]
    DamagedAuthority {
        /// The authority's file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate could not be made.
    #[error("cannot make the certificate for {subject}")]
    Sign {
        /// Whose certificate.
        subject: String,
        /// Why.
        source: rcgen::Error,
    },
    /// The TLS library refused the certificates.
    #[error("cannot set up TLS: {0}")]
    Config(String),
}

/// A certificate and its private key, both as PEM.
#[derive(Clone)]
pub struct Identity {
    /// The certificate.
    pub certificate_pem: String,
    /// Its private key (PKCS #8).
    pub key_pem: String,
}

impl std::fmt::Debug for Identity {
    // A private key must not reach a log through a derived Debug.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

/// The authority and the two identities that it has signed.
#[derive(Clone, Debug)]
pub struct Pki {
    authority: Identity,
    server: Identity,
    admin: Identity,
}

impl Pki {
    /// Reads the certificates in `dir`, making those that are missing or due; `now` decides what is due.
    ///
    /// `names` are the DNS names and IP addresses that the server certificate covers.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn open(dir: &Path, names: &BTreeSet<String>, now: Timestamp) -> Result<Self, TlsError> {
        create_private_dir(dir).map_err(|source| io_error("create", dir, source))?;
        let path = dir.join("ca.pem");
        let authority = match read(&path)? {
            Some(text) => {
                let identity = parse_identity(&text).and_then(|identity| {
                    let facts = Facts::of(&identity.certificate_pem)?;
                    Ok((identity, facts))
                });
                match identity {
                    Ok((identity, facts)) if !facts.due(now) => identity,
                    Ok(_) => save(&path, &make_authority(now)?)?,
                    Err(reason) => return Err(TlsError::DamagedAuthority { path, reason }),
                }
            }
            None => save(&path, &make_authority(now)?)?,
        };
        let public = dir.join("ca.crt");
        if read(&public)?.as_deref() != Some(authority.certificate_pem.as_str()) {
            write_private(&public, authority.certificate_pem.as_bytes())
                .map_err(|source| io_error("write", &public, source))?;
        }
        let authority_facts =
            Facts::of(&authority.certificate_pem).map_err(|reason| TlsError::DamagedAuthority {
                path: path.clone(),
                reason,
            })?;
        let leaf = |file: &str, kind: Leaf<'_>| -> Result<Identity, TlsError> {
            let path = dir.join(file);
            if let Some(text) = read(&path)?
                && let Ok(identity) = parse_identity(&text)
                && let Ok(facts) = Facts::of(&identity.certificate_pem)
                && !facts.due(now)
                && facts.authority_key == authority_facts.own_key
                && facts.names == kind.names()
            {
                return Ok(identity);
            }
            save(&path, &make_leaf(&authority, kind, now)?)
        };
        let server = leaf("server.pem", Leaf::Server(names))?;
        let admin = leaf("admin.pem", Leaf::Admin)?;
        Ok(Self {
            authority,
            server,
            admin,
        })
    }

    /// Certificates that live in memory only, for tests.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn ephemeral(names: &BTreeSet<String>, now: Timestamp) -> Result<Self, TlsError> {
        let authority = make_authority(now)?;
        let server = make_leaf(&authority, Leaf::Server(names), now)?;
        let admin = make_leaf(&authority, Leaf::Admin, now)?;
        Ok(Self {
            authority,
            server,
            admin,
        })
    }

    /// The authority's certificate, which clients must trust.
    pub fn authority_pem(&self) -> &str {
        &self.authority.certificate_pem
    }

    /// The administrator's client certificate and key.
    pub fn admin(&self) -> &Identity {
        &self.admin
    }

    /// The server side of TLS: our certificate, client certificates of our authority welcome but not required, HTTP/2 and
    /// HTTP/1.1.
    ///
    /// # Errors
    /// [`TlsError::Config`] when the TLS library refuses the certificates.
    pub fn server_config(&self) -> Result<Arc<rustls::ServerConfig>, TlsError> {
        let config = |error: &dyn std::fmt::Display| TlsError::Config(error.to_string());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots
            .add(certificate(&self.authority.certificate_pem).map_err(TlsError::Config)?)
            .map_err(|e| config(&e))?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(|e| config(&e))?;
        let key = PrivateKeyDer::from_pem_slice(self.server.key_pem.as_bytes()).map_err(|e| config(&e))?;
        let chain = vec![certificate(&self.server.certificate_pem).map_err(TlsError::Config)?];
        let mut server = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| config(&e))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(|e| config(&e))?;
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(server))
    }
}

/// The names that a server on this machine answers to: `localhost`, both loopback addresses and the host's name.
pub fn local_names() -> BTreeSet<String> {
    let mut names: BTreeSet<String> = ["localhost", "127.0.0.1", "::1"]
        .into_iter()
        .map(str::to_owned)
        .collect();
    let host = fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok());
    if let Some(host) = host {
        let host = host.trim().to_ascii_lowercase();
        let usable = !host.is_empty()
            && host.len() <= 253
            && host
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
        if usable {
            names.insert(host);
        }
    }
    names
}

/// What is read back from a certificate to see whether it can stay.
struct Facts {
    not_before: i64,
    not_after: i64,
    own_key: Option<Vec<u8>>,
    authority_key: Option<Vec<u8>>,
    names: BTreeSet<String>,
}

impl Facts {
    fn of(pem: &str) -> Result<Self, String> {
        let der = certificate(pem)?;
        let (_, parsed) = X509Certificate::from_der(&der).map_err(|error| error.to_string())?;
        let mut facts = Self {
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            own_key: None,
            authority_key: None,
            names: BTreeSet::new(),
        };
        for extension in parsed.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => facts.own_key = Some(id.0.to_vec()),
                ParsedExtension::AuthorityKeyIdentifier(id) => {
                    facts.authority_key = id.key_identifier.as_ref().map(|id| id.0.to_vec());
                }
                ParsedExtension::SubjectAlternativeName(san) => {
                    facts.names = san.general_names.iter().filter_map(general_name).collect();
                }
                _ => {}
            }
        }
        Ok(facts)
    }

    /// Whether less than a third of the certificate's life is left, or it has not begun.
    fn due(&self, now: Timestamp) -> bool {
        let now = now.as_second();
        let life = self.not_after.saturating_sub(self.not_before);
        now < self.not_before || self.not_after.saturating_sub(now) < life / 3
    }
}

fn general_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(dns) => Some((*dns).to_owned()),
        GeneralName::IPAddress(bytes) => {
            if let Ok(v4) = <[u8; 4]>::try_from(*bytes) {
                Some(IpAddr::from(v4).to_string())
            } else {
                <[u8; 16]>::try_from(*bytes)
                    .ok()
                    .map(|v6| IpAddr::from(v6).to_string())
            }
        }
        _ => None,
    }
}

/// What the authority signs.
#[derive(Clone, Copy)]
enum Leaf<'a> {
    Server(&'a BTreeSet<String>),
    Admin,
}

impl Leaf<'_> {
    fn names(self) -> BTreeSet<String> {
        match self {
            Leaf::Server(names) => names.clone(),
            Leaf::Admin => BTreeSet::new(),
        }
    }

    fn common_name(self) -> &'static str {
        match self {
            Leaf::Server(_) => "choreo-apiserver",
            Leaf::Admin => ADMIN_USER,
        }
    }
}

fn make_authority(now: Timestamp) -> Result<Identity, TlsError> {
    let subject = "choreo-ca";
    let sign = |source| TlsError::Sign {
        subject: subject.to_owned(),
        source,
    };
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished_name(subject, None);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    set_life(&mut params, now, AUTHORITY_DAYS);
    let key = KeyPair::generate().map_err(sign)?;
    let certificate = params.self_signed(&key).map_err(sign)?;
    Ok(Identity {
        certificate_pem: certificate.pem(),
        key_pem: key.serialize_pem(),
    })
}

fn make_leaf(authority: &Identity, leaf: Leaf<'_>, now: Timestamp) -> Result<Identity, TlsError> {
    let sign = |source| TlsError::Sign {
        subject: leaf.common_name().to_owned(),
        source,
    };
    let names: Vec<String> = leaf.names().into_iter().collect();
    let mut params = CertificateParams::new(names).map_err(sign)?;
    let (group, usage) = match leaf {
        Leaf::Server(_) => (None, ExtendedKeyUsagePurpose::ServerAuth),
        Leaf::Admin => (Some(ADMIN_GROUP), ExtendedKeyUsagePurpose::ClientAuth),
    };
    params.distinguished_name = distinguished_name(leaf.common_name(), group);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    set_life(&mut params, now, LEAF_DAYS);
    let key = KeyPair::generate().map_err(sign)?;
    let authority_key = KeyPair::from_pem(&authority.key_pem).map_err(sign)?;
    let issuer = Issuer::from_ca_cert_pem(&authority.certificate_pem, authority_key).map_err(sign)?;
    let certificate = params.signed_by(&key, &issuer).map_err(sign)?;
    Ok(Identity {
        certificate_pem: certificate.pem(),
        key_pem: key.serialize_pem(),
    })
}

fn distinguished_name(common: &str, group: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    if let Some(group) = group {
        name.push(DnType::OrganizationName, group);
    }
    name.push(DnType::CommonName, common);
    name
}

/// A life that begins an hour ago, so that a client whose clock is a little behind accepts the certificate.
fn set_life(params: &mut CertificateParams, now: Timestamp, days: i32) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let begin = now - SignedDuration::from_hours(1);
    let end = now + DAY * days;
    let since_epoch = |at: Timestamp| Duration::from_secs(u64::try_from(at.as_second()).unwrap_or(0));
    params.not_before = epoch + since_epoch(begin);
    params.not_after = epoch + since_epoch(end);
}

fn parse_identity(text: &str) -> Result<Identity, String> {
    let certificate_pem = block(text, "CERTIFICATE").ok_or("no certificate in PEM form")?;
    let key_pem = block(text, "PRIVATE KEY").ok_or("no private key in PEM form")?;
    let der = certificate(certificate_pem)?;
    let key = KeyPair::from_pem(key_pem).map_err(|error| format!("no usable private key ({error})"))?;
    let (_, parsed) = X509Certificate::from_der(&der).map_err(|error| error.to_string())?;
    if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
        return Err("the private key is not the certificate's".to_owned());
    }
    Ok(Identity {
        certificate_pem: certificate_pem.to_owned(),
        key_pem: key_pem.to_owned(),
    })
}

/// The first PEM block with this label, with its last line feed.
fn block<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    let end = format!("-----END {label}-----\n");
    let from = text.find(&format!("-----BEGIN {label}-----"))?;
    let length = text[from..].find(&end)?;
    Some(&text[from..from + length + end.len()])
}

fn certificate(pem: &str) -> Result<CertificateDer<'static>, String> {
    CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| format!("no certificate in PEM form ({error})"))
}

fn read(path: &Path) -> Result<Option<String>, TlsError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(io_error("read", path, source)),
    }
}

fn save(path: &Path, identity: &Identity) -> Result<Identity, TlsError> {
    // rcgen ends lines with CRLF on some systems; one form keeps `parse_identity` simple.
    let identity = Identity {
        certificate_pem: identity.certificate_pem.replace("\r\n", "\n"),
        key_pem: identity.key_pem.replace("\r\n", "\n"),
    };
    let text = format!("{}{}", identity.certificate_pem, identity.key_pem);
    write_private(path, text.as_bytes()).map_err(|source| io_error("write", path, source))?;
    Ok(identity)
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> TlsError {
    TlsError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-01T12:00:00Z".parse().unwrap()
    }

    fn open(dir: &Path, at: Timestamp) -> Pki {
        Pki::open(dir, &local_names(), at).unwrap()
    }

    #[test]
    fn what_was_made_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path(), now());
        let second = open(folder.path(), now() + DAY);
        assert_eq!(first.authority_pem(), second.authority_pem());
        assert_eq!(first.admin().certificate_pem, second.admin().certificate_pem);
        assert_eq!(first.admin().key_pem, second.admin().key_pem);
        assert_eq!(first.server.certificate_pem, second.server.certificate_pem);
        second.server_config().unwrap();
    }

    #[test]
    fn leaves_are_renewed_in_their_last_third_and_the_authority_stays() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path(), now());
        let before = open(folder.path(), now() + DAY * 240);
        assert_eq!(first.admin().certificate_pem, before.admin().certificate_pem);
        let after = open(folder.path(), now() + DAY * 250);
        assert_ne!(first.admin().certificate_pem, after.admin().certificate_pem);
        assert_ne!(first.server.certificate_pem, after.server.certificate_pem);
        assert_eq!(first.authority_pem(), after.authority_pem());
    }

    #[test]
    fn a_new_authority_signs_everything_anew() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path(), now());
        fs::remove_file(folder.path().join("ca.pem")).unwrap();
        let second = open(folder.path(), now());
        assert_ne!(first.authority_pem(), second.authority_pem());
        assert_ne!(first.admin().certificate_pem, second.admin().certificate_pem);
        assert_eq!(
            fs::read_to_string(folder.path().join("ca.crt")).unwrap(),
            second.authority_pem()
        );
    }

    #[test]
    fn new_names_renew_the_server_certificate_only() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path(), now());
        let mut names = local_names();
        names.insert("platform.example.org".to_owned());
        let second = Pki::open(folder.path(), &names, now()).unwrap();
        assert_eq!(Facts::of(&second.server.certificate_pem).unwrap().names, names);
        assert_ne!(first.server.certificate_pem, second.server.certificate_pem);
        assert_eq!(first.admin().certificate_pem, second.admin().certificate_pem);
    }

    #[test]
    fn a_damaged_leaf_is_replaced_and_a_damaged_authority_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path(), now());
        fs::write(folder.path().join("server.pem"), b"nonsense").unwrap();
        open(folder.path(), now()).server_config().unwrap();
        fs::write(folder.path().join("ca.pem"), b"nonsense").unwrap();
        let error = Pki::open(folder.path(), &local_names(), now())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("ca.pem") && error.contains("damaged") && error.contains("move the file away"),
            "{error}"
        );
    }

    #[cfg(unix)]
    #[test]
    fn keys_are_private_to_their_owner() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        open(folder.path(), now());
        for file in ["ca.pem", "server.pem", "admin.pem"] {
            let mode = fs::metadata(folder.path().join(file))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
    }
}
