//! `choreo get`.

use std::collections::BTreeMap;

use futures::{AsyncBufReadExt, StreamExt};
use serde_json::Value;

use crate::exit::ExitStatus;
use crate::failure::{Failure, Outcome};
use crate::online::{Address, Connect, Kind, Kinds, Session, parse_addresses, percent_encode};
use crate::output::{Column, Format, Printer, Table, for_reading, print_objects, to_json, to_yaml};

const AS_TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
const AS_JSON: &str = "application/json";
/// Objects per request of a list.
const PAGE: usize = 500;

/// Arguments of `choreo get`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "For example: choreo get components\n             choreo get component/greeter -o yaml\n             choreo get choreo            (every kind of the platform)"
)]
pub(crate) struct Args {
    /// KIND, KIND NAME... or KIND/NAME...; kinds may be separated by commas
    #[arg(required = true, value_name = "KIND[/NAME]")]
    what: Vec<String>,
    /// Output format
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
    /// Every organization
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Only objects with these labels, for example `app=web,tier!=cache`
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    /// Only objects with these field values, for example `metadata.name=web`
    #[arg(long, value_name = "FIELDS")]
    field_selector: Option<String>,
    /// Go on and show every change
    #[arg(short, long)]
    watch: bool,
    /// No headings
    #[arg(long)]
    no_headers: bool,
    /// Show `metadata.managedFields`, too
    #[arg(long)]
    show_managed_fields: bool,
}

pub(crate) async fn run(args: &Args, connect: &Connect, printer: &mut Printer) -> Outcome {
    let session = Session::open(connect).await?;
    let kinds = Kinds::fetch(&session).await?;
    let addresses = parse_addresses(&kinds, &args.what)?;
    let mut get = Get {
        args,
        session: &session,
        printer,
    };
    if args.watch {
        return get.watch(&addresses).await;
    }
    match args.output {
        Format::Table | Format::Wide => get.tables(&addresses).await,
        Format::Yaml | Format::Json | Format::Name => get.objects(&addresses).await,
    }
}

struct Get<'a> {
    args: &'a Args,
    session: &'a Session,
    printer: &'a mut Printer,
}

impl Get<'_> {
    fn namespace(&self) -> Option<&str> {
        (!self.args.all_namespaces).then_some(self.session.namespace.as_str())
    }

    /// The address's URL with the selectors and `more` as its query.
    fn url(&self, address: &Address, more: &[(&str, String)]) -> String {
        let mut query: Vec<String> = vec![];
        let mut add = |key: &str, value: &str| query.push(format!("{key}={}", percent_encode(value)));
        if address.name.is_none() {
            self.args
                .selector
                .iter()
                .for_each(|selector| add("labelSelector", selector));
            self.args
                .field_selector
                .iter()
                .for_each(|selector| add("fieldSelector", selector));
        }
        more.iter().for_each(|(key, value)| add(key, value));
        let path = address.kind.path(self.namespace(), address.name.as_deref());
        if query.is_empty() {
            path
        } else {
            format!("{path}?{}", query.join("&"))
        }
    }

    /// Reads one object, or every page of a list.
    async fn read(&self, address: &Address, accept: &str) -> Result<Vec<Value>, Failure> {
        let failed = || match &address.name {
            Some(name) => format!("cannot get {}", address.kind.title_of(name)),
            None => format!("cannot list {}", address.kind.plural),
        };
        let mut pages = vec![];
        let mut token = String::new();
        loop {
            let mut more = vec![];
            if address.name.is_none() {
                more.push(("limit", PAGE.to_string()));
                if !token.is_empty() {
                    more.push(("continue", token));
                }
            }
            let url = self.url(address, &more);
            let answer = self.session.get_as(&url, accept).await.map_err(|error| {
                let missing = error.not_found() && address.name.is_some();
                let failure = error.failure(failed());
                if missing {
                    failure.hint(format!(
                        "`choreo get {}` lists those that are there",
                        address.kind.plural
                    ))
                } else {
                    failure
                }
            })?;
            token = answer.body["metadata"]["continue"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            pages.push(answer.body);
            if token.is_empty() {
                return Ok(pages);
            }
        }
    }

    async fn tables(&mut self, addresses: &[Address]) -> Outcome {
        // One table per kind, in the order in which they were named.
        let mut tables: Vec<(&Kind, Vec<Value>)> = vec![];
        let mut failures = vec![];
        for address in addresses {
            match self.read(address, AS_TABLE).await {
                Ok(pages) => match tables.iter_mut().find(|(kind, _)| **kind == address.kind) {
                    Some((_, all)) => all.extend(pages),
                    None => tables.push((&address.kind, pages)),
                },
                Err(failure) => failures.push(failure),
            }
        }
        tables.retain(|(_, pages)| pages.iter().any(|page| !rows(page).is_empty()));
        let many = tables.len() > 1;
        for (index, (kind, pages)) in tables.iter().enumerate() {
            if index > 0 {
                self.printer.line("")?;
            }
            let mut table = self.new_table(&pages[0]);
            for page in pages {
                self.add_rows(&mut table, page, many.then_some(*kind));
            }
            if !self.args.no_headers {
                self.printer.line(table.heading())?;
            }
            for line in table.lines() {
                self.printer.line(line)?;
            }
        }
        if tables.is_empty() && failures.is_empty() {
            self.nothing_found(addresses)?;
        }
        end(failures, self.printer)
    }

    fn nothing_found(&mut self, addresses: &[Address]) -> std::io::Result<()> {
        let namespaced = addresses.iter().any(|address| address.kind.namespaced);
        let place = match self.namespace() {
            Some(namespace) if namespaced => format!(" in organization {namespace}"),
            _ => String::new(),
        };
        let what = match addresses {
            [one] => one.kind.plural.clone(),
            _ => "objects".to_owned(),
        };
        self.printer.note(format!("no {what} found{place}"))
    }

    fn new_table(&self, page: &Value) -> Table {
        let namespace = self.args.all_namespaces.then(|| Column::new("namespace"));
        Table::new(
            namespace
                .into_iter()
                .chain(
                    self.columns(page)
                        .into_iter()
                        .map(|(_, title)| Column::new(title)),
                )
                .collect(),
        )
    }

    /// Index and heading of the columns to show.
    fn columns(&self, page: &Value) -> Vec<(usize, String)> {
        let definitions = page["columnDefinitions"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        if definitions.is_empty() {
            return vec![(0, "Name".to_owned()), (1, "Created".to_owned())];
        }
        let wide = self.args.output == Format::Wide;
        definitions
            .iter()
            .enumerate()
            .filter(|(_, column)| wide || column["priority"].as_i64().unwrap_or(0) == 0)
            .map(|(index, column)| (index, column["name"].as_str().unwrap_or_default().to_owned()))
            .collect()
    }

    /// Adds a page's rows; with `kind` their names are written `kind/name`.
    fn add_rows(&self, table: &mut Table, page: &Value, kind: Option<&Kind>) {
        let columns = self.columns(page);
        for row in rows(page) {
            let metadata = &row["object"]["metadata"];
            let namespace = self.args.all_namespaces.then(|| cell(&metadata["namespace"]));
            let cells = columns.iter().map(|(index, title)| {
                let text = cell(&row["cells"][index]);
                match kind {
                    Some(kind) if title == "Name" => kind.title_of(&text),
                    _ => text,
                }
            });
            table.row(namespace.into_iter().chain(cells));
        }
    }

    async fn objects(&mut self, addresses: &[Address]) -> Outcome {
        let mut objects = vec![];
        let mut names = vec![];
        let mut failures = vec![];
        for address in addresses {
            match self.read(address, AS_JSON).await {
                Ok(pages) => {
                    for object in pages.into_iter().flat_map(items) {
                        names.push(
                            address
                                .kind
                                .title_of(object["metadata"]["name"].as_str().unwrap_or_default()),
                        );
                        objects.push(self.shown(object));
                    }
                }
                Err(failure) => failures.push(failure),
            }
        }
        let single = matches!(addresses, [Address { name: Some(_), .. }]);
        if failures.is_empty() || !objects.is_empty() {
            print_objects(self.printer, self.args.output, objects, single, &names)?;
        }
        end(failures, self.printer)
    }

    fn shown(&self, object: Value) -> Value {
        if self.args.show_managed_fields {
            object
        } else {
            for_reading(object)
        }
    }

    /// Shows what is there and then every change, until the user has seen enough.
    async fn watch(&mut self, addresses: &[Address]) -> Outcome {
        let [address] = addresses else {
            return Err(Failure::usage(
                "only one kind, or one object, can be watched at a time",
            ));
        };
        let table_wanted = matches!(self.args.output, Format::Table | Format::Wide);
        let accept = if table_wanted { AS_TABLE } else { AS_JSON };
        // One object is watched as a list of one, so that its coming and going is seen, too.
        let (address, named) = match &address.name {
            Some(name) => (
                Address {
                    kind: address.kind.clone(),
                    name: None,
                },
                vec![("fieldSelector", format!("metadata.name={name}"))],
            ),
            None => (address.clone(), vec![]),
        };
        let failed = || format!("cannot watch {}", address.kind.plural);
        let mut table: Option<Table> = None;
        // Versions that were shown, by namespace and name: a relist shows only what is new.
        let mut shown: BTreeMap<(String, String), String> = BTreeMap::new();
        loop {
            let url = self.url(&address, &named);
            let list = self
                .session
                .get_as(&url, accept)
                .await
                .map_err(|error| error.failure(failed()))?
                .body;
            let version = list["metadata"]["resourceVersion"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            self.show(&address.kind, &mut table, &mut shown, list)?;
            let mut more = named.clone();
            more.extend([
                ("watch", "true".to_owned()),
                ("allowWatchBookmarks", "true".to_owned()),
                ("resourceVersion", version),
            ]);
            let url = self.url(&address, &more);
            let stream = self
                .session
                .stream(&url, accept)
                .await
                .map_err(|error| error.failure(failed()))?;
            let mut lines = stream.lines();
            while let Some(Ok(line)) = lines.next().await {
                let Ok(mut event) = serde_json::from_str::<Value>(&line) else {
                    break;
                };
                match event["type"].as_str() {
                    Some("ADDED" | "MODIFIED" | "DELETED") => {
                        self.show(&address.kind, &mut table, &mut shown, event["object"].take())?;
                    }
                    Some("BOOKMARK") => {}
                    _ => break,
                }
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    fn show(
        &mut self,
        kind: &Kind,
        table: &mut Option<Table>,
        shown: &mut BTreeMap<(String, String), String>,
        mut page: Value,
    ) -> Result<(), Failure> {
        let mut is_new = |metadata: &Value| {
            let text = |key: &str| metadata[key].as_str().unwrap_or_default().to_owned();
            let version = text("resourceVersion");
            version.is_empty()
                || shown.insert((text("namespace"), text("name")), version.clone()) != Some(version)
        };
        if page["kind"] == "Table" {
            if let Some(rows) = page["rows"].as_array_mut() {
                rows.retain(|row| is_new(&row["object"]["metadata"]));
            }
            if rows(&page).is_empty() {
                return Ok(());
            }
            let first = table.is_none();
            let mut current = table.take().unwrap_or_else(|| self.new_table(&page));
            self.add_rows(&mut current, &page, None);
            if first && !self.args.no_headers {
                self.printer.line(current.heading())?;
            }
            for line in current.lines() {
                self.printer.line(line)?;
            }
            current.clear();
            *table = Some(current);
            return Ok(());
        }
        for object in items(page) {
            if !is_new(&object["metadata"]) {
                continue;
            }
            let name = kind.title_of(object["metadata"]["name"].as_str().unwrap_or_default());
            let object = self.shown(object);
            match self.args.output {
                Format::Json => self.printer.text(to_json(&object)?)?,
                Format::Yaml => self.printer.text(format!("---\n{}", to_yaml(&object)?))?,
                Format::Table | Format::Wide | Format::Name => self.printer.line(name)?,
            }
        }
        Ok(())
    }
}

/// The first failure is the command's; the others are shown before it.
fn end(mut failures: Vec<Failure>, printer: &mut Printer) -> Outcome {
    let Some(last) = failures.pop() else {
        return Ok(ExitStatus::Success);
    };
    for failure in &failures {
        printer.failure(failure);
    }
    Err(last)
}

/// The rows of a `Table`; a list or object from a server without tables gives rows of name and creation.
fn rows(page: &Value) -> Vec<Value> {
    if page["kind"] == "Table" {
        return page["rows"].as_array().cloned().unwrap_or_default();
    }
    items(page.clone())
        .into_iter()
        .map(|object| {
            let cells = [
                object["metadata"]["name"].clone(),
                object["metadata"]["creationTimestamp"].clone(),
            ];
            serde_json::json!({"cells": cells, "object": object})
        })
        .collect()
}

/// The objects of a list, or the object itself. The items of a list do not repeat what the list says of their kind.
fn items(mut page: Value) -> Vec<Value> {
    let is_list =
        page["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) && page["items"].is_array();
    if !is_list {
        return vec![page];
    }
    let api_version = page["apiVersion"].clone();
    let kind = page["kind"]
        .as_str()
        .unwrap_or_default()
        .trim_end_matches("List")
        .to_owned();
    let Value::Array(mut items) = page["items"].take() else {
        return vec![];
    };
    for item in &mut items {
        if let Some(object) = item.as_object_mut() {
            object.entry("apiVersion").or_insert_with(|| api_version.clone());
            object
                .entry("kind")
                .or_insert_with(|| Value::String(kind.clone()));
        }
    }
    items
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "<none>".to_owned(),
        Value::String(text) if text.is_empty() => "<none>".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
