//! The webhook's own certificate: made by the manager that acts, kept in a Secret, made anew before it ends.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use choreo_controllers::runtime::Clock;
use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, PostParams};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, ResourceExt};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::{MANAGER, RETRY};

/// For how long a certificate is valid.
const LIFE: SignedDuration = SignedDuration::from_hours(90 * 24);
/// It is replaced when no more than this is left.
const DUE: SignedDuration = SignedDuration::from_hours(30 * 24);
/// A machine whose clock is behind ours must not find it invalid.
const BEFORE: SignedDuration = SignedDuration::from_hours(1);

const AUTHORITY: &str = "ca.crt";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
/// The authority before, whose certificate some replica may still answer with.
const PREVIOUS: &str = "previous-ca.crt";
/// When it ends, as RFC 3339.
const UNTIL: &str = "openchoreo.dev/not-after";

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The API server refused, or did not answer.
    #[error("{0}")]
    Api(#[from] kube::Error),
    /// It could not be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

/// A certificate, its key, and the one before.
pub(crate) struct Certificate {
    authority: String,
    certificate: String,
    key: String,
    previous: Option<String>,
    until: Timestamp,
    revision: Option<String>,
}

impl Certificate {
    /// Whether it is time for another one.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        self.until.duration_since(now) < DUE
    }

    /// When it ends.
    pub(crate) fn not_after(&self) -> Timestamp {
        self.until
    }

    /// What the API server has to trust.
    pub(crate) fn authorities(&self) -> String {
        format!(
            "{}{}",
            self.authority,
            self.previous.as_deref().unwrap_or_default()
        )
    }
}

pub(crate) struct Certificates {
    api: Api<Secret>,
    secret: String,
    names: Vec<String>,
    clock: Clock,
}

impl Certificates {
    pub(crate) fn new(
        client: Client,
        namespace: &str,
        secret: &str,
        names: Vec<String>,
        clock: Clock,
    ) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            secret: secret.to_owned(),
            names,
            clock,
        }
    }

    /// The one in the Secret, if there is one that is of use.
    pub(crate) async fn current(&self) -> Result<Option<Certificate>, CertificateError> {
        let Some(secret) = self.api.get_opt(&self.secret).await? else {
            return Ok(None);
        };
        let Some(mut certificate) = read(&secret) else {
            return Ok(None);
        };
        certificate.revision = secret.metadata.resource_version;
        Ok(Some(certificate))
    }

    /// A new one, to take the place of `before`.
    pub(crate) fn make(&self, before: Option<&Certificate>) -> Result<Certificate, CertificateError> {
        let now = self.clock.now();
        let until = now.checked_add(LIFE).unwrap_or(now);
        let time = |at: Timestamp| {
            let day = at.to_zoned(jiff::tz::TimeZone::UTC).date();
            rcgen::date_time_ymd(
                i32::from(day.year()),
                u8::try_from(day.month()).unwrap_or(1),
                u8::try_from(day.day()).unwrap_or(1),
            )
        };
        let params = |name: &str, names: Vec<String>| -> Result<CertificateParams, rcgen::Error> {
            let mut params = CertificateParams::new(names)?;
            params.not_before = time(now.checked_sub(BEFORE).unwrap_or(now));
            params.not_after = time(until);
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, name);
            Ok(params)
        };
        // The authority signs this one certificate; its key is kept nowhere.
        let authority_key = KeyPair::generate()?;
        let mut authority = params("choreo-webhook-authority", Vec::new())?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority_pem = authority.self_signed(&authority_key)?.pem();
        let key = KeyPair::generate()?;
        let mut leaf = params("choreo-webhook", self.names.clone())?;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = leaf.signed_by(&key, &Issuer::new(authority, authority_key))?;
        Ok(Certificate {
            authority: authority_pem,
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            previous: before.map(|before| before.authority.clone()),
            until,
            revision: before.and_then(|before| before.revision.clone()),
        })
    }

    /// Puts it into the Secret, from where every replica takes it.
    pub(crate) async fn store(&self, certificate: &Certificate) -> Result<(), CertificateError> {
        let mut secret = Secret::default();
        secret.metadata.name = Some(self.secret.clone());
        secret.metadata.resource_version = certificate.revision.clone();
        secret
            .annotations_mut()
            .insert(UNTIL.to_owned(), certificate.until.to_string());
        secret.type_ = Some("Opaque".to_owned());
        let previous = certificate.previous.clone().map(|previous| (PREVIOUS, previous));
        let data = [
            (AUTHORITY, certificate.authority.clone()),
            (CERTIFICATE, certificate.certificate.clone()),
            (KEY, certificate.key.clone()),
        ]
        .into_iter()
        .chain(previous);
        secret.data = Some(
            data.map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes())))
                .collect(),
        );
        let params = PostParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PostParams::default()
        };
        match &certificate.revision {
            Some(_) => self.api.replace(&self.secret, &params, &secret).await?,
            None => match self.api.create(&params, &secret).await {
                // There was one that was of no use.
                Err(kube::Error::Api(status)) if status.code == 409 => {
                    self.api.replace(&self.secret, &params, &secret).await?
                }
                created => created?,
            },
        };
        Ok(())
    }

    /// Keeps `tls` at what is in the Secret, forever.
    pub(crate) async fn follow(&self, tls: &ArcSwapOption<rustls::ServerConfig>) {
        let config = watcher::Config::default().fields(&format!("metadata.name={}", self.secret));
        let mut events = std::pin::pin!(watcher(self.api.clone(), config));
        loop {
            match events.next().await {
                Some(Ok(Event::InitApply(secret) | Event::Apply(secret))) => {
                    match read(&secret).map(|found| server(&found)) {
                        Some(Ok(config)) => tls.store(Some(Arc::new(config))),
                        Some(Err(error)) => {
                            tracing::warn!(secret = %self.secret, %error, "the certificate is of no use")
                        }
                        None => tracing::warn!(secret = %self.secret, "no certificate is in the Secret"),
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    tracing::debug!(%error, "the Secret cannot be watched");
                    tokio::time::sleep(RETRY).await;
                }
                None => tokio::time::sleep(RETRY).await,
            }
        }
    }
}

fn read(secret: &Secret) -> Option<Certificate> {
    let text = |key: &str| {
        let bytes = &secret.data.as_ref()?.get(key)?.0;
        String::from_utf8(bytes.clone()).ok()
    };
    Some(Certificate {
        authority: text(AUTHORITY)?,
        certificate: text(CERTIFICATE)?,
        key: text(KEY)?,
        previous: text(PREVIOUS),
        until: secret.annotations().get(UNTIL)?.parse().ok()?,
        revision: None,
    })
}

fn server(certificate: &Certificate) -> Result<rustls::ServerConfig, String> {
    let chain: Result<Vec<CertificateDer<'static>>, _> =
        CertificateDer::pem_slice_iter(certificate.certificate.as_bytes()).collect();
    let chain = chain.map_err(|error| error.to_string())?;
    // An error of the parser must not quote the key.
    let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes())
        .map_err(|_| "the key is no PEM".to_owned())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| error.to_string())?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
