//! The definitions, pinned: a change to a type shows here as a change to the API.

use std::collections::BTreeMap;
use std::path::Path;

use choreo_api::crds::{alias_crds, crds, definitions};
use choreo_api::foreign::foreign_crds;
use sha2::{Digest as _, Sha256};

macro_rules! pin {
    ($name:expr, $value:expr) => {
        insta::with_settings!({
            prepend_module_to_snapshot => false,
            omit_expression => true,
            snapshot_path => "../snapshots/crds",
        }, {
            insta::assert_yaml_snapshot!($name, $value);
        })
    };
}

/// The program carries these files: they are what the types say, or it would speak of fields that there are not.
#[test]
fn definitions_are_those_of_the_types() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("definitions");
    let made: BTreeMap<String, String> = crds()
        .iter()
        .map(|crd| {
            let json = serde_json::to_value(crd).unwrap();
            let text = format!("{}\n", serde_json::to_string_pretty(&json).unwrap());
            (format!("{}.json", crd.metadata.name.as_ref().unwrap()), text)
        })
        .collect();
    let kept = || -> BTreeMap<String, String> {
        let entries = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap());
        entries
            .map(|entry| {
                let name = entry.file_name().into_string().unwrap();
                (name, std::fs::read_to_string(entry.path()).unwrap())
            })
            .collect()
    };
    if std::env::var_os("UPDATE_DEFINITIONS").is_some() {
        for name in kept().keys().filter(|name| !made.contains_key(*name)) {
            std::fs::remove_file(folder.join(name)).unwrap();
        }
        for (name, text) in &made {
            std::fs::write(folder.join(name), text).unwrap();
        }
    }
    let kept = kept();
    let stale: Vec<&String> = made
        .keys()
        .chain(kept.keys())
        .filter(|name| made.get(*name) != kept.get(*name))
        .collect();
    for definition in definitions() {
        assert_eq!(
            definition.digest,
            hex::encode(Sha256::digest(definition.json)),
            "{}",
            definition.name
        );
    }
    assert!(
        stale.is_empty(),
        "out of date: {stale:?}; run UPDATE_DEFINITIONS=1 cargo test -p choreo-api --test it definitions, and read the difference"
    );
}

#[test]
fn definitions_are_carried() {
    let carried: Vec<_> = definitions()
        .iter()
        .map(|d| (d.name.to_owned(), d.kind.to_owned()))
        .collect();
    let made: Vec<_> = crds()
        .into_iter()
        .map(|crd| (crd.metadata.name.unwrap(), crd.spec.names.kind))
        .collect();
    assert_eq!(
        carried, made,
        "the program carries what was there when it was compiled: run the test again"
    );
}

#[test]
fn aliases_are_pinned() {
    let crds = alias_crds();
    let names: Vec<_> = crds
        .iter()
        .map(|crd| crd.metadata.name.clone().unwrap())
        .collect();
    pin!("alias-names", names);
    pin!("alias-example", crds[0]);
}

#[test]
fn foreign_definitions_are_pinned() {
    for crd in foreign_crds() {
        pin!(format!("foreign-{}", crd.metadata.name.clone().unwrap()), crd);
    }
}

#[test]
fn short_names_are_used_once() {
    // What kubectl already knows by these names in every cluster.
    let mut taken: Vec<String> = [
        "svc", "deploy", "ep", "ns", "po", "cm", "rs", "sts", "ds", "cj", "ing", "netpol", "ev", "sa", "no",
    ]
    .map(str::to_owned)
    .to_vec();
    for crd in crds() {
        let names = crd.spec.names;
        for name in names.short_names.into_iter().flatten() {
            assert!(!taken.contains(&name), "{name} of {} is taken", names.kind);
            taken.push(name);
        }
    }
}

#[test]
fn every_kind_has_what_every_kind_has() {
    for crd in crds() {
        let kind = &crd.spec.names.kind;
        assert_eq!(
            crd.spec.names.categories.as_deref(),
            Some(&["choreo".to_owned()][..]),
            "{kind}"
        );
        let version = &crd.spec.versions[0];
        assert!(version.subresources.as_ref().unwrap().status.is_some(), "{kind}");
        let columns: Vec<_> = version
            .additional_printer_columns
            .iter()
            .flatten()
            .map(|c| c.name.as_str())
            .collect();
        assert!(
            ["Ready", "Reason", "Age"]
                .iter()
                .all(|name| columns.contains(name)),
            "{kind}: {columns:?}"
        );
        let schema = version
            .schema
            .as_ref()
            .unwrap()
            .open_api_v3_schema
            .as_ref()
            .unwrap();
        let status = &schema.properties.as_ref().unwrap()["status"];
        for field in ["conditions", "observedGeneration"] {
            assert!(
                status.properties.as_ref().unwrap().contains_key(field),
                "{kind}.status.{field}"
            );
        }
        assert!(
            schema
                .description
                .as_ref()
                .is_some_and(|d| d.len() > 40 && !d.contains("Auto-generated")),
            "{kind}"
        );
        described(schema, kind);
    }
}

/// Every field says what it is: the descriptions are what `kubectl explain` shows.
fn described(
    schema: &k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps,
    path: &str,
) {
    for (name, property) in schema.properties.iter().flatten() {
        let path = format!("{path}.{name}");
        let known = path.matches('.').count() == 1;
        assert!(
            known || property.description.as_ref().is_some_and(|d| !d.is_empty()),
            "{path} has no description"
        );
        described(property, &path);
    }
}
