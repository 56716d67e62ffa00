//! `choreo describe`.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::exit::ExitStatus;
use crate::failure::{Failure, Outcome};
use crate::online::{Connect, Kind, Kinds, Session, parse_addresses, percent_encode};
use crate::output::{Column, Printer, Table, style, to_yaml};
use crate::text::age;

/// Arguments of `choreo describe`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// KIND NAME... or KIND/NAME...; KIND alone means every object of it
    #[arg(required = true, value_name = "KIND[/NAME]")]
    what: Vec<String>,
}

/// Annotations that are shown in a place of their own, or that only machines read.
const DISPLAY_NAME: &str = "openchoreo.dev/display-name";
const DESCRIPTION: &str = "openchoreo.dev/description";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

pub(crate) async fn run(args: &Args, connect: &Connect, printer: &mut Printer) -> Outcome {
    let session = Session::open(connect).await?;
    let kinds = Kinds::fetch(&session).await?;
    let mut first = true;
    for address in parse_addresses(&kinds, &args.what)? {
        let path = address
            .kind
            .path(Some(&session.namespace), address.name.as_deref());
        let what = address
            .name
            .as_ref()
            .map_or_else(|| address.kind.plural.clone(), |name| address.kind.title_of(name));
        let mut answer = session
            .get(&path)
            .await
            .map_err(|error| error.failure(format!("cannot get {what}")))?;
        let objects = match &address.name {
            Some(_) => vec![answer],
            None => match answer["items"].take() {
                Value::Array(items) => items,
                _ => vec![],
            },
        };
        if objects.is_empty() {
            printer.note(format!("no {what} found"))?;
        }
        for object in &objects {
            if !std::mem::take(&mut first) {
                printer.line("")?;
            }
            let text = describe(&session, &kinds, &address.kind, object).await?;
            printer.text(text)?;
        }
    }
    Ok(ExitStatus::Success)
}

async fn describe(session: &Session, kinds: &Kinds, kind: &Kind, object: &Value) -> Result<String, Failure> {
    let now = Timestamp::now();
    let metadata = &object["metadata"];
    let name = metadata["name"].as_str().unwrap_or_default();
    let mut text = style::paint(style::BOLD, kind.title_of(name)) + "\n";
    text += &identity(metadata, now);
    if let Some(spec) = object.get("spec").filter(|spec| !is_empty(spec)) {
        section(&mut text, "Spec", &indent(&yaml(spec)?));
    }
    // Kinds without a spec (ConfigMap, Role, ...) have their content at the top.
    let content: Map<String, Value> = object
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| {
            !matches!(
                key.as_str(),
                "apiVersion" | "kind" | "metadata" | "spec" | "status"
            )
        })
        .map(|(key, value)| (key.clone(), hide_secrets(kind, key, value)))
        .collect();
    if !content.is_empty() {
        section(&mut text, "Content", &indent(&yaml(&Value::Object(content))?));
    }
    if let Some(table) = conditions(object, now) {
        section(&mut text, "Conditions", &indent(&table));
    }
    let mut status = object["status"].clone();
    if let Some(fields) = status.as_object_mut() {
        fields.remove("conditions");
        fields.remove("observedGeneration");
        if !fields.is_empty() {
            section(&mut text, "Status", &indent(&yaml(&status)?));
        }
    }
    if let Some(table) = related(session, kinds, metadata).await {
        section(&mut text, "Belonging to it", &indent(&table));
    }
    match events(session, metadata, now).await {
        Some(table) => section(&mut text, "Events", &indent(&table)),
        None => section(&mut text, "Events", "  none\n"),
    }
    Ok(text)
}

fn section(text: &mut String, title: &str, body: &str) {
    *text += &format!("\n{}\n{body}", style::paint(style::BOLD, title));
}

fn identity(metadata: &Value, now: Timestamp) -> String {
    let annotations = metadata["annotations"].as_object().cloned().unwrap_or_default();
    let mut lines: Vec<(&str, String)> = vec![];
    let mut add = |label, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            lines.push((label, value));
        }
    };
    let owned = |value: &Value| value.as_str().map(str::to_owned);
    add("Organization", owned(&metadata["namespace"]));
    add("Display name", annotations.get(DISPLAY_NAME).and_then(owned));
    add("Description", annotations.get(DESCRIPTION).and_then(owned));
    add(
        "Created",
        owned(&metadata["creationTimestamp"]).map(|at| with_age(&at, now)),
    );
    add(
        "Being deleted",
        owned(&metadata["deletionTimestamp"]).map(|at| format!("since {}", with_age(&at, now))),
    );
    let finalizers: Vec<&str> = metadata["finalizers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    add("Finalizers", Some(finalizers.join(", ")));
    let owners: Vec<String> = metadata["ownerReferences"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|owner| format!("{}/{}", text(&owner["kind"]), text(&owner["name"])))
        .collect();
    add("Owned by", Some(owners.join(", ")));
    add("Labels", Some(pairs(metadata["labels"].as_object(), &[])));
    add(
        "Annotations",
        Some(pairs(
            Some(&annotations),
            &[DISPLAY_NAME, DESCRIPTION, LAST_APPLIED],
        )),
    );
    let width = lines
        .iter()
        .map(|(label, _)| label.len())
        .max()
        .unwrap_or_default();
    lines
        .iter()
        .map(|(label, value)| {
            // What does not fit one line goes on under its own beginning.
            let value = value.replace('\n', &format!("\n{:indent$}", "", indent = width + 5));
            format!("  {:width$}   {value}\n", label)
        })
        .collect()
}

fn with_age(at: &str, now: Timestamp) -> String {
    match at.parse::<Timestamp>() {
        Ok(timestamp) => format!("{at} ({} ago)", age(timestamp, now)),
        Err(_) => at.to_owned(),
    }
}

fn pairs(map: Option<&Map<String, Value>>, without: &[&str]) -> String {
    let pairs: Vec<String> = map
        .into_iter()
        .flatten()
        .filter(|(key, _)| !without.contains(&key.as_str()))
        .map(|(key, value)| format!("{key}={}", text(value)))
        .collect();
    pairs.join("\n")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_object().is_some_and(Map::is_empty)
}

/// The data of a Secret is told by size only.
fn hide_secrets(kind: &Kind, key: &str, value: &Value) -> Value {
    match value.as_object() {
        Some(data) if kind.kind == "Secret" && kind.group.is_empty() && key == "data" => Value::Object(
            data.iter()
                .map(|(key, value)| {
                    (
                        key.clone(),
                        format!("{} characters of base64", text(value).len()).into(),
                    )
                })
                .collect(),
        ),
        _ => value.clone(),
    }
}

fn yaml(value: &Value) -> Result<String, Failure> {
    Ok(to_yaml(value)?)
}

fn indent(text: &str) -> String {
    text.lines()
        .map(|line| {
            if line.is_empty() {
                "\n".to_owned()
            } else {
                format!("  {line}\n")
            }
        })
        .collect()
}

fn conditions(object: &Value, now: Timestamp) -> Option<String> {
    let conditions = object["status"]["conditions"]
        .as_array()
        .filter(|conditions| !conditions.is_empty())?;
    let mut table = Table::new(
        ["Type", "Status", "Reason", "Since", "Message"]
            .map(Column::new)
            .into(),
    );
    for condition in conditions {
        let since = text(&condition["lastTransitionTime"])
            .parse::<Timestamp>()
            .map(|at| age(at, now));
        table.row([
            text(&condition["type"]).to_owned(),
            text(&condition["status"]).to_owned(),
            text(&condition["reason"]).to_owned(),
            since.unwrap_or_default(),
            text(&condition["message"]).to_owned(),
        ]);
    }
    Some(table.render())
}

/// The objects that name this one as an owner. What cannot be read is left out: this is an extra.
async fn related(session: &Session, kinds: &Kinds, metadata: &Value) -> Option<String> {
    let uid = metadata["uid"].as_str()?;
    let mut table = Table::new(["Name", "Ready", "Reason"].map(Column::new).into());
    let mut found = false;
    let mut candidates: Vec<&Kind> = kinds.in_category("choreo").collect();
    candidates.extend(
        kinds
            .in_category("all")
            .filter(|kind| !kind.categories.iter().any(|own| own == "choreo")),
    );
    for kind in candidates {
        let namespace = metadata["namespace"].as_str();
        let Ok(list) = session.get(&kind.path(namespace, None)).await else {
            continue;
        };
        for item in list["items"].as_array().into_iter().flatten() {
            let owners = item["metadata"]["ownerReferences"].as_array();
            if !owners.into_iter().flatten().any(|owner| owner["uid"] == uid) {
                continue;
            }
            found = true;
            let ready = item["status"]["conditions"]
                .as_array()
                .into_iter()
                .flatten()
                .find(|condition| condition["type"] == "Ready" || condition["type"] == "Available");
            let field = |key: &str| {
                ready
                    .map(|ready| text(&ready[key]).to_owned())
                    .unwrap_or_default()
            };
            table.row([
                kind.title_of(text(&item["metadata"]["name"])),
                field("status"),
                field("reason"),
            ]);
        }
    }
    found.then(|| table.render())
}

/// The events about this object, oldest first.
async fn events(session: &Session, metadata: &Value, now: Timestamp) -> Option<String> {
    let uid = metadata["uid"].as_str()?;
    // Events about objects outside namespaces are in the namespace `default`.
    let namespace = metadata["namespace"].as_str().unwrap_or("default");
    let selector = percent_encode(&format!("involvedObject.uid={uid}"));
    let path = format!(
        "/api/v1/namespaces/{}/events?fieldSelector={selector}",
        percent_encode(namespace)
    );
    let list = session.get(&path).await.ok()?;
    let mut events: Vec<(Option<Timestamp>, &Value)> = list["items"]
        .as_array()?
        .iter()
        .map(|event| {
            let at = ["lastTimestamp", "eventTime", "firstTimestamp"]
                .iter()
                .find_map(|key| event[key].as_str());
            let last = event["series"]["lastObservedTime"].as_str().or(at);
            (last.and_then(|at| at.parse().ok()), event)
        })
        .collect();
    if events.is_empty() {
        return None;
    }
    events.sort_by_key(|(at, _)| *at);
    let mut table = Table::new(
        ["Type", "Reason", "Age", "From", "Message"]
            .map(Column::new)
            .into(),
    );
    for (at, event) in events {
        let count = event["series"]["count"]
            .as_i64()
            .or_else(|| event["count"].as_i64())
            .unwrap_or(1);
        let times = if count > 1 {
            format!(" (x{count})")
        } else {
            String::new()
        };
        let from = [&event["reportingComponent"], &event["source"]["component"]];
        table.row([
            text(&event["type"]).to_owned(),
            text(&event["reason"]).to_owned(),
            at.map(|at| age(at, now)).unwrap_or_default() + &times,
            from.iter()
                .map(|from| text(from))
                .find(|from| !from.is_empty())
                .unwrap_or_default()
                .to_owned(),
            text(&event["message"]).trim().to_owned(),
        ]);
    }
    Some(table.render())
}
