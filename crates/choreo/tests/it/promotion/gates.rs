//! Gates: what they ask, in which order, and what is made of the answers.

use std::sync::{Arc, Mutex};

use super::*;

#[track_caller]
fn gated(up: &Up, demands: &str) {
    up.apply(&shop(&path("development", "staging", demands))).ok();
}

#[track_caller]
fn promote(up: &Up) -> Said {
    up.choreo([
        "promote",
        "cart",
        "--to",
        "staging",
        "--wait",
        "--timeout",
        "100s",
    ])
}

fn gate<'p>(promotion: &'p Value, name: &str) -> &'p Value {
    let all = promotion["status"]["gates"].as_array().unwrap();
    all.iter().find(|gate| gate["name"] == name).unwrap()
}

fn secret(name: &str, keys: &Value) -> String {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "default"}, "stringData": keys})
        .to_string()
}

#[test]
fn gates_of_a_stage_run_together_and_stages_one_after_the_other() {
    let up = Up::in_memory();
    let server = Server::start(|asked| {
        if asked.line.starts_with("POST") {
            Answer::Code(204)
        } else {
            Answer::Value("0.5".to_owned())
        }
    });
    let url = &server.address;
    up.apply(&secret("hook", &json!({"token": "Sesame"}))).ok();
    up.apply(&secret(
        "prometheus",
        &json!({"username": "reader", "password": "pass:word"}),
    ))
    .ok();
    gated(
        &up,
        &format!(
            "gates: [\
             {{name: owned, rule: 'component.labels[\"team\"] == \"blue\"'}}, \
             {{name: change, webhook: {{url: '{url}/change', secretRef: hook}}}}, \
             {{name: smoke, stage: 1, job: {{image: 'registry.example.com/smoke:1', in: Source}}}}, \
             {{name: load, stage: 2, metric: {{address: '{url}', query: 'load{{ns=\"${{namespace}}\"}}', min: '0.1', max: '0.9', secretRef: prometheus}}}}]"
        ),
    );
    let first = built(&up, "registry.example.com/cart:1");
    // The label is not there: a rule that cannot be worked out has not passed, and nothing of a later stage was begun.
    let said = promote(&up).fails(1);
    assert!(said.contains("gate \"owned\" is inconclusive"), "{said}");
    let ended_so = newest(&up, "staging");
    assert!(!ended_so["status"]["gates"].to_string().contains("smoke"));
    up.apply(
        "{apiVersion: openchoreo.dev/v1alpha1, kind: Component, metadata: {name: cart, labels: {team: green}}, spec: {owner: {projectName: shop}, type: Service}}",
    )
    .ok();
    let said = promote(&up).fails(1);
    assert!(
        said.contains("gate \"owned\" did not pass: the rule does not hold"),
        "{said}"
    );
    assert_eq!(newest(&up, "staging")["status"]["reason"], "GateFailed");

    let before = server.asked().len();
    up.apply(
        "{apiVersion: openchoreo.dev/v1alpha1, kind: Component, metadata: {name: cart, labels: {team: blue}}, spec: {owner: {projectName: shop}, type: Service}}",
    )
    .ok();
    promote(&up).ok();
    let promotion = ended(&up, "staging", "Succeeded");
    for (name, log) in [
        ("owned", Value::Null),
        ("change", json!(format!("{url}/change"))),
        ("load", json!(url)),
    ] {
        let gate = gate(&promotion, name);
        assert_eq!(
            (&gate["result"], &gate["log"]),
            (&json!("Passed"), &log),
            "{gate}"
        );
    }
    // The job ran in the source's cell, and its release is where its log is.
    let smoke = gate(&promotion, "smoke");
    assert_eq!(smoke["result"], "Passed");
    let release = smoke["log"].as_str().unwrap();
    let release = read(&up, release);
    assert_eq!(release["spec"]["environmentName"], "development");
    assert_eq!(release["spec"]["resources"][0]["object"]["kind"], "Job");

    let asked = server.asked()[before..].to_vec();
    let lines: Vec<&str> = asked.iter().map(|a| a.line.split(' ').next().unwrap()).collect();
    assert_eq!(lines, ["POST", "GET"], "each once, and the metric last");
    assert!(
        asked[0].headers.contains("authorization: Bearer Sesame"),
        "{asked:?}"
    );
    let body: Value = serde_json::from_str(&asked[0].body).unwrap();
    assert_eq!(
        (&body["component"], &body["targetEnvironment"], &body["artifact"]),
        (&json!("cart"), &json!("staging"), &json!(first))
    );
    assert!(
        asked[1]
            .headers
            .contains("authorization: Basic cmVhZGVyOnBhc3M6d29yZA=="),
        "{asked:?}"
    );
    assert!(
        asked[1]
            .line
            .contains("/api/v1/query?query=load%7Bns%3D%22dp-default-shop-staging"),
        "{asked:?}"
    );
    // What a gate is shown is shown to nobody else.
    let all = up.choreo(["get", "promotions", "-o", "json"]).ok();
    assert!(!all.contains("Sesame") && !all.contains("pass:word"));
}

#[test]
fn what_cannot_be_found_out_has_not_passed() {
    let up = Up::in_memory();
    let server = Server::start(|_| Answer::Code(500));
    let url = &server.address;
    gated(&up, "approvals: {minimum: 1}");
    built(&up, "registry.example.com/cart:1");

    // Tried again, as often as it says; then it is over.
    gated(
        &up,
        &format!("gates: [{{name: hook, retries: 2, retryAfter: 1s, webhook: {{url: '{url}'}}}}]"),
    );
    let said = promote(&up).fails(1);
    assert!(
        said.contains("gate \"hook\" is inconclusive, which is not passed") && said.contains("answered 500"),
        "{said}"
    );
    assert_eq!(server.asked().len(), 3);
    let last = newest(&up, "staging");
    assert_eq!(
        (&last["status"]["phase"], &last["status"]["reason"]),
        (&json!("Failed"), &json!("GateInconclusive"))
    );
    assert_eq!(gate(&last, "hook")["attempt"], 3);

    // It may come right before that.
    let times = Arc::new(Mutex::new(0));
    let count = Arc::clone(&times);
    server.say(move |_| {
        let mut times = count.lock().unwrap();
        *times += 1;
        Answer::Code(if *times == 1 { 503 } else { 200 })
    });
    promote(&up).ok();
    assert_eq!(*times.lock().unwrap(), 2);

    // No answer in time; a secret that is not there; a certificate that nobody here knows; no samples.
    server.say(|_| Answer::Silence);
    gated(
        &up,
        &format!("gates: [{{name: hook, timeout: 1s, webhook: {{url: '{url}'}}}}]"),
    );
    let said = promote(&up).fails(1);
    assert!(
        said.contains("inconclusive") && said.contains("in time"),
        "{said}"
    );
    server.say(|_| Answer::Value("NaN".to_owned()));
    gated(
        &up,
        &format!("gates: [{{name: m, metric: {{address: '{url}', query: up, min: '1'}}}}]"),
    );
    let said = promote(&up).fails(1);
    assert!(
        said.contains("inconclusive") && said.contains("the value is no number"),
        "{said}"
    );
    gated(
        &up,
        &format!(
            "gates: [{{name: m, metric: {{address: '{url}', query: up, min: '1', secretRef: nowhere}}}}]"
        ),
    );
    let said = promote(&up).fails(1);
    assert!(said.contains("Secret \"nowhere\" not found"), "{said}");
    // A server that says no has said no.
    server.say(|_| Answer::Code(403));
    gated(
        &up,
        &format!("gates: [{{name: hook, webhook: {{url: '{url}'}}}}]"),
    );
    let said = promote(&up).fails(1);
    assert!(said.contains("gate \"hook\" did not pass"), "{said}");
}

#[test]
fn a_server_is_trusted_by_the_authority_that_the_secret_names() {
    let up = Up::in_memory();
    // The platform's own API is a server with an authority that no machine knows.
    let kubeconfig: Value =
        serde_saphyr::from_str(&std::fs::read_to_string(up.kubeconfig()).unwrap()).unwrap();
    let cluster = &kubeconfig["clusters"][0]["cluster"];
    let server = cluster["server"].as_str().unwrap();
    let (scheme, rest) = server.split_once("://").unwrap();
    let origin = format!("{scheme}://{}", rest.split('/').next().unwrap());
    let demands =
        |secret: &str| format!("gates: [{{name: hook, webhook: {{url: '{origin}/readyz'{secret}}}}}]");
    gated(&up, &demands(""));
    built(&up, "registry.example.com/cart:1");
    let said = promote(&up).fails(1);
    assert!(
        said.contains("inconclusive") && said.contains("cannot be asked"),
        "{said}"
    );
    let authority = cluster["certificate-authority-data"].clone();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "known", "namespace": "default"}, "data": {"ca.crt": authority}});
    up.apply(&secret.to_string()).ok();
    gated(&up, &demands(", secretRef: known"));
    promote(&up).ok();
}

#[test]
fn a_canary_is_measured_against_the_stable_revision() {
    let up = Up::in_memory();
    let worse = Arc::new(Mutex::new("1.2".to_owned()));
    let value = Arc::clone(&worse);
    let server = Server::start(move |asked| {
        let canary = asked.line.contains("cart-canary");
        Answer::Value(if canary {
            value.lock().unwrap().clone()
        } else {
            "1".to_owned()
        })
    });
    gated(
        &up,
        &format!(
            "strategy: {{type: Canary, steps: [{{weight: 10, pause: 0s}}], analysis: [{{name: latency, metric: {{address: '{}', query: 'latency{{workload=\"${{workload}}\"}}', maxOfBaseline: '1.5'}}}}]}}",
            server.address
        ),
    );
    built(&up, "registry.example.com/cart:1");
    promote(&up).ok();
    assert!(
        server.asked().is_empty(),
        "the first has nothing to be measured against"
    );
    built(&up, "registry.example.com/cart:2");
    promote(&up).ok();
    let asked: Vec<bool> = server
        .asked()
        .iter()
        .map(|a| a.line.contains("cart-canary"))
        .collect();
    assert_eq!(asked, [true, false]);
    *worse.lock().unwrap() = "1.6".to_owned();
    built(&up, "registry.example.com/cart:3");
    let said = promote(&up).fails(1);
    assert!(
        said.contains("1.6 is more than 1.5 times the stable revision's 1"),
        "{said}"
    );
    assert_eq!(newest(&up, "staging")["status"]["phase"], "RolledBack");
    wait("the second never came back", || {
        let release = read(&up, "release/cart-staging");
        (runs(&release, "cart", "registry.example.com/cart:2")
            && !release.to_string().contains("cart-canary"))
        .then_some(())
    });
}
