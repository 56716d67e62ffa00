//! What is added to the definition of every kind.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray,
    JSONSchemaPropsOrBool,
};

/// Most characters of a text in a spec that has no bound of its own.
const MAX_TEXT: i64 = 1024;

/// Most items of a list or map in a spec that has no bound of its own.
const MAX_ITEMS: i64 = 64;

/// Completes a derived definition.
pub(super) fn finish(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        let columns = version.additional_printer_columns.get_or_insert_default();
        // Derived columns first, wide ones last: the order in which they are printed.
        columns.extend(common_columns());
        columns.sort_by_key(|column| column.priority.unwrap_or_default());
        let schema = version
            .schema
            .as_mut()
            .and_then(|schema| schema.open_api_v3_schema.as_mut());
        if let Some(schema) = schema {
            tidy(schema);
            complete(schema);
        }
    }
    crd
}

pub(super) fn common_columns() -> Vec<CustomResourceColumnDefinition> {
    let column = |name: &str, type_: &str, path: &str, priority: Option<i32>, description: &str| {
        CustomResourceColumnDefinition {
            name: name.to_owned(),
            type_: type_.to_owned(),
            json_path: path.to_owned(),
            priority,
            description: Some(description.to_owned()),
            format: None,
        }
    };
    vec![
        column(
            "Ready",
            "string",
            ".status.conditions[?(@.type=='Ready')].status",
            None,
            "Whether everything that the object stands for is as it should be.",
        ),
        column(
            "Reason",
            "string",
            ".status.conditions[?(@.type=='Ready')].reason",
            None,
            "Why, in one word.",
        ),
        column(
            "Age",
            "date",
            ".metadata.creationTimestamp",
            None,
            "How long ago the object was made.",
        ),
        column(
            "Message",
            "string",
            ".status.conditions[?(@.type=='Ready')].message",
            Some(1),
            "Why, in a sentence, and what to do.",
        ),
    ]
}

/// Bounds the spec, and lets it be absent where nothing in it must be said.
fn complete(schema: &mut JSONSchemaProps) {
    let Some(spec) = schema
        .properties
        .as_mut()
        .and_then(|properties| properties.get_mut("spec"))
    else {
        return;
    };
    bound(spec);
    let is_empty = |list: Option<usize>| list.is_none_or(|length| length == 0);
    if is_empty(spec.required.as_ref().map(Vec::len))
        && is_empty(spec.x_kubernetes_validations.as_ref().map(Vec::len))
    {
        spec.default = Some(JSON(serde_json::json!({})));
        // Clients check what is required before the server fills in defaults.
        schema.required = schema
            .required
            .take()
            .map(|required| {
                required
                    .into_iter()
                    .filter(|name| name != "spec")
                    .collect::<Vec<_>>()
            })
            .filter(|required| !required.is_empty());
    }
}

/// Applies a change to a schema and everything in it.
fn walk(schema: &mut JSONSchemaProps, change: &mut impl FnMut(&mut JSONSchemaProps)) {
    change(schema);
    for property in schema
        .properties
        .iter_mut()
        .flat_map(|properties| properties.values_mut())
    {
        walk(property, change);
    }
    match schema.items.as_mut() {
        Some(JSONSchemaPropsOrArray::Schema(items)) => walk(items, change),
        Some(JSONSchemaPropsOrArray::Schemas(schemas)) => {
            schemas.iter_mut().for_each(|items| walk(items, change))
        }
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = schema.additional_properties.as_mut() {
        walk(values, change);
    }
}

/// Removes what the derivation adds and users need not see: an absent field is absent and not `null`, and a
/// description is one line per paragraph.
fn tidy(schema: &mut JSONSchemaProps) {
    walk(schema, &mut |schema| {
        schema.nullable = None;
        if let Some(description) = &mut schema.description {
            *description = description
                .split("\n\n")
                .map(|paragraph| paragraph.split('\n').map(str::trim).collect::<Vec<_>>().join(" "))
                .collect::<Vec<_>>()
                .join("\n\n");
        }
    });
}

/// Bounds what has no bound of its own.
fn bound(schema: &mut JSONSchemaProps) {
    walk(schema, &mut |schema| match schema.type_.as_deref() {
        Some("string") if schema.enum_.is_none() && schema.format.is_none() => {
            schema.max_length.get_or_insert(MAX_TEXT);
        }
        Some("array") => {
            schema.max_items.get_or_insert(MAX_ITEMS);
        }
        Some("object") if schema.additional_properties.is_some() => {
            schema.max_properties.get_or_insert(MAX_ITEMS);
        }
        _ => {}
    });
}
