//! The definitions, pinned: a change to a type shows here as a change to the API.

use choreo_api::crds::{alias_crds, crds};
use choreo_api::foreign::foreign_crds;

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

#[test]
fn definitions_are_pinned() {
    for crd in crds() {
        pin!(crd.metadata.name.clone().unwrap(), crd);
    }
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
