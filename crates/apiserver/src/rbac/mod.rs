//! Role-based access control: Roles, ClusterRoles and their bindings decide who may do what.
//!
//! ```text
//!   UserInfo ──▶ impersonate ──▶ authorizer: bindings of the user ─▶ roles ─▶ rules ── does one allow it? ──▶ verb
//!                                                                                                   │
//!                                    escalation: who writes a role or a binding must hold what it grants
//! ```
//!
//! As in Kubernetes: rules only add rights, there is nothing that denies; a RoleBinding grants within its namespace, even when
//! it names a ClusterRole; members of `system:masters` are not asked. The rules are read from the store's newest snapshot
//! with every request, so that a grant and its withdrawal count at once.

mod aggregate;
mod attributes;
mod authorizer;
mod defaults;
mod escalation;
mod impersonate;
mod rules;

pub(crate) use aggregate::run as aggregate;
pub(crate) use attributes::Attributes;
pub(crate) use authorizer::{Decision, Granted, decide, granted};
pub(crate) use defaults::bootstrap;
pub(crate) use escalation::admit;
pub(crate) use impersonate::effective_user;
pub(crate) use rules::Rule;

/// The API group of roles and bindings.
pub(crate) const GROUP: &str = "rbac.authorization.k8s.io";
