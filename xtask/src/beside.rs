//! What some tests need and this repository must not contain: other projects' definitions and manifests. It is looked for where a variable says, then
//! in `../shared` beside the repository.

use std::path::PathBuf;

use crate::steps::root;

/// For each: the variable, the place beside the repository, and what is not proved without it.
const BESIDE: [(&str, &str, &str); 3] = [
    (
        "CHOREO_THIRD_PARTY_CRDS",
        "../shared/crds",
        "rendered objects against third parties' own definitions",
    ),
    (
        "CHOREO_SEEDS",
        "../shared/seeds",
        "every YAML block of the documents that describe the model",
    ),
    (
        "CHOREO_SAMPLES",
        "../shared/samples",
        "the samples of openchoreo/openchoreo at a577e969",
    ),
];

/// What cannot be tested here, and which variable would change that.
pub(crate) fn missing() -> Vec<String> {
    BESIDE
        .iter()
        .filter(|(variable, beside, _)| {
            let named = std::env::var_os(variable).map(PathBuf::from);
            !named.unwrap_or_else(|| root().join(beside)).is_dir()
        })
        .map(|(variable, beside, what)| format!("{what} ({variable} is not set, and there is no {beside})"))
        .collect()
}
