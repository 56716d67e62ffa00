//! Admission as webhooks: the rules between objects and what new objects leave out ([`choreo_engine::rules`]), asked by the API
//! server before a write.
//!
//! Every replica answers. The one that acts makes the certificate, which all of them read from one Secret, and tells the API
//! server whom to ask. The webhook may be down: the API server then goes on without it (`failurePolicy: Ignore`), and the plans
//! report what it would have refused. Only what people sign with their name (promotions, decisions about them, another artifact in a
//! binding) is refused then.

mod certificates;
mod review;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use axum::Router;
use axum::extract::State;
use axum::routing::post;
use choreo_api::labels::GROUP;
use choreo_controllers::Observer;
use choreo_controllers::runtime::{Clock, GroupKind};
use choreo_controllers::view::ControlKinds;
use choreo_engine::rules::{AUTHORSHIP, default_reads, has_owner, reads};
use choreo_engine::{Kind, binding};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

pub use certificates::CertificateError;
use certificates::Certificates;

/// Field manager of the configuration and of the Secret.
const MANAGER: &str = "choreo/webhook";
/// How long a caller may take for the handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How often the one that acts looks whether the certificate is due.
const LOOK: Duration = Duration::from_secs(3600);
/// How soon what failed is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// Name of the webhook about who writes an artifact into a binding.
const ARTIFACTS: &str = "artifacts.openchoreo.dev";
/// Where reviews are asked for.
const VALIDATE: &str = "/validate";
/// Where new objects are completed.
const DEFAULT: &str = "/default";
/// Where it is written down who writes.
const SIGN: &str = "/sign";

/// How the API server reaches the webhook.
#[derive(Clone, Debug)]
pub enum Reach {
    /// By a Service of the manager's namespace, at this port.
    Service {
        /// Its name.
        name: String,
        /// Its port.
        port: u16,
    },
    /// By an address, for a manager outside of the cluster.
    Url(String),
}

/// What a webhook needs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens.
    pub listen: SocketAddr,
    /// How it is reached.
    pub reach: Reach,
    /// Name of the configuration, and of the Secret with the certificate.
    pub name: String,
    /// Who is not asked: the user that the manager itself is.
    pub own_user: Option<String>,
}

/// What reviews look at: the controllers that know an organization.
pub(crate) type World = Arc<dyn Fn(&str) -> Option<Observer> + Send + Sync>;

/// A webhook that listens.
pub(crate) struct Webhook {
    options: Options,
    namespace: String,
    client: Client,
    certificates: Certificates,
    clock: Clock,
    listener: TcpListener,
    tls: Arc<ArcSwapOption<rustls::ServerConfig>>,
}

impl Webhook {
    pub(crate) async fn new(
        options: Options,
        client: Client,
        namespace: &str,
        clock: Clock,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(options.listen).await?;
        let names = match &options.reach {
            Reach::Service { name, .. } => vec![
                name.clone(),
                format!("{name}.{namespace}"),
                format!("{name}.{namespace}.svc"),
            ],
            Reach::Url(url) => vec![host_of(url)],
        };
        Ok(Self {
            certificates: Certificates::new(client.clone(), namespace, &options.name, names, clock.clone()),
            options,
            namespace: namespace.to_owned(),
            client,
            clock,
            listener,
            tls: Arc::default(),
        })
    }

    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// Whether there is a certificate to answer with.
    pub(crate) fn is_ready(&self) -> bool {
        self.tls.load().is_some()
    }

    /// Answers until `end`.
    pub(crate) async fn serve(&self, world: World, end: CancellationToken) {
        let follow = self.certificates.follow(&self.tls);
        let state = review::Reviewer::new(self.client.clone(), world);
        let router = Router::new()
            .route(VALIDATE, post(validate))
            .route(DEFAULT, post(complete))
            .route(SIGN, post(sign))
            .with_state(Arc::new(state));
        let accept = async {
            loop {
                let Ok((stream, _)) = self.listener.accept().await else {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                };
                // Without a certificate nothing can be said.
                if let Some(config) = self.tls.load_full() {
                    tokio::spawn(connection(
                        TlsAcceptor::from(config),
                        stream,
                        router.clone(),
                        end.clone(),
                    ));
                }
            }
        };
        tokio::select! {
            () = end.cancelled() => {}
            () = follow => {}
            () = accept => {}
        }
    }

    /// Sees to it, for as long as this one acts, that there is a certificate and that the API server asks here.
    pub(crate) async fn keep(&self) {
        loop {
            let began = self.clock.now();
            match self.configure().await {
                Ok(()) => {
                    let passed = self.clock.now().duration_since(began);
                    let passed = Duration::try_from(passed).unwrap_or_default();
                    self.clock.sleep(LOOK.saturating_sub(passed)).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "the admission webhook cannot be set up yet");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn configure(&self) -> Result<(), CertificateError> {
        let current = self.certificates.current().await?;
        if let Some(current) = &current
            && !current.is_due(self.clock.now())
        {
            return self.apply(&current.authorities()).await;
        }
        // First everybody trusts the new one, then it is used: no call fails in between.
        let next = self.certificates.make(current.as_ref())?;
        self.apply(&next.authorities()).await?;
        self.certificates.store(&next).await?;
        tracing::info!(webhook = %self.options.name, until = %next.not_after(), "certificate of the webhook made");
        Ok(())
    }

    async fn apply(&self, authorities: &str) -> Result<(), CertificateError> {
        use base64::Engine as _;
        let bundle = base64::engine::general_purpose::STANDARD.encode(authorities);
        let call = |path: &str| match &self.options.reach {
            Reach::Service { name, port } => json!({
                "caBundle": bundle,
                "service": {"name": name, "namespace": self.namespace, "path": path, "port": port},
            }),
            Reach::Url(url) => {
                json!({"caBundle": bundle, "url": format!("{}{path}", url.trim_end_matches('/'))})
            }
        };
        let mut conditions = vec![json!({
            "name": "not-kubernetes-itself",
            "expression": "!request.userInfo.username.startsWith('system:') || \
                           request.userInfo.username.startsWith('system:serviceaccount:')",
        })];
        if let Some(user) = &self.options.own_user {
            conditions.push(json!({
                "name": "not-the-manager",
                "expression": format!("request.userInfo.username != '{}'", user.replace(['\\', '\''], "")),
            }));
        }
        let webhook = |name: &str, path: &str, rules: Vec<Value>, policy: &str| {
            let mut conditions = conditions.clone();
            // With the webhook away everything but the artifact of a binding can be changed.
            conditions.extend((name == ARTIFACTS).then(says_another));
            json!({
                "name": name,
                "clientConfig": call(path),
                "rules": rules,
                "matchConditions": conditions,
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": policy,
                "matchPolicy": "Equivalent",
                "timeoutSeconds": 5,
            })
        };
        // What is refused is said by plans, too, and what is left out is required.
        let (may_be_away, must_answer) = ("Ignore", "Fail");
        let configuration = |kind: &str, webhooks: Vec<Value>| {
            json!({
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": kind,
                "metadata": {"name": self.options.name, "labels": {"app.kubernetes.io/part-of": "choreo"}},
                "webhooks": webhooks,
            })
        };
        let params = PatchParams::apply(MANAGER).force();
        // Whose word it is must be known for sure: without an answer it is not written.
        let signed = json!({
            "apiGroups": [GROUP],
            "apiVersions": ["*"],
            "operations": ["CREATE", "UPDATE"],
            "resources": ["promotions", "promotiondecisions", "promotionbypasses"],
            "scope": "Namespaced",
        });
        let mut completions = vec![
            webhook("defaults.openchoreo.dev", DEFAULT, default_rules(), may_be_away),
            webhook(
                "signatures.openchoreo.dev",
                SIGN,
                vec![signed.clone()],
                must_answer,
            ),
        ];
        // The platform itself writes artifacts into bindings as well, and says on whose behalf. Whom it does so as must be known.
        if self.options.own_user.is_some() {
            let bindings = rule(&["CREATE", "UPDATE"], |kind| binding::KINDS.contains(&kind));
            completions.push(webhook(ARTIFACTS, SIGN, vec![bindings], must_answer));
        } else {
            tracing::warn!(
                "--own-user is not given: who writes an artifact into a binding is not written down"
            );
        }
        let object = configuration("MutatingWebhookConfiguration", completions);
        let api: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        api.patch(&self.options.name, &params, &Patch::Apply(&object))
            .await?;
        // What may run is decided by these statuses. Whom the platform itself writes them as must be known, or it would keep itself
        // from it.
        let statuses = json!({
            "apiGroups": [GROUP],
            "apiVersions": ["*"],
            "operations": ["UPDATE"],
            "resources": ["promotions/status", "promotiondecisions/status", "promotionbypasses/status", "deployments/status"],
            "scope": "Namespaced",
        });
        let mut authors = vec![signed];
        authors.extend(self.options.own_user.is_some().then_some(statuses));
        let objects = vec![
            webhook("rules.openchoreo.dev", VALIDATE, rules(), may_be_away),
            webhook("authors.openchoreo.dev", VALIDATE, authors, must_answer),
        ];
        let object = configuration("ValidatingWebhookConfiguration", objects);
        let api: Api<ValidatingWebhookConfiguration> = Api::all(self.client.clone());
        api.patch(&self.options.name, &params, &Patch::Apply(&object))
            .await?;
        Ok(())
    }
}

/// What the API server asks about: the kinds that there are rules for, and what may happen to them.
fn rules() -> Vec<Value> {
    vec![
        rule(&["CREATE", "UPDATE"], |kind| reads(kind, false).is_some()),
        rule(&["DELETE"], |kind| reads(kind, true).is_some()),
    ]
}

/// The kinds that something may be filled in for.
fn default_rules() -> Vec<Value> {
    vec![rule(&["CREATE"], |kind| {
        default_reads(kind).is_some() || has_owner(kind)
    })]
}

fn rule(operations: &[&str], of: impl Fn(Kind) -> bool) -> Value {
    let kinds = ControlKinds::default();
    let plural = |kind: &Kind| {
        let kind = GroupKind::new(GROUP, kind.as_str());
        kinds.resource(&kind).map(|resource| resource.plural.clone())
    };
    let wanted = Kind::ALL.iter().filter(|kind| of(**kind));
    let resources: Vec<String> = wanted.filter_map(plural).collect();
    json!({
        "apiGroups": [GROUP], "apiVersions": ["v1alpha1"], "operations": operations,
        "resources": resources, "scope": "*",
    })
}

/// The condition that a binding says another artifact than before, or that somebody else had it say so.
fn says_another() -> Value {
    let artifact = |of: &str| {
        format!("({of} != null && has({of}.spec) && has({of}.spec.artifactRef) ? {of}.spec.artifactRef : '')")
    };
    let annotation = |of: &str, key: &str| {
        format!(
            "({of} != null && has({of}.metadata.annotations) && '{key}' in {of}.metadata.annotations \
             ? {of}.metadata.annotations['{key}'] : '')"
        )
    };
    let mut differ = vec![format!("{} != {}", artifact("object"), artifact("oldObject"))];
    for key in AUTHORSHIP {
        let (now, before) = (annotation("object", key), annotation("oldObject", key));
        differ.push(format!("{now} != {before}"));
    }
    json!({"name": "says-another-artifact", "expression": differ.join(" || ")})
}

fn host_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default().to_owned(),
        None => authority.split(':').next().unwrap_or_default().to_owned(),
    }
}

async fn connection(acceptor: TlsAcceptor, stream: TcpStream, router: Router, end: CancellationToken) {
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await else {
        return;
    };
    let server = auto::Builder::new(TokioExecutor::new());
    let serve = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(serve);
    tokio::select! {
        _ = serve.as_mut() => {}
        () = end.cancelled() => {
            serve.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(Duration::from_secs(2), serve).await;
        }
    }
}

async fn validate(
    State(reviewer): State<Arc<review::Reviewer>>,
    axum::Json(body): axum::Json<Value>,
) -> axum::Json<Value> {
    axum::Json(reviewer.validate(&body).await)
}

async fn sign(axum::Json(body): axum::Json<Value>) -> axum::Json<Value> {
    axum::Json(review::Reviewer::sign(&body))
}

async fn complete(
    State(reviewer): State<Arc<review::Reviewer>>,
    axum::Json(body): axum::Json<Value>,
) -> axum::Json<Value> {
    axum::Json(reviewer.complete(&body).await)
}
