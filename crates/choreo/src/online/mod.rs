//! Talking to a Kubernetes API, the embedded one or any other.

mod address;
mod kinds;
mod session;
mod watch;
mod world;

pub(crate) use address::{Address, parse_addresses};
pub(crate) use kinds::{Kind, Kinds};
pub(crate) use session::{Answer, Body, CallError, Connect, Session, kubeconfig_path, percent_encode};
pub(crate) use watch::{Seen, Watched, until};
pub(crate) use world::world;
