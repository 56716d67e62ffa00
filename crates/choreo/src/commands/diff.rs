//! `choreo diff`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use choreo_engine::AnyObject;
use http::Method;
use serde_json::{Value, json};
use similar::TextDiff;

use crate::exit::ExitStatus;
use crate::failure::{Failure, Outcome};
use crate::offline::findings::report;
use crate::offline::schemas::Schemas;
use crate::offline::whole::{released, render_world, world};
use crate::offline::{
    self,
    files::{Filenames, Manifest},
};
use crate::online::{self, Body, Connect, Kind, Kinds, Session};
use crate::output::{Printer, style, to_yaml};

/// Lines around a change.
const CONTEXT: usize = 3;
/// As whom `choreo apply` would write.
const MANAGER: &str = "choreo-cli";

/// Arguments of `choreo diff`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit status: 0 nothing differs, 1 something does, 2 or more it could not be told.
Values of Secrets are never shown.

For example: choreo diff -f app/
             choreo diff -f app/ --rendered
             choreo diff -f app/ --against last-release/")]
pub(crate) struct Args {
    #[command(flatten)]
    files: Filenames,
    /// Compare with the objects that other files lead to, without a server
    #[arg(long, value_name = "FILE", conflicts_with = "rendered")]
    against: Vec<PathBuf>,
    /// Compare what the files lead to in the data plane with what is there, instead of the files with the objects of that name
    #[arg(long)]
    rendered: bool,
    /// Only say which objects differ
    #[arg(long)]
    name_only: bool,
    /// Without the defaults that `choreo up` installs: the files say everything. With --against
    #[arg(long, requires = "against")]
    no_defaults: bool,
    /// Take over fields that somebody else has set to another value, as `choreo apply --force-conflicts` would
    #[arg(long)]
    force_conflicts: bool,
}

/// An object before and after, and how it is called.
struct Pair {
    title: String,
    before: Option<Value>,
    after: Option<Value>,
}

pub(crate) async fn run(args: &Args, connect: &Connect, printer: &mut Printer) -> Outcome {
    let compared = if args.against.is_empty() {
        with_server(args, connect, printer).await
    } else {
        with_files(args, connect, printer)
    };
    let pairs = compared.map_err(told_apart)?;
    let mut differs = false;
    for pair in pairs {
        differs |= show(pair, args, printer)?;
    }
    Ok(if differs {
        ExitStatus::Failure
    } else {
        ExitStatus::Success
    })
}

/// 1 means that something differs, so no failure may end with it. 2 is what other diffs end with.
fn told_apart(failure: Failure) -> Failure {
    match failure.status {
        ExitStatus::Failure => failure.status(ExitStatus::Usage),
        _ => failure,
    }
}

/// Reads files and checks each object by itself.
fn read(
    paths: &[PathBuf],
    recursive: bool,
    schemas: &Schemas,
    namespace: &str,
    printer: &mut Printer,
) -> Result<Vec<Manifest>, Failure> {
    let loaded = offline::load(paths, recursive, schemas, Some(namespace))?;
    let (manifests, mut findings) = (loaded.manifests, loaded.findings);
    for note in &loaded.notes {
        printer.warning(note)?;
    }
    findings.extend(manifests.iter().flat_map(|manifest| schemas.check(manifest)));
    report(findings, "; nothing was compared", printer)?;
    Ok(manifests)
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// `Deployment shop/app`, in the words of manifests.
fn title(object: &Value) -> String {
    let (kind, name) = (text(object, "/kind"), text(object, "/metadata/name"));
    match text(object, "/metadata/namespace") {
        "" => format!("{kind} {name}"),
        namespace => format!("{kind} {namespace}/{name}"),
    }
}

/// Pairs objects of the same title; what only one side has has no partner.
fn pair_up(before: Vec<Value>, after: Vec<Value>) -> Vec<Pair> {
    // Two kinds of the same name in different groups are different objects.
    let key = |object: &Value| {
        let group = text(object, "/apiVersion")
            .rsplit_once('/')
            .map(|(group, _)| group.to_owned());
        (title(object), group)
    };
    let mut pairs: BTreeMap<_, Pair> = BTreeMap::new();
    for (object, is_after) in before
        .into_iter()
        .map(|object| (object, false))
        .chain(after.into_iter().map(|object| (object, true)))
    {
        let pair = pairs.entry(key(&object)).or_insert_with(|| Pair {
            title: title(&object),
            before: None,
            after: None,
        });
        let side = if is_after {
            &mut pair.after
        } else {
            &mut pair.before
        };
        *side = Some(object);
    }
    pairs.into_values().collect()
}

/// What two sets of files lead to.
fn with_files(args: &Args, connect: &Connect, printer: &mut Printer) -> Result<Vec<Pair>, Failure> {
    let schemas = Schemas::load()?;
    let namespace = connect.namespace.as_deref().unwrap_or("default");
    let mut sides = vec![];
    for paths in [&args.against, &args.files.filename] {
        let manifests = read(paths, args.files.recursive, &schemas, namespace, printer)?;
        let world = world(&manifests, &schemas, !args.no_defaults)?;
        let (rendered, findings) = render_world(&world, &manifests);
        report(findings, "; what they concern was not rendered", printer)?;
        sides.push(released(&rendered).map(|(_, object)| object.clone()).collect());
    }
    let after: Vec<Value> = sides.pop().unwrap_or_default();
    Ok(pair_up(sides.pop().unwrap_or_default(), after))
}

async fn with_server(args: &Args, connect: &Connect, printer: &mut Printer) -> Result<Vec<Pair>, Failure> {
    let schemas = Schemas::load()?;
    let session = Session::open(connect).await?;
    let namespace = session.namespace.clone();
    let manifests = read(
        &args.files.filename,
        args.files.recursive,
        &schemas,
        &namespace,
        printer,
    )?;
    let kinds = Kinds::fetch(&session).await?;
    if args.rendered {
        return rendered(&session, &kinds, &schemas, &manifests, printer).await;
    }
    let coming: BTreeSet<&str> = manifests
        .iter()
        .filter(|manifest| matches!(manifest.kind(), "Namespace" | "Organization"))
        .map(Manifest::name)
        .collect();
    let mut pairs = vec![];
    for manifest in &manifests {
        let Some(kind) = kinds.of_object(manifest.api_version(), manifest.kind()) else {
            return Err(Failure::new(format!(
                "the server has no kind {} of {}",
                manifest.kind(),
                manifest.api_version()
            ))
            .status(ExitStatus::NotFound));
        };
        pairs.push(with_live(args, &session, kind, manifest, &coming).await?);
    }
    Ok(pairs)
}

/// An object as it is, and as it would be after `choreo apply`.
async fn with_live(
    args: &Args,
    session: &Session,
    kind: &Kind,
    manifest: &Manifest,
    coming: &BTreeSet<&str>,
) -> Result<Pair, Failure> {
    let path = kind.path(manifest.namespace(), Some(manifest.name()));
    let name = kind.title_of(manifest.name());
    let before = match session.get(&path).await {
        Ok(object) => Some(object),
        Err(error) if error.not_found() => None,
        Err(error) => return Err(error.failure(format!("cannot get {name}"))),
    };
    let url = format!(
        "{path}?fieldManager={MANAGER}&fieldValidation=Strict&dryRun=All&force={}",
        args.force_conflicts
    );
    let body = Body::Apply(manifest.object.clone());
    let after = match session.send(Method::PATCH, &url, body).await {
        Ok(answer) => answer.body,
        // Its namespace comes with the same files.
        Err(error) if error.not_found() && manifest.namespace().is_some_and(|own| coming.contains(own)) => {
            manifest.object.clone()
        }
        Err(error) => {
            let conflict = error.code() == Some(409);
            let failure = error.failure(format!("{}: {name}", manifest.position("")));
            return Err(if conflict {
                failure.hint("--force-conflicts shows what taking these fields over would change")
            } else {
                failure
            });
        }
    };
    Ok(Pair {
        title: title(&manifest.object),
        before,
        after: Some(after),
    })
}

/// What the data planes would get, against what the Releases on the server say. A Release that cannot be rendered is kept, and so differs
/// in nothing.
async fn rendered(
    session: &Session,
    kinds: &Kinds,
    schemas: &Schemas,
    manifests: &[Manifest],
    printer: &mut Printer,
) -> Result<Vec<Pair>, Failure> {
    let live = online::world(session, kinds).await?;
    let mut changed = live.clone();
    for manifest in manifests {
        let mut object = manifest.object.clone();
        schemas.default(&mut object);
        if let Ok(object) = AnyObject::from_value(&object) {
            changed.upsert(object);
        }
    }
    let (after, findings) = render_world(&changed, manifests);
    report(findings, "; what they concern stays as it is", printer)?;
    let names: BTreeSet<String> = after
        .objects
        .iter()
        .filter(|object| object["kind"] == "Release")
        .map(title)
        .collect();
    let mut before = vec![];
    for object in live.iter() {
        let object = object
            .to_value()
            .map_err(|error| Failure::new("an object of the server cannot be read").because(&error))?;
        if object["kind"] == "Release" && names.contains(&title(&object)) {
            let resources = object["spec"]["resources"].as_array().into_iter().flatten();
            before.extend(resources.map(|resource| resource["object"].clone()));
        }
    }
    let after = released(&after).map(|(_, object)| object.clone()).collect();
    Ok(pair_up(before, after))
}

/// Prints a pair if its sides differ.
fn show(mut pair: Pair, args: &Args, printer: &mut Printer) -> Result<bool, Failure> {
    for object in [&mut pair.before, &mut pair.after].into_iter().flatten() {
        strip(object);
    }
    if pair.before == pair.after {
        return Ok(false);
    }
    if args.name_only {
        let sign = match (&pair.before, &pair.after) {
            (None, _) => "+",
            (_, None) => "-",
            _ => "~",
        };
        printer.line(format!("{sign} {}", pair.title))?;
        return Ok(true);
    }
    hide_secrets(pair.before.as_mut(), pair.after.as_mut());
    let yaml = |side: &Option<Value>| {
        side.as_ref()
            .map(to_yaml)
            .transpose()
            .map(Option::unwrap_or_default)
    };
    let (before, after) = (yaml(&pair.before)?, yaml(&pair.after)?);
    let name = |side: &Option<Value>| match side {
        Some(_) => pair.title.clone(),
        None => "nothing".to_owned(),
    };
    let diff = TextDiff::from_lines(&before, &after);
    let unified = diff
        .unified_diff()
        .context_radius(CONTEXT)
        .header(&name(&pair.before), &name(&pair.after))
        .to_string();
    for line in unified.lines() {
        let style = match line.as_bytes().first() {
            Some(b'-') => style::BAD,
            Some(b'+') => style::GOOD,
            Some(b'@') => style::DIM,
            _ => anstyle::Style::new(),
        };
        printer.line(style::paint(style, line))?;
    }
    Ok(true)
}

/// Takes out what only a server writes.
fn strip(object: &mut Value) {
    let Some(fields) = object.as_object_mut() else {
        return;
    };
    fields.remove("status");
    let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    for field in [
        "creationTimestamp",
        "generation",
        "managedFields",
        "resourceVersion",
        "selfLink",
        "uid",
    ] {
        metadata.remove(field);
    }
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
}

/// A value of a Secret is shown as being there, and as another one where it changes.
fn hide_secrets(before: Option<&mut Value>, after: Option<&mut Value>) {
    let is_secret = |side: &Option<&mut Value>| {
        side.as_ref()
            .is_some_and(|object| object["kind"] == "Secret" && object["apiVersion"] == "v1")
    };
    if !is_secret(&before) && !is_secret(&after) {
        return;
    }
    let values = |side: &Option<&mut Value>, field: &str| {
        side.as_ref()
            .and_then(|object| object[field].as_object().cloned())
            .unwrap_or_default()
    };
    let mut sides = [before, after];
    for field in ["data", "stringData"] {
        let (old, new) = (values(&sides[0], field), values(&sides[1], field));
        for (side, words) in sides.iter_mut().zip(["(hidden, before)", "(hidden, after)"]) {
            let Some(all) = side
                .as_mut()
                .and_then(|object| object.get_mut(field)?.as_object_mut())
            else {
                continue;
            };
            for (key, value) in all.iter_mut() {
                let same = old.get(key) == new.get(key);
                *value = json!(if same { "(hidden)" } else { words });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::needless_pass_by_value)] // its callers write the value in place
    fn secret(data: &Value) -> Value {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "data": data})
    }

    #[test]
    fn values_of_secrets_are_hidden_and_their_changes_are_not() {
        let mut before = secret(&json!({"same": "c2FtZQ==", "other": "b2xk", "gone": "Z29uZQ=="}));
        let mut after = secret(&json!({"same": "c2FtZQ==", "other": "bmV3", "new": "bmV3"}));
        hide_secrets(Some(&mut before), Some(&mut after));
        assert_eq!(
            before["data"],
            json!({"same": "(hidden)", "other": "(hidden, before)", "gone": "(hidden, before)"})
        );
        assert_eq!(
            after["data"],
            json!({"same": "(hidden)", "other": "(hidden, after)", "new": "(hidden, after)"})
        );
        let mut map = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"}});
        hide_secrets(None, Some(&mut map));
        assert_eq!(map["data"]["a"], "b");
    }

    #[test]
    fn objects_of_one_name_in_different_groups_are_different() {
        let of = |version: &str| json!({"apiVersion": version, "kind": "Deployment", "metadata": {"name": "a", "namespace": "b"}});
        let pairs = pair_up(
            vec![of("apps/v1")],
            vec![of("apps/v1"), of("openchoreo.dev/v1alpha1")],
        );
        let sides: Vec<(bool, bool)> = pairs
            .iter()
            .map(|pair| (pair.before.is_some(), pair.after.is_some()))
            .collect();
        assert_eq!(sides, [(true, true), (false, true)]);
    }
}
