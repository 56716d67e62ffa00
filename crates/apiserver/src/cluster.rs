//! [`Cluster`]: one logical cluster, with its own objects, definitions and revisions.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use bytes::Bytes;
use choreo_apimachinery::registry::Registry;
use choreo_apimachinery::status::ApiError;
use choreo_store::{Key, Object, Write, WriteError};
use parking_lot::Mutex;
use serde_json::json;

use crate::accounts::Issuer;
use crate::admission::{Admission, Chain};
use crate::crds;
use crate::error::ServerError;
use crate::flow::{self, Flow, FlowLimits};
use crate::pods::{PodAccess, metrics};
use crate::services::Allocator;

/// What is served at one moment: the registry and everything that is derived from it.
///
/// A change of a definition makes a new value; requests that run keep theirs.
pub struct Served {
    registry: Registry,
    documents: Mutex<BTreeMap<String, Kept>>,
}

/// A document, and whether anybody has asked for it lately.
struct Kept {
    document: Arc<Document>,
    asked: bool,
}

/// An encoded document with its entity tag.
#[derive(Debug)]
pub struct Document {
    /// The document's bytes.
    pub bytes: Bytes,
    /// Upper-case hexadecimal SHA-512 of the bytes, without quotes.
    pub etag: String,
}

impl Served {
    fn new(registry: Registry) -> Arc<Served> {
        Arc::new(Served {
            registry,
            documents: Mutex::default(),
        })
    }

    /// The resources.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// A document derived from the registry: made on first use, then kept as long as the registry is, and somebody asks for it
    /// ([`Served::forget`]).
    ///
    /// # Errors
    /// Those of `make`, which is then called again the next time.
    pub fn document<E>(
        &self,
        name: &str,
        make: impl FnOnce(&Registry) -> Result<Vec<u8>, E>,
    ) -> Result<Arc<Document>, E> {
        if let Some(kept) = self.documents.lock().get_mut(name) {
            kept.asked = true;
            return Ok(kept.document.clone());
        }
        let bytes: Bytes = make(&self.registry)?.into();
        let etag = crate::discovery::etag(&bytes);
        let document = Arc::new(Document { bytes, etag });
        let kept = Kept {
            document: document.clone(),
            asked: true,
        };
        self.documents.lock().insert(name.to_owned(), kept);
        Ok(document)
    }

    /// Lets go of documents that nobody has asked for since the last time: those of OpenAPI have megabytes, and clients keep
    /// what they have read.
    pub(crate) fn forget(&self) {
        self.documents
            .lock()
            .retain(|_, kept| std::mem::take(&mut kept.asked));
    }
}

/// What all logical clusters of a server have in common.
#[derive(Clone)]
pub(crate) struct Settings {
    /// The embedder's steps of admission.
    pub(crate) admission: Arc<[Arc<dyn Admission>]>,
    /// Who issues tokens of service accounts.
    pub(crate) issuer: Arc<Issuer>,
    /// The certificates by which the server's clients know it, in PEM.
    pub(crate) certificate_authority: Arc<str>,
    /// How many requests each cluster works on, and lets wait.
    pub(crate) flow: FlowLimits,
}

#[cfg(test)]
impl Settings {
    /// Settings without anything in particular.
    pub(crate) fn plain() -> Settings {
        let key = crate::accounts::SigningKey::generate().unwrap();
        Settings {
            admission: Arc::new([]),
            issuer: Arc::new(Issuer::new(crate::accounts::ISSUER, key)),
            certificate_authority: Arc::from(""),
            flow: FlowLimits::default(),
        }
    }
}

/// One logical cluster.
pub struct Cluster {
    name: String,
    store: choreo_store::Cluster,
    served: ArcSwap<Served>,
    settings: Settings,
    chain: Chain,
    flow: Flow,
    /// Held while a definition is written, so that definitions and registry change together and in order.
    pub(crate) definitions: tokio::sync::Mutex<()>,
    /// Held while a write that counts for a quota is checked and carried out.
    pub(crate) quota: Arc<tokio::sync::Mutex<()>>,
    /// Wakes whoever follows the registry.
    pub(crate) registry_changed: tokio::sync::watch::Sender<u64>,
    services: OnceLock<Allocator>,
    /// Who runs the Pods.
    pods: OnceLock<Arc<dyn PodAccess>>,
    /// The clients of webhooks.
    pub(crate) callouts: crate::callout::Callouts,
    /// What conversion webhooks made lately.
    pub(crate) converted: crate::verbs::Converted,
    /// What watches have been told in protobuf lately.
    pub(crate) binary: crate::negotiate::protobuf::Recent,
    /// What lists have been in protobuf lately.
    pub(crate) lists: Arc<crate::negotiate::protobuf::blocks::Blocks>,
}

impl Cluster {
    /// Opens a logical cluster: loads its definitions.
    pub(crate) fn open(
        name: &str,
        store: choreo_store::Cluster,
        settings: Settings,
        pods: Option<Arc<dyn PodAccess>>,
    ) -> Result<Cluster, ServerError> {
        bootstrap(&store)?;
        let mut registry = Registry::builtin();
        let snapshot = store.snapshot();
        crds::load(&mut registry, &snapshot);
        let flow = Flow::new(settings.flow, &snapshot);
        drop(snapshot);
        let known = OnceLock::new();
        if let Some(access) = pods {
            serve_metrics(&mut registry);
            let _ = known.set(access);
        }
        Ok(Cluster {
            name: name.to_owned(),
            store,
            served: ArcSwap::new(Served::new(registry)),
            chain: Chain::new(settings.admission.clone()),
            flow,
            settings,
            definitions: tokio::sync::Mutex::default(),
            quota: Arc::default(),
            registry_changed: tokio::sync::watch::Sender::new(0),
            services: OnceLock::new(),
            pods: known,
            callouts: crate::callout::Callouts::default(),
            converted: crate::verbs::Converted::default(),
            binary: crate::negotiate::protobuf::Recent::default(),
            lists: Arc::default(),
        })
    }

    /// The cluster's name, as in `/clusters/<name>`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The objects.
    pub fn store(&self) -> &choreo_store::Cluster {
        &self.store
    }

    /// What is served now.
    pub fn served(&self) -> arc_swap::Guard<Arc<Served>> {
        self.served.load()
    }

    /// The steps of admission.
    pub(crate) fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Hands out seats to requests.
    pub(crate) fn flow(&self) -> &Flow {
        &self.flow
    }

    /// Who issues tokens of service accounts.
    pub(crate) fn issuer(&self) -> &Issuer {
        &self.settings.issuer
    }

    /// The certificates by which the server's clients know it, in PEM; empty when there are none.
    pub(crate) fn certificate_authority(&self) -> &str {
        &self.settings.certificate_authority
    }

    /// Cluster IPs and node ports; what is in use is read from the store the first time.
    pub(crate) fn services(&self) -> &Allocator {
        self.services
            .get_or_init(|| Allocator::load(&self.store.snapshot()))
    }

    /// Who gives access to the Pods' containers, if anybody does.
    pub(crate) fn pods(&self) -> Option<&Arc<dyn PodAccess>> {
        self.pods.get()
    }

    /// From now on, access to the containers of this cluster's Pods is given by somebody: a node agent that needs this server to
    /// start, for example. The first one that is connected stays.
    pub async fn connect_pods(&self, access: Arc<dyn PodAccess>) {
        let _held = self.definitions.lock().await;
        if self.pods.set(access).is_ok() {
            let mut registry = self.served().registry().clone();
            serve_metrics(&mut registry);
            self.swap(registry);
        }
    }

    /// Serves another registry from now on.
    pub(crate) fn swap(&self, registry: Registry) {
        let generation = registry.generation();
        self.served.store(Served::new(registry));
        self.registry_changed.send_replace(generation);
    }

    /// Whether the store works.
    pub(crate) fn check(&self) -> Result<(), String> {
        Ok(())
    }

    /// Writes to the store. What only a fault can bring about is an API error already; the rest is for the caller.
    pub(crate) async fn write(&self, write: Write) -> Result<Arc<Object>, Refused> {
        self.store.write(write).await.map_err(|error| match error {
            WriteError::Exists { current } => Refused::Exists(current),
            WriteError::NotFound => Refused::NotFound,
            WriteError::Conflict { current } => Refused::Conflict(current),
            WriteError::Invalid(why) => Refused::Fault(ApiError::bad_request(format!(
                "the object cannot be stored: {why}"
            ))),
            other => Refused::Fault(ApiError::internal(other)),
        })
    }
}

/// Who gives access to containers says what they use.
fn serve_metrics(registry: &mut Registry) {
    for row in metrics::rows() {
        registry.add_crd(vec![row]);
    }
}

/// Namespaces that every cluster has from the start.
const NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// Makes what clients rely on from the first request on.
fn bootstrap(store: &choreo_store::Cluster) -> Result<(), ServerError> {
    let mut missing: Vec<Write> = NAMESPACES
        .iter()
        .map(|name| (*name, Key::new("namespaces", "", name)))
        .filter(|(_, key)| store.get(key).is_none())
        .map(|(name, key)| Write::Create {
            key,
            value: json!({
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {
                    "name": name,
                    "uid": uuid::Uuid::new_v4().to_string(),
                    "creationTimestamp": crate::verbs::now(),
                    "labels": {"kubernetes.io/metadata.name": name},
                },
                "spec": {"finalizers": ["kubernetes"]},
                "status": {"phase": "Active"},
            }),
        })
        .collect();
    missing.extend(crate::rbac::bootstrap(&store.snapshot()));
    missing.extend(crate::admission::bootstrap(&store.snapshot()));
    missing.extend(flow::bootstrap(&store.snapshot()));
    if missing.is_empty() {
        return Ok(());
    }
    // The store writes in a thread of its own; this waits for one commit, before anything is served.
    futures::executor::block_on(store.write_batch(missing))
        .map_err(|(_, error)| ServerError::Bootstrap(error.to_string()))?;
    Ok(())
}

/// Why the store did not write.
#[derive(Debug)]
pub(crate) enum Refused {
    /// There is one already.
    Exists(#[allow(dead_code)] Arc<Object>),
    /// There is none.
    NotFound,
    /// It changed meanwhile.
    Conflict(#[allow(dead_code)] Arc<Object>),
    /// The store failed.
    Fault(ApiError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_that_nobody_asks_for_are_let_go_of() {
        let served = Served::new(Registry::builtin());
        let made = std::cell::Cell::new(0);
        let ask = || {
            let make = |_: &Registry| {
                made.set(made.get() + 1);
                Ok::<_, ()>(vec![1])
            };
            served.document("d", make).unwrap();
        };
        ask();
        served.forget();
        ask();
        assert_eq!(made.get(), 1);
        served.forget();
        served.forget();
        ask();
        assert_eq!(made.get(), 2);
    }
}
