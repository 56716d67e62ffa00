//! Checks and defaults of single objects, by the same schemas as the server.

use std::collections::BTreeMap;
use std::sync::Arc;

use choreo_apimachinery::field::{FieldError, FieldPath};
use choreo_apimachinery::schema::Schema;
use choreo_controllers::install;
use serde_json::Value;

use super::files::Manifest;
use super::findings::Finding;
use crate::failure::Failure;

/// The schema of each kind that we define.
pub(crate) struct Schemas {
    kinds: BTreeMap<(String, String), Known>,
}

struct Known {
    schema: Arc<Schema>,
    namespaced: bool,
}

impl Schemas {
    /// Reads them from the definitions that `choreo up` installs: ours, and those of other projects.
    pub(crate) fn load() -> Result<Self, Failure> {
        let mut kinds = BTreeMap::new();
        for definition in install::control_plane().into_iter().chain(install::data_plane()) {
            let object = definition.to_value();
            let spec = &object["spec"];
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (group, kind) = (text(&spec["group"]), text(&spec["names"]["kind"]));
            for version in spec["versions"].as_array().into_iter().flatten() {
                let broken = |reason: String| {
                    Failure::new(format!("the definition of {kind} is broken")).cause(reason)
                };
                let schema = Schema::from_json(&version["schema"]["openAPIV3Schema"]).map_err(broken)?;
                let key = (format!("{group}/{}", text(&version["name"])), kind.clone());
                kinds.insert(
                    key,
                    Known {
                        schema: Arc::new(schema),
                        namespaced: spec["scope"] == "Namespaced",
                    },
                );
            }
        }
        Ok(Self { kinds })
    }

    fn known(&self, object: &Value) -> Option<&Known> {
        let text = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
        self.kinds.get(&(text("apiVersion"), text("kind")))
    }

    /// Whether the kind is one of these.
    pub(crate) fn knows(&self, object: &Value) -> bool {
        self.known(object).is_some()
    }

    /// Whether the kind's objects are in namespaces; unknown kinds are taken to be.
    pub(crate) fn is_namespaced(&self, object: &Value) -> bool {
        self.known(object).is_none_or(|known| known.namespaced)
    }

    /// Fills in what the author has left to us.
    pub(crate) fn default(&self, object: &mut Value) {
        if let Some(known) = self.known(object) {
            known.schema.apply_defaults(object);
        }
    }

    /// Everything that is wrong with an object by itself.
    pub(crate) fn check(&self, manifest: &Manifest) -> Vec<Finding> {
        let Some(known) = self.known(&manifest.object) else {
            return vec![];
        };
        let at = |path: &str| manifest.position(if path == "<nil>" { "" } else { path });
        let mut findings: Vec<Finding> = known
            .schema
            .unknown_fields(&manifest.object)
            .into_iter()
            .map(|path| Finding::error(at(&path), format!("{path}: there is no such field")))
            .collect();
        if manifest.name().is_empty() {
            findings.push(Finding::error(at("metadata"), "metadata.name: is missing"));
        }
        let mut object = manifest.object.clone();
        known.schema.apply_defaults(&mut object);
        let mut errors: Vec<FieldError> = known.schema.validate(&object, &FieldPath::ROOT);
        // Rules assume the form that the schema promises.
        if errors.is_empty() {
            errors = known.schema.validate_cel(&object, None, &FieldPath::ROOT);
        }
        findings.extend(
            errors
                .iter()
                .map(|error| Finding::error(at(&error.path), error.to_string())),
        );
        findings
    }
}
