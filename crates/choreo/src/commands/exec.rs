//! `choreo exec`.

use futures::SinkExt as _;
use kube::api::{AttachParams, TerminalSize};
use kube::{Api, ResourceExt as _};
use std::io::Read as _;
use tokio::io::AsyncWriteExt as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::exit::ExitStatus;
use crate::failure::{Failure, Outcome};
use crate::online::Connect;
use crate::output::Printer;
use crate::running::{Pod, Raw, Target, is_interactive, list, pick, refused, size};

/// Arguments of `choreo exec`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The newest pod that is ready is taken. On a terminal the command gets one, too. What the command ends with is what `choreo exec`
ends with.

For example: choreo exec greeter -- ps aux
             choreo exec greeter -e staging -- sh")]
pub(crate) struct Args {
    /// The component
    #[arg(value_name = "COMPONENT")]
    component: String,
    #[command(flatten)]
    target: Target,
    /// The pod [default: the newest that is ready]
    #[arg(long, value_name = "NAME")]
    pod: Option<String>,
    /// The container
    #[arg(short, long, value_name = "NAME", default_value = choreo_api::v1alpha1::MAIN_CONTAINER)]
    container: String,
    /// No terminal, even on one
    #[arg(short = 'T', long)]
    no_tty: bool,
    /// The command and its arguments; no shell is involved
    #[arg(required = true, last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(crate) async fn run(args: &Args, connect: &Connect, printer: &mut Printer) -> Outcome {
    let place = crate::running::Place::find(&args.component, &args.target, connect).await?;
    let data_plane = place.data_plane(&args.target).await?;
    let pods = list(&place, &data_plane).await?;
    let named = |name: &String| pods.iter().find(|pod| pod.name_any() == *name);
    let pod = match &args.pod {
        Some(name) => named(name).ok_or_else(|| {
            let names: Vec<String> = pods.iter().map(kube::ResourceExt::name_any).collect();
            Failure::new(format!("{} has no pod {name}", place.title()))
                .hint(format!("its pods are {}", names.join(", ")))
                .status(ExitStatus::NotFound)
        })?,
        None => pick(&place, &pods)?,
    };
    let api: Api<Pod> = Api::namespaced(data_plane.client(), &place.namespace());
    let tty = is_interactive() && !args.no_tty;
    let params = AttachParams::default()
        .container(&args.container)
        .stdin(true)
        .stdout(true)
        .stderr(!tty)
        .tty(tty);
    let what = format!("cannot run {} in pod {}", args.command[0], pod.name_any());
    if tty {
        printer.note(format!("in pod {}", pod.name_any()))?;
    }
    let started = api.exec(&pod.name_any(), &args.command, &params).await;
    let mut process =
        started.map_err(|error| refused(&place, &pods, data_plane.error(error), what.clone()))?;
    let failed = |why: &str| Failure::new(what.clone()).cause(why);
    let status = process
        .take_status()
        .ok_or_else(|| failed("its end is not told"))?;
    let _raw = if tty { Some(Raw::enter()?) } else { None };

    let mut stdin = process.stdin();
    let mut typing = typed();
    let typed = tokio::spawn(async move {
        let Some(to) = &mut stdin else { return };
        while let Some(bytes) = typing.recv().await {
            // Who does not read what is typed has ended, which the status tells.
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    });
    let mut sizes = process.terminal_size();
    let mut changed = signal(SignalKind::window_change())
        .map_err(|error| Failure::new("cannot follow the terminal's size").because(&error))?;
    let resized = tokio::spawn(async move {
        let Some(sizes) = &mut sizes else { return };
        loop {
            if let Some((width, height)) = size()
                && sizes.send(TerminalSize { width, height }).await.is_err()
            {
                return;
            }
            if changed.recv().await.is_none() {
                return;
            }
        }
    });
    let (stdout, stderr) = (process.stdout(), process.stderr());
    let outputs = async {
        tokio::try_join!(copy(stdout, std::io::stdout()), copy(stderr, std::io::stderr())).map(drop)
    };
    let (copied, status) = tokio::join!(outputs, status);
    typed.abort();
    resized.abort();
    copied?;
    let Some(status) = status else {
        return Err(failed("the connection was lost"));
    };
    let status = serde_json::to_value(status).unwrap_or_default();
    ended(&status).map_err(|why| failed(&why))
}

/// What comes in here. It is read by a thread of its own, which nothing can interrupt and nothing waits for.
fn typed() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(4);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(read @ 1..) = std::io::stdin().read(&mut buffer) {
            let bytes = buffer.get(..read).unwrap_or_default().to_vec();
            if sender.blocking_send(bytes).is_err() {
                return;
            }
        }
    });
    receiver
}

async fn copy(
    from: Option<impl tokio::io::AsyncRead + Unpin>,
    mut to: impl std::io::Write,
) -> std::io::Result<()> {
    let Some(mut from) = from else { return Ok(()) };
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = tokio::io::AsyncReadExt::read(&mut from, &mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        to.write_all(buffer.get(..read).unwrap_or_default())?;
        // Somebody may be waiting for it.
        to.flush()?;
    }
}

/// What the command ended with.
fn ended(status: &serde_json::Value) -> Result<ExitStatus, String> {
    if status["status"] == "Success" {
        return Ok(ExitStatus::Success);
    }
    let causes = status["details"]["causes"].as_array();
    let code = causes
        .into_iter()
        .flatten()
        .find(|cause| cause["reason"] == "ExitCode")
        .and_then(|cause| cause["message"].as_str()?.parse::<u8>().ok());
    match code {
        Some(code) => Ok(ExitStatus::Command(code)),
        None => Err(status["message"]
            .as_str()
            .unwrap_or("the server does not say why")
            .to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn exit_codes_are_passed_on() {
        assert_eq!(ended(&json!({"status": "Success"})), Ok(ExitStatus::Success));
        let failed = json!({
            "status": "Failure", "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": "42"}]},
        });
        assert_eq!(ended(&failed), Ok(ExitStatus::Command(42)));
        let broken = json!({"status": "Failure", "message": "no such file"});
        assert_eq!(ended(&broken), Err("no such file".to_owned()));
    }
}
