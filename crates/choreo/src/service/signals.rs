//! Being asked to stop.

use tokio_util::sync::CancellationToken;

use crate::failure::Failure;

/// A token that SIGINT (Ctrl-C) or SIGTERM cancels. A second signal ends the process at once.
pub(crate) fn listen() -> Result<CancellationToken, Failure> {
    let stop = CancellationToken::new();
    let failed = |error: std::io::Error| Failure::new("cannot listen for signals").because(&error);
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let stop = stop.clone();
        tokio::spawn(async move {
            loop {
                let number = tokio::select! {
                    _ = interrupt.recv() => 2,
                    _ = terminate.recv() => 15,
                };
                if stop.is_cancelled() {
                    std::process::exit(128 + number);
                }
                stop.cancel();
            }
        });
    }
    #[cfg(not(unix))]
    {
        let _ = failed;
        let stop = stop.clone();
        tokio::spawn(async move {
            while tokio::signal::ctrl_c().await.is_ok() {
                if stop.is_cancelled() {
                    std::process::exit(130);
                }
                stop.cancel();
            }
        });
    }
    Ok(stop)
}
