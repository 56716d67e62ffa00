//! Who asks: people, Git, the pipeline itself; what is refused where it is written, and what takes whose place.

use super::*;
use crate::support::run_with_input;

/// As a GitOps tool does it.
#[track_caller]
fn written_into_git(up: &Up, environment: &str, artifact: &str) {
    let binding = format!(
        "{{apiVersion: openchoreo.dev/v1alpha1, kind: ServiceBinding, metadata: {{name: cart-{environment}, namespace: default}}, spec: {{owner: {{projectName: shop, componentName: cart}}, environment: {environment}, artifactRef: {artifact}}}}}"
    );
    kubectl(
        up,
        &["apply", "--server-side", "--force-conflicts", "-f", "-"],
        &binding,
    )
    .ok();
}

#[track_caller]
fn kubectl(up: &Up, arguments: &[&str], input: &str) -> Said {
    let Some(program) = crate::kubectl::kubectl() else {
        panic!("kubectl was looked for before")
    };
    let mut command = std::process::Command::new(program);
    command
        .env("KUBECONFIG", up.kubeconfig())
        .env("HOME", up.folder())
        .args(arguments);
    // What begins with a brace is read as JSON.
    run_with_input(&mut command, &format!("---\n{input}"))
}

#[test]
fn what_is_healthy_goes_on_by_itself_and_the_newer_one_passes_its_own_checks() {
    let up = Up::in_memory();
    up.apply(&shop(
        &(path("development", "staging", "autoPromote: true")
            + &path(
                "staging",
                "production",
                "autoPromote: true, approvals: {minimum: 2, users: [bob, cem]}",
            )),
    ))
    .ok();
    up.apply(PEOPLE).ok();
    let first = built(&up, "registry.example.com/cart:1");
    let staged = ended(&up, "staging", "Succeeded");
    assert_eq!(staged["spec"]["requestedBy"], "pipeline:guarded");
    assert_eq!(staged["status"]["artifact"], json!(first));
    let waiting = until_it_says(&up, "production", &["0 of 2 approvals"]);
    assert_eq!(waiting["spec"]["requestedBy"], "pipeline:guarded");
    acts_as(&up, "bob", &["team"], &["approve", "cart", "-e", "production"]).ok();
    until_it_says(&up, "production", &["1 of 2 approvals"]);

    // The next one takes the place of the one that waits, and none of its approvals.
    let second = built(&up, "registry.example.com/cart:2");
    let newer = wait("the second was never asked for in production", || {
        let newest = newest(&up, "production");
        (newest["status"]["artifact"] == json!(second) && says(&newest).contains("0 of 2 approvals"))
            .then_some(newest)
    });
    let older = read(
        &up,
        &format!("promotion/{}", waiting["metadata"]["name"].as_str().unwrap()),
    );
    assert!(says(&older).contains("Superseded"), "{}", says(&older));
    assert!(older["status"]["order"].as_i64() < newer["status"]["order"].as_i64());
    for person in ["bob", "cem"] {
        acts_as(&up, person, &["team"], &["approve", "cart", "-e", "production"]).ok();
    }
    ended(&up, "production", "Succeeded");
    wait("the second never ran in production", || {
        in_production(&up, "registry.example.com/cart:2").then_some(())
    });
    // Once for each artifact: nothing goes round in circles.
    assert_eq!(promotions(&up, "cart", "staging").len(), 2);
    assert_eq!(promotions(&up, "cart", "production").len(), 2);
}

#[test]
fn what_git_says_is_a_request_and_is_checked_as_any_other() {
    if crate::kubectl::kubectl().is_none() {
        return;
    }
    let up = before_production("approvals: {minimum: 1, users: [bob]}");
    let first = built(&up, "registry.example.com/cart:1");
    // The first of all comes from Git, too: there is no binding yet.
    written_into_git(&up, "production", &first);
    let asked = until_it_says(&up, "production", &["0 of 1 approvals"]);
    assert_eq!(asked["spec"]["fromBinding"], true);
    assert_eq!(asked["spec"]["requestedBy"], "choreo-admin");
    acts_as(&up, "bob", &["team"], &["approve", "cart"]).ok();
    ended(&up, "production", "Succeeded");
    wait("the first never ran", || {
        in_production(&up, "registry.example.com/cart:1").then_some(())
    });

    // Not in staging yet: refused, with the rule, and what ran goes on.
    let second = built(&up, "registry.example.com/cart:2");
    written_into_git(&up, "production", &second);
    until_it_says(
        &up,
        "production",
        &["Rejected", "RuleBroken", "ArtifactNotInSource"],
    );
    assert!(in_production(&up, "registry.example.com/cart:1"));
    let ready = wait("the binding never said why", || {
        let binding = read(&up, "servicebinding/cart-production");
        let text = binding["status"]["conditions"].to_string();
        text.contains("ArtifactNotInSource").then_some(text)
    });
    assert!(ready.contains("AwaitingPromotion"), "{ready}");

    // Back in Git, and once it is in staging, there again: that is a new request.
    written_into_git(&up, "production", &first);
    up.choreo(["promote", "cart", "--to", "staging", "--wait"]).ok();
    written_into_git(&up, "production", &second);
    until_it_says(&up, "production", &["AwaitingApproval", "0 of 1 approvals"]);
    assert!(in_production(&up, "registry.example.com/cart:1"));
    acts_as(&up, "bob", &["team"], &["approve", "cart"]).ok();
    ended(&up, "production", "Succeeded");
    wait("the second never ran", || {
        in_production(&up, "registry.example.com/cart:2").then_some(())
    });
}

#[test]
fn a_forbidden_promotion_is_refused_where_it_is_written_and_of_one_second_the_last_counts() {
    if crate::kubectl::kubectl().is_none() {
        return;
    }
    let up = Up::in_memory();
    up.apply(&shop(
        &(path("development", "staging", "approvals: {minimum: 1, users: [bob]}")
            + &path("staging", "production", "approvals: {minimum: 1}")),
    ))
    .ok();
    up.apply(PEOPLE).ok();
    built(&up, "registry.example.com/cart:1");
    let promotion = |name: &str, from: &str, to: &str, more: &str| {
        format!(
            "{{apiVersion: openchoreo.dev/v1alpha1, kind: Promotion, metadata: {{name: {name}, namespace: default}}, spec: {{owner: {{projectName: shop, componentName: cart}}, sourceEnvironment: {from}, targetEnvironment: {to}{more}}}}}"
        )
    };
    let create = |document: &str| kubectl(&up, &["create", "-f", "-"], document);
    // What the pipeline alone decides is refused at once.
    let said = create(&promotion("skips", "development", "production", "")).fails(1);
    assert!(
        said.contains("EnvironmentSkipped") && said.contains("spec.targetEnvironment"),
        "{said}"
    );
    let said = create(&promotion("back", "production", "development", "")).fails(1);
    assert!(said.contains("NoPath"), "{said}");
    // The rest depends on what runs, and ends it.
    create(&promotion("absent", "staging", "production", "")).ok();
    until_it_says(&up, "production", &["Rejected", "ArtifactNotInSource"]);
    create(&promotion(
        "unknown",
        "development",
        "staging",
        ", artifactRef: cart-none",
    ))
    .ok();
    until_it_says(&up, "staging", &["Rejected", "ArtifactNotFound"]);
    // Nobody signs for somebody else.
    create(&promotion(
        "signed",
        "development",
        "staging",
        ", requestedBy: bob, fromBinding: true",
    ))
    .ok();
    let signed = until_it_says(&up, "staging", &["0 of 1 approvals"]);
    assert_eq!(signed["spec"]["requestedBy"], "choreo-admin");
    assert_eq!(signed["spec"]["fromBinding"], Value::Null);

    // Three at once: the names say the opposite of what happened.
    let three: Vec<String> = ["zoe", "mia", "ada"]
        .iter()
        .map(|name| promotion(name, "development", "staging", ""))
        .collect();
    create(&three.join("\n---\n")).ok();
    let orders = wait("the three were not all looked at", || {
        let all = promotions(&up, "cart", "staging");
        let names: Vec<String> = all
            .iter()
            .filter(|p| p["status"]["order"].is_i64())
            .map(|p| p["metadata"]["name"].as_str().unwrap().to_owned())
            .collect();
        (names.len() == 5).then_some(names)
    });
    assert_eq!(orders, ["unknown", "signed", "zoe", "mia", "ada"]);
    until_it_says(&up, "staging", &["0 of 1 approvals"]);
    for name in ["signed", "zoe", "mia"] {
        wait(&format!("{name} was not superseded"), || {
            (read(&up, &format!("promotion/{name}"))["status"]["reason"] == "Superseded").then_some(())
        });
    }
    assert_eq!(read(&up, "promotion/ada")["status"]["phase"], "AwaitingApproval");
    // `cart` means the newest: an approval goes to the one that waits.
    let said = acts_as(&up, "bob", &["team"], &["approve", "cart"]).ok();
    assert!(said.contains("promotion.openchoreo.dev/ada approved"), "{said}");
    ended(&up, "staging", "Succeeded");
}
