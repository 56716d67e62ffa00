//! What a request asks for, read once from its path, method and query, as Kubernetes does.

mod info;
mod options;

pub use info::{RequestInfo, Verb};
pub use options::{
    CreateOptions, DeleteOptions, FieldValidation, GetOptions, ListOptions, PatchOptions, Preconditions,
    Propagation, Query, ResourceVersionMatch, UpdateOptions,
};
