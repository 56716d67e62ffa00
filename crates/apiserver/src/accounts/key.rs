//! The key that signs tokens.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::private_file::write_private;

/// What stands before the point in the DER form of a P-256 public key (RFC 5480).
const SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("cannot read or write the key of service account tokens, {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the file system answered.
        source: std::io::Error,
    },
    /// The file does not hold such a key.
    #[error("{} holds no ECDSA P-256 key in PKCS#8 (PEM); remove it to have a new one made, which ends all tokens", path.display())]
    Content {
        /// The file.
        path: PathBuf,
    },
    /// The system gave no randomness, or the key did not fit.
    #[error("cannot make a key for service account tokens")]
    Make,
}

/// The key that signs service account tokens: ECDSA over P-256 (`ES256`).
pub struct SigningKey {
    pair: EcdsaKeyPair,
    random: SystemRandom,
    id: String,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.id)
    }
}

impl SigningKey {
    /// A new key, for as long as the process runs.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate() -> Result<SigningKey, KeyError> {
        SigningKey::read(&SigningKey::make()?).ok_or(KeyError::Make)
    }

    /// The key in a file, which is made when it is not there. Only the owner may read it.
    ///
    /// # Errors
    /// When the file cannot be read or written, or holds something else.
    pub fn open(path: &Path) -> Result<SigningKey, KeyError> {
        let file = |source| KeyError::File {
            path: path.to_owned(),
            source,
        };
        match std::fs::read(path) {
            Ok(pem) => PrivatePkcs8KeyDer::from_pem_slice(&pem)
                .ok()
                .and_then(|der| SigningKey::read(der.secret_pkcs8_der()))
                .ok_or_else(|| KeyError::Content {
                    path: path.to_owned(),
                }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let der = SigningKey::make()?;
                write_private(path, pem(&der).as_bytes()).map_err(file)?;
                SigningKey::read(&der).ok_or(KeyError::Make)
            }
            Err(error) => Err(file(error)),
        }
    }

    fn make() -> Result<Vec<u8>, KeyError> {
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .map(|document| document.as_ref().to_vec())
            .map_err(|_| KeyError::Make)
    }

    fn read(pkcs8: &[u8]) -> Option<SigningKey> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random).ok()?;
        let mut hash = Sha256::new();
        hash.update(SPKI_PREFIX);
        hash.update(pair.public_key().as_ref());
        Some(SigningKey {
            id: URL_SAFE_NO_PAD.encode(hash.finalize()),
            pair,
            random,
        })
    }

    /// The key's name in tokens and key sets: the SHA-256 of the public key, as kube-apiserver forms it.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Signs; none when the system gives no randomness.
    pub(super) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let signature = self.pair.sign(&self.random, message).ok()?;
        Some(signature.as_ref().to_vec())
    }

    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.pair.public_key().as_ref())
            .verify(message, signature)
            .is_ok()
    }

    /// The public key as a JSON Web Key.
    pub(super) fn public(&self) -> Value {
        // An uncompressed point: a tag, then the coordinates of 32 bytes each.
        let point = self.pair.public_key().as_ref();
        let coordinate = |from: usize| URL_SAFE_NO_PAD.encode(point.get(from..from + 32).unwrap_or_default());
        json!({
            "use": "sig", "kty": "EC", "kid": self.id, "crv": "P-256", "alg": "ES256",
            "x": coordinate(1), "y": coordinate(33),
        })
    }
}

/// The PEM form of a PKCS#8 key.
fn pem(der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = "-----BEGIN PRIVATE KEY-----\n".to_owned();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = more;
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_kept_in_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sa.key");
        let first = SigningKey::open(&path).unwrap();
        let again = SigningKey::open(&path).unwrap();
        assert_eq!(first.id(), again.id());
        let signature = first.sign(b"message").unwrap();
        assert!(again.verify(b"message", &signature));
        assert!(!again.verify(b"massage", &signature));
        assert!(!SigningKey::generate().unwrap().verify(b"message", &signature));
    }

    #[test]
    fn a_file_with_something_else_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sa.key");
        std::fs::write(&path, "nothing").unwrap();
        let error = SigningKey::open(&path).unwrap_err().to_string();
        assert!(error.contains("sa.key holds no ECDSA P-256 key"), "{error}");
    }
}
