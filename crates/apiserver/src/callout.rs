//! Calling webhooks: a review is posted to a URL or to a Service of the cluster, and answered.
//!
//! Whatever calls webhooks describes them with a `clientConfig` of the same form: `url`, or `service` with namespace, name, path
//! and port, and the `caBundle` that the server's certificate must chain to.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use choreo_store::{Key, Snapshot};
use http::Request;
use http::header::{ACCEPT, CONTENT_TYPE};
use http_body_util::{BodyExt, Limited};
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;

use crate::verbs::text;

/// Largest answer that is read, in bytes.
const ANSWER_LIMIT: usize = 16 * 1024 * 1024;

/// Clients that are kept with their connections; far more webhooks than a cluster has.
const CLIENTS_KEPT: usize = 64;

/// Why a webhook gave no usable answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CalloutError {
    /// The configuration names nothing that can be called.
    #[error("{0}")]
    Config(String),
    /// Nobody answered, or with something else than JSON.
    #[error("Post {url:?}: {why}")]
    Failed {
        /// What was called.
        url: String,
        /// What went wrong.
        why: String,
    },
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
    /// `https://host:port`, where to connect.
    base: String,
    /// The path with its query.
    path: String,
    /// The name that the certificate must be for, where that is not the host.
    server_name: Option<String>,
    /// The URL that errors name.
    shown: String,
}

/// The clients of webhooks, one for each configuration.
#[derive(Default)]
pub(crate) struct Callouts {
    clients: Mutex<BTreeMap<String, kube::Client>>,
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
        let client = self.client(&place, config)?;
        let failed = |why: String| CalloutError::Failed {
            url: place.shown.clone(),
            why,
        };
        let request = Request::post(&place.path)
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json")
            .body(kube::client::Body::from(review.to_string().into_bytes()))
            .map_err(|error| failed(error.to_string()))?;
        let answered = async {
            let response = client
                .send(request)
                .await
                .map_err(|error| failed(innermost(&error)))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_LIMIT);
            let bytes = body
                .collect()
                .await
                .map_err(|error| failed(error.to_string()))?
                .to_bytes();
            if !status.is_success() {
                return Err(failed(format!("unexpected status {status}")));
            }
            serde_json::from_slice(&bytes).map_err(|error| failed(format!("the answer is no JSON: {error}")))
        };
        match tokio::time::timeout(timeout, answered).await {
            Ok(answer) => answer,
            Err(_) => Err(CalloutError::Timeout {
                url: place.shown.clone(),
            }),
        }
    }

    fn client(&self, place: &Place, config: &Value) -> Result<kube::Client, CalloutError> {
        let bundle = text(config, "/caBundle");
        let name = place.server_name.as_deref().unwrap_or_default();
        let key = format!("{}\n{name}\n{bundle}", place.base);
        if let Some(client) = self.clients.lock().get(&key) {
            return Ok(client.clone());
        }
        let wrong = |why: String| CalloutError::Config(why);
        let base = place
            .base
            .parse()
            .map_err(|error| wrong(format!("url {:?}: {error}", place.shown)))?;
        let mut settings = kube::Config::new(base);
        settings.root_cert = authorities(bundle)?;
        settings.tls_server_name.clone_from(&place.server_name);
        settings.connect_timeout = Some(Duration::from_secs(10));
        settings.read_timeout = None;
        let client = kube::Client::try_from(settings)
            .map_err(|error| wrong(format!("the webhook cannot be called: {error}")))?;
        let mut clients = self.clients.lock();
        if clients.len() >= CLIENTS_KEPT {
            clients.pop_first();
        }
        clients.insert(key, client.clone());
        Ok(client)
    }
}

/// The certificates of a `caBundle`; none given means those that the system trusts.
fn authorities(bundle: &str) -> Result<Option<Vec<Vec<u8>>>, CalloutError> {
    if bundle.is_empty() {
        return Ok(None);
    }
    let wrong = |why: String| CalloutError::Config(format!("caBundle: {why}"));
    let pem = STANDARD
        .decode(bundle.replace(['\n', '\r'], ""))
        .map_err(|error| wrong(error.to_string()))?;
    let certificates: Vec<Vec<u8>> = CertificateDer::pem_slice_iter(&pem)
        .map(|certificate| certificate.map(|c| c.to_vec()).map_err(|e| wrong(e.to_string())))
        .collect::<Result<_, _>>()?;
    if certificates.is_empty() {
        return Err(wrong("it has no certificates in PEM form".to_owned()));
    }
    Ok(Some(certificates))
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
        let path = parsed.path_and_query().map_or("/", |p| p.as_str());
        return Ok(Place {
            base: format!("https://{authority}"),
            path: path.to_owned(),
            server_name: None,
            shown: url.to_owned(),
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
        base: format!("https://{}", endpoint(snapshot, namespace, name, port)?),
        shown: format!("https://{server_name}:{port}{path}"),
        server_name: Some(server_name),
        path,
    })
}

/// Where a Service's port leads: an address behind it, since nobody routes cluster addresses here.
fn endpoint(snapshot: &Snapshot, namespace: &str, name: &str, port: u64) -> Result<String, CalloutError> {
    let wrong =
        |why: &str| CalloutError::Config(format!("service {name:?} in namespace {namespace:?}: {why}"));
    let Some(service) = snapshot.get(&Key::new("services", namespace, name)) else {
        return Err(wrong("not found"));
    };
    let service = service.value();
    if text(&service, "/spec/type") == "ExternalName" {
        return Ok(format!("{}:{port}", text(&service, "/spec/externalName")));
    }
    let ports = service.pointer("/spec/ports").and_then(Value::as_array);
    let Some(port) = ports
        .into_iter()
        .flatten()
        .find(|p| p["port"].as_u64() == Some(port))
    else {
        return Err(wrong(&format!("has no port {port}")));
    };
    let port_name = port["name"].as_str().unwrap_or_default();
    sliced(snapshot, namespace, name, port_name)
        .or_else(|| listed(snapshot, namespace, name, port_name))
        .ok_or_else(|| wrong("no endpoints available for service"))
}

/// A ready address of the Service's endpoint slices.
fn sliced(snapshot: &Snapshot, namespace: &str, name: &str, port: &str) -> Option<String> {
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
            Some(joined(ready["addresses"].get(0)?.as_str()?, number))
        })
}

/// An address of the Service's `Endpoints`.
fn listed(snapshot: &Snapshot, namespace: &str, name: &str, port: &str) -> Option<String> {
    let endpoints = snapshot.get(&Key::new("endpoints", namespace, name))?.value();
    endpoints["subsets"].as_array()?.iter().find_map(|subset| {
        let number = number(subset["ports"].as_array()?, port)?;
        Some(joined(subset["addresses"].get(0)?["ip"].as_str()?, number))
    })
}

fn number(ports: &[Value], name: &str) -> Option<u64> {
    ports
        .iter()
        .find(|p| p["name"].as_str().unwrap_or_default() == name)?["port"]
        .as_u64()
}

fn joined(address: &str, port: u64) -> String {
    if address.contains(':') {
        format!("[{address}]:{port}")
    } else {
        format!("{address}:{port}")
    }
}

/// The innermost error: what is around it tells nothing that the URL does not.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
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
                base: "https://h:8443".into(),
                path: "/convert?x=1".into(),
                server_name: None,
                shown: "https://h:8443/convert?x=1".into(),
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
        let missing = place(&store.snapshot(), &config).unwrap_err();
        assert!(missing.to_string().contains("not found"), "{missing}");
        let put = |resource: &str, value: Value| {
            let key = Key::new(resource, "ns", "hook");
            futures::executor::block_on(store.write(Write::Create { key, value })).unwrap();
        };
        put(
            "services",
            json!({"spec": {"ports": [{"name": "web", "port": 9443}]}}),
        );
        let idle = place(&store.snapshot(), &config).unwrap_err();
        assert!(idle.to_string().contains("no endpoints"), "{idle}");
        put(
            "endpoints",
            json!({"subsets": [{"addresses": [{"ip": "127.0.0.1"}], "ports": [{"name": "web", "port": 7001}]}]}),
        );
        let found = place(&store.snapshot(), &config).unwrap();
        assert_eq!(found.base, "https://127.0.0.1:7001");
        assert_eq!(found.shown, "https://hook.ns.svc:9443/convert");
        assert_eq!(found.server_name.as_deref(), Some("hook.ns.svc"));
        put(
            "discovery.k8s.io/endpointslices",
            json!({
                "metadata": {"labels": {"kubernetes.io/service-name": "hook"}},
                "ports": [{"name": "web", "port": 7002}],
                "endpoints": [{"addresses": ["fd00::1"], "conditions": {"ready": false}}, {"addresses": ["fd00::2"]}],
            }),
        );
        assert_eq!(
            place(&store.snapshot(), &config).unwrap().base,
            "https://[fd00::2]:7002"
        );
    }
}
