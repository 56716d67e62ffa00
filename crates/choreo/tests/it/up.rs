//! Starting, stopping, and everything that can be wrong with folder and port.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use crate::support::{Up, choreo, program, run, snapshot};

#[test]
fn it_says_where_everything_is() {
    let up = Up::fresh();
    let banner = up.banner.join("\n");
    snapshot!("banner", banner, Some(&up));
    for file in ["kubeconfig", "pki/ca.crt"] {
        assert!(up.folder().join(file).exists(), "{file}");
    }
    let mode = std::fs::metadata(up.kubeconfig()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let contexts = std::fs::read_to_string(up.kubeconfig()).unwrap();
    assert!(contexts.contains("current-context: choreo"), "{contexts}");
    assert!(contexts.contains("/clusters/local"), "{contexts}");
}

#[test]
fn it_stops_cleanly_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(Up::start(folder.path(), &[]).stop().code(), Some(0));
    // The folder is free at once, and an open watch does not hold the end up.
    let up = Up::start(folder.path(), &[]);
    let watch = crate::support::Background::start(&mut up.command(["get", "projects", "-w"]));
    watch.line_with("default");
    assert_eq!(up.interrupt().code(), Some(0));
}

#[test]
fn a_restart_keeps_everything() {
    let folder = tempfile::tempdir().unwrap();
    let up = Up::start(folder.path(), &[]);
    up.apply(PROJECT).ok();
    let uid = |up: &Up| {
        let object = up.choreo(["get", "project/shop", "-o", "json"]).ok();
        let object: serde_json::Value = serde_json::from_str(&object).unwrap();
        object["metadata"]["uid"].as_str().unwrap().to_owned()
    };
    let before = uid(&up);
    // What somebody has deleted does not come back.
    up.choreo(["delete", "apiclass", "default-with-cors"]).ok();
    up.stop();
    let up = Up::start(folder.path(), &[]);
    assert_eq!(uid(&up), before);
    up.choreo(["get", "apiclass", "default-with-cors"]).fails(4);
}

#[test]
fn a_second_one_on_the_same_folder_says_who_holds_it() {
    let up = Up::fresh();
    let folder = up.folder().to_str().unwrap();
    for more in [&[][..], &["--in-memory"]] {
        let said = run(program()
            .args([
                "up",
                "--api-port",
                "0",
                "--http-port",
                "0",
                "--https-port",
                "0",
                "--data-dir",
                folder,
            ])
            .args(more));
        let error = said.fails(1);
        assert!(
            error.contains("is in use by process") && error.contains("choreo up"),
            "{error}"
        );
        assert!(error.contains("hint: "), "{error}");
    }
    // The first one is not disturbed.
    up.choreo(["get", "projects"]).ok();
}

#[test]
fn a_port_in_use_is_one_clear_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let folder = tempfile::tempdir().unwrap();
    let error = choreo([
        "up",
        "--data-dir",
        folder.path().to_str().unwrap(),
        "--api-port",
        &port,
    ])
    .fails(1);
    assert!(
        error.contains(&format!("error: port {port} is in use\n")),
        "{error}"
    );
    assert!(error.contains("--api-port"), "{error}");
}

#[test]
fn a_folder_that_cannot_be_written_is_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    // A file in the way stops everybody, also root, whom modes do not stop.
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let inside = file.join("data");
    let error = choreo([
        "up",
        "--api-port",
        "0",
        "--http-port",
        "0",
        "--https-port",
        "0",
        "--data-dir",
        inside.to_str().unwrap(),
    ])
    .fails(1);
    assert!(
        error.starts_with("error: cannot write to ") && error.contains("--data-dir"),
        "{error}"
    );
}

#[test]
fn a_damaged_store_is_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("store.redb"), "this is no store").unwrap();
    let error = choreo([
        "up",
        "--api-port",
        "0",
        "--http-port",
        "0",
        "--https-port",
        "0",
        "--data-dir",
        folder.path().to_str().unwrap(),
    ])
    .fails(1);
    assert!(
        error.contains("store.redb is damaged") && error.contains("hint: "),
        "{error}"
    );
}

#[test]
fn a_damaged_certificate_authority_is_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    Up::start(folder.path(), &[]).stop();
    std::fs::write(folder.path().join("pki/ca.pem"), "nonsense").unwrap();
    let error = choreo([
        "up",
        "--api-port",
        "0",
        "--http-port",
        "0",
        "--https-port",
        "0",
        "--data-dir",
        folder.path().to_str().unwrap(),
    ])
    .fails(1);
    assert!(
        error.contains("certificates") && error.contains("ca.pem"),
        "{error}"
    );
}

#[test]
fn what_is_asked_is_audited_when_somebody_wants_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (policy, log) = (file("policy.yaml"), file("audit.log"));
    std::fs::write(
        &policy,
        "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata, users: [choreo-admin]}]\n",
    )
    .unwrap();
    let data = folder.path().join("data");
    let up = Up::start(&data, &["--audit-policy-file", &policy, "--audit-log-path", &log]);
    up.choreo(["get", "projects"]).ok();
    let text = std::fs::read_to_string(&log).unwrap();
    let mut events = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let found = events.any(|event| {
        event["verb"] == "list"
            && event["objectRef"]["resource"] == "projects"
            && event["user"]["username"] == "choreo-admin"
            && event["responseStatus"]["code"] == 200
    });
    assert!(found, "{text}");
    assert!(
        !text.contains("system:choreo-controllers"),
        "only what the policy asks for"
    );
    up.stop();

    // One without the other says nothing, and a policy that makes no sense is no policy.
    let error = choreo(["up", "--audit-policy-file", &policy]).fails(2);
    assert!(error.contains("--audit-log-path"), "{error}");
    std::fs::write(&policy, "kind: Something").unwrap();
    let data = data.to_str().unwrap();
    let error = choreo([
        "up",
        "--api-port",
        "0",
        "--http-port",
        "0",
        "--https-port",
        "0",
        "--data-dir",
        data,
        "--audit-policy-file",
        &policy,
        "--audit-log-path",
        &log,
    ])
    .fails(1);
    assert!(
        error.contains("cannot set the audit up") && error.contains("policy.yaml"),
        "{error}"
    );
}

#[test]
fn in_memory_nothing_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let up = Up::start(folder.path(), &["--in-memory"]);
    up.apply(PROJECT).ok();
    up.stop();
    assert!(!folder.path().join("store.redb").exists());
    let up = Up::start(folder.path(), &["--in-memory"]);
    up.choreo(["get", "project/shop"]).fails(4);
}

#[test]
fn a_bearer_token_lets_its_user_in_and_others_stay_out() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens.csv");
    std::fs::write(&tokens, "s3cret,jane,1,\"system:masters\"\nweak,joe,2\n").unwrap();
    let data = folder.path().join("data");
    let up = Up::start(&data, &["--token-file", tokens.to_str().unwrap()]);
    let config = std::fs::read_to_string(up.kubeconfig()).unwrap();
    let with_token = |token: &str| {
        let (head, _) = config.split_once("    client-certificate-data").unwrap();
        let path = folder.path().join(token);
        std::fs::write(&path, format!("{head}    token: {token}\n")).unwrap();
        choreo(["--kubeconfig", path.to_str().unwrap(), "get", "projects"])
    };
    with_token("s3cret").ok();
    let forbidden = with_token("weak").fails(1);
    assert!(forbidden.contains("forbidden"), "{forbidden}");
    let unknown = with_token("wrong").fails(1);
    assert!(
        unknown.contains("Unauthorized") && unknown.contains("hint: "),
        "{unknown}"
    );
}

pub(crate) const PROJECT: &str = "
apiVersion: openchoreo.dev/v1alpha1
kind: Project
metadata: {name: shop}
spec: {deploymentPipelineRef: default}
";

#[test]
fn a_port_of_the_gateway_that_is_in_use_is_one_clear_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for (flag, other) in [("--http-port", "--https-port"), ("--https-port", "--http-port")] {
        let error = choreo(["up", "--in-memory", "--api-port", "0", other, "0", flag, &port]).fails(1);
        assert!(
            error.contains(&format!("error: port {port} is in use\n")) && error.contains(flag),
            "{error}"
        );
    }
}

/// The port that the banner gives for the gateway.
fn gateway_port(up: &Up) -> u16 {
    let line = up
        .banner
        .iter()
        .find(|line| line.contains("openchoreoapis.localhost:"))
        .unwrap();
    line.trim().rsplit(':').next().unwrap().parse().unwrap()
}

#[test]
fn the_gateway_answers_and_its_objects_have_its_ports() {
    use std::io::{Read, Write};
    let folder = tempfile::tempdir().unwrap();
    let listeners = |up: &Up| {
        let said = up.choreo([
            "get",
            "gateway",
            "gateway-external",
            "-n",
            "openchoreo-data-plane",
            "-o",
            "json",
            "--context",
            "local",
        ]);
        let object: serde_json::Value = serde_json::from_str(&said.ok()).unwrap();
        object["spec"]["listeners"][0]["port"].as_u64().unwrap()
    };
    let plane = |up: &Up| {
        let object = up.choreo(["get", "dataplane", "default", "-o", "json"]).ok();
        let object: serde_json::Value = serde_json::from_str(&object).unwrap();
        object["spec"]["gateway"]["public"]["listeners"][0]["port"]
            .as_u64()
            .unwrap()
    };
    // The second start has other ports.
    for _ in 0..2 {
        let up = Up::start(folder.path(), &[]);
        let port = gateway_port(&up);
        assert_eq!((listeners(&up), plane(&up)), (u64::from(port), u64::from(port)));
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let request = "GET / HTTP/1.1\r\nhost: nobody.openchoreoapis.localhost\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
        up.stop();
    }
    let mode = |file: &str| {
        std::fs::metadata(folder.path().join(file))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(
        (mode("pki/gateway-ca.pem"), mode("pki/gateway-ca.crt")),
        (0o600, 0o600)
    );
}
