//! The relay of a cell, and the process that holds a Pod's network: what runs of our own inside of the containers' networks.
//!
//! A cell is a container network with no way out. Its relay is the only thing in it that knows of a world outside: it answers DNS, owns the
//! addresses of Services and of what else may be reached, forwards to the Pods of the cell by itself, and asks the node agent for everything
//! else. It decides nothing.

mod dns;
mod forward;
mod names;
pub(crate) mod protocol;
mod udp;

pub(crate) use forward::join;

use std::{
    ffi::OsString,
    io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use ipnet::Ipv4Net;
use tokio::net::{UnixListener, UnixStream};

use protocol::{AGENT_SOCKET, Command, Config, Question, RELAY_SOCKET, receive, send};

/// What one relay works with.
pub(crate) struct Relay {
    /// Its own address, where DNS is.
    pub(crate) address: Ipv4Addr,
    folder: PathBuf,
    names: names::Names,
    forwards: forward::Forwards,
}

impl Relay {
    /// A connection to the agent. There is none while it is away.
    async fn agent(&self) -> io::Result<UnixStream> {
        UnixStream::connect(self.folder.join(AGENT_SOCKET)).await
    }

    /// Asks the agent something that is answered by one frame.
    async fn ask<T: serde::de::DeserializeOwned>(&self, question: &Question) -> io::Result<T> {
        let mut stream = self.agent().await?;
        send(&mut stream, question).await?;
        receive(&mut stream).await
    }
}

/// Runs what the command line names, if it is one of the hidden commands that containers of cells run.
pub fn command(arguments: &[OsString]) -> Option<ExitCode> {
    let words: Vec<&str> = arguments
        .iter()
        .skip(1)
        .filter_map(|word| word.to_str())
        .collect();
    let outcome = match words.as_slice() {
        ["relay", address, range] => relay(address, range),
        ["pause"] => pause(),
        ["empty", folder] => empty(Path::new(folder)),
        _ => return None,
    };
    Some(match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(
                clippy::print_stderr,
                reason = "the container's log is where this is looked for"
            )]
            {
                eprintln!("choreo {}: {error}", words.join(" "));
            }
            ExitCode::FAILURE
        }
    })
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Waits until it is told to end, and does nothing else.
fn pause() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    runtime()?.block_on(async {
        let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    })
}

/// Removes everything in a folder: files of containers' users may be out of the reach of who runs the agent.
fn empty(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn relay(address: &str, range: &str) -> io::Result<()> {
    let invalid =
        |error: &dyn std::fmt::Display| io::Error::new(io::ErrorKind::InvalidInput, error.to_string());
    let address: Ipv4Addr = address.parse().map_err(|error| invalid(&error))?;
    let range: Ipv4Net = range.parse().map_err(|error| invalid(&error))?;
    runtime()?.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let mut term = signal(SignalKind::terminate())?;
        own(address, range).await?;
        tokio::select! {
            outcome = run(Path::new(protocol::FOLDER), address, range) => outcome,
            _ = term.recv() => Ok(()),
        }
    })
}

/// Makes every address of a range this machine's own, so that it answers for them (type `local`, as `ip route add local`).
#[cfg(target_os = "linux")]
async fn own(address: Ipv4Addr, range: Ipv4Net) -> io::Result<()> {
    use futures::TryStreamExt;
    use rtnetlink::{
        RouteMessageBuilder, new_connection,
        packet_route::{AddressFamily, address::AddressAttribute, route::RouteType},
    };
    let failed = |error: rtnetlink::Error| io::Error::other(format!("cannot own {range}: {error}"));
    let (connection, handle, _) = new_connection()?;
    let connection = tokio::spawn(connection);
    let mut addresses = handle.address().get().execute();
    let mut interface = None;
    while let Some(message) = addresses.try_next().await.map_err(failed)? {
        let ours = message.header.family == AddressFamily::Inet
            && message.attributes.iter().any(
                |attribute| matches!(attribute, AddressAttribute::Address(found) if *found == std::net::IpAddr::V4(address)),
            );
        if ours {
            interface = Some(message.header.index);
        }
    }
    let interface =
        interface.ok_or_else(|| io::Error::other(format!("no interface has the address {address}")))?;
    let route = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(range.network(), range.prefix_len())
        .output_interface(interface)
        .kind(RouteType::Local)
        .scope(rtnetlink::packet_route::route::RouteScope::Host)
        .table_id(255)
        .build();
    handle
        .route()
        .add(route)
        .replace()
        .execute()
        .await
        .map_err(failed)?;
    connection.abort();
    Ok(())
}

#[cfg(not(target_os = "linux"))]
async fn own(_: Ipv4Addr, range: Ipv4Net) -> io::Result<()> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        format!("cannot own {range}: this is not Linux"),
    ))
}

async fn run(folder: &Path, address: Ipv4Addr, range: Ipv4Net) -> io::Result<()> {
    let relay = Arc::new(Relay {
        address,
        folder: folder.to_owned(),
        names: names::Names::new(address, range),
        forwards: forward::Forwards::default(),
    });
    let socket = folder.join(RELAY_SOCKET);
    // A relay that was killed has left its own behind.
    match std::fs::remove_file(&socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&socket)?;
    std::fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let dns = dns::serve(relay.clone()).await?;
    if let Ok(mut stream) = relay.agent().await {
        // Without an agent there is nothing to say: it will find the socket when it comes.
        let _ = send(&mut stream, &Question::Ready).await;
    }
    tokio::select! {
        outcome = serve(relay, listener) => outcome,
        outcome = dns => outcome,
    }
}

async fn serve(relay: Arc<Relay>, listener: UnixListener) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let relay = relay.clone();
        tokio::spawn(async move {
            // Who asked sees the connection end.
            let _ = carry_out(&relay, stream).await;
        });
    }
}

async fn carry_out(relay: &Arc<Relay>, mut stream: UnixStream) -> io::Result<()> {
    match receive(&mut stream).await? {
        Command::Configure => loop {
            let config: Config = receive(&mut stream).await?;
            relay.configure(&config).await;
            send(&mut stream, &()).await?;
        },
        Command::Dial(address) => {
            let mut target = tokio::net::TcpStream::connect(address).await?;
            send(&mut stream, &()).await?;
            forward::join(&mut stream, &mut target).await;
            Ok(())
        }
    }
}

impl Relay {
    /// Brings names and listeners in line with what there is.
    async fn configure(self: &Arc<Self>, config: &Config) {
        self.names.configure(config);
        let mut wanted = Vec::new();
        for service in config.services.iter().filter(|service| !service.headless) {
            let Some(address) = self.names.own(&service.name) else {
                continue;
            };
            for port in &service.ports {
                wanted.push((address, port.port, port.transport, port.endpoints.clone()));
            }
        }
        self.forwards.configure(self, wanted).await;
    }
}
