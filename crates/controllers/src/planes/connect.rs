//! Getting a client for a cluster.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use choreo_api::v1alpha1::cluster::{InlineOrSecret, KubernetesCluster};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

use crate::runtime::metrics::Metrics;
use crate::runtime::transport;

/// First part of the server address that means a cluster inside this process.
pub const EMBEDDED_SCHEME: &str = "embedded://";

/// How long a connection attempt may take. Short, because a person waits for the condition that reports it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How to sign in, with every Secret resolved.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Credentials {
    /// Nothing to present.
    None,
    /// A client certificate and its key, in PEM form.
    Mtls {
        /// The certificate.
        certificate: Vec<u8>,
        /// Its private key.
        key: Vec<u8>,
    },
    /// A bearer token.
    Token(String),
}

/// Where a cluster is and how to sign in, with every Secret resolved.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ClusterTarget {
    /// Address: `https://...`, or `embedded://<name>`.
    pub server: String,
    /// Certificate authorities in PEM form; the system's if `None`.
    pub ca: Option<Vec<u8>>,
    /// How to sign in.
    pub credentials: Credentials,
}

// By hand, so that no credential ever gets into a log.
impl std::fmt::Debug for ClusterTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let credentials = match &self.credentials {
            Credentials::None => "none",
            Credentials::Mtls { .. } => "client certificate",
            Credentials::Token(_) => "token",
        };
        f.debug_struct("ClusterTarget")
            .field("server", &self.server)
            .field("credentials", &credentials)
            .finish_non_exhaustive()
    }
}

/// Why there is no client for a cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// What the object says cannot be used, or what it refers to is not there: somebody has to change something.
    #[error("{0}")]
    Invalid(String),
    /// The cluster does not answer as it should.
    #[error("{0}")]
    Unreachable(String),
}

/// Makes clients for clusters.
#[async_trait]
pub trait ClusterConnector: Send + Sync + 'static {
    /// A client for the cluster. It need not have spoken to it.
    ///
    /// # Errors
    /// When the target makes no sense to this connector.
    async fn connect(&self, target: &ClusterTarget) -> Result<Client, ConnectError>;
}

/// Connects to real clusters over HTTP(S).
#[derive(Clone, Debug, Default)]
pub struct HttpConnector {
    /// Counts its requests.
    pub metrics: Metrics,
}

#[async_trait]
impl ClusterConnector for HttpConnector {
    async fn connect(&self, target: &ClusterTarget) -> Result<Client, ConnectError> {
        if target.server.starts_with(EMBEDDED_SCHEME) {
            return Err(ConnectError::Invalid(format!(
                "server {:?} means a cluster inside the process of `choreo up`, which this is not; give the \
                 address of a real cluster",
                target.server
            )));
        }
        let invalid = |what: &str, error: &dyn std::error::Error| {
            ConnectError::Invalid(format!("{what} of cluster {:?}: {error}", target.server))
        };
        let mut cluster = json!({"server": target.server});
        if let Some(ca) = &target.ca {
            cluster["certificate-authority-data"] = json!(BASE64.encode(ca));
        }
        let user = match &target.credentials {
            Credentials::None => json!({}),
            Credentials::Token(token) => json!({"token": token}),
            Credentials::Mtls { certificate, key } => json!({
                "client-certificate-data": BASE64.encode(certificate),
                "client-key-data": BASE64.encode(key),
            }),
        };
        let kubeconfig: Kubeconfig = serde_json::from_value(json!({
            "clusters": [{"name": "plane", "cluster": cluster}],
            "users": [{"name": "plane", "user": user}],
            "contexts": [{"name": "plane", "context": {"cluster": "plane", "user": "plane"}}],
            "current-context": "plane",
        }))
        .map_err(|error| invalid("configuration", &error))?;
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .map_err(|error| invalid("configuration", &error))?;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        transport::client(config, &self.metrics, "data").map_err(|error| invalid("credentials", &error))
    }
}

type FindCluster = dyn Fn(&str) -> Option<Client> + Send + Sync;

/// Connects to clusters inside this process, and to all others over HTTP(S).
#[derive(Clone)]
pub struct Embedded {
    find: Arc<FindCluster>,
    http: HttpConnector,
}

impl Embedded {
    /// `find` gives the client of the embedded cluster of a name.
    pub fn new(find: impl Fn(&str) -> Option<Client> + Send + Sync + 'static) -> Self {
        Self {
            find: Arc::new(find),
            http: HttpConnector::default(),
        }
    }
}

#[async_trait]
impl ClusterConnector for Embedded {
    async fn connect(&self, target: &ClusterTarget) -> Result<Client, ConnectError> {
        let Some(name) = target.server.strip_prefix(EMBEDDED_SCHEME) else {
            return self.http.connect(target).await;
        };
        (self.find)(name.trim_end_matches('/')).ok_or_else(|| {
            ConnectError::Invalid(format!("there is no embedded cluster {name:?} in this process"))
        })
    }
}

/// The Secrets of a namespace: name to key to value.
pub type Secrets = BTreeMap<String, BTreeMap<String, Vec<u8>>>;

/// Names of the Secrets that a cluster's connection reads.
pub fn secrets_of(cluster: &KubernetesCluster) -> Vec<&str> {
    let tls = cluster.tls.iter().map(|tls| &tls.ca);
    let auth = cluster.auth.iter().flat_map(|auth| {
        let mtls = auth
            .mtls
            .iter()
            .flat_map(|mtls| [&mtls.client_cert, &mtls.client_key]);
        mtls.chain(&auth.bearer_token).chain(&auth.kubeconfig)
    });
    tls.chain(auth)
        .filter_map(|value| value.secret_ref.as_deref())
        .collect()
}

/// Resolves what a DataPlane says about one cluster.
///
/// # Errors
/// Names the field, and the Secret and key that are missing.
pub fn resolve(cluster: &KubernetesCluster, secrets: &Secrets) -> Result<ClusterTarget, ConnectError> {
    let read = |field: &str, value: &InlineOrSecret, default_key: &str| {
        let invalid = |message: String| ConnectError::Invalid(format!("{field}: {message}"));
        match (&value.value, &value.secret_ref) {
            (Some(inline), None) => {
                let compact: String = inline.split_whitespace().collect();
                BASE64
                    .decode(compact)
                    .map_err(|error| invalid(format!("not base64: {error}")))
            }
            (None, Some(secret)) => {
                let key = value.secret_key.as_deref().unwrap_or(default_key);
                let data = secrets
                    .get(secret)
                    .ok_or_else(|| invalid(format!("Secret {secret:?} does not exist; create it")))?;
                data.get(key)
                    .cloned()
                    .ok_or_else(|| invalid(format!("Secret {secret:?} has no key {key:?}; add it")))
            }
            _ => Err(invalid(
                "exactly one of value and secretRef must be given".to_owned(),
            )),
        }
    };
    let ca = match &cluster.tls {
        Some(tls) => Some(read("tls.ca", &tls.ca, "ca.crt")?),
        None => None,
    };
    let mut ca = ca;
    let credentials = match &cluster.auth {
        None => Credentials::None,
        Some(auth) => match (&auth.mtls, &auth.bearer_token, &auth.kubeconfig) {
            (Some(mtls), ..) => Credentials::Mtls {
                certificate: read("auth.mtls.clientCert", &mtls.client_cert, "tls.crt")?,
                key: read("auth.mtls.clientKey", &mtls.client_key, "tls.key")?,
            },
            (None, Some(token), _) => {
                let token = read("auth.bearerToken", token, "token")?;
                let token = String::from_utf8(token).map_err(|_| {
                    ConnectError::Invalid("auth.bearerToken: the token is not text".to_owned())
                })?;
                Credentials::Token(token.trim().to_owned())
            }
            (None, None, Some(kubeconfig)) => {
                let text = read("auth.kubeconfig", kubeconfig, "kubeconfig")?;
                let (credentials, authority) = of_kubeconfig(&text)
                    .map_err(|message| ConnectError::Invalid(format!("auth.kubeconfig: {message}")))?;
                ca = ca.or(authority);
                credentials
            }
            (None, None, None) => Credentials::None,
        },
    };
    Ok(ClusterTarget {
        server: cluster.server.clone(),
        ca,
        credentials,
    })
}

/// The user and the certificate authority of a kubeconfig's current context. Nothing outside of the text is read or run.
fn of_kubeconfig(text: &[u8]) -> Result<(Credentials, Option<Vec<u8>>), String> {
    let text = std::str::from_utf8(text).map_err(|_| "not text".to_owned())?;
    // What a parser says about a text may quote it, and this one is secret.
    let kubeconfig: Value =
        serde_saphyr::from_str(text).map_err(|_| "not the YAML of a kubeconfig".to_owned())?;
    let named = |list: &str, key: &str, name: &Value| {
        let entries = kubeconfig[list].as_array().into_iter().flatten();
        let mut entries = entries.filter(|entry| entry["name"] == *name);
        entries.next().map(|entry| entry[key].clone())
    };
    let current = &kubeconfig["current-context"];
    let context = named("contexts", "context", current)
        .ok_or_else(|| "its current-context names none of its contexts".to_owned())?;
    let user = named("users", "user", &context["user"])
        .ok_or_else(|| "the current context names none of its users".to_owned())?;
    let cluster = named("clusters", "cluster", &context["cluster"]).unwrap_or_default();
    let decoded = |value: &Value, field: &str| -> Result<Option<Vec<u8>>, String> {
        match value.as_str() {
            None => Ok(None),
            Some(data) => {
                let compact: String = data.split_whitespace().collect();
                let bytes = BASE64
                    .decode(compact)
                    .map_err(|_| format!("{field} is not base64"))?;
                Ok(Some(bytes))
            }
        }
    };
    let authority = decoded(
        &cluster["certificate-authority-data"],
        "certificate-authority-data",
    )?;
    if let Some(token) = user["token"].as_str().filter(|token| !token.is_empty()) {
        return Ok((Credentials::Token(token.trim().to_owned()), authority));
    }
    let certificate = decoded(&user["client-certificate-data"], "client-certificate-data")?;
    let key = decoded(&user["client-key-data"], "client-key-data")?;
    match (certificate, key) {
        (Some(certificate), Some(key)) => Ok((Credentials::Mtls { certificate, key }, authority)),
        _ => Err("its user has neither `token` nor `client-certificate-data` with `client-key-data`; programs (`exec`), \
                  providers and files are not followed"
            .to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn resolved(cluster: Value) -> Result<ClusterTarget, String> {
        let secrets = Secrets::from([(
            "creds".to_owned(),
            BTreeMap::from([
                ("token".to_owned(), b"abc\n".to_vec()),
                ("ca.crt".to_owned(), b"PEM".to_vec()),
            ]),
        )]);
        let cluster: KubernetesCluster = serde_json::from_value(cluster).unwrap();
        resolve(&cluster, &secrets).map_err(|error| error.to_string())
    }

    #[test]
    fn a_secret_is_read_with_the_usual_keys() {
        let target = resolved(json!({
            "server": "https://a", "tls": {"ca": {"secretRef": "creds"}},
            "auth": {"bearerToken": {"secretRef": "creds"}},
        }))
        .unwrap();
        assert_eq!(target.ca.as_deref(), Some(&b"PEM"[..]));
        assert!(target.credentials == Credentials::Token("abc".to_owned()));
        assert!(!format!("{target:?}").contains("abc"));
    }

    #[rstest]
    #[case(json!({"bearerToken": {"secretRef": "none"}}),
           "auth.bearerToken: Secret \"none\" does not exist; create it")]
    #[case(json!({"bearerToken": {"secretRef": "creds", "secretKey": "x"}}),
           "auth.bearerToken: Secret \"creds\" has no key \"x\"; add it")]
    #[case(json!({"mtls": {"clientCert": {"value": "!"}, "clientKey": {"value": ""}}}),
           "auth.mtls.clientCert: not base64: Invalid symbol 33, offset 0.")]
    fn what_is_missing_is_named(#[case] auth: Value, #[case] message: &str) {
        let error = resolved(json!({"server": "https://a", "auth": auth})).unwrap_err();
        assert_eq!(error, message);
    }

    #[test]
    fn a_kubeconfig_is_read_without_following_it() {
        let kubeconfig = |user: &str| {
            let text = format!(
                "current-context: a\ncontexts: [{{name: a, context: {{cluster: c, user: u}}}}]\n\
                 clusters: [{{name: c, cluster: {{server: 'https://ignored', certificate-authority-data: UEVN}}}}]\n\
                 users: [{{name: u, user: {user}}}]\n"
            );
            resolved(json!({
                "server": "https://a",
                "auth": {"kubeconfig": {"value": BASE64.encode(text)}},
            }))
        };
        let target = kubeconfig("{token: abc}").unwrap();
        assert_eq!(
            (target.server.as_str(), target.ca.as_deref()),
            ("https://a", Some(&b"PEM"[..]))
        );
        assert!(target.credentials == Credentials::Token("abc".to_owned()));
        let target = kubeconfig("{client-certificate-data: UEVN, client-key-data: UEVN}").unwrap();
        assert!(matches!(target.credentials, Credentials::Mtls { .. }));
        let error = kubeconfig("{exec: {command: rm}}").unwrap_err();
        assert!(error.contains("programs (`exec`)"), "{error}");
    }

    #[tokio::test]
    async fn the_embedded_scheme_is_refused_outside_of_up() {
        let target = ClusterTarget {
            server: "embedded://local".to_owned(),
            ca: None,
            credentials: Credentials::None,
        };
        let error = HttpConnector::default()
            .connect(&target)
            .await
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("embedded://local"), "{error}");
    }
}
