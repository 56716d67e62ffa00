//! A process over streams of SPDY.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use tokio::sync::mpsc;

use super::size::sizes;
use super::{Channels, Incoming, Outgoing};
use crate::pods::spdy::{Reader, Session, Writer};

/// How long a client may take to open the streams that it asked for. The same as the kubelet's.
const STREAMS_WITHIN: Duration = Duration::from_secs(30);

/// The streams that a client opens for a process.
struct Streams {
    error: Writer,
    stdin: Option<Reader>,
    stdout: Option<Writer>,
    stderr: Option<Writer>,
    resize: Option<Reader>,
    /// The other halves of what only the client writes to. Their end would say that nobody reads any more.
    unused: Vec<Writer>,
}

/// Waits for the streams. Those that version 1 has none of are done without.
async fn streams(session: &mut Session, protocol: &str, channels: Channels) -> Option<Streams> {
    let mut wanted = vec!["error"];
    let resizes = channels.tty && (protocol.starts_with("v3.") || protocol.starts_with("v4."));
    for (there, kind) in [
        (channels.stdin, "stdin"),
        (channels.stdout, "stdout"),
        (channels.stderr, "stderr"),
        (resizes, "resize"),
    ] {
        if there {
            wanted.push(kind);
        }
    }
    let mut found = BTreeMap::new();
    while found.len() < wanted.len() {
        let stream = session.accept().await?;
        let kind = stream.headers.get("streamtype").cloned().unwrap_or_default();
        if !wanted.contains(&kind.as_str()) {
            tracing::debug!(%kind, "a stream of a kind that was not asked for");
            return None;
        }
        found.insert(kind, stream);
    }
    let mut take = |kind: &str| {
        found
            .remove(kind)
            .map(|stream| (stream.reader, stream.writer))
            .unzip()
    };
    let (_, error) = take("error");
    let (_, stdout) = take("stdout");
    let (_, stderr) = take("stderr");
    let (stdin, typed) = take("stdin");
    let (resize, resized) = take("resize");
    Some(Streams {
        error: error?,
        stdin,
        stdout,
        stderr,
        resize,
        unused: [typed, resized].into_iter().flatten().collect(),
    })
}

/// Moves what comes and goes until the client goes, or everything is told.
pub(super) async fn over_spdy(
    mut session: Session,
    protocol: &str,
    channels: Channels,
    from_client: mpsc::Sender<Incoming>,
    mut to_client: mpsc::Receiver<Outgoing>,
) {
    let opened = tokio::time::timeout(STREAMS_WITHIN, streams(&mut session, protocol, channels)).await;
    let Ok(Some(Streams {
        error,
        stdin,
        stdout,
        stderr,
        resize,
        unused,
    })) = opened
    else {
        tracing::debug!("a client did not open the streams that it asked for");
        // Told to the pump before the goodbye, which may take its time.
        drop(from_client);
        return session.close().await;
    };
    let typed = async {
        if let Some(mut stdin) = stdin {
            while let Some(data) = stdin.next().await {
                if from_client.send(Incoming::Stdin(data)).await.is_err() {
                    return;
                }
            }
            let _ = from_client.send(Incoming::StdinEnd).await;
        }
    };
    let resized = async {
        let Some(mut resize) = resize else { return };
        let mut waiting = Vec::new();
        while let Some(data) = resize.next().await {
            waiting.extend_from_slice(&data);
            for (columns, rows) in sizes(&mut waiting) {
                let _ = from_client.send(Incoming::Resize(columns, rows)).await;
            }
        }
    };
    let outwards = async {
        while let Some(out) = to_client.recv().await {
            match (out, &stdout, &stderr) {
                (Outgoing::Stdout(data), Some(stdout), _) => stdout.send(data).await?,
                (Outgoing::Stderr(data), _, Some(stderr)) => stderr.send(data).await?,
                (Outgoing::Ended(ended), ..) => error.send(ended.encode(protocol)).await?,
                _ => {}
            }
        }
        io::Result::Ok(())
    };
    let inwards = async {
        tokio::join!(typed, resized);
        // The input may end long before the process does.
        std::future::pending::<()>().await;
    };
    let left = tokio::select! {
        () = session.gone() => true,
        () = inwards => true,
        sent = outwards => sent.is_err(),
    };
    drop(from_client);
    if left {
        return;
    }
    let written = [stdout, stderr, Some(error)].into_iter().flatten();
    for writer in written.chain(unused) {
        let _ = writer.finish().await;
    }
    session.close().await;
}
