//! Sends spans to a collector.

use std::time::Duration;

use http::{Request, StatusCode};
use kube::client::Body;
use kube::{Client, Config};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Finished, Recorded, json};

/// Spans that are sent at once.
const BATCH: usize = 512;
/// How long a span waits for others to be sent with.
const LINGER: Duration = Duration::from_secs(2);
/// Longest wait for a collector.
const PATIENCE: Duration = Duration::from_secs(5);
/// Where traces are sent, below the endpoint.
const PATH: &str = "/v1/traces";

/// Why traces cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// It is no address.
    #[error("{endpoint:?} is no address of a collector: {why}; for example http://localhost:4318")]
    Endpoint {
        /// What was given.
        endpoint: String,
        /// What is wrong with it.
        why: String,
    },
    /// There is no client for it.
    #[error("no client for the collector: {0}")]
    Client(#[from] kube::Error),
}

/// Sends spans to a collector until it is told to stop.
pub struct Exporter {
    client: Client,
    recorded: Recorded,
    resource: Vec<(&'static str, String)>,
}

impl Exporter {
    /// Sends to `endpoint`, the base address of a collector of OTLP over HTTP, as the instance `identity`.
    ///
    /// # Errors
    /// When the endpoint cannot be used. It need not answer yet.
    pub fn new(endpoint: &str, identity: &str, recorded: Recorded) -> Result<Self, TracesError> {
        let wrong = |why: String| TracesError::Endpoint {
            endpoint: endpoint.to_owned(),
            why,
        };
        let uri: http::Uri = endpoint
            .trim_end_matches('/')
            .parse()
            .map_err(|error: http::uri::InvalidUri| wrong(error.to_string()))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(wrong("it begins with neither http:// nor https://".to_owned()));
        }
        let mut config = Config::new(uri);
        config.default_retry = false;
        Ok(Self {
            client: Client::try_from(config)?,
            recorded,
            resource: vec![
                ("service.name", "choreo-manager".to_owned()),
                ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
                ("service.instance.id", identity.to_owned()),
            ],
        })
    }

    /// Sends until `end`, and then what is left.
    pub async fn run(mut self, end: CancellationToken) {
        let mut batch = Vec::new();
        let mut told = false;
        loop {
            tokio::select! {
                () = end.cancelled() => break,
                received = self.recorded.0.recv_many(&mut batch, BATCH) => if received == 0 { break },
            }
            let more = async {
                while batch.len() < BATCH && self.recorded.0.recv_many(&mut batch, BATCH).await > 0 {}
            };
            tokio::select! {
                () = end.cancelled() => {}
                _ = timeout(LINGER, more) => {}
            }
            let sent = self.send(&batch).await;
            match &sent {
                Err(why) if !told => {
                    tracing::warn!(%why, "traces are lost: the collector does not take them")
                }
                Ok(()) if told => tracing::info!("the collector takes traces again"),
                _ => {}
            }
            told = sent.is_err();
            batch.clear();
        }
        self.recorded.0.close();
        while self.recorded.0.recv_many(&mut batch, BATCH).await > 0 {}
        if !batch.is_empty() {
            let _ = self.send(&batch).await;
        }
    }

    async fn send(&self, spans: &[Finished]) -> Result<(), String> {
        let body =
            serde_json::to_vec(&json::request(&self.resource, spans)).map_err(|error| error.to_string())?;
        let request = Request::post(PATH)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Body::from(body))
            .map_err(|error| error.to_string())?;
        let answer = timeout(PATIENCE, self.client.send(request))
            .await
            .map_err(|_| format!("no answer within {} s", PATIENCE.as_secs()))?
            .map_err(|error| choreo_controllers::runtime::feed::describe(&error))?;
        match answer.status() {
            StatusCode::OK | StatusCode::ACCEPTED | StatusCode::NO_CONTENT => Ok(()),
            status => Err(format!("it answers {status}")),
        }
    }
}
