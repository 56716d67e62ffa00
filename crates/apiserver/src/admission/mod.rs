//! Admission: what is checked or changed between a request and the store.
//!
//! ```text
//!  decoded object ─▶ mutate: NamespaceLifecycle, ServiceAccount, LimitRanger, classes, nodes, protection of storage,
//!                            Admission::mutate of the embedder, mutating policies, mutating webhooks
//!                        │
//!                        ▼
//!             strategy, validation of the kind
//!                        │
//!                        ▼
//!                    validate: RBAC escalation, LimitRanger, PodSecurity, classes, certificates, Admission::validate of
//!                              the embedder, validating policies, validating webhooks, ResourceQuota ─▶ store
//! ```
//!
//! First everything that may change the object runs, in a fixed order; what comes out is decoded, defaulted and validated like
//! a client's document, and then everything that may only refuse looks at what would be stored. Who embeds the server adds
//! steps of its own, in process, by implementing [`Admission`] and giving it in [`crate::Options::admission`].
//!
//! ```
//! use choreo_apimachinery::status::{ApiError, Result};
//! use choreo_apiserver::{Admission, AdmissionRequest, ApiServer, Operation, Options};
//! use choreo_store::Store;
//! use std::sync::Arc;
//!
//! /// A ConfigMap that somebody mounts may not be deleted.
//! struct InUse;
//!
//! impl Admission for InUse {
//!     fn name(&self) -> &str {
//!         "ConfigMapInUse"
//!     }
//!
//!     fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
//!         request.is("", "configmaps") && request.operation == Operation::Delete
//!     }
//!
//!     fn validate(&self, request: &AdmissionRequest<'_>, _warnings: &mut Vec<String>) -> Result<()> {
//!         for pod in request.snapshot.iter("pods", Some(request.namespace), None) {
//!             let pod = pod.value();
//!             let volumes = pod.pointer("/spec/volumes").and_then(|v| v.as_array()).into_iter().flatten();
//!             if volumes.filter_map(|v| v.pointer("/configMap/name")).any(|n| n == request.name) {
//!                 let why = format!("Pod {} mounts it; delete the Pod first", pod["metadata"]["name"]);
//!                 return Err(ApiError::forbidden("", "configmaps", request.name, &why));
//!             }
//!         }
//!         Ok(())
//!     }
//! }
//!
//! let options = Options { admission: vec![Arc::new(InUse)], ..Options::default() };
//! let server = ApiServer::new(Store::in_memory(), options)?;
//! # Ok::<(), choreo_apiserver::ServerError>(())
//! ```

mod certificates;
mod chain;
mod classes;
mod expressions;
pub(crate) mod lifecycle;
mod limits;
mod matching;
mod nodes;
mod pod_security;
mod policies;
mod registered;
mod webhooks;

use choreo_apimachinery::registry::ResourceInfo;
#[allow(unused_imports)] // named in the documentation
use choreo_apimachinery::status::ApiError;
use choreo_apimachinery::status::Result;
use choreo_store::Snapshot;
use serde_json::Value;

pub(crate) use chain::{Chain, Review, Spoken};
pub(crate) use classes::bootstrap;
pub(crate) use policies::run as check_policies;

use crate::user::UserInfo;

/// What is about to happen to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// It is created.
    Create,
    /// It is changed.
    Update,
    /// It is deleted.
    Delete,
    /// Somebody wants to be connected with it: `pods/exec`, `services/proxy`. The object is what they ask for.
    Connect,
}

impl Operation {
    /// The word of Kubernetes' admission API: `CREATE`, `UPDATE`, `DELETE`, `CONNECT`.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        }
    }
}

/// One write that is to be admitted.
#[derive(Clone, Copy)]
pub struct AdmissionRequest<'a> {
    /// The logical cluster.
    pub cluster: &'a str,
    /// Everything that the cluster holds at this moment, for rules that look at other objects. The object of the write is in
    /// it as it was before.
    pub snapshot: &'a Snapshot,
    /// Who writes.
    pub user: &'a UserInfo,
    /// What happens.
    pub operation: Operation,
    /// The resource as the request names it.
    pub resource: &'a ResourceInfo,
    /// The subresource, or empty.
    pub subresource: &'a str,
    /// The namespace, or empty.
    pub namespace: &'a str,
    /// The object's name; a name that is to be generated is generated already.
    pub name: &'a str,
    /// The object before; none for a creation.
    pub old: Option<&'a Value>,
    /// The object after; none for a deletion. While the object is being changed ([`Admission::mutate`]) it is what the client
    /// asked for; for [`Admission::validate`] it is what would be stored. Subresources with a kind of their own (`scale`,
    /// `binding`, `eviction`, `token`, `exec`) show that kind.
    pub object: Option<&'a Value>,
    /// Whether nothing will be written: no side effects then.
    pub dry_run: bool,
}

impl AdmissionRequest<'_> {
    /// Whether the write is to this resource itself, not to a subresource of it.
    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.subresource.is_empty() && self.resource.group == group && self.resource.plural == plural
    }
}

/// A step of admission in process, by whoever embeds the server.
///
/// # Guarantees
/// * [`Admission::mutate`] of all steps runs before [`Admission::validate`] of any, each in the order of
///   [`crate::Options::admission`].
/// * What a step changes is pruned, defaulted and validated like a client's document before the validating steps see it.
/// * A write that lost a race is computed anew and admitted anew, so a step may see one request more than once.
///
/// # Assumptions
/// * Steps are quick and do not wait: a write waits for them. What they need of the cluster is in the request's snapshot.
/// * A rule over several objects can be broken by two writes at the same time, each of which saw the snapshot before the
///   other; a controller should still notice what admission could not.
pub trait Admission: Send + Sync {
    /// A name for logs, in the style of Kubernetes' plugins (`LimitRanger`).
    fn name(&self) -> &str;

    /// Whether the step wants to look at such writes. Asked before the other two, which are not called otherwise.
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        let _ = request;
        true
    }

    /// Changes the object that is about to be created or changed. Not called for deletions.
    ///
    /// # Errors
    /// Why the write is refused; usually [`ApiError::forbidden`] or [`ApiError::invalid`].
    fn mutate(&self, request: &AdmissionRequest<'_>, object: &mut Value) -> Result<()> {
        let _ = (request, object);
        Ok(())
    }

    /// Looks at what would be stored, or at a deletion. Warnings are sent to the client in `Warning` headers.
    ///
    /// # Errors
    /// Why the write is refused; usually [`ApiError::forbidden`] or [`ApiError::invalid`].
    fn validate(&self, request: &AdmissionRequest<'_>, warnings: &mut Vec<String>) -> Result<()> {
        let _ = (request, warnings);
        Ok(())
    }
}
