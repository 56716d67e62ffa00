//! The gateway's own certificate authority. It makes a certificate for each host when it is asked for.
//!
//! Who trusts it trusts it for names below `localhost` and `internal` only: the authority's certificate says so (RFC 5280, section
//! 4.2.1.10), so that a key that gets lost is of no use for any name of the world.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, GeneralSubtree,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Names below which certificates are made.
pub const DOMAINS: [&str; 2] = ["localhost", "internal"];

const AUTHORITY_DAYS: i64 = 3_650;
const LEAF_DAYS: i64 = 90;
/// Most certificates that are kept. Each is made again within a millisecond.
const MOST_LEAVES: usize = 1_024;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The text holds no certificate and key that belong together.
    #[error("no certificate authority: {0}")]
    Damaged(String),
    /// The library could not make a certificate.
    #[error("cannot make the certificate for {subject}: {reason}")]
    Sign {
        /// Whose certificate.
        subject: String,
        /// Why.
        reason: String,
    },
}

/// A certificate authority with its key.
pub struct Authority {
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    not_after: i64,
    leaves: Mutex<HashMap<String, (Arc<CertifiedKey>, Timestamp)>>,
}

impl std::fmt::Debug for Authority {
    // A private key must not reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes a new authority, as the text of its certificate and its private key (PEM). The text is a secret.
    ///
    /// # Errors
    /// Those of the library.
    pub fn generate(now: Timestamp) -> Result<String, AuthorityError> {
        let subject = "choreo gateway";
        let failed = |error: rcgen::Error| AuthorityError::Sign {
            subject: subject.to_owned(),
            reason: error.to_string(),
        };
        let mut params = CertificateParams::default();
        params.distinguished_name = named(subject);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: DOMAINS
                .map(|name| GeneralSubtree::DnsName(name.to_owned()))
                .to_vec(),
            excluded_subtrees: Vec::new(),
        });
        set_life(&mut params, now, AUTHORITY_DAYS);
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.self_signed(&key).map_err(failed)?;
        Ok(format!("{}{}", certificate.pem(), key.serialize_pem()))
    }

    /// Reads what [`Self::generate`] has made.
    ///
    /// # Errors
    /// When it is something else.
    pub fn from_pem(text: &str) -> Result<Self, AuthorityError> {
        let damaged = |error: &dyn std::fmt::Display| AuthorityError::Damaged(error.to_string());
        let der = CertificateDer::from_pem_slice(text.as_bytes()).map_err(|error| damaged(&error))?;
        let key = PrivateKeyDer::from_pem_slice(text.as_bytes())
            .map_err(|_| damaged(&"no private key in PEM form"))?;
        let PrivateKeyDer::Pkcs8(key) = key else {
            return Err(damaged(&"the private key is not in PKCS #8 form"));
        };
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&key, &rcgen::PKCS_ECDSA_P256_SHA256)
            .map_err(|_| damaged(&"no usable private key"))?;
        let (_, parsed) = X509Certificate::from_der(&der).map_err(|error| damaged(&error))?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(damaged(&"the private key is not the certificate's"));
        }
        let not_after = parsed.validity().not_after.timestamp();
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|error| damaged(&error))?;
        let end = text
            .find("-----END CERTIFICATE-----")
            .map_or(0, |at| at + "-----END CERTIFICATE-----".len());
        Ok(Self {
            certificate_pem: format!("{}\n", text.get(..end).unwrap_or_default().trim_start()),
            issuer,
            der,
            not_after,
            leaves: Mutex::default(),
        })
    }

    /// The authority's certificate alone, for those who are to trust it.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Whether it is time for a new authority: less than 30 days are left.
    pub fn is_due(&self, now: Timestamp) -> bool {
        now.as_second() + 30 * 86_400 > self.not_after
    }

    /// A certificate for a host, made now or before.
    pub(crate) fn certificate(
        &self,
        host: &str,
        now: Timestamp,
    ) -> Result<Arc<CertifiedKey>, AuthorityError> {
        let mut leaves = self.leaves.lock();
        if let Some((certified, until)) = leaves.get(host)
            && now < *until
        {
            return Ok(Arc::clone(certified));
        }
        let below = |domain: &str| {
            host == domain || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
        };
        if !DOMAINS.into_iter().any(below) {
            return Err(AuthorityError::Sign {
                subject: host.to_owned(),
                reason: format!(
                    "the local authority is for names below {} only",
                    DOMAINS.join(" and ")
                ),
            });
        }
        let certified = Arc::new(self.make(host, now)?);
        if leaves.len() >= MOST_LEAVES {
            leaves.clear();
        }
        // Made anew when a third of its life is left.
        let until = now + SignedDuration::from_hours(24 * LEAF_DAYS * 2 / 3);
        leaves.insert(host.to_owned(), (Arc::clone(&certified), until));
        Ok(certified)
    }

    fn make(&self, host: &str, now: Timestamp) -> Result<CertifiedKey, AuthorityError> {
        let failed = |reason: String| AuthorityError::Sign {
            subject: host.to_owned(),
            reason,
        };
        let mut params =
            CertificateParams::new([host.to_owned()]).map_err(|error| failed(error.to_string()))?;
        params.distinguished_name = named(host);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        set_life(&mut params, now, LEAF_DAYS);
        let key = KeyPair::generate().map_err(|error| failed(error.to_string()))?;
        let certificate = params
            .signed_by(&key, &self.issuer)
            .map_err(|error| failed(error.to_string()))?;
        let chain = vec![certificate.der().clone(), self.der.clone()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = rustls::crypto::ring::default_provider();
        CertifiedKey::from_der(chain, key, &provider).map_err(|error| failed(error.to_string()))
    }
}

fn named(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    // Longer names are no longer allowed there (RFC 5280, ub-common-name); clients look at the alternative name anyway.
    let short: String = common.chars().take(64).collect();
    name.push(DnType::CommonName, short);
    name
}

/// A life that begins an hour ago, so that a client whose clock is a little behind accepts the certificate.
fn set_life(params: &mut CertificateParams, now: Timestamp, days: i64) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let at = |time: Timestamp| epoch + Duration::from_secs(u64::try_from(time.as_second()).unwrap_or(0));
    params.not_before = at(now - SignedDuration::from_hours(1));
    params.not_after = at(now + SignedDuration::from_hours(24 * days));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-01T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn certificates_are_made_once_and_below_local_names_only() {
        let authority = Authority::from_pem(&Authority::generate(now()).unwrap()).unwrap();
        let first = authority
            .certificate("a.openchoreoapis.localhost", now())
            .unwrap();
        let second = authority
            .certificate("a.openchoreoapis.localhost", now())
            .unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        let later = authority
            .certificate(
                "a.openchoreoapis.localhost",
                now() + SignedDuration::from_hours(24 * 61),
            )
            .unwrap();
        assert!(!Arc::ptr_eq(&first, &later));
        assert!(authority.certificate("example.com", now()).is_err());
        assert!(authority.certificate("evillocalhost", now()).is_err());
    }

    #[test]
    fn what_is_no_authority_is_refused() {
        let text = Authority::generate(now()).unwrap();
        let other = Authority::generate(now()).unwrap();
        let split = |text: &str| text.find("-----BEGIN PRIVATE").unwrap();
        let mixed = format!("{}{}", &text[..split(&text)], &other[split(&other)..]);
        assert!(Authority::from_pem(&mixed).is_err());
        assert!(Authority::from_pem("nonsense").is_err());
        let public = Authority::from_pem(&text).unwrap().certificate_pem().to_owned();
        assert!(!public.contains("PRIVATE"));
    }
}
