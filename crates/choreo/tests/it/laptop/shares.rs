//! A canary's share of the requests, counted at the real gateway with real containers.

use std::collections::BTreeMap;

use choreo_testkit::probe;

use super::{Laptop, engine};

const HOST: &str = "weights.openchoreoapis.localhost";
const CALLS: usize = 400;

fn version(name: &str) -> String {
    let image = probe::IMAGE;
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: weights}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {{name: main, image: '{image}', args: [serve, --port, '8080', --name, {name}], readinessProbe: {{tcpSocket: {{port: 8080}}}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: weights}}
spec: {{selector: {{app: {name}}}, ports: [{{port: 80, targetPort: 8080}}]}}
---
"
    )
}

fn route(stable: u32, canary: u32) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: weights, namespace: weights}}
spec:
  parentRefs: [{{name: gateway-external, namespace: openchoreo-data-plane}}]
  hostnames: [{HOST}]
  rules:
  - backendRefs:
    - {{name: stable, port: 80, weight: {stable}}}
    - {{name: canary, port: 80, weight: {canary}}}
"
    )
}

#[test]
fn a_canary_gets_its_share_of_the_requests() {
    let Some(host) = engine() else { return };
    let laptop = Laptop::start(host);
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: weights}\n---\n";
    let all = [namespace, &version("stable"), &version("canary"), &route(0, 1)].concat();
    laptop.apply_below(&all);
    laptop.until(HOST, "/", |status, body| (status, body) == (200, "canary"));
    laptop.apply_below(&route(1, 0));
    laptop.until(HOST, "/", |status, body| (status, body) == (200, "stable"));

    let count = || {
        let mut answers = BTreeMap::<(u16, String), usize>::new();
        for _ in 0..CALLS {
            *answers.entry(laptop.get(HOST, "/")).or_default() += 1;
        }
        let of = |name: &str| answers.get(&(200, name.to_owned())).copied().unwrap_or(0);
        assert_eq!(of("stable") + of("canary"), CALLS, "{answers:?}");
        of("canary")
    };
    assert_eq!(count(), 0);
    // Six standard deviations on both sides: 40 and 6, 200 and 10.
    laptop.apply_below(&route(90, 10));
    laptop.until(HOST, "/", |_, body| body == "canary");
    let tenth = count();
    assert!((4..=76).contains(&tenth), "{tenth} of {CALLS}");
    laptop.apply_below(&route(1, 1));
    laptop.until_accepted("httproute", "weights", "weights");
    let half = count();
    assert!((140..=260).contains(&half), "{half} of {CALLS}");
    laptop.apply_below(&route(0, 100));
    laptop.until_accepted("httproute", "weights", "weights");
    assert_eq!(count(), CALLS);
    laptop.choreo(&["--context", "local", "delete", "namespace", "weights", "--wait"]);
}
