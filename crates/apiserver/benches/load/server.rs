//! A server that the measurement starts itself, kills, and starts again.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::Settings;
use crate::target::{Outcome, Target, ms};

/// Longest wait for a server to be ready.
const PATIENCE: Duration = Duration::from_secs(120);

/// The running server; killed when dropped.
pub(crate) struct Server {
    child: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts the server if the settings say how; gives a client of it, or of the one that runs already.
pub(crate) async fn start(settings: &Settings, what: &str) -> Outcome<(Option<Server>, Target)> {
    let Some(command) = &settings.start else {
        return Ok((None, Target::connect(settings).await?));
    };
    let begun = Instant::now();
    let child = Command::new("sh")
        .args(["-c", &format!("exec {command}")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|e| format!("{command}: {e}"))?;
    settings.started.store(child.id(), Ordering::Relaxed);
    let mut server = Server { child };
    loop {
        if let Some(target) = ready(settings).await {
            println!("{what:<32} {}", ms(begun.elapsed()));
            return Ok((Some(server), target));
        }
        if let Ok(Some(status)) = server.child.try_wait() {
            return Err(format!("{command}: ended with {status}"));
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!("{command}: not ready after {PATIENCE:?}"));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A client of the server, once it says that it is ready. The kubeconfig may be written by the server itself.
async fn ready(settings: &Settings) -> Option<Target> {
    let target = Target::connect(settings).await.ok()?;
    target.get("/readyz", "*/*").await.ok()?;
    Some(target)
}

/// Kills the server, without a word to it, and starts it over what it has stored.
pub(crate) async fn restart(
    settings: &Settings,
    server: &mut Option<Server>,
    target: &mut Target,
    what: &str,
) -> Outcome<()> {
    if server.take().is_some() {
        (*server, *target) = start(settings, what).await?;
    }
    Ok(())
}
