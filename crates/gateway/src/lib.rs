//! An embedded gateway: what Envoy Gateway does for a cluster, in this process, for the clusters that are embedded in it.
//!
//! It follows Gateways of the classes with controller name [`CONTROLLER`], and everything that routes and policies of theirs refer
//! to; it listens on their ports, forwards what arrives, and says in every status what became of the object.
//!
//! ```text
//!  watches ─▶ config::World ─▶ config::build ─▶ Table ─▶ proxy ─▶ Dial ─▶ pods
//!                                   └─▶ statuses            └─▶ policy
//! ```
//!
//! # Guarantees
//! - What is invalid, unsupported or not permitted closes the route that it is about (500 or 503), and the status says so with the
//!   path of the field. Nothing is opened by omission.
//! - A table is replaced at once. Requests under way end with the table that they began with.
//! - Bodies are streamed. What is held in memory of one is bounded, whatever its size.
//!
//! `docs/reference/gateway.md` says field by field what is implemented.

mod api;
mod authority;
mod config;
mod controller;
mod dial;
mod policy;
mod proxy;
mod upstream;

pub use authority::{Authority, AuthorityError, DOMAINS};
pub use config::listeners::{ISSUER_OPTION, LOCAL_ISSUER};
pub use config::status::CONTROLLER;
pub use controller::{Options, Sockets, run};
pub use dial::{Dial, Direct, Refuse, Stream, Target};
