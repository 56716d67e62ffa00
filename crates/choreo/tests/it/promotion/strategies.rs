//! How a new revision replaces the old one, as far as objects show it. What traffic does is in `preview.rs`.

use super::*;

/// The objects of a kind in a release.
fn objects(up: &Up, release: &str, kind: &str) -> Vec<Value> {
    let release = read(up, &format!("release/{release}"));
    let all = release["spec"]["resources"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    all.into_iter()
        .map(|r| r["object"].clone())
        .filter(|object| object["kind"] == kind)
        .collect()
}

#[test]
fn a_canary_waits_for_somebody_and_goes_back_at_once() {
    let up = Up::in_memory();
    up.apply(&shop(&path(
        "development",
        "staging",
        "strategy: {type: Canary, steps: [{weight: 20}, {weight: 60}], testers: {name: x-tester, value: 'yes'}}",
    )))
    .ok();
    built(&up, "registry.example.com/cart:1");
    up.choreo(["promote", "cart", "--to", "staging", "--wait"]).ok();
    built(&up, "registry.example.com/cart:2");
    up.choreo(["promote", "cart", "--to", "staging"]).ok();
    until_it_says(
        &up,
        "staging",
        &["step 1 of 2 (20%): somebody has to say to go on"],
    );
    let route = objects(&up, "cart-staging", "HTTPRoute").remove(0);
    let rules = route["spec"]["rules"].as_array().unwrap();
    assert_eq!(rules[0]["matches"][0]["headers"][0]["name"], "x-tester");
    assert_eq!(rules[0]["backendRefs"].as_array().unwrap().len(), 1);
    let weights: Vec<(&Value, &Value)> = rules[1]["backendRefs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|b| (&b["name"], &b["weight"]))
        .collect();
    assert_eq!(
        weights,
        [(&json!("cart"), &json!(80)), (&json!("cart-canary"), &json!(20))]
    );
    let said = up.choreo(["approve", "cart"]).ok();
    assert!(said.contains("goes on"), "{said}");
    until_it_says(
        &up,
        "staging",
        &["step 2 of 2 (60%): somebody has to say to go on"],
    );
    let said = up.choreo(["reject", "cart", "-m", "slow"]).ok();
    assert!(said.contains("is stopped"), "{said}");
    let stopped = until_it_says(
        &up,
        "staging",
        &["RolledBack", "Aborted", "choreo-admin stopped it"],
    );
    assert_eq!(stopped["status"]["released"], Value::Null);
    wait("the canary's objects stayed", || {
        let release = read(&up, "release/cart-staging");
        (runs(&release, "cart", "registry.example.com/cart:1")
            && !release.to_string().contains("cart-canary"))
        .then_some(())
    });
}

#[test]
fn all_at_once_stops_the_old_ones_before_the_new_ones_start() {
    let up = Up::in_memory();
    up.apply(&shop(&path(
        "development",
        "staging",
        "strategy: {type: AllAtOnce}",
    )))
    .ok();
    built(&up, "registry.example.com/cart:1");
    up.choreo(["promote", "cart", "--to", "staging", "--wait"]).ok();
    let strategy = |release: &str| objects(&up, release, "Deployment").remove(0)["spec"]["strategy"].clone();
    assert_eq!(strategy("cart-staging"), json!({"type": "Recreate"}));
    assert_ne!(strategy("cart-development")["type"], "Recreate");
}

#[test]
fn a_name_that_the_new_revision_would_need_is_nobody_elses() {
    let up = Up::in_memory();
    up.apply(&shop(&path(
        "development",
        "staging",
        "strategy: {type: BlueGreen}",
    )))
    .ok();
    built(&up, "registry.example.com/cart:1");
    up.apply(
        "{apiVersion: openchoreo.dev/v1alpha1, kind: Component, metadata: {name: cart-canary}, spec: {owner: {projectName: shop}, type: Service}}",
    )
    .ok();
    let said = up
        .choreo(["promote", "cart", "--to", "staging", "--wait"])
        .fails(1);
    assert!(
        said.contains("CandidateNameTaken") && said.contains("component \"cart-canary\""),
        "{said}"
    );
}
