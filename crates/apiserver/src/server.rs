//! [`ApiServer`]: logical clusters behind one router.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use choreo_store::Store;
use http::Request;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::service_fn;

use crate::accounts::{ISSUER, Issuer, SigningKey, Verified};
use crate::admission::Admission;
use crate::audit::{Audit, Recorder};
use crate::authn::Authenticator;
use crate::cluster::{Cluster, Settings};
use crate::dispatch;
use crate::error::ServerError;
use crate::flow::{self, FlowLimits};
use crate::pods::{MAX_SESSIONS, PodAccess};
use crate::request::RequestInfo;
use crate::user::UserInfo;

/// How to set a server up.
pub struct Options {
    /// The logical clusters. The first one is served on the plain path, every one under `/clusters/<name>`.
    pub clusters: Vec<String>,
    /// Checks and changes of objects before they are written, in this order, behind the server's own.
    pub admission: Vec<Arc<dyn Admission>>,
    /// Who is known apart from service accounts; see [`ApiServer::authenticator`].
    pub authenticator: Authenticator,
    /// The issuer that tokens of service accounts name, which is also the audience of this server.
    pub issuer: String,
    /// The key that signs tokens of service accounts. Without one, a key is made that lasts as long as the server.
    pub signing_key: Option<SigningKey>,
    /// The certificates, in PEM, by which clients in Pods know this server; each namespace gets them as a ConfigMap. Empty for
    /// none.
    pub certificate_authority: String,
    /// How many requests each logical cluster works on, and lets wait, at a time.
    pub flow: FlowLimits,
    /// What is written down of requests, and where.
    pub audit: Option<Audit>,
    /// Who gives access to the containers of a logical cluster's Pods, by the cluster's name; see also [`Cluster::connect_pods`].
    pub pods: BTreeMap<String, Arc<dyn PodAccess>>,
    /// The product's version as `/version` tells it behind the Kubernetes version, for example `choreo.0.1.0`.
    pub build: String,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            clusters: vec!["control".to_owned()],
            admission: Vec::new(),
            authenticator: Authenticator::new(),
            issuer: ISSUER.to_owned(),
            signing_key: None,
            certificate_authority: String::new(),
            flow: FlowLimits::default(),
            audit: None,
            pods: BTreeMap::new(),
            build: concat!("choreo.", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// The name of the logical cluster that an in-process request is for. Travels as an extension of the request.
#[derive(Clone, Debug)]
struct ClusterName(Arc<str>);

/// An embedded Kubernetes API server. Cheap to clone; clones are the same server.
#[derive(Clone)]
pub struct ApiServer {
    inner: Arc<Inner>,
}

struct Inner {
    clusters: BTreeMap<String, Arc<Cluster>>,
    default: Arc<Cluster>,
    store: Store,
    build: String,
    authenticator: Authenticator,
    audit: Option<Arc<Audit>>,
    draining: CancellationToken,
    backups: tokio::sync::Mutex<()>,
    sessions: Arc<Semaphore>,
}

impl ApiServer {
    /// Sets a server up over a store: loads the definitions of each logical cluster. Nothing runs in the background until
    /// [`ApiServer::start_controllers`].
    ///
    /// # Errors
    /// When no cluster is named, no key can be made or the store refuses.
    pub fn new(store: Store, options: Options) -> Result<ApiServer, ServerError> {
        let key = match options.signing_key {
            Some(key) => key,
            None => SigningKey::generate()?,
        };
        let settings = Settings {
            admission: options.admission.into(),
            issuer: Arc::new(Issuer::new(&options.issuer, key)),
            certificate_authority: options.certificate_authority.into(),
            flow: options.flow,
        };
        let mut clusters = BTreeMap::new();
        let mut default = None;
        for name in &options.clusters {
            let cluster = Arc::new(Cluster::open(
                name,
                store.cluster(name),
                settings.clone(),
                options.pods.get(name).cloned(),
            )?);
            default.get_or_insert_with(|| cluster.clone());
            clusters.insert(name.clone(), cluster);
        }
        let default = default.ok_or(ServerError::NoCluster)?;
        Ok(ApiServer {
            inner: Arc::new(Inner {
                clusters,
                default,
                store,
                build: options.build,
                authenticator: options.authenticator,
                audit: options.audit.map(Arc::new),
                draining: CancellationToken::new(),
                backups: tokio::sync::Mutex::default(),
                sessions: Arc::new(Semaphore::new(MAX_SESSIONS)),
            }),
        })
    }

    /// The logical cluster of that name.
    pub fn cluster(&self, name: &str) -> Option<&Arc<Cluster>> {
        self.inner.clusters.get(name)
    }

    /// The logical cluster that the plain path leads to.
    pub fn default_cluster(&self) -> &Arc<Cluster> {
        &self.inner.default
    }

    /// Every logical cluster, by name.
    pub fn clusters(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        self.inner.clusters.values()
    }

    /// The store that everything is in.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// The build as `/version` tells it.
    pub(crate) fn build(&self) -> &str {
        &self.inner.build
    }

    /// Held while a backup is made.
    pub(crate) fn backups(&self) -> &tokio::sync::Mutex<()> {
        &self.inner.backups
    }

    /// Knows whom [`Options::authenticator`] knows, and the tokens of service accounts; has the audit write down whom it does
    /// not know. For [`crate::serve::serve`].
    pub fn authenticator(&self) -> Authenticator {
        let server = self.clone();
        let mut authenticator = self.inner.authenticator.clone();
        if let Some(audit) = self.inner.audit.clone() {
            authenticator =
                authenticator.with_refusals(Arc::new(move |parts| Recorder::refused(&audit, parts)));
        }
        authenticator.with_tokens(Arc::new(move |path: &str, token: &str| {
            let cluster = match RequestInfo::cluster_of(path) {
                None => server.default_cluster(),
                Some(name) => server.cluster(&name)?,
            };
            let wanted = cluster.issuer().audiences();
            match server.review_account(cluster, token, &wanted) {
                Ok(verified) => Some(verified.user),
                Err(why) => {
                    tracing::debug!("a bearer token does not count: {}", why.unwrap_or_default());
                    None
                }
            }
        }))
    }

    /// Whose token it is in a logical cluster, for any of the audiences.
    ///
    /// # Errors
    /// None when it is nobody's; else why it does not count.
    pub(crate) fn review(
        &self,
        cluster: &Cluster,
        token: &str,
        audiences: &[String],
    ) -> Result<Verified, Option<String>> {
        let ours = cluster.issuer().audiences();
        let wanted = if audiences.is_empty() {
            &ours[..]
        } else {
            audiences
        };
        if let Some(user) = self.inner.authenticator.token(token) {
            let both: Vec<String> = wanted.iter().filter(|a| ours.contains(a)).cloned().collect();
            return if both.is_empty() {
                Err(None)
            } else {
                Ok(Verified {
                    user,
                    audiences: both,
                })
            };
        }
        self.review_account(cluster, token, wanted)
    }

    fn review_account(
        &self,
        cluster: &Cluster,
        token: &str,
        wanted: &[String],
    ) -> Result<Verified, Option<String>> {
        let snapshot = cluster.store().snapshot();
        cluster
            .issuer()
            .verify(&snapshot, token, wanted, jiff::Timestamp::now())
    }

    /// What is written down of requests.
    pub(crate) fn audit(&self) -> Option<&Arc<Audit>> {
        self.inner.audit.as_ref()
    }

    /// Places for sessions with containers.
    pub(crate) fn sessions(&self) -> &Arc<Semaphore> {
        &self.inner.sessions
    }

    /// Cancelled when the server goes down: watches end.
    pub(crate) fn draining(&self) -> &CancellationToken {
        &self.inner.draining
    }

    /// Ends every watch, so that connections can be closed. New ones end at once.
    pub fn drain(&self) {
        self.inner.draining.cancel();
    }

    /// The HTTP service, without sockets and without authentication: whoever serves it puts a [`UserInfo`] into each
    /// request's extensions.
    pub fn router(&self) -> Router {
        let server = self.clone();
        Router::new().fallback(move |request: Request<Body>| {
            let server = server.clone();
            async move { dispatch::dispatch(server, None, request).await }
        })
    }

    /// A client of a logical cluster that acts as `user`, in process: requests are function calls.
    ///
    /// A cluster that does not exist answers every request with 404. Must be called within a tokio runtime.
    pub fn cluster_client(&self, cluster: &str, user: &UserInfo) -> kube::Client {
        let server = self.clone();
        let name = ClusterName(cluster.into());
        let user = user.clone();
        let service = service_fn(move |request: Request<kube::client::Body>| {
            let server = server.clone();
            let name = name.clone();
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(user.clone());
            async move {
                Ok::<_, std::convert::Infallible>(dispatch::dispatch(server, Some(name.0), request).await)
            }
        });
        kube::Client::new(service, "default")
    }

    /// Starts the controllers that belong to an API server (removal of custom resources with their definition, ...). They
    /// stop when `shutdown` is cancelled, and watches end with them.
    pub fn start_controllers(&self, shutdown: &CancellationToken) {
        let (draining, down) = (self.inner.draining.clone(), shutdown.clone());
        tokio::spawn(async move {
            down.cancelled().await;
            draining.cancel();
        });
        for cluster in self.clusters() {
            tokio::spawn(crate::expiry::run(cluster.clone(), shutdown.clone()));
            tokio::spawn(crate::crds::cleanup::run(cluster.clone(), shutdown.clone()));
            tokio::spawn(crate::gc::run(cluster.clone(), shutdown.clone()));
            tokio::spawn(crate::namespaces::run(cluster.clone(), shutdown.clone()));
            tokio::spawn(crate::accounts::run(cluster.clone(), shutdown.clone()));
            tokio::spawn(flow::run(cluster.clone(), shutdown.clone()));
            tokio::spawn(crate::quota::run(cluster.clone(), shutdown.clone()));
            tokio::spawn(crate::rbac::aggregate(cluster.clone(), shutdown.clone()));
            tokio::spawn(crate::taints::run(cluster.clone(), shutdown.clone()));
            tokio::spawn(crate::protection::run(cluster.clone(), shutdown.clone()));
            tokio::spawn(crate::admission::check_policies(
                cluster.clone(),
                shutdown.clone(),
            ));
        }
    }
}
