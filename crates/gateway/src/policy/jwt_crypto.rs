//! Signatures of tokens are checked with ring, as everything else here: the token library's own providers would bring a second
//! crypto library.

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::signature::{
    self as ring_signature, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: signer,
    verifier_factory: verifier,
    key_utils: KeyUtils {
        rsa_pub_components_from_private_key: |_| unsupported(),
        rsa_pub_components_from_public_key: |_| unsupported(),
        ec_pub_components_from_private_key: |_, _| unsupported(),
        ed_pub_components_from_private_key: |_, _| unsupported(),
        compute_digest: |_, _| unsupported(),
    },
};

/// Makes tokens checkable. The first call in a process counts; that another library did it first is fine.
pub(crate) fn install() {
    let _ = PROVIDER.install_default();
}

fn unsupported<T>() -> Result<T> {
    Err(ErrorKind::UnsupportedAlgorithm.into())
}

/// Nothing here makes tokens.
fn signer(_: &Algorithm, _: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    unsupported()
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    // Tokens with a shared secret have no place in a key set that everybody can read.
    match algorithm {
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => unsupported(),
        _ => Ok(Box::new(RingVerifier {
            algorithm: *algorithm,
            key: key.clone(),
        })),
    }
}

struct RingVerifier {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl signature::Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), signature::Error> {
        let rsa = match self.algorithm {
            Algorithm::RS256 => Some(&ring_signature::RSA_PKCS1_2048_8192_SHA256),
            Algorithm::RS384 => Some(&ring_signature::RSA_PKCS1_2048_8192_SHA384),
            Algorithm::RS512 => Some(&ring_signature::RSA_PKCS1_2048_8192_SHA512),
            Algorithm::PS256 => Some(&ring_signature::RSA_PSS_2048_8192_SHA256),
            Algorithm::PS384 => Some(&ring_signature::RSA_PSS_2048_8192_SHA384),
            Algorithm::PS512 => Some(&ring_signature::RSA_PSS_2048_8192_SHA512),
            _ => None,
        };
        let other: Option<&'static dyn VerificationAlgorithm> = match self.algorithm {
            Algorithm::ES256 => Some(&ring_signature::ECDSA_P256_SHA256_FIXED),
            Algorithm::ES384 => Some(&ring_signature::ECDSA_P384_SHA384_FIXED),
            Algorithm::EdDSA => Some(&ring_signature::ED25519),
            _ => None,
        };
        let good = match (self.key.kind(), rsa, other) {
            (DecodingKeyKind::RsaModulusExponent { n, e }, Some(parameters), _) => {
                RsaPublicKeyComponents { n, e }
                    .verify(parameters, message, signature)
                    .is_ok()
            }
            (DecodingKeyKind::SecretOrDer(point), None, Some(algorithm)) => {
                UnparsedPublicKey::new(algorithm, point)
                    .verify(message, signature)
                    .is_ok()
            }
            _ => false,
        };
        if good {
            Ok(())
        } else {
            Err(signature::Error::new())
        }
    }
}
