//! A cluster in memory with the gateway on it, backends, and a client.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use choreo_apiserver::{ApiServer, Options as ApiOptions, UserInfo};
use choreo_gateway::{Authority, CONTROLLER, Dial, Options, Sockets, Stream, Target};
use choreo_store::Store;
use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::api::{Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) const GATEWAY: &str = "gateway.networking.k8s.io/v1/Gateway/gateways";
pub(crate) const HTTP_ROUTE: &str = "gateway.networking.k8s.io/v1/HTTPRoute/httproutes";
pub(crate) const GRPC_ROUTE: &str = "gateway.networking.k8s.io/v1/GRPCRoute/grpcroutes";
pub(crate) const TLS_ROUTE: &str = "gateway.networking.k8s.io/v1/TLSRoute/tlsroutes";
pub(crate) const TCP_ROUTE: &str = "gateway.networking.k8s.io/v1/TCPRoute/tcproutes";
pub(crate) const UDP_ROUTE: &str = "gateway.networking.k8s.io/v1/UDPRoute/udproutes";
pub(crate) const GRANT: &str = "gateway.networking.k8s.io/v1beta1/ReferenceGrant/referencegrants";
pub(crate) const SECURITY: &str = "gateway.envoyproxy.io/v1alpha1/SecurityPolicy/securitypolicies";
pub(crate) const TRAFFIC: &str = "gateway.envoyproxy.io/v1alpha1/BackendTrafficPolicy/backendtrafficpolicies";
pub(crate) const CLIENT: &str = "gateway.envoyproxy.io/v1alpha1/ClientTrafficPolicy/clienttrafficpolicies";
pub(crate) const FILTER: &str = "gateway.envoyproxy.io/v1alpha1/HTTPRouteFilter/httproutefilters";
pub(crate) const BACKEND: &str = "gateway.envoyproxy.io/v1alpha1/Backend/backends";
const CLASS: &str = "gateway.networking.k8s.io/v1/GatewayClass/gatewayclasses";
const SERVICE: &str = "v1/Service/services";
pub(crate) const SECRET: &str = "v1/Secret/secrets";
const SLICE: &str = "discovery.k8s.io/v1/EndpointSlice/endpointslices";

/// The ports of the gateway.
#[derive(Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) http: u16,
    pub(crate) https: u16,
    pub(crate) tls: u16,
    pub(crate) tcp: u16,
    pub(crate) udp: u16,
}

/// Addresses of pods, mapped to where tests really listen.
#[derive(Clone, Default)]
pub(crate) struct Pods(Arc<parking_lot::Mutex<HashMap<SocketAddr, SocketAddr>>>);

#[async_trait]
impl Dial for Pods {
    async fn dial(&self, target: &Target) -> io::Result<Box<dyn Stream>> {
        let real = self.0.lock().get(&target.address).copied();
        let real = real.ok_or(io::ErrorKind::ConnectionRefused)?;
        let stream = TcpStream::connect(real).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}

pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) ports: Ports,
    pub(crate) authority: String,
    pub(crate) pods: Pods,
    store: Store,
    next: std::sync::atomic::AtomicU8,
    _shutdown: DropGuard,
}

impl Cluster {
    /// With a Gateway `public` that has a listener of each protocol for `*.localhost`.
    pub(crate) async fn start() -> Self {
        let pods = Pods::default();
        let mut cluster = Self::bare(Arc::new(pods.clone())).await;
        cluster.pods = pods;
        cluster.gateway().await;
        cluster
    }

    /// With the kinds, and no objects.
    pub(crate) async fn bare(dial: Arc<dyn Dial>) -> Self {
        let store = Store::in_memory();
        let server = ApiServer::new(store.clone(), ApiOptions::default()).unwrap();
        let shutdown = CancellationToken::new();
        server.start_controllers(&shutdown);
        let client = server.cluster_client("control", &UserInfo::admin());
        let local = IpAddr::from(Ipv4Addr::LOCALHOST);
        let mut sockets = Sockets::default();
        let ports = Ports {
            http: sockets.bind_tcp(local, 0).unwrap(),
            https: sockets.bind_tcp(local, 0).unwrap(),
            tls: sockets.bind_tcp(local, 0).unwrap(),
            tcp: sockets.bind_tcp(local, 0).unwrap(),
            udp: sockets.bind_udp(local, 0).unwrap(),
        };
        let authority = Authority::from_pem(&Authority::generate(jiff::Timestamp::now()).unwrap()).unwrap();
        let cluster = Self {
            client: client.clone(),
            ports,
            authority: authority.certificate_pem().to_owned(),
            pods: Pods::default(),
            store,
            next: 1.into(),
            _shutdown: shutdown.clone().drop_guard(),
        };
        for definition in choreo_api::foreign::foreign_crds() {
            let group = &definition.spec.group;
            if group.ends_with("networking.k8s.io") || group.ends_with("envoyproxy.io") {
                Api::all(client.clone())
                    .create(&Default::default(), &definition)
                    .await
                    .unwrap();
            }
        }
        let options = Options {
            dial,
            authority: Some(authority),
            sockets,
            address: local,
        };
        tokio::spawn(choreo_gateway::run(client, options, shutdown));
        cluster
    }

    pub(crate) async fn gateway(&self) {
        let class = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "local"}, "spec": {"controllerName": CONTROLLER}});
        let (group, version, kind, plural) = parts(CLASS);
        let resource = resource(&group, &version, &kind, &plural);
        Api::<DynamicObject>::all_with(self.client.clone(), &resource)
            .create(&Default::default(), &serde_json::from_value(class).unwrap())
            .await
            .unwrap();
        let Ports {
            http,
            https,
            tls,
            tcp,
            udp,
        } = self.ports;
        self.create(GATEWAY, "public", json!({"gatewayClassName": "local", "listeners": [
            {"name": "http", "port": http, "protocol": "HTTP", "hostname": "*.localhost"},
            {"name": "https", "port": https, "protocol": "HTTPS", "hostname": "*.localhost",
             "tls": {"mode": "Terminate", "options": {choreo_gateway::ISSUER_OPTION: choreo_gateway::LOCAL_ISSUER}}},
            {"name": "tls", "port": tls, "protocol": "TLS", "hostname": "*.localhost", "tls": {"mode": "Passthrough"}},
            {"name": "tcp", "port": tcp, "protocol": "TCP"},
            {"name": "udp", "port": udp, "protocol": "UDP"},
        ]}))
        .await;
    }

    pub(crate) fn api(&self, kind: &str) -> Api<DynamicObject> {
        self.api_in(kind, "default")
    }

    pub(crate) fn api_in(&self, kind: &str, namespace: &str) -> Api<DynamicObject> {
        let (group, version, kind, plural) = parts(kind);
        let resource = resource(&group, &version, &kind, &plural);
        match namespace {
            "" => Api::all_with(self.client.clone(), &resource),
            namespace => Api::namespaced_with(self.client.clone(), namespace, &resource),
        }
    }

    pub(crate) async fn create(&self, kind: &str, name: &str, spec: Value) {
        self.object(kind, "default", json!({"metadata": {"name": name}, "spec": spec}))
            .await;
    }

    /// Creates an object; an empty namespace is none.
    pub(crate) async fn object(&self, kind: &str, namespace: &str, mut object: Value) {
        let (group, version, name, _) = parts(kind);
        object["apiVersion"] = json!(if group.is_empty() {
            version
        } else {
            format!("{group}/{version}")
        });
        object["kind"] = json!(name);
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        self.api_in(kind, namespace)
            .create(&Default::default(), &object)
            .await
            .unwrap();
    }

    pub(crate) async fn patch(&self, kind: &str, name: &str, patch: Value) {
        let params = PatchParams::default();
        self.api(kind)
            .patch(name, &params, &Patch::Merge(&patch))
            .await
            .unwrap();
    }

    pub(crate) async fn delete(&self, kind: &str, name: &str) {
        self.api(kind).delete(name, &Default::default()).await.unwrap();
    }

    /// A Service on port 80 with these servers as its endpoints. Their addresses.
    pub(crate) async fn service(&self, name: &str, backends: &[&Server]) -> Vec<SocketAddr> {
        self.service_with(name, json!({"port": 80}), backends).await
    }

    pub(crate) async fn service_with(
        &self,
        name: &str,
        port: Value,
        backends: &[&Server],
    ) -> Vec<SocketAddr> {
        self.create(SERVICE, name, json!({"ports": [port]})).await;
        let addresses: Vec<SocketAddr> = backends.iter().map(|backend| self.pod(backend.address)).collect();
        let slice = slice(name, &addresses);
        self.object(SLICE, "default", slice).await;
        addresses
    }

    /// A pod's address that leads to a server.
    pub(crate) fn pod(&self, real: SocketAddr) -> SocketAddr {
        let number = self.next.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let address = SocketAddr::from(([10, 1, 0, number], 8080));
        self.pods.0.lock().insert(address, real);
        address
    }

    /// Replaces the endpoints of a Service.
    pub(crate) async fn endpoints(&self, name: &str, addresses: &[SocketAddr]) {
        let slice = slice(name, addresses);
        self.patch(
            SLICE,
            &format!("{name}-1"),
            json!({"endpoints": slice["endpoints"]}),
        )
        .await;
    }

    /// A route for a host whose one rule leads to a Service, unless `rules` says more.
    pub(crate) async fn route(&self, name: &str, rules: Value) {
        let host = format!("{name}.localhost");
        self.create(
            HTTP_ROUTE,
            name,
            json!({"parentRefs": [{"name": "public"}], "hostnames": [host], "rules": rules}),
        )
        .await;
        self.accepted(HTTP_ROUTE, name).await;
    }

    /// Waits until a route is accepted; its table is in use then.
    pub(crate) async fn accepted(&self, kind: &str, name: &str) {
        self.until(kind, name, |route| {
            let generation = &route["metadata"]["generation"];
            let conditions = &route["status"]["parents"][0]["conditions"];
            conditions[0]["status"] == "True" && conditions[0]["observedGeneration"] == *generation
        })
        .await;
    }

    /// Attaches a policy to the HTTPRoute of its name and waits until it is accepted.
    pub(crate) async fn policy(&self, kind: &str, name: &str, mut spec: Value) {
        spec["targetRefs"] =
            json!([{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": name}]);
        self.create(kind, name, spec).await;
        self.until(kind, name, |policy| {
            condition(policy, "ancestors", "Accepted") == Some("True".to_owned())
        })
        .await;
    }

    /// Waits until the object is as wanted: asks now, and after every write.
    pub(crate) async fn until(&self, kind: &str, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let api = self.api(kind);
        let cluster = self.store.cluster("control");
        let mut writes = cluster.watch(None, None, cluster.revision()).unwrap();
        let asking = async {
            loop {
                if let Some(found) = api.get_opt(name).await.unwrap() {
                    let found = serde_json::to_value(found).unwrap();
                    if wanted(&found) {
                        return found;
                    }
                }
                writes.next().await.unwrap();
            }
        };
        match tokio::time::timeout(Duration::from_secs(30), asking).await {
            Ok(found) => found,
            Err(_) => panic!(
                "{kind} {name} did not become as wanted: {:#?}",
                api.get_opt(name).await.unwrap()
            ),
        }
    }

    /// A request over a connection of its own. `host` is without `.localhost`.
    pub(crate) async fn get(&self, host: &str, path: &str) -> Reply {
        self.send(host, Request::get(path)).await
    }

    pub(crate) async fn send(&self, host: &str, request: http::request::Builder) -> Reply {
        self.send_body(host, request, Bytes::new()).await
    }

    pub(crate) async fn send_body(&self, host: &str, request: http::request::Builder, body: Bytes) -> Reply {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.ports.http))
            .await
            .unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        let driver = tokio::spawn(connection);
        let request = request
            .header("host", format!("{host}.localhost"))
            .body(Full::new(body))
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        let reply = Reply::of(response).await;
        driver.abort();
        reply
    }

    /// Asks again until the answer is as wanted, for changes that no status tells of.
    pub(crate) async fn eventually(&self, host: &str, path: &str, wanted: impl Fn(&Reply) -> bool) {
        let asking = async {
            loop {
                let reply = self.get(host, path).await;
                if wanted(&reply) {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), asking)
            .await
            .expect("never as wanted");
    }
}

fn slice(service: &str, addresses: &[SocketAddr]) -> Value {
    let endpoints: Vec<Value> = addresses
        .iter()
        .map(|address| json!({"addresses": [address.ip().to_string()], "conditions": {"ready": true}}))
        .collect();
    json!({
        "metadata": {"name": format!("{service}-1"), "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "endpoints": endpoints,
        "ports": [{"name": "", "port": addresses.first().map_or(8080, SocketAddr::port), "protocol": "TCP"}],
    })
}

pub(crate) fn backend_ref(service: &str) -> Value {
    json!({"name": service, "port": 80})
}

/// The status of a condition in the first entry.
pub(crate) fn condition(object: &Value, entries: &str, kind: &str) -> Option<String> {
    let conditions = object["status"][entries][0]["conditions"].as_array()?;
    let found = conditions.iter().find(|condition| condition["type"] == kind)?;
    found["status"].as_str().map(str::to_owned)
}

fn parts(kind: &str) -> (String, String, String, String) {
    let parts: Vec<&str> = kind.split('/').collect();
    match parts[..] {
        [group, version, kind, plural] => (group.into(), version.into(), kind.into(), plural.into()),
        [version, kind, plural] => (String::new(), version.into(), kind.into(), plural.into()),
        _ => panic!("{kind}"),
    }
}

fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource {
        group: group.into(),
        version: version.into(),
        api_version: if group.is_empty() {
            version.into()
        } else {
            format!("{group}/{version}")
        },
        kind: kind.into(),
        plural: plural.into(),
    }
}

/// An answer that was read to its end.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) async fn of(response: Response<Incoming>) -> Self {
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Self {
            status: parts.status,
            headers: parts.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        }
    }

    /// What the echo server saw.
    pub(crate) fn seen(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not an echo: {self:?}"))
    }
}

pub(crate) type Body = BoxBody<Bytes, Infallible>;

pub(crate) fn text(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).boxed()
}

/// A server on a free port, which ends when it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Answers with what `handler` says, over HTTP/1.1 or HTTP/2.
    pub(crate) async fn http<F>(handler: F) -> Self
    where
        F: Fn(Request<Incoming>) -> BoxFuture<'static, Response<Body>> + Clone + Send + Sync + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let handler = handler.clone();
                connections.spawn(async move {
                    let service = service_fn(move |request| {
                        let answer = handler(request);
                        async move { Ok::<_, Infallible>(answer.await) }
                    });
                    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    let _ = builder
                        .serve_connection_with_upgrades(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { address, task }
    }

    /// Tells what it sees, and its name.
    pub(crate) async fn echo(name: &'static str) -> Self {
        Self::http(move |request| {
            Box::pin(async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                let mut headers = serde_json::Map::new();
                for (name, value) in &parts.headers {
                    let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
                    let known = headers.entry(name.as_str()).or_insert_with(|| json!(""));
                    let joined = match known.as_str() {
                        Some("") | None => text,
                        Some(before) => format!("{before}|{text}"),
                    };
                    *known = json!(joined);
                }
                let seen = json!({
                    "name": name, "method": parts.method.as_str(), "path": parts.uri.path_and_query().map(|p| p.as_str()),
                    "headers": headers, "body": String::from_utf8_lossy(&body), "version": format!("{:?}", parts.version),
                });
                Response::builder().header("server", "echo").body(text(seen.to_string())).unwrap()
            })
        })
        .await
    }

    /// Gives every connection to `handler`.
    pub(crate) async fn raw<F>(handler: F) -> Self
    where
        F: Fn(TcpStream) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(handler(stream));
            }
        });
        Self { address, task }
    }
}
