//! Calling webhooks: a review is posted to a URL or to a Service of the cluster, and answered.
//!
//! Whatever calls webhooks describes them with a `clientConfig` of the same form: `url`, or `service` with namespace, name, path
//! and port, and the `caBundle` that the server's certificate must chain to.

mod pool;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use choreo_store::{Key, Snapshot};
use http::StatusCode;
use serde_json::Value;

use crate::verbs::text;
use pool::{Endpoint, Pool};

/// Why a webhook gave no usable answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CalloutError {
    /// The configuration names nothing that can be called.
    #[error("{0}")]
    Config(String),
    /// Nobody answered.
    #[error("Post {url:?}: {why}")]
    Failed {
        /// What was called.
        url: String,
        /// What went wrong.
        why: String,
    },
    /// The answer is a failure of HTTP, or no JSON.
    #[error("{0}")]
    Answer(String),
    /// It took too long.
    #[error("Post {url:?}: context deadline exceeded")]
    Timeout {
        /// What was called.
        url: String,
    },
}

/// Where a webhook is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    /// Name or address, and port, where to connect; or why there is none.
    address: Result<(String, u16), String>,
    /// The host and, if the URL has one, the port.
    host: String,
    /// The name that the certificate must be for.
    server_name: String,
    /// The path with its query.
    path: String,
}

/// Calls webhooks.
#[derive(Default)]
pub(crate) struct Callouts {
    pool: Pool,
}

impl Callouts {
    /// Posts `review` to the webhook that `config`, a `clientConfig`, describes. `snapshot` is where its Service is looked up.
    ///
    /// # Errors
    /// When the configuration names nothing, nobody answers in time, or the answer is no JSON.
    pub(crate) async fn call(
        &self,
        snapshot: &Snapshot,
        config: &Value,
        review: &Value,
        timeout: Duration,
    ) -> Result<Value, CalloutError> {
        let place = place(snapshot, config)?;
        // Webhooks may want to know how long they have.
        let separator = if place.path.contains('?') { '&' } else { '?' };
        let path = format!("{}{separator}timeout={}s", place.path, timeout.as_secs());
        let url = format!("https://{}{path}", place.host);
        let failed = |why: String| CalloutError::Failed {
            url: url.clone(),
            why,
        };
        let endpoint = Endpoint {
            address: place.address.map_err(failed)?,
            name: place.server_name,
            host: place.host,
            authority: STANDARD
                .decode(text(config, "/caBundle").replace(['\n', '\r'], ""))
                .map_err(|error| CalloutError::Config(format!("caBundle: {error}")))?,
        };
        let body = serde_json::to_vec(review).map_err(|error| failed(error.to_string()))?;
        let posted = self.pool.post(&endpoint, &path, body.into());
        let (status, bytes) = match tokio::time::timeout(timeout, posted).await {
            Ok(answer) => answer.map_err(failed)?,
            Err(_) => return Err(CalloutError::Timeout { url }),
        };
        if !status.is_success() {
            let said: String = String::from_utf8_lossy(&bytes).chars().take(500).collect();
            return Err(CalloutError::Answer(match status {
                StatusCode::NOT_FOUND => "the server could not find the requested resource".to_owned(),
                _ if status.is_server_error() => {
                    format!("an error on the server ({said:?}) has prevented the request from succeeding")
                }
                _ => format!("the server answered {status}: {said}"),
            }));
        }
        serde_json::from_slice(&bytes).map_err(|error| {
            CalloutError::Answer(format!("couldn't get version/kind; json parse error: {error}"))
        })
    }
}

fn place(snapshot: &Snapshot, config: &Value) -> Result<Place, CalloutError> {
    let url = text(config, "/url");
    if !url.is_empty() {
        let parsed: http::Uri = url
            .parse()
            .map_err(|error| CalloutError::Config(format!("url {url:?}: {error}")))?;
        let (Some("https"), Some(authority)) = (parsed.scheme_str(), parsed.authority()) else {
            return Err(CalloutError::Config(format!(
                "url {url:?} must begin with https://"
            )));
        };
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        return Ok(Place {
            address: Ok((host.clone(), authority.port_u16().unwrap_or(443))),
            host: authority.to_string(),
            server_name: host,
            path: parsed.path_and_query().map_or("/", |p| p.as_str()).to_owned(),
        });
    }
    let (namespace, name) = (text(config, "/service/namespace"), text(config, "/service/name"));
    if name.is_empty() {
        return Err(CalloutError::Config(
            "neither url nor service is given".to_owned(),
        ));
    }
    let port = config
        .pointer("/service/port")
        .and_then(Value::as_u64)
        .unwrap_or(443);
    let path = match text(config, "/service/path") {
        "" => "/".to_owned(),
        path if path.starts_with('/') => path.to_owned(),
        path => format!("/{path}"),
    };
    let server_name = format!("{name}.{namespace}.svc");
    Ok(Place {
        address: endpoint(snapshot, namespace, name, port),
        host: format!("{server_name}:{port}"),
        server_name,
        path,
    })
}

/// Where a Service's port leads: an address behind it, since nobody routes cluster addresses here.
fn endpoint(snapshot: &Snapshot, namespace: &str, name: &str, port: u64) -> Result<(String, u16), String> {
    let Some(service) = snapshot.get(&Key::new("services", namespace, name)) else {
        return Err(format!("service {name:?} not found"));
    };
    let service = service.value();
    if text(&service, "/spec/type") == "ExternalName" {
        return at(text(&service, "/spec/externalName"), port);
    }
    let ports = service.pointer("/spec/ports").and_then(Value::as_array);
    let Some(wanted) = ports
        .into_iter()
        .flatten()
        .find(|p| p["port"].as_u64() == Some(port))
    else {
        return Err(format!("no service port {port} found for service {name:?}"));
    };
    let port_name = wanted["name"].as_str().unwrap_or_default();
    let (address, port) = sliced(snapshot, namespace, name, port_name)
        .or_else(|| listed(snapshot, namespace, name, port_name))
        .ok_or_else(|| format!("no endpoints available for service {name:?}"))?;
    at(&address, port)
}

fn at(address: &str, port: u64) -> Result<(String, u16), String> {
    let port = u16::try_from(port).map_err(|_| format!("{port} is no port"))?;
    Ok((address.to_owned(), port))
}

/// A ready address of the Service's endpoint slices.
fn sliced(snapshot: &Snapshot, namespace: &str, name: &str, port: &str) -> Option<(String, u64)> {
    let slices = snapshot.iter("discovery.k8s.io/endpointslices", Some(namespace), None);
    slices
        .map(|slice| slice.value())
        .filter(|slice| slice["metadata"]["labels"]["kubernetes.io/service-name"] == name)
        .find_map(|slice| {
            let number = number(slice["ports"].as_array()?, port)?;
            let ready = slice["endpoints"]
                .as_array()?
                .iter()
                .find(|endpoint| endpoint["conditions"]["ready"] != false)?;
            Some((ready["addresses"].get(0)?.as_str()?.to_owned(), number))
        })
}

/// An address of the Service's `Endpoints`.
fn listed(snapshot: &Snapshot, namespace: &str, name: &str, port: &str) -> Option<(String, u64)> {
    let endpoints = snapshot.get(&Key::new("endpoints", namespace, name))?.value();
    endpoints["subsets"].as_array()?.iter().find_map(|subset| {
        let number = number(subset["ports"].as_array()?, port)?;
        Some((subset["addresses"].get(0)?["ip"].as_str()?.to_owned(), number))
    })
}

fn number(ports: &[Value], name: &str) -> Option<u64> {
    ports
        .iter()
        .find(|p| p["name"].as_str().unwrap_or_default() == name)?["port"]
        .as_u64()
}

#[cfg(test)]
mod tests {
    use choreo_store::{Store, Write};
    use serde_json::json;

    use super::*;

    #[test]
    fn urls_must_be_https() {
        let snapshot = Store::in_memory().cluster("c").snapshot();
        let at = |url: &str| place(&snapshot, &json!({"url": url}));
        assert_eq!(
            at("https://h:8443/convert?x=1").unwrap(),
            Place {
                address: Ok(("h".into(), 8443)),
                host: "h:8443".into(),
                server_name: "h".into(),
                path: "/convert?x=1".into(),
            }
        );
        for wrong in ["http://h/", "ftp://h", "no url", "/path"] {
            assert!(matches!(at(wrong), Err(CalloutError::Config(_))), "{wrong}");
        }
        assert!(place(&snapshot, &json!({})).is_err());
    }

    #[test]
    fn services_lead_to_their_endpoints() {
        let store = Store::in_memory().cluster("c");
        let config = json!({"service": {"namespace": "ns", "name": "hook", "path": "convert", "port": 9443}});
        let address = || place(&store.snapshot(), &config).unwrap().address;
        assert_eq!(address(), Err("service \"hook\" not found".to_owned()));
        let put = |resource: &str, value: Value| {
            let key = Key::new(resource, "ns", "hook");
            futures::executor::block_on(store.write(Write::Create { key, value })).unwrap();
        };
        put(
            "services",
            json!({"spec": {"ports": [{"name": "web", "port": 9443}]}}),
        );
        let idle = "no endpoints available for service \"hook\"";
        assert_eq!(address(), Err(idle.to_owned()));
        put(
            "endpoints",
            json!({"subsets": [{"addresses": [{"ip": "127.0.0.1"}], "ports": [{"name": "web", "port": 7001}]}]}),
        );
        let found = place(&store.snapshot(), &config).unwrap();
        assert_eq!(found.address, Ok(("127.0.0.1".to_owned(), 7001)));
        assert_eq!(found.host, "hook.ns.svc:9443");
        assert_eq!(found.server_name, "hook.ns.svc");
        assert_eq!(found.path, "/convert");
        put(
            "discovery.k8s.io/endpointslices",
            json!({
                "metadata": {"labels": {"kubernetes.io/service-name": "hook"}},
                "ports": [{"name": "web", "port": 7002}],
                "endpoints": [{"addresses": ["fd00::1"], "conditions": {"ready": false}}, {"addresses": ["fd00::2"]}],
            }),
        );
        assert_eq!(address(), Ok(("fd00::2".to_owned(), 7002)));
    }
}
