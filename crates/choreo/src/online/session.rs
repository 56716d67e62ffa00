//! A connection to one context of a kubeconfig.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::AsyncBufRead;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;

use choreo_apiserver::private_file::PrivateFile;

use crate::data_dir::default_data_dir;
use crate::env_vars;
use crate::exit::ExitStatus;
use crate::failure::Failure;

/// Which API server, as whom, in which namespace.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connect {
    /// Kubeconfig file [default: $KUBECONFIG, else the one that `choreo up` wrote]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig: `choreo` is the control plane, `local` the data plane
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// Organization, which is a namespace [default: the context's, else `default`]
    #[arg(short, long, global = true, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
}

/// The request body and its media type.
pub(crate) enum Body {
    /// No body.
    None,
    /// JSON.
    Json(Value),
    /// A server-side apply configuration.
    Apply(Value),
    /// A JSON patch (RFC 6902).
    Patch(Value),
    /// A JSON merge patch (RFC 7386).
    Merge(Value),
}

/// What the server answered, when it did what was asked.
#[derive(Debug)]
pub(crate) struct Answer {
    /// 200, 201 or 202.
    pub(crate) status: StatusCode,
    /// The answer's object.
    pub(crate) body: Value,
    /// Warnings that came with it.
    pub(crate) warnings: Vec<String>,
}

/// Why a request did not succeed.
#[derive(Debug)]
pub(crate) enum CallError {
    /// The server refused.
    Status(Box<Status>),
    /// No usable answer came.
    Failed(Failure),
}

impl CallError {
    /// The HTTP status of a refusal.
    pub(crate) fn code(&self) -> Option<i32> {
        match self {
            CallError::Status(status) => status.code,
            CallError::Failed(_) => None,
        }
    }

    /// Something that a server does not have, told as a server would.
    pub(crate) fn unavailable(message: &str) -> CallError {
        CallError::Status(Box::new(Status {
            code: Some(503),
            message: Some(message.to_owned()),
            ..Status::default()
        }))
    }

    /// Whether the object, or its kind, is not there.
    pub(crate) fn not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// The failure to show; `what` was attempted.
    pub(crate) fn failure(self, what: impl Into<String>) -> Failure {
        match self {
            CallError::Status(status) => {
                let message = status.message.clone().unwrap_or_default();
                let failure = Failure::new(what).cause(message);
                match status.code {
                    Some(404) => failure.status(ExitStatus::NotFound),
                    Some(401) => failure.hint("the kubeconfig's credentials are not valid here; `choreo up` writes a fresh one into its data folder"),
                    Some(403) => failure.hint("the kubeconfig's user may not do this; use one with more rights"),
                    _ => failure,
                }
            }
            CallError::Failed(failure) => failure,
        }
    }
}

/// A client for one context.
#[derive(Clone)]
pub(crate) struct Session {
    client: kube::Client,
    config: kube::Config,
    /// The namespace that commands use.
    pub(crate) namespace: String,
    server: String,
}

impl Session {
    /// Reads the kubeconfig. The server is not asked yet.
    pub(crate) async fn open(connect: &Connect) -> Result<Self, Failure> {
        let kubeconfig = read_kubeconfig(connect.kubeconfig.as_deref())?;
        let contexts: Vec<String> = kubeconfig
            .contexts
            .iter()
            .map(|context| context.name.clone())
            .collect();
        if let Some(wanted) = &connect.context
            && !contexts.contains(wanted)
        {
            return Err(
                Failure::usage(format!("the kubeconfig has no context `{wanted}`"))
                    .hint(format!("its contexts are: {}", contexts.join(", "))),
            );
        }
        let options = KubeConfigOptions {
            context: connect.context.clone(),
            ..KubeConfigOptions::default()
        };
        let unusable =
            |error: &dyn std::error::Error| Failure::new("the kubeconfig cannot be used").because(error);
        let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .map_err(|error| unusable(&error))?;
        config.connect_timeout = Some(Duration::from_secs(5));
        // Watches are quiet for long; their ends are ours to decide.
        config.read_timeout = None;
        // The library would try for minutes what a server says it cannot do now, and not say so to who waits.
        config.default_retry = false;
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let namespace = connect
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        let client = kube::Client::try_from(config.clone()).map_err(|error| unusable(&error))?;
        Ok(Self {
            client,
            config,
            namespace,
            server,
        })
    }

    /// Its client, for what is not a single request.
    pub(crate) fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// A client, with the same credentials, for another logical cluster of the server.
    pub(crate) fn logical_cluster(&self, name: &str) -> Option<kube::Client> {
        Some(self.in_logical_cluster(name)?.client)
    }

    /// The same, with the same credentials, in another logical cluster of the server.
    pub(crate) fn in_logical_cluster(&self, name: &str) -> Option<Session> {
        let mut config = self.config.clone();
        let server = format!("{}/clusters/{}", self.server, percent_encode(name));
        config.cluster_url = server.parse().ok()?;
        Some(Session {
            client: kube::Client::try_from(config.clone()).ok()?,
            config,
            namespace: self.namespace.clone(),
            server,
        })
    }

    /// Reads `path` in the media type `accept`.
    pub(crate) async fn get_as(&self, path: &str, accept: &str) -> Result<Answer, CallError> {
        self.call(Method::GET, path, Body::None, accept).await
    }

    /// Reads `path` as JSON.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, CallError> {
        Ok(self.get_as(path, "application/json").await?.body)
    }

    /// Sends a request.
    pub(crate) async fn send(&self, method: Method, path: &str, body: Body) -> Result<Answer, CallError> {
        self.call(method, path, body, "application/json").await
    }

    async fn call(&self, method: Method, path: &str, body: Body, accept: &str) -> Result<Answer, CallError> {
        let (media_type, bytes) = match body {
            Body::None => (None, vec![]),
            Body::Json(value) => (Some("application/json"), value.to_string().into_bytes()),
            Body::Apply(value) => (
                Some("application/apply-patch+yaml"),
                value.to_string().into_bytes(),
            ),
            Body::Patch(value) => (
                Some("application/json-patch+json"),
                value.to_string().into_bytes(),
            ),
            Body::Merge(value) => (
                Some("application/merge-patch+json"),
                value.to_string().into_bytes(),
            ),
        };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("accept", accept);
        if let Some(media_type) = media_type {
            request = request.header("content-type", media_type);
        }
        let request = request
            .body(kube::client::Body::from(bytes))
            .map_err(|error| self.broken(&error))?;
        let response = self
            .client
            .send(request)
            .await
            .map_err(|error| self.error(error))?;
        let status = response.status();
        let warnings = response
            .headers()
            .get_all("warning")
            .iter()
            .filter_map(warning)
            .collect();
        let bytes = response
            .into_body()
            .collect()
            .await
            .map_err(|error| self.error(error))?
            .to_bytes();
        if !status.is_success() {
            return Err(self.refusal(status, &bytes));
        }
        let body = serde_json::from_slice(&bytes).map_err(|error| self.broken(&error))?;
        Ok(Answer {
            status,
            body,
            warnings,
        })
    }

    /// Opens a stream of lines, one JSON document each.
    pub(crate) async fn stream(
        &self,
        path: &str,
        accept: &str,
    ) -> Result<impl AsyncBufRead + use<>, CallError> {
        let request = Request::get(path)
            .header("accept", accept)
            .body(vec![])
            .map_err(|error| self.broken(&error))?;
        self.client
            .request_stream(request)
            .await
            .map_err(|error| self.error(error))
    }

    /// Writes the answer's body to a new file, which is complete when it has its name. Returns its size in bytes.
    pub(crate) async fn download(&self, path: &str, file: &Path) -> Result<u64, CallError> {
        let request = Request::get(path)
            .body(kube::client::Body::empty())
            .map_err(|error| self.broken(&error))?;
        let response = self
            .client
            .send(request)
            .await
            .map_err(|error| self.error(error))?;
        let status = response.status();
        let mut body = response.into_body();
        if !status.is_success() {
            let bytes = body
                .collect()
                .await
                .map_err(|error| self.error(error))?
                .to_bytes();
            return Err(self.refusal(status, &bytes));
        }
        let cannot = |error: std::io::Error| {
            CallError::Failed(Failure::new(format!("cannot write {}", file.display())).because(&error))
        };
        let mut partial = PrivateFile::create(file).map_err(cannot)?;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| self.error(error))?;
            if let Some(bytes) = frame.data_ref() {
                partial.write(bytes).map_err(cannot)?;
            }
        }
        partial.finish().map_err(cannot)
    }

    fn refusal(&self, code: StatusCode, bytes: &[u8]) -> CallError {
        match serde_json::from_slice::<Status>(bytes) {
            Ok(mut status) if status.message.is_some() => {
                status.code.get_or_insert(i32::from(code.as_u16()));
                CallError::Status(Box::new(status))
            }
            _ => {
                let text = String::from_utf8_lossy(bytes);
                let message = if text.trim().is_empty() {
                    code.to_string()
                } else {
                    text.trim().to_owned()
                };
                CallError::Status(Box::new(Status {
                    code: Some(i32::from(code.as_u16())),
                    message: Some(message),
                    ..Status::default()
                }))
            }
        }
    }

    /// Why a call of one of these clients failed.
    pub(crate) fn error(&self, error: kube::Error) -> CallError {
        match error {
            kube::Error::Api(status) => CallError::Status(Box::new(Status {
                code: Some(i32::from(status.code)),
                message: Some(status.message.clone()),
                reason: Some(status.reason.clone()),
                ..Status::default()
            })),
            other => CallError::Failed(
                Failure::new(format!("cannot reach the API server at {}", self.server))
                    .because(root_cause(&other))
                    .hint("is it running? `choreo up` starts it; --kubeconfig and --context choose another server")
                    .status(ExitStatus::Unreachable),
            ),
        }
    }

    fn broken(&self, error: &dyn std::error::Error) -> CallError {
        CallError::Failed(
            Failure::new(format!("{} gave an answer that cannot be read", self.server)).because(error),
        )
    }
}

/// The innermost error: client libraries wrap `connection refused` in several layers that tell nothing.
fn root_cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> &'a dyn std::error::Error {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error
}

/// The text of a `Warning: 299 - "text"` header (RFC 7234, 5.5).
fn warning(value: &http::HeaderValue) -> Option<String> {
    let text = value.to_str().ok()?;
    let quoted = text.split_once('"')?.1;
    Some(
        quoted
            .strip_suffix('"')
            .unwrap_or(quoted)
            .replace("\\\"", "\"")
            .replace("\\\\", "\\"),
    )
}

fn read_kubeconfig(named: Option<&Path>) -> Result<Kubeconfig, Failure> {
    let read = |path: &Path| {
        Kubeconfig::read_from(path).map_err(|error| {
            Failure::new(format!("cannot read the kubeconfig {}", path.display())).because(&error)
        })
    };
    if let Some(path) = named {
        return read(path);
    }
    if std::env::var_os(env_vars::KUBECONFIG).is_some_and(|value| !value.is_empty()) {
        return match Kubeconfig::from_env() {
            Ok(Some(config)) => Ok(config),
            Ok(None) => Err(no_kubeconfig()),
            Err(error) => {
                Err(Failure::new("cannot read the kubeconfig that KUBECONFIG names").because(&error))
            }
        };
    }
    match kubeconfig_path() {
        Some(path) if path.exists() => read(&path),
        _ => Err(no_kubeconfig()),
    }
}

fn no_kubeconfig() -> Failure {
    Failure::new("no kubeconfig found")
        .hint("start the platform with `choreo up`, or name a file with --kubeconfig or KUBECONFIG")
        .status(ExitStatus::Unreachable)
}

/// The kubeconfig of `choreo up` with its default folder.
pub(crate) fn kubeconfig_path() -> Option<PathBuf> {
    default_data_dir().map(|folder| folder.join("kubeconfig"))
}

/// A value in the query of a URL.
pub(crate) fn percent_encode(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text += &format!("%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_unquoted() {
        let header = http::HeaderValue::from_static(r#"299 - "unknown field \"spec.x\"""#);
        assert_eq!(warning(&header).as_deref(), Some(r#"unknown field "spec.x""#));
    }

    #[test]
    fn query_values_are_encoded() {
        assert_eq!(percent_encode("app=a b,c!=ü"), "app%3Da%20b%2Cc%21%3D%C3%BC");
    }
}
