//! What probes and lifecycle hooks do: HTTP, TCP, gRPC, a command in the container.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use choreo_pod_access::{Connection, Output};
use futures::StreamExt;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::{
    api::core::v1::{Container, ExecAction, GRPCAction, HTTPGetAction, LifecycleHandler, Probe},
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::agent::{Runtime, engine::ExecSpec};

/// How much of an answer is looked at.
const ANSWER_LIMIT: usize = 10 << 10;

/// Something that a probe or a hook does.
#[derive(Clone, Debug)]
pub(super) enum Action {
    Http(HTTPGetAction),
    Tcp(IntOrString, Option<String>),
    Grpc(GRPCAction),
    Exec(ExecAction),
    Sleep(Duration),
}

impl Action {
    pub(super) fn of_probe(probe: &Probe) -> Option<Self> {
        probe
            .http_get
            .clone()
            .map(Self::Http)
            .or_else(|| probe.tcp_socket.clone().map(|tcp| Self::Tcp(tcp.port, tcp.host)))
            .or_else(|| probe.grpc.clone().map(Self::Grpc))
            .or_else(|| probe.exec.clone().map(Self::Exec))
    }

    pub(super) fn of_hook(hook: &LifecycleHandler) -> Option<Self> {
        let sleep = hook.sleep.as_ref();
        let seconds = |sleep: &k8s_openapi::api::core::v1::SleepAction| {
            Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or_default())
        };
        hook.http_get
            .clone()
            .map(Self::Http)
            .or_else(|| hook.tcp_socket.clone().map(|tcp| Self::Tcp(tcp.port, tcp.host)))
            .or_else(|| hook.exec.clone().map(Self::Exec))
            .or_else(|| sleep.map(|sleep| Self::Sleep(seconds(sleep))))
    }
}

/// The container that it is done to.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) namespace: String,
    pub(super) address: IpAddr,
    pub(super) container: Arc<Container>,
    /// The engine's id of it.
    pub(super) id: String,
}

impl Target {
    fn port(&self, port: &IntOrString) -> Result<u16, String> {
        let number = match port {
            IntOrString::Int(number) => u16::try_from(*number).ok(),
            IntOrString::String(name) => {
                let mut ports = self.container.ports.iter().flatten();
                let named = ports.find(|port| port.name.as_ref() == Some(name));
                named
                    .and_then(|port| u16::try_from(port.container_port).ok())
                    .or_else(|| name.parse().ok())
            }
        };
        number.ok_or_else(|| {
            format!(
                "couldn't find a port {port:?} in container {:?}",
                self.container.name
            )
        })
    }

    fn host(&self, host: Option<&str>) -> Result<IpAddr, String> {
        match host.filter(|host| !host.is_empty()) {
            None => Ok(self.address),
            // Another host would be asked from the node, past every policy.
            Some(host) => host
                .parse()
                .ok()
                .filter(|address| *address == self.address)
                .ok_or_else(|| {
                    format!("host {host:?} of a probe or hook is not supported: only the Pod itself is asked")
                }),
        }
    }
}

/// Does it. An error is what a kubelet would say.
pub(super) async fn perform(
    runtime: &Runtime,
    target: &Target,
    action: &Action,
    timeout: Duration,
) -> Result<(), String> {
    let work = async {
        match action {
            Action::Http(get) => http(runtime, target, get).await,
            Action::Tcp(port, host) => {
                let address = SocketAddr::new(target.host(host.as_deref())?, target.port(port)?);
                dial(runtime, target, address).await.map(drop)
            }
            Action::Grpc(grpc) => health_check(runtime, target, grpc).await,
            Action::Exec(exec) => {
                let command = exec.command.clone().unwrap_or_default();
                let (code, output) = run(runtime, &target.id, command).await?;
                match code {
                    0 => Ok(()),
                    _ if output.is_empty() => Err(format!("command terminated with exit code {code}")),
                    _ => Err(output),
                }
            }
            Action::Sleep(time) => {
                tokio::time::sleep(*time).await;
                Ok(())
            }
        }
    };
    match tokio::time::timeout(timeout, work).await {
        Ok(outcome) => outcome,
        Err(_) => Err(match action {
            Action::Exec(exec) => {
                let command = exec.command.clone().unwrap_or_default().join(" ");
                format!("command {command:?} timed out after {}s", timeout.as_secs())
            }
            _ => format!(
                "no answer within {}s (context deadline exceeded)",
                timeout.as_secs()
            ),
        }),
    }
}

async fn dial(
    runtime: &Runtime,
    target: &Target,
    address: SocketAddr,
) -> Result<Box<dyn Connection>, String> {
    runtime
        .dial(&target.namespace, address)
        .await
        .map_err(|error| format!("dial tcp {address}: connect: {error}"))
}

/// Runs a command to its end; its exit code, and what it wrote.
pub(super) async fn run(
    runtime: &Runtime,
    container: &str,
    command: Vec<String>,
) -> Result<(i64, String), String> {
    let spec = ExecSpec {
        command,
        stdout: true,
        stderr: true,
        ..ExecSpec::default()
    };
    let engine = &runtime.engine;
    let exec = engine
        .create_exec(container, &spec)
        .await
        .map_err(|e| e.to_string())?;
    let mut streams = engine.start_exec(&exec, false).await.map_err(|e| e.to_string())?;
    let mut output = Vec::new();
    while let Some(piece) = streams.output.next().await {
        match piece.map_err(|error| error.to_string())? {
            Output::Stdout(bytes) | Output::Stderr(bytes) => {
                output.extend(bytes.iter().take(ANSWER_LIMIT.saturating_sub(output.len())));
            }
        }
    }
    let code = engine.exec_code(&exec).await.map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output).trim_end().to_owned();
    Ok((code.unwrap_or(-1), text))
}

async fn http(runtime: &Runtime, target: &Target, get: &HTTPGetAction) -> Result<(), String> {
    let address = SocketAddr::new(target.host(get.host.as_deref())?, target.port(&get.port)?);
    let secure = get.scheme.as_deref() == Some("HTTPS");
    let path = get.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
    let scheme = if secure { "https" } else { "http" };
    let url = format!("{scheme}://{address}/{}", path.trim_start_matches('/'));
    let failed = |why: String| format!("Get {url:?}: {why}");
    let stream = dial(runtime, target, address).await.map_err(failed)?;
    let stream = if secure {
        tls::connect(stream, target.address).await.map_err(failed)?
    } else {
        stream
    };
    let mut headers: BTreeMap<String, String> = [
        ("user-agent".to_owned(), "kube-probe/1.37".to_owned()),
        ("accept".to_owned(), "*/*".to_owned()),
        ("connection".to_owned(), "close".to_owned()),
        ("host".to_owned(), address.to_string()),
    ]
    .into();
    for wanted in get.http_headers.iter().flatten() {
        headers.insert(wanted.name.to_ascii_lowercase(), wanted.value.clone());
    }
    let mut request = Request::get(format!("/{}", path.trim_start_matches('/')));
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request
        .body(Full::new(Bytes::new()))
        .map_err(|error| failed(error.to_string()))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed(error.to_string()))?;
    let answer = async {
        let answer = sender
            .send_request(request)
            .await
            .map_err(|error| failed(error.to_string()))?;
        let status = answer.status();
        // The server may want to see its answer read; more than this of it is not of interest.
        let _ = Limited::new(answer.into_body(), ANSWER_LIMIT).collect().await;
        Ok(status)
    };
    let status = drive(connection, answer).await?;
    if (200..400).contains(&status.as_u16()) {
        Ok(())
    } else {
        Err(format!("HTTP probe failed with statuscode: {}", status.as_u16()))
    }
}

/// Runs a connection for as long as something is asked over it.
async fn drive<T>(
    connection: impl Future<Output = hyper::Result<()>>,
    work: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    let mut connection = std::pin::pin!(connection);
    let mut work = std::pin::pin!(work);
    tokio::select! {
        outcome = &mut work => outcome,
        _ = &mut connection => work.await,
    }
}

/// `grpc.health.v1.Health/Check`: one short message each way.
async fn health_check(runtime: &Runtime, target: &Target, grpc: &GRPCAction) -> Result<(), String> {
    let address = SocketAddr::new(target.address, target.port(&IntOrString::Int(grpc.port))?);
    let stream = dial(runtime, target, address).await?;
    let service = grpc.service.as_deref().unwrap_or_default();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
    let request = Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header(header::USER_AGENT, "kube-probe/1.37")
        .body(Full::new(health_request(service)?))
        .map_err(|error| error.to_string())?;
    let answer = async {
        let answer = sender
            .send_request(request)
            .await
            .map_err(|error| error.to_string())?;
        let status = |headers: &hyper::HeaderMap| {
            headers
                .get("grpc-status")
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        let early = status(answer.headers());
        let body = Limited::new(answer.into_body(), ANSWER_LIMIT)
            .collect()
            .await
            .map_err(|error| error.to_string())?;
        let code = early
            .or_else(|| body.trailers().and_then(status))
            .unwrap_or_default();
        Ok((code, body.to_bytes()))
    };
    let (code, body) = drive(connection, answer).await?;
    match (code.as_str(), serving(&body)) {
        ("0", true) => Ok(()),
        ("0", false) => Err(format!("service unhealthy (responded with {:?})", "NOT_SERVING")),
        ("12", _) => Err(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)"
                .to_owned(),
        ),
        (code, _) => Err(format!("error: health rpc failed with grpc-status {code:?}")),
    }
}

/// The message `HealthCheckRequest { service = 1 }` in gRPC's frame.
fn health_request(service: &str) -> Result<Bytes, String> {
    let length = u8::try_from(service.len())
        .ok()
        .filter(|length| *length < 128)
        .ok_or_else(|| format!("the gRPC service name {service:?} is longer than 127 bytes"))?;
    let mut message = BytesMut::new();
    if length > 0 {
        message.put_u8(0x0a);
        message.put_u8(length);
        message.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or_default());
    frame.put_slice(&message);
    Ok(frame.freeze())
}

/// Whether a `HealthCheckResponse { status = 1 }` says `SERVING`, which is 1.
fn serving(frame: &[u8]) -> bool {
    frame.get(5..7) == Some(&[0x08, 0x01])
}

/// Probes do not check certificates: the container's own is rarely anybody's.
mod tls {
    use std::{net::IpAddr, sync::Arc};

    use rustls::{
        ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    };
    use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

    use choreo_pod_access::Connection;

    #[derive(Debug)]
    struct Any(CryptoProvider);

    impl ServerCertVerifier for Any {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls12_signature(
                message,
                certificate,
                signed,
                &self.0.signature_verification_algorithms,
            )
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(
                message,
                certificate,
                signed,
                &self.0.signature_verification_algorithms,
            )
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }

    pub(super) async fn connect(
        stream: Box<dyn Connection>,
        address: IpAddr,
    ) -> Result<Box<dyn Connection>, String> {
        let provider = ring::default_provider();
        let config = ClientConfig::builder_with_provider(Arc::new(provider.clone()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Any(provider)))
            .with_no_client_auth();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = connector
            .connect(ServerName::IpAddress(address.into()), stream)
            .await
            .map_err(|error| format!("tls: {error}"))?;
        Ok(Box::new(stream))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `protoc` encodes them, with gRPC's five bytes in front.
    #[test]
    fn messages_of_the_health_protocol() {
        assert_eq!(health_request("").unwrap().as_ref(), [0, 0, 0, 0, 0]);
        assert_eq!(
            health_request("ab").unwrap().as_ref(),
            [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']
        );
        assert!(health_request(&"x".repeat(128)).is_err());
        assert!(serving(&[0, 0, 0, 0, 2, 0x08, 0x01]));
        assert!(!serving(&[0, 0, 0, 0, 2, 0x08, 0x02]));
        assert!(!serving(&[0, 0, 0, 0, 0]));
    }
}
