//! Service accounts: their tokens, the objects that every namespace has for them, and what Pods get of them.
//!
//! ```text
//!  POST serviceaccounts/<name>/token ─▶ request ─▶ Issuer ─▶ a signed token, bound to the account and, if asked, to an object
//!  Authorization: Bearer <token>     ─▶ verify: signature, time, audience, and are account and object still there? ─▶ user
//! ```
//!
//! A token is a JSON Web Token with Kubernetes' claims, signed with ECDSA over P-256. It names the uid of its service
//! account, so a token of one logical cluster is nobody's in another one, and it ends with what it is bound to.

mod admission;
mod controller;
mod key;
mod request;
mod token;

pub(crate) use admission::admit;
pub(crate) use controller::run;
pub use key::{KeyError, SigningKey};
pub(crate) use request::{check_kind, complete, issue};
pub(crate) use token::{Issuer, Verified};

/// Who issues tokens when nothing else is said: the same as in most clusters.
pub const ISSUER: &str = "https://kubernetes.default.svc";

/// The account that a Pod runs as when it names none.
const DEFAULT: &str = "default";

/// The ConfigMap with the certificates by which Pods know the server.
const ROOT_CA: &str = "kube-root-ca.crt";

/// Service accounts as the store knows them.
const RESOURCE: &str = "serviceaccounts";
