//! Schemas of the built-in kinds, made from the definitions that `k8s-openapi` publishes and the table of lists.
//!
//! Definitions are converted once per process and shared: every workload kind points at the same `PodSpec`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
};

use parking_lot::Mutex;
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value};

use super::lists::{self, Words};
use crate::registry::Publish;
use crate::schema::{Additional, MapType, Schema, Type};

/// Prefix of references between definitions.
pub(crate) const REFERENCE: &str = "#/components/schemas/";

/// Full name of the definition of quantities.
pub(crate) const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";

struct Definitions {
    generator: SchemaGenerator,
    built: BTreeMap<String, Arc<Schema>>,
}

fn definitions() -> &'static Mutex<Definitions> {
    static DEFINITIONS: OnceLock<Mutex<Definitions>> = OnceLock::new();
    DEFINITIONS.get_or_init(|| {
        let settings = SchemaSettings::openapi3();
        Mutex::new(Definitions {
            generator: settings.into_generator(),
            built: BTreeMap::new(),
        })
    })
}

/// The schema of a built-in type.
pub(crate) fn of<K: JsonSchema>() -> Arc<Schema> {
    let mut definitions = definitions().lock();
    definitions.generator.subschema_for::<K>();
    let Definitions { generator, built } = &mut *definitions;
    Builder {
        published: generator.definitions(),
        built,
        open: BTreeSet::new(),
    }
    .definition(&K::schema_name())
}

/// The published definitions of a built-in type and of everything it refers to, by name, with the extensions of the table
/// of lists. They refer to each other by [`REFERENCE`].
pub(crate) fn published<K: JsonSchema>(into: &mut BTreeMap<String, Value>) -> String {
    let mut definitions = definitions().lock();
    definitions.generator.subschema_for::<K>();
    let name = K::schema_name().into_owned();
    let mut queue = vec![name.clone()];
    while let Some(name) = queue.pop() {
        if into.contains_key(&name) {
            continue;
        }
        let Some(definition) = definitions.generator.definitions().get(&name) else {
            continue;
        };
        let mut definition = definition.clone();
        references(&definition, &mut queue);
        annotate(&name, &mut definition);
        into.insert(name, definition);
    }
    name
}

/// What publishes a kind that operations speak of and nobody stores: those of subresources, and what all groups have.
#[must_use]
pub fn spoken(group: &str, version: &str, kind: &str) -> Option<Publish> {
    use k8s_openapi::api::{authentication, autoscaling, policy};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
    Some(match (group, version, kind) {
        ("autoscaling", "v1", "Scale") => published::<autoscaling::v1::Scale>,
        ("policy", "v1", "Eviction") => published::<policy::v1::Eviction>,
        ("authentication.k8s.io", "v1", "TokenRequest") => published::<authentication::v1::TokenRequest>,
        ("", "v1", "APIResourceList") => published::<meta::APIResourceList>,
        ("", "v1", "DeleteOptions") => published::<meta::DeleteOptions>,
        ("", "v1", "Status") => published::<meta::Status>,
        _ => return None,
    })
}

fn references(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            if let Some(name) = map
                .get("$ref")
                .and_then(Value::as_str)
                .and_then(|r| r.strip_prefix(REFERENCE))
            {
                into.push(name.to_owned());
            }
            map.values().for_each(|v| references(v, into));
        }
        Value::Array(list) => list.iter().for_each(|v| references(v, into)),
        _ => {}
    }
}

/// Adds the extensions of the table, and wraps references that carry a description (OpenAPI allows no siblings of `$ref`).
fn annotate(name: &str, definition: &mut Value) {
    let Some(definition) = definition.as_object_mut() else {
        return;
    };
    match name {
        QUANTITY => {
            // As kube-apiserver publishes it; clients validate either form.
            definition.remove("x-kubernetes-int-or-string");
            definition.insert(
                "oneOf".into(),
                serde_json::json!([{ "type": "string" }, { "type": "number" }]),
            );
        }
        "io.k8s.apimachinery.pkg.util.intstr.IntOrString" => {
            definition.remove("x-kubernetes-int-or-string");
            definition.insert("format".into(), "int-or-string".into());
            definition.insert(
                "oneOf".into(),
                serde_json::json!([{ "type": "integer" }, { "type": "string" }]),
            );
        }
        _ if free_form(name).is_some_and(|s| s.type_.is_none()) => {
            definition.remove("type");
        }
        _ => {}
    }
    let row = lists::table().get(name);
    if let Some(row) = row {
        row.whole.annotate(definition);
    }
    if let Some(properties) = definition.get_mut("properties").and_then(Value::as_object_mut) {
        for (field, schema) in properties {
            let Some(schema) = schema.as_object_mut() else {
                continue;
            };
            wrap_reference(schema);
            if let Some(items) = schema.get_mut("items").and_then(Value::as_object_mut) {
                wrap_reference(items);
            }
            if let Some(words) = row.and_then(|r| r.fields.get(field.as_str())) {
                words.annotate(schema);
            } else if schema.get("type").and_then(Value::as_str) == Some("array") {
                schema.insert("x-kubernetes-list-type".into(), "atomic".into());
            }
        }
    }
}

fn wrap_reference(schema: &mut Map<String, Value>) {
    if schema.len() > 1
        && let Some(reference) = schema.remove("$ref")
    {
        schema.insert("allOf".into(), serde_json::json!([{ "$ref": reference }]));
    }
}

/// Types whose content is not described by their definition.
fn free_form(name: &str) -> Option<Schema> {
    let last = name.rsplit('.').next().unwrap_or(name);
    match last {
        "FieldsV1" | "RawExtension" => Some(Schema {
            preserve_unknown: true,
            map_type: Some(MapType::Atomic),
            ..Schema::of(Type::Object)
        }),
        "JSONSchemaProps" => Some(Schema {
            preserve_unknown: true,
            ..Schema::of(Type::Object)
        }),
        "JSON" | "JSONSchemaPropsOrArray" | "JSONSchemaPropsOrBool" | "JSONSchemaPropsOrStringArray" => {
            Some(Schema::anything())
        }
        _ => None,
    }
}

struct Builder<'a> {
    published: &'a Map<String, Value>,
    built: &'a mut BTreeMap<String, Arc<Schema>>,
    open: BTreeSet<String>,
}

impl Builder<'_> {
    fn definition(&mut self, name: &str) -> Arc<Schema> {
        if let Some(done) = self.built.get(name) {
            return done.clone();
        }
        let named = |schema: Schema| Schema {
            definition: Some(name.to_owned()),
            ..schema
        };
        let schema = if let Some(schema) = free_form(name) {
            named(schema)
        } else if name == QUANTITY {
            named(Schema {
                any_of: vec![
                    Arc::new(Schema::of(Type::String)),
                    Arc::new(Schema::of(Type::Number)),
                ],
                ..Schema::default()
            })
        } else if !self.open.insert(name.to_owned()) {
            // A type that contains itself: what is below is kept as it is.
            return Arc::new(named(Schema {
                preserve_unknown: true,
                ..Schema::of(Type::Object)
            }));
        } else {
            let row = lists::table().get(name);
            let mut schema = match self.published.get(name) {
                Some(published) => (*self.schema(published, row)).clone(),
                None => Schema::anything(),
            };
            if let Some(row) = row {
                row.whole.apply(&mut schema);
            }
            named(schema)
        };
        let schema = Arc::new(schema);
        self.built.insert(name.to_owned(), schema.clone());
        schema
    }

    fn schema(&mut self, published: &Value, row: Option<&lists::Definition>) -> Arc<Schema> {
        if let Some(name) = published
            .get("$ref")
            .and_then(Value::as_str)
            .and_then(|r| r.strip_prefix(REFERENCE))
        {
            return self.definition(name);
        }
        let text = |key: &str| published.get(key).and_then(Value::as_str);
        let mut schema = Schema {
            type_: text("type").and_then(Type::parse),
            ..Schema::default()
        };
        schema.format = text("format").map(str::to_owned);
        schema.int_or_string = published.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true));
        if let Some(properties) = published.get("properties").and_then(Value::as_object) {
            for (field, property) in properties {
                let property = self.schema(property, None);
                let words = row.and_then(|r| r.fields.get(field.as_str()));
                schema.properties.insert(field.clone(), with(property, words));
            }
        }
        match published.get("additionalProperties") {
            Some(Value::Bool(true)) => schema.additional = Additional::Any,
            Some(values @ Value::Object(_)) => {
                schema.additional = Additional::Schema(self.schema(values, None));
            }
            _ => {}
        }
        if let Some(items) = published.get("items") {
            schema.items = Some(self.schema(items, None));
        }
        // `required` is left out: kube-apiserver does not check it in built-in kinds, their own rules do.
        Arc::new(schema)
    }
}

fn with(schema: Arc<Schema>, words: Option<&Words>) -> Arc<Schema> {
    match words {
        Some(words) if !words.is_empty() => {
            let mut edited = (*schema).clone();
            words.apply(&mut edited);
            Arc::new(edited)
        }
        _ => schema,
    }
}
