//! What runs in the containers of tests: a static program of the standard library alone, so that its image is this file and nothing else.
//!
//! ```text
//! probe serve [--port N] [--udp N] [--name TEXT] [--unready] [--no-term]   HTTP, and UDP that echoes
//! probe exit CODE [AFTER-MILLISECONDS]     prints a line on each stream and ends
//! probe file PATH...                       prints files; fails when one is missing
//! probe get HOST PORT PATH                 one HTTP request; prints the answer; fails without one
//! probe udp HOST PORT TEXT                 sends a datagram and prints what comes back
//! probe echo                               standard input to standard output
//! probe sleep                              until it is told to end
//! probe touch PATH                         makes a file
//! probe hog MEBIBYTES                      takes memory and keeps it
//! ```
//!
//! The server answers `/` with its name, `/env`, `/headers`, `/id`, `/file?PATH`, `/call?HOST:PORT/PATH`, `/lookup?HOST`; `/ready` and `/live`
//! answer 200 until `/fail-ready` and `/fail-live` were asked for (`/pass-ready` takes it back); `/crash` ends the process with code 3;
//! `/slow?MILLISECONDS` takes its time.

use std::{
    env, fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket},
    process::exit,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

static READY: AtomicBool = AtomicBool::new(true);
static LIVE: AtomicBool = AtomicBool::new(true);

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["serve", options @ ..] => serve(options),
        ["exit", code, rest @ ..] => {
            if let Some(wait) = rest.first().and_then(|text| text.parse().ok()) {
                thread::sleep(Duration::from_millis(wait));
            }
            println!("out: ending with {code}");
            eprintln!("err: ending with {code}");
            exit(code.parse().unwrap_or(99));
        }
        ["file", paths @ ..] => paths.iter().try_for_each(|path| io::stdout().write_all(&fs::read(path)?)),
        ["get", host, port, path] => request(&format!("{host}:{port}"), path).map(|answer| print!("{answer}")),
        ["udp", host, port, text] => datagram(host, port, text),
        ["echo"] => io::copy(&mut io::stdin(), &mut io::stdout()).map(|_| ()),
        ["sleep"] => loop {
            thread::park();
        },
        ["touch", path] => fs::write(path, "touched"),
        ["hog", size] => hog(size.parse().unwrap_or(64)),
        _ => {
            eprintln!("not understood: {words:?}");
            exit(64);
        }
    };
    if let Err(error) = outcome {
        eprintln!("{error}");
        exit(1);
    }
}

fn option<'a>(options: &[&'a str], name: &str) -> Option<&'a str> {
    let at = options.iter().position(|option| *option == name)?;
    options.get(at + 1).copied()
}

fn serve(options: &[&str]) -> io::Result<()> {
    let port = option(options, "--port").unwrap_or("8080").to_owned();
    let name = option(options, "--name")
        .map(str::to_owned)
        .or_else(|| env::var("NAME").ok())
        .or_else(|| env::var("HOSTNAME").ok())
        .unwrap_or_default();
    READY.store(!options.contains(&"--unready"), Ordering::SeqCst);
    if let Some(udp) = option(options, "--udp") {
        let socket = UdpSocket::bind(format!("0.0.0.0:{udp}"))?;
        let name = name.clone();
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((size, from)) = socket.recv_from(&mut buffer) {
                let mut answer = format!("{name} ").into_bytes();
                answer.extend_from_slice(&buffer[..size]);
                let _ = socket.send_to(&answer, from);
            }
        });
    }
    let listener = TcpListener::bind(format!("0.0.0.0:{port}"))?;
    println!("{name} listens on {port}");
    for stream in listener.incoming() {
        let name = name.clone();
        thread::spawn(move || drop(stream.and_then(|stream| answer(stream, &name))));
    }
    Ok(())
}

fn answer(stream: TcpStream, name: &str) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut headers = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        headers.push_str(&line);
    }
    let target = first.split_whitespace().nth(1).unwrap_or("/");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let health = |flag: &AtomicBool| if flag.load(Ordering::SeqCst) { 200 } else { 503 };
    let (code, body) = match path {
        "/env" => (200, env::vars().map(|(key, value)| format!("{key}={value}\n")).collect()),
        "/headers" => (200, headers),
        "/id" => (200, fs::read_to_string("/proc/self/status").unwrap_or_default()),
        "/file" => match fs::read_to_string(query) {
            Ok(text) => (200, text),
            Err(error) => (404, error.to_string()),
        },
        "/call" => {
            let (authority, path) = query.split_once('/').unwrap_or((query, ""));
            match request(authority, &format!("/{path}")) {
                Ok(text) => (200, text),
                Err(error) => (502, error.to_string()),
            }
        }
        "/lookup" => match (query, 0).to_socket_addrs() {
            Ok(found) => (200, found.map(|address| format!("{}\n", address.ip())).collect()),
            Err(error) => (404, error.to_string()),
        },
        "/ready" => (health(&READY), String::new()),
        "/live" => (health(&LIVE), String::new()),
        "/fail-ready" => (200, set(&READY, false)),
        "/pass-ready" => (200, set(&READY, true)),
        "/fail-live" => (200, set(&LIVE, false)),
        "/crash" => exit(3),
        "/slow" => {
            thread::sleep(Duration::from_millis(query.parse().unwrap_or(100)));
            (200, name.to_owned())
        }
        _ => (200, name.to_owned()),
    };
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {code} Probe\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )?;
    stream.flush()
}

fn set(flag: &AtomicBool, value: bool) -> String {
    flag.store(value, Ordering::SeqCst);
    String::new()
}

/// The body of the answer; an answer other than 2xx is an error.
fn request(authority: &str, path: &str) -> io::Result<String> {
    let address = authority
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| io::Error::other(format!("{authority}: no address")))?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text
        .split_once("\r\n\r\n")
        .ok_or_else(|| io::Error::other(format!("{authority}: closed without an answer")))?;
    if head.split_whitespace().nth(1).is_some_and(|code| code.starts_with('2')) {
        Ok(body.to_owned())
    } else {
        Err(io::Error::other(format!("{authority}: {head} {body}")))
    }
}

fn datagram(host: &str, port: &str, text: &str) -> io::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    socket.connect(format!("{host}:{port}"))?;
    socket.send(text.as_bytes())?;
    let mut buffer = [0; 2048];
    let size = socket.recv(&mut buffer)?;
    println!("{}", String::from_utf8_lossy(&buffer[..size]));
    Ok(())
}

fn hog(mebibytes: usize) -> io::Result<()> {
    let mut taken = Vec::new();
    for _ in 0..mebibytes {
        // Written to, so that the pages are really there.
        taken.push(vec![1_u8; 1 << 20]);
    }
    println!("took {} MiB", taken.len());
    loop {
        thread::park();
    }
}
