//! An embedded Kubernetes API server.
//!
//! Built-in kinds and custom resources, served from a [`choreo_store::Store`] by one generic set of verbs. Knows no kind of
//! its users'; anything that needs a Kubernetes API without a cluster can use it, tests of operators for example.
//!
//! ```text
//!        kubectl, client-go, ...            controllers in this process
//!                │ HTTPS                             │ kube::Client
//!                ▼                                   ▼
//!   serve ─ authn ─ UserInfo ───────────────▶ dispatch: RequestInfo, authorization
//!                                                    │
//!                     discovery, health ◀────────────┼──────────▶ handlers: decode, negotiate, encode
//!                                                    ▼
//!                                    verbs: get list create update patch delete
//!                                     │                │               │
//!                            apimachinery         admission      Cluster (store, registry)
//! ```
//!
//! One server holds several *logical clusters*, each with its own objects, custom resource definitions and revisions, under
//! `/clusters/<name>/`; the first one is also served on the plain path.
//!
//! What is complete, partial and absent is in `docs/reference/kubernetes-api.md`.

mod accounts;
mod audit;
mod authz;
mod backup;
mod callout;
mod cluster;
mod crds;
mod discovery;
mod dispatch;
mod error;
mod expiry;
mod flow;
mod follow;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod gc;
mod handlers;
mod health;
mod namespaces;
mod protection;
mod quota;
mod rbac;
mod respond;
mod reviews;
mod seldom;
mod server;
mod services;
mod taints;
mod transform;

pub mod admission;
pub mod authn;
pub mod kubeconfig;
pub mod negotiate;
pub mod pods;
pub mod private_file;
pub mod request;
pub mod serve;
pub mod tls;
pub mod user;
pub mod verbs;

pub use accounts::{ISSUER, KeyError, SigningKey};
pub use admission::{Admission, AdmissionRequest, Operation};
pub use audit::{Audit, AuditError};
pub use cluster::{Cluster, Served};
pub use error::ServerError;
pub use flow::FlowLimits;
pub use pods::PodAccess;
pub use server::{ApiServer, Options};
pub use user::UserInfo;
