//! Manifests: documents, where they are, and what they say in today's kinds.

use std::path::PathBuf;

use serde_json::Value;

use super::sources;
use crate::failure::Failure;

/// One object of a file.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    /// The file.
    pub(crate) file: String,
    /// The line that it begins on, from 1.
    pub(crate) line: usize,
    /// The object.
    pub(crate) object: Value,
}

impl Document {
    /// `app.yaml:12`.
    pub(crate) fn place(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }
}

/// Reads everything that `-f` names and converts it to today's kinds.
pub(crate) fn read_converted(paths: &[PathBuf]) -> Result<Vec<Document>, Failure> {
    let mut documents = vec![];
    for source in sources::read(paths, false)? {
        let values: Vec<Value> = serde_saphyr::from_multiple(&source.text)
            .map_err(|error| Failure::new(format!("{} is no YAML", source.name)).because(&error))?;
        documents.extend(
            values
                .into_iter()
                .filter(|value| !value.is_null())
                .map(|object| Document {
                    file: source.name.clone(),
                    line: 1,
                    object,
                }),
        );
    }
    Ok(documents)
}
