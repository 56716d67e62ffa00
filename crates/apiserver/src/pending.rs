//! Stand-ins for parts of the API machinery that are being written. Each goes as soon as the real one is there.
#![allow(missing_docs, clippy::needless_pass_by_value)]

pub(crate) mod builtin {
    use choreo_apimachinery::field::FieldError;
    use choreo_apimachinery::registry::ResourceInfo;
    use serde_json::{Value, json};

    pub(crate) fn prepare_create(info: &ResourceInfo, object: &mut Value) {
        if info.kind == "Namespace" {
            object["spec"]["finalizers"] = json!(["kubernetes"]);
            object["status"]["phase"] = "Active".into();
        } else if info.status && info.kind != "Node" && info.kind != "CustomResourceDefinition" {
            if let Some(map) = object.as_object_mut() {
                map.remove("status");
            }
            if info.kind == "Pod" {
                object["status"] = json!({"phase": "Pending"});
            }
        }
    }
    pub(crate) fn prepare_update(_: &ResourceInfo, _: &str, _: &Value, _: &mut Value) {}
    pub(crate) fn default(_: &ResourceInfo, _: &mut Value) {}
    pub(crate) fn validate(_: &ResourceInfo, _: &Value, _: Option<&Value>) -> Vec<FieldError> {
        Vec::new()
    }
}

pub(crate) mod crd {
    use std::sync::Arc;

    use choreo_apimachinery::field::{FieldError, FieldPath};
    use choreo_apimachinery::registry::{
        ALL_VERBS, Column, Generation, LazySchema, ResourceInfo, SUBRESOURCE_VERBS, ScalePaths,
        SelectableField, Storage, Subresource,
    };
    use choreo_apimachinery::schema::Schema;
    use serde_json::Value;

    pub(crate) fn validate(_: &Value, _: Option<&Value>) -> Vec<FieldError> {
        Vec::new()
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|w| (*w).to_owned()).collect()
    }

    pub(crate) fn rows(definition: &Value) -> Result<Vec<ResourceInfo>, Vec<FieldError>> {
        let spec = &definition["spec"];
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let texts = |v: &Value| v.as_array().into_iter().flatten().map(text).collect::<Vec<_>>();
        let names = &spec["names"];
        let kind = text(&names["kind"]);
        let versions = spec["versions"].as_array().cloned().unwrap_or_default();
        let storage = versions
            .iter()
            .find(|v| v["storage"] == true)
            .map(|v| text(&v["name"]))
            .unwrap_or_default();
        let mut rows = Vec::new();
        for version in versions.iter().filter(|v| v["served"] == true) {
            let schema = Schema::from_json(&version["schema"]["openAPIV3Schema"])
                .map_err(|e| vec![FieldError::invalid(&FieldPath::new("spec"), "", e)])?;
            let subs = &version["subresources"];
            let status = subs.get("status").is_some();
            let scale = subs.get("scale").map(|s| ScalePaths {
                spec_replicas: text(&s["specReplicasPath"]),
                status_replicas: text(&s["statusReplicasPath"]),
                label_selector: s["labelSelectorPath"].as_str().map(str::to_owned),
            });
            let mut subresources = Vec::new();
            if scale.is_some() {
                subresources.push(Subresource {
                    name: "scale".into(),
                    group: "autoscaling".into(),
                    version: "v1".into(),
                    kind: "Scale".into(),
                    verbs: words(SUBRESOURCE_VERBS),
                });
            }
            if status {
                subresources.push(Subresource {
                    name: "status".into(),
                    group: String::new(),
                    version: String::new(),
                    kind: kind.clone(),
                    verbs: words(SUBRESOURCE_VERBS),
                });
            }
            let columns = version["additionalPrinterColumns"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|c| Column {
                    name: text(&c["name"]),
                    type_: text(&c["type"]),
                    format: text(&c["format"]),
                    description: text(&c["description"]),
                    priority: c["priority"].as_i64().unwrap_or_default() as i32,
                    json_path: text(&c["jsonPath"]),
                })
                .collect();
            let singular = text(&names["singular"]);
            let list_kind = text(&names["listKind"]);
            rows.push(ResourceInfo {
                group: text(&spec["group"]),
                version: text(&version["name"]),
                list_kind: if list_kind.is_empty() {
                    format!("{kind}List")
                } else {
                    list_kind
                },
                plural: text(&names["plural"]),
                singular: if singular.is_empty() {
                    kind.to_lowercase()
                } else {
                    singular
                },
                short_names: texts(&names["shortNames"]),
                categories: texts(&names["categories"]),
                namespaced: spec["scope"] == "Namespaced",
                verbs: words(ALL_VERBS),
                status,
                scale,
                subresources,
                columns,
                selectable_fields: version["selectableFields"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|f| SelectableField::direct(text(&f["jsonPath"]).trim_start_matches('.')))
                    .collect(),
                storage: Storage {
                    group: text(&spec["group"]),
                    version: storage.clone(),
                    kind: kind.clone(),
                    plural: text(&names["plural"]),
                },
                is_crd: true,
                generation: if status {
                    Generation::Content
                } else {
                    Generation::All
                },
                schema: LazySchema::from(Arc::new(schema)),
                publish: None,
                kind: kind.clone(),
            });
        }
        Ok(rows)
    }
}

pub(crate) mod table {
    use choreo_apimachinery::registry::ResourceInfo;
    use serde_json::{Value, json};

    #[derive(Clone, Copy, PartialEq)]
    pub(crate) enum IncludeObject {
        None,
        Metadata,
        Object,
    }
    pub(crate) fn table(
        _: &ResourceInfo,
        items: &[&Value],
        include: IncludeObject,
        _: jiff::Timestamp,
    ) -> Value {
        let rows: Vec<Value> = items.iter().map(|item| {
            let object = match include {
                IncludeObject::None => Value::Null,
                IncludeObject::Metadata => json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": item["metadata"]}),
                IncludeObject::Object => (*item).clone(),
            };
            json!({"cells": [item["metadata"]["name"], item["metadata"]["creationTimestamp"]], "object": object})
        }).collect();
        json!({"kind": "Table", "metadata": {}, "columnDefinitions": [
            {"name": "Name", "type": "string", "format": "name", "description": "", "priority": 0},
            {"name": "Created At", "type": "date", "format": "", "description": "", "priority": 0},
        ], "rows": rows})
    }
}
