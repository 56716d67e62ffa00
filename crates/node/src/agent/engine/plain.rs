//! Answers of the engine as plain JSON. The typed client refuses a whole list because of one word that it does not know, such as Podman's state
//! `stopped`; what is read here is what is needed, and nothing else can be wrong.

use std::{collections::BTreeMap, path::Path, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE};
use bollard::ClientVersion;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{HeaderMap, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio_util::task::AbortOnDropHandle;

use super::{Container, EngineError, Phase, RegistryAuth, Result, words::time};

/// The longest answer.
const LIMIT: usize = 64 << 20;

/// What an engine says of itself before it is asked for anything.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Greeting {
    /// The newest version of the API that it speaks; nothing for one that does not say.
    pub(super) api: Option<(usize, usize)>,
    /// Whether it is Podman.
    pub(super) podman: bool,
}

impl Greeting {
    fn of(headers: &HeaderMap) -> Self {
        let api = headers.get("api-version").and_then(|version| {
            let (major, minor) = version.to_str().ok()?.split_once('.')?;
            Some((major.parse().ok()?, minor.parse().ok()?))
        });
        Self {
            api,
            podman: headers.contains_key("libpod-api-version"),
        }
    }
}

/// Says hello. Podman runs several programs before it tells its version, which takes it half a second; this it answers at once.
pub(super) async fn ping(socket: &Path, timeout: Duration) -> Result<Greeting> {
    let (headers, _) = send(socket, "/_ping", timeout).await?;
    Ok(Greeting::of(&headers))
}

/// One request, in a version of the API: engines refuse old ones, such as Docker 29 those before 1.44.
pub(super) async fn get(
    socket: &Path,
    version: &ClientVersion,
    path: &str,
    timeout: Duration,
) -> Result<Value> {
    let (_, body) = send(socket, &format!("/v{version}{path}"), timeout).await?;
    Ok(serde_json::from_slice(&body).unwrap_or_default())
}

/// One request, and the head and the body of a good answer.
async fn send(socket: &Path, path: &str, timeout: Duration) -> Result<(HeaderMap, Bytes)> {
    let away = |error: &dyn std::fmt::Display| EngineError::Away(error.to_string());
    let work = async {
        let stream = UnixStream::connect(socket).await.map_err(|error| away(&error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| away(&error))?;
        let request = Request::get(path)
            .header(hyper::header::HOST, "engine")
            .header(hyper::header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(|error| EngineError::Refused(error.to_string()))?;
        let answer = async {
            let (head, body) = sender
                .send_request(request)
                .await
                .map_err(|error| away(&error))?
                .into_parts();
            let body = Limited::new(body, LIMIT)
                .collect()
                .await
                .map_err(|error| away(&error))?;
            Ok::<_, EngineError>((head, body.to_bytes()))
        };
        let mut connection = std::pin::pin!(connection);
        let mut answer = std::pin::pin!(answer);
        let (head, body) = tokio::select! {
            outcome = &mut answer => outcome?,
            _ = &mut connection => answer.await?,
        };
        if head.status.is_success() {
            return Ok((head.headers, body));
        }
        let value: Value = serde_json::from_slice(&body).unwrap_or_default();
        let message = value["message"]
            .as_str()
            .map_or_else(|| String::from_utf8_lossy(&body).trim().to_owned(), str::to_owned);
        Err(match head.status {
            StatusCode::NOT_FOUND => EngineError::NotFound(message),
            StatusCode::CONFLICT => EngineError::Conflict(message),
            _ => EngineError::Refused(message),
        })
    };
    tokio::time::timeout(timeout, work).await.unwrap_or_else(|_| {
        Err(EngineError::Away(format!(
            "no answer within {} s",
            timeout.as_secs()
        )))
    })
}

/// How long a pull may take.
const PULL: Duration = Duration::from_secs(30 * 60);

/// Pulls an image by Podman's own API, from a registry that may speak plain HTTP.
pub(super) async fn pull(socket: &Path, reference: &str, auth: Option<&RegistryAuth>) -> Result<()> {
    let away = |error: &dyn std::fmt::Display| EngineError::Away(error.to_string());
    let work = async {
        let stream = UnixStream::connect(socket).await.map_err(|error| away(&error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| away(&error))?;
        let _driver = AbortOnDropHandle::new(tokio::spawn(connection));
        let path = format!(
            "/v4.0.0/libpod/images/pull?reference={}&tlsVerify=false",
            quoted(reference)
        );
        let mut request = Request::post(path).header(hyper::header::HOST, "engine");
        if let Some(auth) = auth {
            let text = serde_json::json!({"username": auth.username, "password": auth.password}).to_string();
            request = request.header("X-Registry-Auth", URL_SAFE.encode(text));
        }
        let request = request
            .body(Empty::<Bytes>::new())
            .map_err(|error| EngineError::Refused(error.to_string()))?;
        let answer = sender.send_request(request).await.map_err(|error| away(&error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LIMIT)
            .collect()
            .await
            .map_err(|error| away(&error))?
            .to_bytes();
        let text = String::from_utf8_lossy(&body);
        outcome_of_pull(status, &text)
    };
    tokio::time::timeout(PULL, work).await.unwrap_or_else(|_| {
        Err(EngineError::Refused(format!(
            "the image was not pulled within {} minutes",
            PULL.as_secs() / 60
        )))
    })
}

/// What a pull came to: an answer of good status tells an error in one of its lines.
fn outcome_of_pull(status: StatusCode, text: &str) -> Result<()> {
    let said = |line: &str| {
        let line: Value = serde_json::from_str(line).ok()?;
        let text = line["error"].as_str().or(line["message"].as_str())?;
        Some(text.to_owned())
    };
    match text.lines().filter(|line| !line.is_empty()).find_map(said) {
        Some(error) => Err(EngineError::Refused(error)),
        None if status.is_success() => Ok(()),
        None => Err(EngineError::Refused(format!("the engine answered {status}"))),
    }
}

/// Text for a place in a URL.
pub(super) fn quoted(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

fn map_of(value: &Value) -> BTreeMap<String, String> {
    let entries = value.as_object().into_iter().flatten();
    entries
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

/// The containers of a list.
pub(super) fn listed(list: &Value) -> Vec<(String, BTreeMap<String, String>)> {
    let each = list.as_array().into_iter().flatten();
    each.filter_map(|container| Some((container["Id"].as_str()?.to_owned(), map_of(&container["Labels"]))))
        .collect()
}

/// A container that was looked at.
pub(super) fn inspected(found: &Value) -> Container {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let state = &found["State"];
    let status = state["Status"].as_str().unwrap_or_default();
    let phase = if state["Running"] == true || status == "running" {
        Phase::Running
    } else if matches!(status, "created" | "configured" | "initialized" | "") {
        Phase::Created
    } else {
        Phase::Exited {
            code: state["ExitCode"].as_i64().unwrap_or(-1),
            oom_killed: state["OOMKilled"] == true,
            finished: time(state["FinishedAt"].as_str()),
            error: text(&state["Error"]),
        }
    };
    let networks = found["NetworkSettings"]["Networks"]
        .as_object()
        .into_iter()
        .flatten();
    Container {
        id: text(&found["Id"]),
        name: text(&found["Name"]).trim_start_matches('/').to_owned(),
        image: text(&found["Config"]["Image"]),
        image_id: text(&found["Image"]),
        labels: map_of(&found["Config"]["Labels"]),
        phase,
        started: time(state["StartedAt"].as_str()),
        addresses: networks
            .filter_map(|(name, network)| Some((name.clone(), network["IPAddress"].as_str()?.parse().ok()?)))
            .collect(),
        tty: found["Config"]["Tty"] == true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn a_container_in_podmans_words() {
        let found = inspected(&json!({
            "Id": "abc", "Name": "/one", "Image": "sha256:1", "Config": {"Image": "app:1", "Labels": {"a": "b"}, "Tty": false},
            "State": {
                "Status": "stopped", "Running": false, "ExitCode": 3, "OOMKilled": false,
                "StartedAt": "2026-11-30T02:19:52.1Z", "FinishedAt": "2026-11-30T02:19:53.1Z", "Error": "",
            },
            "NetworkSettings": {"Networks": {"cell": {"IPAddress": "10.210.0.2"}, "none": {"IPAddress": ""}}},
        }));
        assert!(matches!(found.phase, Phase::Exited { code: 3, .. }), "{found:?}");
        assert_eq!((found.name.as_str(), found.addresses.len()), ("one", 1));
        assert_eq!(found.labels["a"], "b");
    }

    #[test]
    fn errors_of_a_pull_are_in_its_lines() {
        let bad = "{\"stream\":\"Trying to pull a:1...\\n\"}\n{\"error\":\"unauthorized: authentication required\"}\n\n";
        let error = outcome_of_pull(StatusCode::OK, bad).unwrap_err();
        assert_eq!(error.to_string(), "unauthorized: authentication required");
        let good = "{\"stream\":\"Copying blob\"}\n{\"images\":[\"abc\"],\"id\":\"abc\"}\n";
        assert_eq!(outcome_of_pull(StatusCode::OK, good), Ok(()));
        let error = outcome_of_pull(
            StatusCode::BAD_REQUEST,
            "{\"cause\":\"x\",\"message\":\"invalid reference\"}",
        );
        assert_eq!(error.unwrap_err().to_string(), "invalid reference");
        assert!(outcome_of_pull(StatusCode::BAD_GATEWAY, "").is_err());
    }

    #[test]
    fn a_list_with_a_state_that_nobody_knows() {
        let list = json!([{"Id": "a", "State": "stopped", "Labels": {"x": "y"}}, {"Id": "b", "State": "new", "Labels": null}]);
        let ids: Vec<_> = listed(&list).into_iter().map(|(id, _)| id).collect();
        assert_eq!(ids, ["a", "b"]);
        assert_eq!(
            quoted("{\"label\":[\"a=b\"]}"),
            "%7B%22label%22%3A%5B%22a%3Db%22%5D%7D"
        );
    }

    /// An engine that answers the first request of each connection with these bytes.
    fn engine(answer: &'static str) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engine.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        (folder, path)
    }

    #[tokio::test]
    async fn greetings_tell_the_version_and_whose_it_is() {
        let cases = [
            (
                "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nLibpod-Api-Version: 4.3.1\r\nContent-Length: 2\r\n\r\nOK",
                (Some((1, 41)), true),
            ),
            (
                "HTTP/1.1 200 OK\r\nAPI-Version: 1.52\r\nServer: Docker/29.0.0 (linux)\r\nContent-Length: 2\r\n\r\nOK",
                (Some((1, 52)), false),
            ),
            (
                "HTTP/1.1 200 OK\r\nApi-Version: soon\r\nContent-Length: 2\r\n\r\nOK",
                (None, false),
            ),
        ];
        for (answer, (api, podman)) in cases {
            let (_folder, path) = engine(answer);
            let greeting = ping(&path, Duration::from_secs(20)).await.unwrap();
            assert_eq!(greeting, Greeting { api, podman });
        }
        let (_folder, path) =
            engine("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 18\r\n\r\n{\"message\":\"full\"}");
        let error = ping(&path, Duration::from_secs(20)).await.unwrap_err();
        assert!(matches!(error, EngineError::Refused(why) if why == "full"));
    }
}
