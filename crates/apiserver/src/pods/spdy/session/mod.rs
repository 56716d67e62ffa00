//! A connection with its streams, on the side that streams are opened to.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::SpdyError;
use super::frame::{Decoder, Encoder, Frame, Reset};
use super::headers::Headers;

/// Streams that are open at a time; more are refused. Two for each forwarded connection.
const MAX_STREAMS: usize = 1024;

/// Frames that wait to be written, and pieces that wait to be read on one stream.
const QUEUE: usize = 16;

/// The most bytes that are sent in one frame, so that streams take turns.
const PIECE: usize = 32 * 1024;

/// How many bytes a stream may send before it is told to go on, as long as nobody says otherwise.
const WINDOW: i64 = 64 * 1024;

/// How long a peer that was told that the connection ends may take to end it.
const LINGER: Duration = Duration::from_secs(5);

enum Command {
    Send(Frame),
    /// Write what waits, then close.
    Close,
}

/// What all parts of a connection share.
struct Shared {
    commands: mpsc::Sender<Command>,
    streams: Mutex<HashMap<u32, Arc<Flow>>>,
    /// Whether the peer keeps windows.
    windows: AtomicBool,
    /// The connection is over.
    over: CancellationToken,
}

/// What is known of a stream that is open.
struct Flow {
    /// Bytes that may be sent before the peer is to be heard.
    credit: Mutex<i64>,
    /// Credit was given.
    changed: Notify,
    /// Where the peer's bytes go; none once there are no more to come.
    incoming: Mutex<Option<mpsc::Sender<Bytes>>>,
    /// One of both sides wants nothing more to do with it.
    reset: CancellationToken,
    /// We have sent our last.
    finished: AtomicBool,
}

impl Shared {
    async fn send(&self, frame: Frame) -> io::Result<()> {
        self.commands
            .send(Command::Send(frame))
            .await
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn stream(&self, id: u32) -> Option<Arc<Flow>> {
        self.streams.lock().get(&id).cloned()
    }

    /// Forgets a stream that is closed on both sides.
    fn forget(&self, id: u32) {
        let mut streams = self.streams.lock();
        let over = streams.get(&id).is_some_and(|flow| {
            flow.reset.is_cancelled()
                || flow.finished.load(Ordering::Acquire) && flow.incoming.lock().is_none()
        });
        if over {
            streams.remove(&id);
        }
    }
}

/// A connection that a client opens streams on.
pub(crate) struct Session {
    shared: Arc<Shared>,
    incoming: mpsc::Receiver<Stream>,
    reading: JoinHandle<()>,
    writing: JoinHandle<()>,
}

/// A stream that the client opened.
pub(crate) struct Stream {
    /// Its number.
    pub(crate) id: u32,
    /// The headers that it was opened with.
    pub(crate) headers: Headers,
    /// What the client sends.
    pub(crate) reader: Reader,
    /// What the client gets.
    pub(crate) writer: Writer,
}

impl Session {
    /// Begins with a connection.
    pub(crate) fn start(connection: impl AsyncRead + AsyncWrite + Send + 'static) -> Session {
        let (read, write) = tokio::io::split(connection);
        let (commands, queue) = mpsc::channel(QUEUE);
        let (opened, incoming) = mpsc::channel(QUEUE);
        let shared = Arc::new(Shared {
            commands,
            streams: Mutex::default(),
            windows: AtomicBool::new(false),
            over: CancellationToken::new(),
        });
        let over = shared.over.clone();
        let writing = tokio::spawn(async move {
            // What is left in a connection that the peer has left need not be written.
            tokio::select! {
                () = over.cancelled() => {}
                ended = write_frames(write, queue) => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "cannot write to a SPDY connection");
                        over.cancel();
                    }
                }
            }
        });
        let reader = shared.clone();
        let reading = tokio::spawn(async move {
            let _over = reader.over.clone().drop_guard();
            let over = reader.over.clone();
            let ended = tokio::select! {
                () = over.cancelled() => Ok(()),
                ended = read_frames(read, &reader, opened) => ended,
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a SPDY connection ended");
            }
            for (_, flow) in reader.streams.lock().drain() {
                flow.incoming.lock().take();
                flow.reset.cancel();
            }
        });
        Session {
            shared,
            incoming,
            reading,
            writing,
        }
    }

    /// The next stream that the client opens; none once it has gone.
    pub(crate) async fn accept(&mut self) -> Option<Stream> {
        self.incoming.recv().await
    }

    /// Completes when the client has gone. Streams that it opens meanwhile wait.
    pub(crate) async fn gone(&self) {
        self.shared.over.cancelled().await;
    }

    /// Writes what waits, says goodbye and closes.
    pub(crate) async fn close(self) {
        let goodbye = async {
            let last = 0;
            if self.shared.send(Frame::GoAway { last }).await.is_ok() {
                let _ = self.shared.commands.send(Command::Close).await;
            }
            let _ = self.writing.await;
            let _ = self.reading.await;
        };
        // A connection that is cut while the peer still sends would take with it what it has not read.
        if tokio::time::timeout(LINGER, goodbye).await.is_err() {
            tracing::debug!("a SPDY connection was not closed by its peer and is cut");
        }
        self.shared.over.cancel();
    }
}

async fn write_frames(
    mut write: WriteHalf<impl AsyncWrite>,
    mut queue: mpsc::Receiver<Command>,
) -> io::Result<()> {
    let mut encoder = Encoder::new();
    let mut bytes = BytesMut::with_capacity(PIECE + 1024);
    let mut closing = false;
    while !closing {
        match queue.recv().await {
            Some(Command::Send(frame)) => encoder.encode(&frame, &mut bytes).map_err(io::Error::other)?,
            Some(Command::Close) | None => closing = true,
        }
        // More frames that are there already go out with it.
        if bytes.len() < PIECE && !closing && !queue.is_empty() {
            continue;
        }
        write.write_all(&bytes).await?;
        bytes.clear();
        write.flush().await?;
    }
    write.shutdown().await
}

async fn read_frames(
    mut read: ReadHalf<impl AsyncRead>,
    shared: &Arc<Shared>,
    opened: mpsc::Sender<Stream>,
) -> io::Result<()> {
    let mut decoder = Decoder::new();
    let mut bytes = BytesMut::with_capacity(PIECE + 1024);
    let mut peer = Peer {
        last: 0,
        window: WINDOW,
        leaving: false,
    };
    loop {
        while let Some(frame) = decoder.decode(&mut bytes).map_err(io::Error::other)? {
            peer.take(frame, shared, &opened).await?;
        }
        if read.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    }
}

/// What is known of the client.
struct Peer {
    /// Its newest stream.
    last: u32,
    /// What a new stream may send to it.
    window: i64,
    /// It said that it opens no more streams.
    leaving: bool,
}

impl Peer {
    async fn take(
        &mut self,
        frame: Frame,
        shared: &Arc<Shared>,
        opened: &mpsc::Sender<Stream>,
    ) -> io::Result<()> {
        match frame {
            Frame::SynStream { id, headers, fin } => self.open(id, headers, fin, shared, opened).await,
            Frame::Data { id, data, fin } => {
                // A stream that is closed on our side may still be sent to.
                let Some(flow) = shared.stream(id) else {
                    return Ok(());
                };
                let incoming = flow.incoming.lock().clone();
                if let Some(incoming) = incoming
                    && !data.is_empty()
                {
                    // Who reads may have gone; what comes is nobody's then.
                    let _ = incoming.send(data).await;
                }
                if fin {
                    flow.incoming.lock().take();
                    shared.forget(id);
                }
                Ok(())
            }
            Frame::Headers { id, fin, .. } | Frame::SynReply { id, fin, .. } => {
                if let Some(flow) = shared.stream(id).filter(|_| fin) {
                    flow.incoming.lock().take();
                    shared.forget(id);
                }
                Ok(())
            }
            Frame::RstStream { id, .. } => {
                if let Some(flow) = shared.stream(id) {
                    flow.incoming.lock().take();
                    flow.reset.cancel();
                    shared.forget(id);
                }
                Ok(())
            }
            Frame::Settings { initial_window } => {
                if let Some(size) = initial_window {
                    shared.windows.store(true, Ordering::Release);
                    let size = i64::from(size);
                    let more = size - self.window;
                    self.window = size;
                    for flow in shared.streams.lock().values() {
                        *flow.credit.lock() += more;
                        flow.changed.notify_one();
                    }
                }
                Ok(())
            }
            Frame::WindowUpdate { id, delta } => self.update(id, delta, shared).await,
            // Odd numbers are the client's pings.
            Frame::Ping(id) if id % 2 == 1 => shared.send(Frame::Ping(id)).await,
            Frame::GoAway { .. } => {
                self.leaving = true;
                Ok(())
            }
            Frame::Ping(_) | Frame::Unknown => Ok(()),
        }
    }

    async fn open(
        &mut self,
        id: u32,
        headers: Headers,
        fin: bool,
        shared: &Arc<Shared>,
        opened: &mpsc::Sender<Stream>,
    ) -> io::Result<()> {
        if id.is_multiple_of(2) || id <= self.last {
            return Err(io::Error::other(SpdyError::Malformed(
                "the number of a new stream",
            )));
        }
        self.last = id;
        let full = shared.streams.lock().len() >= MAX_STREAMS;
        if full || self.leaving {
            let status = Reset::RefusedStream as u32;
            return shared.send(Frame::RstStream { id, status }).await;
        }
        let (sender, receiver) = mpsc::channel(QUEUE);
        let flow = Arc::new(Flow {
            credit: Mutex::new(self.window),
            changed: Notify::new(),
            incoming: Mutex::new((!fin).then_some(sender)),
            reset: CancellationToken::new(),
            finished: AtomicBool::new(false),
        });
        shared.streams.lock().insert(id, flow.clone());
        let reply = Frame::SynReply {
            id,
            headers: Headers::new(),
            fin: false,
        };
        shared.send(reply).await?;
        let stream = Stream {
            id,
            headers,
            reader: Reader {
                id,
                incoming: receiver,
                taken: 0,
                shared: shared.clone(),
            },
            writer: Writer {
                id,
                flow,
                shared: shared.clone(),
            },
        };
        // Nobody accepts streams any more: the writer, which is dropped with it, says so.
        let _ = opened.send(stream).await;
        Ok(())
    }

    async fn update(&mut self, id: u32, delta: u32, shared: &Arc<Shared>) -> io::Result<()> {
        shared.windows.store(true, Ordering::Release);
        let Some(flow) = shared.stream(id) else {
            return Ok(());
        };
        let overflows = {
            let mut credit = flow.credit.lock();
            *credit += i64::from(delta);
            *credit > i64::from(i32::MAX)
        };
        if overflows {
            flow.incoming.lock().take();
            flow.reset.cancel();
            shared.forget(id);
            let status = Reset::FlowControlError as u32;
            shared.send(Frame::RstStream { id, status }).await?;
        }
        flow.changed.notify_one();
        Ok(())
    }
}

/// What comes in on a stream.
pub(crate) struct Reader {
    id: u32,
    incoming: mpsc::Receiver<Bytes>,
    /// Bytes that were taken since the client was last told to go on.
    taken: usize,
    shared: Arc<Shared>,
}

impl Reader {
    /// The next bytes; none at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        let data = self.incoming.recv().await?;
        self.taken += data.len();
        if self.taken >= PIECE {
            let delta = u32::try_from(self.taken).unwrap_or(u32::MAX);
            self.taken = 0;
            // Who cannot be told has gone, which the next read tells.
            let _ = self.shared.send(Frame::WindowUpdate { id: self.id, delta }).await;
        }
        Some(data)
    }
}

/// What goes out on a stream. A stream that is dropped before it is finished is reset.
pub(crate) struct Writer {
    id: u32,
    flow: Arc<Flow>,
    shared: Arc<Shared>,
}

impl Writer {
    /// Sends bytes, as soon as the client takes them.
    ///
    /// # Errors
    /// When the client has closed the stream or gone.
    pub(crate) async fn send(&self, mut data: Bytes) -> io::Result<()> {
        while !data.is_empty() {
            let most = self.credit(data.len().min(PIECE)).await?;
            let piece = data.split_to(most);
            let frame = Frame::Data {
                id: self.id,
                data: piece,
                fin: false,
            };
            self.shared.send(frame).await?;
        }
        Ok(())
    }

    /// How many bytes of those wanted may be sent, as soon as it is at least one.
    async fn credit(&self, wanted: usize) -> io::Result<usize> {
        loop {
            if self.flow.reset.is_cancelled() || self.shared.over.is_cancelled() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            {
                let mut credit = self.flow.credit.lock();
                let most = if self.shared.windows.load(Ordering::Acquire) {
                    usize::try_from(*credit).unwrap_or_default().min(wanted)
                } else {
                    wanted
                };
                if most > 0 {
                    *credit -= i64::try_from(most).unwrap_or(i64::MAX);
                    return Ok(most);
                }
            }
            tokio::select! {
                () = self.flow.changed.notified() => {}
                () = self.closed() => {}
            }
        }
    }

    /// Completes when the client wants nothing more of the stream.
    pub(crate) async fn closed(&self) {
        tokio::select! {
            () = self.flow.reset.cancelled() => {}
            () = self.shared.over.cancelled() => {}
        }
    }

    /// Says that nothing else comes.
    ///
    /// # Errors
    /// When the client has gone.
    pub(crate) async fn finish(self) -> io::Result<()> {
        if self.flow.reset.is_cancelled() {
            return Ok(());
        }
        self.flow.finished.store(true, Ordering::Release);
        self.shared.forget(self.id);
        let frame = Frame::Data {
            id: self.id,
            data: Bytes::new(),
            fin: true,
        };
        self.shared.send(frame).await
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let finished = self.flow.finished.swap(true, Ordering::AcqRel);
        if finished || self.flow.reset.is_cancelled() || self.shared.over.is_cancelled() {
            return;
        }
        self.flow.reset.cancel();
        self.shared.forget(self.id);
        let reset = Frame::RstStream {
            id: self.id,
            status: Reset::Cancel as u32,
        };
        if let Err(mpsc::error::TrySendError::Full(command)) =
            self.shared.commands.try_send(Command::Send(reset))
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let commands = self.shared.commands.clone();
            runtime.spawn(async move { commands.send(command).await });
        }
    }
}

#[cfg(test)]
mod tests;
