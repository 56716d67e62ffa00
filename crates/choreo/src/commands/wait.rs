//! `choreo wait`.

use std::str::FromStr;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::exit::ExitStatus;
use crate::failure::{Failure, Outcome};
use crate::online::{Connect, Kinds, Seen, Session, Watched, parse_addresses, percent_encode, until};
use crate::output::Printer;
use crate::text::parse_duration;

/// Arguments of `choreo wait`.
#[derive(Debug, clap::Args)]
#[command(after_help = "For example: choreo wait component/greeter --for=condition=Ready --timeout=2m")]
pub(crate) struct Args {
    /// KIND NAME... or KIND/NAME...; KIND alone means every object that is there now
    #[arg(required = true, value_name = "KIND[/NAME]")]
    what: Vec<String>,
    /// `condition=NAME`, `condition=NAME=VALUE`, `create` or `delete`
    #[arg(long = "for", value_name = "WHAT", default_value = "condition=Ready")]
    until: Goal,
    /// How long to wait for all of them together
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    timeout: Duration,
    /// Only objects with these labels
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
}

/// What to wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Goal {
    Condition { name: String, value: String },
    Create,
    Delete,
}

impl FromStr for Goal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            None if text == "delete" => Ok(Goal::Delete),
            None if text == "create" => Ok(Goal::Create),
            Some(("condition", rest)) if !rest.is_empty() => {
                let (name, value) = rest.split_once('=').unwrap_or((rest, "True"));
                Ok(Goal::Condition {
                    name: name.to_owned(),
                    value: value.to_owned(),
                })
            }
            _ => Err("write condition=NAME, condition=NAME=VALUE, create or delete".to_owned()),
        }
    }
}

impl Goal {
    fn look(&self, object: Option<&Value>) -> Seen<()> {
        let reached = match (self, object) {
            (Goal::Delete, object) => object.is_none(),
            (Goal::Create, object) => object.is_some(),
            (Goal::Condition { name, value }, Some(object)) => condition(object, name)
                .is_some_and(|condition| current(object, condition) && same(condition, value)),
            (Goal::Condition { .. }, None) => false,
        };
        if reached { Seen::Done(()) } else { Seen::NotYet }
    }

    fn done(&self) -> String {
        match self {
            Goal::Condition { name, value } if value == "True" => format!("is {name}"),
            Goal::Condition { name, value } => format!("has {name}={value}"),
            Goal::Create => "is there".to_owned(),
            Goal::Delete => "is gone".to_owned(),
        }
    }

    fn missed(&self) -> String {
        match self {
            Goal::Condition { name, value } if value == "True" => format!("is not {name}"),
            Goal::Condition { name, value } => format!("has not {name}={value}"),
            Goal::Create => "is not there".to_owned(),
            Goal::Delete => "is not gone".to_owned(),
        }
    }
}

fn condition<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| {
        condition["type"]
            .as_str()
            .is_some_and(|own| own.eq_ignore_ascii_case(name))
    })
}

/// Whether a condition speaks of the object's present spec.
fn current(object: &Value, condition: &Value) -> bool {
    let observed = condition["observedGeneration"].as_i64();
    let generation = object["metadata"]["generation"].as_i64();
    !matches!((observed, generation), (Some(observed), Some(generation)) if observed < generation)
}

fn same(condition: &Value, value: &str) -> bool {
    condition["status"]
        .as_str()
        .is_some_and(|own| own.eq_ignore_ascii_case(value))
}

pub(crate) async fn run(args: &Args, connect: &Connect, printer: &mut Printer) -> Outcome {
    let session = Session::open(connect).await?;
    let kinds = Kinds::fetch(&session).await?;
    let deadline = Instant::now() + args.timeout;
    let mut targets = vec![];
    for address in parse_addresses(&kinds, &args.what)? {
        let namespace = address.kind.namespaced.then(|| session.namespace.clone());
        if let Some(name) = address.name {
            targets.push((address.kind, namespace, name));
            continue;
        }
        let mut path = address.kind.path(namespace.as_deref(), None);
        if let Some(selector) = &args.selector {
            path += &format!("?labelSelector={}", percent_encode(selector));
        }
        let list = session
            .get(&path)
            .await
            .map_err(|error| error.failure(format!("cannot list {}", address.kind.plural)))?;
        for item in list["items"].as_array().into_iter().flatten() {
            let name = item["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            targets.push((address.kind.clone(), namespace.clone(), name));
        }
    }
    if targets.is_empty() {
        if args.until == Goal::Delete {
            return Ok(ExitStatus::Success);
        }
        return Err(Failure::new("there is nothing to wait for")
            .cause("no object matches")
            .hint("name an object that is still to come as KIND/NAME")
            .status(ExitStatus::NotFound));
    }
    let mut late = vec![];
    for (kind, namespace, name) in targets {
        let title = kind.title_of(&name);
        let look = |object: Option<&Value>| args.until.look(object);
        match until(&session, &kind, namespace.as_deref(), &name, deadline, look).await? {
            Watched::Done(()) => printer.line(format!("{title} {}", args.until.done()))?,
            Watched::TimedOut(last) => late.push((title, last)),
        }
    }
    if late.is_empty() {
        Ok(ExitStatus::Success)
    } else {
        Err(timed_out(args, &late))
    }
}

/// Says of each object what stands in the way, in its own words.
fn timed_out(args: &Args, late: &[(String, Option<Value>)]) -> Failure {
    let mut failure = Failure::new(match late {
        [(title, _)] => format!("{title} {} after {:?}", args.until.missed(), args.timeout),
        _ => format!(
            "{} objects are not as wished after {:?}",
            late.len(),
            args.timeout
        ),
    })
    .status(ExitStatus::TimedOut);
    for (title, last) in late {
        let prefix = if late.len() > 1 {
            format!("{title}: ")
        } else {
            String::new()
        };
        failure = failure.cause(format!("{prefix}{}", reason(&args.until, last.as_ref())));
    }
    failure.hint("`choreo describe` and `choreo tree` tell more; --timeout waits longer")
}

fn reason(goal: &Goal, last: Option<&Value>) -> String {
    let Some(object) = last else {
        return "it does not exist".to_owned();
    };
    match goal {
        Goal::Condition { name, .. } => match condition(object, name) {
            None => format!("it has no condition {name} yet"),
            Some(condition) if !current(object, condition) => {
                format!("its condition {name} is about an older generation")
            }
            Some(condition) => {
                let text = |key: &str| condition[key].as_str().unwrap_or_default();
                format!(
                    "{name} is {} ({}): {}",
                    text("status"),
                    text("reason"),
                    text("message")
                )
            }
        },
        Goal::Delete => {
            let finalizers: Vec<&str> = object["metadata"]["finalizers"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            match finalizers.as_slice() {
                [] => "it is still there".to_owned(),
                held => format!("it is held by {}", held.join(", ")),
            }
        }
        Goal::Create => "it is there".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ready(status: &str, observed: i64) -> Value {
        json!({
            "metadata": {"generation": 2},
            "status": {"conditions": [{"type": "Ready", "status": status, "reason": "X", "message": "y", "observedGeneration": observed}]},
        })
    }

    #[rstest::rstest]
    #[case("condition=Ready", Some(ready("True", 2)), true)]
    #[case("condition=ready", Some(ready("True", 2)), true)]
    #[case("condition=Ready=False", Some(ready("False", 2)), true)]
    #[case("condition=Ready", Some(ready("True", 1)), false)]
    #[case("condition=Ready", Some(ready("False", 2)), false)]
    #[case("condition=Other", Some(ready("True", 2)), false)]
    #[case("condition=Ready", None, false)]
    #[case("delete", None, true)]
    #[case("delete", Some(ready("True", 2)), false)]
    #[case("create", Some(json!({})), true)]
    fn goals(#[case] goal: &str, #[case] object: Option<Value>, #[case] reached: bool) {
        let goal: Goal = goal.parse().unwrap();
        assert_eq!(matches!(goal.look(object.as_ref()), Seen::Done(())), reached);
    }

    #[test]
    fn a_goal_that_is_none_is_refused() {
        for text in ["ready", "condition", "condition=", "jsonpath={.x}=1"] {
            assert!(text.parse::<Goal>().is_err(), "{text}");
        }
    }
}
