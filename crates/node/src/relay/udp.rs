//! Datagrams: a flow is a client and a listener, and lives while something passes.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::AsyncRead,
    net::{UdpSocket, UnixStream},
    sync::mpsc,
    time::timeout,
};

use super::{
    Relay,
    forward::{Backend, complain, open},
    protocol::{Transport, receive_datagram, send_datagram},
};

/// How long a flow lives without a datagram, as conntrack's default for UDP.
const IDLE: Duration = Duration::from_secs(30);
/// Flows of one listener. More are dropped, as datagrams may be.
const FLOWS: usize = 1024;
/// Datagrams that wait for a flow.
const QUEUE: usize = 64;

pub(super) async fn serve(relay: Arc<Relay>, socket: Arc<UdpSocket>, backend: Arc<Backend>, port: u16) {
    let mut flows: HashMap<SocketAddr, mpsc::Sender<Vec<u8>>> = HashMap::new();
    let mut buffer = vec![0; 65_536];
    loop {
        let (size, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                // An answer that could not be delivered comes back as an error of the socket; the next receive clears it.
                complain(&format!("a datagram on port {port}: {error}"));
                continue;
            }
        };
        let datagram = buffer[..size].to_vec();
        if flows.len() >= FLOWS {
            flows.retain(|_, flow| !flow.is_closed());
        }
        let flow = flows.get(&from).filter(|flow| !flow.is_closed());
        let flow = match flow {
            Some(flow) => flow.clone(),
            None if flows.len() >= FLOWS => continue,
            None => {
                let (sender, datagrams) = mpsc::channel(QUEUE);
                let (relay, socket, backend) = (relay.clone(), socket.clone(), backend.clone());
                tokio::spawn(async move {
                    run(&relay, &socket, &backend, port, from, datagrams).await;
                });
                flows.insert(from, sender.clone());
                sender
            }
        };
        let _ = flow.try_send(datagram);
    }
}

async fn run(
    relay: &Relay,
    socket: &UdpSocket,
    backend: &Backend,
    port: u16,
    client: SocketAddr,
    datagrams: mpsc::Receiver<Vec<u8>>,
) {
    match backend {
        Backend::Endpoints { .. } => {
            let Some(endpoint) = backend.turn().first().copied() else {
                return;
            };
            let Ok(target) = UdpSocket::bind("0.0.0.0:0").await else {
                return;
            };
            if target.connect(endpoint).await.is_ok() {
                direct(socket, &target, client, datagrams).await;
            }
        }
        Backend::Agent(destination) => {
            if let Ok(stream) = open(relay, client, destination, port, Transport::Udp).await {
                through(socket, stream, client, datagrams).await;
            }
        }
    }
}

async fn direct(
    socket: &UdpSocket,
    target: &UdpSocket,
    client: SocketAddr,
    mut datagrams: mpsc::Receiver<Vec<u8>>,
) {
    let mut buffer = vec![0; 65_536];
    loop {
        let step = async {
            tokio::select! {
                datagram = datagrams.recv() => target.send(&datagram?).await.ok(),
                answer = target.recv(&mut buffer) => match answer {
                    Ok(size) => socket.send_to(&buffer[..size], client).await.ok(),
                    Err(_) => None,
                },
            }
        };
        if !matches!(timeout(IDLE, step).await, Ok(Some(_))) {
            return;
        }
    }
}

async fn through(
    socket: &UdpSocket,
    stream: UnixStream,
    client: SocketAddr,
    mut datagrams: mpsc::Receiver<Vec<u8>>,
) {
    let (mut answers, mut questions) = stream.into_split();
    let (sender, mut received) = mpsc::channel(QUEUE);
    // Reading a frame must not be broken off in the middle, so that it is no part of the choice below.
    let reader = tokio::spawn(async move { read(&mut answers, &sender).await });
    loop {
        let step = async {
            tokio::select! {
                datagram = datagrams.recv() => send_datagram(&mut questions, &datagram?).await.ok(),
                answer = received.recv() => socket.send_to(&answer?, client).await.ok().map(drop),
            }
        };
        if !matches!(timeout(IDLE, step).await, Ok(Some(()))) {
            break;
        }
    }
    reader.abort();
}

async fn read(stream: &mut (impl AsyncRead + Unpin), sender: &mpsc::Sender<Vec<u8>>) {
    while let Ok(datagram) = receive_datagram(stream).await {
        if sender.send(datagram).await.is_err() {
            return;
        }
    }
}
