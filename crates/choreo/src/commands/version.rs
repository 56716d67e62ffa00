//! `choreo version`.

use serde_json::json;

use crate::exit::ExitStatus;
use crate::failure::Outcome;
use crate::online::{Connect, Session};
use crate::output::{Format, Printer, to_json, to_yaml};

/// Arguments of `choreo version`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Ask the server for its version, too
    #[arg(long)]
    server: bool,
    /// Output format
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

pub(crate) async fn run(args: &Args, connect: &Connect, printer: &mut Printer) -> Outcome {
    let mut version = json!({"client": {"version": env!("CARGO_PKG_VERSION"), "platform": platform()}});
    if args.server {
        let session = Session::open(connect).await?;
        version["server"] = session
            .get("/version")
            .await
            .map_err(|error| error.failure("cannot ask the server for its version"))?;
    }
    match args.output {
        Format::Json => printer.text(to_json(&version)?)?,
        Format::Yaml => printer.text(to_yaml(&version)?)?,
        Format::Table | Format::Wide | Format::Name => {
            printer.line(format!("choreo {} ({})", env!("CARGO_PKG_VERSION"), platform()))?;
            if let Some(server) = version["server"]["gitVersion"].as_str() {
                printer.line(format!("server {server}"))?;
            }
        }
    }
    Ok(ExitStatus::Success)
}

fn platform() -> String {
    format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH)
}
