//! Custom resource definitions: what is wrong with one, and the registry rows that it makes.

mod rows;
mod validate;
mod versions;

pub use rows::Definition;
pub use validate::validate;

use serde_json::{Map, Value, json};

use crate::{
    field::{FieldError, FieldPath},
    registry::ResourceInfo,
};

/// Makes the rows of a definition that is at hand as a value; see [`Definition::rows`].
///
/// # Errors
/// When it is no definition.
pub fn rows(definition: &Value) -> Result<Vec<ResourceInfo>, Vec<FieldError>> {
    let unreadable = |error: serde_json::Error| {
        vec![FieldError::invalid(
            &FieldPath::new("spec"),
            definition["spec"].clone(),
            error.to_string(),
        )]
    };
    Definition::read(definition.to_string())
        .map_err(unreadable)?
        .rows()
}

/// Fills in what a definition leaves out, as the real server does before it looks at one: singular and list names, and the
/// conversion strategy.
pub fn set_defaults(definition: &mut Value) {
    let Some(spec) = definition.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    if let Some(names) = spec.get_mut("names").and_then(Value::as_object_mut) {
        let kind = names
            .get("kind")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let mut fill = |name: &str, value: String| {
            if !kind.is_empty()
                && names
                    .get(name)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .is_empty()
            {
                names.insert(name.to_owned(), value.into());
            }
        };
        fill("singular", kind.to_lowercase());
        fill("listKind", format!("{kind}List"));
    }
    let conversion = spec.entry("conversion").or_insert_with(|| json!({}));
    if conversion.is_null() {
        *conversion = json!({});
    }
    if let Some(conversion) = conversion.as_object_mut() {
        if conversion
            .get("strategy")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .is_empty()
        {
            conversion.insert("strategy".to_owned(), "None".into());
        }
        let service = conversion
            .get_mut("webhook")
            .and_then(|w| w.get_mut("clientConfig"))
            .and_then(|c| c.get_mut("service"))
            .and_then(Value::as_object_mut);
        if let Some(service) = service {
            service.entry("port").or_insert_with(|| 443.into());
        }
    }
}

fn text<'v>(object: &'v Map<String, Value>, name: &str) -> &'v str {
    object.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn flag(object: &Map<String, Value>, name: &str) -> bool {
    object.get(name).and_then(Value::as_bool).unwrap_or_default()
}

fn texts<'v>(object: &'v Map<String, Value>, name: &str) -> Vec<&'v str> {
    object
        .get(name)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

fn object<'v>(object: &'v Map<String, Value>, name: &str) -> Option<&'v Map<String, Value>> {
    object.get(name).and_then(Value::as_object)
}

fn objects<'v>(object: &'v Map<String, Value>, name: &str) -> Vec<&'v Map<String, Value>> {
    object
        .get(name)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_object)
        .collect()
}
