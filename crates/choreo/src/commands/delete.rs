//! `choreo delete`.

use std::path::PathBuf;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::exit::ExitStatus;
use crate::failure::{Failure, Outcome};
use crate::offline::files;
use crate::offline::findings::report;
use crate::online::{
    Body, Connect, Kind, Kinds, Seen, Session, Watched, parse_addresses, percent_encode, until,
};
use crate::output::Printer;
use crate::text::{count, parse_duration};

/// Arguments of `choreo delete`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "For example: choreo delete component greeter\n             choreo delete -f greeter.yaml"
)]
pub(crate) struct Args {
    /// KIND NAME... or KIND/NAME...; KIND alone with --selector or --all
    #[arg(
        value_name = "KIND[/NAME]",
        required_unless_present = "filename",
        conflicts_with = "filename"
    )]
    what: Vec<String>,
    /// Delete the objects of these files or folders; `-` is standard input
    #[arg(short, long, value_name = "FILE")]
    filename: Vec<PathBuf>,
    /// Look into the folders below, too
    #[arg(short = 'R', long, requires = "filename")]
    recursive: bool,
    /// Delete the kind's objects with these labels
    #[arg(short = 'l', long, value_name = "LABELS", conflicts_with = "filename")]
    selector: Option<String>,
    /// Delete every object of the kind in the organization
    #[arg(long, conflicts_with_all = ["filename", "selector"])]
    all: bool,
    /// What happens to the objects that belong to it
    #[arg(long, value_name = "HOW", default_value = "background")]
    cascade: Cascade,
    /// Wait until the objects are gone
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    wait: bool,
    /// How long to wait for all of them together
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = parse_duration)]
    timeout: Duration,
    /// An object that is not there is no error
    #[arg(long)]
    ignore_not_found: bool,
}

/// What happens to dependents.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Cascade {
    /// They are deleted after it
    Background,
    /// They are deleted before it
    Foreground,
    /// They stay
    Orphan,
}

/// An object to delete.
struct Target {
    kind: Kind,
    namespace: Option<String>,
    name: String,
}

pub(crate) async fn run(args: &Args, connect: &Connect, printer: &mut Printer) -> Outcome {
    let session = Session::open(connect).await?;
    let kinds = Kinds::fetch(&session).await?;
    let targets = if args.filename.is_empty() {
        named(args, &session, &kinds).await?
    } else {
        of_files(args, &session, &kinds, printer)?
    };
    if targets.is_empty() {
        printer.note("nothing to delete")?;
        return Ok(ExitStatus::Success);
    }
    let policy = match args.cascade {
        Cascade::Background => "Background",
        Cascade::Foreground => "Foreground",
        Cascade::Orphan => "Orphan",
    };
    let mut going = vec![];
    for target in targets {
        let path = target.kind.path(target.namespace.as_deref(), Some(&target.name));
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": policy});
        let title = target.kind.title_of(&target.name);
        match session.send(Method::DELETE, &path, Body::Json(options)).await {
            Ok(answer) => {
                printer.line(format!("{title} deleted"))?;
                going.push((target, uid(&answer.body)));
            }
            Err(error) if error.not_found() && args.ignore_not_found => {}
            Err(error) => return Err(error.failure(format!("cannot delete {title}"))),
        }
    }
    if args.wait {
        wait(&session, &going, args.timeout).await
    } else {
        Ok(ExitStatus::Success)
    }
}

async fn named(args: &Args, session: &Session, kinds: &Kinds) -> Result<Vec<Target>, Failure> {
    let mut targets = vec![];
    for address in parse_addresses(kinds, &args.what)? {
        let namespace = address.kind.namespaced.then(|| session.namespace.clone());
        if let Some(name) = address.name {
            targets.push(Target {
                kind: address.kind,
                namespace,
                name,
            });
            continue;
        }
        if args.selector.is_none() && !args.all {
            return Err(Failure::usage(format!("which of the {}?", address.kind.plural))
                .hint("name them, or use --selector or --all"));
        }
        let mut path = address.kind.path(namespace.as_deref(), None);
        if let Some(selector) = &args.selector {
            path += &format!("?labelSelector={}", percent_encode(selector));
        }
        let list = session
            .get(&path)
            .await
            .map_err(|error| error.failure(format!("cannot list {}", address.kind.plural)))?;
        for item in list["items"].as_array().into_iter().flatten() {
            let name = item["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            targets.push(Target {
                kind: address.kind.clone(),
                namespace: namespace.clone(),
                name,
            });
        }
    }
    Ok(targets)
}

/// What the files hold, in reverse: what was created last goes first.
fn of_files(
    args: &Args,
    session: &Session,
    kinds: &Kinds,
    printer: &mut Printer,
) -> Result<Vec<Target>, Failure> {
    let loaded = files::load(&args.filename, args.recursive)?;
    report(loaded.findings, "; nothing was deleted", printer)?;
    let mut targets = vec![];
    for manifest in &loaded.manifests {
        let Some(kind) = kinds.of_object(manifest.api_version(), manifest.kind()) else {
            return Err(Failure::new(format!(
                "the server has no kind {} of {}",
                manifest.kind(),
                manifest.api_version()
            ))
            .cause(manifest.position("kind"))
            .status(ExitStatus::NotFound));
        };
        let namespace = kind
            .namespaced
            .then(|| manifest.namespace().unwrap_or(&session.namespace).to_owned());
        targets.push(Target {
            kind: kind.clone(),
            namespace,
            name: manifest.name().to_owned(),
        });
    }
    targets.reverse();
    Ok(targets)
}

async fn wait(session: &Session, going: &[(Target, Option<String>)], timeout: Duration) -> Outcome {
    let deadline = Instant::now() + timeout;
    for (index, (target, uid)) in going.iter().enumerate() {
        let gone = |object: Option<&Value>| match object {
            // Another object of the same name is not the one that was deleted.
            Some(object) if uid.is_none() || self::uid(object) == *uid => Seen::NotYet,
            _ => Seen::Done(()),
        };
        let ended = until(
            session,
            &target.kind,
            target.namespace.as_deref(),
            &target.name,
            deadline,
            gone,
        )
        .await?;
        if let Watched::TimedOut(last) = ended {
            let mut failure = Failure::new(format!("{} is not gone yet", target.kind.title_of(&target.name)))
                .status(ExitStatus::TimedOut);
            let finalizers: Vec<&str> = last
                .iter()
                .flat_map(|object| object["metadata"]["finalizers"].as_array().into_iter().flatten())
                .filter_map(Value::as_str)
                .collect();
            if !finalizers.is_empty() {
                failure = failure.cause(format!("waiting for: {}", finalizers.join(", ")));
            }
            let left = going.len() - index - 1;
            if left > 0 {
                failure = failure.cause(format!("{} after it not looked at", count(left, "object")));
            }
            return Err(failure
                .hint("it goes on in the background; --timeout waits longer, `choreo describe` tells more"));
        }
    }
    Ok(ExitStatus::Success)
}

fn uid(object: &Value) -> Option<String> {
    // A deletion is answered with the object while it goes, or with a Status that has its identity in the details.
    let uid = object["metadata"]["uid"]
        .as_str()
        .or_else(|| object["details"]["uid"].as_str());
    uid.map(str::to_owned)
}
