//! `choreo open`.

use std::path::PathBuf;
use std::process::Stdio;

use choreo_api::v1alpha1::common::{EndpointAccess, EndpointAddresses};

use crate::exit::ExitStatus;
use crate::failure::{Failure, Outcome};
use crate::online::Connect;
use crate::output::{Printer, style};
use crate::running::{Place, Target};

/// Arguments of `choreo open`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Of several addresses, a public one comes first, then one of the organization. `choreo tree component/NAME` shows all.

For example: choreo open greeter
             curl \"$(choreo open greeter --print)/healthz\"")]
pub(crate) struct Args {
    /// The component
    #[arg(value_name = "COMPONENT")]
    component: String,
    #[command(flatten)]
    target: Target,
    /// The endpoint [default: the first one with an address]
    #[arg(long, value_name = "NAME")]
    endpoint: Option<String>,
    /// Print the address and open nothing
    #[arg(long)]
    print: bool,
}

pub(crate) async fn run(args: &Args, connect: &Connect, printer: &mut Printer) -> Outcome {
    let place = Place::find(&args.component, &args.target, connect).await?;
    let endpoints = &place.binding.addresses;
    let wanted: Vec<&EndpointAddresses> = endpoints
        .iter()
        .filter(|endpoint| args.endpoint.as_ref().is_none_or(|name| endpoint.name == *name))
        .collect();
    let Some(url) = address(&wanted) else {
        return Err(unexposed(args, &place));
    };
    printer.line(url)?;
    if args.print {
        return Ok(ExitStatus::Success);
    }
    match browser() {
        Some(program) => show(&program, url),
        None => {
            printer.note(style::paint(
                style::DIM,
                "there is no browser here to open it with",
            ))?;
            Ok(ExitStatus::Success)
        }
    }
}

/// The address that most can reach.
pub(crate) fn address<'a>(endpoints: &[&'a EndpointAddresses]) -> Option<&'a str> {
    let level = |of: fn(&EndpointAddresses) -> Option<&EndpointAccess>| {
        endpoints
            .iter()
            .filter_map(|endpoint| of(endpoint))
            .find_map(|access| access.uri.as_deref())
    };
    level(|endpoint| endpoint.public.as_ref()).or_else(|| level(|endpoint| endpoint.organization.as_ref()))
}

fn unexposed(args: &Args, place: &Place) -> Failure {
    let failure = Failure::new(format!("{} has no address outside of its project", place.title()))
        .status(ExitStatus::NotFound);
    let endpoints = &place.binding.addresses;
    if let Some(name) = &args.endpoint
        && !endpoints.iter().any(|endpoint| endpoint.name == *name)
    {
        let names: Vec<&str> = endpoints.iter().map(|endpoint| endpoint.name.as_str()).collect();
        return failure.cause(format!(
            "it has no endpoint {name}; it has: {}",
            if names.is_empty() {
                "none".to_owned()
            } else {
                names.join(", ")
            }
        ));
    }
    failure
        .cause("nothing of it is exposed, or it is not rolled out yet")
        .hint(format!(
            "exposeLevels of its APIs expose it; `choreo port-forward {} PORT` reaches it without",
            args.component
        ))
}

/// The program that opens addresses, where there is a screen to see them on.
fn browser() -> Option<PathBuf> {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let name = if cfg!(target_os = "macos") {
        "open"
    } else if is_set("DISPLAY") || is_set("WAYLAND_DISPLAY") {
        "xdg-open"
    } else {
        return None;
    };
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

fn show(program: &std::path::Path, url: &str) -> Outcome {
    let status = std::process::Command::new(program)
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    let what = || format!("cannot open {url} with {}", program.display());
    match status {
        Ok(status) if status.success() => Ok(ExitStatus::Success),
        Ok(status) => Err(Failure::new(what()).cause(status)),
        Err(error) => Err(Failure::new(what()).because(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_address_that_most_can_reach_comes_first() {
        let endpoint = |name: &str, public: Option<&str>, organization: Option<&str>| -> EndpointAddresses {
            let access = |uri: &str| json!({"host": "h", "port": 443, "uri": uri});
            let mut endpoint = json!({"name": name, "type": "HTTP"});
            if let Some(uri) = public {
                endpoint["public"] = access(uri);
            }
            if let Some(uri) = organization {
                endpoint["organization"] = access(uri);
            }
            serde_json::from_value(endpoint).unwrap()
        };
        let internal = endpoint("a", None, Some("https://a.internal/"));
        let public = endpoint("b", Some("https://b/"), Some("https://b.internal/"));
        let closed = endpoint("c", None, None);
        assert_eq!(address(&[&internal, &public]), Some("https://b/"));
        assert_eq!(address(&[&closed, &internal]), Some("https://a.internal/"));
        assert_eq!(address(&[&closed]), None);
    }
}
