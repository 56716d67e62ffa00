//! Clusters behind real HTTP, without any controllers: what a manager works on.

use std::sync::Arc;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use choreo_api::labels;
use choreo_apiserver::authn::Authenticator;
use choreo_apiserver::serve::{ServeOptions, serve, tls_settings};
use choreo_apiserver::tls::{Identity, Pki, local_names};
use choreo_apiserver::{ApiServer, UserInfo};
use choreo_controllers::install;
use choreo_store::Store;
use jiff::Timestamp;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::discovery::{Discovery, Scope, verbs};
use kube::{Client, Config, ResourceExt};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::proxy::Proxy;

/// The environment variable that names the kubeconfig of a control plane to test with, instead of an embedded one.
pub const KUBECONFIG: &str = "CHOREO_TEST_KUBECONFIG";

/// Tokens of administrators of the embedded clusters. There are two, so that one can be taken back.
pub const TOKENS: [&str; 2] = ["first-token", "second-token"];

/// Clusters behind real HTTP. The control plane is the cluster that [`KUBECONFIG`] names if it is set; the data plane is
/// embedded, with simulated nodes.
pub struct Bed {
    /// The control plane, past all proxies.
    pub control: Cluster,
    /// The data plane, past all proxies.
    pub plane: Cluster,
    /// In front of the control plane.
    pub control_proxy: Proxy,
    /// In front of the data plane.
    pub plane_proxy: Proxy,
    control_config: Config,
    plane_url: String,
    authority: String,
    administrator: Identity,
    server: ApiServer,
    store: Store,
    shutdown: CancellationToken,
}

impl Bed {
    /// Empty clusters: the control plane has not even definitions (unless it is somebody's), the data plane has those of the
    /// operators that a data plane has.
    ///
    /// # Errors
    /// When something does not start.
    pub async fn start() -> anyhow::Result<Self> {
        crate::platform::start_logging();
        let store = Store::in_memory();
        let mut authenticator = Authenticator::new();
        for token in TOKENS {
            authenticator = authenticator.with_token(token, UserInfo::admin());
        }
        let options = choreo_apiserver::Options {
            authenticator,
            clusters: vec!["control".to_owned(), "local".to_owned(), "second".to_owned()],
            ..choreo_apiserver::Options::default()
        };
        let server = ApiServer::new(store.clone(), options).context("start the API server")?;
        let shutdown = CancellationToken::new();
        server.start_controllers(&shutdown);
        let local = server.cluster_client("local", &UserInfo::admin());
        install::definitions(&local, &install::data_plane()).await?;
        let gateway = crate::gateway::Gateway::bind().context("bind the gateway's ports")?;
        install::data_plane_defaults(&local, &gateway.ports).await?;
        tokio::spawn(choreo_node::run(
            local.clone(),
            choreo_node::Options::default(),
            shutdown.clone(),
        ));
        gateway.start(local.clone(), &shutdown)?;
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("https://{}", listener.local_addr()?);
        let pki = Pki::ephemeral(&local_names(), Timestamp::now())?;
        tokio::spawn(serve(
            listener,
            tls_settings(pki.server_config()?),
            Arc::new(server.authenticator()),
            server.router(),
            ServeOptions::default(),
            shutdown.clone(),
        ));
        let embedded = embedded_config(&url, pki.authority_pem()).await?;
        let mut local_config = embedded.clone();
        local_config.cluster_url = format!("{url}/clusters/local").parse()?;
        let control_config = match std::env::var(KUBECONFIG) {
            Ok(path) => {
                let kubeconfig = Kubeconfig::read_from(&path).with_context(|| format!("read {path}"))?;
                let config =
                    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
                anyhow::ensure!(
                    config.auth_info.token.is_some(),
                    "the user of {path} needs a token: a client certificate cannot go through the proxy that does harm"
                );
                config
            }
            Err(_) => embedded,
        };
        let control = Cluster::new("control", Client::try_from(control_config.clone())?);
        if Self::is_foreign() {
            sweep(&control)
                .await
                .context("remove what earlier tests have left")?;
        }
        Ok(Self {
            control,
            plane: Cluster::new("local", local),
            control_proxy: Proxy::start(&control_config).await?,
            plane_proxy: Proxy::start(&local_config).await?,
            control_config,
            plane_url: format!("{url}/clusters/local"),
            authority: pki.authority_pem().to_owned(),
            administrator: pki.admin().clone(),
            server,
            store,
            shutdown,
        })
    }

    /// Settings of a client of the control plane that goes through the proxy.
    pub fn control_config(&self) -> Config {
        self.control_proxy.config(&self.control_config)
    }

    /// Settings of a client of the control plane, past all proxies.
    pub fn direct_config(&self) -> Config {
        self.control_config.clone()
    }

    /// Address of the data plane, past all proxies.
    pub fn plane_url(&self) -> &str {
        &self.plane_url
    }

    /// The authority behind the data plane's certificate, in PEM form.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The certificate and the key that an administrator of the embedded clusters signs in with.
    pub fn administrator(&self) -> &Identity {
        &self.administrator
    }

    /// Another cluster for workloads, without nodes: what is in it, and its address past all proxies.
    ///
    /// # Errors
    /// When it cannot be prepared.
    pub async fn second_plane(&self) -> anyhow::Result<(Cluster, String)> {
        let client = self.server.cluster_client("second", &UserInfo::admin());
        install::definitions(&client, &install::data_plane()).await?;
        let url = self.plane_url.replace("/clusters/local", "/clusters/second");
        Ok((Cluster::new("second", client), url))
    }

    /// As [`Bed::control_config`], as somebody with this token.
    pub fn control_config_as(&self, token: &str) -> Config {
        let mut config = self.control_config();
        config.auth_info = kube::config::AuthInfo {
            token: Some(token.to_owned().into()),
            ..Default::default()
        };
        config
    }

    /// Whether the control plane is a cluster of its own, and not embedded.
    pub fn is_foreign() -> bool {
        std::env::var_os(KUBECONFIG).is_some()
    }

    /// An organization of this name with a data plane behind the proxy, whose token is in a Secret, and the usual environments,
    /// pipeline, project and classes.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn organization(&self, name: &str) -> anyhow::Result<()> {
        let control = &self.control;
        control.apply(json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": "Organization", "metadata": {"name": name}, "spec": {}})).await?;
        control.wait_for("Namespace", "", name, "made", |_| true).await?;
        self.token(name, TOKENS[0]).await?;
        control
            .apply(self.data_plane(name, "default", &self.plane_proxy.url()))
            .await?;
        for mut object in choreo_controllers::defaults::defaults_without_planes() {
            if object.metadata.namespace.is_none() {
                continue;
            }
            object.metadata.namespace = Some(name.to_owned());
            let mut value = serde_json::to_value(&object)?;
            value["metadata"]["labels"]["openchoreo.dev/organization"] = json!(name);
            control.apply(value).await?;
        }
        Ok(())
    }

    /// A data plane as a manifest.
    pub fn data_plane(&self, organization: &str, name: &str, server: &str) -> Value {
        let gateway = |name: &str| json!({"name": name, "namespace": "openchoreo-data-plane"});
        json!({
            "apiVersion": "openchoreo.dev/v1alpha1",
            "kind": "DataPlane",
            "metadata": {"name": name, "namespace": organization},
            "spec": {
                "kubernetesCluster": {
                    "server": server,
                    "auth": {"bearerToken": {"secretRef": "plane-credentials"}},
                },
                "gateway": {
                    "publicVirtualHost": "openchoreoapis.localhost",
                    "organizationVirtualHost": "openchoreoapis.internal",
                    "public": gateway("gateway-external"),
                    "organization": gateway("gateway-internal"),
                },
                "secretStoreRef": {"name": "default", "kind": "ClusterSecretStore"},
            },
        })
    }

    /// Puts a token into the Secret of an organization's data plane.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn token(&self, organization: &str, token: &str) -> anyhow::Result<()> {
        self.control
            .apply(json!({
                "apiVersion": "v1", "kind": "Secret",
                "metadata": {"name": "plane-credentials", "namespace": organization},
                "data": {"token": BASE64.encode(token)},
            }))
            .await?;
        Ok(())
    }

    /// Stops everything.
    pub fn stop(self) {
        self.shutdown.cancel();
        self.server.drain();
        self.store.close();
    }
}

/// Ends the organizations that earlier tests have left in a cluster that has nobody who empties namespaces: an API server alone. Every
/// manager that comes after them would go on looking after them.
async fn sweep(control: &Cluster) -> anyhow::Result<()> {
    // Whoever empties namespaces also makes this one.
    if control
        .get("ServiceAccount.", "default", "default")
        .await?
        .is_some()
    {
        return Ok(());
    }
    let ours = ListParams::default().labels(labels::ORGANIZATION);
    let namespaces = control.api("Namespace.", "").await?;
    let all = namespaces.list(&ours).await?;
    // An API server does not let go of this one, and the platform's defaults are in it.
    let left = all
        .iter()
        .map(ResourceExt::name_any)
        .filter(|name| name != "default");
    let left: Vec<String> = left.collect();
    if left.is_empty() {
        return Ok(());
    }
    let unheld = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    let discovery = Discovery::new(control.client.clone()).run_aggregated().await?;
    for group in discovery.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            let deletable = capabilities.supports_operation(verbs::DELETE_COLLECTION);
            if capabilities.scope != Scope::Namespaced || !deletable || resource.group == "metrics.k8s.io" {
                continue;
            }
            for namespace in &left {
                let api: Api<DynamicObject> =
                    Api::namespaced_with(control.client.clone(), namespace, &resource);
                api.delete_collection(&DeleteParams::default(), &ListParams::default())
                    .await?;
                for held in api.list(&ListParams::default()).await? {
                    api.patch(&held.name_any(), &PatchParams::default(), &unheld)
                        .await?;
                }
            }
        }
    }
    for name in &left {
        if let Ok(organizations) = control.api("Organization", "").await
            && organizations.get_opt(name).await?.is_some()
        {
            organizations.delete(name, &DeleteParams::default()).await?;
            let _ = organizations.patch(name, &PatchParams::default(), &unheld).await;
        }
        namespaces.delete(name, &DeleteParams::default()).await?;
        let mut namespace = namespaces.get(name).await?;
        namespace.data["spec"]["finalizers"] = json!([]);
        let body = serde_json::to_vec(&namespace)?;
        let request = http::Request::put(format!("/api/v1/namespaces/{name}/finalize"))
            .header("content-type", "application/json")
            .body(body)?;
        control.client.request::<Value>(request).await?;
    }
    Ok(())
}

async fn embedded_config(url: &str, authority: &str) -> anyhow::Result<Config> {
    let kubeconfig: Kubeconfig = serde_json::from_value(json!({
        "clusters": [{"name": "bed", "cluster": {
            "server": url, "certificate-authority-data": BASE64.encode(authority),
        }}],
        "users": [{"name": "bed", "user": {"token": TOKENS[0]}}],
        "contexts": [{"name": "bed", "context": {"cluster": "bed", "user": "bed"}}],
        "current-context": "bed",
    }))?;
    Ok(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)
}
