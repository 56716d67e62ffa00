//! Approvals: whose count, for what, and until when.

use super::*;

fn waits(up: &Up, words: &[&str]) {
    until_it_says(up, "production", words);
}

#[test]
fn an_approval_is_of_what_was_seen_by_somebody_who_may_until_it_is_taken_back() {
    let up = before_production(
        "approvals: {minimum: 2, users: [bob], groups: [release-managers], notAuthor: true}",
    );
    let cem = ["team", "release-managers"];
    // Cem asks, and is one of those who may approve others' requests.
    acts_as(&up, "cem", &cem, &["promote", "cart", "--to", "production"]).ok();
    acts_as(&up, "cem", &cem, &["approve", "cart"]).ok();
    waits(&up, &["0 of 2", "that of cem does not count: asked for it"]);
    // Eve is a member of another group, whatever she writes.
    let name = newest(&up, "production")["metadata"]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    acts_as(&up, "eve", &["team"], &["approve", "cart"]).ok();
    waits(
        &up,
        &["that of eve does not count: is not one of those who may approve"],
    );
    let status = &newest(&up, "production")["status"];
    let forged = json!({
        "apiVersion": "openchoreo.dev/v1alpha1", "kind": "PromotionDecision",
        "metadata": {"name": "forged", "namespace": "default"},
        "spec": {"promotionRef": name, "decision": "Approved", "user": "bob", "groups": ["release-managers"],
                 "digest": status["digest"], "diff": status["diff"]},
    });
    let file = up.folder().join("forged.json");
    std::fs::write(&file, forged.to_string()).unwrap();
    acts_as(&up, "eve", &["team"], &["apply", "-f", file.to_str().unwrap()]).ok();
    let written = wait("the decision was not written", || {
        let object = read(&up, "promotiondecision/forged");
        object["spec"]["user"].is_string().then_some(object)
    });
    assert_eq!(written["spec"]["user"], "eve");
    assert!(
        !written["spec"]["groups"].to_string().contains("release-managers"),
        "{written}"
    );
    waits(&up, &["0 of 2"]);
    // Nobody changes what somebody else has said, or says it again as another.
    let mut changed = written;
    changed["spec"]["decision"] = json!("Rejected");
    std::fs::write(&file, changed.to_string()).unwrap();
    let said = up
        .choreo(["apply", "--force-conflicts", "-f", file.to_str().unwrap()])
        .fails(1);
    assert!(said.contains("cannot be changed"), "{said}");

    // Bob's word counts until he takes it back.
    acts_as(&up, "bob", &["team"], &["approve", "cart", "-m", "looks fine"]).ok();
    waits(&up, &["1 of 2"]);
    acts_as(&up, "bob", &["team"], &["approve", "cart", "--withdraw"]).ok();
    waits(&up, &["0 of 2"]);
    acts_as(&up, "bob", &["team"], &["approve", "cart"]).ok();
    waits(&up, &["1 of 2"]);
    // The difference changes: production gets two replicas. What bob saw is not what would be done.
    let override_ = "{apiVersion: openchoreo.dev/v1alpha1, kind: ServiceBinding, metadata: {name: cart-production}, spec: {owner: {projectName: shop, componentName: cart}, environment: production, overrides: {replicas: 2}}}";
    up.apply(override_).ok();
    waits(
        &up,
        &[
            "0 of 2",
            "that of bob does not count: approved before the rendered difference changed",
        ],
    );
    acts_as(&up, "bob", &["team"], &["approve", "cart"]).ok();
    acts_as(&up, "dan", &cem, &["approve", "cart", "-m", "go"]).ok();
    let done = ended(&up, "production", "Succeeded");
    assert_eq!(done["status"]["approvedBy"], json!(["bob", "dan"]));
    // Everything that was said is kept, with comments and times.
    let said = up.choreo(["history", &name]).ok();
    for words in [
        "asked by   cem at",
        "bob",
        "Withdrawn",
        "looks fine",
        "dan",
        "go",
        "eve",
    ] {
        assert!(said.contains(words), "no {words:?} in {said}");
    }

    // One of those who may says no: it is over.
    built(&up, "registry.example.com/cart:2");
    up.choreo(["promote", "cart", "--to", "staging", "--wait"]).ok();
    acts_as(&up, "ann", &["team"], &["promote", "cart", "--to", "production"]).ok();
    acts_as(&up, "eve", &["team"], &["reject", "cart"]).ok();
    waits(&up, &["0 of 2", "that of eve does not count"]);
    acts_as(
        &up,
        "bob",
        &["team"],
        &["reject", "cart", "-m", "not on a friday"],
    )
    .ok();
    waits(&up, &["Rejected", "bob said no"]);
    assert!(in_production(&up, "registry.example.com/cart:1"));
}
