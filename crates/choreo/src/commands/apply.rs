//! `choreo apply`.
//!
//! Two passes: first every object is checked, here and by the server (a dry run), and only when there is nothing to
//! say against any of them the first one is written.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use http::{Method, StatusCode};
use serde_json::Value;
use tokio::time::Instant;

use crate::exit::ExitStatus;
use crate::failure::{Failure, Outcome};
use crate::offline::files::{self, Filenames, Manifest};
use crate::offline::findings::{Finding, report};
use crate::offline::schemas::Schemas;
use crate::online::{Answer, Body, CallError, Connect, Kind, Kinds, Session};
use crate::output::{Format, Printer, for_reading, print_objects};

/// The name that the server records with the fields that we set.
const MANAGER: &str = "choreo-cli";
/// How many objects are checked at a time.
const CHECKS: usize = 8;
/// How long an object may have to wait for the namespace or the kind that comes with it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Arguments of `choreo apply`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Older and short manifests are converted first, as `choreo convert` shows. When anything is wrong, nothing is written.

For example: choreo apply -f greeter.yaml")]
pub(crate) struct Args {
    #[command(flatten)]
    files: Filenames,
    /// Write nothing: `client` checks here, `server` lets the server check, too
    #[arg(long, value_name = "WHERE", num_args = 0..=1, require_equals = true, default_missing_value = "server")]
    dry_run: Option<DryRun>,
    /// Take over fields that somebody else has set to another value
    #[arg(long)]
    force_conflicts: bool,
    /// Output format: table (a line for each object), yaml, json or name
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

/// Where a dry run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum DryRun {
    Client,
    Server,
}

/// The version of an object that was there before; `None` if none was.
type Before = Option<String>;

/// An object with its address on the server.
struct Item<'a> {
    manifest: &'a Manifest,
    kind: Kind,
    before: Before,
    /// The object before; only for a dry run, whose answer has the version that is there whether or not it would change anything.
    live: Option<Value>,
}

pub(crate) async fn run(args: &Args, connect: &Connect, printer: &mut Printer) -> Outcome {
    const CONSEQUENCE: &str = "; nothing was applied";
    let loaded = files::load(&args.files.filename, args.files.recursive)?;
    for note in &loaded.notes {
        printer.warning(note)?;
    }
    let schemas = Schemas::load()?;
    let mut findings = loaded.findings;
    findings.extend(
        loaded
            .manifests
            .iter()
            .flat_map(|manifest| schemas.check(manifest)),
    );
    report(findings, CONSEQUENCE, printer)?;

    let session = Session::open(connect).await?;
    let mut kinds = Kinds::fetch(&session).await?;
    let mut manifests = loaded.manifests;
    for manifest in &mut manifests {
        let namespaced = match kinds.of_object(manifest.api_version(), manifest.kind()) {
            Some(kind) => kind.namespaced,
            None => schemas.is_namespaced(&manifest.object),
        };
        if namespaced {
            manifest.default_namespace(&session.namespace);
        }
    }
    // Stable: but for what others need to be there at all, the order is the author's.
    manifests.sort_by_key(rank);
    if args.dry_run == Some(DryRun::Client) {
        return show_client(args, &kinds, &manifests, printer);
    }
    let apply = Apply {
        args,
        session: &session,
    };
    let (findings, checked) = apply.check(&kinds, &manifests).await?;
    report(findings, CONSEQUENCE, printer)?;
    let mut shown = vec![];
    let mut names = vec![];
    for (manifest, before) in manifests.iter().zip(checked) {
        let item = apply.find(&mut kinds, manifest, before).await?;
        let title = item.kind.title_of(manifest.name());
        let answer = apply.write(&item).await?;
        for warning in &answer.warnings {
            printer.warning(format!("{title}: {warning}"))?;
        }
        if matches!(args.output, Format::Table | Format::Wide) {
            let suffix = if args.dry_run.is_some() {
                " (server dry run)"
            } else {
                ""
            };
            printer.line(format!("{title} {}{suffix}", verb(&item, &answer)))?;
        }
        names.push(title);
        shown.push(for_reading(answer.body));
    }
    if !matches!(args.output, Format::Table | Format::Wide) {
        let single = shown.len() == 1;
        print_objects(printer, args.output, shown, single, &names)?;
    }
    Ok(ExitStatus::Success)
}

/// What has to be there before anything else.
fn rank(manifest: &Manifest) -> u8 {
    match manifest.kind() {
        "Namespace" => 0,
        "CustomResourceDefinition" => 1,
        "Organization" => 2,
        _ => 3,
    }
}

fn version(object: &Value) -> Option<String> {
    object["metadata"]["resourceVersion"].as_str().map(str::to_owned)
}

fn verb(item: &Item<'_>, answer: &Answer) -> &'static str {
    let same = match &item.live {
        Some(live) => content(live) == content(&answer.body),
        None => item.before == version(&answer.body),
    };
    match &item.before {
        _ if answer.status == StatusCode::CREATED => "created",
        None => "created",
        Some(_) if same => "unchanged",
        Some(_) => "configured",
    }
}

/// What an object says. Who says it, and what has become of it, changes with every look.
fn content(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = object.pointer_mut("/metadata").and_then(Value::as_object_mut) {
        for field in ["managedFields", "resourceVersion", "generation"] {
            metadata.remove(field);
        }
    }
    object
}

fn show_client(args: &Args, kinds: &Kinds, manifests: &[Manifest], printer: &mut Printer) -> Outcome {
    let title = |manifest: &Manifest| match kinds.of_object(manifest.api_version(), manifest.kind()) {
        Some(kind) => kind.title_of(manifest.name()),
        None => format!("{}/{}", manifest.kind().to_lowercase(), manifest.name()),
    };
    if matches!(args.output, Format::Table | Format::Wide) {
        for manifest in manifests {
            printer.line(format!("{} valid (client dry run)", title(manifest)))?;
        }
    } else {
        let names: Vec<String> = manifests.iter().map(title).collect();
        let objects: Vec<Value> = manifests.iter().map(|manifest| manifest.object.clone()).collect();
        let single = objects.len() == 1;
        print_objects(printer, args.output, objects, single, &names)?;
    }
    Ok(ExitStatus::Success)
}

struct Apply<'a> {
    args: &'a Args,
    session: &'a Session,
}

impl Apply<'_> {
    /// What the server has against the objects, and for each what was there before. Where something can only be known once another
    /// object of the same files is there (its namespace, its kind), nothing is said yet.
    async fn check(
        &self,
        kinds: &Kinds,
        manifests: &[Manifest],
    ) -> Result<(Vec<Finding>, Vec<Option<Before>>), Failure> {
        let of_kind = |kind: &'static str| manifests.iter().filter(move |manifest| manifest.kind() == kind);
        let coming: BTreeSet<&str> = of_kind("Namespace")
            .chain(of_kind("Organization"))
            .map(Manifest::name)
            .collect();
        let kinds_coming: BTreeSet<&str> = of_kind("CustomResourceDefinition")
            .filter_map(|manifest| manifest.object["spec"]["names"]["kind"].as_str())
            .collect();
        let check = |manifest| self.check_one(kinds, manifest, &coming, &kinds_coming);
        // Nothing is written, so that it does not matter which comes first.
        let mut checks = stream::iter(manifests.iter().map(check)).buffered(CHECKS);
        let (mut findings, mut before) = (vec![], vec![]);
        while let Some(checked) = checks.try_next().await? {
            findings.extend(checked.0);
            before.push(checked.1);
        }
        Ok((findings, before))
    }

    async fn check_one(
        &self,
        kinds: &Kinds,
        manifest: &Manifest,
        coming: &BTreeSet<&str>,
        kinds_coming: &BTreeSet<&str>,
    ) -> Result<(Vec<Finding>, Option<Before>), Failure> {
        let only = |finding| Ok((vec![finding], None));
        let Some(kind) = kinds.of_object(manifest.api_version(), manifest.kind()) else {
            if kinds_coming.contains(manifest.kind()) {
                return Ok((vec![], None));
            }
            let message = format!(
                "the server has no kind {} of {}",
                manifest.kind(),
                manifest.api_version()
            );
            return only(Finding::error(manifest.position("kind"), message));
        };
        if manifest.name().is_empty() {
            return only(Finding::error(
                manifest.position("metadata"),
                "metadata.name: is missing",
            ));
        }
        match self.patch(kind, manifest, true).await {
            // A dry run shows the version that is there.
            Ok(answer) if answer.status == StatusCode::CREATED => Ok((vec![], Some(None))),
            Ok(answer) => Ok((vec![], version(&answer.body).map(Some))),
            Err(error)
                if error.not_found() && manifest.namespace().is_some_and(|own| coming.contains(own)) =>
            {
                Ok((vec![], None))
            }
            Err(CallError::Status(status)) => Ok((refusal(kind, manifest, &status), None)),
            Err(error) => Err(error.failure("cannot check the objects")),
        }
    }

    /// The object's kind, which may have come with an object before it.
    async fn find<'m>(
        &self,
        kinds: &mut Kinds,
        manifest: &'m Manifest,
        before: Option<Before>,
    ) -> Result<Item<'m>, Failure> {
        let deadline = Instant::now() + PATIENCE;
        let kind = loop {
            if let Some(kind) = kinds.of_object(manifest.api_version(), manifest.kind()) {
                break kind.clone();
            }
            if Instant::now() >= deadline {
                return Err(Failure::new(format!(
                    "the server has no kind {} of {}",
                    manifest.kind(),
                    manifest.api_version()
                ))
                .status(ExitStatus::NotFound));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            *kinds = Kinds::fetch(self.session).await?;
        };
        // Whoever only asks wants to know what would change.
        let (before, live) = match before.filter(|_| self.args.dry_run.is_none()) {
            Some(before) => (before, None),
            None => {
                let path = kind.path(manifest.namespace(), Some(manifest.name()));
                match self.session.get(&path).await {
                    Ok(object) => (version(&object), Some(object)),
                    Err(error) if error.not_found() => (None, None),
                    Err(error) => {
                        return Err(error.failure(format!("cannot get {}", kind.title_of(manifest.name()))));
                    }
                }
            }
        };
        Ok(Item {
            manifest,
            kind,
            before,
            live: live.filter(|_| self.args.dry_run.is_some()),
        })
    }

    async fn write(&self, item: &Item<'_>) -> Result<Answer, Failure> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self
                .patch(&item.kind, item.manifest, self.args.dry_run.is_some())
                .await
            {
                Ok(answer) => return Ok(answer),
                // The namespace of an organization that was applied a moment ago.
                Err(error) if error.not_found() && item.before.is_none() && Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => {
                    return Err(error.failure(format!(
                        "cannot apply {}",
                        item.kind.title_of(item.manifest.name())
                    )));
                }
            }
        }
    }

    async fn patch(&self, kind: &Kind, manifest: &Manifest, dry_run: bool) -> Result<Answer, CallError> {
        let mut url = kind.path(manifest.namespace(), Some(manifest.name()));
        url += &format!(
            "?fieldManager={MANAGER}&fieldValidation=Strict&force={}",
            self.args.force_conflicts
        );
        if dry_run {
            url += "&dryRun=All";
        }
        self.session
            .send(Method::PATCH, &url, Body::Apply(manifest.object.clone()))
            .await
    }
}

/// A refusal, field by field where the server says which.
fn refusal(
    kind: &Kind,
    manifest: &Manifest,
    status: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Status,
) -> Vec<Finding> {
    let title = kind.title_of(manifest.name());
    let causes = status
        .details
        .iter()
        .filter_map(|details| details.causes.as_ref())
        .flatten();
    let mut findings: Vec<Finding> = causes
        .filter(|_| status.code == Some(422))
        .map(|cause| {
            let field = cause.field.clone().unwrap_or_default();
            let message = cause.message.clone().unwrap_or_default();
            Finding::error(manifest.position(&field), format!("{field}: {message}"))
        })
        .collect();
    if findings.is_empty() {
        let mut message = format!("{title}: {}", status.message.clone().unwrap_or_default());
        if status.code == Some(409) {
            message += " (--force-conflicts takes these fields over)";
        }
        findings.push(Finding::error(manifest.position(""), message));
    }
    findings
}
