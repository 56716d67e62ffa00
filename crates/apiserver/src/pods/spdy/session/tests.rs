//! The server's side against a client, frame by frame.

use super::*;
use tokio::io::DuplexStream;

/// The client's side, frame by frame.
struct Client {
    connection: DuplexStream,
    decoder: Decoder,
    encoder: Encoder,
    bytes: BytesMut,
}

impl Client {
    fn connect() -> (Client, Session) {
        let (connection, served) = tokio::io::duplex(1 << 20);
        let client = Client {
            connection,
            decoder: Decoder::new(),
            encoder: Encoder::new(),
            bytes: BytesMut::new(),
        };
        (client, Session::start(served))
    }

    async fn send(&mut self, frame: Frame) {
        let mut bytes = BytesMut::new();
        self.encoder.encode(&frame, &mut bytes).unwrap();
        self.connection.write_all(&bytes).await.unwrap();
    }

    async fn open(&mut self, id: u32) {
        let headers = Headers::from([("streamtype".to_owned(), "data".to_owned())]);
        let fin = false;
        self.send(Frame::SynStream { id, headers, fin }).await;
        assert!(matches!(self.next().await, Some(Frame::SynReply { id: replied, .. }) if replied == id));
    }

    /// The next frame; none at the end of the connection.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.bytes).unwrap() {
                return Some(frame);
            }
            if self.connection.read_buf(&mut self.bytes).await.unwrap() == 0 {
                return None;
            }
        }
    }

    /// Takes data until so many bytes have come.
    async fn take(&mut self, mut wanted: usize) {
        while wanted > 0 {
            match self.next().await {
                Some(Frame::Data { data, .. }) => wanted = wanted.checked_sub(data.len()).unwrap(),
                other => panic!("{other:?}"),
            }
        }
    }

    /// That the server has nothing to say but the answer to this.
    async fn is_quiet(&mut self) {
        self.send(Frame::Ping(1)).await;
        assert_eq!(self.next().await, Some(Frame::Ping(1)));
    }
}

#[tokio::test]
async fn a_stream_with_both_directions_and_their_ends() {
    let (mut client, mut session) = Client::connect();
    client.open(1).await;
    let mut stream = session.accept().await.unwrap();
    assert_eq!(stream.headers["streamtype"], "data");
    let data = |text: &'static str, fin| Frame::Data {
        id: 1,
        data: Bytes::from_static(text.as_bytes()),
        fin,
    };
    client.send(data("question", false)).await;
    client.send(data("", true)).await;
    assert_eq!(stream.reader.next().await.unwrap(), "question");
    assert_eq!(stream.reader.next().await, None);
    stream.writer.send(Bytes::from_static(b"answer")).await.unwrap();
    stream.writer.finish().await.unwrap();
    assert_eq!(client.next().await, Some(data("answer", false)));
    assert_eq!(client.next().await, Some(data("", true)));
    assert!(session.shared.streams.lock().is_empty());
    let closing = tokio::spawn(session.close());
    assert_eq!(client.next().await, Some(Frame::GoAway { last: 0 }));
    assert_eq!(client.next().await, None);
    drop(client);
    closing.await.unwrap();
}

#[tokio::test]
async fn windows_of_a_client_that_keeps_them_are_respected() {
    let (mut client, mut session) = Client::connect();
    let window = Frame::Settings {
        initial_window: Some(1000),
    };
    client.send(window).await;
    client.open(1).await;
    let stream = session.accept().await.unwrap();
    let sending = tokio::spawn(async move {
        stream.writer.send(vec![0; 1500].into()).await.unwrap();
        stream.writer
    });
    client.take(1000).await;
    client.is_quiet().await;
    client.send(Frame::WindowUpdate { id: 1, delta: 200 }).await;
    client.take(200).await;
    client.is_quiet().await;
    client.send(Frame::WindowUpdate { id: 1, delta: 300 }).await;
    client.take(300).await;
    let writer = sending.await.unwrap();
    // More than a window can be.
    let delta = 0x7fff_ffff;
    client.send(Frame::WindowUpdate { id: 1, delta }).await;
    client.send(Frame::WindowUpdate { id: 1, delta }).await;
    let status = Reset::FlowControlError as u32;
    assert_eq!(client.next().await, Some(Frame::RstStream { id: 1, status }));
    writer.closed().await;
    assert!(writer.send(Bytes::from_static(b"x")).await.is_err());
}

/// client-go is such a one: nothing would ever come if the windows that it does not keep were respected.
#[tokio::test]
async fn a_client_without_windows_gets_everything() {
    let (mut client, mut session) = Client::connect();
    client.open(1).await;
    let stream = session.accept().await.unwrap();
    let bytes = 3 * usize::try_from(WINDOW).unwrap();
    let sending = tokio::spawn(async move { stream.writer.send(vec![0; bytes].into()).await });
    client.take(bytes).await;
    sending.await.unwrap().unwrap();
    // The writer was dropped before it was finished.
    let status = Reset::Cancel as u32;
    assert_eq!(client.next().await, Some(Frame::RstStream { id: 1, status }));
}

#[tokio::test]
async fn a_client_is_told_to_go_on_when_its_bytes_are_taken() {
    let (mut client, mut session) = Client::connect();
    client.open(1).await;
    let mut stream = session.accept().await.unwrap();
    let data = Bytes::from(vec![0; PIECE]);
    client
        .send(Frame::Data {
            id: 1,
            data,
            fin: false,
        })
        .await;
    assert_eq!(stream.reader.next().await.unwrap().len(), PIECE);
    let delta = u32::try_from(PIECE).unwrap();
    assert_eq!(client.next().await, Some(Frame::WindowUpdate { id: 1, delta }));
}

#[tokio::test]
async fn numbers_of_streams_only_grow() {
    for id in [2, 3] {
        let (mut client, mut session) = Client::connect();
        client.open(5).await;
        let stream = session.accept().await.unwrap();
        let headers = Headers::new();
        client
            .send(Frame::SynStream {
                id,
                headers,
                fin: false,
            })
            .await;
        assert!(session.accept().await.is_none());
        stream.writer.closed().await;
    }
}

#[tokio::test]
async fn too_many_streams_are_refused() {
    let (mut client, mut session) = Client::connect();
    let mut open = Vec::new();
    for number in 0..u32::try_from(MAX_STREAMS).unwrap() {
        client.open(number * 2 + 1).await;
        open.push(session.accept().await.unwrap());
    }
    let id = u32::try_from(MAX_STREAMS).unwrap() * 2 + 1;
    let headers = Headers::new();
    client
        .send(Frame::SynStream {
            id,
            headers,
            fin: false,
        })
        .await;
    let status = Reset::RefusedStream as u32;
    assert_eq!(client.next().await, Some(Frame::RstStream { id, status }));
    // One that is reset by the client makes room.
    client.send(Frame::RstStream { id: 1, status: 5 }).await;
    client.open(id + 2).await;
}

#[tokio::test]
async fn streams_end_with_the_client() {
    let (mut client, mut session) = Client::connect();
    client.open(1).await;
    let mut stream = session.accept().await.unwrap();
    drop(client);
    assert_eq!(stream.reader.next().await, None);
    stream.writer.closed().await;
    session.gone().await;
    assert!(session.accept().await.is_none());
}
