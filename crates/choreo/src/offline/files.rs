//! Manifests: documents, what they stand for in today's kinds, and where in the file each field is.

use std::path::PathBuf;
use std::rc::Rc;

use choreo_api::convert::{ConvertError, convert};
use choreo_api::manifest::{self, Position};
use serde_json::{Value, json};

use super::findings::Finding;
use super::sources;
use crate::failure::Failure;

/// The `-f` of commands.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Filenames {
    /// File or folder of manifests; `-` is standard input
    #[arg(short, long, required = true, value_name = "FILE")]
    pub(crate) filename: Vec<PathBuf>,
    /// Look into the folders below, too
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
}

/// One object that a file stands for.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    /// The object, in today's kind.
    pub(crate) object: Value,
    document: Rc<manifest::Document>,
}

impl Manifest {
    /// Where a field is; for one that is not written there, what is nearest to it.
    pub(crate) fn position(&self, path: &str) -> Position {
        self.document.position(path)
    }

    /// `apiVersion`.
    pub(crate) fn api_version(&self) -> &str {
        self.object["apiVersion"].as_str().unwrap_or_default()
    }

    /// `kind`.
    pub(crate) fn kind(&self) -> &str {
        self.object["kind"].as_str().unwrap_or_default()
    }

    /// `metadata.name`.
    pub(crate) fn name(&self) -> &str {
        self.object["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// `metadata.namespace`.
    pub(crate) fn namespace(&self) -> Option<&str> {
        self.object["metadata"]["namespace"].as_str()
    }

    /// Puts the object into a namespace, unless it says itself where it belongs.
    pub(crate) fn default_namespace(&mut self, namespace: &str) {
        if self.namespace().is_none() {
            // A metadata that is no mapping is told by the checks, not here.
            if !self.object["metadata"].is_object() && !self.object["metadata"].is_null() {
                return;
            }
            self.object["metadata"]["namespace"] = json!(namespace);
        }
    }
}

/// What files hold.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// The objects, in the order of the files.
    pub(crate) manifests: Vec<Manifest>,
    /// What is wrong with documents that stand for no object.
    pub(crate) findings: Vec<Finding>,
    /// What the author should know about a conversion.
    pub(crate) notes: Vec<String>,
}

/// Reads files and converts what they say to today's kinds. What is no YAML or no manifest is a finding; what cannot be read
/// at all is a failure.
pub(crate) fn load(paths: &[PathBuf], recursive: bool) -> Result<Loaded, Failure> {
    let mut loaded = Loaded::default();
    for source in sources::read(paths, recursive)? {
        let documents = match manifest::read(&source.name, &source.text) {
            Ok(documents) => documents,
            Err(error) => {
                let message = format!("this is no YAML: {}", error.message);
                loaded.findings.push(Finding::error(error.position, message));
                continue;
            }
        };
        for document in documents.into_iter().map(Rc::new) {
            load_document(&document, &mut loaded);
        }
    }
    if loaded.manifests.is_empty() && loaded.findings.is_empty() {
        let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        return Err(Failure::new(format!(
            "there is no object in {}",
            names.join(", ")
        )));
    }
    Ok(loaded)
}

fn load_document(document: &Rc<manifest::Document>, loaded: &mut Loaded) {
    let manifest = |object: Value| Manifest {
        object,
        document: Rc::clone(document),
    };
    match convert(document.value()) {
        Ok(converted) => {
            loaded
                .manifests
                .extend(converted.objects.into_iter().map(manifest));
            let place = document.position("");
            loaded
                .notes
                .extend(converted.notes.into_iter().map(|note| format!("{place}: {note}")));
        }
        // Objects of other APIs are taken as they are.
        Err(ConvertError::Foreign { .. }) => loaded.manifests.push(manifest(document.value().clone())),
        Err(error) => {
            for problem in error.problems() {
                loaded.findings.push(Finding::error(
                    document.position(&problem.path),
                    problem.to_string(),
                ));
            }
        }
    }
}
