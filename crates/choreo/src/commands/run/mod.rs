//! `choreo run`.

mod image;
mod inspect;
mod manifests;

use std::io::{BufRead as _, IsTerminal as _};
use std::time::Duration;

use choreo_api::labels::GROUP;
use choreo_api::names;
use choreo_api::v1alpha1::common::{ConditionStatus, DEFAULT_TRACK, EndpointAddresses};
use choreo_api::v1alpha1::{Component, MAIN_CONTAINER, ServiceBinding, Workload};
use choreo_engine::World;
use http::Method;
use serde_json::Value;
use tokio::time::Instant;

use super::open::address;
use crate::exit::ExitStatus;
use crate::failure::{Failure, Outcome};
use crate::online::{Body, Connect, Kind, Kinds, Seen, Session, Watched, until, world};
use crate::output::{Format, Printer, print_objects, style, yaml_documents};
use crate::running::{Place, Target, list, simulated_note};
use crate::text::parse_duration;
use image::ImageReference;
use manifests::Wanted;

/// The manager of what this command says, apart from that of files which are applied: fields of theirs stay.
const MANAGER: &str = "choreo-run";

/// Arguments of `choreo run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Makes a Component, its Workload and its Service, waits until it runs, and ends with its address. --dry-run -o yaml prints the
three instead, for a file to begin with. A component that is there already gets the image and what else is said here.

For example: choreo run ghcr.io/owner/greeter:1.0 --port 9090 --public
             choreo run worker:dev --env QUEUE=jobs -- --verbose")]
pub(crate) struct Args {
    /// The image: a repository, with its registry, and a tag or a digest
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Name of the component [default: the last part of the repository]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The port that it answers HTTP on [default: the one that the image exposes; without one it is a worker]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Nothing calls it, whatever the image exposes
    #[arg(long, conflicts_with_all = ["port", "public", "organization"])]
    worker: bool,
    /// Everybody may call it, through the public gateway
    #[arg(long, conflicts_with = "organization")]
    public: bool,
    /// All projects of the organization may call it [default: only its own project]
    #[arg(long)]
    organization: bool,
    /// An environment variable; may be given several times. Not for secrets: whoever reads Workloads reads it
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    env: Vec<(String, String)>,
    /// The project
    #[arg(short, long, value_name = "NAME", default_value = "default")]
    project: String,
    /// How many pods [default: the class's number]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=1000))]
    replicas: Option<u16>,
    /// What is behind `--` replaces the image's command, not its arguments
    #[arg(long, requires = "arguments")]
    command: bool,
    /// Ask nothing
    #[arg(short, long)]
    yes: bool,
    /// Take over fields that somebody else has set to another value
    #[arg(long)]
    force: bool,
    /// How long to wait until it runs
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = parse_duration)]
    timeout: Duration,
    /// Print the objects and make none
    #[arg(long)]
    dry_run: bool,
    /// With --dry-run: yaml or json
    #[arg(
        short,
        long,
        value_name = "FORMAT",
        default_value = "yaml",
        requires = "dry_run"
    )]
    output: Format,
    /// Arguments for the container
    #[arg(last = true, value_name = "ARGUMENT")]
    arguments: Vec<String>,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

pub(crate) async fn run(args: &Args, connect: &Connect, printer: &mut Printer) -> Outcome {
    let image = ImageReference::parse(&args.image)
        .map_err(|why| Failure::usage(format!("`{}` is no image reference: {why}", args.image)))?;
    let mut wanted = wanted(args, image);
    check_name(&wanted.name)?;
    if args.dry_run {
        inspect::port(args, None)?;
        let objects = wanted.manifests(connect.namespace.as_deref());
        match args.output {
            Format::Json => print_objects(printer, Format::Json, objects.to_vec(), false, &[])?,
            _ => printer.text(yaml_documents(&objects)?)?,
        }
        return Ok(ExitStatus::Success);
    }
    let session = Session::open(connect).await?;
    let kinds = Kinds::fetch(&session).await?;
    let world = world(&session, &kinds).await?;
    let target = Target {
        environment: None,
        project: Some(args.project.clone()),
        track: DEFAULT_TRACK.to_owned(),
        data_plane_kubeconfig: None,
        data_plane_context: None,
    };
    let environment = crate::running::environment_of(&world, &session.namespace, &args.project, &target)?;
    let before = Before::read(&world, &session.namespace, &wanted)?;
    let facts = inspect::look(&session, args, printer).await?;
    let port = inspect::port(args, facts.as_ref())?;
    wanted.port = port.number;
    explain(args, &wanted, port, &before, &environment, printer)?;
    if let Some(why) = facts.as_ref().and_then(choreo_node::ImageFacts::root) {
        printer.warning(format!(
            "pods of cells must not run as root, and will refuse this image: {why}. `USER 1000` in its Dockerfile helps"
        ))?;
    }
    if !args.yes && !confirmed(printer)? {
        printer.note("nothing was made")?;
        return Ok(ExitStatus::Success);
    }
    let mut changed = false;
    for object in wanted.manifests(Some(&session.namespace)) {
        changed |= apply(args, &session, &kinds, &object, printer).await?;
    }
    let started = Instant::now();
    let binding = wait(
        args,
        &session,
        &kinds,
        &wanted,
        &environment,
        before.artifact.filter(|_| changed),
        printer,
    )
    .await?;
    printer.note(format!(
        "{} {} runs in {environment} after {:.1} s",
        style::paint(style::GOOD, "✓"),
        wanted.name,
        started.elapsed().as_secs_f64()
    ))?;
    tell_address(&binding, &wanted, printer)?;
    // After all of it: what is simulated does not answer.
    let place = Place::find(&wanted.name, &target, connect).await?;
    if let Ok(data_plane) = place.data_plane(&target).await
        && let Some(note) = simulated_note(&place, &list(&place, &data_plane).await?)
    {
        printer.warning(note)?;
    }
    Ok(ExitStatus::Success)
}

/// Whether a name can be a component's, before anything is made of it.
fn check_name(name: &str) -> Result<(), Failure> {
    let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let fits = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.ends_with(lower)
        && name.chars().all(|c| lower(c) || c == '-')
        && name.len() <= 63;
    if fits {
        return Ok(());
    }
    Err(Failure::usage(format!("`{name}` cannot be the name of a component"))
        .cause("names have at most 63 lower-case letters, digits and `-`, begin with a letter and do not end with `-`")
        .hint("--name gives it one"))
}

fn wanted(args: &Args, image: ImageReference) -> Wanted {
    let words = args.arguments.clone();
    let (command, arguments) = if args.command {
        (words, Vec::new())
    } else {
        (Vec::new(), words)
    };
    Wanted {
        name: args.name.clone().unwrap_or_else(|| image.component_name()),
        project: args.project.clone(),
        image,
        port: args.port,
        level: if args.public {
            Some("Public")
        } else {
            args.organization.then_some("Organization")
        },
        env: args.env.clone(),
        command,
        args: arguments,
        replicas: args.replicas,
    }
}

/// What there is of the component already.
struct Before {
    exists: bool,
    /// The image that its workload names.
    image: Option<String>,
    /// The artifact that runs in the first environment.
    artifact: Option<String>,
}

impl Before {
    fn read(world: &World, organization: &str, wanted: &Wanted) -> Result<Before, Failure> {
        let component = world.get::<Component>(organization, &wanted.name);
        if let Some(component) = component {
            let taken = |why: String| {
                Err(Failure::new(format!("the name {} is taken", wanted.name))
                    .cause(why)
                    .hint("--name gives it another one"))
            };
            let spec = &component.spec;
            if spec.owner.project_name != wanted.project {
                return taken(format!(
                    "there is a component of this name in project {}",
                    spec.owner.project_name
                ));
            }
            let type_ = serde_json::to_value(&spec.type_).unwrap_or_default();
            if type_ != "Service" {
                return taken(format!(
                    "there is a component of this name and of type {}",
                    type_.as_str().unwrap_or_default()
                ));
            }
        }
        let workload = world.get::<Workload>(organization, &wanted.name);
        let image = workload.and_then(|workload| {
            let main = workload.spec.template.containers.get(MAIN_CONTAINER)?;
            serde_json::to_value(main).ok()?["image"]
                .as_str()
                .map(str::to_owned)
        });
        let bindings = choreo_engine::binding::Binding::of_component(world, organization, &wanted.name);
        Ok(Before {
            exists: component.is_some(),
            image,
            artifact: bindings.into_iter().find_map(|binding| binding.artifact),
        })
    }
}

/// What will be done, and why it is that.
fn explain(
    args: &Args,
    wanted: &Wanted,
    port: inspect::Port,
    before: &Before,
    environment: &str,
    printer: &mut Printer,
) -> Result<(), Failure> {
    let mut line = |what: &str, is: &str, why: &str| {
        let why = if why.is_empty() {
            String::new()
        } else {
            style::paint(style::DIM, format!("   {why}"))
        };
        printer.note(format!("  {what:<13}{is}{why}"))
    };
    let named = |given: bool, why: &'static str| if given { "" } else { why };
    line(
        "component",
        &wanted.name,
        named(args.name.is_some(), "the last part of the image's name; --name"),
    )?;
    line("project", &wanted.project, "")?;
    line(
        "environment",
        environment,
        "the first one of the project's pipeline",
    )?;
    let image = wanted.image.to_string();
    let moving = match &wanted.image.tag {
        _ if wanted.image.pinned => None,
        None => Some("no tag, so `latest`, which may change".to_owned()),
        Some(tag) if tag == "latest" => Some("which may change".to_owned()),
        Some(_) => None,
    };
    let replaced = match &before.image {
        Some(old) if *old != image => Some(format!("instead of {old}, which it has now")),
        Some(_) => Some("as it has now".to_owned()),
        None if before.exists => Some("the component has no workload yet".to_owned()),
        None => None,
    };
    let why: Vec<String> = replaced.into_iter().chain(moving).collect();
    line("image", &image, &why.join("; "))?;
    for (what, words) in [("command", &wanted.command), ("arguments", &wanted.args)] {
        if !words.is_empty() {
            line(what, &words.join(" "), "")?;
        }
    }
    if !wanted.env.is_empty() {
        // Their values are nobody's who looks over a shoulder.
        let keys: Vec<&str> = wanted.env.iter().map(|(key, _)| key.as_str()).collect();
        line("variables", &keys.join(", "), "")?;
    }
    let number = wanted
        .port
        .map_or_else(|| "none".to_owned(), |port| port.to_string());
    line("port", &number, port.why)?;
    if wanted.port.is_some() {
        let (who, why) = match wanted.level {
            Some("Public") => ("everybody", ""),
            Some(_) => ("the organization", ""),
            None => (
                "its project",
                "nothing is exposed by omission; --public, --organization",
            ),
        };
        line("callers", who, why)?;
    }
    Ok(())
}

/// Asks once, if there is somebody to ask.
fn confirmed(printer: &mut Printer) -> Result<bool, Failure> {
    if !crate::running::is_interactive() || !std::io::stderr().is_terminal() {
        return Ok(true);
    }
    printer.question("Run it? [Y/n] ")?;
    let mut answer = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|error| Failure::new("cannot read the answer").because(&error))?;
    Ok(matches!(
        answer.trim().to_ascii_lowercase().as_str(),
        "" | "y" | "yes"
    ))
}

/// Applies an object. Says whether that changed what it asks for.
async fn apply(
    args: &Args,
    session: &Session,
    kinds: &Kinds,
    object: &Value,
    printer: &mut Printer,
) -> Result<bool, Failure> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let kind = kind(kinds, object["kind"].as_str().unwrap_or_default())?;
    let path = kind.path(Some(&session.namespace), Some(name));
    let before = match session.get(&path).await {
        Ok(object) => object["metadata"]["generation"].as_i64(),
        Err(error) if error.not_found() => None,
        Err(error) => return Err(error.failure(format!("cannot get {}", kind.title_of(name)))),
    };
    let url = format!(
        "{path}?fieldManager={MANAGER}&fieldValidation=Strict&force={}",
        args.force
    );
    let answer = session
        .send(Method::PATCH, &url, Body::Apply(object.clone()))
        .await;
    let answer = answer.map_err(|error| {
        let conflict = error.code() == Some(409);
        let failure = error.failure(format!("cannot apply {}", kind.title_of(name)));
        if conflict {
            failure.hint("it was made another way, from a file perhaps: change it there, or take these fields over with --force")
        } else {
            failure
        }
    })?;
    for warning in &answer.warnings {
        printer.warning(format!("{}: {warning}", kind.title_of(name)))?;
    }
    let changed = answer.body["metadata"]["generation"].as_i64() != before;
    let done = match before {
        None => "created",
        Some(_) if changed => "configured",
        Some(_) => "unchanged",
    };
    printer.note(format!("{} {done}", kind.title_of(name)))?;
    Ok(changed)
}

fn kind<'k>(kinds: &'k Kinds, name: &str) -> Result<&'k Kind, Failure> {
    kinds.find(&format!("{name}.{GROUP}"))
}

/// Waits until what was asked for runs, and tells on the way what it waits for. `replaces` is the artifact that has to go.
async fn wait(
    args: &Args,
    session: &Session,
    kinds: &Kinds,
    wanted: &Wanted,
    environment: &str,
    replaces: Option<String>,
    printer: &mut Printer,
) -> Result<ServiceBinding, Failure> {
    let kind = kind(kinds, "ServiceBinding")?;
    let name = names::binding(&wanted.name, DEFAULT_TRACK, environment);
    let mut told = String::new();
    let look = |object: Option<&Value>| {
        let Some(binding) =
            object.and_then(|object| serde_json::from_value::<ServiceBinding>(object.clone()).ok())
        else {
            return Seen::NotYet;
        };
        let artifact = binding.spec.artifact_ref.as_ref();
        if artifact.is_none() || artifact == replaces.as_ref() {
            return Seen::NotYet;
        }
        let status = binding.status.clone().unwrap_or_default();
        if status.observed_generation < binding.metadata.generation {
            return Seen::NotYet;
        }
        let Some(ready) = status
            .conditions
            .iter()
            .find(|condition| condition.type_ == "Ready")
        else {
            return Seen::NotYet;
        };
        if ready.status == ConditionStatus::True {
            return Seen::Done(binding);
        }
        if ready.message != told {
            told.clone_from(&ready.message);
            // A view that cannot be shown any more is no reason not to wait.
            let _ = printer.note(format!("{} {}", style::paint(style::WAIT, "◌"), ready.message));
        }
        Seen::NotYet
    };
    let deadline = Instant::now() + args.timeout;
    match until(session, kind, Some(&session.namespace), &name, deadline, look).await? {
        Watched::Done(binding) => Ok(binding),
        Watched::TimedOut(_) => {
            let failure = Failure::new(format!("{} does not run after {:?}", wanted.name, args.timeout));
            let failure = if told.is_empty() {
                failure.cause("nothing of it has been rolled out yet")
            } else {
                failure.cause(told)
            };
            Err(failure
                .hint(format!(
                    "`choreo tree component/{0}` says more, `choreo logs {0}` what it wrote; --timeout waits longer",
                    wanted.name
                ))
                .status(ExitStatus::TimedOut))
        }
    }
}

fn tell_address(binding: &ServiceBinding, wanted: &Wanted, printer: &mut Printer) -> Result<(), Failure> {
    let endpoints = binding.status.iter().flat_map(|status| &status.endpoints);
    let endpoints: Vec<&EndpointAddresses> = endpoints.collect();
    if let Some(url) = address(&endpoints) {
        printer.line(url)?;
        return Ok(());
    }
    let inside = endpoints
        .iter()
        .filter_map(|endpoint| endpoint.project.as_ref()?.uri.as_deref())
        .next();
    match inside {
        Some(inside) => printer.note(format!(
            "its project calls it at {inside}; `choreo port-forward {} {}` reaches it from here",
            wanted.name,
            wanted.port.unwrap_or_default()
        ))?,
        None => printer.note(format!("`choreo logs {} -f` shows what it writes", wanted.name))?,
    }
    Ok(())
}
