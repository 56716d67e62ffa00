//! A server that gates ask.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::json;

/// A question, as it came over the wire.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    /// Method and target.
    pub(super) line: String,
    /// Headers, in lower case.
    pub(super) headers: String,
    pub(super) body: String,
}

/// What is answered.
pub(super) enum Answer {
    Code(u16),
    /// A metric's value, in the words of Prometheus.
    Value(String),
    /// Nothing, ever.
    Silence,
}

type Say = Box<dyn FnMut(&Asked) -> Answer + Send>;

/// It listens until the test is over, and remembers what it was asked.
pub(super) struct Server {
    pub(super) address: String,
    say: Arc<Mutex<Say>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    pub(super) fn start(say: impl FnMut(&Asked) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            address: format!("http://{}", listener.local_addr().unwrap()),
            say: Arc::new(Mutex::new(Box::new(say))),
            asked: Arc::default(),
        };
        let (say, asked) = (Arc::clone(&server.say), Arc::clone(&server.asked));
        std::thread::spawn(move || {
            let mut silent = Vec::new();
            for stream in listener.incoming().flatten() {
                let Some((question, mut stream)) = read(stream) else {
                    continue;
                };
                let answer = say.lock().unwrap()(&question);
                asked.lock().unwrap().push(question);
                let (code, body) = match answer {
                    Answer::Code(code) => (code, String::new()),
                    Answer::Value(value) => (
                        200,
                        json!({"status": "success", "data": {"resultType": "vector",
                            "result": [{"metric": {}, "value": [0, value]}]}})
                        .to_string(),
                    ),
                    Answer::Silence => {
                        silent.push(stream);
                        continue;
                    }
                };
                let _ = write!(
                    stream,
                    "HTTP/1.1 {code} Status\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
            }
        });
        server
    }

    /// From now on it says something else.
    pub(super) fn say(&self, say: impl FnMut(&Asked) -> Answer + Send + 'static) {
        *self.say.lock().unwrap() = Box::new(say);
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn read(stream: TcpStream) -> Option<(Asked, TcpStream)> {
    let mut reader = BufReader::new(stream);
    let mut asked = Asked::default();
    reader.read_line(&mut asked.line).ok()?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? <= 2 {
            break;
        }
        // Names only: a credential is as it is.
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok()?;
        }
        asked.headers += &format!("{}:{value}", name.to_ascii_lowercase());
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    asked.body = String::from_utf8_lossy(&body).into_owned();
    Some((asked, reader.into_inner()))
}
