//! Every environment variable that the program reads, in one place.

/// The folder of `choreo up`, instead of the one under the user's data folder.
pub(crate) const DATA_DIR: &str = "CHOREO_DATA_DIR";

/// The port of `choreo up`'s API, instead of the default one.
pub(crate) const API_PORT: &str = "CHOREO_API_PORT";

/// The port of the gateway of `choreo up` for HTTP, instead of the default one.
pub(crate) const HTTP_PORT: &str = "CHOREO_HTTP_PORT";

/// The port of the gateway of `choreo up` for HTTPS, instead of the default one.
pub(crate) const HTTPS_PORT: &str = "CHOREO_HTTPS_PORT";

/// Whether `choreo up` runs containers: `auto`, `engine` or `simulated`.
pub(crate) const CONTAINERS: &str = "CHOREO_CONTAINERS";

/// The log level or filter of `choreo up` and `choreo manager`.
pub(crate) const LOG_LEVEL: &str = "CHOREO_LOG_LEVEL";

/// The log format of `choreo up` and `choreo manager`.
pub(crate) const LOG_FORMAT: &str = "CHOREO_LOG_FORMAT";

/// The kubeconfig files to use, as for `kubectl`: a list separated like `PATH`.
pub(crate) const KUBECONFIG: &str = "KUBECONFIG";

/// A name that no other manager has: in a cluster, the pod's.
pub(crate) const POD_NAME: &str = "POD_NAME";

/// The namespace that a manager runs in.
pub(crate) const POD_NAMESPACE: &str = "POD_NAMESPACE";

/// The machine's name, as shells and container runtimes set it.
pub(crate) const HOSTNAME: &str = "HOSTNAME";

/// The collector of OpenTelemetry that `choreo manager` sends traces to; named as that project names it.
pub(crate) const OTLP_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
