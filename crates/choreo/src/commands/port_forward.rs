//! `choreo port-forward`.

use std::net::Ipv4Addr;
use std::str::FromStr;
use std::sync::Arc;

use kube::{Api, ResourceExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::failure::{Failure, Outcome};
use crate::online::{Connect, Session};
use crate::output::Printer;
use crate::running::{Place, Pod, Target, list, pick};

/// Arguments of `choreo port-forward`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Listens on the loopback address until Ctrl-C. Each connection goes to the newest pod that is ready at that moment, so that it
outlives rollouts. It does not pass the gateway: no policy of the component's APIs holds.

For example: choreo port-forward greeter 9090
             choreo port-forward greeter 8080:9090 -e staging
             choreo port-forward greeter 0:9090")]
pub(crate) struct Args {
    /// The component
    #[arg(value_name = "COMPONENT")]
    component: String,
    /// The pod's port, with the port here before it if that is to be another one; 0 takes any free one
    #[arg(value_name = "[LOCAL:]PORT")]
    ports: Ports,
    #[command(flatten)]
    target: Target,
}

/// A port here and a port there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ports {
    local: u16,
    remote: u16,
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<u16>().map_err(|_| format!("`{text}` is no port"));
        let (local, remote) = match text.split_once(':') {
            Some((local, remote)) => (number(local)?, number(remote)?),
            None => (number(text)?, number(text)?),
        };
        if remote == 0 {
            return Err("a pod has no port 0".to_owned());
        }
        Ok(Ports { local, remote })
    }
}

pub(crate) async fn run(args: &Args, connect: &Connect, printer: &mut Printer) -> Outcome {
    let place = Place::find(&args.component, &args.target, connect).await?;
    let data_plane = place.data_plane(&args.target).await?;
    // What cannot work is said before anybody connects.
    let pods = list(&place, &data_plane).await?;
    let pod = pick(&place, &pods)?.name_any();
    let Ports { local, remote } = args.ports;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, local))
        .await
        .map_err(|error| {
            Failure::new(format!("cannot listen on port {local}"))
                .because(&error)
                .hint(format!(
                    "choose another port: choreo port-forward {} 0:{remote}",
                    args.component
                ))
        })?;
    let address = listener
        .local_addr()
        .map_err(|error| Failure::new("cannot listen").because(&error))?;
    printer.line(format!(
        "{address} -> {}, port {remote} (pod {pod})",
        place.title()
    ))?;
    printer.text("")?;
    let forward = Arc::new(Forward {
        place,
        data_plane,
        port: remote,
    });
    let (problems, mut told) = mpsc::channel(16);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted.map_err(|error| Failure::new("cannot accept a connection").because(&error))?;
                let (forward, problems) = (forward.clone(), problems.clone());
                connections.spawn(async move {
                    if let Err(failure) = forward.serve(stream).await {
                        // Who cannot be told has been told often enough.
                        let _ = problems.try_send(failure);
                    }
                });
            }
            Some(failure) = told.recv() => {
                printer.failure(&failure);
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

struct Forward {
    place: Place,
    data_plane: Session,
    port: u16,
}

impl Forward {
    async fn serve(&self, mut stream: TcpStream) -> Result<(), Failure> {
        let pods = list(&self.place, &self.data_plane).await?;
        let pod = pick(&self.place, &pods)?.name_any();
        let what = || format!("cannot connect with port {} of pod {pod}", self.port);
        let api: Api<Pod> = Api::namespaced(self.data_plane.client(), &self.place.namespace());
        let forwarded = api.portforward(&pod, &[self.port]).await;
        let mut forwarded = forwarded.map_err(|error| self.data_plane.error(error).failure(what()))?;
        let refused = forwarded.take_error(self.port);
        let Some(mut remote) = forwarded.take_stream(self.port) else {
            return Err(Failure::new(what()).cause("the server gave no connection"));
        };
        // Either side may leave in the middle; that is theirs.
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut remote).await;
        drop(remote);
        let said = match refused {
            Some(refused) => futures::FutureExt::now_or_never(refused).flatten(),
            None => None,
        };
        match said {
            Some(why) => Err(Failure::new(what()).cause(why)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_here_and_there() {
        let ports = |local, remote| Ok(Ports { local, remote });
        assert_eq!("80".parse(), ports(80, 80));
        assert_eq!("8080:80".parse(), ports(8080, 80));
        assert_eq!("0:80".parse(), ports(0, 80));
        for wrong in ["", "http", "80:", ":80", "0", "80:0", "70000"] {
            assert!(wrong.parse::<Ports>().is_err(), "{wrong}");
        }
    }
}
