//! What can go wrong with the server itself, as opposed to a request.

/// The server cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// [`crate::Options::clusters`] is empty.
    #[error("no logical cluster is named; name at least one")]
    NoCluster,
    /// The first objects cannot be written.
    #[error("the namespaces of a new cluster cannot be written: {0}")]
    Bootstrap(String),
    /// There is no key for tokens.
    #[error(transparent)]
    Key(#[from] crate::accounts::KeyError),
    /// The store refuses.
    #[error(transparent)]
    Store(#[from] choreo_store::StoreError),
}
