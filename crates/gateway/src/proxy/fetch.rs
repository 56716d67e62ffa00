//! Fetches key sets, from servers outside and from Services of the cluster.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;

use crate::api::envoy::LoadBalancerType;
use crate::config::object::Name;
use crate::dial::{Dial, Stream};
use crate::policy::jwks::Fetch;
use crate::upstream::{Address, Endpoints, Protocol, connect};

/// How long a key set may take. Envoy's default is 5 seconds.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Largest key set, in bytes.
const LARGEST: usize = 1024 * 1024;

/// Endpoints of Services by name and port, for addresses of the form `name.namespace.svc`.
pub(crate) type Services = std::collections::HashMap<(Name, u16), Arc<Endpoints>>;

pub(crate) struct Fetcher {
    dial: Arc<dyn Dial>,
    pub(crate) services: ArcSwap<Services>,
}

impl Fetcher {
    pub(crate) fn new(dial: Arc<dyn Dial>) -> Self {
        Self {
            dial,
            services: ArcSwap::default(),
        }
    }

    async fn connect(&self, host: &str, port: u16, secure: bool) -> Result<Box<dyn Stream>, String> {
        let address = match service(host) {
            None => Address::Outside {
                host: host.into(),
                port,
                tls: secure.then(|| host.into()),
            },
            Some(name) if secure => {
                return Err(format!(
                    "Service {name} is asked for by https, which is implemented for servers outside only"
                ));
            }
            Some(name) => {
                let services = self.services.load();
                let endpoints = services.get(&(name.clone(), port));
                let endpoints =
                    endpoints.ok_or_else(|| format!("Service {name} with port {port} not found"))?;
                let endpoint = endpoints.pick(LoadBalancerType::Random, &[]);
                endpoint
                    .ok_or_else(|| format!("Service {name} has no ready endpoint"))?
                    .address
                    .clone()
            }
        };
        connect::connect(&*self.dial, &address, Protocol::Http1, TIMEOUT)
            .await
            .map_err(|error| error.to_string())
    }
}

/// The Service that a host name of the cluster means.
fn service(host: &str) -> Option<Name> {
    let host = host.strip_suffix(".cluster.local").unwrap_or(host);
    let (name, namespace) = host.strip_suffix(".svc")?.split_once('.')?;
    (!namespace.contains('.')).then(|| Name::new(namespace, name))
}

#[async_trait]
impl Fetch for Fetcher {
    async fn fetch(&self, uri: &str) -> Result<Bytes, String> {
        let fetching = async {
            let uri = url::Url::parse(uri).map_err(|error| error.to_string())?;
            let secure = uri.scheme() == "https";
            let host = uri.host_str().ok_or("no host")?;
            let port = uri.port_or_known_default().ok_or("no port")?;
            let stream = self.connect(host, port, secure).await?;
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
                .await
                .map_err(|error| error.to_string())?;
            let _driver = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
            let path = match uri.query() {
                Some(query) => format!("{}?{query}", uri.path()),
                None => uri.path().to_owned(),
            };
            let authority = match uri.port() {
                Some(port) => format!("{host}:{port}"),
                None => host.to_owned(),
            };
            let request = Request::get(path)
                .header(header::HOST, authority)
                .header(header::ACCEPT, "application/json")
                .body(Empty::<Bytes>::new())
                .map_err(|error| error.to_string())?;
            let response = sender
                .send_request(request)
                .await
                .map_err(|error| error.to_string())?;
            if response.status() != StatusCode::OK {
                return Err(format!("the server answered {}", response.status()));
            }
            let body = Limited::new(response.into_body(), LARGEST).collect().await;
            body.map(|body| body.to_bytes())
                .map_err(|error| error.to_string())
        };
        tokio::time::timeout(TIMEOUT, fetching)
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {} seconds", TIMEOUT.as_secs())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_cluster_mean_services() {
        let found = |host| service(host).map(|name| name.to_string());
        assert_eq!(found("idp.auth.svc.cluster.local").as_deref(), Some("auth/idp"));
        assert_eq!(found("idp.auth.svc").as_deref(), Some("auth/idp"));
        assert_eq!(found("id.example.com"), None);
        assert_eq!(found("a.b.c.svc"), None);
    }
}
