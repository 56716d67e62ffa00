//! Definitions of older manifests' groups and kinds, so that a cluster accepts them as they are.
//!
//! Their plural names are their own (`aliascomponents`), so that `kubectl get components` means one thing only. Their
//! content is kept as it was written: the conversion knows what it means, and says in a condition what it does not.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionNames, CustomResourceDefinitionSpec,
    CustomResourceDefinitionVersion, CustomResourceSubresourceStatus, CustomResourceSubresources,
    CustomResourceValidation, JSONSchemaProps,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::SchemaGenerator;

use super::finish::common_columns;
use crate::conditions::Condition;
use crate::kinds::{KINDS, is_namespaced};

/// The group of older manifests.
pub const ALIAS_GROUP: &str = "choreo.dev";

/// The versions of that group; the first one is stored.
pub const ALIAS_VERSIONS: &[&str] = &["v1", "v1alpha1"];

/// Kinds that exist in older manifests only.
pub const ALIAS_KINDS: &[&str] = &["BuildV2", "ComponentV2"];

/// Name in the API's paths of an alias, by its kind.
pub fn alias_plural(kind: &str) -> String {
    let kind = kind.to_lowercase();
    // The same forms that the definitions of the real kinds have.
    let plural = match kind.as_str() {
        "componentv2" => "componentv2s".to_owned(),
        "buildv2" => "buildv2s".to_owned(),
        _ if kind.ends_with('s') => format!("{kind}es"),
        _ => format!("{kind}s"),
    };
    format!("alias{plural}")
}

/// The definitions of all aliases, ordered by name.
pub fn alias_crds() -> Vec<CustomResourceDefinition> {
    let mut crds: Vec<_> = KINDS
        .iter()
        .chain(ALIAS_KINDS)
        .map(|kind| alias_crd(kind))
        .collect();
    crds.sort_by(|a: &CustomResourceDefinition, b| a.metadata.name.cmp(&b.metadata.name));
    crds
}

fn alias_crd(kind: &str) -> CustomResourceDefinition {
    let plural = alias_plural(kind);
    CustomResourceDefinition {
        metadata: ObjectMeta {
            name: Some(format!("{plural}.{ALIAS_GROUP}")),
            ..Default::default()
        },
        spec: CustomResourceDefinitionSpec {
            group: ALIAS_GROUP.to_owned(),
            names: CustomResourceDefinitionNames {
                kind: kind.to_owned(),
                list_kind: Some(format!("{kind}List")),
                plural,
                singular: Some(format!("alias{}", kind.to_lowercase())),
                categories: Some(vec!["choreo-alias".to_owned()]),
                short_names: None,
            },
            scope: if is_namespaced(kind) {
                "Namespaced"
            } else {
                "Cluster"
            }
            .to_owned(),
            versions: ALIAS_VERSIONS
                .iter()
                .enumerate()
                .map(|(index, version)| CustomResourceDefinitionVersion {
                    name: (*version).to_owned(),
                    served: true,
                    storage: index == 0,
                    schema: Some(CustomResourceValidation {
                        open_api_v3_schema: Some(alias_schema(kind)),
                    }),
                    subresources: Some(CustomResourceSubresources {
                        status: Some(CustomResourceSubresourceStatus(serde_json::json!({}))),
                        scale: None,
                    }),
                    additional_printer_columns: Some(common_columns()),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        },
        status: None,
    }
}

fn alias_schema(kind: &str) -> JSONSchemaProps {
    let object = |description: &str| JSONSchemaProps {
        type_: Some("object".to_owned()),
        description: Some(description.to_owned()),
        ..Default::default()
    };
    let spec = JSONSchemaProps {
        x_kubernetes_preserve_unknown_fields: Some(true),
        ..object("The content of the older manifest, as it was written.")
    };
    let generation = JSONSchemaProps {
        type_: Some("integer".to_owned()),
        format: Some("int64".to_owned()),
        description: Some("The generation of the spec that was converted last.".to_owned()),
        ..Default::default()
    };
    let status = JSONSchemaProps {
        properties: Some(BTreeMap::from([
            ("observedGeneration".to_owned(), generation),
            ("conditions".to_owned(), conditions()),
            (
                "objects".to_owned(),
                JSONSchemaProps {
                    type_: Some("array".to_owned()),
                    description: Some("The objects that were made of it, as kind/name.".to_owned()),
                    items: Some(
                        k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaPropsOrArray::Schema(
                            Box::new(JSONSchemaProps { type_: Some("string".to_owned()), ..Default::default() }),
                        ),
                    ),
                    ..Default::default()
                },
            ),
        ])),
        ..object("What became of the manifest.")
    };
    JSONSchemaProps {
        properties: Some(BTreeMap::from([
            ("spec".to_owned(), spec),
            ("status".to_owned(), status),
        ])),
        ..object(&format!(
            "A manifest of kind {kind} in the group {ALIAS_GROUP}. It is converted to objects of the group {}, which \
             belong to it from then on.",
            crate::labels::GROUP
        ))
    }
}

/// The schema of conditions, which is written once, on their type.
fn conditions() -> JSONSchemaProps {
    let item = <Condition as schemars::JsonSchema>::json_schema(&mut SchemaGenerator::default()).to_value();
    serde_json::from_value(serde_json::json!({
        "type": "array",
        "description": "What is true of the manifest now.",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": item,
    }))
    .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use kube::CustomResourceExt;

    use super::*;
    use crate::v1alpha1::*;

    fn plural_of<K: CustomResourceExt>() -> String {
        K::crd().spec.names.plural
    }

    #[test]
    fn plural_names_follow_those_of_the_real_kinds() {
        macro_rules! check {
            ($($kind:ident),* $(,)?) => {
                $(assert_eq!(alias_plural(stringify!($kind)), format!("alias{}", plural_of::<$kind>()));)*
            };
        }
        crate::for_each_kind!(check);
    }

    #[test]
    fn conditions_have_a_schema() {
        assert!(conditions().items.is_some());
    }
}
