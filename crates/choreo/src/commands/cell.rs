//! `choreo cell`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use choreo_api::v1alpha1::Release;
use choreo_engine::World;
use choreo_engine::reach::{Explanation, Hop, QuestionError, Report, Request, Side, explain};

use crate::exit::ExitStatus;
use crate::failure::{Failure, Outcome};
use crate::offline;
use crate::offline::findings::report;
use crate::offline::schemas::Schemas;
use crate::offline::whole;
use crate::online::{self, Connect, Kinds, Session};
use crate::output::{Format, Printer, style, to_json, yaml_documents};

/// Arguments of `choreo cell`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Say whether one party may talk to another, and which network policies decide that
    Explain(Explain),
}

/// Arguments of `choreo cell explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A party is a component's NAME (with :PORT where one port is meant), gateway/public, gateway/organization, internet, or a URL,
HOST:PORT or ADDRESS:PORT outside of the platform. The exit status is 0 when it is allowed and 1 when it is not.

For example: choreo cell explain frontend cart
             choreo cell explain 'frontend -> cart:8080' -f shop/ -e development
             choreo cell explain gateway/public cart --request 'GET /books'
             choreo cell explain cart https://api.example.com")]
struct Explain {
    /// Who begins; or the whole question as 'FROM -> TO' (in quotes: a shell takes > for itself)
    #[arg(value_name = "FROM")]
    first: String,
    /// Who is meant
    // Three single values and not a list: a list that may hold an arrow would swallow the flags behind it.
    #[arg(value_name = "TO", allow_hyphen_values = true)]
    second: Option<String>,
    /// Who is meant, after an arrow
    #[arg(hide = true)]
    third: Option<String>,
    /// The environment; needed when there is more than one
    #[arg(short, long, value_name = "NAME")]
    environment: Option<String>,
    /// Judge files instead of a server: a file or folder of manifests; `-` is standard input
    #[arg(short, long, value_name = "FILE")]
    filename: Vec<PathBuf>,
    /// Look into the folders below, too
    #[arg(short = 'R', long, requires = "filename")]
    recursive: bool,
    /// Without the defaults that `choreo up` installs: the files say everything
    #[arg(long, requires = "filename")]
    no_defaults: bool,
    /// A single request, as 'METHOD PATH'
    #[arg(long, value_name = "REQUEST")]
    request: Option<String>,
    /// Output format: table, yaml or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

pub(crate) async fn run(args: &Args, connect: &Connect, printer: &mut Printer) -> Outcome {
    let Command::Explain(args) = &args.command;
    let words: Vec<String> = std::iter::once(&args.first)
        .chain(&args.second)
        .chain(&args.third)
        .cloned()
        .collect();
    let (from, to) = parties(&words)?;
    let request = args.request.as_deref().map(parse_request).transpose()?;
    let (world, organization, session) = if args.filename.is_empty() {
        let session = Session::open(connect).await?;
        let kinds = Kinds::fetch(&session).await?;
        let world = online::world(&session, &kinds).await?;
        (world, session.namespace.clone(), Some(session))
    } else {
        let (world, organization) = offline(args, connect, printer)?;
        (world, organization, None)
    };
    let environment = match &args.environment {
        Some(name) => name.clone(),
        None => only_environment(&world, &organization)?,
    };
    let found =
        explain(&world, &organization, &environment, &from, &to, request.as_ref()).map_err(|error| {
            match error {
                QuestionError::Unknown(what) => Failure::new(what).status(ExitStatus::NotFound),
                policy @ QuestionError::Policy(_) => Failure::new(policy.to_string()),
            }
        })?;
    match args.output {
        Format::Json => {
            let value = serde_json::to_value(&found).map_err(std::io::Error::other)?;
            printer.text(to_json(&value)?)?;
        }
        Format::Yaml => {
            let value = serde_json::to_value(&found).map_err(std::io::Error::other)?;
            printer.text(yaml_documents(&[value])?)?;
        }
        Format::Table | Format::Wide | Format::Name => {
            printer.text(draw(&found, &environment))?;
            if is_more_than_policies(&found)
                && let Some(session) = &session
                && let Some(limits) = local_limits(session).await
            {
                printer.note(format!("on the local data plane, {limits}"))?;
            }
        }
    }
    Ok(if found.allowed() {
        ExitStatus::Success
    } else {
        ExitStatus::Failure
    })
}

/// Whether the answer is one that a network without all of a policy's rules gives differently: a direct connection that is denied, or
/// one for some requests.
fn is_more_than_policies(report: &Report) -> bool {
    report.paths.iter().any(|path| {
        let denied_directly = path.hops.len() == 1 && !path.allowed();
        let some_requests = path.hops.iter().any(|hop| {
            let partly = |side: &Side| {
                matches!(
                    side,
                    Side::Allowed {
                        some_requests: true,
                        ..
                    }
                )
            };
            partly(&hop.explanation.egress) || partly(&hop.explanation.ingress)
        });
        denied_directly || some_requests
    })
}

/// What the local data plane does not enforce, in its node's words; nothing where there is none.
async fn local_limits(session: &Session) -> Option<String> {
    let local = session.in_logical_cluster("local")?;
    let nodes = local.get("/api/v1/nodes").await.ok()?;
    let nodes = nodes["items"].as_array()?;
    let mut conditions = nodes
        .iter()
        .flat_map(|node| node["status"]["conditions"].as_array().into_iter().flatten());
    let found = conditions.find(|condition| {
        condition["type"] == choreo_node::POLICY_PARTLY_ENFORCED && condition["status"] == "True"
    })?;
    found["message"].as_str().map(str::to_owned)
}

/// The two parties of a question, in any of the ways in which it may be written.
fn parties(words: &[String]) -> Result<(String, String), Failure> {
    let wrong = || {
        Failure::usage("a question has two parties: FROM TO, or 'FROM -> TO' in quotes")
            .hint("`choreo cell explain --help` shows what a party may be")
    };
    let joined = words.join(" ");
    let (from, to) = match joined.split_once("->") {
        Some((from, to)) => (from.trim(), to.trim()),
        None => match words {
            // What is left of an arrow when the shell has taken the rest for a redirection.
            [.., last] if last == "-" => return Err(wrong()),
            [from, to] => (from.trim(), to.trim()),
            _ => return Err(wrong()),
        },
    };
    if from.is_empty() || to.is_empty() || from.contains(' ') || to.contains(' ') {
        return Err(wrong());
    }
    Ok((from.to_owned(), to.to_owned()))
}

fn parse_request(text: &str) -> Result<Request, Failure> {
    let wrong = || {
        Failure::usage(format!(
            "--request {text:?}: expected 'METHOD PATH', as in 'GET /books'"
        ))
    };
    let (method, path) = text.trim().split_once(' ').ok_or_else(wrong)?;
    let path = path.trim();
    if !path.starts_with('/') {
        return Err(wrong());
    }
    Ok(Request {
        method: method.to_ascii_uppercase(),
        path: path.to_owned(),
    })
}

/// The world that files lead to.
fn offline(args: &Explain, connect: &Connect, printer: &mut Printer) -> Result<(World, String), Failure> {
    let schemas = Schemas::load()?;
    let organization = connect.namespace.as_deref().unwrap_or("default");
    let loaded = offline::load(&args.filename, args.recursive, &schemas, Some(organization))?;
    let (manifests, mut findings) = (loaded.manifests, loaded.findings);
    findings.extend(manifests.iter().flat_map(|manifest| schemas.check(manifest)));
    report(findings, "; nothing was judged", printer)?;
    let world = whole::world(&manifests, &schemas, !args.no_defaults)?;
    let (rendered, findings) = whole::render_world(&world, &manifests);
    // What is in the way of one component is no reason to be silent about the others.
    for finding in findings {
        printer.note(finding.line())?;
    }
    Ok((rendered.world, organization.to_owned()))
}

fn only_environment(world: &World, organization: &str) -> Result<String, Failure> {
    let all: BTreeSet<String> = world
        .in_namespace::<Release>(organization)
        .map(|release| release.spec.environment_name.clone())
        .collect();
    let names: Vec<&str> = all.iter().map(String::as_str).collect();
    match names.as_slice() {
        [one] => Ok((*one).to_owned()),
        [] => Err(
            Failure::new(format!("nothing is deployed in organization {organization}"))
                .status(ExitStatus::NotFound),
        ),
        several => Err(
            Failure::usage("something is deployed to more than one environment")
                .hint(format!("say which one: --environment {}", several.join(" or "))),
        ),
    }
}

fn draw(report: &Report, environment: &str) -> String {
    let verdict = if report.allowed() {
        style::paint(style::GOOD, "allowed")
    } else {
        style::paint(style::BAD, "denied")
    };
    let mut text = format!(
        "{verdict}: {} -> {} in {environment}\n",
        style::paint(style::BOLD, &report.from),
        style::paint(style::BOLD, &report.to)
    );
    for path in &report.paths {
        let way = if path.hops.len() == 1 {
            "directly"
        } else {
            "through the gateway"
        };
        text += &format!("  {} {way}\n", sign(path.allowed()));
        for hop in &path.hops {
            text += &draw_hop(hop);
        }
    }
    text
}

fn sign(allowed: bool) -> String {
    if allowed {
        style::paint(style::GOOD, "✓")
    } else {
        style::paint(style::BAD, "✗")
    }
}

fn draw_hop(hop: &Hop) -> String {
    let Explanation { egress, ingress } = &hop.explanation;
    let mut text = format!(
        "    {} {} -> {} port {}/{}\n",
        sign(hop.explanation.allowed()),
        hop.from,
        hop.to,
        hop.port,
        hop.transport.as_str()
    );
    for (what, side) in [("out", egress), ("in", ingress)] {
        let (says, by) = match side {
            Side::Open => continue,
            Side::Allowed {
                by,
                some_requests: false,
            } => ("allowed by", by),
            Side::Allowed {
                by,
                some_requests: true,
            } => ("some requests allowed by", by),
            Side::Closed { by } => ("closed, and nothing opens it:", by),
            Side::Forbidden { by } => ("forbidden by", by),
        };
        let by: Vec<String> = by.iter().map(ToString::to_string).collect();
        text += &style::paint(style::DIM, format!("      {what}: {says} {}\n", by.join(", ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str]) -> Option<(String, String)> {
        let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
        parties(&words).ok()
    }

    #[test]
    fn a_question_may_be_written_in_several_ways() {
        let expected = Some(("a".to_owned(), "b:80".to_owned()));
        for words in [
            &["a", "b:80"][..],
            &["a", "->", "b:80"],
            &["a -> b:80"],
            &["a->b:80"],
            &["a ->", "b:80"],
        ] {
            assert_eq!(of(words), expected, "{words:?}");
        }
        for words in [&["a"][..], &["a", "-"], &["a", "b", "c"], &["a ->"], &["-> b"]] {
            assert_eq!(of(words), None, "{words:?}");
        }
    }

    #[test]
    fn a_request_is_a_method_and_a_path() {
        let request = parse_request("get /a b").unwrap();
        assert_eq!((request.method.as_str(), request.path.as_str()), ("GET", "/a b"));
        assert!(parse_request("GET").is_err());
        assert!(parse_request("GET a").is_err());
    }
}
