//! `choreo tree`.

use choreo_engine::tree::{Health, Node, ROOTS, tree};
use choreo_engine::{Kind as EngineKind, ObjectRef, World};
use serde_json::Value;

use crate::exit::ExitStatus;
use crate::failure::{Failure, Outcome};
use crate::online::{Connect, Kind, Kinds, Session, parse_addresses, world};
use crate::output::{Format, Printer, style, to_json, yaml_documents};

/// Arguments of `choreo tree`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Signs:  ✓ ready   ◌ waiting   ✗ failing   ◼ stopped   · nothing to tell

For example: choreo tree component/greeter
             choreo tree project/shop")]
pub(crate) struct Args {
    /// `component/NAME` or `project/NAME`; a kind alone means every one of it
    #[arg(required = true, value_name = "KIND/NAME")]
    what: Vec<String>,
    /// Output format: table, yaml or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

pub(crate) async fn run(args: &Args, connect: &Connect, printer: &mut Printer) -> Outcome {
    let session = Session::open(connect).await?;
    let kinds = Kinds::fetch(&session).await?;
    let addresses = parse_addresses(&kinds, &args.what)?;
    for address in &addresses {
        if engine_kind(&address.kind).is_none() {
            return Err(
                Failure::usage(format!("there is no tree of {}", address.kind.plural))
                    .hint("component/NAME and project/NAME have trees; `choreo describe` shows any object"),
            );
        }
    }
    let world = world(&session, &kinds).await?;
    let mut trees = vec![];
    for address in addresses {
        let Some(kind) = engine_kind(&address.kind) else {
            continue;
        };
        let names = match address.name {
            Some(name) => vec![name],
            None => all_names(&world, kind, &session.namespace),
        };
        for name in names {
            let node = tree(
                &world,
                &ObjectRef::new(kind, session.namespace.clone(), name.clone()),
            )
            .ok_or_else(|| {
                Failure::new(format!(
                    "there is no {} in organization {}",
                    address.kind.title_of(&name),
                    session.namespace
                ))
                .hint(format!(
                    "`choreo get {}` lists those that are there",
                    address.kind.plural
                ))
                .status(ExitStatus::NotFound)
            })?;
            trees.push(node);
        }
    }
    match args.output {
        Format::Json => {
            let value = if trees.len() == 1 {
                serde_json::to_value(&trees[0])
            } else {
                serde_json::to_value(&trees)
            };
            printer.text(to_json(&value.map_err(std::io::Error::other)?)?)?;
        }
        Format::Yaml => {
            let values: Result<Vec<Value>, _> = trees.iter().map(serde_json::to_value).collect();
            printer.text(yaml_documents(&values.map_err(std::io::Error::other)?)?)?;
        }
        Format::Table | Format::Wide | Format::Name => {
            for (index, node) in trees.iter().enumerate() {
                if index > 0 {
                    printer.line("")?;
                }
                printer.text(draw(node))?;
            }
            if trees.is_empty() {
                printer.note("nothing found")?;
            }
        }
    }
    Ok(ExitStatus::Success)
}

fn engine_kind(kind: &Kind) -> Option<EngineKind> {
    ROOTS
        .iter()
        .copied()
        .find(|root| root.as_str() == kind.kind && kind.group == choreo_api::labels::GROUP)
}

fn all_names(world: &World, kind: EngineKind, namespace: &str) -> Vec<String> {
    let of_kind = world
        .iter()
        .map(|object| object.reference())
        .filter(|reference| reference.kind == kind);
    of_kind
        .filter(|reference| reference.key.namespace == namespace)
        .map(|reference| reference.key.name.clone())
        .collect()
}

fn draw(root: &Node) -> String {
    let mut text = line(root) + "\n";
    draw_children(root, "", &mut text);
    text
}

fn draw_children(node: &Node, indent: &str, text: &mut String) {
    let explanation = std::iter::once(&node.message).filter(|message| !message.is_empty());
    let bar = if node.children.is_empty() { "   " } else { "│  " };
    for message in explanation {
        *text += &format!(
            "{}{}\n",
            style::paint(style::DIM, format!("{indent}{bar}")),
            style::paint(style::WAIT, message)
        );
    }
    for url in &node.urls {
        *text += &format!(
            "{}{}\n",
            style::paint(style::DIM, format!("{indent}{bar}")),
            style::paint(style::COPY, url)
        );
    }
    let last = node.children.len().saturating_sub(1);
    for (index, child) in node.children.iter().enumerate() {
        let (branch, below) = if index == last {
            ("└─ ", "   ")
        } else {
            ("├─ ", "│  ")
        };
        *text += &format!(
            "{}{}\n",
            style::paint(style::DIM, format!("{indent}{branch}")),
            line(child)
        );
        draw_children(child, &format!("{indent}{below}"), text);
    }
}

fn line(node: &Node) -> String {
    let (sign, style) = match node.health {
        Health::Good => ("✓", style::GOOD),
        Health::Waiting => ("◌", style::WAIT),
        Health::Bad => ("✗", style::BAD),
        Health::Stopped => ("◼", style::DIM),
        Health::Plain => ("·", style::DIM),
    };
    let mut line = format!(
        "{} {}/{}",
        style::paint(style, sign),
        node.kind,
        style::paint(style::BOLD, &node.name)
    );
    if !node.detail.is_empty() {
        line += &format!("  {}", style::paint(style::DIM, &node.detail));
    }
    let telling = !matches!(node.health, Health::Good | Health::Plain);
    if telling && !node.reason.is_empty() {
        line += &format!("  {}", style::paint(style, &node.reason));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(kind: &str, health: Health, children: Vec<Node>) -> Node {
        Node {
            kind: kind.to_owned(),
            name: "a".to_owned(),
            namespace: None,
            health,
            reason: "Because".to_owned(),
            message: if health == Health::Good {
                String::new()
            } else {
                "why".to_owned()
            },
            detail: String::new(),
            urls: vec![],
            children,
        }
    }

    #[test]
    fn branches_and_reasons() {
        let leaf = node("Pod", Health::Bad, vec![]);
        let release = node("Release", Health::Waiting, vec![leaf]);
        let mut endpoint = node("Endpoint", Health::Good, vec![]);
        endpoint.urls = vec!["https://example.org".to_owned()];
        let root = node("Component", Health::Waiting, vec![release, endpoint]);
        let expected = "\
◌ Component/a  Because
│  why
├─ ◌ Release/a  Because
│  │  why
│  └─ ✗ Pod/a  Because
│        why
└─ ✓ Endpoint/a
      https://example.org
";
        assert_eq!(anstream::adapter::strip_str(&draw(&root)).to_string(), expected);
    }
}
