//! What the image says of itself, where the engine that will run it is on this machine.

use choreo_node::ImageFacts;
use serde_json::Value;

use super::Args;
use crate::failure::Failure;
use crate::online::Session;
use crate::output::Printer;

/// What the names of images begin with that the node never pulls: they are of this machine.
const BUILT_HERE: &str = "localhost/";
/// The logical cluster that is the local data plane.
const LOCAL: &str = "local";

/// Looks at the image. None where no container is run, or the image cannot be had; then a word about it if it was needed.
///
/// # Errors
/// When the image is one that only this machine could have, and it does not.
pub(super) async fn look(
    session: &Session,
    args: &Args,
    printer: &mut Printer,
) -> Result<Option<ImageFacts>, Failure> {
    let Some(socket) = engine(session).await else {
        return Ok(None);
    };
    let needed = args.port.is_none() && !args.worker;
    match choreo_node::image_facts(Some(&socket), &args.image, false).await {
        Ok(facts) => return Ok(Some(facts)),
        Err(error) if error.is_not_found() && args.image.starts_with(BUILT_HERE) => {
            return Err(Failure::new(format!("there is no image {}", args.image))
                .cause(error.to_string())
                .hint(format!("build it, as with: docker build -t {} .", args.image)));
        }
        Err(_) => {}
    }
    if !needed {
        return Ok(None);
    }
    printer.note(format!("pulling {} to see which port it exposes", args.image))?;
    let pulled = tokio::time::timeout(
        args.timeout,
        choreo_node::image_facts(Some(&socket), &args.image, true),
    );
    match pulled.await {
        Ok(Ok(facts)) => Ok(Some(facts)),
        Ok(Err(error)) => {
            printer.warning(format!("which port it exposes is not known: {error}"))?;
            Ok(None)
        }
        Err(_) => {
            printer.warning(format!(
                "which port it exposes is not known: it was not pulled within {:?}",
                args.timeout
            ))?;
            Ok(None)
        }
    }
}

/// The socket of the engine that runs the local data plane's Pods, if it has one.
async fn engine(session: &Session) -> Option<String> {
    let local = session.in_logical_cluster(LOCAL)?;
    let nodes = local.get("/api/v1/nodes").await.ok()?;
    let each = nodes["items"].as_array()?.iter();
    let sockets = each.filter_map(|node: &Value| {
        let annotations = &node["metadata"]["annotations"];
        let simulated = annotations[choreo_api::labels::annotations::SIMULATED] == "true";
        let socket = annotations[choreo_node::ENGINE_SOCKET].as_str()?;
        (!simulated).then(|| socket.to_owned())
    });
    sockets.into_iter().next()
}

/// The port, and why it is that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) number: Option<u16>,
    pub(super) why: &'static str,
}

/// Which port the component answers on.
///
/// # Errors
/// When the image exposes several, and nobody says which, or none and somebody is to call it.
pub(super) fn port(args: &Args, facts: Option<&ImageFacts>) -> Result<Port, Failure> {
    let exposed: Vec<u16> = facts
        .iter()
        .flat_map(|facts| facts.ports.iter().copied())
        .collect();
    let found = match (args.port, args.worker, exposed.as_slice()) {
        (Some(port), _, _) => Port {
            number: Some(port),
            why: "HTTP",
        },
        (None, true, _) => Port {
            number: None,
            why: "a worker: nothing calls it",
        },
        (None, false, [port]) => Port {
            number: Some(*port),
            why: "HTTP; the image exposes it (EXPOSE); --port says another one, --worker that nothing calls it",
        },
        (None, false, []) => Port {
            number: None,
            why: match facts {
                Some(_) => {
                    "a worker, which nothing calls: the image exposes no port; --port says which one it answers on"
                }
                None => "a worker: nothing calls it; --port says which one it answers on",
            },
        },
        (None, false, several) => {
            let list: Vec<String> = several.iter().map(u16::to_string).collect();
            return Err(
                Failure::usage(format!("which port does {} answer HTTP on?", args.image))
                    .cause(format!("the image exposes several: {}", list.join(", ")))
                    .hint(format!(
                        "--port {} chooses one; --worker says that nothing calls it",
                        list[0]
                    )),
            );
        }
    };
    if found.number.is_none() && (args.public || args.organization) {
        let flag = if args.public { "--public" } else { "--organization" };
        return Err(Failure::usage(format!("{flag} needs a port that can be called"))
            .cause(match facts {
                Some(_) => "the image exposes none",
                None => "what the image exposes is not known here",
            })
            .hint("--port says which one it answers HTTP on"));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn chosen(words: &[&str], ports: Option<&[u16]>) -> Result<Option<u16>, String> {
        let line = Line::parse_from(["run", "app:1"].iter().chain(words));
        let facts = ports.map(|ports| ImageFacts {
            ports: ports.iter().copied().collect(),
            user: "1000".to_owned(),
        });
        port(&line.args, facts.as_ref())
            .map(|port| port.number)
            .map_err(|failure| failure.what)
    }

    #[test]
    fn the_port_is_what_is_said_or_the_one_that_is_exposed() {
        assert_eq!(chosen(&[], Some(&[8080])), Ok(Some(8080)));
        assert_eq!(chosen(&["--public"], Some(&[8080])), Ok(Some(8080)));
        assert_eq!(chosen(&["--port", "9000"], Some(&[8080])), Ok(Some(9000)));
        assert_eq!(chosen(&["--port", "9000"], Some(&[80, 443])), Ok(Some(9000)));
        assert_eq!(chosen(&["--worker"], Some(&[8080])), Ok(None));
        assert_eq!(chosen(&[], Some(&[])), Ok(None));
        assert_eq!(chosen(&[], None), Ok(None));
        assert!(chosen(&[], Some(&[80, 443])).unwrap_err().contains("which port"));
        assert!(
            chosen(&["--public"], None)
                .unwrap_err()
                .contains("--public needs a port")
        );
        assert!(
            chosen(&["--public"], Some(&[]))
                .unwrap_err()
                .contains("--public needs a port")
        );
    }
}
