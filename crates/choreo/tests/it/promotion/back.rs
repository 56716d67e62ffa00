//! The way back, and what is kept of everything.

use std::time::Duration;

use super::*;
use crate::support::Background;

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

/// Longest time until what ran before is wanted again.
const BACK: Duration = Duration::from_secs(2);

/// When a watch first shows an object that is so. It has begun to watch when this returns.
fn shown(
    up: &Up,
    what: &str,
    is_so: impl Fn(&Value) -> bool + Send + 'static,
) -> std::thread::JoinHandle<Instant> {
    let watch = Background::start(&mut up.command(["get", what, "-o", "json", "--watch"]));
    let next = move || -> Value {
        let mut text = String::new();
        loop {
            let line = watch
                .lines
                .recv_timeout(PATIENCE)
                .expect("the watch says nothing");
            text += &line;
            if line == "}" {
                return serde_json::from_str(&text).unwrap();
            }
        }
    };
    next();
    std::thread::spawn(move || {
        while !is_so(&next()) {}
        Instant::now()
    })
}

/// Goes back in production, and looks how long it takes from the request until the release is the first version's.
#[track_caller]
fn goes_back(up: &Up, arguments: &[&str]) {
    let asked = shown(up, "promotions", |promotion| {
        let name = promotion["metadata"]["name"].as_str().unwrap_or_default();
        name.starts_with("cart-production-back-")
    });
    let wanted = shown(up, "release/cart-production", |release| {
        runs(release, "cart", "registry.example.com/cart:1") && !release.to_string().contains("cart:2")
    });
    let began = Instant::now();
    up.choreo(["rollback", "cart", "-e", "production"].iter().chain(arguments))
        .ok();
    let (asked, wanted) = (asked.join().unwrap(), wanted.join().unwrap());
    let took = wanted.saturating_duration_since(asked);
    eprintln!(
        "desired state was back {} ms after it was asked for, {} ms after the command began",
        took.as_millis(),
        wanted.duration_since(began).as_millis()
    );
    assert!(took < BACK, "{took:?}");
}

/// How a promotion ended that was the newest before.
fn end_of(up: &Up, promotion: &Value) -> (String, String) {
    let name = promotion["metadata"]["name"].as_str().unwrap();
    let now = read(up, &format!("promotion/{name}"));
    let text = |field: &str| now["status"][field].as_str().unwrap_or_default().to_owned();
    (text("phase"), text("reason"))
}

#[test]
fn the_way_back_ends_a_rollout_that_is_under_way() {
    let up = before_production("strategy: {type: Canary, steps: [{weight: 50}]}");
    up.choreo(["promote", "cart", "--to", "production", "--wait"])
        .ok();
    in_staging(&up, 2);
    up.choreo(["promote", "cart", "--to", "production"]).ok();
    let under_way = until_it_says(&up, "production", &["somebody has to say to go on"]);
    goes_back(&up, &["--to", "1"]);
    ended(&up, "production", "Succeeded");
    let end = end_of(&up, &under_way);
    assert_eq!(end, ("RolledBack".to_owned(), "Preempted".to_owned()));
}

#[test]
fn the_way_back_leads_out_of_a_failed_rollout_and_passes_gates_only_where_it_must() {
    let server = Server::start(|_| Answer::Code(200));
    let up = before_production(&format!(
        "gates: [{{name: change, webhook: {{url: '{}'}}}}], historyLimit: 3",
        server.address
    ));
    // In production there is room for one pod only: a second one, which a rolling update needs, is refused.
    up.apply(
        "{apiVersion: openchoreo.dev/v1alpha1, kind: Environment, metadata: {name: production}, spec: {dataPlaneRef: default, isProduction: true, resourceQuotas: {pods: '1'}}}",
    )
    .ok();
    up.choreo(["promote", "cart", "--to", "production", "--wait"])
        .ok();
    in_staging(&up, 2);
    up.choreo(["promote", "cart", "--to", "production", "-m", "does not fit"])
        .ok();
    // It ends once it has failed for five seconds, and stays where it is: this way does not ask for more.
    let failed = until_it_says(&up, "production", &["Failed", "Unhealthy"]);
    assert!(in_production(&up, "registry.example.com/cart:2"));

    let asked = server.asked().len();
    goes_back(&up, &["-m", "stuck"]);
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
    assert_eq!(
        end_of(&up, &failed),
        ("Failed".to_owned(), "Unhealthy".to_owned())
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
    let up = before_production("approvals: {minimum: 1, users: [bob]}, historyLimit: 2");
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
        in_staging(&up, version);
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
