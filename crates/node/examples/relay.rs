//! The relay and the sandbox of cells without the rest of the platform, for tests with a real container engine; and, for tests of
//! probes, a server that speaks TLS with a certificate of its own (`tls PORT`), and one that speaks gRPC's health protocol
//! (`grpc PORT [not-serving]`).
#![allow(clippy::unwrap_used)]

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    if let Some(code) = choreo_node::command(&arguments) {
        return code;
    }
    let words: Vec<&str> = arguments.iter().filter_map(|word| word.to_str()).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    match words[..] {
        [_, "tls", port] => runtime.block_on(tls(port.parse().unwrap())),
        [_, "grpc", port] => runtime.block_on(grpc(port.parse().unwrap(), 1)),
        [_, "grpc", port, "not-serving"] => runtime.block_on(grpc(port.parse().unwrap(), 2)),
        _ => ExitCode::FAILURE,
    }
}

/// Answers every request with 200 over TLS; nobody knows who signed its certificate.
async fn tls(port: u16) -> ExitCode {
    let key = rcgen::generate_simple_self_signed(["somebody.example.com".to_owned()]).unwrap();
    let private = rustls_pki_types::PrivatePkcs8KeyDer::from(key.signing_key.serialize_der());
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![key.cert.der().clone()], private.into())
            .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await.unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let answer = service_fn(|_: Request<Incoming>| async {
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"secure"))))
            });
            let server = hyper::server::conn::http1::Builder::new();
            let _ = server.serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

/// Answers `grpc.health.v1.Health/Check` with a status, and other methods with `UNIMPLEMENTED`.
async fn grpc(port: u16, status: u8) -> ExitCode {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await.unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let answer = service_fn(move |request: Request<Incoming>| async move {
                let known = request.uri().path() == "/grpc.health.v1.Health/Check";
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", if known { "0" } else { "12" }.parse().unwrap());
                // A message with the field `status = 1`, in gRPC's frame.
                let message = if known {
                    vec![0, 0, 0, 0, 2, 0x08, status]
                } else {
                    Vec::new()
                };
                let frames = [
                    Ok::<_, Infallible>(Frame::data(Bytes::from(message))),
                    Ok(Frame::trailers(trailers)),
                ];
                let body = http_body_util::StreamBody::new(futures::stream::iter(frames)).boxed();
                let mut response = Response::new(body);
                let kind = "application/grpc".parse().unwrap();
                response.headers_mut().insert("content-type", kind);
                Ok::<_, Infallible>(response)
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}
