//! Every environment variable that the program reads, in one place.

/// The folder of `choreo up`, instead of the one under the user's data folder.
pub(crate) const DATA_DIR: &str = "CHOREO_DATA_DIR";

/// The port of `choreo up`'s API, instead of the default one.
pub(crate) const API_PORT: &str = "CHOREO_API_PORT";

/// The log level or filter of `choreo up`.
pub(crate) const LOG_LEVEL: &str = "CHOREO_LOG_LEVEL";

/// The log format of `choreo up`.
pub(crate) const LOG_FORMAT: &str = "CHOREO_LOG_FORMAT";

/// The kubeconfig files to use, as for `kubectl`: a list separated like `PATH`.
pub(crate) const KUBECONFIG: &str = "KUBECONFIG";
