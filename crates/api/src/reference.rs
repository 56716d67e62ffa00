//! The reference of all kinds, as Markdown, made from the types: what `docs/reference/kinds.md` is.

use std::fmt::Write as _;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

const HEAD: &str = "\
# Kinds

The kinds of the API group `openchoreo.dev/v1alpha1`: what their fields are, and which rules hold between them.

This page is generated from the types in `crates/api`. After a change to them, run
`UPDATE_DOCS=1 cargo test -p choreo-api --test it reference`.

A field in **bold** must be given. Names of map entries are written as `<name>`, items of lists as `[]`.
Every kind has `status.conditions`, of which `Ready` is the summary, and `status.observedGeneration`.
";

/// The reference of all kinds, ordered by kind.
pub fn reference_markdown() -> String {
    let mut crds = crate::crds();
    crds.sort_by(|a, b| a.spec.names.kind.cmp(&b.spec.names.kind));
    let mut page = HEAD.to_owned();
    page.push_str("\n| Kind | Short names | What it is |\n| --- | --- | --- |\n");
    for crd in &crds {
        let names = &crd.spec.names;
        let short = names
            .short_names
            .iter()
            .flatten()
            .map(|name| format!("`{name}`"))
            .collect::<Vec<_>>()
            .join(", ");
        let what = first_sentence(description(crd));
        let anchor = names.kind.to_lowercase();
        line(
            &mut page,
            &format!("| [{}](#{anchor}) | {short} | {} |", names.kind, cell(what)),
        );
    }
    for crd in &crds {
        kind(&mut page, crd);
    }
    page
}

fn line(page: &mut String, text: &str) {
    page.push_str(text);
    page.push('\n');
}

fn schema(crd: &CustomResourceDefinition) -> Option<&JSONSchemaProps> {
    crd.spec
        .versions
        .first()?
        .schema
        .as_ref()?
        .open_api_v3_schema
        .as_ref()
}

fn description(crd: &CustomResourceDefinition) -> &str {
    schema(crd)
        .and_then(|schema| schema.description.as_deref())
        .unwrap_or_default()
}

fn first_sentence(text: &str) -> &str {
    text.split_once(". ")
        .map_or(text, |(first, _)| first)
        .trim_end_matches('.')
}

/// A text that does not break a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn kind(page: &mut String, crd: &CustomResourceDefinition) {
    let names = &crd.spec.names;
    line(page, &format!("\n## {}\n\n{}\n", names.kind, description(crd)));
    let scope = if crd.spec.scope == "Cluster" {
        "cluster"
    } else {
        "namespace of the organization"
    };
    line(
        page,
        &format!(
            "Scope: {scope}. Resource: `{}`.",
            crd.metadata.name.as_deref().unwrap_or_default()
        ),
    );
    let Some(schema) = schema(crd) else { return };
    let mut rules = Vec::new();
    collect_rules(schema, "", &mut rules);
    for part in ["spec", "status"] {
        let Some(part_schema) = schema
            .properties
            .as_ref()
            .and_then(|properties| properties.get(part))
        else {
            continue;
        };
        line(
            page,
            &format!("\n| Field of `{part}` | Type | Meaning |\n| --- | --- | --- |"),
        );
        fields(page, part_schema, "");
        collect_rules(part_schema, part, &mut rules);
    }
    if !rules.is_empty() {
        line(page, "\nRules:\n");
        rules.iter().for_each(|rule| line(page, rule));
    }
}

/// One row for each field of an object, and for the fields of what it holds.
fn fields(page: &mut String, schema: &JSONSchemaProps, path: &str) {
    for (name, property) in schema.properties.iter().flatten() {
        // The same in every kind, and said once above.
        if path.is_empty() && matches!(name.as_str(), "conditions" | "observedGeneration") {
            continue;
        }
        let required = schema.required.iter().flatten().any(|required| required == name);
        let full = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        let shown = if required {
            format!("**`{full}`**")
        } else {
            format!("`{full}`")
        };
        let meaning = cell(property.description.as_deref().unwrap_or_default());
        line(
            page,
            &format!(
                "| {shown} | {} | {meaning}{} |",
                type_name(property),
                limits(property)
            ),
        );
        below(page, property, &full);
    }
}

/// The fields of what a field holds, if that is an object, a list or a map.
fn below(page: &mut String, schema: &JSONSchemaProps, path: &str) {
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        below(page, items, &format!("{path}[]"));
    } else if let Some(JSONSchemaPropsOrBool::Schema(values)) = &schema.additional_properties {
        below(page, values, &format!("{path}.<name>"));
    } else {
        fields(page, schema, path);
    }
}

fn type_name(schema: &JSONSchemaProps) -> String {
    if let Some(values) = &schema.enum_ {
        let values: Vec<_> = values
            .iter()
            .filter_map(|value| value.0.as_str())
            .map(|value| format!("`{value}`"))
            .collect();
        return values.join(", ");
    }
    match schema.type_.as_deref() {
        Some("array") => match &schema.items {
            Some(JSONSchemaPropsOrArray::Schema(items)) => format!("list of {}", type_name(items)),
            _ => "list".to_owned(),
        },
        Some("object") => match &schema.additional_properties {
            Some(JSONSchemaPropsOrBool::Schema(values)) => format!("map of {}", type_name(values)),
            _ => "object".to_owned(),
        },
        Some(other) => other.to_owned(),
        None if schema.x_kubernetes_int_or_string == Some(true) => "integer or string".to_owned(),
        None => "any".to_owned(),
    }
}

fn limits(schema: &JSONSchemaProps) -> String {
    let mut text = String::new();
    if let Some(default) = &schema.default
        && !matches!(
            &default.0,
            serde_json::Value::Object(_) | serde_json::Value::Array(_)
        )
    {
        // Writing to a string cannot fail.
        _ = write!(text, " Default `{}`.", default.0.to_string().trim_matches('"'));
    }
    if let (Some(low), Some(high)) = (schema.minimum, schema.maximum) {
        _ = write!(text, " From {low} to {high}.");
    } else if let Some(low) = schema.minimum {
        _ = write!(text, " At least {low}.");
    }
    text
}

fn collect_rules(schema: &JSONSchemaProps, path: &str, rules: &mut Vec<String>) {
    for rule in schema.x_kubernetes_validations.iter().flatten() {
        let place = if path.is_empty() { "object" } else { path };
        rules.push(format!(
            "- `{place}`: {}",
            rule.message.as_deref().unwrap_or(&rule.rule)
        ));
    }
    if path.is_empty() {
        return;
    }
    for (name, property) in schema.properties.iter().flatten() {
        collect_rules(property, &format!("{path}.{name}"), rules);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        collect_rules(items, &format!("{path}[]"), rules);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &schema.additional_properties {
        collect_rules(values, &format!("{path}.<name>"), rules);
    }
}
