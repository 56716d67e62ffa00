//! From development over staging to production, as people do it at the command line.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::{Value, json};

use crate::support::{PATIENCE, Said, Up, run};

/// A server that says what a metric is, in the words of Prometheus, and counts who asks.
struct Metrics {
    address: String,
    value: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
}

impl Metrics {
    fn start(value: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let value = Arc::new(Mutex::new(value.to_owned()));
        let asked = Arc::new(AtomicUsize::new(0));
        let (told, count) = (Arc::clone(&value), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut reader = BufReader::new(stream);
                let mut length = 0;
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
                    if let Some(n) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                        length = n.trim().parse().unwrap();
                    }
                    line.clear();
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let answer = json!({"status": "success", "data": {"resultType": "vector",
                    "result": [{"metric": {}, "value": [0, told.lock().unwrap().clone()]}]}})
                .to_string();
                let _ = write!(
                    reader.get_mut(),
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}",
                    answer.len()
                );
            }
        });
        Self {
            address,
            value,
            asked,
        }
    }

    fn set(&self, value: &str) {
        *self.value.lock().unwrap() = value.to_owned();
    }
}

fn platform(metrics: &str) -> String {
    format!(
        "
apiVersion: openchoreo.dev/v1alpha1
kind: DeploymentPipeline
metadata: {{name: guarded}}
spec:
  promotionPaths:
    - sourceEnvironmentRef: development
      targetEnvironmentRefs:
        - name: staging
          gates:
            - {{name: soak, healthyFor: 1s}}
            - {{name: smoke, stage: 1, timeout: 60s, job: {{image: 'registry.example.com/smoke:1'}}}}
    - sourceEnvironmentRef: staging
      targetEnvironmentRefs:
        - name: production
          approvals: {{minimum: 2, users: [ann, bob], groups: [release-managers], notAuthor: true, validFor: 6s}}
          strategy:
            type: Canary
            steps: [{{weight: 10, pause: 0s}}, {{weight: 50, pause: 0s}}, {{weight: 100, pause: 0s}}]
            analysis:
              - {{name: errors, timeout: 10s, metric: {{address: '{metrics}', query: 'errors{{workload=\"${{workload}}\"}}', max: '0.05'}}}}
---
apiVersion: openchoreo.dev/v1alpha1
kind: Project
metadata: {{name: shop}}
spec: {{deploymentPipelineRef: guarded}}
"
    )
}

fn app(image: &str) -> String {
    format!(
        "
apiVersion: openchoreo.dev/v1alpha1
kind: Component
metadata: {{name: cart}}
spec: {{owner: {{projectName: shop}}, type: Service}}
---
apiVersion: openchoreo.dev/v1alpha1
kind: Workload
metadata: {{name: cart}}
spec:
  owner: {{projectName: shop, componentName: cart}}
  containers: {{main: {{image: \"{image}\"}}}}
  endpoints: {{http: {{type: HTTP, port: 8080, visibility: public}}}}
---
apiVersion: openchoreo.dev/v1alpha1
kind: Service
metadata: {{name: cart}}
spec:
  owner: {{projectName: shop, componentName: cart}}
  workloadName: cart
"
    )
}

fn read(up: &Up, object: &str) -> Value {
    serde_json::from_str(&up.choreo(["get", object, "-o", "json"]).out).unwrap_or_default()
}

/// Waits until something is so.
#[track_caller]
fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

/// The newest artifact, once it is healthy in development.
#[track_caller]
fn built(up: &Up, image: &str) -> String {
    up.apply(&app(image)).ok();
    wait(&format!("{image} never ran in development"), || {
        let release = read(up, "release/cart-development");
        runs(&release, "cart", image).then_some(())?;
        let binding = read(up, "servicebinding/cart-development");
        let ready = binding["status"]["conditions"]
            .as_array()?
            .iter()
            .any(|c| c["type"] == "Ready" && c["status"] == "True");
        ready.then(|| {
            binding["spec"]["artifactRef"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        })
    })
}

/// Whether a release has a workload of this name with this image.
fn runs(release: &Value, workload: &str, image: &str) -> bool {
    release["spec"]["resources"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|r| {
            r["object"]["kind"] == "Deployment"
                && r["object"]["metadata"]["name"] == workload
                && r.pointer("/object/spec/template/spec/containers/0/image") == Some(&json!(image))
        })
}

fn in_production(up: &Up, image: &str) -> bool {
    let release = read(up, "release/cart-production");
    runs(&release, "cart", image) && !release.to_string().contains("cart-canary")
}

/// The program as somebody else, by impersonation.
fn acts_as(up: &Up, user: &str, groups: &[&str], arguments: &[&str]) -> Said {
    let text = std::fs::read_to_string(up.kubeconfig()).unwrap();
    let mut config: Value = serde_saphyr::from_str(&text).unwrap();
    for entry in config["users"].as_array_mut().unwrap() {
        entry["user"]["as"] = json!(user);
        entry["user"]["as-groups"] = json!(groups);
    }
    let file = up.folder().join(format!("kubeconfig-{user}"));
    std::fs::write(&file, config.to_string()).unwrap();
    let mut command = up.command(arguments);
    command.env("KUBECONFIG", file);
    run(&mut command)
}

/// Somebody with the right to do everything about promotions but to go past them.
const PEOPLE: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: promoter}
rules:
  - {apiGroups: [openchoreo.dev], resources: ['*'], verbs: [get, list, watch]}
  - {apiGroups: [openchoreo.dev], resources: [promotions, promotiondecisions, servicebindings], verbs: [create, patch, update]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: promoters}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: promoter}
subjects:
  - {apiGroup: rbac.authorization.k8s.io, kind: Group, name: team}
";

fn newest(up: &Up, environment: &str) -> Value {
    let list: Value = serde_json::from_str(&up.choreo(["get", "promotions", "-o", "json"]).ok()).unwrap();
    let mut all: Vec<Value> = list["items"].as_array().cloned().unwrap_or_default();
    all.retain(|p| p["spec"]["targetEnvironment"] == environment);
    // Several may be of the same second: then the one that has not ended is the newest.
    let ended = [
        "Succeeded",
        "RolledBack",
        "Rejected",
        "Failed",
        "Superseded",
        "Expired",
        "Aborted",
    ];
    all.sort_by_key(|p| {
        (
            p["metadata"]["creationTimestamp"].to_string(),
            !ended.contains(&p["status"]["phase"].as_str().unwrap_or_default()),
            p["metadata"]["name"].to_string(),
        )
    });
    all.pop().unwrap_or_default()
}

#[track_caller]
fn ended(up: &Up, environment: &str, phase: &str) -> Value {
    wait(&format!("no promotion to {environment} ended as {phase}"), || {
        Some(newest(up, environment)).filter(|p| p["status"]["phase"] == phase)
    })
}

#[test]
fn from_development_to_production_and_back() {
    let up = Up::in_memory();
    let metrics = Metrics::start("0.01");
    up.apply(&platform(&metrics.address)).ok();
    up.apply(PEOPLE).ok();
    let first = built(&up, "registry.example.com/cart:1");

    // Production is two steps away.
    let said = up
        .choreo(["promote", "cart", "--from", "development", "--to", "production"])
        .fails(1);
    assert!(said.contains("EnvironmentSkipped"), "{said}");

    // Staging: a soak, then a job.
    let said = up.choreo(["promote", "cart", "--to", "staging", "--wait"]).ok();
    assert!(
        said.contains("+ deployment-cart") && said.contains("Succeeded"),
        "{said}"
    );
    let promotion = ended(&up, "staging", "Succeeded");
    let gates = promotion["status"]["gates"].to_string();
    assert!(gates.contains("smoke") && gates.contains("Passed"), "{gates}");

    // Production: nobody may approve what they asked for, and two have to.
    let asked = acts_as(
        &up,
        "ann",
        &["team"],
        &["promote", "cart", "--to", "production", "-m", "first release"],
    );
    assert!(asked.ok().contains("0 of 2 approvals"));
    acts_as(&up, "ann", &["team"], &["approve", "cart"]).ok();
    acts_as(&up, "bob", &["team"], &["approve", "cart", "-m", "looks fine"]).ok();
    let waits = wait("bob's approval was not seen", || {
        let waits = newest(&up, "production")["status"]["waitsFor"].to_string();
        waits.contains("1 of 2").then_some(waits)
    });
    assert!(waits.contains("ann does not count: asked for it"), "{waits}");
    // It expires.
    wait("bob's approval never expired", || {
        let waits = newest(&up, "production")["status"]["waitsFor"].to_string();
        waits
            .contains("bob does not count: approved too long ago")
            .then_some(())
    });
    acts_as(&up, "cem", &["team", "release-managers"], &["approve", "cart"]).ok();
    acts_as(&up, "bob", &["team"], &["approve", "cart"]).ok();
    let promotion = ended(&up, "production", "Succeeded");
    assert_eq!(promotion["spec"]["requestedBy"], "ann");
    assert_eq!(promotion["status"]["artifact"], json!(first));
    wait("the first never ran in production", || {
        in_production(&up, "registry.example.com/cart:1").then_some(())
    });

    // What was not promoted does not run, whoever writes it there.
    let second = built(&up, "registry.example.com/cart:2");
    up.choreo(["promote", "cart", "--to", "staging", "--wait"]).ok();
    let binding = format!(
        "{{apiVersion: openchoreo.dev/v1alpha1, kind: ServiceBinding, metadata: {{name: cart-production}}, spec: {{owner: {{projectName: shop, componentName: cart}}, environment: production, artifactRef: {second}}}}}"
    );
    let before = newest(&up, "production")["metadata"]["name"].clone();
    let file = up.folder().join("binding.yaml");
    std::fs::write(&file, binding).unwrap();
    up.choreo(["apply", "--force-conflicts", "-f", file.to_str().unwrap()])
        .ok();
    let written = wait("writing the artifact asked for no promotion", || {
        let newest = newest(&up, "production");
        (newest["metadata"]["name"] != before && newest["status"]["phase"] == "AwaitingApproval")
            .then_some(newest)
    });
    assert_eq!(written["spec"]["fromBinding"], true);
    assert_eq!(written["spec"]["requestedBy"], "choreo-admin", "{written:#}");
    assert!(in_production(&up, "registry.example.com/cart:1"));

    // A failing analysis brings the old one back.
    metrics.set("0.2");
    let asked = metrics.asked.load(Ordering::SeqCst);
    acts_as(&up, "ann", &["team"], &["approve", "cart"]).ok();
    acts_as(&up, "bob", &["team"], &["approve", "cart"]).ok();
    let promotion = ended(&up, "production", "RolledBack");
    let last = promotion["status"]["history"]
        .as_array()
        .unwrap()
        .last()
        .unwrap()
        .clone();
    assert!(
        last["message"].to_string().contains("0.2 is above 0.05"),
        "{last}"
    );
    assert!(metrics.asked.load(Ordering::SeqCst) > asked);
    wait("the old one never came back", || {
        in_production(&up, "registry.example.com/cart:1").then_some(())
    });

    // While it is frozen nothing goes there, but an emergency does, with a right of its own.
    metrics.set("0.01");
    up.choreo(["freeze", "production", "--for", "1h", "-m", "audit"])
        .ok();
    acts_as(&up, "ann", &["team"], &["promote", "cart", "--to", "production"]).ok();
    acts_as(&up, "bob", &["team"], &["approve", "cart"]).ok();
    acts_as(&up, "cem", &["team", "release-managers"], &["approve", "cart"]).ok();
    wait("the freeze was not waited for", || {
        let waits = newest(&up, "production")["status"]["waitsFor"].to_string();
        waits.contains("manual").then_some(())
    });
    let said = up.choreo(["pipeline", "shop"]).ok();
    assert!(
        said.contains("FROZEN") && said.contains("Canary 10% 50% 100%"),
        "{said}"
    );
    let refused = acts_as(
        &up,
        "ann",
        &["team"],
        &[
            "promote",
            "cart",
            "--to",
            "production",
            "--bypass",
            "checkout is down",
        ],
    );
    assert!(refused.fails(1).contains("promotionbypasses"));
    up.choreo([
        "promote",
        "cart",
        "--to",
        "production",
        "--bypass",
        "checkout is down",
        "--wait",
    ])
    .ok();
    let promotion = ended(&up, "production", "Succeeded");
    assert_eq!(promotion["status"]["bypass"]["reason"], "checkout is down");
    let said = up.choreo(["history", "cart", "-e", "production"]).ok();
    assert!(
        said.contains("BYPASSED") && said.contains("first release"),
        "{said}"
    );
    let name = promotion["metadata"]["name"].as_str().unwrap();
    up.choreo(["delete", &format!("promotion/{name}")]).fails(1);

    // The way back passes no gate, in a freeze as well.
    up.choreo(["rollback", "cart", "-e", "production"]).ok();
    wait("the way back was not gone", || {
        in_production(&up, "registry.example.com/cart:1").then_some(())
    });
    up.choreo(["freeze", "production", "--off"]).ok();
}
