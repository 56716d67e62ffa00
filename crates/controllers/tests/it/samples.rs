//! What others have written for this model becomes ready here, unchanged.
//!
//! The samples of openchoreo/openchoreo and the documents that describe the model are not part of this repository. Variables name the folders
//! that have them; without, they are looked for in `../shared` beside the repository, and `cargo xtask test` says when they are not there. The
//! corpus's cases `sample-*` ask for the same things in our own words, so that the proof does not depend on those folders.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use choreo_api::convert::{ConvertError, convert};
use choreo_testkit::{Cluster, Platform, conditions, is_ready, ready_message};
use serde_json::{Value, json};

use crate::third_party::{cases, workspace, yaml_files};

/// A folder that a variable names, or that lies beside the repository. One that was named must be there.
#[allow(clippy::print_stdout)] // A test that did nothing must not look like one that passed.
fn folder(variable: &str, beside: &str) -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(variable) {
        let named = PathBuf::from(named);
        assert!(
            named.is_dir(),
            "{variable} names {}, which is no folder",
            named.display()
        );
        return Some(named);
    }
    let beside = workspace().join("..").join(beside);
    if beside.is_dir() {
        return Some(beside);
    }
    println!(
        "NOT RUN: {variable} is not set, and there is no {}",
        beside.display()
    );
    None
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn namespace_of(object: &Value) -> String {
    if object["kind"] == "Organization" {
        return String::new();
    }
    match text(object, "/metadata/namespace") {
        "" => "default".to_owned(),
        namespace => namespace.to_owned(),
    }
}

/// The configuration groups that workloads name and that nobody brings.
fn missing_groups(objects: &[Value]) -> Vec<Value> {
    fn references(value: &Value, found: &mut BTreeMap<String, BTreeSet<String>>) {
        if let Some(reference) = value.get("configurationGroupRef") {
            let keys = found.entry(text(reference, "/name").to_owned()).or_default();
            keys.extend(reference["key"].as_str().map(str::to_owned));
        }
        match value {
            Value::Object(fields) => fields.values().for_each(|value| references(value, found)),
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let mut found = BTreeMap::new();
    objects.iter().for_each(|object| references(object, &mut found));
    found.retain(|name, _| {
        !objects
            .iter()
            .any(|o| o["kind"] == "ConfigurationGroup" && text(o, "/metadata/name") == name)
    });
    found
        .into_iter()
        .map(|(name, keys)| {
            let values: Vec<Value> = keys
                .iter()
                .map(|key| json!({"key": key, "values": [{"value": "given by the test"}]}))
                .collect();
            json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": "ConfigurationGroup",
                   "metadata": {"name": name}, "spec": {"configurations": values}})
        })
        .collect()
}

/// Applies everything and waits until all of it, and all that came of it, is ready.
async fn become_ready(objects: Vec<Value>) -> anyhow::Result<()> {
    let platform = Platform::start().await?;
    let control = &platform.control;
    for object in &objects {
        control.apply(object.clone()).await?;
    }
    // A sample needs settings that it leaves to whoever tries it. Until they are there it says so.
    for group in missing_groups(&objects) {
        let name = text(&group, "/metadata/name").to_owned();
        control
            .wait_all(
                "Component",
                "default",
                &format!("one waits for {name:?}"),
                |all| {
                    all.iter()
                        .any(|component| ready_message(component).contains(&format!("{name:?}")))
                },
            )
            .await?;
        control.apply(group).await?;
    }
    for object in &objects {
        let kind = format!("{}.openchoreo.dev", text(object, "/kind"));
        control
            .wait_ready(&kind, &namespace_of(object), text(object, "/metadata/name"))
            .await?;
    }
    let components = objects
        .iter()
        .filter(|object| object["kind"] == "Component")
        .count();
    let of_components = |release: &kube::api::DynamicObject| {
        release.data.pointer("/spec/owner/componentName").is_some() && is_ready(release)
    };
    control
        .wait_all("Release", "default", "one for each component, all ready", |all| {
            all.iter().filter(|release| of_components(release)).count() == components
                && all.iter().all(is_ready)
        })
        .await?;
    platform.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_samples_ask_for_becomes_ready() -> anyhow::Result<()> {
    let corpus = workspace().join("crates/engine/tests/corpus");
    let mut seen = 0;
    for case in cases::Case::all(&corpus) {
        if case.name.starts_with("sample-") {
            seen += 1;
            become_ready(case.documents())
                .await
                .map_err(|error| error.context(case.name.clone()))?;
        }
    }
    assert!(seen > 0, "the corpus has no cases of samples");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_samples_of_others_become_ready_unchanged() -> anyhow::Result<()> {
    let Some(samples) = folder("CHOREO_SAMPLES", "shared/samples") else {
        return Ok(());
    };
    // A folder at the top is one platform: its parts refer to each other.
    let mut groups: BTreeMap<PathBuf, Vec<Value>> = BTreeMap::new();
    for file in yaml_files(&samples) {
        let top = file.strip_prefix(&samples)?.components().next().unwrap();
        let documents: Vec<Value> = serde_saphyr::from_multiple(&fs::read_to_string(&file)?)
            .map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))?;
        let group = groups.entry(samples.join(top)).or_default();
        group.extend(documents.into_iter().filter(|document| !document.is_null()));
    }
    assert!(
        !groups.is_empty(),
        "there are no samples in {}",
        samples.display()
    );
    for (folder, objects) in groups {
        become_ready(objects)
            .await
            .map_err(|error| error.context(folder.display().to_string()))?;
    }
    Ok(())
}

/// The YAML blocks of a document, with its line numbers, and without the indentation of a list that they are in.
fn blocks(text: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, usize, String)> = None;
    for (number, line) in text.lines().enumerate() {
        let depth = line.len() - line.trim_start().len();
        match (&mut open, line.trim()) {
            (None, "```yaml" | "```yml") => open = Some((number + 1, depth, String::new())),
            (Some(_), "```") => {
                let (number, _, block) = open.take().unwrap();
                blocks.push((number, block));
            }
            (Some((_, indentation, block)), _) => {
                block.push_str(line.get((*indentation).min(depth)..).unwrap_or_default());
                block.push('\n');
            }
            (None, _) => {}
        }
    }
    blocks
}

/// What a document's block leaves to its reader: a name, whose a binding is, and fields that hold nothing but a comment.
fn completed(mut manifest: Value, number: usize) -> Value {
    fn without_placeholders(value: &mut Value) {
        if let Value::Object(fields) = value {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(without_placeholders);
        }
    }
    without_placeholders(&mut manifest);
    if text(&manifest, "/metadata/name").is_empty() {
        manifest["metadata"]["name"] = json!(format!("block-{number}"));
    }
    if text(&manifest, "/kind").ends_with("Binding") && manifest["spec"]["owner"].is_null() {
        manifest["spec"]["owner"] =
            json!({"projectName": "default", "componentName": format!("block-{number}")});
    }
    manifest
}

/// Waits until the object is ready, or says in a whole sentence what it waits for.
async fn is_clear(control: &Cluster, object: &Value) -> anyhow::Result<()> {
    let kind = format!("{}.openchoreo.dev", text(object, "/kind"));
    let clear = |object: &kube::api::DynamicObject| {
        conditions(object).iter().any(|(type_, status, _, message)| {
            type_ == "Ready" && (status == "True" || message.split(' ').count() > 3)
        })
    };
    let name = text(object, "/metadata/name");
    control
        .wait_for(
            &kind,
            &namespace_of(object),
            name,
            "Ready, or saying why not",
            clear,
        )
        .await
        .map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_manifest_of_the_documents_applies() -> anyhow::Result<()> {
    let Some(documents) = folder("CHOREO_SEEDS", "shared/seeds") else {
        return Ok(());
    };
    let mut files: Vec<PathBuf> = fs::read_dir(&documents)?
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let (mut applied, mut foreign) = (0, 0);
    for file in files {
        let platform = Platform::start().await?;
        let mut objects = Vec::new();
        for (line, block) in blocks(&fs::read_to_string(&file)?) {
            let at = format!("{}:{line}", Path::new(file.file_name().unwrap()).display());
            let manifests: Vec<Value> =
                serde_saphyr::from_multiple(&block).map_err(|error| anyhow::anyhow!("{at}: {error}"))?;
            for manifest in manifests.into_iter().filter(|manifest| !manifest.is_null()) {
                match convert(&completed(manifest, line)) {
                    Ok(converted) => objects.extend(converted.objects.into_iter().map(|o| (at.clone(), o))),
                    Err(ConvertError::Foreign { .. }) => foreign += 1,
                    Err(error) => anyhow::bail!("{at}: {error}"),
                }
            }
        }
        // Whoever is in an organization comes after it.
        objects.sort_by_key(|(_, object)| object["kind"] != "Organization");
        for (at, object) in &objects {
            if object["kind"] != "Organization" && namespace_of(object) != "default" {
                platform
                    .control
                    .wait_for(
                        "Namespace.",
                        "",
                        &namespace_of(object),
                        "made by its organization",
                        |_| true,
                    )
                    .await?;
            }
            platform
                .control
                .apply(object.clone())
                .await
                .map_err(|error| error.context(at.clone()))?;
            applied += 1;
        }
        for (at, object) in &objects {
            tokio::time::timeout(Duration::from_secs(60), is_clear(&platform.control, object))
                .await?
                .map_err(|error| error.context(at.clone()))?;
        }
        platform.stop().await;
    }
    assert!(applied > 0, "there is no manifest in {}", documents.display());
    // One block shows what a service mesh would be told; it is another project's kind.
    assert!(foreign <= 1, "{foreign} manifests are not of the platform");
    Ok(())
}
