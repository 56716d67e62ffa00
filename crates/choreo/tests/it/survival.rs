//! What was acknowledged is there, whatever happens to the process.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use crate::support::{PATIENCE, Up, choreo};

#[test]
fn a_backup_of_a_running_platform_is_restored() {
    let up = Up::fresh();
    let folder = tempfile::tempdir().unwrap();
    let (file, other) = (folder.path().join("a.backup"), folder.path().join("restored"));
    let config_map =
        |name: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\ndata:\n  a: b\n");
    up.apply(&config_map("before")).ok();
    let file_name = file.to_str().unwrap();
    up.choreo(["backup", file_name]).ok();
    up.apply(&config_map("after")).ok();
    assert!(
        up.choreo(["backup", file_name])
            .fails(2)
            .contains("exists already")
    );
    let local = up.choreo(["backup", "--context", "local", "x.backup"]).fails(4);
    assert!(local.contains("context `choreo`"), "{local}");

    let data_dir = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let held = choreo(["restore", file_name, "--data-dir", &data_dir(up.folder())]).fails(1);
    assert!(held.contains("in use"), "{held}");
    choreo(["restore", file_name, "--data-dir", &data_dir(&other)]).ok();
    let again = choreo(["restore", file_name, "--data-dir", &data_dir(&other)]).fails(1);
    assert!(again.contains("--replace"), "{again}");
    let over = choreo(["restore", file_name, "--replace", "--data-dir", &data_dir(&other)]);
    assert!(over.err.contains("what was there before is"), "{over:?}");
    drop(up);

    let restored = Up::start(&other, &[]);
    restored.choreo(["get", "configmap", "before"]).ok();
    restored.choreo(["get", "configmap", "after"]).fails(4);
}

/// Writes ConfigMaps one after another until the server is gone, and notes those that were acknowledged.
fn write_until_the_end(
    mut shell: TlsShell,
    writer: usize,
    acknowledged: &Mutex<BTreeMap<String, u64>>,
    count: &mpsc::Sender<()>,
    stop: &AtomicBool,
) {
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let name = format!("w{writer}-{}", number % 50);
        let body = serde_json::json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name}, "data": {"number": number.to_string()},
        });
        match shell.apply(&name, &body.to_string()) {
            Some(true) => {
                acknowledged.lock().unwrap().insert(name, number);
                // Nobody listens any more once the process is killed.
                let _ = count.send(());
            }
            Some(false) => panic!("the server refused a write"),
            None => return,
        }
    }
}

/// An HTTP/1.1 connection with the administrator's certificate. A process for each write would be too slow to be killed
/// between writes.
struct TlsShell {
    stream: rustls::StreamOwned<rustls::ClientConnection, std::net::TcpStream>,
    host: String,
}

impl TlsShell {
    fn connect(up: &Up) -> TlsShell {
        use rustls_pki_types::pem::PemObject;
        use rustls_pki_types::{CertificateDer, PrivateKeyDer};
        let pem = |file: &str| std::fs::read(up.folder().join("pki").join(file)).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(&pem("ca.crt")).unwrap())
            .unwrap();
        let admin = pem("admin.pem");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(&admin).unwrap()],
                PrivateKeyDer::from_pem_slice(&admin).unwrap(),
            )
            .unwrap();
        let config_text = std::fs::read_to_string(up.kubeconfig()).unwrap();
        let (_, rest) = config_text.split_once("https://").unwrap();
        let host: String = rest
            .chars()
            .take_while(|c| !c.is_whitespace() && *c != '/')
            .collect();
        let tcp = std::net::TcpStream::connect(&host).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        let name = rustls_pki_types::ServerName::try_from("127.0.0.1").unwrap();
        let connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        TlsShell {
            stream: rustls::StreamOwned::new(connection, tcp),
            host,
        }
    }

    /// Whether the server accepted the write; `None` when there is no server any more.
    fn apply(&mut self, name: &str, body: &str) -> Option<bool> {
        let request = format!(
            "PATCH /api/v1/namespaces/default/configmaps/{name}?fieldManager=test&force=true HTTP/1.1\r\nHost: {}\r\n\
             Content-Type: application/apply-patch+yaml\r\nContent-Length: {}\r\n\r\n{body}",
            self.host,
            body.len()
        );
        self.stream.write_all(request.as_bytes()).ok()?;
        let mut head = vec![];
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).ok()?;
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).to_lowercase();
        let length: usize = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .expect("a length")
            .trim()
            .parse()
            .unwrap();
        // The status line is the acknowledgement; the kill may come while the body is on its way.
        let accepted = head.starts_with("http/1.1 20");
        let mut body = vec![0; length];
        match self.stream.read_exact(&mut body) {
            Ok(()) => Some(accepted),
            Err(_) if accepted => Some(true),
            Err(_) => None,
        }
    }
}

#[test]
fn every_acknowledged_write_survives_sigkill() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let up = Up::start(folder.path(), &[]);
        let acknowledged = Mutex::new(BTreeMap::new());
        let stop = AtomicBool::new(false);
        let (count, counted) = mpsc::channel();
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let (acknowledged, stop, count) = (&acknowledged, &stop, count.clone());
                let shell = TlsShell::connect(&up);
                scope.spawn(move || write_until_the_end(shell, writer, acknowledged, &count, stop));
            }
            // In the middle of it, at a different place in each round.
            for _ in 0..40 + 30 * round {
                counted.recv_timeout(PATIENCE).expect("writes go on");
            }
            let process = up.process();
            assert!(
                Command::new("kill")
                    .args(["-KILL", &process.to_string()])
                    .status()
                    .unwrap()
                    .success()
            );
            stop.store(true, Ordering::Relaxed);
        });
        up.kill();
        let up = Up::start(folder.path(), &[]);
        let found = up.choreo(["get", "configmaps", "-o", "json"]).ok();
        let found: serde_json::Value = serde_json::from_str(&found).unwrap();
        let numbers: BTreeMap<&str, u64> = found["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|item| item["metadata"]["name"].as_str().unwrap().starts_with('w'))
            .map(|item| {
                (
                    item["metadata"]["name"].as_str().unwrap(),
                    item["data"]["number"].as_str().unwrap().parse().unwrap(),
                )
            })
            .collect();
        let acknowledged = acknowledged.into_inner().unwrap();
        assert!(acknowledged.len() >= 40, "only {} writes", acknowledged.len());
        for (name, number) in &acknowledged {
            // A write that was on its way may be there as well, or not.
            let kept = numbers.get(name.as_str()).copied();
            assert!(
                kept.is_some_and(|kept| kept >= *number),
                "{name}: {number} was acknowledged, {kept:?} is there"
            );
        }
        up.kill();
    }
}
