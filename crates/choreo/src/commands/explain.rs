//! `choreo explain`.

use choreo_controllers::install;
use serde_json::Value;

use crate::exit::ExitStatus;
use crate::failure::{Failure, Outcome};
use crate::output::{Printer, style};
use crate::text::nearest;

/// Width of descriptions.
const WIDTH: usize = 80;

/// Arguments of `choreo explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
For example: choreo explain workload
             choreo explain workload.spec.containers.env
             choreo explain service.spec --recursive")]
pub(crate) struct Args {
    /// A kind, or a field of it: names with dots between them
    #[arg(value_name = "KIND[.FIELD]")]
    what: String,
    /// The names of all fields below it, without their descriptions
    #[arg(long)]
    recursive: bool,
}

/// A kind of the platform.
struct Known {
    definition: Value,
}

impl Known {
    fn text(&self, pointer: &str) -> &str {
        self.definition
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    fn is_called(&self, word: &str) -> bool {
        self.names().iter().any(|name| name.eq_ignore_ascii_case(word))
    }

    fn names(&self) -> Vec<&str> {
        let names = &self.definition["spec"]["names"];
        let mut all: Vec<&str> = ["kind", "plural", "singular"]
            .iter()
            .filter_map(|name| names[*name].as_str())
            .collect();
        let short = names["shortNames"].as_array().into_iter().flatten();
        all.extend(short.filter_map(Value::as_str));
        all
    }

    /// The version that is written, and its schema.
    fn version(&self) -> Option<(&str, &Value)> {
        let versions = self.definition["spec"]["versions"].as_array()?;
        let stored = versions.iter().find(|version| version["storage"] == true)?;
        Some((stored["name"].as_str()?, &stored["schema"]["openAPIV3Schema"]))
    }
}

pub(crate) fn run(args: &Args, printer: &mut Printer) -> Outcome {
    let kinds: Vec<Known> = install::control_plane()
        .iter()
        .map(|definition| Known {
            definition: definition.to_value(),
        })
        .filter(|known| known.text("/spec/group") == choreo_api::labels::GROUP)
        .collect();
    let mut words = args.what.split('.').filter(|word| !word.is_empty());
    let wanted = words.next().unwrap_or_default();
    let Some(kind) = kinds.iter().find(|known| known.is_called(wanted)) else {
        return Err(no_kind(wanted, &kinds));
    };
    let broken = || Failure::new(format!("the definition of {wanted} is broken"));
    let (version, mut schema) = kind.version().ok_or_else(broken)?;
    let mut path = kind.text("/spec/names/kind").to_owned();
    let mut required = false;
    let mut field = None;
    for word in words {
        let at = inside(schema);
        let Some(next) = at["properties"].get(word) else {
            return Err(no_field(word, &path, at));
        };
        required = is_required(at, word);
        schema = next;
        path = format!("{path}.{word}");
        field = Some(word);
    }
    let mut text = format!(
        "{}\n{}\n{}\n\n",
        heading("GROUP", kind.text("/spec/group")),
        heading("KIND", kind.text("/spec/names/kind")),
        heading("VERSION", version),
    );
    if let Some(field) = field {
        let mark = if required { " -required-" } else { "" };
        let title = style::paint(style::BOLD, "FIELD:");
        text += &format!("{title} {field} <{}>{mark}\n\n", type_of(schema));
    }
    text += &format!("{}\n", style::paint(style::BOLD, "DESCRIPTION:"));
    text += &wrapped(&described(schema), "    ");
    for fact in facts(schema) {
        text += &wrapped(&fact, "    ");
    }
    let below = inside(schema);
    if below["properties"].as_object().is_some_and(|all| !all.is_empty()) {
        text += &format!("\n{}\n", style::paint(style::BOLD, "FIELDS:"));
        text += &fields(below, args.recursive, "  ");
    }
    printer.text(text)?;
    Ok(ExitStatus::Success)
}

fn heading(name: &str, value: &str) -> String {
    format!(
        "{}{value}",
        style::paint(style::BOLD, format!("{:<12}", format!("{name}:")))
    )
}

fn no_kind(wanted: &str, kinds: &[Known]) -> Failure {
    let names: Vec<&str> = kinds.iter().map(|known| known.text("/spec/names/kind")).collect();
    let failure = Failure::new(format!("the platform has no kind `{wanted}`")).status(ExitStatus::NotFound);
    match nearest(wanted, kinds.iter().flat_map(Known::names)) {
        Some(near) => failure.hint(format!("did you mean `{near}`?")),
        None => failure.hint(format!(
            "its kinds are {}; `kubectl explain` knows those of Kubernetes",
            names.join(", ")
        )),
    }
}

fn no_field(word: &str, path: &str, schema: &Value) -> Failure {
    let fields: Vec<&str> = schema["properties"]
        .as_object()
        .into_iter()
        .flat_map(|all| all.keys().map(String::as_str))
        .collect();
    let failure = Failure::new(format!("{path} has no field `{word}`")).status(ExitStatus::NotFound);
    match nearest(word, fields.iter().copied()) {
        Some(near) => failure.hint(format!("did you mean `{near}`?")),
        None if fields.is_empty() => failure.hint("it has no fields of its own"),
        None => failure.hint(format!("its fields are {}", fields.join(", "))),
    }
}

/// The schema of a list's items or a map's values, which is where the path goes on; of anything else, itself.
fn inside(schema: &Value) -> &Value {
    if schema["items"].is_object() {
        return inside(&schema["items"]);
    }
    if schema["additionalProperties"].is_object() && !schema["properties"].is_object() {
        return inside(&schema["additionalProperties"]);
    }
    schema
}

fn is_required(schema: &Value, field: &str) -> bool {
    schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|name| name == field)
}

/// A type in Go's words, as `kubectl explain` says it.
fn type_of(schema: &Value) -> String {
    if schema["x-kubernetes-int-or-string"] == true {
        return "int or string".to_owned();
    }
    match schema["type"].as_str() {
        Some("array") => format!("[]{}", type_of(&schema["items"])),
        Some("object") if schema["additionalProperties"].is_object() && !schema["properties"].is_object() => {
            format!("map[string]{}", type_of(&schema["additionalProperties"]))
        }
        Some("object") => "Object".to_owned(),
        Some(other) => other.to_owned(),
        None => "any".to_owned(),
    }
}

fn described(schema: &Value) -> String {
    match schema["description"].as_str() {
        Some(text) if !text.is_empty() => text.to_owned(),
        _ => "(no description)".to_owned(),
    }
}

/// What values are allowed, in sentences.
fn facts(schema: &Value) -> Vec<String> {
    let mut facts = vec![];
    let plain = |value: &Value| match value {
        Value::String(text) if !text.is_empty() => text.clone(),
        other => other.to_string(),
    };
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<String> = values.iter().map(plain).collect();
        facts.push(format!("One of: {}.", values.join(", ")));
    }
    if let Some(default) = schema.get("default") {
        facts.push(format!("Default: {}.", plain(default)));
    }
    if let Some(pattern) = schema["pattern"].as_str() {
        facts.push(format!("Matches: {pattern}"));
    }
    for (least, most, what) in [
        ("minimum", "maximum", ""),
        ("minLength", "maxLength", " characters"),
        ("minItems", "maxItems", " items"),
        ("minProperties", "maxProperties", " entries"),
    ] {
        // Bounds of whole numbers are kept as floating-point numbers.
        let number = |key: &str| schema.get(key)?.as_f64().map(|number| number.to_string());
        match (number(least), number(most)) {
            (Some(least), Some(most)) => facts.push(format!("From {least} to {most}{what}.")),
            (Some(least), None) => facts.push(format!("At least {least}{what}.")),
            (None, Some(most)) => facts.push(format!("At most {most}{what}.")),
            (None, None) => {}
        }
    }
    for rule in schema["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let message = rule["message"].as_str().or(rule["rule"].as_str());
        facts.extend(message.map(|message| format!("Rule: {message}.")));
    }
    facts
}

fn fields(schema: &Value, recursive: bool, indent: &str) -> String {
    let mut text = String::new();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let mark = if is_required(schema, name) {
            " -required-"
        } else {
            ""
        };
        text += &format!(
            "{indent}{}\t<{}>{mark}\n",
            style::paint(style::COPY, name),
            type_of(field)
        );
        if recursive {
            text += &fields(inside(field), true, &format!("{indent}  "));
        } else {
            text += &wrapped(&described(field), &format!("{indent}  "));
            for fact in facts(field) {
                text += &wrapped(&fact, &format!("{indent}  "));
            }
            text.push('\n');
        }
    }
    text
}

/// Text in lines of a readable width.
fn wrapped(text: &str, indent: &str) -> String {
    let mut lines = String::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            if !line.is_empty() && line.len() + word.len() + 1 > WIDTH - indent.len() {
                lines += &format!("{indent}{line}\n");
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line += word;
        }
        lines += &format!("{indent}{line}\n");
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn types_are_told_as_kubectl_tells_them() {
        for (schema, expected) in [
            (json!({"type": "string"}), "string"),
            (json!({"type": "array", "items": {"type": "object"}}), "[]Object"),
            (
                json!({"type": "object", "additionalProperties": {"type": "integer"}}),
                "map[string]integer",
            ),
            (json!({"x-kubernetes-int-or-string": true}), "int or string"),
            (json!({"x-kubernetes-preserve-unknown-fields": true}), "any"),
        ] {
            assert_eq!(type_of(&schema), expected);
        }
    }

    #[test]
    fn long_descriptions_are_wrapped() {
        let text = wrapped(&"word ".repeat(40), "    ");
        assert!(text.lines().count() > 1);
        assert!(
            text.lines()
                .all(|line| line.len() <= WIDTH && line.starts_with("    word"))
        );
    }
}
