//! The table of how lists and maps of built-in kinds are merged (`lists.txt`), read once.

use std::{collections::BTreeMap, sync::OnceLock};

use serde_json::Value;

use crate::schema::{ListType, MapType, Schema};

/// What the table says about a type or a field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Words {
    list_type: Option<ListType>,
    map_type: Option<MapType>,
    strategies: Vec<&'static str>,
    merge_key: Option<&'static str>,
    default: Option<&'static str>,
}

impl Words {
    fn parse(line: &'static str) -> Self {
        let mut words = Words::default();
        for word in line.split_whitespace() {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            match name {
                "map" => {
                    words.list_type = Some(ListType::Map(value.split(',').map(str::to_owned).collect()));
                }
                "set" => words.list_type = Some(ListType::Set),
                "atomic" => words.map_type = Some(MapType::Atomic),
                "granular" => words.map_type = Some(MapType::Granular),
                "merge" => {
                    words.strategies.push("merge");
                    words.merge_key = (!value.is_empty()).then_some(value);
                }
                "retainKeys" => words.strategies.push("retainKeys"),
                "default" => words.default = Some(value),
                _ => debug_assert!(false, "unknown word {word}"),
            }
        }
        words
    }

    /// Whether there is anything to say.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Words::default()
    }

    /// Writes what the table says into a schema.
    pub(crate) fn apply(&self, schema: &mut Schema) {
        if let Some(list_type) = &self.list_type {
            schema.list_type = Some(list_type.clone());
        }
        if let Some(map_type) = self.map_type {
            schema.map_type = Some(map_type);
        }
        if !self.strategies.is_empty() {
            schema.patch_strategy = Some(self.strategies.join(","));
        }
        if let Some(key) = self.merge_key {
            schema.patch_merge_key = Some(key.to_owned());
        }
        if let Some(default) = self.default {
            schema.default = Some(Value::from(default));
        }
    }

    /// Writes what the table says into a published (JSON) schema.
    pub(crate) fn annotate(&self, schema: &mut serde_json::Map<String, Value>) {
        match &self.list_type {
            Some(ListType::Map(keys)) => {
                schema.insert("x-kubernetes-list-type".into(), "map".into());
                schema.insert("x-kubernetes-list-map-keys".into(), keys.clone().into());
            }
            Some(ListType::Set) => {
                schema.insert("x-kubernetes-list-type".into(), "set".into());
            }
            Some(ListType::Atomic) | None => {}
        }
        match self.map_type {
            Some(MapType::Atomic) => {
                schema.insert("x-kubernetes-map-type".into(), "atomic".into());
            }
            Some(MapType::Granular) => {
                schema.insert("x-kubernetes-map-type".into(), "granular".into());
            }
            None => {}
        }
        if !self.strategies.is_empty() {
            schema.insert(
                "x-kubernetes-patch-strategy".into(),
                self.strategies.join(",").into(),
            );
        }
        if let Some(key) = self.merge_key {
            schema.insert("x-kubernetes-patch-merge-key".into(), key.into());
        }
        if let Some(default) = self.default {
            schema.insert("default".into(), default.into());
        }
    }
}

/// What the table says about one type.
#[derive(Clone, Debug, Default)]
pub(crate) struct Definition {
    /// About the type as a whole.
    pub(crate) whole: Words,
    /// About its fields.
    pub(crate) fields: BTreeMap<&'static str, Words>,
}

/// The table, by full names such as `io.k8s.api.core.v1.PodSpec`.
pub(crate) fn table() -> &'static BTreeMap<String, Definition> {
    static TABLE: OnceLock<BTreeMap<String, Definition>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut table = BTreeMap::<String, Definition>::new();
        let mut current = String::new();
        for line in include_str!("lists.txt").lines() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, words) = line
                .trim_start()
                .split_once(' ')
                .unwrap_or((line.trim_start(), ""));
            if line.starts_with(' ') {
                table
                    .entry(current.clone())
                    .or_default()
                    .fields
                    .insert(name, Words::parse(words));
            } else {
                current = full_name(name);
                table.entry(current.clone()).or_default().whole = Words::parse(words);
            }
        }
        table
    })
}

/// `io.k8s.api.core.v1.PodSpec` of `core.v1.PodSpec`.
pub(crate) fn full_name(short: &str) -> String {
    match short.split_once('.') {
        Some(("meta", rest)) => format!("io.k8s.apimachinery.pkg.apis.meta.{rest}"),
        Some(("apiextensions", rest)) => {
            format!("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.{rest}")
        }
        _ => format!("io.k8s.api.{short}"),
    }
}
