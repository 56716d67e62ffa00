//! A cluster whose Pods are containers, an image of our own, and what tests ask for.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use bollard::{
    Docker,
    query_parameters::{ImportImageOptions, ListNetworksOptions, ListVolumesOptions},
};
use choreo_node::{Agent, AgentOptions, Options};
use choreo_store::Store;
use choreo_testkit::probe;
use kube::{
    Api,
    api::{DeleteParams, PostParams},
    core::DynamicObject,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::OnceCell,
};

use crate::support::{Cluster, POD, condition};

/// The image of the probe, which the tests load.
pub(crate) use probe::IMAGE;

/// The engine, or `None` with a word about it where tests may do without.
pub(crate) fn engine() -> Option<String> {
    match std::env::var("CHOREO_TEST_CONTAINER_HOST") {
        Ok(host) => Some(host),
        Err(_) if std::env::var_os("CI").is_some() => {
            panic!("CHOREO_TEST_CONTAINER_HOST is not set: in CI these tests are run")
        }
        Err(_) => {
            eprintln!(
                "NOT RUN: CHOREO_TEST_CONTAINER_HOST names no container engine (`cargo xtask test` starts one)"
            );
            None
        }
    }
}

/// A cluster with an agent.
pub(crate) struct Bed {
    pub(crate) cluster: Cluster,
    pub(crate) agent: Agent,
    host: String,
    folder: tempfile::TempDir,
    done: bool,
}

impl Bed {
    pub(crate) async fn start() -> Option<Self> {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut AgentOptions)) -> Option<Self> {
        let host = engine()?;
        image(&host).await;
        // The paths of sockets below it have a limit.
        let folder = tempfile::Builder::new().prefix("cn").tempdir_in("/tmp").unwrap();
        let mut options = options(&host, folder.path());
        change(&mut options);
        let agent = Agent::connect(options).await.unwrap();
        let cluster = cluster(Store::in_memory(), &agent);
        let bed = Self {
            cluster,
            agent,
            host,
            folder,
            done: false,
        };
        bed.until_node(|node| condition(node, "Ready")["status"] == "True")
            .await;
        Some(bed)
    }

    /// As if the process had been killed and started again: everything of it but the store, the folder and the containers is new.
    pub(crate) async fn restart(mut self, between: impl AsyncFnOnce(&Bed)) -> Self {
        let store = self.cluster.store.clone();
        let namespace = self.cluster.namespace.clone();
        // Dropping it cuts everything off where it is.
        self.cluster = Cluster::start_on(
            Store::in_memory(),
            Options {
                simulator: false,
                workloads: false,
                operators: false,
                containers: None,
            },
        );
        between(&self).await;
        let agent = Agent::connect(options(&self.host, self.folder.path()))
            .await
            .unwrap();
        self.cluster = cluster(store, &agent);
        self.cluster.namespace = namespace;
        self.agent = agent;
        self
    }

    /// Waits until the node is as wanted.
    pub(crate) async fn until_node(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let api = Api::<k8s_openapi::api::core::v1::Node>::all(self.cluster.client.clone());
        let ask = async || {
            let node = api.get_opt(choreo_node::NODE).await.unwrap()?;
            Some(serde_json::to_value(node).unwrap()).filter(|node| wanted(node))
        };
        let found = self.cluster.after_writes(ask).await;
        found.expect("the node did not become as wanted")
    }

    /// The folder of the agent.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Makes a namespace, which everything is asked of from now on.
    pub(crate) async fn namespace(&mut self, name: &str, labels: Value) {
        let object =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        let api = Api::<k8s_openapi::api::core::v1::Namespace>::all(self.cluster.client.clone());
        let object = serde_json::from_value(object).unwrap();
        api.create(&PostParams::default(), &object).await.unwrap();
        self.cluster.namespace = name.to_owned();
    }

    pub(crate) async fn pod(&self, name: &str, spec: Value) {
        self.cluster.create(POD, pod(name, spec)).await;
    }

    pub(crate) async fn until_pod(&self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.cluster.until(POD, name, wanted).await
    }

    pub(crate) async fn until_ready(&self, name: &str) -> Value {
        self.until_pod(name, is_ready).await
    }

    /// Deletes a Pod and waits until it is gone.
    pub(crate) async fn delete_pod(&self, name: &str) {
        let api = self.cluster.api(POD);
        api.delete(name, &DeleteParams::default()).await.unwrap();
        let gone = self
            .cluster
            .after_writes(async || api.get_opt(name).await.unwrap().is_none().then_some(()))
            .await;
        assert!(gone.is_some(), "Pod {name} was not removed");
    }

    /// One HTTP request to a Pod, by way of the agent.
    pub(crate) async fn get(&self, pod: &Value, path: &str) -> Result<String, String> {
        let address: IpAddr = pod["status"]["podIP"].as_str().unwrap().parse().unwrap();
        let at = SocketAddr::new(address, 8080);
        let namespace = pod["metadata"]["namespace"].as_str().unwrap();
        let mut stream = self
            .agent
            .dial(namespace, at)
            .await
            .map_err(|error| error.to_string())?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: pod\r\nconnection: close\r\n\r\n");
        stream
            .write_all(request.as_bytes())
            .await
            .map_err(|error| error.to_string())?;
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .await
            .map_err(|error| error.to_string())?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
        if head.contains(" 200 ") {
            Ok(body.to_owned())
        } else {
            Err(format!("{head} {body}"))
        }
    }

    /// Waits until an event about an object was written whose reason and message contain these words.
    pub(crate) async fn until_event(&self, reason: &str, words: &str) -> Value {
        let events = self.cluster.api("v1/Event/events");
        let ask = async || {
            let all = events.list(&Default::default()).await.unwrap();
            let mut all = all
                .items
                .into_iter()
                .map(|event: DynamicObject| serde_json::to_value(event).unwrap());
            all.find(|event| {
                event["reason"] == reason && event["message"].as_str().unwrap_or_default().contains(words)
            })
        };
        match self.cluster.after_writes(ask).await {
            Some(event) => event,
            None => {
                let all = self.cluster.list("v1/Event/events").await;
                let told: Vec<_> = all
                    .iter()
                    .map(|event| format!("{}: {}", event["reason"], event["message"]))
                    .collect();
                panic!("no event {reason} with {words:?}; there are {told:#?}")
            }
        }
    }

    pub(crate) fn docker(&self) -> Docker {
        docker(&self.host)
    }

    /// The ids of the containers of this installation, by the names in their Pods.
    pub(crate) async fn containers(&self) -> BTreeMap<String, String> {
        let filters = json!({"label": [self.label()]}).to_string();
        let filters: String = form_urlencoded::byte_serialize(filters.as_bytes()).collect();
        let found = plain(
            &self.host,
            &format!("/v1.41/containers/json?all=true&filters={filters}"),
        )
        .await;
        let found = found.as_array().cloned().unwrap();
        let named = found.into_iter().map(|container| {
            let text = |key: &str| container["Labels"][key].as_str().unwrap_or_default().to_owned();
            let name = match text("choreo.dev/role").as_str() {
                "relay" => format!("relay of {}", text("choreo.dev/cell")),
                _ => format!(
                    "{}/{}",
                    text("io.kubernetes.pod.name"),
                    text("io.kubernetes.container.name")
                ),
            };
            (name, container["Id"].as_str().unwrap().to_owned())
        });
        named.collect()
    }

    /// The image of relays, which is made from the example `relay`.
    pub(crate) async fn relay_image(&self) -> String {
        let id = self.containers().await["relay of default"].clone();
        let found = plain(&self.host, &format!("/v1.41/containers/{id}/json")).await;
        found["Config"]["Labels"]["choreo.dev/image"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    fn label(&self) -> String {
        let instance = std::fs::read_to_string(self.folder.path().join("instance")).unwrap();
        format!("choreo.dev/instance={}", instance.trim())
    }

    /// Removes what is there, and checks that nothing is left.
    pub(crate) async fn finish(mut self) {
        // Nobody must start anything anew meanwhile.
        self.cluster = Cluster::start_on(
            Store::in_memory(),
            Options {
                simulator: false,
                workloads: false,
                operators: false,
                containers: None,
            },
        );
        self.agent.remove_everything().await.unwrap();
        self.done = true;
        assert_eq!(self.containers().await, BTreeMap::new());
        let filters = Some([("label".to_owned(), vec![self.label()])].into());
        let networks = self
            .docker()
            .list_networks(Some(ListNetworksOptions {
                filters: filters.clone(),
            }))
            .await;
        assert_eq!(networks.unwrap().len(), 0);
        let volumes = self
            .docker()
            .list_volumes(Some(ListVolumesOptions { filters }))
            .await
            .unwrap();
        assert_eq!(volumes.volumes.unwrap_or_default().len(), 0);
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        // The test has failed: its own runtime may be at its end.
        let agent = self.agent.clone();
        let cleaner = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let _ = runtime.block_on(agent.remove_everything());
        });
        let _ = cleaner.join();
    }
}

fn options(host: &str, folder: &Path) -> AgentOptions {
    let mut options = AgentOptions::new(folder.to_owned()).unwrap();
    options.engine = Some(host.to_owned());
    options.executable = relay_program();
    options
}

fn cluster(store: Store, agent: &Agent) -> Cluster {
    let options = Options {
        simulator: false,
        operators: false,
        containers: Some(agent.clone()),
        ..Options::default()
    };
    Cluster::start_on(store, options)
}

/// The example `relay`, which cargo builds with the tests.
fn relay_program() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let target = own.parent().and_then(Path::parent).unwrap();
    let program = target.join("examples/relay");
    assert!(
        program.is_file(),
        "{} is missing: cargo build -p choreo-node --examples",
        program.display()
    );
    program
}

/// An answer of the engine as it is: bollard refuses lists with states that it does not know.
async fn plain(host: &str, path: &str) -> Value {
    let socket = host.trim_start_matches("unix://");
    let mut stream = tokio::net::UnixStream::connect(socket).await.unwrap();
    // In this version, the end of the answer is the end of the connection.
    let request = format!("GET {path} HTTP/1.0\r\nhost: engine\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap()
}

fn docker(host: &str) -> Docker {
    Docker::connect_with_unix(host, 120, bollard::API_DEFAULT_VERSION).unwrap()
}

/// Compiles the probe and loads its image, once for all tests of this process.
async fn image(host: &str) {
    static LOADED: OnceCell<()> = OnceCell::const_new();
    LOADED
        .get_or_init(|| async {
            let docker = docker(host).negotiate_version().await.unwrap();
            let archive = tokio::task::spawn_blocking(probe::archive)
                .await
                .unwrap()
                .unwrap();
            let pieces = futures::stream::iter([Ok::<_, std::io::Error>(bytes::Bytes::from(archive))]);
            let mut progress =
                Box::pin(docker.import_image_stream(ImportImageOptions::default(), pieces, None));
            while let Some(step) = futures::StreamExt::next(&mut progress).await {
                step.unwrap();
            }
        })
        .await;
}

/// A Pod; what `spec` does not say is filled in.
pub(crate) fn pod(name: &str, mut spec: Value) -> Value {
    if spec.get("containers").is_none() {
        spec["containers"] = json!([{"name": "main"}]);
    }
    spec["terminationGracePeriodSeconds"] = spec
        .get("terminationGracePeriodSeconds")
        .cloned()
        .unwrap_or(json!(1));
    for list in ["containers", "initContainers"] {
        for container in spec
            .get_mut(list)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            if container.get("image").is_none() {
                container["image"] = json!(IMAGE);
            }
        }
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": spec})
}

pub(crate) fn deployment(name: &str, replicas: i64, container: &Value) -> Value {
    let template = pod(name, json!({"containers": [container]}));
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": template["metadata"], "spec": template["spec"]},
        },
    })
}

/// A Service in front of the Pods with the label `app`.
pub(crate) fn service(name: &str, app: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"selector": {"app": app}, "ports": [{"port": 80, "targetPort": 8080}]},
    })
}

pub(crate) fn is_ready(pod: &Value) -> bool {
    condition(pod, "Ready")["status"] == "True"
}

/// The status of a container of a Pod.
pub(crate) fn container<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let lists = ["containerStatuses", "initContainerStatuses"];
    let mut all = lists
        .iter()
        .flat_map(|list| pod["status"][*list].as_array().into_iter().flatten());
    all.find(|status| status["name"] == name).unwrap_or(&Value::Null)
}

/// What a container waits for.
pub(crate) fn waits_for(pod: &Value, name: &str) -> String {
    container(pod, name)["state"]["waiting"]["reason"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// Some time, for what must not happen.
pub(crate) const A_WHILE: Duration = Duration::from_millis(1500);
