//! From development over staging to production and back, with everything that a way can demand.

use serde_json::json;

use super::*;

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

#[test]
fn from_development_to_production_and_back() {
    let up = Up::in_memory();
    let metrics = Server::start(|_| Answer::Value("0.01".to_owned()));
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
    metrics.say(|_| Answer::Value("0.2".to_owned()));
    let asked = metrics.asked().len();
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
    assert!(metrics.asked().len() > asked);
    wait("the old one never came back", || {
        in_production(&up, "registry.example.com/cart:1").then_some(())
    });

    // While it is frozen nothing goes there, but an emergency does, with a right of its own.
    metrics.say(|_| Answer::Value("0.01".to_owned()));
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
