//! Who is asking: client certificates and bearer tokens.
//!
//! The order is Kubernetes': a verified client certificate wins, then a bearer token. A token that nobody has is refused
//! rather than treated as anonymous, so that a typing error is not mistaken for a missing permission. Anonymous requests
//! may read only the health and version paths ([`is_open_path`]).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::user::UserInfo;

/// Reads the user from a client certificate whose chain has been verified: the common name is the user, the organizations
/// are the groups. `None` when it names nobody.
pub fn user_of_certificate(der: &CertificateDer<'_>) -> Option<UserInfo> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    if name.is_empty() {
        return None;
    }
    let groups = subject
        .iter_organization()
        .filter_map(|group| group.as_str().ok())
        .map(str::to_owned);
    Some(UserInfo::new(name, groups))
}

/// Why a token file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    /// It could not be read.
    #[error("cannot read the token file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the file system answered.
        source: std::io::Error,
    },
    /// A line does not follow the format.
    #[error("{}:{line}: {reason}; a line is `token,user,uid,\"group1,group2\"`", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// A request whose credentials nobody has.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("Unauthorized")]
pub struct Unauthorized;

/// Finds out who a request is from.
#[derive(Clone, Default)]
pub struct Authenticator {
    // Digests rather than tokens: they are compared in constant time, and what a comparison could still tell by its
    // timing is about a digest, from which no token can be built up byte by byte.
    tokens: Vec<([u8; 32], UserInfo)>,
    others: Option<TokenSource>,
    refusals: Option<Refusals>,
}

/// Is told of requests that are refused for want of credentials. Gives the identity of what was written down of one.
pub type Refusals = Arc<dyn Fn(&http::request::Parts) -> Option<String> + Send + Sync>;

/// Says whose a bearer token is, by the path of the request and the token.
pub type TokenSource = Arc<dyn Fn(&str, &str) -> Option<UserInfo> + Send + Sync>;

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authenticator")
            .field("tokens", &self.tokens.len())
            .finish()
    }
}

impl Authenticator {
    /// Knows client certificates only.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the tokens of a file in the format of kube-apiserver's `--token-auth-file`: comma-separated
    /// `token,user,uid,"group1,group2"`, one a line; the last two columns may be left out, `#` begins a comment line.
    ///
    /// # Errors
    /// See [`TokenFileError`].
    pub fn with_token_file(mut self, path: &Path) -> Result<Self, TokenFileError> {
        let text = std::fs::read_to_string(path).map_err(|source| TokenFileError::Read {
            path: path.to_owned(),
            source,
        })?;
        for (index, line) in text.lines().enumerate() {
            let line_error = |reason| TokenFileError::Line {
                path: path.to_owned(),
                line: index + 1,
                reason,
            };
            if line.trim().is_empty() || line.trim_start().starts_with('#') {
                continue;
            }
            let columns = split_columns(line).ok_or_else(|| line_error("a quote is not closed"))?;
            let [token, user, rest @ ..] = columns.as_slice() else {
                return Err(line_error("the user is missing"));
            };
            if token.is_empty() || user.is_empty() {
                return Err(line_error("token and user must not be empty"));
            }
            let groups = rest.get(1).map(String::as_str).unwrap_or_default();
            let groups = groups
                .split(',')
                .map(str::trim)
                .filter(|group| !group.is_empty())
                .map(str::to_owned);
            let mut info = UserInfo::new(user.clone(), groups);
            info.uid = rest.first().cloned().unwrap_or_default();
            self = self.with_token(token, info);
        }
        Ok(self)
    }

    /// Adds one token.
    #[must_use]
    pub fn with_token(mut self, token: &str, user: UserInfo) -> Self {
        self.tokens.push((Sha256::digest(token.as_bytes()).into(), user));
        self
    }

    /// Also asks somebody else about tokens that are not known here.
    #[must_use]
    pub fn with_tokens(mut self, source: TokenSource) -> Self {
        self.others = Some(source);
        self
    }

    /// Tells somebody of requests that are refused.
    #[must_use]
    pub fn with_refusals(mut self, told: Refusals) -> Self {
        self.refusals = Some(told);
        self
    }

    /// A request has been refused. Gives the identity of what was written down of it, if anything was.
    pub(crate) fn refused(&self, request: &http::request::Parts) -> Option<String> {
        self.refusals.as_ref()?(request)
    }

    /// Whose token it is, of those that were added one by one.
    pub(crate) fn token(&self, token: &str) -> Option<UserInfo> {
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let mut found = None;
        // Every token is looked at, whether one has matched or not.
        for (own, user) in &self.tokens {
            if equal(own, &digest) {
                found = Some(user);
            }
        }
        found.cloned()
    }

    /// Who a request to this path with these headers is from, on a connection whose client certificate named `peer`. `Ok(None)` is
    /// somebody anonymous.
    ///
    /// # Errors
    /// [`Unauthorized`] when credentials are given that are nobody's.
    pub fn authenticate(
        &self,
        peer: Option<&UserInfo>,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<Option<UserInfo>, Unauthorized> {
        if let Some(user) = peer {
            return Ok(Some(user.clone()));
        }
        let Some(value) = headers.get(AUTHORIZATION) else {
            return Ok(None);
        };
        let value = value.to_str().map_err(|_| Unauthorized)?;
        let token = match value.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
            _ => return Err(Unauthorized),
        };
        self.token(token)
            .or_else(|| self.others.as_ref()?(path, token))
            .map(Some)
            .ok_or(Unauthorized)
    }
}

/// Whether anybody may read this path: health and version, as in Kubernetes.
pub fn is_open_path(path: &str) -> bool {
    let under =
        |root: &str| path == root || path.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'));
    path == "/version" || under("/healthz") || under("/livez") || under("/readyz")
}

/// Compares without stopping at the first difference.
fn equal(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

/// Splits a line of comma-separated values; a value may be quoted, a quote inside is doubled. `None` for an open quote.
fn split_columns(line: &str) -> Option<Vec<String>> {
    let mut columns = vec![];
    let mut column = String::new();
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                column.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => columns.push(std::mem::take(&mut column).trim().to_owned()),
            c => column.push(c),
        }
    }
    columns.push(column.trim().to_owned());
    (!quoted).then_some(columns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn bearer(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn tokens_come_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.csv");
        std::fs::write(&path, "# ours\ns3cret,jane,42,\"dev, ops\"\nplain,joe\n").unwrap();
        let authenticator = Authenticator::new().with_token_file(&path).unwrap();
        let jane = authenticator
            .authenticate(None, "/api", &bearer("Bearer s3cret"))
            .unwrap()
            .unwrap();
        assert_eq!((jane.name.as_str(), jane.uid.as_str()), ("jane", "42"));
        assert_eq!(jane.groups, ["dev", "ops", "system:authenticated"]);
        let joe = authenticator
            .authenticate(None, "/api", &bearer("bearer plain"))
            .unwrap()
            .unwrap();
        assert_eq!(joe.groups, ["system:authenticated"]);
    }

    #[test]
    fn a_bad_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.csv");
        for (text, expected) in [
            ("a,b\nlonely\n", ":2: the user is missing"),
            ("a,\"b\n", ":1: a quote is not closed"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Authenticator::new()
                .with_token_file(&path)
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn unknown_credentials_are_refused_and_none_are_anonymous() {
        let authenticator = Authenticator::new().with_token("right", UserInfo::new("jane", ["dev"]));
        assert_eq!(
            authenticator.authenticate(None, "/api", &HeaderMap::new()),
            Ok(None)
        );
        for wrong in ["Bearer wrong", "Bearer ", "Basic cmlnaHQ=", "right"] {
            assert_eq!(
                authenticator.authenticate(None, "/api", &bearer(wrong)),
                Err(Unauthorized),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_certificate_wins_over_a_token() {
        let authenticator = Authenticator::new();
        let peer = UserInfo::new("admin", ["system:masters"]);
        assert_eq!(
            authenticator.authenticate(Some(&peer), "/api", &bearer("Bearer wrong")),
            Ok(Some(peer.clone()))
        );
    }

    #[test]
    fn only_health_and_version_are_open() {
        for open in ["/healthz", "/livez/ping", "/readyz", "/version"] {
            assert!(is_open_path(open), "{open}");
        }
        for closed in [
            "/",
            "/api",
            "/healthzz",
            "/version/x",
            "/apis/healthz",
            "/clusters/local/version",
        ] {
            assert!(!is_open_path(closed), "{closed}");
        }
    }

    #[test]
    fn a_certificate_names_user_and_groups() {
        use rustls_pki_types::pem::PemObject;
        let pki =
            crate::tls::Pki::ephemeral(&crate::tls::local_names(), jiff::Timestamp::UNIX_EPOCH).unwrap();
        let der = CertificateDer::from_pem_slice(pki.admin().certificate_pem.as_bytes()).unwrap();
        let user = user_of_certificate(&der).unwrap();
        assert_eq!(user.name, "choreo-admin");
        assert_eq!(user.groups, ["system:masters", "system:authenticated"]);
    }
}
