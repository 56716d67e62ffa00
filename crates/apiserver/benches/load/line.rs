//! A connection to the server that costs the client as little as it can.
//!
//! Client and server share the processors, so what the client spends is missing from the server that is measured. Therefore no
//! client library: a connection is one TLS stream, and whoever sends a request on it drives it, without a task of its own.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use http_body::Body;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use kube::client::ConfigExt;
use kube::config::{KubeConfigOptions, Kubeconfig};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::Settings;
use crate::target::Outcome;

/// Where a server is and how one is let in.
pub(crate) struct Address {
    place: String,
    host: HeaderValue,
    name: ServerName<'static>,
    tls: TlsConnector,
    authorization: Option<HeaderValue>,
}

impl Address {
    pub(crate) async fn read(settings: &Settings) -> Outcome<Address> {
        let config = Kubeconfig::read_from(&settings.kubeconfig).map_err(|e| e.to_string())?;
        let options = KubeConfigOptions {
            context: settings.context.clone(),
            ..KubeConfigOptions::default()
        };
        let config = kube::Config::from_custom_kubeconfig(config, &options)
            .await
            .map_err(|e| e.to_string())?;
        let url = &config.cluster_url;
        if url.scheme_str() != Some("https") {
            return Err(format!("{url}: only https is measured"));
        }
        let host = url.host().ok_or_else(|| format!("{url}: no host"))?.to_owned();
        let place = format!("{host}:{}", url.port_u16().unwrap_or(443));
        // The library keeps tokens wrapped; written out as in the file it shows them.
        let user = serde_json::to_value(&config.auth_info).map_err(|e| e.to_string())?;
        let authorization = user["token"]
            .as_str()
            .map(|token| HeaderValue::from_str(&format!("Bearer {token}")))
            .transpose()
            .map_err(|e| e.to_string())?;
        let name = config.tls_server_name.clone().unwrap_or(host);
        let tls = config.rustls_client_config().map_err(|e| e.to_string())?;
        Ok(Address {
            host: HeaderValue::from_str(&place).map_err(|e| e.to_string())?,
            name: ServerName::try_from(name).map_err(|e| e.to_string())?,
            place,
            tls: TlsConnector::from(Arc::new(tls)),
            authorization,
        })
    }
}

type Wire = http1::Connection<TokioIo<TlsStream<TcpStream>>, Full<Bytes>>;

/// What is left of a connection's life; none when it ended.
struct Connection(Option<Wire>);

/// One connection, for one request at a time.
pub(crate) struct Line {
    sender: http1::SendRequest<Full<Bytes>>,
    connection: Connection,
    body: Option<Incoming>,
}

impl Line {
    pub(crate) async fn open(address: &Address) -> Outcome<Line> {
        let stream = TcpStream::connect(&address.place)
            .await
            .map_err(|e| format!("{}: {e}", address.place))?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        let stream = address
            .tls
            .connect(address.name.clone(), stream)
            .await
            .map_err(|e| e.to_string())?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| e.to_string())?;
        Ok(Line {
            sender,
            connection: Connection(Some(connection)),
            body: None,
        })
    }

    /// Whether another request may be sent on it.
    pub(crate) fn is_open(&self) -> bool {
        self.sender.is_ready()
    }

    /// Sends a request. Gives its status as soon as that is known; `chunk` gives what follows.
    pub(crate) async fn send(
        &mut self,
        address: &Address,
        method: Method,
        path: &str,
        headers: &[(&'static str, &'static str)],
        body: Vec<u8>,
    ) -> Outcome<u16> {
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|e| format!("{path}: {e}"))?;
        let fields = request.headers_mut();
        fields.insert(header::HOST, address.host.clone());
        if let Some(authorization) = &address.authorization {
            fields.insert(header::AUTHORIZATION, authorization.clone());
        }
        for (name, value) in headers {
            fields.insert(*name, HeaderValue::from_static(value));
        }
        let Line {
            sender, connection, ..
        } = self;
        let mut answer = pin!(sender.send_request(request));
        let answer = poll_fn(|context| {
            connection.drive(context);
            answer.as_mut().poll(context)
        })
        .await
        .map_err(|e| e.to_string())?;
        let status = answer.status().as_u16();
        self.body = Some(answer.into_body());
        Ok(status)
    }

    /// The next piece of the body; none at its end.
    pub(crate) async fn chunk(&mut self) -> Outcome<Option<Bytes>> {
        let Line { connection, body, .. } = self;
        let Some(incoming) = body else { return Ok(None) };
        loop {
            let frame = poll_fn(|context| {
                connection.drive(context);
                Pin::new(&mut *incoming).poll_frame(context)
            })
            .await;
            match frame {
                None => break,
                Some(Err(error)) => return Err(error.to_string()),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
        *body = None;
        // The connection learns only now that it is free.
        poll_fn(|context| {
            connection.drive(context);
            Poll::Ready(())
        })
        .await;
        Ok(None)
    }
}

impl Connection {
    /// Lets the connection read and write what it can. Its end, good or bad, shows in the request that uses it.
    fn drive(&mut self, context: &mut Context<'_>) {
        if let Some(wire) = &mut self.0
            && Pin::new(wire).poll(context).is_ready()
        {
            self.0 = None;
        }
    }
}
