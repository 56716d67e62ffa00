//! What traffic does while a revision replaces another one: containers behind the real gateway, and somebody who counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use choreo_testkit::probe;

use super::*;
use crate::laptop::{Laptop, engine, get, get_with};

const HOST: &str = "staging-default.openchoreoapis.localhost";
const DEVELOPMENT: &str = "dev-default.openchoreoapis.localhost";
const PATH: &str = "/shop/cart";

/// A version says its name.
#[track_caller]
fn deployed(laptop: &Laptop, version: &str) {
    let image = probe::IMAGE;
    let args = format!("image: \"{image}\", args: [serve, --port, '8080', --name, {version}]");
    laptop.up().apply(&app("x").replace("image: \"x\"", &args)).ok();
    wait(&format!("{version} never answered in development"), || {
        (get(laptop.port(), DEVELOPMENT, PATH) == (200, version.to_owned())).then_some(())
    });
    wait(&format!("{version} was never healthy in development"), || {
        let binding = read(laptop.up(), "servicebinding/cart-development");
        let ready = binding["status"]["conditions"].as_array()?;
        let ready = ready
            .iter()
            .any(|c| c["type"] == "Ready" && c["status"] == "True");
        let release = read(laptop.up(), "release/cart-development").to_string();
        (ready && release.contains(&format!("\"{version}\""))).then_some(())
    });
}

fn answers(laptop: &Laptop, times: usize) -> BTreeMap<String, usize> {
    let mut all = BTreeMap::new();
    for _ in 0..times {
        let (status, body) = get(laptop.port(), HOST, PATH);
        *all.entry(format!("{status} {body}")).or_default() += 1;
    }
    all
}

fn only(version: &str, times: usize) -> BTreeMap<String, usize> {
    BTreeMap::from([(format!("200 {version}"), times)])
}

/// What somebody saw who called all the time: answers in their order, the same ones in a row once.
type Seen = Vec<String>;

/// The answers in it, each once.
fn kinds(seen: &Seen) -> BTreeSet<&str> {
    seen.iter().map(String::as_str).collect()
}

/// Somebody who calls all the time.
struct Caller {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Seen>,
}

impl Caller {
    fn start(laptop: &Laptop) -> Self {
        let (stop, port) = (Arc::new(AtomicBool::new(false)), laptop.port());
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                let mut seen = Seen::new();
                while !stop.load(Ordering::Relaxed) {
                    let (status, body) = get(port, HOST, PATH);
                    let answer = format!("{status} {body}");
                    if seen.last() != Some(&answer) {
                        seen.push(answer);
                    }
                }
                seen
            }
        });
        Self { stop, thread }
    }

    fn end(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

#[track_caller]
fn all_traffic_goes_to(laptop: &Laptop, version: &str) {
    wait(&format!("not all traffic went to {version}"), || {
        (answers(laptop, 20) == only(version, 20)).then_some(())
    });
}

/// A platform whose staging runs `one`, and whose development has `two`, which is to go there by this strategy; none where there is no
/// engine.
#[track_caller]
fn two_versions(strategy: &str) -> Option<Laptop> {
    let laptop = Laptop::start(engine()?);
    let demands = format!("strategy: {{{strategy}}}");
    laptop
        .up()
        .apply(&shop(&path("development", "staging", &demands)))
        .ok();
    deployed(&laptop, "one");
    laptop.choreo(&["promote", "cart", "--to", "staging", "--wait"]);
    all_traffic_goes_to(&laptop, "one");
    deployed(&laptop, "two");
    Some(laptop)
}

#[test]
fn all_at_once_leaves_nobody_running_between_the_old_one_and_the_new_one() {
    let Some(laptop) = two_versions("type: AllAtOnce") else {
        return;
    };
    let caller = Caller::start(&laptop);
    laptop.choreo(&["promote", "cart", "--to", "staging", "--wait"]);
    all_traffic_goes_to(&laptop, "two");
    // However the gateway puts it: between the two nobody answers, and the old one is not seen again.
    let mut seen = caller.end();
    let nobody = |answer: &mut String| {
        if !answer.starts_with("200 ") {
            *answer = "nobody".to_owned();
        }
    };
    seen.iter_mut().for_each(nobody);
    seen.dedup();
    assert_eq!(seen, ["200 one", "nobody", "200 two"]);
}

#[test]
fn a_blue_green_rollout_can_be_looked_at_before_all_traffic_switches() {
    let Some(laptop) = two_versions("type: BlueGreen, scaleDownDelay: 2s") else {
        return;
    };
    let up = laptop.up();
    laptop.choreo(&["promote", "cart", "--to", "staging"]);
    let waiting = until_it_says(up, "staging", &["somebody has to say to go on"]);
    let url = format!("http://{HOST}:{}{PATH}-canary", laptop.port());
    assert_eq!(waiting["status"]["rollout"]["preview"], json!([url]));
    let name = waiting["metadata"]["name"].as_str().unwrap();
    assert!(
        laptop
            .choreo(&["history", name])
            .contains(&format!("preview    {url}"))
    );
    let preview = || get(laptop.port(), HOST, &format!("{PATH}-canary"));
    // The endpoint of a pod that is ready is a moment behind it.
    wait("the preview never answered", || {
        (preview() == (200, "two".to_owned())).then_some(())
    });
    assert_eq!(answers(&laptop, 30), only("one", 30));

    // The switch, while somebody calls.
    let caller = Caller::start(&laptop);
    laptop.choreo(&["approve", "cart", "-m", "looks good"]);
    until_it_says(up, "staging", &["step 2 of 2 (100%)", "of the pause are left"]);
    all_traffic_goes_to(&laptop, "two");
    // The old one is still there, in case.
    assert!(read(up, "release/cart-staging").to_string().contains("\"one\""));
    ended(up, "staging", "Succeeded");
    wait("the old one stayed", || {
        let release = read(up, "release/cart-staging").to_string();
        (!release.contains("\"one\"") && !release.contains("cart-canary")).then_some(())
    });
    wait("the preview stayed", || (preview().0 == 404).then_some(()));
    all_traffic_goes_to(&laptop, "two");
    let seen = caller.end();
    assert_eq!(kinds(&seen), BTreeSet::from(["200 one", "200 two"]), "{seen:?}");

    // Looked at, and not liked.
    deployed(&laptop, "three");
    laptop.choreo(&["promote", "cart", "--to", "staging"]);
    until_it_says(up, "staging", &["somebody has to say to go on"]);
    let caller = Caller::start(&laptop);
    laptop.choreo(&["reject", "cart"]);
    until_it_says(up, "staging", &["RolledBack", "Aborted"]);
    wait("the preview stayed", || (preview().0 == 404).then_some(()));
    assert_eq!(caller.end(), ["200 two"]);
}

#[test]
fn a_canary_has_its_share_testers_see_it_and_an_abort_returns_all_traffic() {
    let canary = "type: Canary, steps: [{weight: 25}, {weight: 75}], testers: {name: x-tester, value: 'yes'}";
    let Some(laptop) = two_versions(canary) else {
        return;
    };
    let up = laptop.up();
    laptop.choreo(&["promote", "cart", "--to", "staging"]);
    until_it_says(up, "staging", &["step 1 of 2 (25%): somebody has to say"]);
    let share = |wanted: std::ops::RangeInclusive<usize>| {
        wait(&format!("the share was never {wanted:?} of 200"), || {
            let seen = answers(&laptop, 200);
            assert!(seen.keys().all(|answer| answer.starts_with("200 ")), "{seen:?}");
            let new = seen.get("200 two").copied().unwrap_or_default();
            wanted.contains(&new).then_some(new)
        })
    };
    // Four standard deviations on each side.
    share(26..=74);
    for _ in 0..20 {
        let answer = get_with(laptop.port(), HOST, PATH, "x-tester: yes");
        assert_eq!(answer, (200, "two".to_owned()));
    }
    laptop.choreo(&["approve", "cart"]);
    until_it_says(up, "staging", &["step 2 of 2 (75%): somebody has to say"]);
    share(126..=174);

    let caller = Caller::start(&laptop);
    let began = Instant::now();
    laptop.choreo(&["reject", "cart", "-m", "too slow"]);
    all_traffic_goes_to(&laptop, "one");
    eprintln!(
        "all traffic was back {} ms after the command began",
        began.elapsed().as_millis()
    );
    let seen = caller.end();
    assert!(seen.iter().all(|answer| answer.starts_with("200 ")), "{seen:?}");
    until_it_says(up, "staging", &["RolledBack", "Aborted"]);
    assert_eq!(
        get_with(laptop.port(), HOST, PATH, "x-tester: yes"),
        (200, "one".to_owned())
    );
}
