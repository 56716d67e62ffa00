//! placeholder

pub mod authn;
pub mod kubeconfig;
pub mod private_file;
pub mod serve;
pub mod tls;
pub mod user;
