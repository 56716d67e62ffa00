//! A registry of images that asks who it is (OCI distribution specification, for reading, with basic authentication).

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use crate::probe::{Parts, digest, parts};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// The user who may read.
pub const USER: &str = "reader";
/// The user's password.
pub const PASSWORD: &str = "a:secret";

/// A registry on a free port of the loopback address, which speaks plain HTTP. It has the probe's image as `team/app:1`, and lives as
/// long as the process.
pub struct Registry {
    address: SocketAddr,
}

struct Contents {
    manifest: Vec<u8>,
    blobs: BTreeMap<String, Vec<u8>>,
}

impl Registry {
    /// Starts it.
    ///
    /// # Errors
    /// When the image cannot be made, or no port be had.
    pub fn start() -> anyhow::Result<Self> {
        let Parts { config, layer } = parts()?;
        let named = |bytes: &[u8]| format!("sha256:{}", digest(bytes));
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": config.len(), "digest": named(&config)},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "size": layer.len(), "digest": named(&layer)}],
        });
        let contents = Arc::new(Contents {
            manifest: manifest.to_string().into_bytes(),
            blobs: [config, layer].map(|bytes| (named(&bytes), bytes)).into(),
        });
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let contents = Arc::clone(&contents);
                std::thread::spawn(move || contents.serve(stream));
            }
        });
        Ok(Self { address })
    }

    /// Name and port, as images are named by it.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// The image that it has.
    pub fn image(&self) -> String {
        format!("{}/team/app:1", self.address)
    }
}

impl Contents {
    /// One request after the other, until the client goes.
    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream);
        loop {
            let mut first = String::new();
            if reader.read_line(&mut first)? == 0 {
                return Ok(());
            }
            let mut authorized = false;
            let mut line = String::new();
            while reader.read_line(&mut line)? > 2 {
                let value = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
                if let Some((name, given)) = line.split_once(':') {
                    authorized |= name.eq_ignore_ascii_case("authorization") && given.trim() == value;
                }
                line.clear();
            }
            let mut words = first.split(' ');
            let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let (status, kind, body) = self.answer(path, authorized);
            let challenge = if status == 401 {
                "www-authenticate: Basic realm=\"registry\"\r\n"
            } else {
                ""
            };
            let head = format!(
                "HTTP/1.1 {status} Registry\r\ncontent-type: {kind}\r\ncontent-length: {}\r\ndocker-content-digest: sha256:{}\r\n{challenge}\r\n",
                body.len(),
                digest(body)
            );
            let stream = reader.get_mut();
            stream.write_all(head.as_bytes())?;
            if method != "HEAD" {
                stream.write_all(body)?;
            }
        }
    }

    fn answer(&self, path: &str, authorized: bool) -> (u16, &'static str, &[u8]) {
        if !authorized {
            return (
                401,
                "application/json",
                b"{\"errors\":[{\"code\":\"UNAUTHORIZED\"}]}",
            );
        }
        let manifest_name = format!("sha256:{}", digest(&self.manifest));
        match path
            .strip_prefix("/v2/team/app/")
            .and_then(|rest| rest.split_once('/'))
        {
            Some(("manifests", name)) if name == "1" || name == manifest_name => {
                (200, MANIFEST, &self.manifest)
            }
            Some(("blobs", name)) => match self.blobs.get(name) {
                Some(bytes) => (200, "application/octet-stream", bytes),
                None => (404, "application/json", b"{}"),
            },
            None if path == "/v2/" => (200, "application/json", b"{}"),
            _ => (404, "application/json", b"{}"),
        }
    }
}
