//! Bringing the definitions of a cluster that others may have used before us up to date: what a newer version installed is not
//! replaced by something that would lose fields, and objects that are stored in an old version of their kind are rewritten.

use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::{Definition, InstallError, MANAGER, definitions_of};
use crate::runtime::feed::describe;

/// Annotation of a definition: the version of the program that installed it.
pub const VERSION: &str = "openchoreo.dev/definition-version";
/// Objects that are read at a time while they are rewritten.
const PAGE: u32 = 500;
/// As many lost fields are named as a person reads.
const NAMED: usize = 8;

/// What an upgrade did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upgrade {
    /// Definitions that a newer version had installed and that were left as they are.
    pub newer: Vec<String>,
    /// Definitions whose objects were rewritten, and how many there were.
    pub migrated: Vec<(String, usize)>,
}

/// Installs `definitions` as version `version` of the program. With `force`, a downgrade that loses fields is done all the same.
///
/// # Errors
/// [`InstallError::Downgrade`] before anything is written; otherwise the first failure.
pub async fn upgrade(
    client: &Client,
    definitions: &[Definition],
    version: &str,
    force: bool,
) -> Result<Upgrade, InstallError> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut report = Upgrade::default();
    let listed = api
        .list_metadata(&ListParams::default())
        .await
        .map_err(|error| refused("CustomResourceDefinitions", &error))?;
    let mut lost = Vec::new();
    for installed in &listed.items {
        let name = installed.name_any();
        let is_newer = installed
            .annotations()
            .get(VERSION)
            .is_some_and(|theirs| precedes(version, theirs));
        let Some(ours) = definitions.iter().find(|ours| is_newer && ours.name == name) else {
            continue;
        };
        let theirs = api.get(&name).await.map_err(|error| refused(&name, &error))?;
        let theirs = serde_json::to_value(theirs).unwrap_or_default();
        let missing: Vec<String> = fields(&theirs)
            .difference(&fields(&ours.to_value()))
            .cloned()
            .collect();
        if missing.is_empty() {
            report.newer.push(name);
        } else {
            let by = installed.annotations().get(VERSION).cloned().unwrap_or_default();
            lost.push((name, by, missing));
        }
    }
    if let Some((_, by, _)) = lost.first()
        && !force
    {
        let fields = lost
            .iter()
            .flat_map(|(name, _, missing)| missing.iter().map(move |field| format!("{name}: {field}")));
        let all: Vec<String> = fields.collect();
        return Err(InstallError::Downgrade {
            installed: by.clone(),
            ours: version.to_owned(),
            count: all.len(),
            fields: all.into_iter().take(NAMED).collect(),
        });
    }
    let wanted: Vec<Definition> = definitions
        .iter()
        .filter(|definition| !report.newer.contains(&definition.name))
        .cloned()
        .collect();
    definitions_of(client, &wanted, version).await?;
    report.migrated = migrate(client, definitions).await?;
    Ok(report)
}

fn refused(what: &str, error: &kube::Error) -> InstallError {
    InstallError::Refused {
        what: what.to_owned(),
        message: describe(error),
    }
}

/// Whether version `a` is older than `b`. What is no version is older than every version.
fn precedes(a: &str, b: &str) -> bool {
    parsed(a) < parsed(b)
}

/// The numbers, and whether it is a release: `1.2.0-rc.1` comes before `1.2.0`.
fn parsed(version: &str) -> Option<(Vec<u64>, bool)> {
    let version = version.trim_start_matches('v');
    let (version, _build) = version.split_once('+').unwrap_or((version, ""));
    let (numbers, pre) = version
        .split_once('-')
        .map_or((version, None), |(n, pre)| (n, Some(pre)));
    let numbers: Option<Vec<u64>> = numbers.split('.').map(|part| part.parse().ok()).collect();
    Some((numbers?, pre.is_none()))
}

/// The paths of all fields that a definition has, in all versions that it serves.
fn fields(definition: &Value) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for version in definition["spec"]["versions"].as_array().into_iter().flatten() {
        collect(&version["schema"]["openAPIV3Schema"], "", &mut all);
    }
    all
}

fn collect(schema: &Value, path: &str, all: &mut BTreeSet<String>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        collect(field, &path, all);
        all.insert(path);
    }
    for (keyword, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[keyword].is_object() {
            collect(&schema[keyword], &format!("{path}{mark}"), all);
        }
    }
}

/// Rewrites the objects of definitions that have objects in a version that is not the stored one any more, and notes that
/// there are none left. Until then that version could never be taken out of the definition.
async fn migrate(client: &Client, definitions: &[Definition]) -> Result<Vec<(String, usize)>, InstallError> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut migrated = Vec::new();
    // Only those with several versions can have anything to migrate.
    for definition in definitions
        .iter()
        .filter(|definition| definition.json.matches("\"storage\":").count() > 1)
    {
        let name = &definition.name;
        let live = api.get(name).await.map_err(|error| refused(name, &error))?;
        let stored = live
            .status
            .as_ref()
            .and_then(|status| status.stored_versions.clone())
            .unwrap_or_default();
        let Some(storage) = live.spec.versions.iter().find(|version| version.storage) else {
            continue;
        };
        if stored.iter().all(|version| *version == storage.name) {
            continue;
        }
        let gvk = GroupVersionKind::gvk(&live.spec.group, &storage.name, &live.spec.names.kind);
        let resource = ApiResource::from_gvk_with_plural(&gvk, &live.spec.names.plural);
        let count = rewrite(client, &resource).await?;
        let patch = json!({
            "metadata": {"resourceVersion": live.metadata.resource_version},
            "status": {"storedVersions": [storage.name]},
        });
        let params = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        match api.patch_status(name, &params, &Patch::Merge(&patch)).await {
            Ok(_) => migrated.push((name.clone(), count)),
            // Somebody has changed the definition meanwhile: the next start looks again.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(refused(name, &error)),
        }
    }
    Ok(migrated)
}

/// Writes every object of a kind as it is, which stores it in today's version.
async fn rewrite(client: &Client, resource: &ApiResource) -> Result<usize, InstallError> {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), resource);
    let failed = |error: &kube::Error| refused(&format!("rewrite the objects of {}", resource.plural), error);
    let params = PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    };
    let mut count = 0;
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let list = api.list(&page).await.map_err(|error| failed(&error))?;
        for object in list.items {
            let one: Api<DynamicObject> = match object.namespace() {
                Some(namespace) => Api::namespaced_with(client.clone(), &namespace, resource),
                None => api.clone(),
            };
            match one.replace(&object.name_any(), &params, &object).await {
                // Who has changed it meanwhile has stored it in today's version, too.
                Ok(_) => count += 1,
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                Err(error) => return Err(failed(&error)),
            }
        }
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_semver_says() {
        for (a, b) in [
            ("0.1.0", "0.2.0"),
            ("0.9.0", "0.10.0"),
            ("1.0.0-rc.1", "1.0.0"),
            ("1.0.0", "1.0.1+abc"),
            ("dev", "0.1.0"),
        ] {
            assert!(precedes(a, b), "{a} < {b}");
            assert!(!precedes(b, a), "{b} < {a}");
        }
        assert!(!precedes("0.1.0", "v0.1.0"));
    }

    #[test]
    fn fields_are_found_in_lists_and_maps() {
        let schema = json!({"properties": {
            "a": {"items": {"properties": {"b": {}}}},
            "c": {"additionalProperties": {"properties": {"d": {}}}},
            "e": {"additionalProperties": true},
        }});
        let definition = json!({"spec": {"versions": [{"schema": {"openAPIV3Schema": schema}}]}});
        let found: Vec<String> = fields(&definition).into_iter().collect();
        assert_eq!(found, [".a", ".a[].b", ".c", ".c{}.d", ".e"]);
    }
}
