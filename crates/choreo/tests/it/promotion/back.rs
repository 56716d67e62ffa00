//! The way back, and what is kept of everything.

use super::*;

fn revisions(up: &Up) -> Vec<(i64, bool, String)> {
    let list: Value = serde_json::from_str(
        &up.choreo(["get", "deployments.openchoreo.dev", "-o", "json"])
            .ok(),
    )
    .unwrap();
    let mut all: Vec<(i64, bool, String)> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|d| d["spec"]["environment"] == "production")
        .map(|d| {
            (
                d["spec"]["revision"].as_i64().unwrap(),
                d["status"]["proven"] == true,
                d["spec"]["deploymentArtifactRef"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
            )
        })
        .collect();
    all.sort();
    all
}

#[test]
fn the_way_back_does_not_wait_for_a_rollout_that_fails_and_passes_gates_only_where_it_must() {
    let up = Up::in_memory();
    let server = Server::start(|_| Answer::Code(200));
    // In production there is room for one pod only: a second one, which a rolling update needs, is refused.
    up.apply(
        "{apiVersion: openchoreo.dev/v1alpha1, kind: Environment, metadata: {name: production}, spec: {dataPlaneRef: default, isProduction: true, resourceQuotas: {pods: '1'}}}",
    )
    .ok();
    up.apply(&shop(
        &(path("development", "staging", "")
            + &path(
                "staging",
                "production",
                &format!(
                    "gates: [{{name: change, webhook: {{url: '{}'}}}}], historyLimit: 3",
                    server.address
                ),
            )),
    ))
    .ok();
    built(&up, "registry.example.com/cart:1");
    up.choreo(["promote", "cart", "--to", "staging", "--wait"]).ok();
    up.choreo(["promote", "cart", "--to", "production", "--wait"])
        .ok();
    built(&up, "registry.example.com/cart:2");
    up.choreo(["promote", "cart", "--to", "staging", "--wait"]).ok();
    up.choreo(["promote", "cart", "--to", "production", "-m", "does not fit"])
        .ok();
    let failing = newest(&up, "production");
    wait("the second was never rolled out", || {
        in_production(&up, "registry.example.com/cart:2").then_some(())
    });
    wait("its pod was not refused", || {
        let release = read(&up, "release/cart-production");
        release["status"].to_string().contains("quota").then_some(())
    });

    // Back, while that is stuck.
    let asked = server.asked().len();
    let began = Instant::now();
    up.choreo(["rollback", "cart", "-e", "production", "-m", "stuck"])
        .ok();
    wait("the first was not wanted again", || {
        in_production(&up, "registry.example.com/cart:1").then_some(())
    });
    let took = began.elapsed();
    eprintln!(
        "desired state was back {} ms after the command began",
        took.as_millis()
    );
    let back = ended(&up, "production", "Succeeded");
    assert_eq!(
        (&back["spec"]["reason"], &back["spec"]["sourceEnvironment"]),
        (&json!("stuck"), &Value::Null)
    );
    assert_eq!(
        server.asked().len(),
        asked,
        "no gate is asked about what was healthy here"
    );
    let failing = read(
        &up,
        &format!("promotion/{}", failing["metadata"]["name"].as_str().unwrap()),
    );
    // Which of them it is is chance: the quota's word may have come before the way back was asked for.
    let end = (&failing["status"]["phase"], &failing["status"]["reason"]);
    let ends = [("RolledBack", "Preempted"), ("Failed", "Unhealthy")];
    assert!(
        ends.iter()
            .any(|(phase, reason)| end == (&json!(phase), &json!(reason))),
        "{end:?}"
    );

    // To a revision that is kept and was never healthy here: possible, and every gate is asked.
    let all = revisions(&up);
    let unproven = all
        .iter()
        .find(|(_, proven, _)| !proven)
        .unwrap_or_else(|| panic!("{all:?}"));
    server.say(|_| Answer::Code(403));
    let to = unproven.0.to_string();
    let said = up
        .choreo(["rollback", "cart", "-e", "production", "--to", &to])
        .fails(1);
    assert!(said.contains("gate \"change\" did not pass"), "{said}");
    assert!(in_production(&up, "registry.example.com/cart:1"));
    let said = up
        .choreo(["rollback", "cart", "-e", "production", "--to", "77"])
        .fails(4);
    assert!(said.contains("there is no revision 77"), "{said}");
}

#[test]
fn what_happened_is_kept_up_to_a_limit_and_told_as_events() {
    let up = Up::in_memory();
    up.apply(&shop(
        &(path("development", "staging", "")
            + &path(
                "staging",
                "production",
                "approvals: {minimum: 1, users: [bob]}, historyLimit: 2",
            )),
    ))
    .ok();
    up.apply(PEOPLE).ok();
    built(&up, "registry.example.com/cart:1");
    up.choreo(["promote", "cart", "--to", "staging", "--wait"]).ok();
    let mut names = Vec::new();
    // The first goes past everything, and is kept for ever.
    up.choreo([
        "promote",
        "cart",
        "--to",
        "production",
        "--bypass",
        "shop is down",
        "--wait",
    ])
    .ok();
    names.push(
        newest(&up, "production")["metadata"]["name"]
            .as_str()
            .unwrap()
            .to_owned(),
    );
    for version in 2..5 {
        built(&up, &format!("registry.example.com/cart:{version}"));
        up.choreo(["promote", "cart", "--to", "staging", "--wait"]).ok();
        acts_as(
            &up,
            "ann",
            &["team"],
            &[
                "promote",
                "cart",
                "--to",
                "production",
                "-m",
                &format!("number {version}"),
            ],
        )
        .ok();
        acts_as(
            &up,
            "bob",
            &["team"],
            &["approve", "cart", "-m", &format!("fine {version}")],
        )
        .ok();
        let done = wait("it never ended", || {
            let newest = newest(&up, "production");
            (newest["status"]["phase"] == "Succeeded"
                && newest["spec"]["reason"] == format!("number {version}"))
            .then_some(newest)
        });
        names.push(done["metadata"]["name"].as_str().unwrap().to_owned());
    }
    wait("the oldest was not removed", || {
        let kept: Vec<String> = promotions(&up, "cart", "production")
            .iter()
            .map(|p| p["metadata"]["name"].as_str().unwrap().to_owned())
            .collect();
        (kept == [&names[0], &names[2], &names[3]].map(Clone::clone)).then_some(())
    });
    // What was said about it went with it.
    wait("decisions about it stayed", || {
        let all = up.choreo(["get", "promotiondecisions", "-o", "json"]).ok();
        (!all.contains(&names[1]) && all.contains(&names[3])).then_some(())
    });
    // Who, what, when, why, the difference, the approvals.
    let said = up.choreo(["history", &names[3]]).ok();
    for words in [
        "asked by   ann at 20",
        "why        number 4",
        "registry.example.com/cart:3\" -> \"registry.example.com/cart:4",
        "Approved  fine 4",
        "RollingOut",
        "Succeeded",
    ] {
        assert!(said.contains(words), "no {words:?} in {said}");
    }
    let said = up.choreo(["history", &names[0]]).ok();
    assert!(
        said.contains("bypassed   by choreo-admin: shop is down"),
        "{said}"
    );
    // The same as events, for whoever watches those.
    let reasons = |name: &str| {
        let list = up.choreo(["get", "events.events.k8s.io", "-o", "json"]).ok();
        let list: Value = serde_json::from_str(&list).unwrap();
        let mut all: Vec<String> = list["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|event| event["regarding"]["name"] == name && event["regarding"]["kind"] == "Promotion")
            .map(|event| event["reason"].as_str().unwrap().to_owned())
            .collect();
        all.sort();
        all
    };
    wait("events are missing", || {
        let (ordinary, past) = (reasons(&names[3]), reasons(&names[0]));
        let has = |all: &[String], wanted: &[&str]| wanted.iter().all(|w| all.iter().any(|r| r == w));
        (has(&ordinary, &["AwaitingApproval", "RollingOut", "Succeeded"])
            && has(&past, &["Bypassed", "Succeeded"]))
        .then_some(())
    });
}
