//! The cases of the corpus, read and rendered. Tests of other crates include this file, so it stands alone.

use std::{
    fs,
    path::{Path, PathBuf},
};

use choreo_apimachinery::registry::Registry;
use choreo_engine::{
    AnyObject, World,
    offline::{self, Rendered},
};
use serde_json::Value;

/// With this variable set, only cases whose name contains it are looked at.
const ONLY: &str = "CHOREO_CORPUS";

const PLATFORM: &str = include_str!("fixtures/platform.yaml");

/// The features of the data plane there.
const FEATURES: &str = "    networkPolicy: true\n    externalSecrets: true";

pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    input: String,
}

/// The documents of a text, in namespace `default` unless they say otherwise.
fn documents(yaml: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap();
    documents
        .into_iter()
        .filter(|document| !document.is_null())
        .map(|mut document| {
            if document["kind"] != "Organization" && document["metadata"]["namespace"].is_null() {
                document["metadata"]["namespace"] = Value::from("default");
            }
            document
        })
        .collect()
}

impl Case {
    /// Every case in `corpus`, by name.
    pub(crate) fn all(corpus: &Path) -> Vec<Self> {
        let only = std::env::var(ONLY).unwrap_or_default();
        let mut cases: Vec<Self> = fs::read_dir(corpus)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_dir())
            .map(|folder| {
                let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
                let input = fs::read_to_string(folder.join("input.yaml"))
                    .unwrap_or_else(|error| panic!("{name}/input.yaml: {error}"));
                Self { name, folder, input }
            })
            .filter(|case| case.name.contains(&only))
            .collect();
        cases.sort_by(|a, b| a.name.cmp(&b.name));
        assert!(!cases.is_empty(), "no case in {} is called so", corpus.display());
        cases
    }

    /// What the comment lines before the first document say under `# KEY:`.
    pub(crate) fn option(&self, key: &str) -> Option<&str> {
        self.input
            .lines()
            .take_while(|line| line.starts_with('#'))
            .find_map(|line| line.strip_prefix("# ")?.strip_prefix(key)?.strip_prefix(':'))
            .map(str::trim)
    }

    /// What the case itself consists of.
    pub(crate) fn documents(&self) -> Vec<Value> {
        let any_artifact = self.input.replace("$artifact(", "artifact-").replace(")\"", "\"");
        documents(&any_artifact)
    }

    fn platform(&self) -> String {
        assert!(
            PLATFORM.contains(FEATURES),
            "fixtures/platform.yaml has other features"
        );
        match self.option("data plane") {
            None => PLATFORM.to_owned(),
            Some(features) => {
                let chosen: Vec<String> = features
                    .split(',')
                    .map(|feature| {
                        let (name, value) = feature.split_once('=').unwrap_or((feature, "true"));
                        format!("    {}: {value}", name.trim())
                    })
                    .collect();
                PLATFORM.replace(FEATURES, &chosen.join("\n"))
            }
        }
    }

    /// `$artifact(NAME)` in an input is the artifact of the component NAME, whose name nobody can write down.
    fn with_artifacts(&self, first: &Rendered) -> Option<String> {
        let mut text = self.input.clone();
        while let Some(start) = text.find("$artifact(") {
            let end = start + text[start..].find(')').unwrap();
            let component = text[start + "$artifact(".len()..end].to_owned();
            let artifact = first
                .objects
                .iter()
                .find(|object| {
                    object["kind"] == "DeployableArtifact"
                        && object["spec"]["owner"]["componentName"] == component.as_str()
                })
                .unwrap_or_else(|| {
                    panic!(
                        "{}: component {component:?} has no artifact: {:?}",
                        self.name, first.problems
                    )
                });
            text.replace_range(start..=end, artifact["metadata"]["name"].as_str().unwrap());
        }
        (text != self.input).then_some(text)
    }

    /// Renders the case on the platform that all cases share, with its documents in order or the other way round.
    pub(crate) fn render(&self, registry: &Registry, reversed: bool) -> Rendered {
        let platform = documents(&self.platform());
        let world = |text: &str| {
            let mut own = documents(text);
            if reversed {
                own.reverse();
            }
            let mut world = World::new();
            for mut document in platform.iter().cloned().chain(own) {
                let text = |key: &str| document[key].as_str().unwrap_or_default();
                if let Some(info) = registry.by_api_version(text("apiVersion"), text("kind")) {
                    info.schema().apply_defaults(&mut document);
                }
                match AnyObject::from_value(&document) {
                    Ok(object) => world.upsert(object),
                    Err(error) => panic!("{}: {error}", self.name),
                }
            }
            world
        };
        let rendered = offline::render(&world(&self.input));
        match self.with_artifacts(&rendered) {
            Some(text) => offline::render(&world(&text)),
            None => rendered,
        }
    }
}
