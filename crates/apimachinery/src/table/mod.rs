//! `meta.k8s.io` Tables: the rows that `kubectl get` prints.
//!
//! Built-in kinds have columns of their own, custom resources those of their definition, and any other kind name and age.

mod age;
mod cells;
mod cluster;
mod json_path;
mod network;
mod storage;
mod workloads;

use serde_json::{Map, Value, json};

use crate::registry::ResourceInfo;

pub use age::human_duration;
pub use json_path::JsonPath;

/// How much of each object a row carries along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// Its metadata.
    Metadata,
    /// All of it.
    Object,
}

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heading {
    pub(crate) name: &'static str,
    pub(crate) type_: &'static str,
    pub(crate) format: &'static str,
    /// 0 = always shown, more = only with `-o wide`.
    pub(crate) priority: i32,
    pub(crate) description: &'static str,
}

pub(crate) const NAME: Heading = Heading {
    name: "Name",
    type_: "string",
    format: "name",
    priority: 0,
    description: "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically.",
};

pub(crate) const AGE: Heading = column("Age", "When the object was created.");

/// A text column that is always shown.
pub(crate) const fn column(name: &'static str, description: &'static str) -> Heading {
    Heading {
        name,
        type_: "string",
        format: "",
        priority: 0,
        description,
    }
}

/// A text column that is only shown with `-o wide`.
pub(crate) const fn wide(name: &'static str, description: &'static str) -> Heading {
    Heading {
        priority: 1,
        ..column(name, description)
    }
}

/// A column of whole numbers.
pub(crate) const fn count(name: &'static str, description: &'static str) -> Heading {
    Heading {
        type_: "integer",
        ..column(name, description)
    }
}

/// How objects of a kind are printed.
pub(crate) struct Printer {
    pub(crate) columns: &'static [Heading],
    pub(crate) cells: fn(&Value, jiff::Timestamp) -> Vec<Value>,
}

/// The Table of these objects, which are all of the resource `info`.
///
/// Ages are worked out against `now`. The caller sets `apiVersion` and the list's `metadata`.
#[must_use]
pub fn table(info: &ResourceInfo, items: &[&Value], include: IncludeObject, now: jiff::Timestamp) -> Value {
    let in_order = in_order(info, items);
    let items = in_order.as_deref().unwrap_or(items);
    let (columns, rows) = if info.is_crd {
        custom(info, items, now)
    } else {
        let printer = cells::printer(&info.group, &info.kind);
        let columns = printer.columns.iter().map(heading_json).collect();
        (
            columns,
            items
                .iter()
                .map(|item| (printer.cells)(item, now))
                .collect::<Vec<_>>(),
        )
    };
    let rows: Vec<Value> = rows
        .into_iter()
        .zip(items)
        .map(|(cells, item)| {
            let mut row = Map::from_iter([("cells".to_owned(), Value::Array(cells))]);
            let object = match include {
                IncludeObject::None => None,
                IncludeObject::Metadata => Some(json!({
                    "kind": "PartialObjectMetadata",
                    "apiVersion": "meta.k8s.io/v1",
                    "metadata": item.get("metadata").cloned().unwrap_or_default(),
                })),
                IncludeObject::Object => Some((*item).clone()),
            };
            row.insert("object".to_owned(), object.unwrap_or_default());
            Value::Object(row)
        })
        .collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {},
        "columnDefinitions": Value::Array(columns),
        "rows": rows,
    })
}

/// FlowSchemas are shown as they are asked: by precedence, then by name. All other kinds are shown as they are listed.
fn in_order<'v>(info: &ResourceInfo, items: &[&'v Value]) -> Option<Vec<&'v Value>> {
    if info.is_crd || info.kind != "FlowSchema" {
        return None;
    }
    let mut items = items.to_vec();
    items.sort_by_key(|item| {
        let name = item
            .pointer("/metadata/name")
            .and_then(Value::as_str)
            .unwrap_or_default();
        (cells::number(item, "/spec/matchingPrecedence"), name)
    });
    Some(items)
}

fn heading_json(heading: &Heading) -> Value {
    json!({
        "name": heading.name,
        "type": heading.type_,
        "format": heading.format,
        "description": heading.description,
        "priority": heading.priority,
    })
}

/// The columns of a definition, after the name; without any, the age stands alone.
fn custom(info: &ResourceInfo, items: &[&Value], now: jiff::Timestamp) -> (Vec<Value>, Vec<Vec<Value>>) {
    let mut columns = vec![heading_json(&NAME)];
    let mut paths = Vec::new();
    for column in &info.columns {
        columns.push(json!({
            "name": column.name,
            "type": column.type_,
            "format": column.format,
            "description": if column.description.is_empty() {
                format!("Custom resource definition column (in JSONPath format): {}", column.json_path)
            } else {
                column.description.clone()
            },
            "priority": column.priority,
        }));
        paths.push((JsonPath::parse(&column.json_path).ok(), column.type_.as_str()));
    }
    if info.columns.is_empty() {
        columns.push(heading_json(&Heading { type_: "date", ..AGE }));
        paths.push((JsonPath::parse(".metadata.creationTimestamp").ok(), "date"));
    }
    let rows = items
        .iter()
        .map(|item| {
            let name = item.pointer("/metadata/name").cloned().unwrap_or_default();
            let cells = paths.iter().map(|(path, type_)| match path {
                None => Value::Null,
                Some(path) => custom_cell(&path.find(item), type_, now),
            });
            std::iter::once(name).chain(cells).collect()
        })
        .collect();
    (columns, rows)
}

/// What a column of this type shows of the values that its path found.
fn custom_cell(found: &[&Value], type_: &str, now: jiff::Timestamp) -> Value {
    let Some(first) = found.first() else {
        return Value::Null;
    };
    match type_ {
        "string" => {
            let texts: Vec<String> = found.iter().map(|v| shown(v)).collect();
            match texts.as_slice() {
                [_] if first.is_null() => Value::Null,
                [one] => one.as_str().into(),
                many => many.join(",").into(),
            }
        }
        "integer" => match first {
            Value::Number(n) if n.is_i64() || n.is_u64() => (*first).clone(),
            #[allow(clippy::cast_possible_truncation)] // a column of whole numbers
            Value::Number(n) => n.as_f64().map_or(Value::Null, |f| (f as i64).into()),
            Value::String(s) => s.parse::<i64>().map_or(Value::Null, Value::from),
            _ => Value::Null,
        },
        "number" => match first {
            Value::Number(_) => (*first).clone(),
            Value::String(s) => s.parse::<f64>().map_or(Value::Null, Value::from),
            _ => Value::Null,
        },
        "boolean" => match first {
            Value::Bool(_) => (*first).clone(),
            _ => Value::Null,
        },
        "date" => match first.as_str() {
            Some(time) => match time.parse::<jiff::Timestamp>() {
                Ok(then) => age::since(then, now).into(),
                Err(_) => "<invalid>".into(),
            },
            None => Value::Null,
        },
        _ => Value::Null,
    }
}

/// A value as a text column shows it.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(s) => s.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
