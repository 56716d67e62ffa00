//! Objects as YAML, JSON and names.

use std::io;

use serde_json::Value;

use super::Printer;

/// The `-o` of commands that print objects; `wide` has further columns, `name` is `kind.group/name`, one a line.
// No documentation on the values: with it, every command's help has a page about them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    #[default]
    Table,
    Wide,
    Yaml,
    Json,
    Name,
}

/// One YAML document, without a leading `---`.
pub(crate) fn to_yaml(value: &Value) -> io::Result<String> {
    let mut text = serde_saphyr::to_string(value).map_err(io::Error::other)?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

/// Several YAML documents, with `---` between them.
pub(crate) fn yaml_documents<'a>(values: impl IntoIterator<Item = &'a Value>) -> io::Result<String> {
    let documents = values.into_iter().map(to_yaml).collect::<io::Result<Vec<_>>>()?;
    Ok(documents.join("---\n"))
}

/// Indented JSON with a line feed at its end.
pub(crate) fn to_json(value: &Value) -> io::Result<String> {
    Ok(serde_json::to_string_pretty(value).map_err(io::Error::other)? + "\n")
}

/// Prints one object as it is, several as a `List`. `names` are what `-o name` prints.
pub(crate) fn print_objects(
    printer: &mut Printer,
    format: Format,
    mut values: Vec<Value>,
    single: bool,
    names: &[String],
) -> io::Result<()> {
    if format == Format::Name {
        return names.iter().try_for_each(|name| printer.line(name));
    }
    let value = match values.pop() {
        Some(value) if single && values.is_empty() => value,
        last => {
            values.extend(last);
            serde_json::json!({"apiVersion": "v1", "kind": "List", "items": values})
        }
    };
    printer.text(if format == Format::Json {
        to_json(&value)?
    } else {
        to_yaml(&value)?
    })
}

/// Takes out what only machines want to see.
pub(crate) fn for_reading(mut object: Value) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    object
}
